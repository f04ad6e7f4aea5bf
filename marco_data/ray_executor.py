"""The executor for a Ray cluster: a private one on this machine, or that at an address.

In: tasks. Out: their ends, as they come. Engines that a node's tasks ask are started before the first of them and live
until `close`; how they are asked is `generation.ray_pool`'s. Knows neither nodes nor what tasks do.

Ray schedules and nothing else: results are a few hundred bytes, data goes from storage to storage, and no state
is kept in actors. The driver alone decides about retries (`max_retries=0`), so that a task is never run by two
authorities at once; a worker that dies takes only the tasks it held, which are sent again one by one.
"""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from marco_data.dataset import Task
from marco_data.errors import MarcoError, RecipeError
from marco_data.execute import ATTEMPTS, WORKERS_DIED, Done, one_thread_for_tokens, run_task
from marco_data.generation.replica import ENGINE
from marco_data.step import package_versions
from marco_data.storage import Storage

if TYPE_CHECKING:
    from marco_data.generation.ray_pool import Engines

PACK_BYTES = 64 << 20  # small shards travel together up to this: a Ray task costs about 1 ms, a sample shard no more
PACK_TASKS = 16
STARTS = 3  # of Ray, on a machine that is too busy for it the first time
CHECKED_PACKAGES = ("pyarrow", "numpy", "numba", "marco-data")
SAME_CODE = "install the same constraints file, and the modules the recipe names, on every node"


@dataclass
class RayExecutor:
    """Tasks as Ray tasks, at most two packs in flight for each CPU of a private Ray, `workers` packs on a cluster.

    `engine` is the class that replicas are made of, `module:Class`. Ray is started, or the cluster
    joined, when there is something to run; one that this process has already is used.
    """

    address: str | None = None
    workers: int | None = None
    ray: Any = None
    owned: bool = False
    engine: str = ENGINE
    engines: dict[str, "Engines"] = field(default_factory=dict)

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        if not tasks:
            return
        self._start()
        node = tasks[0].node
        in_flight = self._start_engines(getattr(node, "pools", {}))
        share = getattr(node, "cpus", 1.0)
        remote = self.ray.remote(max_retries=0, num_cpus=share)(_run_pack)
        versions = package_versions(checked_packages(tasks), node.accept)
        cpus = max(1, int(self.ray.cluster_resources().get("CPU", 1) / share))
        limit = in_flight or (self.workers if self.workers and not self.owned else 2 * cpus)
        # Tasks that ask engines take minutes each, however small their shard.
        together = [[task] for task in tasks] if in_flight else packs(tasks, min(cpus, limit))
        waiting = deque((pack, 1) for pack in together)
        flying: dict[Any, tuple[list[Task], int]] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < limit:
                    pack, attempt = waiting.popleft()
                    flying[remote.remote(pack, storage, versions, isolated=attempt > ATTEMPTS)] = (pack, attempt)
                ready, _ = self.ray.wait(list(flying), num_returns=1, timeout=60)
                for reference in ready:
                    yield from self._collect(reference, *flying.pop(reference), waiting)
        finally:
            for reference in flying:
                self.ray.cancel(reference, force=True)

    def _collect(
        self, reference: Any, pack: list[Task], attempt: int, waiting: deque[tuple[list[Task], int]]
    ) -> Iterator[Done]:
        try:
            for task, done in zip(pack, self.ray.get(reference), strict=True):
                yield replace(done, task=task)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MarcoError | OSError):
                raise error.cause from None
            last = str(error).strip().splitlines()[-1]
            raise RecipeError(f"a worker cannot run the plan: {last}", hint=SAME_CODE) from None
        except self.ray.exceptions.RayError as error:
            # The worker, its node or its memory went. Whatever the pack had committed is found when it is sent again.
            lost_node = isinstance(error, self.ray.exceptions.NodeDiedError)
            following = attempt if lost_node else attempt + 1
            if following <= ATTEMPTS + 1:
                time.sleep(0.5)
                waiting.extend(([task], following) for task in pack)
                return
            for task in pack:
                yield Done(task, None, 0.0, f"{WORKERS_DIED}: {str(error).splitlines()[0]}")

    def _start_engines(self, pools: Mapping[str, tuple[Any, str, str, int]]) -> int:
        """Start what runs in this cluster and is not there yet; how many tasks it wants to be asked by, 0 if none."""
        in_flight = 0
        for pool, model, revision, context in pools.values():
            if pool.kind != "vllm":
                continue
            # Here, because it imports ray, and what that reads from the environment is set only now.
            from marco_data.generation.ray_pool import replica_names, start_pool

            name = replica_names(pool, model, revision, context)[0]
            if name not in self.engines:
                self.engines[name] = start_pool(
                    pool, model, revision, context, owned=self.address is None, engine=self.engine
                )
            in_flight += pool.replicas * pool.shards_in_flight
        return in_flight

    def _start(self) -> None:
        if self.ray is not None:
            return
        # Ray 2.60 turns token authentication on in some orders of starting and not in others; say which is meant.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_task_oom_retries", "0")  # for ever by default; a death is the driver's to count
        # On a busy machine its helpers take longer to come up than a raylet waits before it gives itself up.
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
        import ray

        self.ray = ray
        if self.address is None and ray.is_initialized():
            return
        for attempt in range(1, STARTS + 1):
            try:
                _knock(self.address)
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


def _run_pack(pack: list[Task], storage: Storage, versions: dict[str, str], *, isolated: bool) -> list[Done]:
    here = package_versions(tuple(versions), pack[0].node.accept)
    if here != versions:
        other = {name: (versions[name], here[name]) for name in versions if here[name] != versions[name]}
        raise RecipeError(f"this worker's packages differ from the driver's (driver, worker): {other}", hint=SAME_CODE)
    one_thread_for_tokens()
    return [run_task(task, storage, isolated=isolated).without_task() for task in pack]
