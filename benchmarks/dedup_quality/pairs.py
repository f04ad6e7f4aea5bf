"""Pairs of known similarity through the product: how many of each bin of exact Jaccard are removed.

A pair is removed if one of its two documents is dropped and names the other, or both name the same one.
"""

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.dedup_quality.edits import Pair, pairs
from benchmarks.dedup_quality.judge import exact, exact_shingles, judge
from benchmarks.dedup_quality.texts import Tokens
from marco_data.dedup import DropDuplicates
from marco_data.languages import Language

EDGES = (0.30, 0.40, 0.50, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95, 1.01)
THRESHOLD = DropDuplicates().threshold


class Goal(NamedTuple):
    """What is asked of pairs of a similarity in [low, high)."""

    low: float
    high: float
    least: float
    most: float


GOALS = (Goal(0.0, 0.75, 0.0, 0.005), Goal(0.80, 0.85, 0.93, 1.0), Goal(0.85, 1.01, 0.99, 1.0))


class Told(NamedTuple):
    """A planted pair and what became of it."""

    script: str
    kind: str
    jaccard: float
    removed: bool
    shingles: int  # of the left one


class Removal(NamedTuple):
    """A document that was dropped, planted or not: its similarity to the one it names."""

    script: str
    jaccard: float


def measure(
    script: str,
    found: Sequence[Tokens],
    language: Language,
    wanted: int,
    seed: int,
    rule: DropDuplicates | None = None,
) -> tuple[list[Told], list[Removal]]:
    """Rounds of pairs from the articles until there are `wanted`; each round is one corpus."""
    chance = random.Random(f"{seed} {language.code}")
    told: list[Told] = []
    removals: list[Removal] = []
    while len(told) < wanted:
        chance.shuffle(mixed := list(found))
        planted = pairs(mixed, language, chance)
        texts = [text for pair in planted for text in (pair.left, pair.right)]
        verdicts = judge(texts, language, rule=rule, seed=chance.randrange(1 << 30))
        named = verdicts.dup_of.tolist()
        for i, other in enumerate(named):
            if other >= 0:
                removals.append(Removal(script, exact(texts[i], texts[other], language)))
        told += [_told(script, pair, language, named, 2 * n) for n, pair in enumerate(planted)]
    return told, removals


def _told(script: str, pair: Pair, language: Language, named: list[int], at: int) -> Told:
    left, right = named[at], named[at + 1]
    removed = left == at + 1 or right == at or (left >= 0 and left == right)
    shingles = len(exact_shingles(pair.left, language))
    return Told(script, pair.kind, exact(pair.left, pair.right, language), removed, shingles)


class Share(NamedTuple):
    """`hits` of `of`, with the interval that holds the true share in 95 of 100 cases (Wilson)."""

    hits: int
    of: int

    @property
    def share(self) -> float:
        return self.hits / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        z, n, p = 1.96, self.of, self.share
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def removed_in(told: Iterable[Told], low: float, high: float) -> Share:
    """Of the pairs of a similarity in [low, high), those removed."""
    inside = [one.removed for one in told if low <= one.jaccard < high]
    return Share(sum(inside), len(inside))


def missed(told: Sequence[Told]) -> list[str]:
    """The goals that these pairs do not reach."""
    out = []
    for goal in GOALS:
        found = removed_in(told, goal.low, goal.high)
        if found.of and not goal.least <= found.share <= goal.most:
            out.append(f"{goal.low:.2f}-{goal.high:.2f}: {found.hits} of {found.of} removed")
    return out


def precision(removals: Sequence[Removal], least: float = THRESHOLD) -> Share:
    """Of the documents removed, those that are as similar to the one they name as they have to be."""
    return Share(sum(one.jaccard >= least for one in removals), len(removals))
