"""The learning rate as a function of the tokens seen: a warm-up, then a piece for every stage of the run.

In come a `Schedule` and tokens; out comes a rate. Whoever counts in tokens may change the batch or the sequence without
changing the curve. Knows neither models nor data, and needs no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from marco_data.errors import RecipeError

CONSTANT, LINEAR, COSINE = "constant", "linear", "cosine"
SHAPES = (CONSTANT, LINEAR, COSINE)


@dataclass(frozen=True)
class Piece:
    """What the rate does in one stage: it goes to `to` by the stage's end, or stays where it is."""

    shape: str = CONSTANT
    to: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise RecipeError(f"no schedule has the shape `{self.shape}`", hint=f"there are {', '.join(SHAPES)}")
        if (self.to is None) != (self.shape == CONSTANT):
            raise RecipeError(
                f"a {self.shape} piece with to = {self.to}",
                hint="a linear or cosine piece needs the rate it goes `to`; a constant one has none",
            )
        if self.to is not None and not 0 <= self.to < math.inf:
            raise RecipeError(f"a learning rate cannot go to {self.to}", hint="it is a number from 0 on")


@dataclass(frozen=True)
class Schedule:
    """`warmup` tokens up from 0 to `peak`; the warm-up is the beginning of the run, whatever stages it covers.

    `pieces` and `tokens` are by stage of the run. Within the warm-up the piece's own rate is scaled, so that a decay
    that has begun is not undone.
    """

    peak: float
    warmup: int
    pieces: tuple[Piece, ...]
    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < self.peak < math.inf:
            raise RecipeError(f"the peak learning rate is {self.peak}", hint="it has to be above 0")
        if len(self.pieces) != len(self.tokens):
            raise RecipeError(
                f"the schedule has {len(self.pieces)} pieces for {len(self.tokens)} stages",
                hint="give every stage of the run a piece",
            )
        if not 0 <= self.warmup <= sum(self.tokens):
            raise RecipeError(
                f"the warm-up takes {self.warmup:,} tokens of a run of {sum(self.tokens):,}",
                hint="shorten `warmup`: it has to end before the run does",
            )

    def rate(self, seen: int) -> float:
        """The rate of the step that begins after `seen` tokens."""
        rate = _shaped(seen, self.peak, self.pieces, self.tokens)
        return rate * min(1.0, seen / self.warmup) if self.warmup else rate


def _shaped(seen: int, peak: float, pieces: Sequence[Piece], tokens: Sequence[int]) -> float:
    at = peak
    for piece, length, end in zip(pieces, tokens, accumulate(tokens), strict=True):
        to = at if piece.to is None else piece.to
        if seen < end:
            done = (seen - (end - length)) / length
            eased = (1 - math.cos(math.pi * done)) / 2 if piece.shape == COSINE else done
            return at + (to - at) * eased
        at = to
    return at
