"""How a contest is held: every contestant on the same rounds, turn about, medians and ratios with their spread.

In: contestants. Out: a `Result` each: what it did a second in every round, and how many times as fast ours was in the
same round. Reading a round into the form a contestant wants (batches, documents) is not timed; what is in the
part's name is. Each has run once on other text before the first round, so that compilation and loading are not in it.
A slow contestant gets the first documents of the round only, as many as `megabytes` says.
"""

import importlib.metadata
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from benchmarks.corpus import Round, first, rounds, size
from benchmarks.stopwatch import seconds

Thunk = Callable[[], Any]

WARM = 0.1
"""What everybody runs on before the first round, as a share of a round."""


class CannotRun(Exception):
    """A contestant that cannot take part, and why, in a sentence."""


class Contestant(Protocol):
    """Anyone who can say how long a round takes.

    `package` names the distribution whose version is shown. `megabytes`: what it gets of a round; None: all of it.
    """

    @property
    def name(self) -> str: ...

    @property
    def package(self) -> str: ...

    @property
    def megabytes(self) -> float | None: ...

    def version(self) -> str | None: ...

    def seconds(self, texts: Round, *, once: bool, wall: bool) -> float: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Here:
    """A contestant in this process. `prepare` takes a round and gives what is timed."""

    name: str
    package: str
    prepare: Callable[[Round], Thunk]
    megabytes: float | None = None

    def version(self) -> str | None:
        return version_here(self.package)

    def seconds(self, texts: Round, *, once: bool, wall: bool) -> float:
        return seconds(self.prepare(texts), once=once, wall=wall)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Contest:
    """One part of the pass, rounds of `megabytes`. `once`: the work is never repeated on the same text.

    `language`, `longer_than` (bytes): which documents.
    """

    part: str
    megabytes: float
    contestants: Callable[[], Sequence[Contestant]]
    language: str | None = None
    longer_than: int = 0
    once: bool = False
    per_document: bool = False
    all_cores: bool = False

    @property
    def unit(self) -> str:
        return "1,000 documents/s" if self.per_document else "MB/s"


@dataclass(frozen=True)
class Result:
    """What one contestant did. `speeds` in the contest's unit, one a round; `failed` says why there are none.

    `megabytes` is the text of a round, `version` that of `package`.
    """

    part: str
    name: str
    package: str
    unit: str
    version: str | None = None
    megabytes: float = 0.0
    speeds: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    failed: str = ""


def hold(contest: Contest, *, repeats: int, scale: float) -> list[Result]:
    """The contest's results, ours first."""
    length = contest.megabytes * scale
    some = partial(rounds, language=contest.language, longer_than=contest.longer_than)
    (warm,) = some(1, int(length * WARM * 1e6))
    timed = some(repeats, int(length * 1e6), after=int(length * WARM * 1e6))
    with ExitStack() as stack:
        contestants = contest.contestants()
        for one in contestants:
            stack.callback(one.close)
        gets = {one.name: min(length, (one.megabytes or contest.megabytes) * scale) for one in contestants}
        failures = {one.name: _warmed(one, first(warm, gets[one.name] * WARM), contest) for one in contestants}
        running = [one for one in contestants if not failures[one.name]]
        speeds: dict[str, list[float]] = {one.name: [] for one in contestants}
        for number, texts in enumerate(timed):
            turn = number % max(1, len(running))
            for one in running[turn:] + running[:turn]:
                mine = first(texts, gets[one.name])
                amount = len(mine) / 1e3 if contest.per_document else size(mine) / 1e6
                speeds[one.name].append(amount / one.seconds(mine, once=contest.once, wall=contest.all_cores))
        ours = speeds[contestants[0].name]
        return [
            Result(
                part=contest.part,
                name=one.name,
                package=one.package,
                unit=contest.unit,
                version=one.version(),
                megabytes=gets[one.name],
                speeds=tuple(speeds[one.name]),
                ratios=tuple(a / b for a, b in zip(ours, speeds[one.name], strict=False)),
                failed=failures[one.name],
            )
            for one in contestants
        ]


def _warmed(one: Contestant, texts: Round, contest: Contest) -> str:
    """Runs it once; why it cannot run, empty if it can: a peer may be missing or broken, and the table says so."""
    try:
        one.seconds(texts, once=True, wall=contest.all_cores)
    except CannotRun as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def version_here(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def spread(values: Sequence[float]) -> str:
    """Median, least and most, to three digits."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"
