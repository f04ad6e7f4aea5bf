"""How many rows a slice has, without reading all of it.

In: a slice. Out: a `Census`: rows that were counted, in which share of the slice's stored bytes. Parquet footers and
folders of text tell it exactly; of JSONL and WARC files the first MiB as stored (or more) is unpacked and its rows are
counted, so files of less are exact, too. Parses no document.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marco_data.sources import jsonl, parquet, warc
from marco_data.sources.source import Slice
from marco_data.sources.stream import CHUNK_BYTES, Line, RawFile

LONGEST = 1 << 20
"""Bytes of a line or record that are held while it is counted."""


@dataclass(frozen=True)
class Census:
    """`rows` begin in the first `share` of the slice, and can be picked there."""

    rows: int
    share: float

    @property
    def estimate(self) -> float:
        """Rows of the whole slice."""
        return self.rows / self.share


def take_census(piece: Slice, most: int = CHUNK_BYTES, storage_options: Mapping[str, Any] | None = None) -> Census:
    """Count the rows of a slice, or of its first `most` stored bytes, a whole number of MiB.

    Raises RetryableError where the storage does not answer.
    """
    options = storage_options or {}
    if piece.format == "parquet":
        return Census(parquet.count_rows(piece, options), 1.0)
    if piece.format == "text":
        return Census(len(piece.files), 1.0)
    with RawFile(piece.files[0], options) as raw:
        plain = piece.format == "jsonl" and raw.file.compression is None
        start = piece.start if plain else 0
        rows: Iterator[object] = (
            jsonl.slice_lines(raw, piece, LONGEST) if piece.format == "jsonl" else warc.counted(raw, 0)
        )
        total = 0
        for number, row in enumerate(rows):
            # A row that is found in what is read after them ends there.
            if number and raw.tell() - start > most:
                # Of a plain file offsets are places in what is stored.
                end = row.offset - start if plain and isinstance(row, Line) else most
                return Census(number, min(1.0, end / piece.bytes))
            total = number + 1
        return Census(total, 1.0)
