"""The items of benchmarks: files in (JSONL, TSV, CSV, Parquet; plain, `.gz`, `.zst`), one text a field of an item out.

A benchmark says where its files are and which of their fields hold text; `{language}` in a path stands for the
language of a file's items. This module does not know what is looked for, nor where.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow.parquet as pq
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from marco_data.errors import MarcoError, RecipeError, RetryableError
from marco_data.filesystems import FileSystem
from marco_data.languages import canonical
from marco_data.sources.stream import open_filesystem

Format = Literal["jsonl", "tsv", "csv", "parquet"]


def _texts(value: Any) -> Any:
    return tuple(str(v) for v in value) if isinstance(value, list | tuple) else value


class Benchmark(BaseModel):
    """Where a benchmark's items are: `fields` are those searched for, each a text of its own.

    A field in a field is `choices.text`; a list gives a text for each of its entries. A number stands for a column
    of a table without a header, from 1. Without `id` an item is called by its file and number, from 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    fields: Annotated[tuple[str, ...], BeforeValidator(_texts), Field(min_length=1)]
    read: Format | None = None
    id: str | None = None
    language: str | None = None


class Item(NamedTuple):
    """One text to be looked for, and what it is called in a hit; no text where its line could not be read."""

    benchmark: str
    item: str
    language: str
    field: str
    text: str | None


def read_items(benchmarks: dict[str, Benchmark]) -> Iterator[Item]:
    """Every text of every benchmark, in the order of names; RecipeError where a path or a field is not there."""
    for name, benchmark in sorted(benchmarks.items()):
        for path in benchmark.paths:
            for fs, file, language in _files(name, benchmark, path):
                yield from _items(name, benchmark, fs, file, language)


def _files(name: str, benchmark: Benchmark, path: str) -> list[tuple[FileSystem, str, str]]:
    """(file system, path, language) of the files that a path stands for, by name."""
    try:
        fs, inside = open_filesystem(path, {})
        found = sorted(fs.glob(inside.replace("{language}", "*")))
    except (MemoryError, RecipeError):
        raise
    except Exception as error:  # storage libraries raise their own kinds
        raise RetryableError(f"benchmark `{name}`: cannot list `{path}`: {error}") from error
    if not found:
        raise RecipeError(f"benchmark `{name}`: no file at `{path}`")
    before, variable, after = inside.partition("{language}")
    pattern = re.compile(f"{_regex(before)}([^/]+?){_regex(after)}$") if variable else None
    files = []
    for file in found:
        matched = pattern.match(file) if pattern else None
        label = matched.group(1) if matched else benchmark.language or ""
        files.append((fs, file, language_of(label)))
    return files


def _regex(glob: str) -> str:
    return "".join(
        {"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(p, re.escape(p)) for p in re.split(r"(\*\*|\*|\?)", glob)
    )


def language_of(label: str) -> str:
    """Our code of `bn`, `ben_Beng`, `zh_local` or `AR-XY`; a language that is not ours keeps its label."""
    for name in (label, re.split("[_-]", label)[0].lower()):
        try:
            return canonical(name).code
        except RecipeError:
            continue
    return label or "und"


def _items(name: str, benchmark: Benchmark, fs: FileSystem, file: str, language: str) -> Iterator[Item]:
    stem = file.rpartition("/")[2].split(".")[0]
    found = dict.fromkeys(benchmark.fields, 0)
    for number, row in enumerate(_rows(name, benchmark, fs, file), 1):
        if row is None:
            yield Item(name, f"{stem}:{number}", language, "", None)
            continue
        called = str(value_at(row, benchmark.id)) if benchmark.id else f"{stem}:{number}"
        for field in benchmark.fields:
            value = value_at(row, field)
            found[field] += value is not None
            many = isinstance(value, list)
            for i, text in enumerate(value if many else [value]):
                if text is not None:
                    yield Item(name, called, language, f"{field}.{i}" if many else field, str(text))
    absent = [field for field, n in found.items() if n == 0]
    if absent:
        raise RecipeError(
            f"benchmark `{name}`: no item of `{file}` has the field {', '.join(f'`{f}`' for f in absent)}"
        )


def value_at(row: Any, field: str) -> Any:
    """`choices.text` of a row; through a list, that of each of its entries."""
    for part in field.split("."):
        if isinstance(row, list):
            row = [r.get(part) if isinstance(r, dict) else None for r in row]
        else:
            row = row.get(part) if isinstance(row, dict) else None
    return row


def _rows(name: str, benchmark: Benchmark, fs: FileSystem, file: str) -> Iterator[dict[str, Any] | None]:
    plain = re.sub(r"\.(gz|zst)$", "", file)
    kind = benchmark.read or {"tsv": "tsv", "csv": "csv", "parquet": "parquet"}.get(plain.rpartition(".")[2], "jsonl")
    packing = "gzip" if file.endswith(".gz") else "zstd" if file.endswith(".zst") else None
    try:
        with fs.open(file, "rb", compression=packing) as stream:
            if kind == "parquet":
                yield from pq.read_table(stream).to_pylist()
                return
            lines = io.TextIOWrapper(stream, "utf-8-sig", newline="")
            if kind == "tsv":
                yield from _table(benchmark, csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
            elif kind == "csv":
                yield from _table(benchmark, csv.reader(lines))
            else:
                yield from (_parsed(line) for line in lines if line.strip())
    except MarcoError:  # storage that did not answer, and says so
        raise
    except (OSError, ValueError) as error:
        raise RecipeError(f"benchmark `{name}`: `{file}` cannot be read as {kind}: {error}") from None


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _table(benchmark: Benchmark, rows: Iterator[list[str]]) -> Iterator[dict[str, Any]]:
    numbered = all(field.isdigit() for field in benchmark.fields)
    header = None if numbered else next(rows, [])
    for row in rows:
        yield dict(zip(header or map(str, range(1, len(row) + 1)), row, strict=False))
