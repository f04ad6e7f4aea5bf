"""The benchmark command: every contest has us in it, a peer may live in another environment, a small run gives a table.

The peer elsewhere is `peer_elsewhere.py`, served by this interpreter: the protocol is real, only nothing is installed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.apart.contestant import Apart
from benchmarks.apart.environment import MOST_SECONDS, STAMP, Environment
from benchmarks.contest import CannotRun, Contest, Here, Result, hold
from benchmarks.contests import contests
from benchmarks.corpus import first, rounds, size
from benchmarks.peers import HASHES, SHINGLE
from benchmarks.profile import profile
from benchmarks.report import Run, report
from benchmarks.start_up import StartUp
from marco_data.languages import LANGUAGES
from marco_data.steps.sign import Sign

ROOT = Path(__file__).resolve().parents[1]


def test_each_part_is_one_contest_that_we_are_first_in(tmp_path):
    all_of_them = contests(tmp_path, lid176=tmp_path / "lid.176.ftz")
    parts = [contest.part for contest in all_of_them]
    assert len(set(parts)) == len(parts)
    assert {contest.contestants()[0].name for contest in all_of_them} == {"marco-data"}
    assert min(len(contest.contestants()) for contest in all_of_them) > 1


def test_peers_sign_with_as_many_hashes_of_as_many_words_as_we_do():
    assert Sign().hashes == HASHES
    assert LANGUAGES["eng_Latn"].shingle_size == SHINGLE


def test_rounds_have_the_size_asked_for():
    made = rounds(3, 20_000)
    assert len(made) == 3
    assert all(20_000 <= size(texts) < 300_000 for texts in made)
    assert {text.language for text in rounds(1, 5_000, language="eng_Latn")[0]} == {"eng_Latn"}


def test_what_warms_up_is_not_in_the_first_round_and_a_slow_peer_gets_the_beginning_of_a_round():
    (warm,), (timed,) = rounds(1, 5_000), rounds(1, 50_000, after=5_000)
    assert rounds(1, size(warm) + size(timed))[0] == warm + timed
    assert first(timed, 0.01) == timed[: len(first(timed, 0.01))]
    assert 10_000 <= size(first(timed, 0.01)) < size(timed)
    assert first(timed, 1) == timed


def test_everyone_runs_on_the_same_rounds_and_a_peer_that_cannot_is_said_to():
    seen: dict[str, list[object]] = {"marco-data": [], "peer": []}

    def broken(texts):
        raise ModuleNotFoundError("No module named 'peer'")

    def contestants():
        listening = [
            Here(name, name, lambda texts, name=name: lambda: seen[name].append(texts[0].text)) for name in seen
        ]
        return [*listening, Here("broken", "broken", broken)]

    ours, peer, absent = hold(Contest("part", 0.01, contestants, once=True), repeats=3, scale=1)
    assert seen["marco-data"] == seen["peer"]
    assert [len(ours.speeds), len(peer.ratios), len(absent.speeds)] == [3, 3, 0]
    assert set(ours.ratios) == {1.0}
    assert absent.failed == "ModuleNotFoundError: No module named 'peer'"


def _elsewhere(work: str, **given: object) -> Apart:
    defaults = {
        "python": lambda: Path(sys.executable),
        "peer": Path(__file__).with_name("peer_elsewhere.py"),
        "megabytes": 0.005,
    }
    return Apart(work, "pytest", work=work, **{**defaults, **given})


def test_a_peer_elsewhere_times_the_texts_it_is_sent_by_its_own_clock():
    ours = Here("marco-data", "pytest", lambda texts: lambda: None)
    contest = Contest("part", 0.02, lambda: [ours, _elsewhere("sleep"), _elsewhere("count letters")], once=True)
    _, asleep, counting = hold(contest, repeats=2, scale=1)
    assert asleep.failed == counting.failed == ""
    assert asleep.version == counting.version == pytest.__version__
    assert asleep.megabytes == 0.005
    # A tenth of a second by the wall would be 0.05 MB/s; of processor time it is next to nothing.
    assert min(asleep.speeds) > 0.5
    assert len(counting.speeds) == len(counting.ratios) == 2


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"work": "raise"}, "ValueError: these texts are not for me"),
        ({"work": "end"}, "it ended with status 3"),
        ({"work": "sleep", "peer": Path("no_such_peer.py")}, "FileNotFoundError: .*no_such_peer"),
    ],
)
def test_a_peer_elsewhere_that_cannot_is_said_to_and_leaves_no_process(given, reason):
    peer = _elsewhere(**given)
    with pytest.raises(CannotRun, match=reason):
        peer.seconds(rounds(1, 1_000)[0], once=True, wall=False)
    process = peer._process
    peer.close()
    assert process.poll() is not None


def test_what_a_peer_prints_does_not_disturb_its_answers():
    peer = _elsewhere("print")
    assert peer.seconds(rounds(1, 1_000)[0], once=True, wall=False) >= 0
    peer.close()


def test_an_environment_that_cannot_be_built_says_why_and_is_not_taken_for_one(tmp_path):
    environment = Environment("peer", (f"peer @ {(tmp_path / 'nowhere.whl').as_uri()}",))
    for _ in range(2):
        with pytest.raises(CannotRun, match="cannot be built"):
            environment.python(tmp_path)
    assert not list(tmp_path.glob(f"*/{STAMP}"))
    assert MOST_SECONDS <= 600


def test_an_environment_is_built_once_and_another_list_is_another_environment(tmp_path):
    python = Environment("peer", ()).python(tmp_path)
    made = python.stat().st_mtime_ns
    assert subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, check=True).stdout
    assert Environment("peer", ()).python(tmp_path) == python
    assert python.stat().st_mtime_ns == made
    with pytest.raises(CannotRun):
        Environment("peer", (), alone=("no such requirement",)).python(tmp_path)


@pytest.mark.slow
def test_the_profile_accounts_for_the_whole_pass_and_the_report_shows_it():
    lines = profile(megabytes=0.05)
    shares = [line.share for line in lines if line.share is not None]
    assert shares[-1] == 1
    assert sum(shares[:-1]) == pytest.approx(1)
    result = Result("read", "marco-data", "marco-data", "MB/s", "0.1", 16.0, (1.0, 3.0, 2.0), (1.0, 1.0, 1.0))
    absent = Result("read", "peer", "peer", "MB/s", failed="its environment cannot be built: no network")
    run = Run(command="python -m benchmarks", data="some text", load=((0.1, 0.2, 0.3), (1.5, 1.6, 1.7)))
    text = report([result, absent], lines, (StartUp(9.0, 8.0), StartUp(1.25, 1.5)), run)
    assert "| read | marco-data | 16 | MB/s | 2 (1-3) |  |" in text
    assert "|  | peer | | | did not run: its environment cannot be built: no network | |" in text
    assert "0.1, 0.2, 0.3 when it began, 1.5, 1.6, 1.7 when it ended" in text
    assert "1.2 s (1.5 s of processor time)" in text
    assert all(f"| {line.what} |" in text for line in lines)


def test_the_process_whose_start_is_timed_measures_its_document(tmp_path):
    file = tmp_path / "first.jsonl"
    command = [sys.executable, "-m", "benchmarks.start_up", str(file)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode
    file.write_text('{"text": "The first document of a process."}')
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.mark.parametrize("part", ["find duplicates", "tokenize", "identify language, over 2 KB"])
def test_a_small_run_prints_a_table(part):
    command = [sys.executable, "-m", "benchmarks", "--only", part, "--repeats", "2", "--scale", "0.02"]
    environment = {name: value for name, value in os.environ.items() if name != "MARCO_TEST_DATA"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert f"| {part} | marco-data |" in done.stdout
    assert "ours is faster" in done.stdout
