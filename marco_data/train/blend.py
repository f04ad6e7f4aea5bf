"""A stage as a trainer finds it: `blend.json` and the shards it names, checked before anything is drawn from them.

In: the path of a `blend.json` (or of the stage's folder). Out: a `StageBlend`, whose entries are shards with the tokens
to draw of each. Raises RecipeError, with file and remedy, for a shard that is missing, cut short, empty, not the one
that the blend counted, or made with another tokenizer. Knows neither models nor the order that samples come in.

What is looked at: of every shard the sizes of both files, the header, and whether its first and last document end with
the end-of-document token. Shards of up to 64 MB are also read whole, larger ones with `verify=True`: each id has to be
in the tokenizer's vocabulary, and where the shard is named after its bytes (`<stem>.<hash>`) they have to be those.
"""

import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from marco_data.errors import RecipeError, ShardError
from marco_data.filesystems import opened
from marco_data.tokens import Shard
from marco_data.train.shard_files import ShardFiles, shard_files

READ_WHOLE = 64 << 20  # bytes of .bin; at about 1 GB/s of SHA-256 a twentieth of a second
CHECKED_AT_ONCE = 32
"""Shards elsewhere: each is looked at by seven requests, which wait for one another."""
_BLOCK = 1 << 22  # ids looked at at once
_NAMED = re.compile(r"\.([0-9a-f]{8})$")
_TOKENIZER = ("hash", "end_of_document", "id", "vocab_size")
_ENTRY = ("prefix", "part", "language", "source", "documents", "tokens", "epochs")


@dataclass(frozen=True)
class Entry:
    """One shard of a blend: `drawn` tokens are taken of its `tokens`, round after round from its start.

    `prefix` is as the blend has it, `files` where it lies; `content` is a digest of what it holds.
    """

    prefix: str
    files: ShardFiles
    part: str
    language: str
    source: str
    documents: int
    tokens: int
    weight: float
    drawn: int
    content: str

    @property
    def epochs(self) -> float:
        return self.drawn / self.tokens


@dataclass(frozen=True)
class StageBlend:
    """One stage: `tokenizer` has `hash`, `end_of_document`, `id` and `vocab_size`, as the data side wrote them."""

    path: Path | str
    family: str
    stage: int
    fingerprint: str
    tokenizer: Mapping[str, Any]
    entries: tuple[Entry, ...]
    waivers: tuple[str, ...]

    @property
    def drawn(self) -> int:
        """The tokens that the stage sees."""
        return sum(entry.drawn for entry in self.entries)


def load_blend(path: str | Path, *, verify: bool = False, indexes: Path | None = None) -> StageBlend:
    """Read and check one stage's blend; `verify` reads every shard whole.

    A stage may lie elsewhere, at a URL: the indexes of its shards are then copied to the folder `indexes`.
    """
    file: Path | str
    if remote := "://" in str(path):
        file = str(path) if str(path).endswith(".json") else f"{str(path).rstrip('/')}/blend.json"
    else:
        file = Path(path) / "blend.json" if Path(path).is_dir() else Path(path)
    raw = _read(file)
    tokenizer = _fields(file, "tokenizer", raw["tokenizer"], _TOKENIZER)
    rows = [_fields(file, f"entries[{number}]", row, _ENTRY) for number, row in enumerate(raw["entries"])]
    for row in rows:
        _check_numbers(file, row)
    weighted = sum(row["tokens"] * row["epochs"] for row in rows)

    def checked(row: Mapping[str, Any]) -> Entry:
        return _entry(file, row, tokenizer, weighted, verify=verify, indexes=indexes)

    if remote:
        with ThreadPoolExecutor(CHECKED_AT_ONCE) as threads:
            entries = tuple(threads.map(checked, rows))
    else:
        entries = tuple(map(checked, rows))
    if not entries:
        raise RecipeError(f"`{file}` names no shard: the stage holds nothing", hint="build it with more budget or data")
    prefixes = [entry.prefix for entry in entries]
    if twice := [prefix for prefix, times in Counter(prefixes).items() if times > 1]:
        raise RecipeError(f"`{file}` names the shard `{twice[0]}` twice", hint="give it more epochs in one entry")
    return StageBlend(
        path=file,
        family=str(raw.get("family", "")),
        stage=int(raw.get("stage", 1)),
        fingerprint=str(raw.get("fingerprint", "")),
        tokenizer={name: tokenizer[name] for name in _TOKENIZER},
        entries=entries,
        waivers=tuple(raw.get("waivers", ())),
    )


