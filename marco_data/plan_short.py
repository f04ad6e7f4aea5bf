"""Which languages of a mixture will fall short, and what would fill them: epochs, synthesis, or a lower weight.

In: tokens expected by (language, part), a mixture and a budget. Out: a `Short` for each share that cannot be filled,
with remedies that `allocate` itself has confirmed: applied to the recipe, the shortfall is gone. Reads nothing.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from marco_data.mix import Allocation, Key, MixturePart, PartTotal, Share, allocate

LEAST = 0.001
"""Of what was requested: less than that missing is no shortfall to act on."""


@dataclass(frozen=True)
class Short:
    """A share that lacks `shortfall` tokens. Each remedy alone fills it; None: it cannot.

    `epochs` is the part's `max_epochs` that would do, `synthesis` the tokens that a model would have to write, `weight`
    the language's share within its part that can be filled (None where the part names no shares), `low` and `high` how
    short it is if as much as can be expected is there, or as little. `taken_over` are tokens of it that other languages
    of the part take instead.
    """

    language: str
    part: str
    available: int
    requested: int
    shortfall: int
    low: int
    high: int
    taken_over: int
    epochs: float | None
    synthesis: int
    weight: float | None


@dataclass(frozen=True)
class ShortPart:
    """A part that cannot fill its budget from all its languages together, and the weight at which it could."""

    part: str
    requested: int
    shortfall: int
    weight: float | None


def shortfalls(
    expected: Mapping[Key, tuple[int, int, int]],
    mixture: Mapping[str, MixturePart],
    budget: int | None,
    languages: Collection[str],
) -> tuple[Allocation, list[Short], list[ShortPart]]:
    """`expected` are tokens (expected, least, most). The allocation of what is expected, and what it lacks."""
    expected = {key: figures for key, figures in expected.items() if key[0] in languages}
    available = {key: figures[0] for key, figures in expected.items()}
    middle = allocate(available, mixture, budget, languages=languages)
    if budget is None:
        return middle, [], []
    spilled = {p.part: sum(s.spilled for s in middle.shares if s.part == p.part) for p in middle.parts}
    missing = {p.part: sum(s.shortfall for s in middle.shares if s.part == p.part) for p in middle.parts}
    found = [
        Short(
            share.language,
            share.part,
            share.available,
            share.requested,
            share.shortfall,
            _lacking(share, expected, mixture, 2),
            _lacking(share, expected, mixture, 1),
            share.shortfall * spilled[share.part] // missing[share.part],
            _epochs(share, available, mixture, budget, languages),
            _synthesis(share, mixture[share.part]),
            _weight(share, available, mixture, budget, languages),
        )
        for share in middle.shares
        if share.shortfall > LEAST * share.requested
    ]
    parts = [
        ShortPart(p.part, p.requested, p.shortfall, _part_weight(p, available, mixture, budget, languages))
        for p in middle.parts
        if p.shortfall > LEAST * p.requested
    ]
    return middle, sorted(found, key=lambda s: (-s.shortfall, s.part, s.language)), parts


def _lacking(
    share: Share, expected: Mapping[Key, tuple[int, int, int]], mixture: Mapping[str, MixturePart], n: int
) -> int:
    """How short the same request is with another of the three figures."""
    there = expected.get((share.language, share.part), (0, 0, 0))[n]
    return max(0, share.requested - int(there * mixture[share.part].max_epochs))


def _epochs(
    share: Share, available: Mapping[Key, int], mixture: Mapping[str, MixturePart], budget: int, only: Collection[str]
) -> float | None:
    """Rounds over what there is, to the next hundredth."""
    if not share.available:
        return None
    epochs = math.ceil(100 * share.requested / share.available) / 100
    changed = {**mixture, share.part: mixture[share.part].model_copy(update={"max_epochs": epochs})}
    return epochs if _left(share, available, changed, budget, only) == 0 else None


def _synthesis(share: Share, part: MixturePart) -> int:
    """Tokens written once, that are seen `max_epochs` times like the others; a token more for each rounding down."""
    epochs = part.max_epochs
    return max(0, math.ceil(share.requested / epochs) - share.available + 1)


def _weight(
    share: Share, available: Mapping[Key, int], mixture: Mapping[str, MixturePart], budget: int, only: Collection[str]
) -> float | None:
    """The language's share of its part at which what there is fills it; the others' stay as they are written."""
    part = mixture[share.part]
    if part.languages is None or not share.available:
        return None
    total = sum(n for code, n in part.languages.items() if code in only)
    others = total - part.languages[share.language]
    whole = share.requested * total / part.languages[share.language]
    cap = int(share.available * part.max_epochs)
    if others <= 0 or cap >= whole:
        return None
    weight = _down(cap * others / (whole - cap))
    if weight <= 0:
        return None
    changed = {**mixture, share.part: part.model_copy(update={"languages": {**part.languages, share.language: weight}})}
    return weight if _left(share, available, changed, budget, only) == 0 else None


def _part_weight(
    part: PartTotal,
    available: Mapping[Key, int],
    mixture: Mapping[str, MixturePart],
    budget: int,
    only: Collection[str],
) -> float | None:
    """The part's weight at which its languages fill it together; the others' stay as they are written."""
    others = sum(p.weight for name, p in mixture.items() if name != part.part)
    if not part.target or not others or part.target >= budget:
        return None
    weight = _down(part.target * others / (budget - part.target))
    if weight <= 0:
        return None
    changed = {**mixture, part.part: mixture[part.part].model_copy(update={"weight": weight})}
    after = next(p for p in allocate(available, changed, budget, languages=only).parts if p.part == part.part)
    return weight if after.shortfall <= LEAST * after.requested else None


def _left(
    share: Share, available: Mapping[Key, int], mixture: Mapping[str, MixturePart], budget: int, only: Collection[str]
) -> int:
    """How short the same share is by another mixture."""
    return allocate(available, mixture, budget, languages=only).by_key()[share.language, share.part].shortfall


def _down(number: float) -> float:
    """Three digits, rounded down."""
    if number <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(number)) - 2)
    return float(f"{math.floor(number / unit) * unit:.3g}")
