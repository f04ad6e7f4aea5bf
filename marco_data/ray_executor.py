"""The executor for a Ray cluster: a private one on this machine, or that at an address.

In: tasks, and what those of each step take of a machine. Out: their ends, as they come. Engines that a node's tasks
ask are started before the first of them and end with the last; how they are asked is `generation.ray_pool`'s. Knows
neither nodes nor what tasks do.

Ray schedules and nothing else: results are a few hundred bytes, data goes from storage to storage, and no state
is kept in actors. The driver alone decides about retries (`max_retries=0`), so that a task is never run by two
authorities at once; a worker that dies takes only the tasks it held, which are sent again one by one. Where, is Ray's
to say. The cluster may grow and shrink meanwhile: what is sent beyond its size is the demand that an autoscaler sees.
"""

import logging
import os
import pickle
import socket
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from marco_data.child import may_end
from marco_data.cluster.last_words import LastWords
from marco_data.cluster.ray_environment import set_ray_environment
from marco_data.dataset import Node, Task
from marco_data.errors import MarcoError, RecipeError
from marco_data.execute import ATTEMPTS, WORKERS_DIED, Done, Silent, one_thread_for_tokens, run_task
from marco_data.generation.replica import ENGINE
from marco_data.interrupts import same_handlers
from marco_data.places import Place
from marco_data.records import load_record
from marco_data.step import package_versions
from marco_data.storage import Storage

if TYPE_CHECKING:
    from marco_data.generation.ray_pool import Engines

PACK_BYTES = 64 << 20  # small shards travel together up to this: a Ray task costs about 1 ms, a sample shard no more
PACK_TASKS = 16
AHEAD = 500  # packs that a cluster is sent beyond what fits into it: an autoscaler sees no others
LOOK_SECONDS = 5.0  # between two looks at how large the cluster is, and at engines that were not there yet
PAUSE_SECONDS = 0.5  # after a worker died, for what it held to be given back
REPLY_BYTES = 90_000  # of the ends of a pack; what is larger than 100 KB goes through Ray's object store
STARTS = 3  # of Ray, on a machine that is too busy for it the first time
MOST_NODES = 8
"""Nodes that may die under a task before it is taken for their end. Nodes that are taken away are no fault of a task's:
even where a tenth of all tasks lose their node, one in 10^8 loses eight."""
CHECKED_PACKAGES = ("pyarrow", "numpy", "numba", "marco-data")
SAME_CODE = "install the same constraints file, and the modules the recipe names, on every node"
WORKER, MEMORY, NODE = "worker", "memory", "node"
REASONS = {
    MEMORY: "its machine ran out of memory and its worker was killed {n} times (pools file: `steps`, `memory`)",
    NODE: "its node died {n} times, and again with every step in a process of its own",
}


@dataclass
class Sent:
    """Tasks that travel together, and how often what ran them has died, by what it was."""

    tasks: Sequence[Task]
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def attempts(self) -> int:
        """Deaths that the tasks may be the cause of."""
        return self.lost[WORKER] + self.lost[MEMORY]

    @property
    def isolated(self) -> bool:
        """Whether each step is to work in a process of its own, so that a document fails and not the shard."""
        return self.attempts >= ATTEMPTS or self.lost[NODE] >= MOST_NODES

    @property
    def hopeless(self) -> bool:
        return self.attempts > ATTEMPTS or self.lost[NODE] >= MOST_NODES + ATTEMPTS

    def after(self, death: str) -> list["Sent"]:
        """What to send instead: each task alone, so that one of them at most brings the others down again."""
        return [Sent([task], self.lost + Counter({death: 1})) for task in self.tasks]

    def failed(self, task: Task, last_words: str) -> Done:
        most = max(self.lost, key=lambda cause: self.lost[cause])
        reason = REASONS.get(most, WORKERS_DIED).format(n=self.lost[most])
        return Done(task, None, 0.0, f"{reason}: {last_words}", lost=dict(self.lost))


