"""What is sent where and when: packs in flight follow the cluster, and deaths are told apart and have an end."""

import hashlib
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import pytest
import xxhash
from fake_cluster import FakeCluster
from ray import exceptions

from marco_data import ray_executor
from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.errors import RecipeError
from marco_data.execute import ATTEMPTS, Done
from marco_data.languages import LANGUAGES
from marco_data.places import Place
from marco_data.ray_executor import MOST_NODES, REPLY_BYTES, RayExecutor, fitting
from marco_data.records import DROPPED, Count, load_record
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage


@dataclass(frozen=True, kw_only=True)
class Counts(Node):
    """A node of so many tasks that do next to nothing."""

    kind: ClassVar[str] = "counts"
    number: int = 40
    large: bool = True
    counted: tuple[Count, ...] = ()

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        weight = ray_executor.PACK_BYTES if self.large else 1
        return [Task(self, f"task-{n:03d}", {"n": n}, n, weight) for n in range(self.number)]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        counts = tuple(
            replace(count, documents=xxhash.xxh32_intdigest(repr((task.name, count)).encode()), bytes=10**9 + n)
            for n, count in enumerate(self.counted)
        )
        return Outcome(counts=counts, facts={"n": task.inputs, "isolated": tools.isolated})


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(ray_executor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(ray_executor, "PAUSE_SECONDS", 0.0)


def ends(tmp_path, cluster: FakeCluster, node: Node | None = None, **settings: Any) -> dict[str, Done]:
    executor = RayExecutor(ray=cluster, **settings)
    storage = Storage(str(tmp_path))
    done = list(executor.run((node or Counts()).tasks(Context(storage, Tools(), {})), storage))
    assert len({one.task.name for one in done}) == len(done)
    return {one.task.name: one for one in done}


def kills(name: str, by: Callable[[], Exception], times: int = 1000) -> Callable[[list[str], int], Exception | None]:
    """What befalls the pack with this task in it, so many times."""
    return lambda names, time: by() if name in names and time <= times else None


def node_died() -> Exception:
    return exceptions.NodeDiedError("Task failed due to the node dying")


def out_of_memory() -> Exception:
    return exceptions.OutOfMemoryError("Task was killed due to the node running low on memory")


def worker_died() -> Exception:
    return exceptions.WorkerCrashedError()


@pytest.mark.parametrize("large", [True, False])
def test_every_task_ends_once_with_its_own_record(large, tmp_path):
    cluster = FakeCluster([2.0])
    done = ends(tmp_path, cluster, Counts(large=large))
    assert [done[name].record.facts["n"] for name in sorted(done)] == list(range(40))
    assert len(cluster.sent) == (40 if large else 4)
    assert all(done[name].lost == {} and done[name].host for name in done)


def test_packs_in_flight_are_twice_what_fits_on_a_machine_of_ours_and_more_on_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "AHEAD", 20)
    own, other = FakeCluster([2.0], hold=4), FakeCluster([2.0], hold=22)
    ends(tmp_path / "own", own)
    ends(tmp_path / "other", other, address="ray://there:1")
    assert (own.most, other.most) == (4, 22)


def test_deaths_are_paused_after_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "PAUSE_SECONDS", 0.5)
    cluster = FakeCluster([40.0], dies=lambda names, attempt: worker_died() if attempt == 1 else None)
    started = time.monotonic()
    done = ends(tmp_path, cluster)
    took = time.monotonic() - started
    assert {tuple(one.lost.items()) for one in done.values()} == {(("worker", 1),)}
    assert 0.5 <= took < 15, "one after the other they are 20 s"


def test_a_node_that_can_start_no_worker_is_not_the_tasks_fault(tmp_path):
    broken = partial(exceptions.RuntimeEnvSetupError, "no room for the working_dir")
    done = ends(tmp_path, FakeCluster([2.0], dies=kills("task-007", broken, 5)))
    assert done["task-007"].error is None
    assert done["task-007"].lost == {"node": 5}
    assert not done["task-007"].record.facts["isolated"]


def test_a_run_that_is_left_takes_back_what_a_ray_that_goes_on_still_has_of_it(tmp_path):
    cluster, storage = FakeCluster([1.0]), Storage(str(tmp_path))
    ends = RayExecutor(ray=cluster).run(Counts().tasks(Context(storage, Tools(), {})), storage)
    next(ends)
    ends.close()
    assert (len(cluster.sent), cluster.cancelled) == (2, 1)


def test_a_cluster_that_grows_is_sent_more(tmp_path):
    small, grows = FakeCluster([1.0], seconds=0.05), FakeCluster([1.0], seconds=0.05, more_after=3)
    ends(tmp_path / "small", small)
    ends(tmp_path / "grows", grows)
    assert (small.most, grows.most) == (2, 4)


def test_what_a_step_takes_is_asked_of_ray_and_bounds_what_is_in_flight(tmp_path):
    cluster = FakeCluster([8.0], hold=4, resources={"memory": 8e9, "cpu_node": 1.0})
    place = Place(cpus=2, memory="4GB", resources={"cpu_node": 0.1})
    ends(tmp_path / "a", cluster, places={"counts": place})
    assert {key: cluster.sent[0][key] for key in ("num_cpus", "memory", "resources")} == {
        "num_cpus": 2.0,
        "memory": 4_000_000_000,
        "resources": {"cpu_node": 0.1},
    }
    assert cluster.most == 4  # two fit, by their memory
    ends(tmp_path / "b", cluster := FakeCluster([8.0], hold=3), places={"counts": Place(in_flight=3)})
    assert cluster.most == 3


