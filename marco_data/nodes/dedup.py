"""Duplicates, in three nodes: same ids over all languages, duplicates per language, one sidecar a shard.

In: ids, text hashes and signatures of the rows every limit has let through (and the text of disputed pairs).
Out: for each measure shard a sidecar with a row for each of its rows, in its order: `row_id`, `id` (new where an id
stood for two texts), `reason`, `dup_of`, `jaccard`, `jaccard_exact`, `cluster_size` and `kept`, the last word of all
passes so far.

Memory of `duplicates`: about 60 bytes a document of one language plus what `dedup` states; signatures come in blocks.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import (
    REASONS,
    Documents,
    DropDuplicates,
    Verdicts,
    find_duplicates,
    hex_of,
    keys_of,
    resolve_ids,
)
from marco_data.errors import ShardError
from marco_data.languages import LANGUAGES
from marco_data.nodes.decide import PASSED, Decide, measured_shards
from marco_data.records import DROPPED, Count, add_counts
from marco_data.step import Tools
from marco_data.steps.sign import Sign
from marco_data.storage import DataFile, Storage, write_parquet

SAME_IDS = pa.schema([("shard", pa.string()), ("row", pa.int32()), ("id", pa.string()), ("dup_of", pa.string())])
FOUND = pa.schema(
    [
        ("shard", pa.string()),
        ("row", pa.int32()),
        ("reason", pa.string()),
        ("dup_of", pa.string()),
        ("jaccard", pa.float32()),
        ("jaccard_exact", pa.bool_()),
        ("cluster_size", pa.int32()),
    ]
)
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


@dataclass(frozen=True)
class Shard:
    """A measure shard with its verdict sidecar and the languages that have rows left in it."""

    name: str
    measure: DataFile
    verdicts: DataFile
    languages: frozenset[str]
    sources: frozenset[str]


def shards_of(context: Context) -> list[Shard]:
    decided = context.done["decide"]
    return [
        Shard(
            name,
            file,
            record.data[0],
            frozenset(c.language for c in record.counts if c.outcome == PASSED),
            frozenset(c.source for c in record.counts),
        )
        for (name, file), record in zip(measured_shards(context.done["measure"]), decided, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class SameIds(Node):
    """The same id with the same text again is dropped; with another text both get a new id, and it is counted."""

    name: ClassVar[str] = "same_ids"
    whole: ClassVar[bool] = True

    decide: Decide = field(compare=False)

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        shards = shards_of(context)
        reads = {"shards": [[s.name, s.measure.digest, s.verdicts.digest] for s in shards]}
        return [Task(self, "all", reads, shards, sum(64 * s.measure.rows for s in shards))]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        shards: list[Shard] = task.inputs
        ids, hashes, numbers, rows = [], [], [], []
        for number, shard in enumerate(shards):
            table = storage.read_table(shard.measure.path, ["id", "text_hash"])
            passed = passed_rows(storage, shard)
            table = table.filter(passed)
            ids.append(keys_of(table["id"]))
            hashes.append(keys_of(table["text_hash"]))
            numbers.append(np.full(table.num_rows, number, dtype=np.int32))
            rows.append(np.flatnonzero(passed.to_numpy(zero_copy_only=False)).astype(np.int32))
        all_ids, shard_of, row_of = _stack(ids), _join(numbers), _join(rows)
        found = resolve_ids(all_ids, _stack(hashes), shard_of, row_of)
        changed = np.flatnonzero((found.dup_of >= 0) | (found.id != all_ids).any(axis=1))
        names = np.array([s.name for s in shards], dtype=object)
        first = np.maximum(found.dup_of[changed], 0)
        table = pa.table(
            {
                "shard": pa.array(names[shard_of[changed]] if len(changed) else [], pa.string()),
                "row": row_of[changed],
                "id": hex_of(found.id[changed]),
                "dup_of": pc.if_else(pa.array(found.dup_of[changed] >= 0), hex_of(found.id[first]), None),
            },
            schema=SAME_IDS,
        )
        data = write_parquet(storage, f"{self.folder}/{task.key}", [table], SAME_IDS)
        return Outcome((data,), facts={"renamed": found.renamed})


@dataclass(frozen=True, kw_only=True)
class Duplicates(Node):
    """Exact and near duplicates: a task a language, so that no language waits for another."""

    name: ClassVar[str] = "duplicates"
    whole: ClassVar[bool] = True

    sign: Sign
    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {
            "rule": {"version": self.rule.version, **self.rule.model_dump()},
            "sign": self.sign.identity(tools),
        }

    def tasks(self, context: Context) -> list[Task]:
        by_language: dict[str, list[Shard]] = defaultdict(list)
        for shard in shards_of(context):
            for language in shard.languages:
                by_language[language].append(shard)
        same_ids = context.done["same_ids"][0].data[0]
        return [
            Task(
                self,
                language,
                {
                    "language": language,
                    "shards": [[s.name, s.measure.digest, s.verdicts.digest] for s in shards],
                    "same_ids": same_ids.digest,
                },
                (language, shards, same_ids),
                sum(512 * s.measure.rows for s in shards),
            )
            for language, shards in sorted(by_language.items())
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        language, shards, same_ids = task.inputs
        corpus = LanguageCorpus(storage, language, shards, same_ids, self.sign)
        verdicts = find_duplicates(corpus.documents, self.rule, corpus.signatures, corpus.shingles)
        data = write_parquet(storage, f"{self.folder}/{task.key}", [corpus.report(verdicts)], FOUND)
        return Outcome((data,), facts={"not_compared": verdicts.not_compared, "pairs_counted": verdicts.pairs_counted})


@dataclass(frozen=True)
class LanguageCorpus:
    """The documents of one language as dedup wants to see them: columns, signature blocks, shingles on demand."""

    storage: Storage
    language: str
    shards: list[Shard]
    same_ids: DataFile
    sign: Sign

    @cached_property
    def places(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """(shard number, row) of every document, in the order all arrays keep."""
        self._load()
        return self.__dict__["_places"]

    @cached_property
    def documents(self) -> Documents:
        self._load()
        return self.__dict__["_documents"]

    def _load(self) -> None:
        if "_documents" in self.__dict__:
            return
        changed = _by_shard(self.storage.read_table(self.same_ids.path))
        numbers, rows, ids, hashes, low = [], [], [], [], []
        for number, shard in enumerate(self.shards):
            verdicts = self.storage.read_table(shard.verdicts.path, ["language", "failed", "reason", "quality_tier"])
            mine = changed.get(shard.name, SAME_IDS.empty_table())
            keep = np.array(pc.and_(passed(verdicts), pc.equal(verdicts["language"], self.language)))
            repeated = mine.filter(pc.is_valid(mine["dup_of"]))["row"].to_numpy()
            keep[repeated] = False
            renamed = mine.filter(pc.is_null(mine["dup_of"]))
            table = self.storage.read_table(shard.measure.path, ["id", "text_hash"])
            keys = keys_of(table["id"])
            keys[renamed["row"].to_numpy()] = keys_of(renamed["id"])
            at = np.flatnonzero(keep)
            numbers.append(np.full(len(at), number, dtype=np.int32))
            rows.append(at.astype(np.int32))
            ids.append(keys[at])
            hashes.append(keys_of(table["text_hash"].take(at)))
            low.append(np.array(pc.equal(verdicts["quality_tier"], "low").fill_null(False))[at])
        n = sum(len(r) for r in rows)
        self.__dict__["_places"] = (_join(numbers), _join(rows))
        self.__dict__["_documents"] = Documents(
            run=np.broadcast_to(np.int32(0), (n,)),
            generated=np.broadcast_to(np.bool_(False), (n,)),
            low_quality=np.concatenate(low) if low else np.empty(0, bool),
            id=_stack(ids),
            text_hash=_stack(hashes),
        )

    def signatures(self) -> Iterator[npt.NDArray[np.uint32]]:
        numbers, rows = self.places
        ends = np.searchsorted(numbers, np.arange(len(self.shards) + 1))
        for number, shard in enumerate(self.shards):
            mine = rows[ends[number] : ends[number + 1]]
            for start, table in self._groups(shard, ["signature"], mine):
                inside = _between(mine, start, start + table.num_rows) - start
                if len(inside):
                    column = table["signature"].combine_chunks().take(pa.array(inside))
                    yield column.flatten().to_numpy().reshape(len(inside), -1)

    def shingles(self, indices: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint32]]:
        numbers, rows = self.places
        answers: list[npt.NDArray[np.uint32]] = []
        hashes = self.sign.shingler(LANGUAGES[self.language])
        # Indices ascend, and so do shards and rows: one walk over both answers in the order asked for.
        shard_of, first = np.unique(numbers[indices], return_index=True)
        for number, asked in zip(shard_of, np.split(rows[indices], first[1:]), strict=True):
            for start, table in self._groups(self.shards[number], ["text"], asked):
                inside = _between(asked, start, start + table.num_rows) - start
                answers += [hashes(text) for text in table["text"].take(pa.array(inside)).to_pylist()]
        return answers

    def _groups(self, shard: Shard, columns: list[str], rows: npt.NDArray[np.int32]) -> Iterator[tuple[int, pa.Table]]:
        """(first row, row group) of the row groups that hold any of the ascending `rows`."""
        with self.storage.parquet(shard.measure.path) as parquet:
            start = 0
            for group in range(parquet.num_row_groups):
                end = start + parquet.metadata.row_group(group).num_rows
                if len(_between(rows, start, end)):
                    yield start, parquet.read_row_group(group, columns=columns)
                start = end

    def report(self, verdicts: Verdicts) -> pa.Table:
        """What was found, for the rows of which anything is to be said."""
        numbers, rows = self.places
        told = np.flatnonzero((verdicts.reason > 0) | (verdicts.cluster_size > 1))
        names = np.array([s.name for s in self.shards], dtype=object)
        reasons = np.array(REASONS, dtype=object)
        twin = np.maximum(verdicts.dup_of[told], 0)
        jaccard = verdicts.jaccard[told].astype(np.float32)
        return pa.table(
            {
                "shard": pa.array(names[numbers[told]] if len(told) else [], pa.string()),
                "row": rows[told],
                "reason": pa.array(reasons[verdicts.reason[told]] if len(told) else [], pa.string()),
                "dup_of": pc.if_else(pa.array(verdicts.dup_of[told] >= 0), hex_of(self.documents.id[twin]), None),
                "jaccard": pa.array(jaccard, mask=np.isnan(jaccard)),
                "jaccard_exact": verdicts.jaccard_exact[told],
                "cluster_size": verdicts.cluster_size[told].astype(np.int32),
            },
            schema=FOUND,
        )


def _between(rows: npt.NDArray[np.int32], start: int, end: int) -> npt.NDArray[np.int32]:
    """Those of ascending rows that lie in [start, end)."""
    return rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]


def _by_shard(table: pa.Table) -> dict[str, pa.Table]:
    """The rows of a table sorted by `shard`, by shard."""
    if table.num_rows == 0:
        return {}
    runs = pc.run_end_encode(table["shard"].combine_chunks())
    ends = runs.run_ends.to_pylist()
    return {
        name: table.slice(start, end - start)
        for name, start, end in zip(runs.values.to_pylist(), [0, *ends], ends, strict=False)
    }


@dataclass(frozen=True, kw_only=True)
class Dedup(Node):
    """The sidecars: what was found, laid beside each shard's own verdicts."""

    name: ClassVar[str] = "dedup"

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        same_ids = context.done["same_ids"][0].data[0]
        found = {r.reads["language"]: r.data[0] for r in context.done["duplicates"]}
        tasks = []
        for shard in shards_of(context):
            mine = [found[language] for language in sorted(shard.languages)]
            reads = {
                "verdicts": shard.verdicts.digest,
                "same_ids": same_ids.digest,
                "found": [f.digest for f in mine],
                "shard": shard.name,
            }
            tasks.append(Task(self, shard.name, reads, (shard, same_ids, mine), 64 * shard.measure.rows))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        shard, same_ids, found = task.inputs
        verdicts = storage.read_table(shard.verdicts.path)
        ids = verdicts["id"].to_pylist()
        n = len(ids)
        columns: dict[str, list[Any]] = {
            "reason": [None] * n,
            "dup_of": [None] * n,
            "jaccard": [None] * n,
            "jaccard_exact": [None] * n,
            "cluster_size": [None] * n,
        }
        effective = list(ids)
        for row in _of_shard(storage, same_ids, shard.name):
            effective[row["row"]] = row["id"]
            if row["dup_of"] is not None:
                columns["reason"][row["row"]] = REASONS[1]
                columns["dup_of"][row["row"]] = row["dup_of"]
                columns["jaccard"][row["row"]], columns["jaccard_exact"][row["row"]] = 1.0, True
        for file in found:
            for row in _of_shard(storage, file, shard.name):
                for name in columns:
                    columns[name][row["row"]] = row[name]
        kept = pc.and_(passed(verdicts), pc.is_null(pa.array(columns["reason"], pa.string())))
        table = pa.table({"row_id": ids, "id": effective, **columns, "kept": kept}, schema=SIDECAR)
        data = write_parquet(storage, f"{self.folder}/{task.key}", [table], SIDECAR)
        facts = {"shard": shard.measure.path, "verdicts": shard.verdicts.path, "kept": _kept_digest(table)}
        return Outcome((data,), add_counts(_count(table, verdicts)), facts)


