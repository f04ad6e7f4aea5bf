"""The seeded faults: what a seed draws, what is found to strike, and what the page says of it."""

import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from benchmarks.chaos.episode import ENDS, Struck
from benchmarks.chaos.processes import MARK, marked, send, until
from benchmarks.chaos.report import Totals, page, table
from benchmarks.chaos.schedule import CRASH, HEAD, KINDS, MOST, PROCESSES, RAY, numbers, schedule


def kinds_of(episodes) -> Counter[str]:
    found = Counter(fault.kind for episode in episodes for fault in episode.faults)
    found[CRASH] += sum(episode.crash for episode in episodes)
    return found


def test_a_seed_always_draws_the_same_and_another_one_something_else():
    assert schedule(7, 100) == schedule(7, 100)
    assert schedule(7, 100) != schedule(8, 100)


@pytest.mark.parametrize("kills", [1, 10, 37, 100])
def test_as_many_faults_are_drawn_as_were_asked_for(kills):
    episodes = schedule(3, kills)
    assert kinds_of(episodes).total() == kills
    assert +kinds_of(episodes) == +Counter(numbers(kills, list(KINDS)))


def test_a_hundred_are_of_every_kind_in_both_stages_and_every_place():
    episodes = schedule(7, 100)
    assert kinds_of(episodes) == {kind: weight for kind, (weight, _) in KINDS.items()}
    assert {(e.place, e.stage) for e in episodes} >= {(PROCESSES, 3), (PROCESSES, 4), (RAY, 3), (RAY, 4)}
    assert {e.place for e in episodes} == set(MOST)


def test_a_fault_strikes_only_where_there_is_what_it_strikes():
    for episode in schedule(7, 100):
        assert len(episode.faults) <= MOST[episode.place]
        assert [fault.at for fault in episode.faults] == sorted(fault.at for fault in episode.faults)
        assert all(episode.place in KINDS[fault.kind][1] for fault in episode.faults)


def test_only_named_kinds_are_drawn():
    episodes = schedule(7, 5, ["raylet killed", "head killed, job sent again"])
    assert {e.place for e in episodes} == {RAY, HEAD}


def test_a_fault_that_a_run_lives_through_may_not_end_its_command():
    assert not {"worker killed", "raylet killed", "storage gone for 30 s", "worker told to go (SIGTERM)"} & ENDS.keys()


def test_what_was_started_with_a_mark_is_found_wherever_it_hangs():
    line = "import subprocess,sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    mark = f"test-{time.monotonic_ns()}"
    subprocess.run([sys.executable, "-c", line], env={MARK: mark}, check=True)  # its child stays
    (left,) = marked(mark)
    assert send(left, signal.SIGKILL)
    assert until(lambda: not marked(mark), 60)
    assert not marked("another")


def test_the_page_says_what_struck_and_every_finding():
    totals = Totals(builds={RAY: 2}, commands={RAY: 5}, touched={"driver killed": 2, CRASH: 1})
    totals.struck = [Struck("driver killed", 4.0), Struck("driver killed", 10.0), Struck(CRASH, 0.0)]
    assert "| driver killed | 2 | 2 | 7.0 | 10.0 |" in table(totals)
    assert f"| {CRASH} | 1 | 1 | | |" in table(totals)
    assert "Every build ended with the bytes of a quiet one" in page(totals, "c", 60, (1.0,), {"3": 8.0})
    totals.wrong.append("ray, stage 3: leases left: ['a']")
    told = page(totals, "c", 60, (1.0,), {"3": 8.0})
    assert "* ray, stage 3: leases left: ['a']" in told
    assert "Every build ended" not in told
