"""What dedup knows of each document, listed once: a task for a group of consecutive shards.

In: measure shards (id, text hash, signature) and their verdicts. Out, for each group, four run files: the documents in
order of place (`DOCUMENT`), their signatures in the same order, and the documents sorted by id and by text.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates, keys_of
from marco_data.errors import ShardError
from marco_data.languages import LANGUAGES
from marco_data.nodes.decide import PASSED, measured_shards, passed
from marco_data.nodes.duplicates.history import History, signed_as
from marco_data.nodes.duplicates.layout import (
    DOCUMENT,
    IDENTIFIER,
    TAKEN_OUT,
    TEXT,
    TEXT_ORDER,
    priority_of,
    table,
)
from marco_data.run_files import Table, in_order, stretches, write_run
from marco_data.step import Tools
from marco_data.steps.remove import LISTED, CopiesRule
from marco_data.steps.sign import Sign
from marco_data.storage import DataFile, Storage

HIGH, LOW = range(2)
AFTER_READ = 2
"""What is generated comes after what was read: its classes are those two, and so many more."""

CUT_BY_LIMITS = 4
"""Behind all of these, generated or not: nothing is dropped for what does not stay itself."""

BASE_MEMORY = 0.5e9
MEMORY_A_DOCUMENT = 1000
DISK_A_DOCUMENT = 800
"""Bytes, as `benchmarks/DEDUP_SCALE.md` measures them; on disk a document's signature comes on top."""

MOST_GROUPS = 4_000
"""Above it `partition` is too small: each range of keys is read from each group, so reads grow with the square of the
groups, 16 million for each pass over 4,000 of them."""


@dataclass(frozen=True)
class Shard:
    """A measure shard with its verdict sidecar and the languages that have rows left in it."""

    name: str
    measure: DataFile
    verdicts: DataFile
    languages: frozenset[str]
    sources: frozenset[str]
    generated: bool


def shards_of(context: Context) -> list[Shard]:
    read = len(context.done["decide"])
    decided = context.everywhere("decide")
    return [
        Shard(
            name,
            file,
            record.data[0],
            frozenset(c.language for c in record.counts if c.outcome == PASSED),
            frozenset(c.source for c in record.counts),
            number >= read,
        )
        for number, ((name, file), record) in enumerate(
            zip(measured_shards(context.everywhere("measure")), decided, strict=True)
        )
    ]


def shard_groups(shards: list[Shard], partition: int) -> list[list[Shard]]:
    """Consecutive shards of together at most `partition` rows, or a single one of more."""
    return [shards[a:b] for a, b in stretches([s.measure.rows for s in shards], partition)]


def signature_type(hashes: int) -> np.dtype[Any]:
    return np.dtype([("signature", "<u4", (hashes,))])


