"""Completions in a file of their own, to be carried about: whoever has them rebuilds without a model.

In: JSONL, plain, .gz or .zst, or the ledger's Parquet. A line is an object with `key`, `prompt`, `text`,
`finish_reason`, `tokens_in` and `tokens_out`, `gpu_seconds` where it is known, and any other field for people. Out: the
completion of a key. Also the other way: a root's whole ledger as one such file. Asks nobody.

Texts wait in a nameless file on this machine's disk; memory holds 52 bytes a completion.
"""

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from marco_data.errors import DamagedFile, RecipeError, RetryableError
from marco_data.filesystems import opened
from marco_data.generation.generator import LENGTH, STOP, Completion
from marco_data.generation.ledger import FOLDER, GROUP_ROWS, completion_of
from marco_data.generation.ledger_log import Row, Spool, check, line_at
from marco_data.generation.ledger_place import Place, as_keys, damage_told
from marco_data.storage import Storage

FIELDS = ("key", "prompt", "text", "finish_reason", "tokens_in", "tokens_out", "gpu_seconds")
FORMAT = 'a line is {"key": ..., "prompt": ..., "text": ..., "finish_reason": "stop", "tokens_in": 1, "tokens_out": 1}'
READ_BYTES = 1 << 20
KEY = re.compile(r"[0-9a-f]{32}")


class Recorded:
    """What was answered before, by key. `digest` is that of the content, however it is spread over files."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._spool = Spool()
        keys, offsets, digests, places = [], [], [], []
        self._paths = [str(path) for path in paths]
        for number, path in enumerate(self._paths):
            for line, row in _rows(path):
                said = _content(row)
                keys.append(row["key"])
                digests.append(hashlib.sha256(row["key"] + said).digest()[:16])
                offsets.append(self._spool.add(said + b"\n"))
                places.append((number, line))
        found = as_keys(keys)
        order = np.argsort(found, kind="stable")
        self._keys = found[order]
        self._offsets = np.array(offsets, np.int64)[order]
        kept = [digests[i] for i in order]
        for i in np.flatnonzero(self._keys[1:] == self._keys[:-1]):
            if kept[i] != kept[i + 1]:
                here, there = (places[order[j]] for j in (i, i + 1))
                raise RecipeError(
                    f"{self._said(here)} and {self._said(there)} answer the same request `{keys[order[i]].hex()}` in "
                    "two ways",
                    hint="keep one of them",
                )
        self.digest = hashlib.sha256(b"".join(dict.fromkeys(kept))).hexdigest()[:16]

    def __len__(self) -> int:
        return len(np.unique(self._keys))

    def keys(self) -> list[bytes]:
        """All keys there are, in order."""
        data = np.unique(self._keys).tobytes()
        return [data[i : i + 16] for i in range(0, len(data), 16)]

    def get(self, key: bytes) -> Completion | None:
        wanted = as_keys([key])
        at = int(np.searchsorted(self._keys, wanted)[0])
        if at == len(self._keys) or self._keys[at] != wanted[0]:
            return None
        offset = int(self._offsets[at])
        text, finish_reason, tokens_in, tokens_out, gpu_seconds = json.loads(line_at(self._spool.descriptor, offset))
        return Completion(text, finish_reason, tokens_in, tokens_out, gpu_seconds)

    def _said(self, place: tuple[int, int]) -> str:
        return f"`{self._paths[place[0]]}:{place[1]}`"


def write_recorded(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows, each a line's object, sorted by key; equal rows give equal bytes. How many."""
    lines = {row["key"]: _line(row) for row in rows}
    with _written(Path(path)) as file:
        for key in sorted(lines):
            file.write(lines[key])
    return len(lines)


def export_ledger(storage: Storage, path: str | Path) -> int:
    """Write every completion of a root's ledger to one file, each key once: place by place, there by key. How many.

    Of a key in several places, that of the place whose name is least. Holds 28 bytes a completion in memory.
    """
    folders = [
        f"{FOLDER}/{model}/{place}" for model in storage.names(FOLDER) for place in storage.names(f"{FOLDER}/{model}")
    ]
    parts = [np.empty(0, "S16")]
    for folder in folders:
        with _looked(storage, folder) as place:
            parts.append(place.keys())
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    keys, first = np.unique(np.concatenate(parts), return_index=True)
    number = number[first]
    with _written(Path(path)) as file:
        for i, folder in enumerate(folders, 1):
            wanted = keys[number == i].tobytes()
            with _looked(storage, folder) as place:
                for start in range(0, len(wanted), 16 * GROUP_ROWS):
                    end = min(len(wanted), start + 16 * GROUP_ROWS)
                    some = [wanted[at : at + 16] for at in range(start, end, 16)]
                    rows = place.rows(some)
                    for key in some:
                        file.write(_line({**rows[key], "key": key.hex()}))
    return len(keys)


