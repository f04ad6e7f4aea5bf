"""What a build would find, measured on a few documents of each source: the real steps, run here, in seconds.

In: the nodes of a plan that read and judge. Out: a table of the documents that would be kept, each with how many it
stands for. Nothing is written. Duplicates are not looked for: they are counted as kept, which the reader is told.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from marco_data.nodes.decide import Decide
from marco_data.nodes.measure import Measure
from marco_data.sources import Slice, read_slice
from marco_data.step import Tools

SLICES, ROWS = 4, 64
"""Of each source: slices, spread over it, and rows of each that are read."""

COLUMNS = ["id", "source", "url", "licence", "text", "text_bytes"]


@dataclass(frozen=True)
class Probe:
    """Documents that passed every limit, and `stands_for` (float64): how many of the source each stands for."""

    kept: pa.Table
    read: int


def probe(measure: Measure, decide: Decide, tools: Tools) -> Probe:
    """Run the steps over the first rows of a few slices of each source."""
    tables, read = [], 0
    for name, source in sorted(measure.sources.items()):
        slices = _split(measure, name)
        chosen = _spread(slices)
        whole, part = sum(s.bytes for s in slices), sum(s.bytes for s in chosen)
        for piece in chosen:
            batches = read_slice(
                piece, name, source, max_document_bytes=measure.max_document_bytes, batch_rows=ROWS // 4
            )
            taken, ended = _first(batches)
            rows = sum(batch.num_rows for batch in taken)
            read += rows
            if not rows:
                continue
            share = 1.0 if ended else _share_of(piece, taken)
            measured = pa.concat_tables(list(measure.tables(taken, {}, tools)))
            verdicts = pa.concat_tables([decide.judge(b, {}, tools) for b in measured.combine_chunks().to_batches()])
            table = measured.select(COLUMNS).append_column("language", verdicts["language"])
            table = table.append_column("quality_tier", verdicts["quality_tier"])
            stands_for = whole / max(part, 1) / max(share, 1e-9)
            table = table.append_column("stands_for", pa.array([stands_for] * table.num_rows, pa.float64()))
            passed = pc.and_(pc.is_null(verdicts["failed"]), pc.is_null(verdicts["reason"]))
            tables.append(table.append_column("kept", passed).filter(passed))
    return Probe(pa.concat_tables(tables) if tables else pa.table({}), read)


def _split(measure: Measure, name: str) -> list[Slice]:
    from marco_data.sources import split

    return split(measure.files(name), measure.shard_bytes)


def _spread(slices: Sequence[Slice]) -> list[Slice]:
    """At most SLICES of them, evenly apart."""
    if len(slices) <= SLICES:
        return list(slices)
    edges = [round(i * len(slices) / SLICES) for i in range(SLICES + 1)]
    return [slices[(a + b) // 2] for a, b in pairwise(edges)]


def _first(batches: object) -> tuple[list[pa.RecordBatch], bool]:
    """Batches of at least ROWS rows, and whether that was all."""
    taken: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:  # type: ignore[attr-defined]
        if rows >= ROWS:
            return taken, False
        taken.append(batch)
        rows += batch.num_rows
    return taken, True


def _share_of(piece: Slice, taken: Sequence[pa.RecordBatch]) -> float:
    """How much of a slice these rows are: by position where that is a byte offset, else by their text, packed alike."""
    file = piece.files[0]
    if piece.format == "jsonl" and file.compression is None:
        last = taken[-1]["position"][-1].as_py()
        return min(1.0, (last - piece.start) / max(1, piece.end - piece.start)) or 1.0
    text = "".join(t or "" for batch in taken for t in batch["text"].to_pylist()).encode()
    packed = len(zstandard.compress(text, 3)) if file.compression == "zst" else len(zlib.compress(text, 6))
    if file.compression is None and piece.format not in ("parquet",):
        packed = len(text)
    return min(1.0, packed / max(1, piece.bytes)) or 1.0
