"""The shares of requests add up to the time in which the engine worked, whoever ran beside whom."""

import random

import pytest

from marco_data.generation.step_clock import HISTORY, Clock


def test_requests_that_run_together_share_a_step_equally():
    clock = Clock()
    clock.wake(10.0)
    clock.step(11.0, running=2, waiting=0)
    clock.step(13.0, running=4, waiting=1)
    assert clock.between(10.0, 11.0) == pytest.approx(0.5)
    assert clock.between(10.0, 13.0) == pytest.approx(1.0)
    assert clock.between(12.0, 13.0) == pytest.approx(0.25)  # it came in the middle of a step


def test_shares_of_any_course_add_up_to_the_time_worked():
    chance = random.Random(7)
    clock, now, worked = Clock(), 100.0, 0.0
    started: dict[int, float] = {}
    shares = []
    clock.wake(now)
    for number in range(2000):
        while len(started) < chance.randint(1, 9):
            started[len(started) + number * 10] = now
        seconds = chance.random()
        now, worked = now + seconds, worked + seconds
        clock.step(now, running=len(started), waiting=0)
        ended = [key for key in started if chance.random() < 0.3]
        shares += [clock.between(started.pop(key), now) for key in ended]
        if not started:
            now += chance.random() * 5
            clock.wake(now)
    shares += [clock.between(start, now) for start in started.values()]
    assert sum(shares) == pytest.approx(worked)


def test_an_idle_engines_time_is_nobodys():
    clock = Clock()
    clock.wake(0.0)
    clock.step(1.0, running=1, waiting=0)
    clock.wake(50.0)
    clock.step(51.0, running=1, waiting=0)
    assert clock.between(0.0, 51.0) == pytest.approx(2.0)


def test_what_it_remembers_is_bounded():
    clock = Clock()
    for number in range(2 * HISTORY):
        clock.step(float(number), running=1, waiting=0)
    assert HISTORY // 2 <= len(clock.steps(0.0)) <= HISTORY
    assert clock.between(2 * HISTORY - 11, 2 * HISTORY - 1) == pytest.approx(10.0)
