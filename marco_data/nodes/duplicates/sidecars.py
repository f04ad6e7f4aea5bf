"""The verdicts of dedup, laid beside each shard: the last word of all passes so far.

In: the lines of a group of shards, by place. Out: for each measure shard a sidecar with a row for each of
its rows, in its order: `row_id`, `id` (new where an id stood for two texts), `reason`, `dup_of`, `jaccard`,
`jaccard_exact`, `cluster_size` and `kept`.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import REASONS, SAME_ID, DropDuplicates, hex_of, keys_of
from marco_data.nodes.decide import passed
from marco_data.nodes.duplicates.documents import shard_groups, shards_of
from marco_data.nodes.duplicates.layout import PLACE_SHIFT, digests
from marco_data.nodes.duplicates.lines import between
from marco_data.records import DROPPED, Count, add_counts
from marco_data.run_files import RunFile, Table
from marco_data.step import Tools
from marco_data.steps.remove import COPIES, LISTED
from marco_data.storage import Storage, write_parquet

SIDECAR = pa.schema(
    [
        ("row_id", pa.string()),
        ("id", pa.string()),
        ("reason", pa.string()),
        ("dup_of", pa.string()),
        ("jaccard", pa.float32()),
        ("jaccard_exact", pa.bool_()),
        ("cluster_size", pa.int32()),
        ("kept", pa.bool_()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Dedup(Node):
    kind: ClassVar[str] = "dedup"
    whole: ClassVar[bool] = True

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        listed = context.done["documents"]
        groups = shard_groups(shards_of(context), self.rule.partition)
        tasks = []
        for record, said, shards in zip(listed, context.done["lines"], groups, strict=True):
            lines = digests(said.data)
            start = record.facts["group"] << PLACE_SHIFT
            for shard, rows in zip(shards, record.facts["rows"], strict=True):
                reads = {
                    "lines": lines,
                    "verdicts": shard.verdicts.digest,
                    "places": [start, rows],
                    "shard": shard.name,
                }
                inputs = (shard, record.data[0], said.data, start, rows)
                tasks.append(Task(self, shard.name, reads, inputs, 64 * shard.measure.rows))
                start += rows
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        shard, documents, lines, start, rows = task.inputs
        first = start & ((1 << PLACE_SHIFT) - 1)
        row = RunFile(storage, documents).read(first, first + rows)["row"].astype(np.int64)
        ids, settled = (between(storage, [file], start, rows) for file in lines)
        table = self._sidecar(storage.read_table(shard.verdicts.path), row, start, ids, settled)
        data = write_parquet(storage, f"{self.folder}/{task.key}", [table], SIDECAR)
        verdicts = storage.read_table(shard.verdicts.path, ["source", "language", "text_bytes"])
        facts = {"shard": shard.measure.path, "verdicts": shard.verdicts.path, "kept": kept_digest(table)}
        return Outcome((data,), add_counts(_count(table, verdicts)), facts)

    def _sidecar(
        self, verdicts: pa.Table, row: npt.NDArray[np.int64], start: int, ids: Table, settled: Table
    ) -> pa.Table:
        n = verdicts.num_rows
        own = keys_of(verdicts["id"])
        effective = own.copy()
        reason, size = np.zeros(n, np.int64), np.zeros(n, np.int32)
        twin, jaccard, counted = np.zeros((n, 2), np.uint64), np.full(n, np.nan, np.float32), np.zeros(n, np.bool_)
        for lines, renames in ((ids, True), (settled, False)):
            at = row[(lines["place"] - np.uint64(start)).astype(np.int64)]
            if renames:
                effective[at] = lines["id"]
                at, lines = at[lines["reason"] == SAME_ID], lines[lines["reason"] == SAME_ID]
            reason[at], twin[at], jaccard[at] = lines["reason"], lines["twin"], lines["jaccard"]
            counted[at], size[at] = lines["counted"], lines["size"]
        stays = np.array(passed(verdicts))
        # What a limit has dropped was looked at for the sizes of clusters alone; of what is taken out a person wants
        # to know which document that stays is like it.
        listed = np.array(pc.fill_null(pc.equal(verdicts["reason"], LISTED), False), np.bool_)
        told = (reason > 0) & (stays | listed)
        reason[~stays] = 0
        names = pa.array([*REASONS, COPIES], pa.string())
        return pa.table(
            {
                "row_id": verdicts["id"],
                "id": hex_of(effective),
                "reason": names.take(pa.array(reason)),
                "dup_of": pc.if_else(pa.array(told), hex_of(twin), pa.scalar(None, pa.string())),
                "jaccard": pa.array(jaccard, mask=~told),
                "jaccard_exact": pa.array(counted, mask=~told & (size < 2)),
                "cluster_size": pa.array(size, mask=size < 2),
                "kept": pa.array(stays & ~told),
            },
            schema=SIDECAR,
        )


def kept_digest(table: pa.Table) -> str:
    """What tokenizing depends on: which rows are kept, under which ids."""
    kept = table.filter(table["kept"])
    rows = np.flatnonzero(np.array(table["kept"])).astype(np.int64)
    return hashlib.sha256(rows.tobytes() + "".join(kept["id"].to_pylist()).encode()).hexdigest()[:16]


def _count(table: pa.Table, verdicts: pa.Table) -> list[Count]:
    both = verdicts.append_column("why", table["reason"])
    both = both.filter(pc.is_valid(both["why"]))
    grouped = both.group_by(["source", "language", "why"]).aggregate([("text_bytes", "sum"), ("text_bytes", "count")])
    return [
        Count(
            DROPPED,
            r["source"],
            r["language"],
            r["why"],
            documents=r["text_bytes_count"],
            bytes=r["text_bytes_sum"],
        )
        for r in grouped.to_pylist()
    ]
