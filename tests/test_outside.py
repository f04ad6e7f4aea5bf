"""What goes wrong around a task: tried again where that may pass; the run ends only with what all tasks would meet."""

import errno
import os
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from marco_data import execute
from marco_data.dataset import Outcome, Task
from marco_data.errors import MachineError, RecipeError, RetryableError, ShardError
from marco_data.execute import ATTEMPTS, Done, run_task
from marco_data.outside import PASSING
from marco_data.s3 import translated
from marco_data.storage import DISK_FULL, Storage


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute.time, "sleep", lambda seconds: None)


def done_by(root: object, *errors: Exception) -> tuple[Done, int]:
    """The end of a task that raises one of `errors` at each try, in their order, and how often it was tried."""
    left = list(errors)

    def work(*given: Any) -> Outcome:
        if left:
            raise left.pop(0)
        return Outcome((), {}, {})

    node = SimpleNamespace(folder="a-node", new_languages=(), settled_by_first=False, work=work)
    done = run_task(Task(node, "a", {}, ()), Storage(str(root)))
    return done, len(errors) - len(left) + (done.record is not None)


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/somewhere")


def skewed() -> Exception:
    answer = {"Error": {"Code": "RequestTimeTooSkewed"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return translated(ClientError(answer, "GetObject"), "get_object", "bucket/a", None)


@pytest.mark.parametrize(
    "error", [*map(system, sorted(PASSING)), RetryableError("away"), skewed()], ids=lambda error: str(error)[:20]
)
def test_what_may_pass_is_tried_again_and_told_with_its_host(error: Exception, tmp_path: Path):
    done, tries = done_by(tmp_path, error, error)
    assert (done.error, tries) == (None, ATTEMPTS)
    done, tries = done_by(tmp_path / "other", *[error] * (ATTEMPTS + 1))
    assert tries == ATTEMPTS
    assert f"({ATTEMPTS} attempts, the last on `{socket.gethostname()}`)" in str(done.error)
    assert (getattr(error, "strerror", None) or error.message) in str(done.error)


@pytest.mark.parametrize("error", [ShardError("no"), KeyError("bug"), system(errno.EPERM)], ids=str)
def test_what_will_not_pass_fails_its_shard_at_once(error: Exception, tmp_path: Path):
    done, tries = done_by(tmp_path, error)
    assert tries == 1
    assert done.error
    assert done.trace


@pytest.mark.parametrize("number", DISK_FULL)
def test_a_full_disk_ends_the_run_where_the_root_lies_on_it_and_is_one_machines_where_not(number: int, tmp_path: Path):
    with pytest.raises(OSError, match=os.strerror(number)):
        done_by(tmp_path, system(number))
    done, tries = done_by(f"memory://full/{number}", *[system(number)] * ATTEMPTS)
    assert tries == ATTEMPTS
    for part in (os.strerror(number), socket.gethostname(), tempfile.gettempdir(), "TMPDIR"):
        assert part in str(done.error)


def test_a_clock_that_is_off_is_a_mistake_of_its_machine_and_told_as_one_where_a_command_starts():
    assert isinstance(skewed(), MachineError)
    assert isinstance(skewed(), RecipeError)
    assert "set its clock" in str(skewed())


def test_a_mistake_that_all_tasks_would_meet_ends_the_run(tmp_path: Path):
    with pytest.raises(RecipeError, match="wrong"):
        done_by(tmp_path, RecipeError("wrong"))
