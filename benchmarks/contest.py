"""How a contest is held: every contestant on the same rounds, turn about, medians and ratios with their spread.

In: contestants. Out: a `Result` each: what it did a second in every round, and how many times as fast ours was in the
same round. Reading a round into the form a contestant wants (batches, documents) is not timed; what is in the
part's name is. Each has run once on other text before the first round, so that compilation and loading are not in it.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.corpus import Round, rounds, size

Thunk = Callable[[], Any]

SHORTEST = 0.1
"""Seconds: work that is done sooner is repeated, or the clock and the neighbours would be what is measured."""


@dataclass(frozen=True)
class Contestant:
    """`prepare` takes a round and gives what is timed. `package` names the distribution whose version is shown."""

    name: str
    package: str
    prepare: Callable[[Round], Thunk]


@dataclass(frozen=True)
class Contest:
    """One part of the pass. `once`: the work is never repeated on the same text, because it remembers text."""

    part: str
    megabytes: float
    contestants: Callable[[], list[Contestant]]
    language: str | None = None
    once: bool = False
    per_document: bool = False
    all_cores: bool = False

    @property
    def unit(self) -> str:
        return "1,000 documents/s" if self.per_document else "MB/s"


@dataclass(frozen=True)
class Result:
    """What one contestant did. `speeds` in the contest's unit, one a round; `failed` says why there are none."""

    part: str
    name: str
    package: str
    unit: str
    speeds: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    failed: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)


def hold(contest: Contest, *, repeats: int, scale: float) -> list[Result]:
    """The contest's results, ours first."""
    warm, *timed = rounds(repeats + 1, int(contest.megabytes * scale * 1e6), language=contest.language)
    contestants, failures = [], {}
    for contestant in contest.contestants():
        try:
            contestant.prepare(warm[: max(1, len(warm) // 4)])()
        except Exception as error:  # a peer that is not there, or cannot: the table says so
            failures[contestant.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        contestants.append(contestant)
    running = [c for c in contestants if c.name not in failures]
    speeds: dict[str, list[float]] = {c.name: [] for c in running}
    for number, texts in enumerate(timed):
        amount = len(texts) / 1e3 if contest.per_document else size(texts) / 1e6
        turn = number % max(1, len(running))
        for contestant in running[turn:] + running[:turn]:
            seconds = _seconds(contestant.prepare(texts), once=contest.once, wall=contest.all_cores)
            speeds[contestant.name].append(amount / seconds)
    return [_result(contest, c, speeds, contestants[0].name, failures.get(c.name, "")) for c in contestants]


def _result(contest: Contest, one: Contestant, speeds: dict[str, list[float]], ours: str, failed: str) -> Result:
    mine = speeds.get(one.name, [])
    ratios = [a / b for a, b in zip(speeds.get(ours, []), mine, strict=False)]
    return Result(contest.part, one.name, one.package, contest.unit, tuple(mine), tuple(ratios), failed)


def _seconds(work: Thunk, *, once: bool, wall: bool) -> float:
    """Of one go; several goes are averaged where one is too short to time.

    On one core that is processor time, or a machine shared with others would be measured with us; what waits for
    others to finish does not happen here. Threads together are measured by the wall clock.
    """
    clock = time.perf_counter if wall else time.process_time
    gc.collect()
    goes = 0
    start = clock()
    while True:
        work()
        goes += 1
        spent = clock() - start
        if once or spent >= SHORTEST:
            return spent / goes


def spread(values: Sequence[float]) -> str:
    """Median, least and most, to three digits."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"
