"""Topping up: which seeds each numbered round asks about, and when a language has had enough.

In: what is wanted of each language, its supply of seeds, the spending limits and the results of the rounds that are
finished. Out: the next round's interval of seeds for each language, or why there is none. Pure: knows no seed, no
generator and no file.

A seed has a place in [0, SPACE), by the hash of its id; a round takes the seeds of an interval [lo, hi), and a
language's intervals follow on each other from 0. So what was asked is always the seeds below one place, a finished
round never changes, and after it a higher target or limit only asks more.

- The first round of a language is a pilot: just enough to measure what a seed yields and costs, whatever is wanted.
- Each later one is sized by the yield measured so far and a margin that doubles from round to round; none is more than
  GROWTH times what was asked before, and the LAST takes all that is left.
- With limits a round is cut, all languages by the same factor, so that what it is expected to cost fits in what is
  left. What the pilot costs is not known before, so it is run in any case.
- Every seed once, without limits, is one round.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from marco_data.errors import RecipeError

SPACE = 2**32

TARGET, SEEDS, NO_YIELD, MAX_GPU_HOURS, MAX_COST = "target", "seeds", "no_yield", "max_gpu_hours", "max_cost"
"""Why a language is asked nothing more."""

PILOT = 64  # seeds; where half of them give a document, that share is known to 6 points
GROWTH = 32  # times what was asked before: after 2,112 seeds it is known to 1.1 points, and what follows fits
NO_YIELD_AFTER = 256  # nothing accepted of so many: with 95 % confidence fewer than 1.2 % ever would be
MARGIN = Fraction(1, 10)
LAST = 12  # the round that takes all seeds that are left, whatever the yield
LEFTOVER = Fraction(1, 50)  # of a limit: less than that is not worth another round


K = TypeVar("K", bound=Hashable)
"""What is topped up by itself: a language, or a language of one entry of the recipe."""


@dataclass(frozen=True)
class Demand:
    """What is wanted of one language: `target` accepted tokens, or None for every seed once.

    `seeds` counts its candidates in wanted documents (seeds times documents of each), as `Result.requested` does.
    `share` is how much of them may be asked about at all.
    """

    seeds: int
    target: int | None = None
    share: Fraction = Fraction(1)

    @property
    def end(self) -> int:
        """The place before which seeds may be taken."""
        return int(SPACE * self.share)


@dataclass(frozen=True)
class Interval:
    """The seeds whose place is in [lo, hi)."""

    lo: int
    hi: int

    def __contains__(self, seed_place: int) -> bool:
        return self.lo <= seed_place < self.hi


@dataclass(frozen=True)
class Result:
    """What one language's part of a finished round came to. `cost` in US dollars, None where no price is known."""

    interval: Interval
    requested: int
    accepted_tokens: int
    gpu_seconds: float = 0.0
    cost: float | None = None


@dataclass(frozen=True)
class SpendingLimits:
    """What may be spent by all languages and rounds together; None: no limit."""

    max_gpu_hours: float | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value < float("inf"):
                raise RecipeError(f"--{name.replace('_', '-')} {value} is not an amount", hint="0 or more, or leave it")


@dataclass(frozen=True)
class Round(Generic[K]):
    """What is asked next: `intervals` by language, and why the others are not in it (`ended`).

    A round without intervals is none: the languages have all ended.
    """

    number: int
    intervals: Mapping[K, Interval]
    ended: Mapping[K, str]


def next_round(demands: Mapping[K, Demand], finished: Sequence[Mapping[K, Result]], limits: SpendingLimits) -> Round[K]:
    """The round after the finished ones, which are given in order. Raises RecipeError for a limit nobody can count."""
    histories = {key: _History([results[key] for results in finished if key in results]) for key in demands}
    every = _History([result for results in finished for result in results.values()])
    limited = limits != SpendingLimits()
    ended: dict[K, str] = {}
    wanted: dict[K, int] = {}
    for key, demand in demands.items():
        reason = _ended(demand, histories[key])
        if reason is None:
            wanted[key] = _wanted(demand, histories[key], limited=limited)
        else:
            ended[key] = reason
    asked = [(seeds, histories[key] if histories[key].requested else every) for key, seeds in wanted.items()]
    scale, binding = _fit(asked, every, limits)
    intervals: dict[K, Interval] = {}
    for key, seeds in wanted.items():
        granted = int(seeds * scale)
        if granted:
            intervals[key] = _interval(demands[key], histories[key], granted)
        else:
            ended[key] = binding
    return Round(len(finished) + 1, intervals, ended)


