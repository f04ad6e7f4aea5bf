"""Parquet: one row a document, read by runs of row groups, only the mapped columns.

In: a slice whose `start` and `end` are row groups. Out: one `Row` a Parquet row. A row group that cannot be
decoded gives the rows before its break, one failed row, and the reading goes on with the next group, so that
the outcome is the same however groups are gathered into slices.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marco_data.errors import RetryableError
from marco_data.sources import stream
from marco_data.sources.jsonl import missing_field
from marco_data.sources.rows import Row, break_id, failure, picked, record
from marco_data.sources.source import Slice, Source, SourceFile
from marco_data.sources.stream import Broken, RawFile

MAGIC = b"PAR1"
DECODED_BYTES = 4 << 20
DECODED_ROWS = 16
"""A dictionary holds a text once however many rows have it, and what is decoded has it in each: so few rows at a time
that this is no bomb. Reading takes 2.5 microseconds a row, as with a hundred times as many."""


def rows(
    piece: Slice,
    source_name: str,
    source: Source,
    limit: int,
    storage_options: Mapping[str, Any],
    picks: Sequence[int] | None = None,
) -> Iterator[Row]:
    """Yield a row for each Parquet row of the slice's row groups; `limit` bounds a text, in bytes."""
    yield from picked(_rows(piece, source_name, source, limit, storage_options), picks)


def _rows(
    piece: Slice, source_name: str, source: Source, limit: int, storage_options: Mapping[str, Any]
) -> Iterator[Row]:
    (file,) = piece.files
    with RawFile(file, storage_options) as raw:
        try:
            parquet = _open(raw)
        except Broken as broken:
            yield failure(file, break_id(file, 0), 0, broken.reason, _head(raw))
            return
        _check_cut(file, parquet, piece)
        mapped = source.fields.mapped()
        here = [name for name in dict.fromkeys(mapped.values()) if name in parquet.schema_arrow.names]
        position = sum(parquet.metadata.row_group(g).num_rows for g in range(piece.start))
        for group in range(piece.start, piece.end):
            following = position + parquet.metadata.row_group(group).num_rows
            allowed = _may_expand_to(parquet, group)
            try:
                for values in _records(parquet, group, here):
                    allowed -= sum(len(value) for value in values.values() if isinstance(value, bytes))
                    if allowed < 0:
                        yield failure(file, break_id(file, position), position, "read/expands_too_much")
                        break
                    yield _row(file, source_name, source, position, values, mapped, limit)
                    position += 1
            except (pa.ArrowException, OSError, ValueError) as error:
                _raise_trouble(raw, error)
                yield failure(file, break_id(file, position), position, "read/corrupt")
            position = following
        raw.check_unchanged()


def _check_cut(file: SourceFile, parquet: pq.ParquetFile, piece: Slice) -> None:
    """Raise RetryableError where the file was listed without row groups, its footer unreadable then, and has some."""
    if piece.start == piece.end and parquet.metadata.num_row_groups:
        raise RetryableError(
            f"`{file.uri}` has rows, and had none when it was listed",
            hint="run the command again: it lists the file anew",
        )


def count_rows(piece: Slice, storage_options: Mapping[str, Any]) -> int:
    """Rows of the slice's row groups, by the footer; a file without a readable one has a row that says so."""
    (file,) = piece.files
    with RawFile(file, storage_options) as raw:
        try:
            parquet = _open(raw)
        except Broken:
            return 1
        _check_cut(file, parquet, piece)
        metadata = parquet.metadata
        return sum(metadata.row_group(group).num_rows for group in range(piece.start, piece.end))