def test_what_a_machine_of_ours_never_has_is_refused_and_a_cluster_is_waited_for(tmp_path):
    places = {"counts": Place(resources={"cpu_node": 0.1})}
    with pytest.raises(
        RecipeError, match=r"a task of `counts` takes CPU 1, cpu_node 0\.1; no node of this Ray"
    ) as told:
        ends(tmp_path, FakeCluster([8.0]), places=places)
    assert "steps.counts" in told.value.hint
    said: list[str] = []
    ends(tmp_path, FakeCluster([8.0]), places=places, address="ray://there:1", say=said.append)
    assert len(said) == 1
    assert "waits for one that has" in said[0]


@pytest.mark.parametrize(("codes", "travels"), [(5, True), (64, False)])
def test_no_answer_is_so_large_that_ray_would_store_it(codes, travels, tmp_path):
    """Twenty reasons, as quality has, of each language; sixteen tasks travel together."""
    counted = tuple(
        Count(DROPPED, "web", code, f"quality/reason_{n}") for code in list(LANGUAGES)[:codes] for n in range(20)
    )
    node, storage, cluster = Counts(number=32, large=False, counted=counted), Storage(str(tmp_path)), FakeCluster([1.0])
    done = ends(tmp_path, cluster, node)
    assert (max(cluster.replies) > 10_000) is travels
    assert max(cluster.replies) <= REPLY_BYTES
    for task in node.tasks(Context(storage, Tools(), {})):
        assert done[task.name].record == load_record(storage, node.folder, task.key)
        assert len(done[task.name].record.counts) == 20 * codes


@dataclass(frozen=True, kw_only=True)
class OfManyShards(Counts):
    """A node each of whose tasks reads hundreds of shards, as the first pass of dedup does."""

    kind: ClassVar[str] = "of_many_shards"

    def tasks(self, context: Context) -> list[Task]:
        files = [
            tuple(
                DataFile(f"{kind}/{digest(n, kind)}.parquet", n, digest(kind, n), n) for kind in ("measure", "decide")
            )
            for n in range(800)
        ]
        return [Task(self, f"task-{n}", {"n": n}, files, ray_executor.PACK_BYTES) for n in range(3)]


def digest(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def test_no_question_is_so_large_that_ray_would_store_it(tmp_path):
    node, cluster = OfManyShards(), FakeCluster([1.0])
    ends(tmp_path, cluster, node)
    (task, *_) = node.tasks(Context(Storage(str(tmp_path)), Tools(), {}))
    assert len(pickle.dumps(task.inputs)) > 100_000
    assert len(cluster.asked) == 3
    assert max(cluster.asked) <= REPLY_BYTES


class Held:
    """An engine pool that somebody holds."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_engines_that_a_step_does_not_ask_give_their_gpus_back_before_it_starts(tmp_path):
    held = Held()
    executor = RayExecutor(ray=FakeCluster([2.0]), engines={"engine-of-the-step-before": held})
    storage = Storage(str(tmp_path))
    for end in executor.run(Counts().tasks(Context(storage, Tools(), {})), storage):
        assert end.error is None
        assert held.closed
    assert executor.engines == {}


def test_a_request_fits_as_often_as_its_scarcest_part():
    assert fitting({"CPU": 8, "memory": 16e9}, {"CPU": 0.1}) == 80
    assert fitting({"CPU": 8, "memory": 16e9}, {"CPU": 1, "memory": 5e9}) == 3
    assert fitting({"CPU": 8}, {"CPU": 1, "memory": 5e9}) == 0


def test_a_node_that_goes_costs_its_tasks_no_attempt(tmp_path):
    cluster = FakeCluster([2.0], kills("task-007", node_died, MOST_NODES - 1))
    done = ends(tmp_path, cluster)
    assert {one.error for one in done.values()} == {None}
    assert done["task-007"].lost == {"node": MOST_NODES - 1}
    assert done["task-007"].record.facts["isolated"] is False
    assert done["task-008"].lost == {}


def test_a_task_under_which_every_node_dies_is_isolated_and_then_told_not_sent_for_ever(tmp_path):
    cluster = FakeCluster([2.0], kills("task-007", node_died))
    done = ends(tmp_path, cluster)
    failed = done.pop("task-007")
    assert {one.error for one in done.values()} == {None}
    times = MOST_NODES + ATTEMPTS
    assert failed.error.startswith(f"its node died {times} times, and again with every step in a process of its own: ")
    assert failed.lost == {"node": times}
    tries = [sent["isolated"] for sent in cluster.sent if sent["tasks"] == ["task-007"]]
    assert tries == [False] * MOST_NODES + [True] * ATTEMPTS


def test_a_worker_without_memory_is_told_apart_with_the_key_that_helps(tmp_path):
    done = ends(tmp_path, FakeCluster([2.0], kills("task-007", out_of_memory)))
    reason = f"its machine ran out of memory and its worker was killed {ATTEMPTS + 1} times"
    assert done["task-007"].error.startswith(f"{reason} (pools file: `steps`, `memory`): ")
    once = ends(tmp_path / "once", FakeCluster([2.0], kills("task-007", out_of_memory, 1)))["task-007"]
    assert (once.error, once.lost) == (None, {"memory": 1})


def test_a_worker_that_dies_takes_its_pack_along_once_and_then_one_task_fails(tmp_path):
    cluster = FakeCluster([2.0], kills("task-007", worker_died))
    done = ends(tmp_path, cluster, Counts(large=False))
    failed = done.pop("task-007")
    assert "its worker died 3 times, and again with every step in a process of its own" in failed.error
    assert {one.error for one in done.values()} == {None}
    assert sorted(name for name, one in done.items() if one.lost) == [f"task-{n:03d}" for n in range(10) if n != 7]
    assert [sent["isolated"] for sent in cluster.sent if sent["tasks"] == ["task-007"]] == [False, False, True]