_BUILD = "build the stage again: marco-data build-stage N"


def _read(file: Path | str) -> Mapping[str, Any]:
    try:
        with opened(file) if isinstance(file, str) else file.open("rb") as stream:
            raw = json.loads(stream.read())
    except FileNotFoundError:
        raise RecipeError(f"there is no `{file}`", hint=f"{_BUILD}, or name the folder of a finished one") from None
    except RecipeError:  # storage's own: no credentials, no such bucket
        raise
    except (OSError, ValueError) as error:
        raise RecipeError(f"`{file}` cannot be read: {error}", hint=_BUILD) from error
    return _fields(file, "the file", raw, ("tokenizer", "entries"))


def _fields(file: Path | str, what: str, row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise RecipeError(f"`{file}`: {what} is {type(row).__name__}, not an object", hint=_BUILD)
    if missing := [name for name in names if name not in row]:
        raise RecipeError(f"`{file}`: {what} has no `{missing[0]}`", hint=_BUILD)
    return row


def _check_numbers(file: Path | str, row: Mapping[str, Any]) -> None:
    epochs = row["epochs"]
    for name in ("documents", "tokens"):
        if type(row[name]) is not int or row[name] < 0:
            raise RecipeError(f"`{file}`: `{row['prefix']}` has {name} {row[name]!r}", hint=_BUILD)
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not math.isfinite(epochs) or epochs < 0:
        raise RecipeError(f"`{file}`: `{row['prefix']}` has epochs {epochs!r}", hint="epochs are a number from 0 on")


def _entry(
    file: Path | str,
    row: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    weighted: float,
    *,
    verify: bool,
    indexes: Path | None,
) -> Entry:
    epochs, prefix = row["epochs"], str(row["prefix"])
    try:
        files = shard_files(_place(file, prefix), indexes)
        content = _checked(files, row, tokenizer, verify=verify)
    except ShardError as error:
        raise RecipeError(f"{error.message} (named by `{file}`)", hint=error.hint or _BUILD) from error
    return Entry(
        prefix=prefix,
        files=files,
        part=str(row["part"]),
        language=str(row["language"]),
        source=str(row["source"]),
        documents=row["documents"],
        tokens=row["tokens"],
        # Megatron's own weight as it was written, so that its order can be had to the last bit.
        weight=float(row.get("weight", row["tokens"] * epochs / weighted if weighted else 0.0)),
        drawn=round(Fraction(epochs) * row["tokens"]),
        content=content,
    )


def _place(file: Path | str, prefix: str) -> str:
    """Where the shard lies that a blend names, from the blend's folder on."""
    if "://" in prefix or Path(prefix).is_absolute():
        return prefix
    if isinstance(file, Path):
        return str(file.parent / prefix)
    protocol, _, rest = file.partition("://")  # to storage, `..` is a name like any other
    return f"{protocol}://{posixpath.normpath(posixpath.join(posixpath.dirname(rest), prefix))}"


def _checked(files: ShardFiles, row: Mapping[str, Any], tokenizer: Mapping[str, Any], *, verify: bool) -> str:
    """The digest of a shard's content, once it is known to be what the blend says."""
    size, path = files.token_bytes, files.prefix
    whole = verify or size <= READ_WHOLE
    shard = files.open(whole=whole)
    if shard.tokens == 0 or shard.documents == 0:
        raise ShardError(f"the shard `{path}` is empty", hint="leave it out of the blend; Megatron cannot open it")
    if (shard.documents, shard.tokens) != (row["documents"], row["tokens"]):
        raise ShardError(
            f"the shard `{path}` has changed: it holds {shard.documents:,} documents and {shard.tokens:,} tokens, "
            f"where the blend has {row['documents']:,} and {row['tokens']:,}",
            hint="bring back the shard that the blend was written for, or build the stage again",
        )
    end = tokenizer["id"]
    for number in (0, shard.documents - 1):
        document = shard.read_document(number)
        if document.size and document[-1] != end:
            raise ShardError(
                f"document {number} of the shard `{path}` ends with token {document[-1]}, where the blend's "
                f"tokenizer has {end} (`{tokenizer['end_of_document']}`) as the end of a document",
                hint="the shard was made with another tokenizer or end-of-document token: tokenize it again",
            )
    sampled = files.sampled_digest() if size > READ_WHOLE else None
    if not whole:
        return str(sampled)
    for start in range(0, shard.tokens, _BLOCK):
        check_ids(shard, start, min(_BLOCK, shard.tokens - start), tokenizer["vocab_size"])
    digest = files.digest()
    named = _NAMED.search(path)
    if named and not digest.startswith(named[1]):
        raise ShardError(
            f"the shard `{path}` has changed: its bytes hash to {digest[:8]}, its name says {named[1]}",
            hint="bring back the shard that the blend was written for, or build the stage again",
        )
    return sampled or digest  # the same whether it was verified or not


def check_ids(shard: Shard, start: int, count: int, vocab_size: int) -> None:
    """Refuse a token id that the tokenizer does not have, and say where it is. Raises ShardError."""
    ids = shard.read_tokens(start, count)
    if count == 0 or (ids.max() < vocab_size and ids.min() >= 0):
        return
    at = start + int(((ids >= vocab_size) | (ids < 0)).argmax())
    raise ShardError(
        f"the shard `{shard.prefix}` has token id {shard.read_tokens(at, 1)[0]} at {at:,}, in document "
        f"{shard.position(at):,}; the tokenizer has {vocab_size:,} ids",
        hint="the shard was made with another tokenizer: tokenize it again",
    )


def check_tokenizers(blends: Sequence[StageBlend], model: Mapping[str, Any] | None = None) -> None:
    """All stages have one tokenizer and end of document, and where the model's is known, that one.

    `model` may have any of `hash`, `end_of_document`, `id` and `vocab_size`; a model may have more rows than the
    tokenizer has ids. Raises RecipeError.
    """
    first = blends[0]
    for blend in blends[1:]:
        for name in _TOKENIZER:
            if blend.tokenizer[name] != first.tokenizer[name]:
                raise RecipeError(
                    f"{_said(name)} of `{blend.path}` is {blend.tokenizer[name]!r}, that of `{first.path}` "
                    f"{first.tokenizer[name]!r}",
                    hint="a run trains on stages of one tokenizer: build them with the same one",
                )
    for name, value in (model or {}).items():
        if name not in _TOKENIZER:
            raise RecipeError(f"`{name}` says nothing of a tokenizer", hint=f"known: {', '.join(_TOKENIZER)}")
        have = first.tokenizer[name]
        if have > value if name == "vocab_size" else have != value:
            raise RecipeError(
                f"{_said(name)} of `{first.path}` is {have!r}, the model's is {value!r}",
                hint="train on a stage that was built with the model's tokenizer and end-of-document token",
            )


def _said(name: str) -> str:
    return {
        "hash": "the tokenizer",
        "end_of_document": "the end-of-document token",
        "id": "the id of the end-of-document token",
        "vocab_size": "the size of the vocabulary",
    }[name]
