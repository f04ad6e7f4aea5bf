"""Killed at any moment, with a signal nothing can catch: the same command then goes on to the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from roots import COMMAND, command, digests, environment, unreferenced
from small_corpus import recipe_values, write_corpus, write_recipe

from marco_data.dataset import Dataset
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates import find_duplicates
from marco_data.steps.sign import Sign

# The step sleeps 0.1 s a document, so that half of all random moments fall into the measure pass.
SLOW = {"step": "fatal_steps:Sleeps", "arguments": {"seconds": 0.1}}
TIMEOUT_SECONDS = 120


@pytest.fixture(scope="module")
def home() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray keeps sockets below it
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    values = recipe_values(write_corpus(folder / "corpus"))
    values["steps"]["extra"] = [SLOW]
    # Partitions of four documents: each part of dedup is several tasks.
    values["steps"]["dedup"] = {"partition": 4}
    return write_recipe(folder / "small.yaml", {**values, "shards": {"bytes": 3000, "tokens": 2000}})


@pytest.fixture(scope="module")
def reference(recipe: Path, home: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    done = command(home, "build-stage", "3", "--recipe", recipe, "--root", root, "--executor", "local")
    assert done.returncode == 0, done.stderr
    return digests(root)


def start(home: str, recipe: Path, root: Path, *options: str) -> subprocess.Popen[bytes]:
    command_line = [*COMMAND, "build-stage", "3", "--recipe", str(recipe), "--root", str(root), *options]
    return subprocess.Popen(command_line, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def committed(root: Path) -> int:
    return len(list(root.glob("*/*.json")))


def wait_for(what: str, condition) -> None:
    """Wait until `condition()` is true; a run that never gets there is a failure, not a hang."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)


def descendants(pid: int) -> dict[int, str]:
    """{process id: command line} of everything below a process."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
    below, grown = {pid}, True
    while grown:
        more = {p for p, parent in parents.items() if parent in below} - below
        below, grown = below | more, bool(more)
    return {p: commands[p] for p in below - {pid}}


def alive(pids) -> list[int]:
    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "gone"

    return [pid for pid in pids if state(pid) not in ("gone", "Z")]


def kill_after(process: subprocess.Popen[bytes], root: Path, records: int, seconds: float) -> dict[int, str]:
    """kill -9 once so many records are there and a moment more has passed; what ran below the process."""
    wait_for(f"{records} records", lambda: committed(root) >= records or process.poll() is not None)
    time.sleep(seconds)
    below = descendants(process.pid)
    process.kill()
    process.wait()
    return below


def finish(home: str, recipe: Path, root: Path, *options: str) -> None:
    done = command(home, "build-stage", "3", "--recipe", recipe, "--root", root, "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["balanced"] is True


def check_root(root: Path, reference: dict[str, str]) -> None:
    assert digests(root) == reference
    assert unreferenced(root) == set()


# A whole run commits about 70 records; the moments are drawn from all of it.
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_a_killed_run_goes_on_to_the_same_bytes(seed, home, recipe, reference, tmp_path):
    moment = random.Random(seed)
    for _ in range(2):
        process = start(home, recipe, tmp_path, "--executor", "local")
        kill_after(process, tmp_path, moment.randrange(70), moment.random() / 5)
    finish(home, recipe, tmp_path, "--executor", "local")
    check_root(tmp_path, reference)


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_driver(home, recipe, reference, tmp_path):
    process = start(home, recipe, tmp_path, "--executor", "local", "--workers", "2")
    below = kill_after(process, tmp_path, 3, 0.05)
    assert len(below) >= 2
    wait_for("all workers ended", lambda: not alive(below))
    finish(home, recipe, tmp_path, "--executor", "local", "--workers", "2")
    check_root(tmp_path, reference)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_worker_processes_cost_nothing_but_their_time(seed, home, recipe, reference, tmp_path):
    moment = random.Random(seed)
    process = start(home, recipe, tmp_path, "--executor", "local", "--workers", "2")
    for records in (1, 3):
        wait_for(f"{records} records", lambda n=records: committed(tmp_path) >= n)
        time.sleep(moment.random() / 5)
        workers = [pid for pid, line in descendants(process.pid).items() if "spawn_main" in line]
        os.kill(moment.choice(sorted(workers)), signal.SIGKILL)
    assert process.wait(TIMEOUT_SECONDS) == 0
    check_root(tmp_path, reference)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_ray_driver_leaves_no_work_running_and_goes_on(seed, home, recipe, reference, tmp_path):
    moment = random.Random(seed)
    process = start(home, recipe, tmp_path, "--workers", "2")
    below = kill_after(process, tmp_path, moment.randrange(1, 40), moment.random() / 5)
    # Ray's own two agents go a minute later; what works, and what could give it work, goes at once.
    working = [pid for pid, line in below.items() if "Agent" not in line and "agent" not in line]
    assert len(working) > 2
    wait_for("Ray ended with its driver", lambda: not alive(working))
    finish(home, recipe, tmp_path, "--workers", "2")
    check_root(tmp_path, reference)


@pytest.mark.slow
def test_killed_ray_workers_cost_nothing_but_their_time(home, recipe, reference, tmp_path):
    process = start(home, recipe, tmp_path, "--workers", "2")
    for records in (1, 3):
        wait_for(f"{records} records", lambda n=records: committed(tmp_path) >= n)
        # Ray names a worker after what it runs.
        for pid in [p for p, line in descendants(process.pid).items() if line.startswith("ray::_run_pack")]:
            os.kill(pid, signal.SIGKILL)
    assert process.wait(TIMEOUT_SECONDS) == 0
    check_root(tmp_path, reference)


@pytest.fixture
def terminal() -> Iterator[None]:
    """Started in a shell's background, pytest and so its children would ignore the signal: as on a terminal instead."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


