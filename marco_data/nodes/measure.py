"""The measure pass: read a slice of a source once, run every step that needs text, write rows with their columns.

In: raw files. Out: for each slice one or more Parquet shards of at most `shard_bytes` of text, rows sorted by
identified language and position, a row group per language. Every row that was read is in there: one that
could not be judged carries `failed`, one that a step dropped carries `reason`. What later passes decide from
(scores, metrics, signature) are columns, so that no limit is applied here and none makes text be read again.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.records import FAILED, READ, Count, add_counts
from marco_data.sources import (
    READ_SCHEMA,
    Slice,
    Source,
    SourceFile,
    list_files,
    packages_of,
    read_slice,
    split,
)
from marco_data.sources.found_before import Found
from marco_data.step import BoundStep, Step, Tools, check_plan, package_versions, run_step
from marco_data.storage import DataFile, Storage, write_parquet

UNIDENTIFIED = "und"


@dataclass(frozen=True, kw_only=True)
class Measure(Node):
    """`steps` run in order; once one has added `lid_language`, those after it see one language at a time.

    Text whose language score is below `floor` is not stored, nor that of documents dropped before
    identification, except for the share `keep_dropped` chosen by id.
    """

    kind: ClassVar[str] = "measure"

    sources: dict[str, Source]
    steps: tuple[Step, ...]
    languages: tuple[str, ...]
    shard_bytes: int
    max_document_bytes: int
    floor: float
    keep_dropped: float
    sample: float = 1.0
    verify: bool = False
    batch_rows: int = field(default=1000, compare=False)  # context: every value gives the same bytes
    known_files: dict[str, list[SourceFile]] = field(default_factory=dict, compare=False)
    hub_commits: dict[str, str] = field(default_factory=dict, compare=False)  # one for all sources of a repository
    found: dict[str, Found] = field(default_factory=dict, compare=False)  # by source, what earlier runs knew included

    def config(self, tools: Tools) -> dict[str, Any]:
        return {
            "steps": [step.identity(tools) for step in self.steps],
            "shard_bytes": self.shard_bytes,
            "max_document_bytes": self.max_document_bytes,
            "floor": self.floor,
            "keep_dropped": self.keep_dropped,
        }

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of a measure shard: as read, `text_bytes`, then what each step adds."""
        check_plan(list(self.steps), set(READ_SCHEMA.names))
        return self._schema(len(self.steps))

    def _schema(self, steps: int) -> pa.Schema:
        """The columns there are after so many steps."""
        out = pa.schema([*READ_SCHEMA, pa.field("text_bytes", pa.int64())])
        for step in self.steps[:steps]:
            for column in step.adds:
                if column.name in out.names:
                    raise RecipeError(f"step `{step.name()}` adds the column `{column.name}`, which is there already")
                out = out.append(column)
        return out

    def files(self, name: str) -> list[SourceFile]:
        """The files of a source as they are now; listed once."""
        if name not in self.known_files:
            self.known_files[name] = list_files(
                name,
                self.sources[name],
                languages=self.languages,
                verify=self.verify,
                cache=self.found.setdefault(name, Found()),
                commits=self.hub_commits,
            )
        return self.known_files[name]

    def slices(self, name: str) -> list[Slice]:
        """How a source is cut into tasks."""
        return split(self.files(name), self.shard_bytes, cache=self.found.setdefault(name, Found()))

    def tasks(self, context: Context) -> list[Task]:
        tasks = []
        # Once a format: a WARC's six took 2.6 ms, which for a million slices is three quarters of an hour.
        versions = cache(lambda kind: package_versions(packages_of(kind), self.accept))
        for name, source in sorted(self.sources.items()):
            for part in self.slices(name):
                reads = {
                    "slice": part.identity(),
                    "source": name,
                    "licence": source.licence,
                    "packages": versions(part.format),
                }
                task = Task(self, part.name, reads, (name, source, part), part.bytes)
                if self.sample >= 1 or int(task.key[-12:], 16) < self.sample * 16**12:
                    tasks.append(task)
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        name, source, part = task.inputs
        return self.measure(name, source, part, f"{self.folder}/{task.key}", storage, tools)

    def measure(self, name: str, source: Source, part: Slice, stem: str, storage: Storage, tools: Tools) -> Outcome:
        batches = read_slice(
            part,
            name,
            source,
            max_document_bytes=self.max_document_bytes,
            batch_rows=self.batch_rows,
            isolated=tools.isolated,
        )
        outcome = self.measure_batches(batches, name, stem, storage, tools)
        files = [f"{name}/{file.name}" for file in part.files]
        return replace(outcome, facts={"source": name, "files": files})

    def measure_batches(
        self,
        batches: Iterable[pa.RecordBatch],
        name: str,
        stem: str,
        storage: Storage,
        tools: Tools,
        outcome: str = READ,
    ) -> Outcome:
        """Shards of the rows of READ_SCHEMA, all of the source `name`; they are counted as `outcome`."""
        bound: Bound = {}
        data: list[DataFile] = []
        counts: list[Count] = []
        for number, pieces in groupby(numbered(batches, self.shard_bytes), itemgetter(0)):
            tables = self.tables((batch for _, batch in pieces), bound, tools)
            data.append(
                write_parquet(storage, f"{stem}.{number:03d}", _counted(tables, name, outcome, counts), self.schema)
            )
        return Outcome(tuple(data), add_counts(counts), {"source": name, "files": []})

    def tables(self, batches: Iterable[pa.RecordBatch], bound: "Bound", tools: Tools) -> Iterator[pa.Table]:
        """Measure the rows of one shard: a table for each language, sorted by code (none comes last) and position.

        Rows of a language are gathered from all batches before its steps run, because a call costs as much as
        hundreds of kilobytes of text; what is done with is let go, so that a shard is held once.
        """
        held: dict[str | None, deque[pa.RecordBatch]] = defaultdict(deque)
        split = 1 + next(i for i, step in enumerate(self.steps) if "lid_language" in step.adds.names)
        for batch in batches:
            for piece in self._run(batch, range(split), None, bound, tools):
                for code, rows in by_language(_aligned(piece, self._schema(split))):
                    held[code].append(rows)
        for code in sorted(held, key=lambda code: (code is None, code or "")):
            done = []
            for batch in gathered(held.pop(code)):
                pieces = self._run(batch, range(split, len(self.steps)), code, bound, tools)
                done += in_order([self._finished(piece) for piece in pieces])
            yield pa.Table.from_batches(in_order(done), self.schema)

    def _run(
        self, batch: pa.RecordBatch, steps: range, language: str | None, bound: "Bound", tools: Tools
    ) -> Iterator[pa.RecordBatch]:
        """Run `steps` on rows that are neither failed nor dropped; the others leave as they are."""
        for i in range(steps.start, steps.stop + 1):
            fine = pc.and_(pc.is_null(batch["failed"]), pc.is_null(batch["reason"]))
            if not pc.all(fine, min_count=0).as_py():
                yield batch.filter(pc.invert(fine))
                batch = batch.filter(fine)
            if batch.num_rows == 0:
                return
            if i < steps.stop:
                batch = self._step(i, batch, language, bound, tools)
        yield batch

    def _step(
        self, i: int, batch: pa.RecordBatch, language: str | None, bound: "Bound", tools: Tools
    ) -> pa.RecordBatch:
        step = self.steps[i]
        if (i, language) not in bound:
            # Text of no language of ours is measured as if it were spaced text: its verdict falls on its language.
            bound[i, language] = step.bind(LANGUAGES.get(language or "", _ANY if language else None), tools)
        output = run_step(step, bound[i, language], batch, isolated=tools.isolated)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True)) | dict(output.columns)
        for name, array in (
            ("reason", output.reason),
            ("measured", output.measured),
            ("failed", output.failed),
        ):
            if array is not None:
                columns[name] = array
        return pa.RecordBatch.from_pydict(columns)

    def _finished(self, piece: pa.RecordBatch) -> pa.RecordBatch:
        """The row as it is stored: all columns, and no text that nothing can keep."""
        size = pc.fill_null(pc.binary_length(piece["text"]), 0).cast(pa.int64())
        rows = _aligned(piece, self.schema).set_column(
            self.schema.get_field_index("text_bytes"), self.schema.field("text_bytes"), size
        )
        low = pc.fill_null(pc.less(rows["lid_score"], self.floor), True)
        if not pc.any(low, min_count=0).as_py():
            return rows
        limit = f"{min(int(self.keep_dropped * 16**8), 16**8 - 1):08x}"
        unsampled = pc.greater_equal(pc.utf8_slice_codeunits(rows["id"], 0, 8), limit)
        text = pc.if_else(pc.and_(low, unsampled), pa.scalar(None, pa.string()), rows["text"])
        return rows.set_column(self.schema.get_field_index("text"), self.schema.field("text"), text)


