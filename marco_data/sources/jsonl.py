"""JSONL: one JSON object a line, plain (read by byte ranges), .gz or .zst (read whole).

In: a slice. Out: one `Row` a line, blank and broken lines too, so that their number is `wc -l` (plus one for
a last line without newline). `position` is the byte offset of the line in the decompressed file: unlike a
line number it can be known without reading what comes before. A line belongs to the range its first byte lies
in.
"""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from marco_data.errors import RecipeError
from marco_data.sources.rows import Row, failure, picked, record, utf8
from marco_data.sources.source import Slice, Source, SourceFile
from marco_data.sources.stream import Line, RawFile, chunks, lines

CHECKED_ROWS = 100
CHECKED_LINE_BYTES = 1 << 20


def rows(
    piece: Slice,
    source_name: str,
    source: Source,
    limit: int,
    storage_options: Mapping[str, Any],
    picks: Sequence[int] | None = None,
) -> Iterator[Row]:
    """Yield a row for each line of the slice; `limit` bounds a line, in bytes."""
    (file,) = piece.files
    mapped = source.fields.mapped()
    plain = _Plain(list(dict.fromkeys(mapped.values())))
    with RawFile(file, storage_options) as raw:
        for line in picked(slice_lines(raw, piece, limit), picks):
            yield _row(line, file, source_name, source, mapped, plain)
        raw.check_unchanged()


def slice_lines(raw: RawFile, piece: Slice, limit: int) -> Iterator[Line]:
    """The lines whose first byte lies in the slice."""
    if raw.file.compression is not None:
        yield from lines(chunks(raw), limit)
        return
    if piece.start == 0:
        first = 0
    else:
        # One byte early: a line that starts exactly at `start` is found by the newline before it.
        raw.seek(piece.start - 1)
        skipped = _to_newline(raw, piece.end - piece.start)
        if skipped is None:
            return
        first = piece.start - 1 + skipped
    raw.seek(first)
    for line in lines(chunks(raw), limit, first):
        if line.offset >= piece.end:
            return
        yield line


def _to_newline(raw: RawFile, most: int) -> int | None:
    """Bytes up to and with the next newline; None where it is not among the next `most` bytes."""
    seen = 0
    while seen < most:
        data = raw.read(min(1 << 16, most - seen))
        if not data:
            return None
        at = data.find(b"\n")
        if at >= 0:
            return seen + at + 1
        seen += len(data)
    return None


class _Plain:
    """The fields `columns` of lines on which a kernel finds them; a string is its UTF-8. What `_parse` says else."""

    def __init__(self, columns: list[str]) -> None:
        names = [utf8(column) for column in columns]
        self._columns = columns
        self._names = np.frombuffer(b"".join(names), np.uint8)
        self._name_at = np.cumsum([0, *map(len, names)], dtype=np.int64)
        self._found = np.zeros((len(columns), 3), np.int64)
        self._strings = np.zeros(1 << 16, np.uint8)

    def fields(self, data: bytes) -> dict[str, Any] | None:
        """The values of the columns there are; None where the line must be asked in another way."""
        from marco_data.kernels.json_lines import MISSING, STRING, find_fields  # numba takes 0.6 s: not for a plan

        if len(self._strings) < len(data) + 8:
            self._strings = np.zeros(2 * len(data) + 8, np.uint8)
        if not find_fields(np.frombuffer(data, np.uint8), self._names, self._name_at, self._strings, self._found):
            return None
        try:
            return {
                column: self._strings[start:end].tobytes() if what == STRING else json.loads(data[start:end])
                for column, (what, start, end) in zip(self._columns, self._found.tolist(), strict=True)
                if what != MISSING
            }
        except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
            return None


def _row(
    line: Line, file: SourceFile, source_name: str, source: Source, mapped: Mapping[str, str], plain: _Plain
) -> Row:
    line.data = line.data.removesuffix(b"\r")
    wrong = line.broken or (None if line.digest is None else "read/document_too_large")
    parsed = plain.fields(line.data) if wrong is None else None
    if wrong is None and parsed is None:
        parsed, wrong = _parse(line.data, first=line.offset == 0)
    if wrong is not None or parsed is None:
        return failure(file, line.id(), line.offset, str(wrong), line.data)
    values = {role: parsed.get(column) for role, column in mapped.items()}
    text = values["text"]
    return record(
        file,
        source_name,
        source,
        position=line.offset,
        text=text if isinstance(text, bytes) else utf8(text) if isinstance(text, str) else "read/missing_field",
        values=values,
        raw=line.data,
    )


def _parse(data: bytes, *, first: bool) -> tuple[dict[str, Any], str | None]:
    """The object on a line, or why there is none."""
    if first:
        data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        return {}, "read/empty_line"
    try:
        parsed = json.loads(data.decode())
    except UnicodeDecodeError:
        return {}, "read/invalid_utf8"
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return {}, "read/invalid_json"
    return (parsed, None) if isinstance(parsed, dict) else ({}, "read/not_an_object")


def check_fields(file: SourceFile, source: Source, storage_options: Mapping[str, Any]) -> None:
    """Raise RecipeError where none of the file's first rows has text in the mapped field, or a mapped id."""
    with RawFile(file, storage_options) as raw:
        head = [
            _parse(line.data, first=line.offset == 0)
            for line in islice(lines(chunks(raw), CHECKED_LINE_BYTES), CHECKED_ROWS)
        ]
    records = [parsed for parsed, wrong in head if wrong is None]
    if not records:
        return
    if not any(isinstance(parsed.get(source.fields.text), str) for parsed in records):
        raise missing_field(file, "text", source.fields.text, [key for parsed in records for key in parsed])
    id_field = None if "id" in source.optional else source.fields.id
    if id_field is not None and not any(id_field in parsed for parsed in records):
        raise missing_field(file, "id", id_field, [key for parsed in records for key in parsed])


def missing_field(file: SourceFile, role: str, column: str, there: list[str]) -> RecipeError:
    """The error for a mapped column the file does not have; `there` are the names it has."""
    names = list(dict.fromkeys(there))
    shown = ", ".join(f"`{name}`" for name in names[:30]) + (", ..." if len(names) > 30 else "")
    lacks = "holds no text in" if column in names else "has no"
    return RecipeError(
        f"source `{file.source}`: `{file.name}` {lacks} field `{column}`; it has: {shown or 'none'}",
        hint=f"name the field that holds the {role}: --field {role}=NAME, or `fields:` in the recipe",
    )