LOCAL, PROCESSES, RAY = ("--executor", "local"), ("--executor", "local", "--workers", "2"), ("--workers", "2")


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("asked", "options"),
    [
        pytest.param(signal.SIGINT, LOCAL, id="local"),
        pytest.param(signal.SIGINT, PROCESSES, id="2 processes"),
        pytest.param(signal.SIGINT, RAY, id="ray", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, PROCESSES, id="preempted"),
        pytest.param(signal.SIGTERM, RAY, id="preempted ray", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_ends_everything_in_a_sentence(asked, options, home, recipe, tmp_path):
    """As Ctrl-C on a terminal does: the whole group gets the signal. A scheduler's goes to the process it started."""
    arguments = ["build-stage", "3", "--recipe", str(recipe), "--root", str(tmp_path), *options]
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment(home), stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for("a record", lambda: committed(tmp_path) >= 1)
    below = descendants(process.pid)
    os.killpg(process.pid, asked) if asked == signal.SIGINT else process.send_signal(asked)
    told = process.communicate(timeout=TIMEOUT_SECONDS)[1].decode()
    assert process.returncode == 130, told
    assert "interrupted; the same command goes on where this one stopped" in told
    assert "Traceback" not in told
    wait_for("everything ended", lambda: not alive(below))


PHASES = [
    node.name for node in find_duplicates(Dataset(), DropDuplicates(), Sign()).nodes if node.name != "dedup_index"
]


@pytest.mark.slow
@pytest.mark.parametrize("node", PHASES)
def test_a_kill_at_every_phase_of_dedup_leaves_nothing_that_matters(node, home, recipe, reference, tmp_path):
    options = ("--executor", "local", "--workers", "2")
    process = start(home, recipe, tmp_path, *options)
    # The first record of the phase, or of what comes after it where it has nothing to do.
    later = PHASES[PHASES.index(node) :]
    wait_for(node, lambda: process.poll() is not None or any(list(tmp_path.glob(f"{n}-*/*.json")) for n in later))
    process.kill()
    process.wait()
    finish(home, recipe, tmp_path, *options)
    check_root(tmp_path, reference)


def test_scratch_of_killed_runs_is_removed_after_a_day(home, recipe, tmp_path):
    left = tmp_path / "runs" / "tmp"
    for name, hours in {"old.partial": 25, "young.partial": 1}.items():
        (left / name).mkdir(parents=True)
        (left / name / "data.partial").write_bytes(b"half")
        (left / f"{name}.file").write_bytes(b"half")
        then = time.time() - 3600 * hours
        for path in (left / name / "data.partial", left / name, left / f"{name}.file"):
            os.utime(path, (then, then))
    finish(home, recipe, tmp_path, "--executor", "local")
    assert sorted(path.name for path in left.iterdir()) == ["young.partial", "young.partial.file"]
