"""The benchmark command: every contest has us in it, and a small run gives a table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contest import Contest, Contestant, hold
from benchmarks.contests import CONTESTS
from benchmarks.corpus import rounds, size

ROOT = Path(__file__).resolve().parents[1]


def test_each_part_is_one_contest_that_we_are_first_in():
    parts = [contest.part for contest in CONTESTS]
    assert len(set(parts)) == len(parts)
    assert {contest.contestants()[0].name for contest in CONTESTS} == {"marco-data"}
    assert min(len(contest.contestants()) for contest in CONTESTS) > 1


def test_rounds_have_the_size_asked_for():
    made = rounds(3, 20_000)
    assert len(made) == 3
    assert all(20_000 <= size(texts) < 300_000 for texts in made)
    assert {text.language for text in rounds(1, 5_000, language="eng_Latn")[0]} == {"eng_Latn"}


def test_everyone_runs_on_the_same_rounds_and_a_peer_that_cannot_is_said_to():
    seen: dict[str, list[object]] = {"marco-data": [], "peer": []}

    def broken(texts):
        raise ModuleNotFoundError("No module named 'peer'")

    def contestants():
        listening = [
            Contestant(name, name, lambda texts, name=name: lambda: seen[name].append(texts[0].text)) for name in seen
        ]
        return [*listening, Contestant("broken", "broken", broken)]

    ours, peer, absent = hold(Contest("part", 0.01, contestants, once=True), repeats=3, scale=1)
    assert seen["marco-data"] == seen["peer"]
    assert [len(ours.speeds), len(peer.ratios), len(absent.speeds)] == [3, 3, 0]
    assert set(ours.ratios) == {1.0}
    assert absent.failed == "ModuleNotFoundError: No module named 'peer'"


@pytest.mark.parametrize("part", ["find duplicates", "tokenize"])
def test_a_small_run_prints_a_table(part):
    command = [sys.executable, "-m", "benchmarks", "--only", part, "--repeats", "2", "--scale", "0.02"]
    environment = {name: value for name, value in os.environ.items() if name != "MARCO_TEST_DATA"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert f"| {part} | marco-data |" in done.stdout
    assert "ours is faster" in done.stdout