def row_groups(file: SourceFile, storage_options: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(uncompressed, stored) bytes of each row group, from the footer; empty where there is no readable
    footer."""
    with RawFile(file, storage_options) as raw:
        try:
            metadata = _open(raw).metadata
        except Broken:
            return []
        groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
        return [
            (g.total_byte_size, sum(g.column(c).total_compressed_size for c in range(g.num_columns))) for g in groups
        ]


def check_fields(file: SourceFile, source: Source, storage_options: Mapping[str, Any]) -> None:
    """Raise RecipeError where the file's schema lacks a mapped column, or text is not a column of strings."""
    with RawFile(file, storage_options) as raw:
        try:
            schema = _open(raw).schema_arrow
        except Broken:
            return
    for role, column in source.fields.mapped().items():
        if role in source.optional and column not in schema.names:
            continue
        if column not in schema.names or (role == "text" and not _is_text(schema.field(column).type)):
            raise missing_field(file, role, column, schema.names)


def _open(raw: RawFile) -> pq.ParquetFile:
    try:
        # Without pre_buffer pages are read as they are decoded: a row group of 1 GB is never held whole.
        return pq.ParquetFile(raw, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        _raise_trouble(raw, error)
        raw.seek(0, io.SEEK_END)
        truncated = raw.ended()
        begins = _head(raw)
        if begins == MAGIC[: len(begins)] and not _ends_with_magic(raw):
            raise truncated from error
        raise Broken("read/unreadable") from error


def _head(raw: RawFile) -> bytes:
    raw.seek(0)
    return raw.read(len(MAGIC))


def _ends_with_magic(raw: RawFile) -> bool:
    raw.seek(max(0, raw.file.size - len(MAGIC)), io.SEEK_SET)
    return raw.read(len(MAGIC)) == MAGIC


def _raise_trouble(raw: RawFile, error: Exception) -> None:
    """Storage trouble comes out of pyarrow as an error like that of a bad page: tell them apart here."""
    if raw.trouble is not None:
        raise raw.trouble from error


def _records(parquet: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a row group as plain values, strings as bytes (Parquet does not promise that they are
    UTF-8)."""
    if not columns:
        yield from ({} for _ in range(parquet.metadata.row_group(group).num_rows))
        return
    meta = parquet.metadata.row_group(group)
    # Decoded batches are as small as the average row allows; fixed by the file, so a break cuts at a fixed
    # row.
    size = max(1, min(DECODED_ROWS, DECODED_BYTES * meta.num_rows // max(1, meta.total_byte_size)))
    for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False):
        values = [_plain(column).to_pylist() for column in batch.columns]
        for row in zip(*values, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))


def _may_expand_to(parquet: pq.ParquetFile, group: int) -> int:
    """Bytes of values that a row group may hold, by what is stored of it."""
    meta = parquet.metadata.row_group(group)
    stored: int = sum(meta.column(number).total_compressed_size for number in range(meta.num_columns))
    return max(stream.EXPANDS_FREELY, stream.EXPANDS_AT_MOST * stored)


def _plain(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        return column.cast(pa.binary())
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        return column.cast(pa.large_binary())
    return column


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        check(kind)
        for check in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )


def _row(
    file: SourceFile,
    source_name: str,
    source: Source,
    position: int,
    record_values: dict[str, Any],
    mapped: dict[str, str],
    limit: int,
) -> Row:
    values = {role: record_values.get(name) for role, name in mapped.items()}
    text = values["text"]
    raw = _canonical(values)
    row = record(file, source_name, source, position=position, text=_judge(text, limit), values=values, raw=raw)
    if row.failed is not None and isinstance(text, bytes):
        row.head = text[: len(row.head or b"")]
    return row


def _judge(text: Any, limit: int) -> bytes | str:
    """The text, or why it cannot be used."""
    if not isinstance(text, bytes):
        return "read/missing_field"
    if len(text) > limit:
        return "read/document_too_large"
    try:
        text.decode()
    except UnicodeDecodeError:
        return "read/invalid_utf8"
    return text


def _canonical(values: dict[str, Any]) -> bytes:
    """The mapped fields of a row as bytes that do not depend on types or order of the file's columns."""
    parts = []
    for role in sorted(values):
        value = values[role]
        if value is None:
            continue
        data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=str).encode()
        parts.append(b"%s %d:%s" % (role.encode(), len(data), data))
    return b"\n".join(parts)
