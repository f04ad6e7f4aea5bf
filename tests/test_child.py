"""Calls away from here, and calls that are watched: what kills or never ends is told, all else is as it was."""

import errno
import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from marco_data.child import STUCK, STUCK_AFTER, ChildDied, in_child, stuck_after, watched
from marco_data.errors import RecipeError, RetryableError, ShardError


@pytest.fixture
def quiet() -> Iterator[None]:
    """Without pytest's own pages on where a process died."""
    faulthandler.disable()
    yield
    faulthandler.enable()


def lives(process: int) -> bool:
    """Whether it is there, and no mere entry that waits for its parent to read."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def never() -> None:
    re.match("(a+)+$", "a" * 60 + "b")


def test_an_answer_is_as_it_was_and_so_is_an_error():
    large = os.urandom(5 << 20)
    assert in_child(lambda: large) == large
    with pytest.raises(ShardError, match="of its own"):
        in_child(lambda: (_ for _ in ()).throw(ShardError("of its own")))


@pytest.mark.parametrize("ends", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGSEGV), os.abort])
def test_what_ends_the_copy_is_told(ends, quiet):
    with pytest.raises(ChildDied, match="ended with status"):
        in_child(ends)


def test_a_copy_that_is_killed_from_outside_is_nobodys_fault():
    with pytest.raises(RetryableError, match="memory may have run out"):
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_copy_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setenv(STUCK, "3")
    started = time.monotonic()
    with pytest.raises(ChildDied, match="did not end in"):
        in_child(never)
    assert time.monotonic() - started < 60


def test_a_worker_that_is_stuck_ends_itself_and_says_where():
    script = "from test_child import *; from marco_data.child import may_end; may_end()\nwith watched(): {}"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for call, code in (("never()", 1), ("pass", 0)):
        done = subprocess.run(
            [sys.executable, "-c", script.format(call)],
            env=os.environ | {STUCK: "1", "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert ("in never" in done.stderr) == bool(code)


def test_what_is_no_worker_is_not_watched(monkeypatch):
    monkeypatch.setenv(STUCK, "0.05")
    monkeypatch.setattr("marco_data.child._may_end", False)
    with watched():
        time.sleep(0.2)


def test_a_copy_does_not_outlive_its_worker(tmp_path: Path):
    script = "import os; from test_child import *; in_child(lambda: (print(os.getpid(), flush=True), never()))"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    worker = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": paths}, stdout=-1, text=True
    )
    assert worker.stdout
    copy = int(worker.stdout.readline())
    worker.kill()
    assert worker.wait(timeout=60) == -signal.SIGKILL
    assert worker.stdout.read() == "", "the pipe that the copy had inherited is closed"
    worker.stdout.close()
    until = time.monotonic() + 30
    while lives(copy) and time.monotonic() < until:  # its files are closed before it is gone
        time.sleep(0.01)
    assert not lives(copy)


def test_a_copy_that_cannot_be_made_is_no_documents_fault(monkeypatch):
    def refuses() -> int:
        raise BlockingIOError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(os, "fork", refuses)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RetryableError, match="no further process"):
        in_child(never)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_a_watch_that_cannot_be_set_is_no_documents_fault(monkeypatch):
    def refuses(*given: object, **options: object) -> None:
        raise RuntimeError("unable to start watchdog thread")

    monkeypatch.setattr("marco_data.child._may_end", True)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", refuses)
    with pytest.raises(RetryableError, match="cannot be watched"), watched():
        pass


def test_a_copy_is_made_where_a_thousand_files_are_open(tmp_path: Path):
    with ExitStack() as held:
        for _ in range(1100):
            held.enter_context((tmp_path / "file").open("w"))
        assert in_child(lambda: 7) == 7


@pytest.mark.parametrize(("said", "seconds"), [(None, STUCK_AFTER), ("60", 60.0), ("0", 0.0)])
def test_the_time_is_the_users(said, seconds, monkeypatch):
    monkeypatch.delenv(STUCK, raising=False)
    if said:
        monkeypatch.setenv(STUCK, said)
    assert stuck_after() == seconds


@pytest.mark.parametrize("said", ["half an hour", "-1", "nan", "inf", "", "1e10"])
def test_a_time_that_is_none_is_told(said, monkeypatch):
    monkeypatch.setenv(STUCK, said)
    with pytest.raises(RecipeError, match="not a number of seconds"):
        stuck_after()
