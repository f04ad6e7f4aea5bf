"""Dedup's own nodes over documents that are given as tables, measured and judged already: for benchmarks and tests.

In: tables of `id`, `text`, `text_hash`, `shingles`, `signature` and `language`, one a shard, and where wanted `low`
(quality) and `reason` (dropped by a limit). Out: the sidecar of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Dataset, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.execute import Executor, LocalExecutor, Run, Silent, run
from marco_data.nodes.decide import PASSED, VERDICTS
from marco_data.nodes.duplicates import find_duplicates
from marco_data.records import Count
from marco_data.step import Tools
from marco_data.steps.remove import CopiesRule
from marco_data.steps.sign import Sign
from marco_data.storage import Storage, write_parquet


@dataclass(frozen=True, kw_only=True)
class Given(Node):
    """`measure` of shards that are given."""

    kind: ClassVar[str] = "measure"

    shards: tuple[pa.Table, ...]

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        # Arrow tables have no digest of their own: their place and size stand for them, in a root of one use.
        return [
            Task(self, f"shard-{i}", {"shard": i, "bytes": table.nbytes, "ids": str(table["id"][:1])}, table)
            for i, table in enumerate(self.shards)
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        table = task.inputs.select(["id", "text", "text_hash", "shingles", "signature"])
        file = write_parquet(storage, f"{self.folder}/{task.key}", [table], table.schema)
        return Outcome((file,), facts={"source": "web", "files": [task.name]})


@dataclass(frozen=True, kw_only=True)
class Judged(Given):
    """`decide` of the same."""

    kind: ClassVar[str] = "decide"

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        shard, n = task.inputs, task.inputs.num_rows
        nothing = pa.nulls(n, pa.string())
        low = shard["low"] if "low" in shard.column_names else pa.array([False] * n)
        columns = {
            "id": shard["id"],
            "source": pa.array(["web"] * n, pa.string()),
            "language": shard["language"],
            "text_bytes": pc.binary_length(shard["text"]).cast(pa.int64()),
            "failed": nothing,
            "reason": shard["reason"] if "reason" in shard.column_names else nothing,
            "measured": pa.nulls(n, pa.float64()),
            "quality_tier": pc.if_else(low, "low", "high"),
        }
        verdicts = pa.table(columns, schema=VERDICTS)
        file = write_parquet(storage, f"{self.folder}/{task.key}", [verdicts], VERDICTS)
        languages = pc.unique(shard["language"]).to_pylist()
        return Outcome((file,), tuple(Count(PASSED, "web", language, documents=1) for language in languages))


def plan(shards: Sequence[pa.Table], rule: DropDuplicates, sign: Sign, copies: CopiesRule = "report") -> Dataset:
    given = tuple(shards)
    judged = Dataset().then(Given(shards=given)).then(Judged(shards=given))
    return find_duplicates(judged, rule, sign, copies=copies)


def deduplicated(
    root: str,
    shards: Sequence[pa.Table],
    rule: DropDuplicates,
    sign: Sign,
    executor: Executor | None = None,
    copies: CopiesRule = "report",
) -> tuple[list[pa.Table], Run]:
    """The sidecar of each shard, and the run, which is whole."""
    storage = Storage(root)
    result = run(plan(shards, rule, sign, copies), storage, executor or LocalExecutor(), Silent())
    assert result.complete, result.failures
    return [storage.read_table(record.data[0].path) for record in result.records["dedup"]], result