Bound = dict[tuple[int, str | None], BoundStep]
"""Steps by their place in the pass and their language, bound when the first row reaches them."""

_ANY = LANGUAGES["eng_Latn"]

GATHERED_BYTES = 4 << 20
"""Of a language's rows, columns and all, that are measured in one call: enough to make its fixed cost small."""


def numbered(batches: Iterable[pa.RecordBatch], limit: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches with the number of their shard, cut after the row that brings a shard's text to `limit` bytes.

    The cuts depend on the rows alone, never on how they were batched.
    """
    number = size = 0
    for batch in batches:
        ends = np.cumsum(pc.fill_null(pc.binary_length(batch["text"]), 0).to_numpy(), dtype=np.int64)
        start = before = 0
        while start < batch.num_rows:
            full = int(np.searchsorted(ends, before + limit - size))
            stop = min(full + 1, batch.num_rows)
            yield number, batch.slice(start, stop - start)
            size += int(ends[stop - 1]) - before
            if size >= limit:
                number, size = number + 1, 0
            start, before = stop, int(ends[stop - 1])


def by_language(batch: pa.RecordBatch) -> Iterator[tuple[str | None, pa.RecordBatch]]:
    """The rows of each `lid_language`, in their order."""
    coded = batch["lid_language"].dictionary_encode()
    names = [*coded.dictionary.to_pylist(), None]
    codes = coded.indices.fill_null(len(names) - 1).to_numpy()
    order = np.argsort(codes, kind="stable")
    rows = batch.take(pa.array(order)) if len(names) > 2 or coded.null_count else batch
    edges = np.searchsorted(codes[order], np.arange(len(names) + 1)).tolist()
    for name, (start, end) in zip(names, pairwise(edges), strict=True):
        if end > start:
            yield name, rows.slice(start, end - start)


def gathered(pieces: deque[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of `pieces` in fewer batches, each of at least GATHERED_BYTES but for the last; `pieces` is emptied."""
    together: list[pa.RecordBatch] = []
    size = 0
    while pieces:
        together.append(pieces.popleft())
        size += together[-1].nbytes
        if size >= GATHERED_BYTES or not pieces:
            yield pa.concat_batches(together)
            together, size = [], 0


def in_order(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The rows sorted by position: as they are, but where some were dropped on the way and came first."""
    positions = np.concatenate([batch["position"].to_numpy() for batch in batches])
    if np.all(positions[1:] > positions[:-1]):
        return batches
    rows = pa.concat_batches(batches)
    return [rows.take(pc.sort_indices(rows, [("position", "ascending"), ("id", "ascending")]))]


def _counted(tables: Iterable[pa.Table], source: str, outcome: str, counts: list[Count]) -> Iterator[pa.Table]:
    """The tables, each of one language, and in `counts` the documents that came and failed."""
    for table in tables:
        where = (source, table["lid_language"][0].as_py() or UNIDENTIFIED)
        counts.append(Count(outcome, *where, documents=table.num_rows, bytes=pc.sum(table["text_bytes"]).as_py()))
        for reason in pc.value_counts(table["failed"].drop_null()).to_pylist():
            counts.append(Count(FAILED, *where, reason=reason["values"], documents=reason["counts"]))
        yield table


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of `schema`, null where it has none."""
    there = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns = [
        pa.nulls(batch.num_rows, f.type)
        if f.name not in there
        else there[f.name]
        if there[f.name].type == f.type
        else there[f.name].cast(f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
