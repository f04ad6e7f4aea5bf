"""Readers: any corpus the recipe names becomes record batches of one schema, `READ_SCHEMA`.

    files = list_files("web", source)          # what is there: names, sizes, digests
    check_fields(files[0], source)             # a wrong column name is told before anything runs
    for piece in split(files, 256 << 20):      # fixed pieces, whoever reads them
        for batch in read_slice(piece, "web", source): ...

A row that cannot be read is a row with `failed` set, never an exception: `read` equals an outside count
(lines, Parquet rows, WARC `response` + `resource` or WET `conversion` records, text files), plus one row for
each break of a damaged file. What may go away by itself (storage, a file replaced meanwhile) raises
RetryableError.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from marco_data.sources import jsonl, parquet, text, warc
from marco_data.sources.files import list_files, split
from marco_data.sources.rows import batches
from marco_data.sources.source import (
    READ_FAILURES,
    READ_REASONS,
    READ_SCHEMA,
    Fields,
    Format,
    Slice,
    Source,
    SourceFile,
)

__all__ = [
    "READ_FAILURES",
    "READ_REASONS",
    "READ_SCHEMA",
    "Fields",
    "Format",
    "Slice",
    "Source",
    "SourceFile",
    "check_fields",
    "list_files",
    "packages_of",
    "read_slice",
    "split",
]

MAX_DOCUMENT_BYTES = 16 << 20

_READERS = {
    "jsonl": jsonl.rows,
    "parquet": parquet.rows,
    "warc": warc.rows,
    "wet": warc.rows,
    "text": text.rows,
}
_CHECKS = {"jsonl": jsonl.check_fields, "parquet": parquet.check_fields}


def read_slice(
    piece: Slice,
    source_name: str,
    source: Source,
    *,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    batch_bytes: int = 4 << 20,
    batch_rows: int = 1000,
    storage_options: Mapping[str, Any] | None = None,
    picks: Sequence[int] | None = None,
    isolated: bool = False,
) -> Iterator[pa.RecordBatch]:
    """The slice's rows in file order, as batches of READ_SCHEMA; memory is bounded by the limits, not by the
    file.

    A record of more than `max_document_bytes` raw bytes is a failed row. Batch limits never change a row. `picks`, in
    ascending order, are the only rows of the slice that are wanted: the first is row 0. `isolated`: pages are parsed in
    child processes, because something in the slice has killed its worker before.
    """
    read = partial(warc.rows, isolated=isolated) if piece.format == "warc" else _READERS[piece.format]
    rows = read(piece, source_name, source, max_document_bytes, storage_options or {}, picks)
    return batches(rows, source_name, batch_bytes=batch_bytes, batch_rows=batch_rows)


def check_fields(file: SourceFile, source: Source, *, storage_options: Mapping[str, Any] | None = None) -> None:
    """Raise RecipeError where none of the file's first rows has a mapped field. Reads only the file's
    head."""
    check = _CHECKS.get(file.format)
    if check is not None:
        check(file, source, storage_options or {})


def packages_of(format: Format) -> tuple[str, ...]:
    """The third-party packages whose version shapes the rows of this format: part of a slice's identity."""
    return warc.PACKAGES if format == "warc" else ()
