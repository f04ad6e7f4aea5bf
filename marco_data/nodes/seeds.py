"""Which kept documents may become seeds: a task a shard, columns only.

In: verdicts and the sidecars of the first dedup. Out: no data, but `facts`: how many documents and text bytes of each
language an entry of `generate` may take. What is taken of them is decided by `generate`, round by round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.generation.entry import Entry
from marco_data.nodes.decide import measured_shards
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage

SCOPE = "seeds"
"""The scope of the first dedup, over what was read, which comes before anything is generated."""


@dataclass(frozen=True)
class SeedShard:
    """A measure shard that was read, with its verdicts and the sidecar of the first dedup.

    `place` names its source file: where completions for its documents are looked for.
    """

    name: str
    place: tuple[str, ...]
    measure: DataFile
    verdicts: DataFile
    sidecar: DataFile
    kept: str

    @property
    def reads(self) -> dict[str, str]:
        return {"measure": self.measure.digest, "verdicts": self.verdicts.digest, "kept": self.kept}


def seed_shards(context: Context) -> list[SeedShard]:
    """The shards that seeds are taken from, in the order of the measure pass."""
    records = context.done["measure"]
    places = [(r.facts["source"], *r.facts["files"]) for r in records for _ in r.data]
    return [
        SeedShard(name, place, file, decided.data[0], deduplicated.data[0], deduplicated.facts["kept"])
        for (name, file), place, decided, deduplicated in zip(
            measured_shards(records), places, context.done["decide"], context.done[f"dedup_{SCOPE}"], strict=True
        )
    ]


def columns_of(storage: Storage, shard: SeedShard) -> pa.Table:
    """`id`, `kept`, `source`, `language`, `text_bytes` and `quality_tier` of each row of a shard."""
    verdicts = storage.read_table(shard.verdicts.path, ["source", "language", "text_bytes", "quality_tier"])
    sidecar = storage.read_table(shard.sidecar.path, ["id", "kept"])
    return verdicts.append_column("id", sidecar["id"]).append_column("kept", sidecar["kept"])


def may_be_seed(table: pa.Table, entry: Entry) -> pa.ChunkedArray:
    """Which rows of `columns_of` an entry may take."""
    chosen = pc.and_(table["kept"], pc.is_in(table["language"], pa.array(entry.seed_languages(), pa.string())))
    if entry.seeds.sources is not None:
        chosen = pc.and_(chosen, pc.is_in(table["source"], pa.array(entry.seeds.sources, pa.string())))
    if entry.seeds.quality_tier is not None:
        chosen = pc.and_(chosen, pc.fill_null(pc.equal(table["quality_tier"], entry.seeds.quality_tier), False))
    return chosen


def texts_of(storage: Storage, shard: SeedShard, rows: Sequence[int]) -> dict[int, tuple[str | None, str | None, str]]:
    """(url, licence, text) of some rows of a measure shard, by row; other row groups are not read."""
    out: dict[int, tuple[str | None, str | None, str]] = {}
    wanted = np.array(rows, np.int64)
    with storage.parquet(shard.measure.path) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            here = wanted[(wanted >= start) & (wanted < end)]
            if len(here):
                table = parquet.read_row_group(group, columns=["url", "licence", "text"]).take(pa.array(here - start))
                for row, values in zip(here.tolist(), table.to_pylist(), strict=True):
                    out[row] = (values["url"], values["licence"], values["text"])
            start = end
    return out


@dataclass(frozen=True, kw_only=True)
class Seeds(Node):
    kind: ClassVar[str] = "seeds"
    whole: ClassVar[bool] = True

    entries: Mapping[str, Entry] = field(compare=False)

    def config(self, tools: Tools) -> dict[str, Any]:
        return {
            name: {**entry.seeds.model_dump(mode="json"), "languages": list(entry.seed_languages())}
            for name, entry in sorted(self.entries.items())
        }

    def tasks(self, context: Context) -> list[Task]:
        return [
            Task(self, shard.name, {k: v for k, v in shard.reads.items() if k != "measure"}, shard, shard.measure.rows)
            for shard in seed_shards(context)
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        table = columns_of(storage, task.inputs)
        facts: dict[str, dict[str, list[int]]] = {}
        for name, entry in self.entries.items():
            rows = table.filter(may_be_seed(table, entry))
            grouped = rows.group_by("language").aggregate([("text_bytes", "count"), ("text_bytes", "sum")]).to_pylist()
            facts[name] = {g["language"]: [g["text_bytes_count"], g["text_bytes_sum"]] for g in grouped}
        return Outcome(facts={"seeds": facts})
