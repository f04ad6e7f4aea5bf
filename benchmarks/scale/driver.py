"""The driver of many shards that do nothing: processor time for each, and the most memory it held.

In: how many shards of how many languages. Out: a `Measured` for each thing that was measured, each in a process of its
own. Times are of the processor where the driver alone is measured, since others may use the machine too.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.dedup_scale.watch import peak_bytes
from benchmarks.ledger_roots import Root
from benchmarks.scale.nothing import Answers, chain, through
from marco_data.cluster.ray_environment import set_ray_environment
from marco_data.dataset import Context
from marco_data.execute import Executor, LocalExecutor, Silent, manifest_name
from marco_data.execute import run as run_plan
from marco_data.record_table import Records, records_of
from marco_data.run_log import RunLog
from marco_data.step import Tools
from marco_data.storage import Storage


@dataclass(frozen=True)
class Measured:
    """`tasks` of work, the processor's seconds and the clock's, the most memory that the process held."""

    what: str
    shards: int
    languages: int
    tasks: int
    processor: float
    wall: float
    memory: int

    @property
    def a_second(self) -> float:
        """Tasks that the driver's one thread can see through in a second."""
        return self.tasks / max(self.processor, 1e-9)


def measured(what: str, shards: int, languages: int, scratch: Path | None = None) -> Measured:
    """One of MEASUREMENTS, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        arguments = ["--measure", what, "--shards", str(shards), "--languages", str(languages), "--scratch", folder]
        command = [sys.executable, "-m", "benchmarks.scale", *arguments]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Measured(**json.loads(said))


def measure_here(what: str, shards: int, languages: int, folder: Path) -> dict[str, Any]:
    """What `measured` asks of the process it starts."""
    tasks, processor, wall, memory = MEASUREMENTS[what](shards, languages, folder)
    return asdict(Measured(what, shards, languages, tasks, processor, wall, memory or peak_bytes(os.getpid())))


Timed = tuple[int, float, float, int]
"""Tasks, seconds of the processor, of the clock, and bytes of memory: 0 for this process's own."""


def _timed(tasks: int, work: Callable[[], None]) -> Timed:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return tasks, time.process_time() - processor, time.perf_counter() - wall, 0


def _run(shards: int, languages: int, folder: Path, executor: Executor, passes: int) -> Timed:
    plan, storage = chain(shards, languages, passes), Storage(str(folder / "root"))

    def work() -> None:
        result = run_plan(plan, storage, executor, Silent())
        assert all(len(records) == shards for records in result.records.values())
        executor.close()

    return _timed(shards * passes, work)


def _alone(shards: int, languages: int, folder: Path) -> Timed:
    """Planning, scheduling, books, run log and manifests of four passes; workers that take no time."""
    return _run(shards, languages, folder, Answers(), 4)


def _again(shards: int, languages: int, folder: Path) -> Timed:
    """A second run of what is all there: four manifests answer."""
    through(chain(shards, languages), Storage(str(folder / "root")))
    return _alone(shards, languages, folder)


def _committed(shards: int, languages: int, folder: Path) -> Timed:
    """One pass with its records committed to the disk, worker and driver in one process."""
    return _run(shards, languages, folder, LocalExecutor(), 1)


def _ray(shards: int, languages: int, folder: Path) -> Timed:
    """The same on Ray with two workers, once it is up: the driver's processor time, without theirs."""
    set_ray_environment()
    import ray

    from marco_data.ray_executor import RayExecutor

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        return _run(shards, languages, folder, RayExecutor(workers=2), 1)
    finally:
        ray.shutdown()


def _resumed(shards: int, languages: int, folder: Path) -> Timed:
    """A pass of which half the records are there and no manifest is, up to the first task that is sent."""
    plan, storage = chain(shards, languages, 1), Storage(str(folder / "root"))
    node = plan.nodes[0]
    tasks = node.tasks(Context(storage, Tools(), {}))
    place = folder / "root" / node.folder
    place.mkdir(parents=True)
    for done in Answers().run(tasks[: shards // 2], storage):
        assert done.record is not None
        (place / f"{done.record.key}.json").write_bytes(done.record.to_json())  # without waiting for the disk
    del tasks
    return _run(shards, languages, folder, Answers(), 1)


def _planned(shards: int, languages: int, folder: Path) -> Timed:
    """What `plan` and a build ask of a pass that is done: its tasks, their digest, its manifest, all its records."""
    plan, storage = chain(shards, languages, 2), Storage(str(folder / "root"))
    through(plan, storage)
    first, second = plan.nodes

    def work() -> None:
        before = records_of(storage, manifest_name(first, first.tasks(Context(storage, Tools(), {}))))
        assert before is not None
        tasks = second.tasks(Context(storage, Tools(), {first.name: before}))
        known = records_of(storage, manifest_name(second, tasks))
        assert known is not None
        assert sum(1 for _ in known) == shards
        assert not isinstance(known, Records) or known.sums()

    return _timed(2 * shards, work)


def _listed(shards: int, languages: int, folder: Path) -> Timed:
    """The records that one manifest lists: from the manifest's name to the last of them."""
    plan, storage = chain(shards, languages, 1), Storage(str(folder / "root"))
    through(plan, storage)
    (node,) = plan.nodes
    manifest = manifest_name(node, node.tasks(Context(storage, Tools(), {})))

    def work() -> None:
        assert sum(len(record.data) for record in records_of(storage, manifest) or ()) == shards

    return _timed(shards, work)


def _command(*words: str) -> Callable[[int, int, Path], Timed]:
    """A command on a root with a finished stage of so many shards, in a process of its own."""

    def run(shards: int, languages: int, folder: Path) -> Timed:
        root = folder / "finished"
        Root(str(root), shards, languages).finished()
        code = f"import sys; sys.argv[1:] = {[*words, '--root', str(root)]!r}\n{RUN}"
        before = os.times()
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        wall = time.perf_counter() - started
        return shards, spent, wall, int(done.stderr.rpartition("most: ")[2])

    return run


RUN = """
import atexit, os
from benchmarks.dedup_scale.watch import peak_bytes
from marco_data.cli import main
atexit.register(lambda: print("most:", peak_bytes(os.getpid()), file=sys.stderr))
main()
"""


def _logged(shards: int, languages: int, folder: Path) -> Timed:
    """The lines of the run log alone."""
    storage = Storage(str(folder / "root"))
    (node,) = chain(shards, languages, 1).nodes
    tasks = node.tasks(Context(storage, Tools(), {}))

    def work() -> None:
        with RunLog(storage) as log:
            for done in Answers().run(tasks, storage):
                log.note(done)

    return _timed(shards, work)


MEASUREMENTS: dict[str, Callable[[int, int, Path], Timed]] = {
    "alone": _alone,
    "again": _again,
    "committed": _committed,
    "ray": _ray,
    "resumed": _resumed,
    "planned": _planned,
    "logged": _logged,
    "listed": _listed,
    "stats": _command("stats", "3"),
    "ledger": _command("ledger", "3"),
}
