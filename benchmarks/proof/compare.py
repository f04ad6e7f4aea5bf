"""What arms say when they are laid side by side: middles, spreads and differences paired by seed.

In: results of runs. Out: figures. Knows neither how they are shown nor what was trained.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.proof.plot import Spread

Result = Mapping[str, Any]
Figure = Callable[[Mapping[str, Mapping[str, float]]], float]
"""Of the sums by language: one number."""


@dataclass(frozen=True)
class Difference:
    """One arm's figure less another's, of the seeds that both have; below 0 where the first is better."""

    spread: Spread
    wins: int
    seeds: int

    @property
    def settled(self) -> bool:
        """All seeds say the same."""
        return self.wins in (0, self.seeds)


def spread(values: Iterable[float]) -> Spread:
    found = list(values)
    return Spread(fmean(found), min(found), max(found))


def last(result: Result) -> Mapping[str, Mapping[str, float]]:
    """What a run ended with."""
    found: Mapping[str, Mapping[str, float]] = result["held_out"][-1]["languages"]
    return found


def at_the_end(results: Sequence[Result], figure: Figure) -> Spread:
    return spread(figure(last(result)) for result in results)


def over_tokens(results: Sequence[Result], figure: Figure) -> list[tuple[float, Spread]]:
    """(millions of tokens, the figure) for each checkpoint; seeds were judged at the same ones."""
    return [
        (points[0]["tokens"] / 1e6, spread(figure(point["languages"]) for point in points))
        for points in zip(*(result["held_out"] for result in results), strict=True)
    ]


def paired(ours: Sequence[Result], other: Sequence[Result], figure: Figure) -> Difference | None:
    """None where no seed has both."""
    there = {result["seed"]: figure(last(result)) for result in other}
    found = [figure(last(result)) - there[result["seed"]] for result in ours if result["seed"] in there]
    return Difference(spread(found), sum(value < 0 for value in found), len(found)) if found else None


def of_language(language: str) -> Figure:
    """Nats a token of one language."""
    return lambda said: said[language]["nats"] / said[language]["tokens"]


def tokens_to_reach(result: Result, wanted: float, figure: Figure) -> float | None:
    """The tokens of the first checkpoint at which a run is as good; None where it never is."""
    reached = (point["tokens"] for point in result["held_out"] if figure(point["languages"]) <= wanted)
    return next(reached, None)
