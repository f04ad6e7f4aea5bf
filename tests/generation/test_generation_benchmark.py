"""What the benchmark says of an engine's running requests, and that both ways are asked the same."""

import argparse

import pytest

from benchmarks.generation.__main__ import below, between_full, plot, requests
from benchmarks.generation.bare_engine import read_requests, write_requests

STEPS = [(0.0, 1, 0), (1.0, 4, 2), (2.0, 3, 1), (3.0, 3, 0), (4.0, 4, 0), (5.0, 1, 0)]


def test_an_engine_that_nobody_asks_is_told_from_one_that_fills_a_place_late():
    assert between_full(STEPS, 4) == [(1.0, 4, 2), (1.0, 3, 1), (1.0, 3, 0), (1.0, 4, 0)]
    assert below(STEPS, 4, starved=True) == pytest.approx(0.25)
    assert below(STEPS, 4, starved=False) == pytest.approx(0.25)


def test_an_engine_that_was_never_full_was_starved_all_the_time():
    assert below(STEPS, 5, starved=True) == 1.0


def test_the_plot_shows_the_fewest_of_each_slice():
    steps = [(number / 10, 10 if number < 300 else 5, 0) for number in range(601)]
    rows = plot(steps, 10).splitlines()
    assert rows[0].count("#") == 30
    assert rows[5].count("#") == 60


def test_both_ways_are_asked_the_same(tmp_path):
    asked = requests(3, argparse.Namespace(requests=20, words=9, tokens=32))
    write_requests(tmp_path / "requests", asked)
    assert read_requests(tmp_path / "requests") == asked
    assert len({request.messages for request in asked}) == 20
