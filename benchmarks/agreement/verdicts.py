"""Verdicts by figures and limits; limits for our words from figures; limits that let more clean prose through.

In: a `Measured`. Out: which document breaks which rule, the rows of `limits_for_our_words.csv`, and overrides for a
recipe. What is derived is derived on one half of the reference prose, so that the other can tell whether it holds.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.agreement.figures import Flags, Measured
from benchmarks.agreement.oracle import PARAGRAPH_LIMITS, Figures
from benchmarks.agreement.texts import DERIVED, HELD_OUT
from marco_data.languages.match_limits import AGREES, DIFFERS, agreement, beyond, matched
from marco_data.steps.apply_limits import RULES, Limits
from marco_data.steps.measure_quality import COUNTS, METRICS

DROPS_TOO_MUCH = 0.1
LET_THROUGH = 0.95


@dataclass(frozen=True)
class Row:
    """One limit that our words have instead of FineWeb-2's. Shares are of the documents it was derived on."""

    language: str
    limit: str
    value: float | None
    fineweb2: float
    documents: int
    dropped_by_theirs: float
    dropped_by_ours: float  # FineWeb-2's limit on our figures
    dropped: float  # `value` on our figures
    agreed: float
    agrees: float


def column(rule: str) -> int:
    return METRICS.index(rule.partition("_")[2])


def broken(figures: Figures, limits: Limits) -> Flags:
    """(documents, rules): which rule each document is beyond."""
    columns = [beyond(rule[:3], getattr(limits, rule), figures[:, column(rule)]) for rule, _ in RULES]
    return np.column_stack(columns)


def their_verdicts(measured: Measured, limits: Limits) -> Flags:
    """Whether datatrove drops each document: in English by the three rules on paragraphs too."""
    dropped: Flags = np.asarray(broken(measured.theirs, limits).any(1))
    if measured.language == "eng_Latn":
        dropped = dropped | (measured.paragraphs > np.array(PARAGRAPH_LIMITS)).any(1)
    return dropped


def judged(measured: Measured, *, half: int, reference: bool = True) -> Flags:
    """The documents of a half and kind, without those where datatrove counts spaces of no width as words."""
    of_half: Flags = measured.half == half if reference else np.ones(len(measured.half), np.bool_)
    on: Flags = of_half & (measured.reference == reference) & ~measured.invisible
    return on


def derive(measured: Measured, limits: Limits) -> list[Row]:
    """A row for each of FineWeb-2's `limits` by which too few verdicts agree."""
    on = judged(measured, half=DERIVED)
    rows = []
    for rule, _ in RULES:
        limit, side = getattr(limits, rule), rule[:3]
        if limit is None:
            continue
        theirs, ours = measured.theirs[on, column(rule)], measured.ours[on, column(rule)]
        agreed = agreement(side, limit, theirs, limit, ours)
        wanted, before = (float(beyond(side, limit, figures).mean()) for figures in (theirs, ours))
        if agreed < AGREES and abs(wanted - before) >= DIFFERS:
            value = _written(rule, matched(limit, theirs, ours))
            now, agrees = float(beyond(side, value, ours).mean()), agreement(side, limit, theirs, value, ours)
            shares = (round(share, 4) for share in (wanted, before, now, agreed, agrees))
            rows.append(Row(measured.language, rule, value, limit, int(on.sum()), *shares))
    return rows


def _written(rule: str, value: float) -> float | None:
    """As precise as FineWeb-2's; a minimum that nothing is below is none."""
    rounded = round(value) if rule.partition("_")[2] in COUNTS else round(value, 3)
    return None if rule.startswith("min_") and rounded <= 0 else rounded


@dataclass(frozen=True)
class Override:
    """A limit at which one rule drops 5 % of the clean prose of a language, and what all rules drop then."""

    language: str
    limit: str
    theirs: float  # share of clean prose that FineWeb-2's limit drops by datatrove's words, all documents
    shipped: float | None
    value: float
    dropped_before: float  # by all our limits, on the half that this was not derived on
    dropped: float


def overrides(measured: Measured, fineweb2: Limits, shipped: Limits) -> list[Override]:
    """Looser limits for the rules that drop more than a tenth of clean prose, all at once."""
    derived, held_out = judged(measured, half=DERIVED), judged(measured, half=HELD_OUT)
    every = derived | held_out
    found = {}
    for rule, _ in RULES:
        limit = getattr(fineweb2, rule)
        if limit is None:
            continue
        theirs = float(beyond(rule[:3], limit, measured.theirs[every, column(rule)]).mean())
        if theirs > DROPS_TOO_MUCH:
            figures, least = measured.ours[derived, column(rule)], rule.startswith("min_")
            share = 1 - LET_THROUGH if least else LET_THROUGH
            value = float(np.quantile(figures, share, method="lower" if least else "higher"))
            found[rule] = theirs, _written(rule, value) or 0.0
    loose = shipped.model_copy(update={rule: value for rule, (_, value) in found.items()})
    before, after = (float(broken(measured.ours[held_out], limits).any(1).mean()) for limits in (shipped, loose))
    return [
        Override(measured.language, rule, theirs, getattr(shipped, rule), value, before, after)
        for rule, (theirs, value) in found.items()
    ]
