"""How many requests a server is sent at once, and when: fewer, and later, once it has said that they are too many.

In: a limit and what became of each request. Out: turns. Knows neither HTTP nor what is asked.
"""

import asyncio
import random
from collections import deque
from typing import Protocol

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds: 1, 2, 4, 8, 16, 32, 60, 60 make three minutes, in which a server that died can load a model again."""


class Clock(Protocol):
    """Time, and chance, for whoever waits."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...

    def chance(self) -> float:
        """From 0 up to 1."""


class WallClock:
    """The clock of the event loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def chance(self) -> float:
        return random.random()


def pause(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; half of it by chance, so that many do not come back as one."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30)) * (0.5 + chance / 2)


class Throttle:
    """Turns for `most` requests at once.

    Half as many whenever the server says `too_many`, one more for each full round of answers: the limit settles about
    what the server takes. All that is said of one round halves it once: what was sent before the last cut is no news.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self.limit = float(most)
        self.answers = 0
        self._most = most
        self._clock = clock
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._resume = self._cut = float("-inf")
        self._storms = 0

    async def turn(self, *, again: bool) -> float:
        """Wait for a turn, before the others if one was had already; the time at which it began. End it with `done`."""
        if self._waiting or self._running >= int(self.limit):
            await self._wait(again=again)
        else:
            self._running += 1
        try:
            while (wait := self._resume - self._clock.now()) > 0:
                await self._clock.sleep(wait)
        except asyncio.CancelledError:
            self.done()
            raise
        return self._clock.now()

    async def _wait(self, *, again: bool) -> None:
        place = asyncio.get_running_loop().create_future()
        if again:
            self._waiting.appendleft(place)
        else:
            self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the turn came, and is given back
                self.done()
            else:
                self._waiting.remove(place)
            raise

    def done(self) -> None:
        """End a turn."""
        self._running -= 1
        self._call()

    def _call(self) -> None:
        while self._waiting and self._running < int(self.limit):
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)

    def answered(self, began: float) -> None:
        """A request that began then was answered."""
        self.answers += 1
        self.limit = min(float(self._most), self.limit + 1 / self.limit)
        if began > self._cut:
            self._storms = 0
        self._call()

    def too_many(self, began: float, wait: float) -> None:
        """A request that began then was one too many; the server asks to wait so many seconds, at least."""
        now = self._clock.now()
        if began > self._cut:
            self._storms += 1
            self.limit = max(1.0, self.limit / 2)
            self._cut = now
            wait = max(wait, pause(self._storms, self._clock.chance()))
        self._resume = max(self._resume, now + wait)

    def hold(self, seconds: float) -> None:
        """Nobody begins for so long: there is no server to ask."""
        self._resume = max(self._resume, self._clock.now() + seconds)
