"""A checkpoint made a Hugging Face folder that transformers and vLLM load, and the way back.

In comes a checkpoint folder of the trainer or a state dict; out comes a `qwen3` or `qwen3_moe` folder. A tensor is in
memory at a time, in both directions. Does not know the optimizer: what comes back is weights to start from.

A checkpoint folder is `config.json`, with the fields of `ModelConfig` (on their own or under "model"), and torch's
distributed checkpoint beside it or in one folder below: `.metadata` and the files that it names. Parameters have their
own names behind any prefix.
"""

import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex

from marco_data.errors import RecipeError
from marco_data.train.checkpoint import damage, seal
from marco_data.train.config import ModelConfig
from marco_data.train.hub import config_of_fields, parameter_shapes, read_json, special_tokens
from marco_data.train.weights import (
    HubFolder,
    HubWriter,
    Weights,
    appear,
    check_free,
    check_shapes,
    copy_tokenizer,
    partial_folder,
    write_json,
)

BIAS = ".mlp.gate.expert_bias"
_FIRST = "model.embed_tokens.weight"


class StateDict:
    """Weights of a model in memory, by our names."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
        self.config = config
        self._tensors = tensors
        check_shapes(
            {n: tuple(t.shape) for n, t in tensors.items() if not n.endswith(BIAS)},
            parameter_shapes(config),
            "the state dict",
        )
        for name in tensors:
            if name.endswith(BIAS):
                _refuse_bias(name, tensors[name])

    def tensor(self, name: str, experts: range | None = None) -> Tensor:
        """A parameter, or the part of it that some experts are."""
        whole = self._tensors[name]
        return whole if experts is None else whole[experts.start : experts.stop]


class CheckpointFolder:
    """Weights in a checkpoint of the trainer's, read one by one and on one process, however many have written it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file() and (below := sorted(self.folder.glob("*/config.json"))):
            hint = f"give the folder of one iteration, such as `{below[-1].parent}`"
            raise RecipeError(f"`{self.folder}` is no checkpoint, but holds {len(below)}", hint=hint)
        said = read_json(self.folder / "config.json")
        self.config = config_in(said, self.folder / "config.json")
        self._shards = self._distributed()
        if (self.folder / "complete.json").is_file() and (said_of_it := damage(self.folder)):
            hint = "take another checkpoint of the run"
            raise RecipeError(f"the checkpoint `{self.folder}` is damaged: {said_of_it}", hint=hint)
        try:
            metadata = dcp.FileSystemReader(self._shards).read_metadata()
        except Exception as error:  # it is a pickle: what a damaged one raises has no common class
            hint = "it is damaged: take another checkpoint of the run"
            raise RecipeError(f"`{self._shards / '.metadata'}` cannot be read: {error}", hint=hint) from error
        entries = {
            name: (tuple(entry.size), entry.properties.dtype)
            for name, entry in metadata.state_dict_metadata.items()
            if not isinstance(entry, BytesStorageMetadata)
        }
        self._prefix = self._found_prefix(list(entries))
        self._entries = {
            name.removeprefix(self._prefix): entry for name, entry in entries.items() if self._is_weight(name)
        }
        shapes = {name: shape for name, (shape, _) in self._entries.items() if not name.endswith(BIAS)}
        check_shapes(shapes, parameter_shapes(self.config), str(self.folder))
        for name in self._entries:
            if name.endswith(BIAS):
                _refuse_bias(name, self.tensor(name))

    def tensor(self, name: str, experts: range | None = None) -> Tensor:
        """A parameter, put together from the parts that ranks have saved."""
        shape, dtype = self._entries[name]
        wanted = {self._prefix + name: torch.empty(shape, dtype=dtype)}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)  # as asked for
                dcp.load(wanted, storage_reader=dcp.FileSystemReader(self._shards), no_dist=True)
        except CheckpointException as error:  # no Exception; around it, by rank, what each met
            told = "; ".join(str(failure[0]).partition("\n")[0] for failure in error.failures.values())
            hint = "a file is missing or damaged: take another checkpoint of the run"
            raise RecipeError(f"`{name}` in `{self._shards}` cannot be read: {told}", hint=hint) from error
        whole = wanted[self._prefix + name]
        return whole if experts is None else whole[experts.start : experts.stop]

    def _distributed(self) -> Path:
        places = [path.parent for path in (*self.folder.glob(".metadata"), *self.folder.glob("*/.metadata"))]
        if len(places) == 1:
            return places[0]
        found = "more than one" if places else "none"
        hint = "give the folder of one iteration; one without `.metadata` was never finished"
        raise RecipeError(f"`{self.folder}` has to hold one distributed checkpoint, and holds {found}", hint=hint)

    def _found_prefix(self, names: list[str]) -> str:
        prefixes = [name.removesuffix(_FIRST) for name in names if name.endswith(_FIRST)]
        if not prefixes:
            raise RecipeError(
                f"`{self.folder}` has no `{_FIRST}`", hint="it is no checkpoint of a model of this trainer"
            )
        # Moments of the optimizer may end in the parameter's name too; they stand deeper.
        return min(prefixes, key=len)

    def _is_weight(self, name: str) -> bool:
        return name.startswith((f"{self._prefix}model.", f"{self._prefix}lm_head."))


def config_in(said: Mapping[str, Any], path: Path) -> ModelConfig:
    """The model that a checkpoint's `config.json` describes."""
    model = said.get("model", said)
    return config_of_fields(model if isinstance(model, dict) else {}, path)


def export(
    source: Weights,
    out: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    tokenizer: Path | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Write a Hugging Face folder; returns the names of the tokenizer's files, copied from the folder `tokenizer`."""
    tokens = special_tokens(tokenizer) if tokenizer is not None else {}
    with HubWriter(out, source.config, dtype, tokens=tokens) as writer:
        for name in parameter_shapes(source.config):
            writer.write(name, source.tensor(name))
            if name.endswith(".input_layernorm.weight"):
                told(f"layer {int(name.split('.')[2]) + 1} of {source.config.num_hidden_layers}")
        return copy_tokenizer(tokenizer, writer.partial, source.config.vocab_size) if tokenizer is not None else []


def import_from_hub(source: HubFolder, out: Path, *, dtype: torch.dtype = torch.float32) -> list[str]:
    """Write a checkpoint folder of weights alone, and the tokenizer's files beside it; returns the latter's names."""
    check_free(out)
    partial = partial_folder(out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shapes = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in source.shapes.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)  # as asked for
        dcp.save(
            {"model": shapes},
            storage_writer=dcp.FileSystemWriter(partial, thread_count=1),
            planner=_OneByOne(source, dtype),
            no_dist=True,
        )
    write_json(partial / "config.json", {"model": asdict(source.config), **source.special_tokens})
    names = copy_tokenizer(source.folder, partial, source.config.vocab_size)
    seal(partial)
    appear(partial, out)
    return names


class _OneByOne(DefaultSavePlanner):
    """Is given tensors without data, and reads each when it is about to be written."""

    def __init__(self, source: HubFolder, dtype: torch.dtype) -> None:
        super().__init__()
        self.source, self.dtype = source, dtype

    def lookup_object(self, index: MetadataIndex) -> Any:
        return self.source.tensor(index.fqn.removeprefix("model.")).to(self.dtype)


def _refuse_bias(name: str, bias: Tensor) -> None:
    if bool(bias.any()):
        hint = "go on training with the bias switched off and brought to 0, then export"
        raise RecipeError(
            f"`{name}` is not 0: Hugging Face's qwen3_moe has no such bias, and would choose others", hint=hint
        )
