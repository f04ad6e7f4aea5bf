"""The executor for a Ray cluster: a private one on this machine, or that at an address. The only file that imports ray.

Ray schedules and nothing else: results are a few hundred bytes, data goes from storage to storage, and no state
is kept in actors. The driver alone decides about retries (`max_retries=0`), so that a task is never run by two
authorities at once; a worker that dies takes only the tasks it held, which are sent again one by one.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from marco_data.dataset import Task
from marco_data.errors import RecipeError
from marco_data.execute import ATTEMPTS, Done, run_task
from marco_data.step import package_versions
from marco_data.storage import Storage

PACK_BYTES = 64 << 20  # small shards travel together up to this: a Ray task costs about 1 ms, a sample shard no more
PACK_TASKS = 16
CHECKED_PACKAGES = ("pyarrow", "numpy", "numba", "marco-data")


def set_auth_mode() -> None:
    """Ray 2.60 turns token authentication on in some orders of starting and not in others; say which is meant."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@dataclass
class RayExecutor:
    """Tasks as Ray tasks, at most two packs in flight for each CPU."""

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        set_auth_mode()
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self.ray = ray
        if ray.is_initialized():
            return
        try:
            ray.init(
                address=self.address or "local",
                num_cpus=None if self.address else self.workers or os.cpu_count(),
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RecipeError(
                f"no Ray cluster at `{self.address or 'this machine'}`: {str(error).splitlines()[0]}"
            ) from error

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        remote = self.ray.remote(max_retries=0, num_cpus=1)(_run_pack)
        versions = package_versions(CHECKED_PACKAGES)
        limit = self.workers or max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        waiting = [(pack, 1) for pack in packs(tasks, limit)]
        waiting.reverse()
        flying: dict[Any, tuple[list[Task], int]] = {}
        while waiting or flying:
            while waiting and len(flying) < 2 * limit:
                pack, attempt = waiting.pop()
                flying[remote.remote(pack, storage, versions)] = (pack, attempt)
            ready, _ = self.ray.wait(list(flying), num_returns=1, timeout=60)
            for reference in ready:
                pack, attempt = flying.pop(reference)
                yield from self._collect(reference, pack, attempt, waiting)

    def _collect(
        self, reference: Any, pack: list[Task], attempt: int, waiting: list[tuple[list[Task], int]]
    ) -> Iterator[Done]:
        try:
            for task, done in zip(pack, self.ray.get(reference), strict=True):
                yield replace(done, task=task)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, RecipeError) else None
            raise cause or RecipeError(f"a worker refused to work: {error}") from None
        except self.ray.exceptions.RayError as error:
            # The worker, its node or its memory went. Whatever the pack had committed is found when it is sent again.
            if attempt < ATTEMPTS:
                time.sleep(0.5 * attempt)
                waiting.extend(([task], attempt + 1) for task in reversed(pack))
                return
            reason = f"its worker died {ATTEMPTS} times: {str(error).splitlines()[0]}"
            for task in pack:
                yield Done(task, None, 0.0, reason)

    def close(self) -> None:
        if self.address is None:
            self.ray.shutdown()


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


def _run_pack(pack: list[Task], storage: Storage, versions: dict[str, str]) -> list[Done]:
    here = package_versions(CHECKED_PACKAGES)
    if here != versions:
        other = {name: (versions[name], here[name]) for name in versions if here[name] != versions[name]}
        raise RecipeError(
            f"this worker's packages differ from the driver's (driver, worker): {other}",
            hint="install the same constraints file on every node",
        )
    # The driver knows the tasks: an answer without them is a few hundred bytes, whatever the plan holds.
    return [replace(run_task(task, storage), task=None) for task in pack]