@dataclass
class RayExecutor:
    """Tasks as Ray tasks: of a private Ray at most two packs in flight for each that fits, on a cluster 500 more.

    `workers` are the packs in flight on a cluster, the CPUs of a private Ray; `places` what the tasks of a step take,
    by its name. `engine` is the class that replicas are made of, `module:Class`. `say` is told what is waited for. Ray
    is started, or the cluster joined, when there is something to run; one that this process has already is used.
    """

    address: str | None = None
    workers: int | None = None
    places: Mapping[str, Place] = field(default_factory=dict)
    say: Callable[[str], None] = field(default_factory=lambda: Silent().say)
    ray: Any = None
    owned: bool = False
    engine: str = ENGINE
    engines: dict[str, "Engines"] = field(default_factory=dict)
    last_words: LastWords = field(default_factory=LastWords)

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        if not tasks:
            return
        self._start()
        node = tasks[0].node
        place = self.places.get(node.name, Place())
        engines = self._start_engines(getattr(node, "pools", {}))
        wants = place.wants(getattr(node, "cpus", 1.0))
        self._require_room(node, wants)
        options = {"num_cpus": wants["CPU"], "resources": dict(place.resources)}
        if place.memory is not None:
            options["memory"] = place.memory
        remote = self.ray.remote(max_retries=0, **options)(_run_pack)
        versions = package_versions(checked_packages(tasks), node.accept)
        fits = max(1, self._fitting(wants))
        # Tasks that ask engines take minutes each, however small their shard.
        together = [[task] for task in tasks] if engines else packs(tasks, min(fits, self._limit(place, fits, engines)))
        waiting = deque(Sent(pack) for pack in together)
        # The node once, not with each pack: its limits for 64 languages are 60 KB.
        shared = self.ray.put(node)
        later: deque[tuple[float, Sent]] = deque()  # not before when, of those whose worker died
        flying: dict[Any, Sent] = {}
        ended: SimpleQueue[Any] = SimpleQueue()
        limit, looked = 0, -LOOK_SECONDS
        try:
            while waiting or later or flying:
                while later and later[0][0] <= time.monotonic():
                    waiting.append(later.popleft()[1])
                if time.monotonic() - looked >= LOOK_SECONDS:
                    limit, looked = self._limit(place, max(1, self._fitting(wants)), engines), time.monotonic()
                while waiting and len(flying) < limit:
                    sent = waiting.popleft()
                    bare = [replace(task, node=None) for task in sent.tasks]  # type: ignore[arg-type]
                    reference = remote.remote(shared, squeezed(bare), storage, versions, isolated=sent.isolated)
                    flying[reference] = sent
                    # Not `ray.wait`, which looks at each of a thousand that are in flight for every one that ends.
                    reference.future().add_done_callback(lambda _, reference=reference: ended.put(reference))
                try:
                    due = later[0][0] - time.monotonic() if later else LOOK_SECONDS
                    reference = ended.get(timeout=min(LOOK_SECONDS, max(0.001, due)))
                except Empty:
                    continue
                yield from self._collect(reference, flying.pop(reference), later, storage)
        finally:
            # Who shuts Ray down ends the workers with it. To cancel by force a task that answers at this moment aborts
            # this process (Ray 2.60: "Tried to complete task that was not pending").
            if not self.owned and self.address is None:
                for reference in flying:
                    self.ray.cancel(reference)

    def _collect(
        self, reference: Any, sent: Sent, later: deque[tuple[float, Sent]], storage: Storage
    ) -> Iterator[Done]:
        errors = self.ray.exceptions
        try:
            ends: list[Done] = unsqueezed(self.ray.get(reference))
            for task, done in zip(sent.tasks, ends, strict=True):
                record = done.record
                if record is None and done.error is None:  # too large to travel
                    record = load_record(storage, task.node.folder, task.key)
                yield replace(done, task=task, record=record, lost=dict(sent.lost))
        except errors.RayTaskError as error:
            if isinstance(error.cause, MarcoError | OSError):
                raise error.cause from None
            last = str(error).strip().splitlines()[-1]
            raise RecipeError(f"a worker cannot run the plan: {last}", hint=SAME_CODE) from None
        except errors.RayError as error:
            # The worker, its node or its memory went. Whatever the pack had committed is found when it is sent again.
            if isinstance(error, errors.NodeDiedError | errors.LocalRayletDiedError | errors.RuntimeEnvSetupError):
                death, due = NODE, time.monotonic()  # the last: a node on which no worker of ours can start
            else:
                death = MEMORY if isinstance(error, errors.OutOfMemoryError) else WORKER
                self.last_words.keep(reference, sent.tasks, error, storage)
                due = time.monotonic() + PAUSE_SECONDS
            for following in sent.after(death):
                if following.hopeless:
                    yield following.failed(following.tasks[0], str(error).splitlines()[0])
                else:
                    later.append((due, following))

    def _limit(self, place: Place, fits: int, engines: Sequence["Engines"]) -> int:
        """Packs that may be in flight now, in a cluster into which so many fit."""
        if engines:
            most = max(1, sum(one.up() * one.shards_in_flight for one in engines))
        elif self.owned or self.address is None:
            most = 2 * fits
        else:
            most = self.workers or max(2 * fits, fits + AHEAD)
        return min(most, place.in_flight or most)

    def _fitting(self, wants: Mapping[str, float]) -> int:
        """How many such tasks the cluster has room for, were there nothing else in it."""
        return sum(fitting(node["Resources"], wants) for node in self.ray.nodes() if node["Alive"])

    def _require_room(self, node: Node, wants: Mapping[str, float]) -> None:
        if self._fitting(wants):
            return
        asked = ", ".join(f"{name} {amount:g}" for name, amount in wants.items())
        said = f"a task of `{node.name}` takes {asked}; no node of this Ray has that"
        if self.owned or self.address is None:
            raise RecipeError(said, hint=f"ask for less under `steps.{node.name}` of the pools file")
        self.say(f"note: {said}: it waits for one that has")

    def _start_engines(self, pools: Mapping[str, tuple[Any, str, str, int]]) -> list["Engines"]:
        """What runs in this cluster and these tasks ask, started where it is not there yet; all others end.

        A GPU is too dear to be held through the steps after generation, and may be what the next pool waits for.
        """
        asked: dict[str, tuple[Any, str, str, int]] = {}
        for served in pools.values():
            if served[0].kind == "vllm":
                # Here, because it imports ray, and what that reads from the environment is set only now.
                from marco_data.generation.ray_pool import replica_names, start_pool

                asked[replica_names(*served)[0]] = served
        for name in self.engines.keys() - asked:
            self.engines.pop(name).close()
        for name, served in asked.items():
            if name not in self.engines:
                owned = self.address is None
                self.engines[name] = start_pool(*served, owned=owned, engine=self.engine, say=self.say)
        return [self.engines[name] for name in asked]

    def _start(self) -> None:
        if self.ray is not None:
            return
        set_ray_environment()
        import ray

        self.ray = ray
        if self.address is None and ray.is_initialized():
            return
        for attempt in range(1, STARTS + 1):
            try:
                _knock(self.address)
                with same_handlers():
                    ray.init(
                        address=self.address or "local",
                        num_cpus=None if self.address else self.workers or os.cpu_count(),
                        include_dashboard=False if self.address is None else None,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        configure_logging=True,
                    )
                break
            except Exception as error:
                # What is of no class of its own says that a part of Ray was not up within its 30 seconds.
                slow = type(error) is Exception
                if not slow and not isinstance(error, OSError | RuntimeError | ValueError):
                    raise
                if not slow or attempt == STARTS:
                    raise RecipeError(
                        f"no Ray cluster at `{self.address or 'this machine'}`: {str(error).splitlines()[0]}",
                        hint="--executor local needs no Ray",
                    ) from error
                ray.shutdown()
        self.owned = self.address is None

    def close(self) -> None:
        while self.engines:
            self.engines.popitem()[1].close()
        if self.ray is not None:
            if self.owned or self.address is not None:
                self.ray.shutdown()
            self.ray = None


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes, in silence."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def checked_packages(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The packages whose versions these tasks' output depends on, and those that every result goes through."""

    def named(identity: Any) -> Iterator[str]:
        if isinstance(identity, Mapping):
            for key, value in identity.items():
                yield from value if key == "packages" else named(value)
        elif isinstance(identity, list):
            for value in identity:
                yield from named(value)

    of_tasks = {name for task in tasks for name in task.reads.get("packages", ())}
    return tuple(sorted({*CHECKED_PACKAGES, *named(tasks[0].node.identity), *of_tasks}))


