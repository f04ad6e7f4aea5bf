"""Leases: of two jobs that share a step one waits for the other, and a dead or silent holder stops nobody."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import marco
from roots import COMMAND, command, digests, environment
from small_corpus import recipe_values, write_corpus, write_recipe

from marco_data.cluster.leases import FOLDER, Leases, Note
from marco_data.prune import find
from marco_data.storage import Storage

STEP = "measure-0123456789ab"
SLOW = {"step": "fatal_steps:Sleeps", "arguments": {"seconds": 0.1}}
HOLDS = """
import sys
from marco_data.cluster.leases import Leases
from marco_data.storage import Storage
with Leases(Storage(sys.argv[1]), beat_seconds=0.1).held(sys.argv[2], print):
    print("held", flush=True)
    sys.stdin.read()
"""


def quick(root: object, stale_seconds: float = 1.0) -> Leases:
    return Leases(Storage(str(root)), beat_seconds=0.1, stale_seconds=stale_seconds, most_seconds=0.2)


def holder(root: object) -> "subprocess.Popen[str]":
    """Another process that holds the lease of STEP until its stdin is closed, and beats ten times a second."""
    words = [sys.executable, "-c", HOLDS, str(root), STEP]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "held\n"
    return process


def leave_note(root: object, **changes: object) -> None:
    note = replace(Note.mine("theirs", 0), **{"host": "another", **changes})
    Storage(str(root)).replace(f"{FOLDER}/{STEP}.json", note.to_json())


def silent(message: str) -> None:
    """Nobody is told."""


@pytest.mark.slow
def test_two_builds_at_once_do_each_task_once_and_both_end_with_the_bytes_of_one(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    values["steps"]["extra"] = [SLOW]
    recipe = write_recipe(tmp_path / "r.yaml", {**values, "shards": {"bytes": 3000, "tokens": 2000}})
    words = ("build-stage", "3", "--recipe", str(recipe), "--executor", "local", "--root")
    alone = command(tmp_path, *words, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    shared = tmp_path / "shared"
    builds = [
        subprocess.Popen([*COMMAND, *words, shared], env=environment(tmp_path), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [build.communicate(timeout=300)[1] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    assert digests(shared) == digests(tmp_path / "alone")
    lines = [json.loads(line) for log in (shared / "runs").glob("*.jsonl") for line in log.read_text().splitlines()]
    done = Counter((line["node"], line["task"]) for line in lines)
    assert len(done) > 20
    assert {task: n for task, n in done.items() if n > 1} == {}
    assert "is being built by job" in "".join(said)
    assert list((shared / FOLDER).iterdir()) == []


def test_a_step_that_another_process_builds_is_waited_for(tmp_path: Path):
    process = holder(tmp_path)
    said: list[str] = []
    with quick(tmp_path, 60).held(STEP, said.append, leave=process.stdin.close) as waited:
        assert waited  # else the other would still hold it: it ends once this one has said that it waits
    (waits,) = said
    assert waits.startswith(f"{STEP} is being built by job {process.pid}.")
    assert waits.endswith(f" on {socket.gethostname()}: waiting for it")
    assert process.wait(timeout=60) == 0


def test_nobody_waits_where_nobody_holds_and_nothing_is_left(tmp_path: Path):
    for _ in range(2):
        with quick(tmp_path).held(STEP, pytest.fail) as waited:
            assert not waited
            assert (tmp_path / FOLDER / f"{STEP}.json").exists()
        assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_holder_of_this_machine_that_was_killed_is_not_waited_for(tmp_path: Path):
    process = holder(tmp_path)
    process.kill()
    process.wait()
    process.stdin.close()
    assert (tmp_path / FOLDER / f"{STEP}.json").exists()
    with Leases(Storage(str(tmp_path))).held(STEP, pytest.fail) as waited:
        assert waited


def test_a_holder_elsewhere_that_fell_silent_is_waited_for_no_longer_than_that(tmp_path: Path):
    leave_note(tmp_path)
    started = time.monotonic()
    with quick(tmp_path).held(STEP, silent):
        assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize("ahead", [-600, 0, 86_400])
def test_clocks_that_differ_by_minutes_end_no_lease(ahead: int, tmp_path: Path):
    beats = iter(range(25))
    leave_note(tmp_path, beat=-1, at=time.time() + ahead)

    def beat() -> None:
        leave_note(tmp_path, beat=next(beats, None) or 0, at=time.time() + ahead)
        if not beats.__length_hint__():
            raise TimeoutError

    started = time.monotonic()
    with pytest.raises(TimeoutError), quick(tmp_path).held(STEP, silent, beat):
        pytest.fail("the lease of a live holder was taken")
    assert time.monotonic() - started > 2  # twice what a silent one would have been given
    assert json.loads((tmp_path / FOLDER / f"{STEP}.json").read_text())["token"] == "theirs"


def test_a_note_of_long_ago_is_taken_over_at_once(tmp_path: Path):
    leave_note(tmp_path, at=time.time() - 1000)
    with Leases(Storage(str(tmp_path))).held(STEP, pytest.fail):
        pass


def test_half_a_note_is_nobodys(tmp_path: Path):
    Storage(str(tmp_path)).replace(f"{FOLDER}/{STEP}.json", b'{"token": "th')
    with quick(tmp_path).held(STEP, silent) as waited:
        assert waited


def test_a_lease_that_another_took_over_is_left_to_it(tmp_path: Path):
    with quick(tmp_path).held(STEP, pytest.fail):
        leave_note(tmp_path)
        time.sleep(0.5)
    assert json.loads((tmp_path / FOLDER / f"{STEP}.json").read_text())["token"] == "theirs"


def test_leases_work_on_s3(bucket: Callable[[str], str]):
    root = bucket("leases")
    leave_note(root)
    with quick(root).held(STEP, silent) as waited:
        assert waited
        time.sleep(0.5)
        note = Note.read(Storage(root).read(f"{FOLDER}/{STEP}.json") or b"")
        assert note is not None
        assert (note.pid, note.beat > 0) == (os.getpid(), True)
    assert Storage(root).names(FOLDER) == []


def test_what_cannot_take_a_lease_builds_without_one(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "leases").write_text("a file where the folder should be")
    said: list[str] = []
    with quick(tmp_path).held(STEP, said.append):
        pass
    assert len(said) == 1
    assert "no lease of this step could be taken" in said[0]


def test_a_build_is_told_as_live_until_its_process_is_gone(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    values["steps"]["extra"] = [{"step": "fatal_steps:Sleeps", "arguments": {"seconds": 2}}]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    root = tmp_path / "root"
    words = ("build-stage", "3", "--recipe", str(recipe), "--executor", "local", "--root", str(root))
    with subprocess.Popen([*COMMAND, *words], env=environment(tmp_path), stderr=subprocess.DEVNULL) as build:
        try:
            while not (root / "runs" / "now" / "small-3.json").exists() or not list((root / FOLDER).glob("2*.json")):
                assert build.poll() is None
                time.sleep(0.05)
            live = marco("ledger", 3, "--recipe", recipe, "--root", root, "--json")
        finally:
            build.kill()
    assert (live.json["running"], live.json["live"]) == (True, True)
    assert "note: being built" in live.err
    killed = marco("ledger", 3, "--recipe", recipe, "--root", root, "--json")
    assert (killed.json["running"], killed.json["live"]) == (True, False)
    assert "no live build is at it" in killed.err
    assert "no live build is at it" in marco("stats", 3, "--recipe", recipe, "--root", root).err


@pytest.mark.parametrize(("silent_for", "lives"), [(0, True), (60, True), (-300, True), (200, False)])
def test_a_run_elsewhere_lives_as_long_as_it_says_so(silent_for: int, lives: bool, tmp_path: Path):
    leave_note(tmp_path, at=time.time() - silent_for)
    assert (Leases(Storage(str(tmp_path))).holder(STEP) is not None) == lives


def test_prune_leaves_jobs_and_leases_and_what_a_live_job_builds(tmp_path: Path):
    storage, days_ago = Storage(str(tmp_path)), time.time() - 3 * 86_400
    for path in (f"{STEP}/a.0123456789ab.json", "runs/jobs/a-3-1/bundle.zip", "runs/leases/long-gone.json"):
        storage.replace(path, b"{}")
        os.utime(tmp_path / path, (days_ago, days_ago))
    assert [entry.path for entry in find(storage, [], time.time()).goes] == [f"{STEP}/a.0123456789ab.json"]
    leave_note(tmp_path)
    found = find(storage, [], time.time())
    assert (found.goes, list(found.building)) == ([], [STEP])
