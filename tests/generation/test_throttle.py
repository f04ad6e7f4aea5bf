"""Turns: never more than the limit, the limit follows what the server takes, and pauses have bounds."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.generation.throttle import Throttle, pause


class SteppedClock:
    """A clock that moves when somebody waits for it."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        await asyncio.sleep(0)
        self.time = max(self.time, until)

    def chance(self) -> float:
        return 0.5


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_pause_doubles_up_to_a_minute_and_half_of_it_is_chance(failures, chance):
    whole = min(60.0, 2.0 ** min(failures - 1, 10))
    assert whole / 2 <= pause(failures, chance) < whole + 1e-9
    assert pause(failures, 0.0) == whole / 2


def test_nine_failures_take_about_three_minutes():
    assert sum(pause(failures, 1.0) for failures in range(1, 9)) == 183


@pytest.mark.parametrize("most", [1, 3, 16])
def test_as_many_run_as_may_and_never_more(most):
    async def ask() -> list[int]:
        throttle, running, seen = Throttle(most, SteppedClock()), 0, []

        async def one() -> None:
            nonlocal running
            began = await throttle.turn(again=False)
            running += 1
            seen.append(running)
            await asyncio.sleep(0)
            running -= 1
            throttle.answered(began)
            throttle.done()

        await asyncio.gather(*(one() for _ in range(100)))
        return seen

    seen = asyncio.run(ask())
    assert len(seen) == 100
    assert max(seen) == most
    assert seen.count(most) >= 100 // most - 1


def test_turns_come_in_the_order_asked_and_first_to_who_had_one():
    async def ask() -> list[str]:
        throttle, order = Throttle(1, SteppedClock()), []

        async def one(name: str, *, again: bool) -> None:
            await throttle.turn(again=again)
            order.append(name)
            throttle.done()

        await throttle.turn(again=False)
        tasks = [asyncio.create_task(one(name, again=False)) for name in "abc"]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(one("again", again=True)))
        await asyncio.sleep(0)
        throttle.done()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(ask()) == ["again", "a", "b", "c"]


def test_a_round_that_is_too_many_halves_the_limit_once():
    clock = SteppedClock()
    throttle = Throttle(64, clock)
    limits = []
    for clock.time in (1.0, 3.0):
        for _ in range(64):
            throttle.too_many(began=clock.time - 1, wait=0.0)
        limits.append(throttle.limit)
    assert limits == [32, 16]


def test_answers_bring_the_limit_back_but_never_beyond():
    throttle = Throttle(8, SteppedClock())
    throttle.too_many(0.0, 0.0)
    throttle.answered(1.0)
    assert 4 < throttle.limit < 5
    for _ in range(100):
        throttle.answered(1.0)
    assert throttle.limit == 8


def test_the_limit_never_falls_below_one():
    clock = SteppedClock()
    throttle = Throttle(4, clock)
    for _ in range(10):
        clock.time += 100
        throttle.too_many(clock.time, 0.0)
    assert throttle.limit == 1


def test_nobody_begins_before_the_time_that_the_server_asks_for():
    async def ask() -> float:
        clock = SteppedClock()
        throttle = Throttle(4, clock)
        throttle.too_many(await throttle.turn(again=False), wait=42.0)
        throttle.done()
        return await throttle.turn(again=True)

    assert asyncio.run(ask()) >= 42


@pytest.mark.parametrize("when", ["waiting", "called", "pausing"])
def test_a_turn_that_is_cancelled_is_not_lost(when):
    async def ask() -> None:
        throttle = Throttle(1, SteppedClock())
        await throttle.turn(again=False)
        waiting = asyncio.create_task(throttle.turn(again=False))
        await asyncio.sleep(0)
        if when == "pausing":
            throttle.hold(1e9)
        if when != "waiting":
            throttle.done()
        if when == "pausing":
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if when == "waiting":
            throttle.done()
        await asyncio.wait_for(throttle.turn(again=False), 5)

    asyncio.run(ask())
