"""The measure pass: read a slice of a source once, run every step that needs text, write rows with their columns.

In: raw files. Out: for each slice one or more Parquet shards of at most `shard_bytes` of text, rows sorted by
identified language and position, a row group per language. Every row that was read is in there: one that
could not be judged carries `failed`, one that a step dropped carries `reason`. What later passes decide from
(scores, metrics, signature) are columns, so that no limit is applied here and none makes text be read again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

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
from marco_data.step import BoundStep, Step, Tools, check_plan, package_versions, run_step
from marco_data.storage import Storage, write_parquet

UNIDENTIFIED = "und"


@dataclass(frozen=True, kw_only=True)
class Measure(Node):
    """`steps` run in order; once one has added `lid_language`, those after it see one language at a time.

    Text whose language score is below `floor` is not stored, nor that of documents dropped before
    identification, except for the share `keep_dropped` chosen by id.
    """

    name: ClassVar[str] = "measure"

    sources: dict[str, Source]
    steps: tuple[Step, ...]
    languages: tuple[str, ...]
    shard_bytes: int
    max_document_bytes: int
    floor: float
    keep_dropped: float
    sample: float = 1.0
    verify: bool = False
    known_files: dict[str, list[SourceFile]] = field(default_factory=dict, compare=False)

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
        out = pa.schema([*READ_SCHEMA, pa.field("text_bytes", pa.int64())])
        for step in self.steps:
            for column in step.adds:
                if column.name in out.names:
                    raise RecipeError(f"step `{step.name()}` adds the column `{column.name}`, which is there already")
                out = out.append(column)
        return out

    def files(self, name: str) -> list[SourceFile]:
        """The files of a source as they are now; listed once."""
        if name not in self.known_files:
            self.known_files[name] = list_files(name, self.sources[name], languages=self.languages, verify=self.verify)
        return self.known_files[name]

    def tasks(self, context: Context) -> list[Task]:
        tasks = []
        for name, source in sorted(self.sources.items()):
            for part in split(self.files(name), self.shard_bytes):
                reads = {
                    "slice": part.identity(),
                    "source": name,
                    "licence": source.licence,
                    "packages": package_versions(packages_of(part.format), self.accept),
                }
                task = Task(self, part.name, reads, (name, source, part), part.bytes)
                if self.sample >= 1 or int(task.key[-12:], 16) < self.sample * 16**12:
                    tasks.append(task)
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        name, source, part = task.inputs
        return self.measure(name, source, part, f"{self.folder}/{task.key}", storage, tools)

    def measure(self, name: str, source: Source, part: Slice, stem: str, storage: Storage, tools: Tools) -> Outcome:
        batches = read_slice(part, name, source, max_document_bytes=self.max_document_bytes)
        bound: dict[tuple[int, str | None], BoundStep] = {}
        data, counts = [], []
        for i, chunk in enumerate(chunks(batches, self.shard_bytes)):
            table = self.table(chunk, bound, tools)
            counts += count_rows(table)
            data.append(write_parquet(storage, f"{stem}.{i:03d}", by_language(table), self.schema))
        files = [f"{name}/{file.name}" for file in part.files]
        return Outcome(tuple(data), add_counts(counts), {"source": name, "files": files})

    def table(
        self, chunk: list[pa.RecordBatch], bound: dict[tuple[int, str | None], BoundStep], tools: Tools
    ) -> pa.Table:
        """Measure the rows of one shard; sorted by language and position whatever the batches were."""
        rows = [piece for batch in chunk for piece in self._run(batch, 0, None, bound, tools)]
        table = pa.Table.from_batches([_aligned(piece, self.schema) for piece in rows], self.schema)
        table = table.sort_by([("lid_language", "ascending"), ("position", "ascending"), ("id", "ascending")])
        return self._without_unusable_text(table)

    def _run(
        self,
        batch: pa.RecordBatch,
        first: int,
        language: str | None,
        bound: dict[tuple[int, str | None], BoundStep],
        tools: Tools,
    ) -> Iterator[pa.RecordBatch]:
        """Run steps[first:] on rows that are neither failed nor dropped; the others leave as they are."""
        for i in range(first, len(self.steps) + 1):
            fine = pc.and_(pc.is_null(batch["failed"]), pc.is_null(batch["reason"]))
            if not pc.all(fine, min_count=0).as_py():
                yield batch.filter(pc.invert(fine))
                batch = batch.filter(fine)
            if batch.num_rows == 0:
                return
            if i == len(self.steps):
                yield batch
                return
            if language is None and "lid_language" in batch.schema.names:
                for code in sorted(pc.unique(batch["lid_language"]).to_pylist()):
                    group = batch.filter(pc.equal(batch["lid_language"], code))
                    yield from self._run(group, i, code, bound, tools)
                return
            batch = self._step(i, batch, language, bound, tools)

    def _step(
        self,
        i: int,
        batch: pa.RecordBatch,
        language: str | None,
        bound: dict[tuple[int, str | None], BoundStep],
        tools: Tools,
    ) -> pa.RecordBatch:
        step = self.steps[i]
        if (i, language) not in bound:
            # Text of no language of ours is measured as if it were spaced text: its verdict falls on its language.
            bound[i, language] = step.bind(LANGUAGES.get(language or "", _ANY if language else None), tools)
        output = run_step(step, bound[i, language], batch)
        columns = {field.name: batch.column(field.name) for field in batch.schema} | dict(output.columns)
        for name, array in (
            ("reason", output.reason),
            ("measured", output.measured),
            ("failed", output.failed),
        ):
            if array is not None:
                columns[name] = array
        return pa.RecordBatch.from_pydict(columns)

    def _without_unusable_text(self, table: pa.Table) -> pa.Table:
        size = pc.fill_null(pc.binary_length(table["text"]), 0).cast(pa.int64())
        table = table.set_column(table.schema.get_field_index("text_bytes"), "text_bytes", size)
        low = pc.or_(pc.is_null(table["lid_score"]), pc.less(table["lid_score"], self.floor))
        low = pc.fill_null(low, True)
        if not pc.any(low, min_count=0).as_py():
            return table
        limit = f"{min(int(self.keep_dropped * 16**8), 16**8 - 1):08x}"
        unsampled = pc.greater_equal(pc.utf8_slice_codeunits(table["id"], 0, 8), limit)
        text = pc.if_else(pc.and_(low, unsampled), pa.scalar(None, pa.string()), table["text"])
        return table.set_column(table.schema.get_field_index("text"), "text", text)


_ANY = LANGUAGES["eng_Latn"]


def chunks(batches: Iterable[pa.RecordBatch], limit: int) -> Iterator[list[pa.RecordBatch]]:
    """Cut a stream of batches after the row that brings the text of a chunk to `limit` bytes.

    The cuts depend on the rows alone, never on how they were batched.
    """
    chunk: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        lengths = pc.fill_null(pc.binary_length(batch["text"]), 0).to_pylist()
        start = 0
        for i, length in enumerate(lengths):
            size += length
            if size >= limit:
                chunk.append(batch.slice(start, i + 1 - start))
                yield chunk
                chunk, size, start = [], 0, i + 1
        if start < batch.num_rows:
            chunk.append(batch.slice(start))
    if chunk:
        yield chunk


def by_language(table: pa.Table) -> Iterator[pa.Table]:
    """The runs of equal `lid_language` of a sorted table."""
    if table.num_rows == 0:
        return
    runs = pc.run_end_encode(table["lid_language"].combine_chunks().cast(pa.string()))
    start = 0
    for end in runs.run_ends.to_pylist():
        yield table.slice(start, end - start)
        start = end


def count_rows(table: pa.Table) -> list[Count]:
    """Documents read, failed, and dropped before any limit, by source and language."""
    grouped = table.group_by(["source", "lid_language", "failed"]).aggregate([("text_bytes", "sum"), ("id", "count")])
    counts = []
    for row in grouped.to_pylist():
        where = (row["source"], row["lid_language"] or UNIDENTIFIED)
        counts.append(Count(READ, *where, documents=row["id_count"], bytes=row["text_bytes_sum"]))
        if row["failed"] is not None:
            counts.append(Count(FAILED, *where, reason=row["failed"], documents=row["id_count"]))
    return counts


def _aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch.column(f.name).cast(f.type) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
