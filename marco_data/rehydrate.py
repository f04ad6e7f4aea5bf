"""Rehydration: how often a document is repeated, by how many copies of it there were and how clean such documents are.

In: for each language and cluster size the documents that limits judged and those they dropped. Out: a weight for each
size, a whole number of repetitions. FineWeb-2's rule: a size at which limits drop at least as much as they do of the
whole language has weight 1, the one at which they drop least has `most`, those between lie on the line between;
the weights are then smoothed by the mean of five neighbours and rounded. Pure arithmetic, exact; knows no file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field

WINDOW = 5


class Rehydrate(BaseModel):
    """`max` repetitions of a document at most; sizes are taken together until they hold `documents`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max: int = Field(ge=1, le=100)
    documents: int = Field(1000, ge=1)


@dataclass(frozen=True)
class Sizes:
    """Documents in clusters of `first` to `last`: judged by the limits, and dropped by them."""

    first: int
    last: int
    documents: int
    dropped: int
    weight: int = 1

    @property
    def rate(self) -> Fraction:
        return Fraction(self.dropped, self.documents)


Tally = Mapping[int, tuple[int, int]]
"""{cluster size: (documents, dropped)} of one language, documents at least 1."""


def rehydration_weights(table: Mapping[str, Tally], config: Rehydrate) -> dict[str, tuple[Sizes, ...]]:
    """{language: sizes with their weights, ascending}; every size of the table is in one of its language's."""
    return {
        language: _weighted(list(_pooled(tally, config.documents)), config.max) for language, tally in table.items()
    }


def _pooled(tally: Tally, least: int) -> Iterator[Sizes]:
    """Ascending sizes, neighbours together until they hold `least` documents: a rate of three says nothing."""
    open_from, documents, dropped = 0, 0, 0
    held: Sizes | None = None
    for size in sorted(tally):
        open_from = open_from or size
        documents += tally[size][0]
        dropped += tally[size][1]
        if documents >= least:
            if held is not None:
                yield held
            held, open_from, documents, dropped = Sizes(open_from, size, documents, dropped), 0, 0, 0
    if documents:  # too few are left for a place of their own
        last = max(tally)
        held = (
            Sizes(open_from, last, documents, dropped)
            if held is None
            else Sizes(held.first, last, held.documents + documents, held.dropped + dropped)
        )
    if held is not None:
        yield held


def _weighted(sizes: Sequence[Sizes], most: int) -> tuple[Sizes, ...]:
    if not sizes:
        return ()
    whole = Fraction(sum(s.dropped for s in sizes), sum(s.documents for s in sizes))
    least = min(s.rate for s in sizes)
    # Where all are equal none is cleaner than another, and nothing is repeated.
    raw = [1 + (most - 1) * (whole - s.rate) / (whole - least) if s.rate < whole else Fraction(1) for s in sizes]
    half = WINDOW // 2
    smooth = [_mean(raw[max(0, i - half) : i + half + 1]) for i in range(len(raw))]
    return tuple(
        Sizes(s.first, s.last, s.documents, s.dropped, int(weight + Fraction(1, 2)))
        for s, weight in zip(sizes, smooth, strict=True)
    )


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def weight_of(sizes: Sequence[Sizes], size: int) -> int:
    """The weight of a cluster size; of one that the table does not have, that of the nearest below it."""
    return next((s.weight for s in reversed(sizes) if s.first <= size), 1)


def add_tallies(tallies: Sequence[Mapping[str, Tally]]) -> dict[str, dict[int, tuple[int, int]]]:
    """The sum of tables."""
    documents: dict[str, Counter[int]] = {}
    dropped: dict[str, Counter[int]] = {}
    for table in tallies:
        for language, tally in table.items():
            for size, (n, gone) in tally.items():
                documents.setdefault(language, Counter())[size] += n
                dropped.setdefault(language, Counter())[size] += gone
    return {
        language: {size: (sizes[size], dropped[language][size]) for size in sorted(sizes)}
        for language, sizes in sorted(documents.items())
    }