def _of_shard(storage: Storage, file: DataFile, shard: str) -> list[dict[str, Any]]:
    """The rows of a file sorted by shard that are about one shard."""
    with storage.parquet(file.path) as parquet:
        rows = []
        for group in range(parquet.num_row_groups):
            statistics = parquet.metadata.row_group(group).column(0).statistics
            if statistics is None or not statistics.has_min_max or statistics.min <= shard <= statistics.max:
                table = parquet.read_row_group(group)
                rows += table.filter(pc.equal(table["shard"], shard)).to_pylist()
        return rows


def _kept_digest(table: pa.Table) -> str:
    """What tokenizing depends on: which rows are kept, under which ids."""
    kept = table.filter(table["kept"])
    rows = np.flatnonzero(np.array(table["kept"])).astype(np.int64)
    return hashlib.sha256(rows.tobytes() + "".join(kept["id"].to_pylist()).encode()).hexdigest()[:16]


def _count(table: pa.Table, verdicts: pa.Table) -> list[Count]:
    both = verdicts.select(["source", "language", "text_bytes"]).append_column("why", table["reason"])
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


def passed(verdicts: pa.Table) -> pa.ChunkedArray:
    """Which rows of a verdict sidecar every limit has let through."""
    return pc.and_(pc.is_null(verdicts["failed"]), pc.is_null(verdicts["reason"]))


def passed_rows(storage: Storage, shard: Shard) -> pa.Array:
    verdicts = storage.read_table(shard.verdicts.path, ["failed", "reason"])
    if verdicts.num_rows != shard.measure.rows:
        raise ShardError(f"`{shard.verdicts.path}` has {verdicts.num_rows} rows for {shard.measure.rows} documents")
    return passed(verdicts).combine_chunks()


def _stack(arrays: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    return np.concatenate(arrays) if arrays else np.empty((0, 2), np.uint64)


def _join(arrays: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int32)
