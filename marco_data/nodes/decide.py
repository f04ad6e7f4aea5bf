"""The decide pass: limits against measured columns, one verdict a row. It reads no text.

In: a measure shard's columns. Out: a sidecar with a row for each row of that shard, in its order: `id`, `source`,
`language`, `failed` (could not be judged), `reason` and `measured` (dropped), `quality_tier` (kept). Verdicts in
order: what reading and normalising found, language, quality and further decide steps, then what a user's text steps
found in the measure pass.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.nodes.measure import UNIDENTIFIED, Measure
from marco_data.records import DROPPED, FAILED, Count, Record, add_counts
from marco_data.step import BoundStep, Step, Tools, check_plan, run_step
from marco_data.steps.decontaminate import Decontaminate
from marco_data.storage import DataFile, Storage, write_parquet

PASSED = "passed"
"""Documents that every limit has let through; dedup has yet to look at them."""

VERDICTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("text_bytes", pa.int64()),
        ("failed", pa.string()),
        ("reason", pa.string()),
        ("measured", pa.float64()),
        ("quality_tier", pa.string()),
    ]
)


@dataclass
class Leaked:
    """What of one benchmark was found in a shard: documents that are dropped for it, and its items in them."""

    documents: int = 0
    items: set[tuple[str, str]] = field(default_factory=set)

    def to_json(self) -> dict[str, Any]:
        return {"documents": self.documents, "items": sorted(map(list, self.items))}


@dataclass(frozen=True, kw_only=True)
class Decide(Node):
    """`steps` read columns only; the first that gives a reason has the word."""

    kind: ClassVar[str] = "decide"

    measure: Measure = field(compare=False)
    steps: tuple[Step, ...]

    def config(self, tools: Tools) -> dict[str, Any]:
        check_plan(list(self.steps), set(self.measure.schema.names) - {"text", "signature"})
        return {"steps": [step.identity(tools) for step in self.steps]}

    def tasks(self, context: Context) -> list[Task]:
        return [
            Task(self, name, {"measure": file.digest}, file, file.rows)
            for name, file in measured_shards(context.done["measure"])
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        file: DataFile = task.inputs
        bound: dict[tuple[int, str], BoundStep] = {}
        tables, counts = [], []
        leaked: dict[str, Leaked] = defaultdict(Leaked)
        for batch in self.batches(storage, file):
            verdicts = self.judge(batch, bound, tools)
            counts += count_verdicts(verdicts)
            self._add_leaks(leaked, batch, verdicts)
            tables.append(verdicts)
        data = write_parquet(storage, f"{self.folder}/{task.key}", [pa.concat_tables(tables)], VERDICTS)
        leaks = {name: found.to_json() for name, found in sorted(leaked.items())}
        return Outcome((data,), add_counts(counts), {"shard": file.path, "leaks": leaks})

    def _add_leaks(self, leaked: dict[str, "Leaked"], batch: pa.RecordBatch, verdicts: pa.Table) -> None:
        """Counts the documents dropped for an item, and the items, by benchmark."""
        for step in self.steps:
            if isinstance(step, Decontaminate):
                rows = pc.indices_nonzero(pc.is_in(verdicts["reason"], pa.array(sorted(step.reasons))))
                for hits in batch["leaks"].take(rows).to_pylist():
                    found = [hit for hit in hits if step.reason(hit) is not None]
                    for name in {hit["benchmark"] for hit in found}:
                        leaked[name].documents += 1
                    for hit in found:
                        leaked[hit["benchmark"]].items.add((hit["language"], hit["item"]))

    def batches(self, storage: Storage, file: DataFile) -> Iterator[pa.RecordBatch]:
        """The columns that verdicts are given by, a language at a time."""
        names = {"id", "source", "lid_language", "text_bytes", "failed", "reason", "measured"}
        names |= {name for step in self.steps for name in step.reads}
        with storage.parquet(file.path) as parquet:
            available: pq.ParquetSchema = parquet.schema_arrow
            columns = [n for n in available.names if n in names]
            for group in range(parquet.num_row_groups):
                for table in [parquet.read_row_group(group, columns=columns)]:
                    yield from table.combine_chunks().to_batches()

    def judge(self, batch: pa.RecordBatch, bound: dict[tuple[int, str], BoundStep], tools: Tools) -> pa.Table:
        """Verdicts for a batch, in its row order."""
        early = pc.or_(pc.is_valid(batch["failed"]), pc.is_null(batch["lid_language"]))
        reason = pc.if_else(early, batch["reason"], pa.scalar(None, pa.string()))
        measured = pc.if_else(early, batch["measured"], pa.scalar(None, pa.float64()))
        failed, tier = batch["failed"], pa.nulls(batch.num_rows, pa.string())
        for i, step in enumerate(self.steps):
            open_rows = pc.and_(pc.is_null(reason), pc.is_null(failed))
            rows = pc.indices_nonzero(open_rows)
            if len(rows) == 0:
                break
            if (i, "") not in bound:
                bound[i, ""] = step.bind(None, tools)
            output = run_step(step, bound[i, ""], batch.take(rows), isolated=tools.isolated)
            reason = _scatter(reason, open_rows, output.reason)
            measured = _scatter(measured, open_rows, output.measured)
            failed = _scatter(failed, open_rows, output.failed)
            tier = _scatter(tier, open_rows, output.columns.get("quality_tier"))
            for name, column in output.columns.items():  # a later step may read it
                batch = batch.append_column(name, _scatter(pa.nulls(len(failed), column.type), open_rows, column))
        late = pc.and_(pc.and_(pc.is_null(reason), pc.is_null(failed)), pc.is_valid(batch["reason"]))
        reason = pc.if_else(late, batch["reason"], reason)
        measured = pc.if_else(late, batch["measured"], measured)
        dropped = pc.or_(pc.is_valid(reason), pc.is_valid(failed))
        return pa.table(
            {
                "id": batch["id"],
                "source": batch["source"],
                "language": pc.fill_null(batch["lid_language"], UNIDENTIFIED),
                "text_bytes": batch["text_bytes"],
                "failed": failed,
                "reason": pc.if_else(pc.is_valid(failed), pa.scalar(None, pa.string()), reason),
                "measured": measured,
                "quality_tier": pc.if_else(dropped, pa.scalar(None, pa.string()), tier),
            },
            schema=VERDICTS,
        )


def _scatter(values: pa.Array, mask: pa.Array, answers: pa.Array | None) -> pa.Array:
    if answers is None:
        return values
    return pc.replace_with_mask(values, mask, answers.cast(values.type))


def measured_shards(records: list[Record] | tuple[Record, ...] | Any) -> list[tuple[str, DataFile]]:
    """(name, file) of every shard of the measure pass, in the order all later nodes keep."""
    return [(f"{record.key}.{i:03d}", file) for record in records for i, file in enumerate(record.data)]


def count_verdicts(verdicts: pa.Table) -> list[Count]:
    grouped = verdicts.group_by(["source", "language", "failed", "reason"]).aggregate(
        [("id", "count"), ("text_bytes", "sum")]
    )
    counts = []
    for row in grouped.to_pylist():
        where = (row["source"], row["language"])
        numbers = {"documents": row["id_count"], "bytes": row["text_bytes_sum"] or 0}
        if row["failed"] is not None:
            counts.append(Count(FAILED, *where, reason=row["failed"], **numbers))
        elif row["reason"] is not None:
            counts.append(Count(DROPPED, *where, reason=row["reason"], **numbers))
        else:
            counts.append(Count(PASSED, *where, **numbers))
    return counts


def passed(verdicts: pa.Table) -> pa.ChunkedArray:
    """Which rows of a verdict sidecar every limit has let through."""
    return pc.and_(pc.is_null(verdicts["failed"]), pc.is_null(verdicts["reason"]))