@contextmanager
def _looked(storage: Storage, folder: str) -> Iterator[Place]:
    place = Place.look(storage, folder)
    try:
        yield place
    finally:
        place.close()


def _line(row: Mapping[str, Any]) -> bytes:
    """A line: the fields of the format first, then those for people by name."""
    wrong = _wrong(row)
    if wrong is not None:
        raise RecipeError(f"a completion cannot be recorded: {wrong}", hint=FORMAT)
    comments = sorted(name for name in row if name not in FIELDS and row[name] is not None)
    ordered = {name: row[name] for name in (*FIELDS, *comments) if name in row}
    return json.dumps(ordered, ensure_ascii=False).encode() + b"\n"


def _wrong(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a line's object, if anything is."""
    if missing := [name for name in FIELDS[:-1] if name not in row]:
        return f"it has no {', '.join(f'`{name}`' for name in missing)}"
    if not isinstance(row["key"], str) or not KEY.fullmatch(row["key"]):
        return "`key` is not 32 hex digits"
    for name in ("prompt", "text"):
        if not isinstance(row[name], str):
            return f"`{name}` is not text"
    if row["finish_reason"] not in (STOP, LENGTH):
        return f"`finish_reason` is neither `{STOP}` nor `{LENGTH}`"
    for name in ("tokens_in", "tokens_out"):
        if type(row[name]) is not int or not 0 <= row[name] < 1 << 31:
            return f"`{name}` is not a number of tokens"
    seconds = row.get("gpu_seconds", 0.0)
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e9:
        return "`gpu_seconds` is not a number of seconds"
    return None


def _content(row: Row) -> bytes:
    """What an answer consists of; the prompt's name and comments are for people."""
    said = completion_of(row)
    values = [said.text, said.finish_reason, said.tokens_in, said.tokens_out, round(float(said.gpu_seconds), 6)]
    return json.dumps(values).encode()


def _rows(path: str) -> Iterator[tuple[int, Row]]:
    """(line or row, row) of a file, from 1 on."""
    try:
        with opened(path) as file:
            yield from _parquet_rows(path, file) if path.endswith(".parquet") else _json_rows(path, file)
    except FileNotFoundError:
        raise RecipeError(f"there is no file of recorded completions `{path}`") from None
    except OSError as error:
        raise RetryableError(f"`{path}` cannot be read: {error}") from error


def _json_rows(path: str, file: IO[bytes]) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(_lines(path, file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            wrong = _wrong(row) if isinstance(row, dict) else "it is not an object"
        except ValueError as error:
            wrong = f"it is not JSON: {error}"
        if wrong is not None:
            raise RecipeError(f"`{path}:{number}` is no recorded completion: {wrong}", hint=FORMAT)
        yield number, {"gpu_seconds": 0.0, **row, "key": bytes.fromhex(row["key"])}


def _lines(path: str, file: IO[bytes]) -> Iterator[bytes]:
    packing = "gzip" if path.endswith(".gz") else "zstd" if path.endswith(".zst") else None
    left = b""
    try:
        with pa.input_stream(file, compression=packing) as stream:
            while data := stream.read(READ_BYTES):
                *whole, left = (left + data).split(b"\n")
                yield from whole
    except OSError as error:
        if packing is None:
            raise
        raise RecipeError(f"`{path}` is not a whole {packing} file: {error}") from None
    if left:
        yield left


def _parquet_rows(path: str, file: IO[bytes]) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        with damage_told(path), pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            columns = [*FIELDS, "check"]
            if missing := [name for name in columns if name not in parquet.schema_arrow.names]:
                raise RecipeError(f"`{path}` is no file of the ledger: it has no column `{missing[0]}`")
            for batch in parquet.iter_batches(GROUP_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    if row["check"] != check(row):
                        raise DamagedFile(path, f"row {number} is not as it was written")
                    yield number, row
    except DamagedFile as error:
        raise RecipeError(error.message) from None


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears whole, packed as its name says, without a time in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as raw:
            if path.name.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            elif path.name.endswith(".zst"):
                with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as packed:
                    yield packed
            else:
                yield raw
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
