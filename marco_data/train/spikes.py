"""What is done about a loss that jumps or is no number, and which documents it came with.

In come the losses of steps, one after the other, and those of a batch's tokens; out come verdicts, and documents by
their mean loss. Verdicts are a function of the losses alone, so every rank reaches the same, and a resumed run those of
a run that never stopped. Needs no torch. Does not know the optimizer; whose documents they are, the data's order knows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.errors import RecipeError

FINE, SPIKE, NOT_FINITE = "fine", "spike", "not_finite"
REPORT, SKIP = "report", "skip"
ENOUGH = 16  # losses before any is judged: the first steps of a run fall by themselves
NARROWEST = 0.01  # nats; a plateau may be so even that its own deviation would make a spike of anything


@dataclass(frozen=True)
class SpikePolicy:
    """A spike is `deviations` above the median of the last `window` losses; it is reported, or its step skipped too.

    The deviation is 1.4826 x the median distance from the median, which one earlier spike does not widen. A loss or
    gradient that is no number is always skipped, and after `most_skipped` skipped steps in a row the run stops.
    """

    deviations: float = 10.0
    window: int = 64
    action: str = REPORT
    most_skipped: int = 10

    def __post_init__(self) -> None:
        if self.action not in (REPORT, SKIP):
            raise RecipeError(f"nothing is done by the name `{self.action}`", hint=f"there are {REPORT} and {SKIP}")
        if not self.deviations > 0 or self.window < ENOUGH or self.most_skipped < 1:
            raise RecipeError(
                f"spikes of {self.deviations} deviations in {self.window} losses, at most {self.most_skipped} skipped",
                hint=f"`deviations` is above 0, `window` at least {ENOUGH}, `most_skipped` at least 1",
            )


class Watch:
    """Judges losses in the order they come; `recent` and `skipped` are all its memory."""

    def __init__(self, policy: SpikePolicy, recent: Sequence[float] = (), skipped: int = 0) -> None:
        self.policy = policy
        self.recent = list(recent)
        self.skipped = skipped

    def forget(self) -> None:
        """Another stage has another loss, and that is no spike."""
        self.recent.clear()

    def judge(self, loss: float, gradient_norm: float) -> str:
        """What this step is."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            return NOT_FINITE
        verdict = FINE
        if len(self.recent) >= ENOUGH:
            middle = median(self.recent)
            deviation = max(NARROWEST, 1.4826 * median(abs(value - middle) for value in self.recent))
            if loss > middle + self.policy.deviations * deviation:
                verdict = SPIKE
        self.recent = [*self.recent, loss][-self.policy.window :]
        return verdict

    def skips(self, verdict: str) -> bool:
        """Whether the step is left out; counts those in a row."""
        skips = verdict == NOT_FINITE or (verdict == SPIKE and self.policy.action == SKIP)
        self.skipped = self.skipped + 1 if skips else 0
        return skips

    @property
    def gives_up(self) -> bool:
        return self.skipped >= self.policy.most_skipped


class Suspect(NamedTuple):
    """A document's part in a sample: its mean loss over `tokens`; `document` is its place in the sample."""

    loss: float
    sample: int
    document: int
    tokens: int


def suspects(
    losses: npt.NDArray[np.float64],
    documents: npt.NDArray[np.int32],
    counted: npt.NDArray[np.bool_],
    first: int,
    most: int = 5,
) -> list[Suspect]:
    """The documents with the highest mean loss; arrays are [samples, seq] of labels, `first` the first sample's number.

    What is no number is worse than any loss.
    """
    found = []
    for row, (own, places, real) in enumerate(zip(losses, documents, counted, strict=True)):
        tokens = np.bincount(places[real])
        sums = np.bincount(places[real], weights=np.where(np.isfinite(own[real]), own[real], np.inf))
        found += [
            Suspect(float(sums[place] / tokens[place]), first + row, int(place), int(tokens[place]))
            for place in np.flatnonzero(tokens)
        ]
    return worst(found, most)


def worst(found: Sequence[Suspect], most: int = 5) -> list[Suspect]:
    """The `most` with the highest loss, in a fixed order."""
    return sorted(found, key=lambda s: (-s.loss, s.sample, s.document))[:most]
