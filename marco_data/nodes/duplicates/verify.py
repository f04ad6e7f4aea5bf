"""Which of the pairs that share a bucket are alike by their signatures, and which need their shingles compared.

In: pairs sorted by the later document, a range of ranks a task; signatures, looked up by place. Out: the pairs that are
alike or in doubt (`FOUND`), and the places whose shingles are asked for.

A document's earlier ones are known, in the first round, up to the least at which one of its buckets has more; what
comes after that waits for the second round, and so does what comes after an earlier one that is alike for certain.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.buckets import pair_files, united
from marco_data.nodes.duplicates.history import History
from marco_data.nodes.duplicates.layout import (
    BEYOND,
    DOUBTFUL,
    END,
    ESTIMATED,
    FOUND,
    MORE,
    PLACE_SHIFT,
    REQUEST,
    Group,
    Ranked,
    digests,
    opened,
    table,
)
from marco_data.run_files import RunFile, Table, changes, in_order, in_range, merged, write_run
from marco_data.step import Tools
from marco_data.storage import Storage

PAIRS_AT_ONCE = 1 << 17
"""Bounds memory: the signatures of at most twice as many documents, 120 MB of 112 hashes."""

ROUNDS = (("buckets", 1, ""), ("open_buckets", 0, "_open"))
"""The node that makes a round's pairs, how many of its files are others, and what the round's nodes end in."""


@dataclass(frozen=True, kw_only=True)
class Verify(Node):
    kind: ClassVar[str] = "verify"
    whole: ClassVar[bool] = True
    round: ClassVar[int] = 0

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        rule = self.rule
        return {"threshold": rule.threshold, "hashes": rule.hashes, "sigmas": rule.sigmas, "round": self.round}

    def tasks(self, context: Context) -> list[Task]:
        pairs_of, skip, _ = ROUNDS[self.round]
        pairs = pair_files(context.done[pairs_of], skip)
        history = History.of(context, self.rule)
        ranked, groups = history.spans(), history.groups()
        if not sum(file.rows for file in pairs):
            return []
        reads = {
            "pairs": digests(pairs),
            "ranked": digests(file for _, file in ranked),
            "signatures": digests(group.signatures for group in groups),
        }
        tasks = []
        for i, record in enumerate(context.done["ranks"]):
            if spans := record.facts["spans"]:
                start, stop = spans[0][0], sum(spans[-1])
                inputs = (pairs, ranked, groups, start, stop)
                weight = sum(512 * n for _, n in spans)
                said = {**reads, "range": [f"{start:x}", f"{stop:x}"]}
                tasks.append(Task(self, f"ranks-{i:05d}", said, inputs, weight))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        pairs, ranked, groups, start, stop = task.inputs
        parts = in_range(opened(storage, pairs), start, stop)
        places = Ranked.of(storage, ranked)
        signatures = Signatures.of(storage, groups, self.rule.hashes)
        asked: list[npt.NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        doubtful = 0

        def found() -> Iterator[Table]:
            nonlocal doubtful
            for chunk in merged(parts, ("later", "earlier"), PAIRS_AT_ONCE, whole=("later",)):
                some, wanted = self._judged(united(chunk), places, signatures)
                doubtful += int((some["how"][some["earlier"] != END] == DOUBTFUL).sum())
                asked.append(wanted)
                yield some

        stem = f"{self.folder}/{task.key}"
        judged = write_run(storage, f"{stem}.found", found(), FOUND)
        requests = np.unique(np.concatenate(asked))
        wanted = write_run(storage, f"{stem}.wanted", [table(REQUEST, len(requests), place=requests)], REQUEST)
        from_groups = np.unique(requests >> np.uint64(PLACE_SHIFT)).tolist()
        return Outcome((judged, wanted), facts={"doubtful": doubtful, "groups": from_groups})

    def _judged(self, pairs: Table, ranked: Ranked, signatures: "Signatures") -> tuple[Table, npt.NDArray[np.uint64]]:
        """FOUND of some documents' pairs, and the places of those in doubt."""
        from marco_data.kernels import survivors

        starts = np.flatnonzero(changes(pairs, ("later",)))
        group = np.cumsum(changes(pairs, ("later",))) - 1
        # The least earlier one at which a bucket has more; END where none has.
        more = np.where(pairs["flags"] & MORE, pairs["earlier"], np.uint64(END))
        last = np.minimum.reduceat(more, starts)
        cut = last != np.uint64(END)
        beyond = np.bitwise_or.reduceat(pairs["flags"], starts) & BEYOND
        laters = pairs["later"][starts]
        inside = pairs["earlier"] <= last[group]
        pairs, group = pairs[inside], group[inside]

        ranks, number = np.unique(np.concatenate([pairs["later"], pairs["earlier"]]), return_inverse=True)
        places = ranked.take(ranks)["place"]
        rows = signatures.take(places)
        n = len(pairs)
        estimate = survivors.matches(rows, number[:n], number[n:]) / self.rule.hashes
        margin = self.rule.sigmas * math.sqrt(self.rule.threshold * (1 - self.rule.threshold) / self.rule.hashes)
        alike = estimate >= self.rule.threshold + margin
        maybe = ~alike & (estimate > self.rule.threshold - margin)
        if self.round == 0:
            # What comes after the first that is alike for certain is not looked at now.
            certain = np.where(alike, pairs["earlier"], np.uint64(END))
            first = np.full(len(laters), END, np.uint64)
            np.minimum.at(first, group, certain)
            after = pairs["earlier"] > first[group]
            np.logical_or.at(cut, group[after & (alike | maybe)], True)
            alike, maybe = alike & ~after, maybe & ~after
        kept = alike | maybe
        found = table(
            FOUND,
            int(kept.sum()),
            later=pairs["later"][kept],
            earlier=pairs["earlier"][kept],
            jaccard=estimate[kept],
            how=np.where(alike, ESTIMATED, DOUBTFUL)[kept],
        )
        flags = np.where(cut, MORE, 0) | beyond
        ended = flags != 0
        ends = table(FOUND, int(ended.sum()), later=laters[ended], earlier=np.uint64(END), how=flags[ended])
        numbers = np.concatenate([number[:n][maybe], number[n:][maybe]])
        return in_order(np.concatenate([found, ends]), ("later", "earlier")), places[np.unique(numbers)]


@dataclass(frozen=True, kw_only=True)
class VerifyOpen(Verify):
    """The second round, with all of a document's earlier ones at hand."""

    kind: ClassVar[str] = "verify_open"
    round: ClassVar[int] = 1


@dataclass(frozen=True)
class Signatures:
    """Signatures by place, over all groups."""

    files: dict[int, RunFile]
    hashes: int

    @staticmethod
    def of(storage: Storage, groups: Sequence[Group], hashes: int) -> "Signatures":
        return Signatures({g.number: RunFile(storage, g.signatures) for g in groups}, hashes)

    def take(self, places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        """uint32[n, hashes] of distinct places in any order."""
        out = np.empty((len(places), self.hashes), np.uint32)
        order = np.argsort(places)
        ascending = places[order]
        groups = (ascending >> np.uint64(PLACE_SHIFT)).astype(np.int64)
        numbers = (ascending & np.uint64((1 << PLACE_SHIFT) - 1)).astype(np.int64)
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(places)], strict=True):
            out[order[start:stop]] = self.files[int(groups[start])].take(numbers[start:stop])["signature"]
        return out
