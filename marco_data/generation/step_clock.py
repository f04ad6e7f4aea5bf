"""What a request costs of an engine in which many run at once.

In: the ends of the engine's steps and how many requests ran in each. Out: the seconds that a request's part of them
is, each step's time shared equally by those that ran in it. Knows no engine; runs in its process.
"""

import bisect

HISTORY = 1 << 17
"""Steps of which the running requests are remembered: an hour and more at thirty a second."""


class Clock:
    """What a running request costs: the time of each step, shared equally by the requests that ran in it.

    Adds up 1 / running over time, so that a request's share is one difference, however many ran beside it.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[float, int, int, float]] = []  # its end, who ran, who waited, the sum of 1 / running

    def wake(self, now: float) -> None:
        """An idle engine begins to work: the time until now is nobody's."""
        self._note(now, 0, 0, 0.0)

    def step(self, now: float, running: int, waiting: int) -> None:
        """A step has ended in which so many requests ran, while others waited."""
        share = (now - self._steps[-1][0]) / running if self._steps and running else 0.0
        self._note(now, running, waiting, share)

    def _note(self, now: float, running: int, waiting: int, share: float) -> None:
        self._steps.append((now, running, waiting, share + (self._steps[-1][3] if self._steps else 0.0)))
        if len(self._steps) > HISTORY:
            self._steps = self._steps[HISTORY // 2 :]

    def steps(self, since: float) -> list[tuple[float, int, int]]:
        """Each step that ended at that moment or later: its end, how many requests ran in it, how many waited."""
        steps = self._steps
        return [(end, running, waiting) for end, running, waiting, _ in steps[bisect.bisect_left(steps, (since,)) :]]

    def between(self, start: float, end: float) -> float:
        """The share of a request that ran from `start` to `end`."""
        return max(0.0, self._at(end) - self._at(start))

    def _at(self, moment: float) -> float:
        steps = self._steps
        after = bisect.bisect_left(steps, (moment,))
        if after == 0 or after == len(steps):
            return steps[min(after, len(steps) - 1)][3] if steps else 0.0
        (left, _, _, low), (right, _, _, high) = steps[after - 1], steps[after]
        part = (moment - left) / (right - left) if right > left else 1.0
        return low + part * (high - low)