def fitting(has: Mapping[str, float], wants: Mapping[str, float]) -> int:
    """How often a request fits into what a node has."""
    return int(min(has.get(name, 0.0) / amount + 1e-9 for name, amount in wants.items()))


def packs(tasks: Sequence[Task], workers: int) -> list[list[Task]]:
    """Neighbouring small tasks together, but never so many that a worker would stand idle."""
    most = max(1, min(PACK_TASKS, len(tasks) // (2 * workers)))
    out: list[list[Task]] = []
    size = 0
    for task in tasks:
        if out and len(out[-1]) < most and size + task.weight <= PACK_BYTES:
            out[-1].append(task)
            size += task.weight
        else:
            out.append([task])
            size = task.weight
    return out


def squeezed(value: Any) -> bytes:
    """What travels: a task of dedup names 450 bytes for each of hundreds of shards, which are much alike."""
    return zlib.compress(pickle.dumps(value))


def unsqueezed(data: bytes) -> Any:
    return pickle.loads(zlib.decompress(data))


def _run_pack(node: Node, pack: bytes, storage: Storage, versions: dict[str, str], *, isolated: bool) -> bytes:
    """The ends of tasks, squeezed: their counts of 64 languages by reason are kilobytes. Where that is still too much,
    the records stay in storage, where they were committed."""
    here = package_versions(tuple(versions), node.accept)
    if here != versions:
        other = {name: (versions[name], here[name]) for name in versions if here[name] != versions[name]}
        raise RecipeError(f"this worker's packages differ from the driver's (driver, worker): {other}", hint=SAME_CODE)
    one_thread_for_tokens()
    may_end()
    ends = [run_task(replace(task, node=node), storage, isolated=isolated).without_task() for task in unsqueezed(pack)]
    told = squeezed(ends)
    return told if len(told) <= REPLY_BYTES else squeezed([replace(end, record=None) for end in ends])
