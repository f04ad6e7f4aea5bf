"""Weights in Hugging Face folders, read and written one tensor at a time.

In comes a folder of `.safetensors` files, whole or sharded; out come parameters under the names they have in memory, of
all experts or of some. The writer is told every tensor before the first one, so that files begin with their headers and
no more than the tensor at hand is in memory. Does not know what the weights are for, nor where else they come from.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from marco_data.errors import RecipeError
from marco_data.train.config import ModelConfig
from marco_data.train.hub import (
    GATE_UP,
    Shape,
    config_json,
    on_disk,
    parameter_shapes,
    read_config,
    read_json,
    special_tokens,
)

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
_CODES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}

FILE_BYTES = 5_000_000_000
"""A file is closed before it grows past this, as transformers' own writer does."""

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "generation_config.json"),
)


class Weights(Protocol):
    """A model's parameters, wherever they are: names and shapes are those of `parameter_shapes(config)`."""

    config: ModelConfig

    def tensor(self, name: str, experts: range | None = None) -> Tensor:
        """A parameter, or of a layer's experts those in `experts` only."""


class HubFolder:
    """A Qwen3 or Qwen3-MoE model as Hugging Face keeps it; complete, or it is not opened."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = read_config(self.folder / "config.json")
        self.shapes = parameter_shapes(self.config)
        self.special_tokens = special_tokens(self.folder)
        self._where: dict[str, Any] = {}
        found: dict[str, Shape] = {}
        for path in self._files():
            try:
                # Stays open: the file is mapped, and only what is asked for is read.
                opened = safe_open(path, framework="pt")
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    found[name] = tuple(opened.get_slice(name).get_shape())
                    self._where[name] = opened
            except (SafetensorError, OSError) as error:
                raise RecipeError(f"`{path}` cannot be read: {error}", hint="copy the file again") from error
        self._check(found)

    @property
    def dtype(self) -> torch.dtype:
        """What the embedding is stored in, and so, as a rule, everything."""
        return self.tensor("model.norm.weight").dtype

    def tensor(self, name: str, experts: range | None = None) -> Tensor:
        """A parameter; experts are put together from what each has on disk."""
        shape = self.shapes[name]
        if experts is not None:
            pieces = list(on_disk(name, shape))
            each = len(pieces) // shape[0]
            pieces = pieces[experts.start * each : experts.stop * each]
            shape = (len(experts), *shape[1:])
        else:
            pieces = list(on_disk(name, shape))
        if len(pieces) == 1 and pieces[0][0] == name:
            return self._read(name)
        first = self._read(pieces[0][0])
        fused = torch.empty(shape, dtype=first.dtype)
        rows = fused.view(-1, first.shape[0], first.shape[1])  # gate and up follow each other, as on disk
        for row, (piece, _) in zip(rows, pieces, strict=True):
            row.copy_(self._read(piece))
        return fused

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file of weights."""
        said = {}
        for path in self._files():
            with path.open("rb") as file:
                said[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return said

    def _read(self, name: str) -> Tensor:
        tensor: Tensor = self._where[name].get_tensor(name)
        if tensor.dtype not in _CODES:
            hint = f"weights are read in {', '.join(DTYPES)}; a quantized model cannot be trained on"
            raise RecipeError(f"`{name}` in `{self.folder}` is stored as {tensor.dtype}", hint=hint)
        return tensor

    def _files(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if not index.is_file():
            return [self.folder / "model.safetensors"]
        files = read_json(index).get("weight_map")
        if not isinstance(files, dict) or not files:
            raise RecipeError(f"`{index}` lists no files", hint="its `weight_map` says where each tensor is")
        return [self.folder / name for name in sorted(set(files.values()))]

    def _check(self, found: Mapping[str, Shape]) -> None:
        wanted = {piece: shape for name, shape in self.shapes.items() for piece, shape in on_disk(name, shape)}
        extra = sorted(set(found) - set(wanted))
        if self.config.tie_word_embeddings and "lm_head.weight" in extra:
            # Some tied models are published with their output layer written out once more.
            if not torch.equal(self._read("lm_head.weight"), self._read("model.embed_tokens.weight")):
                hint = "set `tie_word_embeddings` to false in config.json if the output layer is one of its own"
                raise RecipeError(f"`{self.folder}` is tied, yet its `lm_head.weight` is not its embedding", hint=hint)
            extra.remove("lm_head.weight")
        check_shapes({name: found[name] for name in found if name in wanted or name in extra}, wanted, str(self.folder))


def dtype_named(name: str) -> torch.dtype:
    """A precision by its name."""
    if name not in DTYPES:
        raise RecipeError(f"there is no precision `{name}`", hint=f"there are {', '.join(DTYPES)}")
    return DTYPES[name]


def check_shapes(found: Mapping[str, Shape], wanted: Mapping[str, Shape], where: str) -> None:
    """Refuse weights that are not exactly a model's, naming the first that is missing, unlike or unknown."""
    if missing := [name for name in wanted if name not in found]:
        hint = "a file was not copied, or `config.json` is another model's"
        raise RecipeError(f"`{where}` has no `{missing[0]}`: {len(missing)} of {len(wanted)} tensors", hint=hint)
    for name, shape in wanted.items():
        if tuple(found[name]) != shape:
            told = f"`{name}` in `{where}` is {list(found[name])}, by the configuration {list(shape)}"
            raise RecipeError(told, hint="`config.json` is another model's")
    if extra := sorted(name for name in found if name not in wanted and name != "lm_head.weight"):
        hint = "this trainer knows Qwen3 and Qwen3-MoE as transformers has them, and leaves nothing out in silence"
        raise RecipeError(f"`{where}` has a tensor that no such model has: `{extra[0]}`", hint=hint)


@dataclass(frozen=True)
class _File:
    name: str
    tensors: list[tuple[str, Shape]]

    def header(self, dtype: torch.dtype) -> bytes:
        """Eight bytes of length, then JSON, filled up with blanks so that the data begins at a multiple of eight."""
        said: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        start = 0
        for name, shape in self.tensors:
            end = start + _bytes(shape, dtype)
            said[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
            start = end
        text = json.dumps(said, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


class HubWriter:
    """Writes a model into a folder that appears, whole, when all of it is written.

    A context: parameters are given to `write` in the order of `parameter_shapes(config)`, and what an error leaves
    behind is a folder beside it, which the next try takes away. The bytes depend on the model alone.
    """

    def __init__(
        self,
        folder: str | Path,
        config: ModelConfig,
        dtype: torch.dtype,
        *,
        tokens: Mapping[str, Any],
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.config, self.dtype = config, dtype
        check_free(self.folder)
        self.partial = partial_folder(self.folder)
        self._todo = iter(parameter_shapes(config).items())
        self._pieces = [piece for name, shape in parameter_shapes(config).items() for piece in on_disk(name, shape)]
        self._files = _shared_out(self._pieces, dtype, file_bytes)
        self._tokens = tokens
        self._order = self._writes()
        self._open: IO[bytes] | None = None

    def __enter__(self) -> "HubWriter":
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """The next parameter, as it is in memory."""
        expected, shape = next(self._todo)
        assert (expected, shape) == (name, tuple(tensor.shape)), (expected, shape, name, tensor.shape)
        rows = tensor.reshape(-1, *(_piece_shape(name, shape))) if _is_fused(name) else tensor.unsqueeze(0)
        for row in rows:
            data = row.detach().to(self.dtype).contiguous().view(torch.uint8).numpy()
            next(self._order).write(memoryview(data).cast("B"))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._open is not None:
            self._open.close()
        if kind is not None:
            return
        assert next(self._todo, None) is None, "not all parameters were written"
        if len(self._files) > 1:
            index = {
                "metadata": {"total_size": sum(_bytes(shape, self.dtype) for _, shape in self._pieces)},
                "weight_map": {name: file.name for file in self._files for name, _ in file.tensors},
            }
            write_json(self.partial / "model.safetensors.index.json", index)
        dtype = next(name for name, known in DTYPES.items() if known == self.dtype)
        write_json(self.partial / "config.json", config_json(self.config, dtype, self._tokens))
        appear(self.partial, self.folder)

    def _writes(self) -> Iterator[IO[bytes]]:
        for file in self._files:
            with (self.partial / file.name).open("wb") as stream:
                self._open = stream
                stream.write(file.header(self.dtype))
                for _ in file.tensors:
                    yield stream


def copy_tokenizer(source: Path, target: Path, vocab_size: int) -> list[str]:
    """Copy a tokenizer's files; returns their names. Refuses one with ids that the model has no embedding for."""
    names = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if "tokenizer.json" in names:
        said = read_json(source / "tokenizer.json")
        ids = list((said.get("model") or {}).get("vocab", {}).values()) if isinstance(said.get("model"), dict) else []
        ids += [token["id"] for token in said.get("added_tokens") or []]
        highest = max((value for value in ids if isinstance(value, int)), default=-1)
        if highest >= vocab_size:
            hint = "give the tokenizer that the model was trained with"
            raise RecipeError(f"`{source}` has a token {highest:,}, the model's last is {vocab_size - 1:,}", hint=hint)
    for name in names:
        shutil.copyfile(source / name, target / name)
    return names


def check_free(folder: Path) -> None:
    """Refuse to write over what is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"`{folder}` is there already, and not empty", hint="choose a new folder or remove that one")


def partial_folder(folder: Path) -> Path:
    """Where a folder is while it is written."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.partial")


def appear(partial: Path, folder: Path) -> None:
    """Let a finished folder take its name, in one move."""
    if folder.exists():
        folder.rmdir()  # it was empty; if somebody has written there meanwhile, this fails
    partial.rename(folder.resolve())


def write_json(path: Path, said: Mapping[str, Any]) -> None:
    """An object, readable."""
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _is_fused(name: str) -> bool:
    return ".mlp.experts." in name


def _piece_shape(name: str, shape: Shape) -> Shape:
    return (shape[1] // 2, shape[2]) if name.endswith(GATE_UP) else shape[1:]


def _bytes(shape: Shape, dtype: torch.dtype) -> int:
    size = dtype.itemsize
    for length in shape:
        size *= length
    return int(size)


def _shared_out(pieces: Sequence[tuple[str, Shape]], dtype: torch.dtype, most: int) -> list[_File]:
    groups: list[list[tuple[str, Shape]]] = [[]]
    filled = 0
    for piece in pieces:
        size = _bytes(piece[1], dtype)
        if groups[-1] and filled + size > most:
            groups.append([])
            filled = 0
        groups[-1].append(piece)
        filled += size
    if len(groups) == 1:
        return [_File("model.safetensors", groups[0])]
    count = len(groups)
    return [_File(f"model-{at:05d}-of-{count:05d}.safetensors", group) for at, group in enumerate(groups, 1)]
