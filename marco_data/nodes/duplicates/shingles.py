"""The shingles of documents whose signatures leave doubt, and the pairs counted on them.

`Shingles` is a task for a group: it reads the text of the places asked for, shard by shard, and leaves their sets of
shingle hashes. `CountPairs` is a task for a range of ranks: it looks the sets up and counts |A and B| / |A or B| of
each pair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.languages import LANGUAGES
from marco_data.nodes.duplicates.history import History
from marco_data.nodes.duplicates.layout import (
    COUNTED,
    DOUBTFUL,
    END,
    FOUND,
    HASH,
    PLACE_SHIFT,
    SET,
    Group,
    Ranked,
    digests,
    nth,
    opened,
    table,
)
from marco_data.nodes.duplicates.verify import ROUNDS
from marco_data.run_files import RunFile, Table, write_run
from marco_data.step import Tools
from marco_data.steps.sign import Sign
from marco_data.storage import DataFile, Storage
from marco_data.words import texts_of

PAIRS_AT_ONCE = 1 << 14
"""Bounds memory: the sets of at most twice as many documents."""


@dataclass(frozen=True, kw_only=True)
class Shingles(Node):
    kind: ClassVar[str] = "shingles"
    whole: ClassVar[bool] = True
    round: ClassVar[int] = 0

    rule: DropDuplicates
    sign: Sign

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"sign": self.sign.identity(tools)}

    def tasks(self, context: Context) -> list[Task]:
        found = context.done["verify" + ROUNDS[self.round][2]]
        tasks = []
        for group in History.of(context, self.rule).groups():
            wanted = [record.data[1] for record in found if group.number in record.facts["groups"]]
            if wanted:
                reads = {
                    "wanted": digests(wanted),
                    "documents": group.documents.digest,
                    "shards": digests(group.shards),
                }
                weight = sum(shard.bytes for shard in group.shards)
                inputs = (group, wanted)
                tasks.append(Task(self, f"group-{group.number:05d}", reads, inputs, weight))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        group, wanted = task.inputs
        places = wanted_of(storage, group, wanted)
        numbers = (places & np.uint64((1 << PLACE_SHIFT) - 1)).astype(np.int64)
        documents = RunFile(storage, group.documents).take(numbers)
        sizes: list[int] = []
        stem = f"{self.folder}/{task.key}"

        def hashes() -> Iterator[Table]:
            for some in self._sets(storage, group.shards, documents):
                sizes.extend(map(len, some))
                flat = np.concatenate(some)
                yield table(HASH, len(flat), hash=flat)

        flat = write_run(storage, f"{stem}.hashes", hashes(), HASH, block=256)
        lengths = np.array(sizes, np.int64)
        starts = np.cumsum(lengths) - lengths
        sets = table(SET, len(places), place=places, start=starts, length=lengths)
        data = write_run(storage, f"{stem}.sets", [sets], SET)
        return Outcome((data, flat), facts={"group": group.number})

    def _sets(
        self, storage: Storage, shards: Sequence[DataFile], documents: Table
    ) -> Iterator[list[npt.NDArray[np.uint32]]]:
        """The ascending hashes of each document, a row group at a time; documents are sorted by shard and row."""
        codes = list(LANGUAGES)
        shinglers = {}
        for number in np.unique(documents["shard"]).tolist():
            mine = documents[documents["shard"] == number]
            with storage.parquet(shards[number].path) as parquet:
                start = 0
                for row_group in range(parquet.num_row_groups):
                    end = start + parquet.metadata.row_group(row_group).num_rows
                    here = mine[np.searchsorted(mine["row"], start) : np.searchsorted(mine["row"], end)]
                    if len(here):
                        text = parquet.read_row_group(row_group, columns=["text"])["text"].combine_chunks()
                        answers: list[Any] = [None] * len(here)
                        for scope in np.unique(here["scope"]).tolist():
                            if scope not in shinglers:
                                shinglers[scope] = self.sign.shingler(LANGUAGES[codes[scope]])
                            at = np.flatnonzero(here["scope"] == scope)
                            rows = pa.array(here["row"][at].astype(np.int64) - start)
                            found, bounds = shinglers[scope](texts_of(text.take(rows)))
                            for i, (a, b) in zip(at, pairwise(bounds), strict=True):
                                answers[i] = np.sort(found[a:b])
                        yield answers
                    start = end


def wanted_of(storage: Storage, group: Group, files: Sequence[DataFile]) -> npt.NDArray[np.uint64]:
    """The places of a group that are asked for, ascending."""
    found = []
    for file in opened(storage, files):
        a, b = file.find(group.first_place), file.find(group.first_place + (1 << PLACE_SHIFT))
        found.append(file.read(a, b)["place"])
    return np.unique(np.concatenate(found))


@dataclass(frozen=True, kw_only=True)
class ShinglesOpen(Shingles):
    kind: ClassVar[str] = "shingles_open"
    round: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class CountPairs(Node):
    kind: ClassVar[str] = "count_pairs"
    whole: ClassVar[bool] = True
    round: ClassVar[int] = 0

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"threshold": self.rule.threshold}

    def tasks(self, context: Context) -> list[Task]:
        ending = ROUNDS[self.round][2]
        found = context.done["verify" + ending]
        sets = context.done["shingles" + ending]
        ranked = History.of(context, self.rule).spans()
        tasks = []
        for i, record in enumerate(found):
            if record.facts["doubtful"]:
                mine = [r for r in sets if r.facts["group"] in record.facts["groups"]]
                files = [(r.facts["group"], *r.data) for r in mine]
                reads = {
                    "found": record.data[0].digest,
                    "ranked": digests(file for _, file in ranked),
                    "sets": [digests(r.data) for r in mine],
                }
                inputs = (record.data[0], ranked, files)
                tasks.append(Task(self, f"ranks-{i:05d}", reads, inputs, record.data[0].bytes))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        found, ranked, files = task.inputs
        places = Ranked.of(storage, ranked)
        sets = {group: (RunFile(storage, index), RunFile(storage, flat)) for group, index, flat in files}
        counted = 0

        def decided() -> Iterator[Table]:
            nonlocal counted
            for chunk in RunFile(storage, found).chunks(PAIRS_AT_ONCE):
                doubt = np.flatnonzero((chunk["how"] == DOUBTFUL) & (chunk["earlier"] != np.uint64(END)))
                counted += len(doubt)
                chunk["jaccard"][doubt] = _jaccards(chunk[doubt], places, sets)
                chunk["how"][doubt] = COUNTED
                stays = np.ones(len(chunk), np.bool_)
                stays[doubt] = chunk["jaccard"][doubt] >= self.rule.threshold
                yield chunk[stays]

        data = write_run(storage, f"{self.folder}/{task.key}.decided", decided(), FOUND)
        return Outcome((data,), facts={"found": found.path, "counted": counted})


@dataclass(frozen=True, kw_only=True)
class CountPairsOpen(CountPairs):
    kind: ClassVar[str] = "count_pairs_open"
    round: ClassVar[int] = 1


def _jaccards(pairs: Table, ranked: Ranked, sets: dict[int, tuple[RunFile, RunFile]]) -> npt.NDArray[np.float64]:
    from marco_data.kernels import survivors

    if not len(pairs):
        return np.empty(0)
    ranks, number = np.unique(np.concatenate([pairs["later"], pairs["earlier"]]), return_inverse=True)
    places = ranked.take(ranks)["place"]
    order = np.argsort(places)
    groups = (places[order] >> np.uint64(PLACE_SHIFT)).astype(np.int64)
    flat, lengths = [], []
    for group in np.unique(groups).tolist():
        index, hashes = sets[group]
        listed = index.read()
        mine = listed[np.searchsorted(listed["place"], places[order[groups == group]])]
        size = mine["length"].astype(np.int64)
        begin = np.cumsum(size) - size
        rows = np.repeat(mine["start"].astype(np.int64) - begin, size) + np.arange(int(size.sum()))
        flat.append(hashes.take(rows)["hash"])
        lengths.append(size)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    of = np.empty(len(order), np.int64)
    of[order] = np.arange(len(order))
    left, right = of[number[: len(pairs)]], of[number[len(pairs) :]]
    return survivors.jaccards(np.ascontiguousarray(np.concatenate(flat)), offsets, left, right)


def decided_files(context: Context, round: int) -> list[DataFile]:
    """The pairs that are alike, of every task of a round in order of rank: as counted, or as verified."""
    ending = ROUNDS[round][2]
    counted = {record.facts["found"]: record.data[0] for record in context.done["count_pairs" + ending]}
    return [counted.get(file.path, file) for file in nth(context.done["verify" + ending], 0)]