@dataclass(frozen=True, kw_only=True)
class Documents(Node):
    kind: ClassVar[str] = "documents"
    whole: ClassVar[bool] = True
    version: ClassVar[int] = 2

    rule: DropDuplicates
    sign: Sign
    copies: CopiesRule = "report"

    def config(self, tools: Tools) -> dict[str, Any]:
        said = {"hashes": self.rule.hashes, "over": self.rule.over, "languages": list(LANGUAGES)}
        if self.copies == "drop":
            return said | {"removed": "first"}
        # Behind this build's documents, what is taken out would come before those of a later crawl.
        return said if self.rule.index is None else said | {"removed": "left out"}

    def tasks(self, context: Context) -> list[Task]:
        history = History.of(context, self.rule)
        history.require(signed_as(self.sign, context.tools))
        tasks = []
        for number, shards in enumerate(
            shard_groups(shards_of(context), self.rule.partition), start=history.first_group
        ):
            digests = [[s.measure.digest, s.verdicts.digest, *["generated"] * s.generated] for s in shards]
            reads = {"group": number, "run": history.run, "shards": digests}
            weight = sum(512 * s.measure.rows for s in shards)
            tasks.append(Task(self, f"group-{number:05d}", reads, (number, history.run, shards), weight))
        return tasks

    def notes(self, context: Context) -> list[str]:
        documents = sum(c.documents for r in context.everywhere("decide") for c in r.counts if c.outcome == PASSED)
        if self.rule.over == "all":
            documents = sum(file.rows for _, file in measured_shards(context.everywhere("measure")))
        at_once = min(documents, self.rule.partition)
        memory = BASE_MEMORY + MEMORY_A_DOCUMENT * at_once
        groups = -(-documents // self.rule.partition)
        wide = -(-documents // MOST_GROUPS // 1_000_000) * 1_000_000
        many = (
            f"dedup: {groups:,} groups of `partition` documents, and its passes read something of each group for each "
            f"other: set `steps.dedup.partition: {wide}`, with {(BASE_MEMORY + MEMORY_A_DOCUMENT * wide) / 1e9:.0f} GB "
            "a worker"
        )
        return [
            *([many] if groups > MOST_GROUPS else []),
            f"dedup: {documents:,} documents, {at_once:,} at once: about {memory / 1e9:.1f} GB of memory a worker and "
            f"{(DISK_A_DOCUMENT + 4 * self.rule.hashes) * documents / 1e9:.3g} GB of disk; {self.rule.banding}",
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        number, run, shards = task.inputs
        listed = [self._listed(storage, i, shard) for i, shard in enumerate(shards)]
        documents = np.concatenate([part for part, _ in listed])
        hashes = np.concatenate([part for _, part in listed])
        stem = f"{self.folder}/{task.key}"
        place = (np.uint64(number) << np.uint64(32)) + np.arange(len(documents), dtype=np.uint64)
        columns = {
            "id": documents["id"][:, 0],
            "id_low": documents["id"][:, 1],
            "text": hashes[:, 0],
            "text_low": hashes[:, 1],
            "place": place,
            "scope": documents["scope"],
            "priority": priority_of(run, documents["class"], self.copies == "drop"),
        }
        rows = [documents["row"][documents["shard"] == i] for i in range(len(shards))]
        files = (
            write_run(storage, f"{stem}.documents", [documents], DOCUMENT),
            write_run(
                storage,
                f"{stem}.signatures",
                self._signatures(storage, shards, rows),
                signature_type(self.rule.hashes),
                block=1,
            ),
            write_run(
                storage,
                f"{stem}.ids",
                [self._identifiers(table(IDENTIFIER, len(documents), **columns), documents["class"])],
                IDENTIFIER,
            ),
            write_run(storage, f"{stem}.texts", [in_order(table(TEXT, len(documents), **columns), TEXT_ORDER)], TEXT),
        )
        scopes = np.bincount(documents["scope"], minlength=len(LANGUAGES))
        counts = {str(scope): int(n) for scope, n in enumerate(scopes) if n}
        measure = [asdict(shard.measure) for shard in shards]
        facts = {"group": number, "run": run, "scopes": counts, "rows": [len(r) for r in rows], "measure": measure}
        return Outcome(files, facts=facts)

    def _identifiers(self, records: Table, document_class: npt.NDArray[np.uint8]) -> Table:
        """What a limit has dropped neither keeps an id from others nor repeats one."""
        return in_order(records[document_class < CUT_BY_LIMITS], ("id", "id_low", "text", "text_low", "place"))

    def _listed(self, storage: Storage, number: int, shard: Shard) -> tuple[Table, npt.NDArray[np.uint64]]:
        """The documents of one shard that dedup looks at, and their text hashes [n, 2]."""
        verdicts = storage.read_table(shard.verdicts.path, ["language", "failed", "reason", "quality_tier"])
        if verdicts.num_rows != shard.measure.rows:
            raise ShardError(f"`{shard.verdicts.path}` has {verdicts.num_rows} rows for {shard.measure.rows} documents")
        measured = storage.read_table(shard.measure.path, ["id", "text_hash"])
        stays = passed(verdicts).combine_chunks()
        known = pc.is_in(verdicts["language"], pa.array(list(LANGUAGES)))
        signed = pc.and_(pc.is_valid(measured["text_hash"]), known).combine_chunks()
        taken_out = pc.and_(signed, pc.fill_null(pc.equal(verdicts["reason"], LISTED), False)).combine_chunks()
        if self.rule.over == "all":
            chosen = signed
        elif self.rule.index is None or self.copies == "drop":
            chosen = pc.or_(stays, taken_out)
        else:
            chosen = stays
        rows = np.flatnonzero(np.array(chosen))
        at = pa.array(rows)
        low = np.array(pc.equal(verdicts["quality_tier"].take(at), "low").fill_null(False), bool)
        scopes = pc.index_in(verdicts["language"].take(at), pa.array(list(LANGUAGES)))
        documents = table(
            DOCUMENT,
            len(rows),
            id=keys_of(measured["id"].take(at)),
            scope=np.array(scopes, np.uint16),
            shard=number,
            row=rows,
        )
        passing = np.where(low, LOW, HIGH) + AFTER_READ * shard.generated
        documents["class"] = np.where(np.array(stays)[rows].astype(bool), passing, CUT_BY_LIMITS + shard.generated)
        if self.copies == "drop":
            documents["class"][np.array(taken_out)[rows].astype(bool)] = TAKEN_OUT
        return documents, keys_of(measured["text_hash"].take(at))

    def _signatures(self, storage: Storage, shards: list[Shard], rows: list[npt.NDArray[np.uint32]]) -> Iterator[Table]:
        for shard, chosen in zip(shards, rows, strict=True):
            with storage.parquet(shard.measure.path) as parquet:
                start = 0
                for group in range(parquet.num_row_groups):
                    end = start + parquet.metadata.row_group(group).num_rows
                    inside = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, end)] - start
                    start = end
                    if len(inside):
                        column = parquet.read_row_group(group, columns=["signature"])["signature"].combine_chunks()
                        values = column.take(pa.array(inside)).flatten().to_numpy().reshape(len(inside), -1)
                        if values.shape[1] != self.rule.hashes:
                            raise ShardError(
                                f"`{shard.measure.path}` has signatures of {values.shape[1]} hashes for "
                                f"{self.rule.hashes}"
                            )
                        yield table(signature_type(self.rule.hashes), len(inside), signature=values)
