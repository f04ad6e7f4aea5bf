"""A plan whose tasks do nothing, as many as are asked for: four nodes, each of which reads what the one before wrote.

In: shards, and languages of each. Out: records of the size that real ones have (a file, four counts for each language,
the facts of `decide`), by the real planning, scheduling and committing; or, at once, the tables that those leave
(`through`). No data file is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pyarrow as pa

from marco_data.dataset import Context, Dataset, Node, Outcome, Task
from marco_data.execute import Done, manifest_name, run_task, write_manifest
from marco_data.record_table import ROWS, TABLE, Records, records_of, table_of
from marco_data.records import DROPPED, READ, Count, Record
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage
from marco_data.storage_counts import StorageCounts

PASSES = ("measure", "decide", "dedup", "tokenize")
"""The nodes of a real plan that have a task for every shard."""
REASONS = ("select_language/low_score", "quality/too_few_words", "quality/too_much_of_one_2_gram")


@dataclass(frozen=True, kw_only=True)
class Nothing(Node):
    """One node; `scope` tells the four apart."""

    kind: ClassVar[str] = "nothing"

    shards: int
    languages: int
    before: str = ""
    bytes_each: int = field(default=100_000_000, compare=False)

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"pass": self.scope, "languages": self.languages}

    def tasks(self, context: Context) -> list[Task]:
        if not self.before:
            names = (f"crawl-{i // 1000:04d}-{i:07d}-jsonl" for i in range(self.shards))
            return [Task(self, name, {"slice": i}, i, self.bytes_each) for i, name in enumerate(names)]
        return [
            Task(self, f"{record.key}.000", {"before": record.data[0].digest}, record.data[0], record.data[0].rows)
            for record in context.done[f"nothing_{self.before}"]
        ]

    def file(self, task: Task) -> DataFile:
        number = _number(task)
        path = f"{self.folder}/{task.key}.000.{number:08x}.parquet"
        return DataFile(path, self.bytes_each, f"{number:016x}", 30_000)

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        number, file = _number(task), self.file(task)
        codes = [f"l{(number + i) % 64:02d}_Latn" for i in range(self.languages)]
        counts = [Count(READ, "crawl", code, documents=30_000, bytes=90_000_000) for code in codes]
        counts += [
            Count(DROPPED, "crawl", code, reason, documents=number % 977 + i, bytes=3000 * (number % 977))
            for code in codes
            for i, reason in enumerate(REASONS)
        ]
        return Outcome((file,), tuple(counts), {"shard": file.path, "leaks": {}})


def _number(task: Task) -> int:
    return task.inputs if isinstance(task.inputs, int) else int(task.inputs.digest, 16)


def chain(shards: int, languages: int, passes: int = len(PASSES)) -> Dataset:
    names = PASSES[:passes]
    return Dataset(
        tuple(
            Nothing(scope=name, shards=shards, languages=languages, before=before)
            for name, before in zip(names, ("", *names), strict=False)
        )
    )


@dataclass
class Answers:
    """An executor whose tasks end at once, without storage: what is left is the driver's own work."""

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        for task in tasks:
            made = task.node.work(task, storage, Tools())
            record = Record(task.node.folder, task.key, dict(task.reads), made.data, made.counts, made.facts)
            yield Done(task, record, 0.001)

    def close(self) -> None: ...


def own_columns(tasks: Sequence[Task]) -> list[pa.RecordBatch]:
    """TABLE's columns that no two tasks have in common: keys, what was read, and files where the tasks have them."""

    def record(task: Task) -> Record:
        files = (task.node.file(task),) if isinstance(task.node, Nothing) else ()
        return Record("", task.key, dict(task.reads), files)

    starts = range(0, len(tasks), ROWS)
    return [table_of([record(t) for t in tasks[start : start + ROWS]]).select(OWN) for start in starts]


OWN = ["key", "reads", "data"]


@dataclass(eq=False)
class Repeated(Records):
    """Records with columns of their own (`own_columns`) and the counts and facts of `pattern`, over and over. Made as
    tables: some microseconds each, where a real record takes the driver 80."""

    folder: str
    own: Sequence[pa.RecordBatch]
    pattern: Sequence[Record]

    def __len__(self) -> int:
        return sum(table.num_rows for table in self.own)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        repeated = pa.Table.from_batches([table_of(self.pattern)]).drop_columns(OWN)
        for number, own in enumerate(self.own):
            start = number * ROWS
            rows = pa.array([row % len(self.pattern) for row in range(start, start + own.num_rows)])
            (table,) = repeated.take(rows).combine_chunks().to_batches()
            made = pa.RecordBatch.from_arrays([*own.columns, *table.columns], schema=TABLE)
            yield made if columns is None else made.select(list(columns))


def through(plan: Dataset, storage: Storage) -> None:
    """Leave what a run of a `chain` leaves: for each node a manifest, and its records in one file."""
    done: dict[str, Sequence[Record]] = {}
    for node in plan.nodes:
        tasks = node.tasks(Context(storage, Tools(), done))
        pattern = [end.record for end in Answers().run(tasks[:ROWS], storage) if end.record is not None]
        write_manifest(storage, node, tasks, Repeated(node.folder, own_columns(tasks), pattern))
        done[node.name] = records_of(storage, manifest_name(node, tasks)) or []


@dataclass
class Counting:
    """This process, and what each task of each node asked of storage."""

    asked: dict[str, list[StorageCounts]] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        for task in tasks:
            done = run_task(task, storage)
            self.asked.setdefault(task.node.name, []).append(done.storage)
            yield replace(done, storage=StorageCounts())

    def close(self) -> None: ...
