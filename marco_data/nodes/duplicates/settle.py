"""The walk by priority: who stays, and what is said of the others.

In: pairs that are alike, sorted by the later document; a task for some whole languages. `Settle` walks the first round
and leaves which documents are open and gone (`states`); `SettleOpen` the second, after which none is open, and writes a
line for every document of which anything is to be said, sorted by place.

Memory: five bytes a document of the languages of one task. It is the one thing that no partition bounds: a language of
1e9 documents takes 5 GB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import COPIED, EXACT, NEAR, DropDuplicates
from marco_data.languages import LANGUAGES
from marco_data.nodes.duplicates.history import History, ranked_by_language
from marco_data.nodes.duplicates.layout import (
    AGAIN,
    BEYOND,
    COPY,
    COUNTED,
    DROPPED_BY,
    END,
    LINE,
    MORE,
    PLACE_SHIFT,
    SCOPE_SHIFT,
    STATE,
    Ranked,
    digests,
    nth,
    opened,
    rank_of,
    table,
)
from marco_data.nodes.duplicates.ranks import taken_out
from marco_data.nodes.duplicates.shingles import decided_files
from marco_data.nodes.duplicates.states import NUMBER, packed
from marco_data.records import Record
from marco_data.run_files import RunFile, SortedRuns, Table, in_order, in_range, merged, stretches, write_run
from marco_data.step import Tools
from marco_data.steps.remove import CopiesRule
from marco_data.storage import DataFile, Storage

PAIRS_AT_ONCE = 1 << 20
WINDOW = 1 << 20
"""Documents at a time while lines are written."""
LINES_SORTED = 1 << 21
LATE = np.dtype([("rank", "<u8")])


@dataclass(frozen=True, kw_only=True)
class Settle(Node):
    kind: ClassVar[str] = "settle"
    whole: ClassVar[bool] = True

    rule: DropDuplicates
    copies: CopiesRule = "report"

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        history = History.of(context, self.rule)
        first = taken_out(context, self.rule, self.copies)
        languages = sorted(ranked_by_language(history.all("ranks")).items())
        decided, gone = decided_files(context, 0), gone_files(history.earlier("settle"), history.earlier("settle_open"))
        reads: dict[str, Any] = {"pairs": digests(decided), "gone": digests(gone), **_said(first)}
        return [
            Task(
                self,
                f"languages-{i:03d}",
                {**reads, "languages": [list(x) for x in languages[a:b]]},
                (decided, gone, languages[a:b], first),
                sum(n for _, n in languages[a:b]),
            )
            for i, (a, b) in enumerate(stretches([n for _, n in languages], self.rule.partition))
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        from marco_data.kernels import survivors

        decided, before, languages, first = task.inputs
        walk = Walk.over(languages, first)
        walk.drop(opened(storage, before))
        late: list[npt.NDArray[np.uint64]] = [np.empty(0, np.uint64)]

        def dropped() -> Iterator[Table]:
            for chunk in walk.chunks(opened(storage, decided)):
                yield walk.settle(chunk)
                beyond = chunk[(chunk["earlier"] == np.uint64(END)) & (chunk["how"] & BEYOND != 0)]["later"]
                late.append(beyond[walk.state[walk.local(beyond)] != survivors.DROPPED])

        stem = f"{self.folder}/{task.key}"
        gone = write_run(storage, f"{stem}.dropped", dropped(), DROPPED_BY)
        ranks = np.concatenate(late)
        after = write_run(storage, f"{stem}.late", [table(LATE, len(ranks), rank=ranks)], LATE)
        states = write_run(storage, f"{stem}.states", [walk.packed()], STATE)
        facts = {"spans": [list(x) for x in languages], "open": int((walk.state == survivors.OPEN).sum())}
        return Outcome((states, gone, after), facts=facts)


def _said(first: list[tuple[int, int]]) -> dict[str, Any]:
    """What a task reads of the documents that come first because they are taken out; without any it says nothing."""
    return {"first": [list(x) for x in first]} if first else {}


def gone_files(settled: Sequence[Record], settled_open: Sequence[Record]) -> list[DataFile]:
    """Who was dropped in either round."""
    return nth(settled, 1) + nth(settled_open, 0)


@dataclass
class Walk:
    """The states of all documents of some languages, by number."""

    languages: list[tuple[int, int]]
    bases: npt.NDArray[np.int64]
    state: npt.NDArray[np.uint8]
    first: list[tuple[int, int]]

    @staticmethod
    def over(languages: list[tuple[int, int]], first: list[tuple[int, int]]) -> "Walk":
        bases = np.full(len(LANGUAGES) + 1, -1, np.int64)
        at = 0
        for scope, n in languages:
            bases[scope] = at
            at += n
        return Walk(languages, bases, np.zeros(at, np.uint8), first)

    @property
    def ranks(self) -> tuple[int, int]:
        return rank_of(self.languages[0][0], 0), rank_of(self.languages[-1][0] + 1, 0)

    def local(self, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        return self.bases[(ranks >> np.uint64(SCOPE_SHIFT)).astype(np.int64)] + (ranks & NUMBER).astype(np.int64)

    def chunks(self, files: list[RunFile]) -> Iterator[Table]:
        """The pairs of these languages in order, all of a document together."""
        parts = in_range(files, *self.ranks)
        return merged(parts, ("later", "earlier"), PAIRS_AT_ONCE, whole=("later",))

    def is_taken_out(self, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Whether documents are listed by `remove`, and first: none of them drops another, so all find their copies."""
        found = np.zeros(len(ranks), np.bool_)
        for start, n in self.first:
            found |= (ranks >= np.uint64(start)) & (ranks < np.uint64(start + n))
        return found

    def drop(self, files: list[RunFile]) -> None:
        """Mark what earlier walks have dropped."""
        from marco_data.kernels import survivors

        for file, a, b in in_range(files, *self.ranks):
            for chunk in file.chunks(PAIRS_AT_ONCE, a, b):
                self.state[self.local(chunk["rank"])] = survivors.DROPPED

    def settle(self, pairs: Table) -> Table:
        """DROPPED_BY of the documents that these pairs drop."""
        from marco_data.kernels import survivors

        pairs = pairs[~self.is_taken_out(pairs["later"])]
        end = pairs["earlier"] == np.uint64(END)
        earlier = np.full(len(pairs), -1, np.int64)
        earlier[~end] = self.local(pairs["earlier"][~end])
        more = end & (pairs["how"] & MORE != 0)
        chosen = np.empty(len(pairs), np.int64)
        n = survivors.settle(self.local(pairs["later"]), earlier, more, self.state, chosen)
        by = pairs[chosen[:n]]
        return table(
            DROPPED_BY, n, rank=by["later"], survivor=by["earlier"], jaccard=by["jaccard"], counted=by["how"] == COUNTED
        )

    def packed(self) -> Table:
        from marco_data.kernels import survivors

        parts = [np.empty(0, STATE)]
        for scope, n in self.languages:
            mine = self.state[self.bases[scope] : self.bases[scope] + n]
            parts.append(packed(mine == survivors.OPEN, mine == survivors.DROPPED))
        return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class SettleOpen(Node):
    """The second round's walk, and the lines."""

    kind: ClassVar[str] = "settle_open"
    whole: ClassVar[bool] = True

    rule: DropDuplicates
    copies: CopiesRule = "report"

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        history = History.of(context, self.rule)
        first = taken_out(context, self.rule, self.copies)
        before = Before(
            history.spans(),
            nth(history.earlier("ranks"), 1),
            nth(history.all("ranks"), 2) + nth(history.earlier("settle_open"), 1),
            nth(context.done["same_texts"], 1),
            gone_files(history.earlier("settle"), history.earlier("settle_open")),
            history.first_group << PLACE_SHIFT,
        )
        decided = decided_files(context, 1)
        reads: dict[str, Any] = {"pairs": digests(decided), **before.reads(), **_said(first)}
        tasks = []
        for i, record in enumerate(context.done["settle"]):
            languages = [tuple(span) for span in record.facts["spans"]]
            inputs = (decided, before, languages, first, record.data)
            weight = sum(n for _, n in languages)
            tasks.append(Task(self, f"languages-{i:03d}", {**reads, "settled": digests(record.data)}, inputs, weight))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        from marco_data.kernels import survivors

        decided, before, languages, first, (_, dropped, late) = task.inputs
        walk = Walk.over(languages, first)
        gone = opened(storage, [*before.gone, dropped])
        walk.drop(gone)
        # All others are kept until the second round drops them: whatever is open has all its pairs in it.
        stem = f"{self.folder}/{task.key}"
        second = write_run(
            storage, f"{stem}.dropped", (walk.settle(c) for c in walk.chunks(opened(storage, decided))), DROPPED_BY
        )
        writer = SortedRuns(storage, f"{stem}.lines", LINE, ("place",), LINES_SORTED)
        again = _again(storage, before, walk)
        followed = write_run(storage, f"{stem}.again", [again], COPY)
        copies = Copies(opened(storage, before.copies), again)
        for lines in self._lines(walk, [*gone, RunFile(storage, second)], Ranked.of(storage, before.ranked), copies):
            writer.add(lines[lines["place"] >= before.new])
        missed = RunFile(storage, late).read()["rank"]
        facts = {"not_compared": int((walk.state[walk.local(missed)] == survivors.KEPT).sum())}
        return Outcome((second, followed, *writer.finish()), facts=facts)

    def _lines(self, walk: Walk, gone: list[RunFile], ranked: Ranked, copies: "Copies") -> Iterator[Table]:
        """LINE of every document of which anything is to be said, in order of rank."""
        from marco_data.kernels import survivors

        sizes = np.ones(len(walk.state), np.int32)
        for start, stop in windows(walk.languages):
            dropped, copied = _between(gone, start, stop), copies.between(start, stop)
            np.add.at(sizes, walk.local(dropped["survivor"]), 1)
            np.add.at(sizes, walk.local(_followed(copied["rank"], dropped)[0]), 1)
        for start, stop in windows(walk.languages):
            dropped, copied = _between(gone, start, stop), copies.between(start, stop)
            own = ranked.take(np.arange(start, stop, dtype=np.uint64))
            survivor = self._named(ranked, dropped["survivor"])
            yield table(
                LINE,
                len(dropped),
                place=own["place"][(dropped["rank"] - np.uint64(start)).astype(np.int64)],
                reason=np.where(walk.is_taken_out(dropped["survivor"]), COPIED, NEAR),
                twin=survivor,
                jaccard=dropped["jaccard"],
                counted=dropped["counted"],
                size=sizes[walk.local(dropped["survivor"])],
            )
            named, by = _followed(copied["rank"], dropped)
            near = by >= 0
            jaccard, counted = np.ones(len(copied), np.float32), np.ones(len(copied), np.uint8)
            jaccard[near], counted[near] = dropped["jaccard"][by[near]], dropped["counted"][by[near]]
            yield table(
                LINE,
                len(copied),
                place=copied["place"],
                reason=np.where(walk.is_taken_out(named), COPIED, np.where(near, NEAR, EXACT)),
                twin=self._named(ranked, named),
                jaccard=jaccard,
                counted=counted,
                size=sizes[walk.local(named)],
            )
            ranks = np.arange(start, stop, dtype=np.uint64)
            local = walk.local(ranks)
            followed = (walk.state[local] == survivors.KEPT) & (sizes[local] > 1)
            yield table(
                LINE,
                int(followed.sum()),
                place=own["place"][followed],
                jaccard=np.nan,
                size=sizes[local][followed],
            )

    def _named(self, ranked: Ranked, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """uint64[n, 2]: the ids of documents of these ranks, in any order."""
        distinct, number = np.unique(ranks, return_inverse=True)
        return ranked.take(distinct)["id"][number].reshape(-1, 2)


def windows(languages: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges of ranks of at most WINDOW documents, language by language."""
    for scope, n in languages:
        for at in range(0, n, WINDOW):
            yield rank_of(scope, at), rank_of(scope, min(n, at + WINDOW))


@dataclass(frozen=True)
class Before:
    """What the lines are made of beside the second round's pairs; files of all runs unless it says otherwise."""

    ranked: list[Any]
    placed: list[DataFile]  # of earlier runs
    copies: list[DataFile]
    again: list[DataFile]  # of this run
    gone: list[DataFile]  # of earlier runs
    new: int  # the first place of this run

    def reads(self) -> dict[str, Any]:
        names = ("placed", "copies", "again", "gone")
        ranked = digests(f for _, f in self.ranked)
        return {"ranked": ranked, **{name: digests(getattr(self, name)) for name in names}}


@dataclass(frozen=True)
class Copies:
    """Copies by rank: of documents of their own run, and of earlier ones."""

    files: list[RunFile]
    again: Table

    def between(self, start: int, stop: int) -> Table:
        a, b = np.searchsorted(self.again["rank"], np.array([start, stop], np.uint64))
        return np.concatenate([self.again[a:b], *(f.read(x, y) for f, x, y in in_range(self.files, start, stop))])


def _again(storage: Storage, before: Before, walk: Walk) -> Table:
    """COPY of this run's copies of earlier documents in the walk's languages, by rank."""
    found = [np.empty(0, COPY)]
    listed = np.concatenate([np.empty(0, AGAIN), *(f.read() for f in opened(storage, before.again))])
    listed = in_order(listed, ("original",))
    for file in opened(storage, before.placed if len(listed) else []):
        for chunk in file.chunks(PAIRS_AT_ONCE):
            at = np.minimum(np.searchsorted(chunk["place"], listed["original"]), len(chunk) - 1)
            mine = chunk["place"][at] == listed["original"]
            found.append(table(COPY, int(mine.sum()), rank=chunk["rank"][at[mine]], place=listed["place"][mine]))
    copies = in_order(np.concatenate(found), ("rank", "place"))
    a, b = np.searchsorted(copies["rank"], np.array(walk.ranks, np.uint64))
    return copies[a:b]


def _between(gone: list[RunFile], start: int, stop: int) -> Table:
    """DROPPED_BY of a range of ranks, ascending."""
    parts = [f.read(a, b) for f, a, b in in_range(gone, start, stop)]
    return in_order(np.concatenate([np.empty(0, DROPPED_BY), *parts]), ("rank",))


def _followed(ranks: npt.NDArray[np.uint64], dropped: Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The kept document that each of these ranks stands for, and its index in `dropped`; -1: it is kept itself."""
    at = np.searchsorted(dropped["rank"], ranks)
    inside = np.minimum(at, max(0, len(dropped) - 1))
    if not len(dropped):
        return ranks, np.full(len(ranks), -1, np.int64)
    by = np.where(dropped["rank"][inside] == ranks, inside, -1)
    return np.where(by >= 0, dropped["survivor"][inside], ranks), by
