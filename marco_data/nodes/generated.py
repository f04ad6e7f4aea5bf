"""Generated documents on their way back into the stage: measured like any other, and put in the place of their seeds.

`MeasureGenerated` reads what `generate` wrote, through the same steps as what was read; `decide` and the second dedup
go over it as over everything. `Replace` then takes those seeds out whose rewriting is kept.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import GENERATED as SCOPE
from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.nodes.decide import measured_shards
from marco_data.nodes.duplicates.sidecars import SIDECAR, kept_digest
from marco_data.nodes.measure import Measure
from marco_data.records import GENERATED, REPLACED, Count, Record, add_counts
from marco_data.sources import READ_SCHEMA
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage, write_parquet


def generated_records(context: Context) -> list[Record]:
    """The records of all entries of `generate`, entries by name."""
    names = sorted(name for name in context.done if name.startswith("generate_"))
    return [record for name in names for record in context.done[name]]


@dataclass(frozen=True, kw_only=True)
class MeasureGenerated(Measure):
    """The steps of the measure pass over generated documents; `sources` is empty."""

    scope: str = SCOPE

    @staticmethod
    def like(measure: Measure) -> "MeasureGenerated":
        """The same steps and settings as those of what was read."""
        settings = {f.name: getattr(measure, f.name) for f in fields(Measure) if f.name not in ("scope", "sources")}
        return MeasureGenerated(
            **{**settings, "sources": {}, "sample": 1.0, "known_files": {}, "found": {}, "hub_commits": {}}
        )

    def tasks(self, context: Context) -> list[Task]:
        return [
            Task(self, record.key, {"generated": record.data[0].digest}, record, record.data[0].bytes)
            for record in generated_records(context)
            if record.data[0].rows
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        record: Record = task.inputs
        batches = _batches(storage, record.data[0], self.batch_rows)
        name = record.facts["part"]
        return self.measure_batches(batches, name, f"{self.folder}/{task.key}", storage, tools, outcome=GENERATED)

    def files(self, name: str) -> list[Any]:
        return []


def _batches(storage: Storage, file: DataFile, rows: int) -> Iterator[pa.RecordBatch]:
    with storage.parquet(file.path) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, columns=READ_SCHEMA.names).cast(READ_SCHEMA)
            yield from table.combine_chunks().to_batches(max_chunksize=rows)


REPLACED_SIDECAR = SIDECAR.append(pa.field("replaced_by", pa.string()))


@dataclass(frozen=True, kw_only=True)
class Replace(Node):
    """For each shard that has rewritings: the sidecar of dedup, without those rows whose rewriting is kept.

    A rewriting that language ID, a limit or dedup has dropped leaves its seed where it is.
    """

    kind: ClassVar[str] = "replace"
    whole: ClassVar[bool] = True

    entries: tuple[str, ...]

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        judged = _judged_files(context)
        by_shard: dict[str, list[tuple[DataFile, list[tuple[DataFile, DataFile, str]]]]] = defaultdict(list)
        for entry in self.entries:
            for record in context.done[f"generate_{entry}"]:
                if record.data[0].rows:
                    by_shard[record.facts["seeds"]].append((record.data[0], judged[record.data[0].digest]))
        tasks = []
        for (name, file), sidecar, decided in zip(
            measured_shards(context.done["measure"]), context.done["dedup"], context.done["decide"], strict=False
        ):
            if file.digest in by_shard:
                rewritten = by_shard[file.digest]
                reads = {
                    "shard": sidecar.facts["shard"],
                    "sidecar": sidecar.data[0].digest,
                    "rewritten": [[g.digest, *(kept for _, _, kept in shards)] for g, shards in rewritten],
                }
                inputs = (sidecar, decided.data[0], rewritten)
                tasks.append(Task(self, name, reads, inputs, 64 * file.rows))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        sidecar, verdicts, rewritten = task.inputs
        parent_of: dict[str, str] = {}
        for generated, shards in rewritten:
            table = storage.read_table(generated.path, ["parent_ids"])
            parents = [ids[0] for ids in table["parent_ids"].to_pylist()]
            for measured, beside, _ in shards:
                positions = storage.read_table(measured.path, ["position"])["position"]
                found = storage.read_table(beside.path, ["id", "kept"])
                kept = found["kept"]
                for position, id in zip(
                    positions.filter(kept).to_pylist(), found["id"].filter(kept).to_pylist(), strict=True
                ):
                    parent_of.setdefault(parents[position], id)
        table = storage.read_table(sidecar.data[0].path)
        by = [parent_of.get(id) if kept else None for id, kept in zip(*_ids(table), strict=True)]
        replaced_by = pa.array(by, pa.string())
        table = table.append_column("replaced_by", replaced_by)
        still = pc.and_(table["kept"], pc.is_null(replaced_by))
        table = table.set_column(table.schema.get_field_index("kept"), "kept", still)
        data = write_parquet(storage, f"{self.folder}/{task.key}", [table], REPLACED_SIDECAR)
        facts = {**sidecar.facts, "kept": kept_digest(table)}
        return Outcome((data,), _counts(storage, verdicts, replaced_by), facts)


def _ids(table: pa.Table) -> tuple[list[str], list[bool]]:
    return table["id"].to_pylist(), table["kept"].to_pylist()


def _judged_files(context: Context) -> dict[str, list[tuple[DataFile, DataFile, str]]]:
    """By the digest of a generated file: its measure shards, each with its sidecar and what that keeps."""
    read = len(measured_shards(context.done["measure"]))
    sidecars = iter(context.done["dedup"][read:])
    out: dict[str, list[tuple[DataFile, DataFile, str]]] = defaultdict(list)
    for record in context.done[f"measure_{SCOPE}"]:
        for file in record.data:
            sidecar = next(sidecars)
            out[record.reads["generated"]].append((file, sidecar.data[0], sidecar.facts["kept"]))
    return out


def _counts(storage: Storage, verdicts: DataFile, replaced_by: pa.Array) -> tuple[Count, ...]:
    table = storage.read_table(verdicts.path, ["source", "language", "text_bytes"]).filter(pc.is_valid(replaced_by))
    grouped = table.group_by(["source", "language"]).aggregate([("text_bytes", "count"), ("text_bytes", "sum")])
    return add_counts(
        Count(REPLACED, g["source"], g["language"], documents=g["text_bytes_count"], bytes=g["text_bytes_sum"])
        for g in grouped.to_pylist()
    )


def final_sidecars(context: Context) -> list[Record]:
    """For each measure shard the record of its last sidecar: that of `replace`, where there is one, else of `dedup`."""
    replaced = {record.facts["shard"]: record for record in context.done.get("replace", ())}
    return [replaced.get(record.facts["shard"], record) for record in context.done["dedup"]]
