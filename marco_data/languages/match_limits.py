"""A limit for other words: what a limit on figures of one kind of words is on figures of another.

FineWeb-2's limits were found with datatrove's words; some of ours split otherwise and give other figures of the same
text. In: the figures of the same documents by both. Out: the value that drops as large a share of them by our
figures as the limit drops by theirs (matching of quantiles).

The figures of reference prose that this was run on are made by `python -m benchmarks.agreement --derive`, which
writes `limits_for_our_words.csv`. This module knows no words, languages or rules.
"""

import numpy as np
import numpy.typing as npt

Figures = npt.NDArray[np.float64]

AGREES = 0.98
DIFFERS = 0.01
"""A limit is replaced where fewer than AGREES of the verdicts agree, and the shares dropped differ by DIFFERS."""


def matched(limit: float, theirs: Figures, ours: Figures) -> float:
    """The value that stands among `ours` where `limit` stands among `theirs`: the figures of the same documents.

    Between two figures it is interpolated; beyond the last one it keeps its distance from it.
    """
    theirs, ours = np.sort(theirs), np.sort(ours)
    beyond = max(limit - theirs[-1], 0.0) + min(limit - theirs[0], 0.0)
    return float(np.interp(limit, theirs, ours) + beyond)


def agreement(side: str, limit: float, theirs: Figures, value: float | None, ours: Figures) -> float:
    """Share of documents with the same verdict: `limit` on their figures, `value` on ours (None: all are kept)."""
    same = beyond(side, limit, theirs) == beyond(side, value, ours)
    return float(np.mean(same))


def beyond(side: str, limit: float | None, figures: Figures) -> npt.NDArray[np.bool_]:
    """Whether each figure is beyond a limit of the side `min` or `max`."""
    if limit is None:
        return np.zeros(len(figures), np.bool_)
    return figures > limit if side == "max" else figures < limit