class _History:
    """The sums of finished results; of one language also how far they reach."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.requested = sum(result.requested for result in results)
        self.tokens = sum(result.accepted_tokens for result in results)
        self.priced = all(result.cost is not None for result in results if result.requested)

    def gpu_hours(self) -> Fraction:
        return sum((Fraction(result.gpu_seconds) for result in self.results), Fraction()) / 3600

    def cost(self) -> Fraction:
        return sum((Fraction(result.cost or 0) for result in self.results), Fraction())

    @property
    def reached(self) -> int:
        """The place before which everything was asked."""
        hi = 0
        for result in self.results:
            assert result.interval.lo == hi, "a language's rounds follow on each other"
            hi = result.interval.hi
        return hi


def _ended(demand: Demand, history: _History) -> str | None:
    if demand.target is not None and history.tokens >= demand.target:
        return TARGET
    if history.reached >= demand.end or not demand.seeds:
        return SEEDS
    return NO_YIELD if not history.tokens and history.requested >= NO_YIELD_AFTER else None


def _left(demand: Demand, history: _History) -> int:
    """Seeds that may still be asked about; their number in an interval is known on average only."""
    return max(1, int(demand.seeds * demand.share) - history.requested)


def _wanted(demand: Demand, history: _History, *, limited: bool) -> int:
    """How many seeds the next round should ask about, were there no limits."""
    left = _left(demand, history)
    if demand.target is None and not limited:
        return left
    if not history.requested:
        return min(left, PILOT)
    if not history.tokens:
        return min(left, NO_YIELD_AFTER)
    number = len(history.results) + 1
    if number >= LAST:
        return left
    most = min(left, GROWTH * history.requested)
    if demand.target is None:
        return most
    missing = demand.target - history.tokens
    margin = 1 + MARGIN * 2 ** (number - 2)
    return min(most, _ceil(missing * margin * history.requested / history.tokens))


def _fit(asked: Sequence[tuple[int, _History]], every: _History, limits: SpendingLimits) -> tuple[Fraction, str]:
    """The factor by which all seeds of a round are cut, and the limit that demands it.

    A round is sized MARGIN below what is left, since its cost is as uncertain as its yield.
    """
    if limits.max_cost is not None and not every.priced:
        raise RecipeError(
            "--max-cost cannot be kept: a model's answers have no price",
            hint="give its pool a `price` or a `gpu_price`, or use --max-gpu-hours",
        )
    scale, binding = Fraction(1), ""
    for name, limit, spent in (
        (MAX_GPU_HOURS, limits.max_gpu_hours, _History.gpu_hours),
        (MAX_COST, limits.max_cost, _History.cost),
    ):
        if limit is None:
            continue
        cost = sum((seeds * spent(past) / past.requested for seeds, past in asked if past.requested), Fraction())
        left = Fraction(limit) - spent(every)
        if left <= Fraction(limit) * LEFTOVER:
            fits = Fraction()
        else:
            fits = left / (cost * (1 + MARGIN)) if cost else Fraction(1)
        if fits < scale:
            scale, binding = fits, name
    return scale, binding


def _interval(demand: Demand, history: _History, seeds: int) -> Interval:
    """From where the last round ended on, as wide as so many of the seeds that are left need."""
    lo = history.reached
    left = _left(demand, history)
    width = demand.end - lo if seeds >= left else _ceil(Fraction((demand.end - lo) * seeds, left))
    return Interval(lo, lo + width)


def _ceil(number: Fraction) -> int:
    return -int(-number // 1)
