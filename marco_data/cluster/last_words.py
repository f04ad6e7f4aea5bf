"""The last words of workers that died, taken to `runs/` while their nodes still have them.

In: a Ray task whose worker was lost, and what it was to do. Out: `runs/<when>-<job>-died-<n>.log`, with the end of what
that worker wrote to its stderr and stdout, without secrets. Best effort, for people: a node that is gone takes its
logs along, and nothing depends on them.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marco_data.dataset import Task
from marco_data.redact import redacted
from marco_data.run_log import job_name
from marco_data.storage import Storage

MOST_BYTES = 64 << 10
"""Of one worker; with MOST_DEATHS the most that a run leaves."""
MOST_DEATHS = 50
MOST_SECONDS = 120.0
"""That a run spends on asking: while it asks, no shard is sent."""
LINES = 400
ANSWER_SECONDS = 5
NOTICED_SECONDS = 3.0
"""Ray's own table of tasks is behind by a second or two."""


@dataclass
class LastWords:
    """Those of one run's workers."""

    deaths: int = 0
    spent: float = 0.0
    seen: set[str] = field(default_factory=set)

    def keep(self, reference: Any, tasks: Sequence[Task], error: BaseException, storage: Storage) -> None:
        """Write down what the worker that had this task said last, if anybody still knows it."""
        if self.deaths >= MOST_DEATHS or self.spent > MOST_SECONDS:
            return
        began = time.monotonic()
        with suppress(Exception):  # of Ray's state, of its HTTP client, of storage: the run goes on as without
            said = "\n".join([*self._of_cluster(reference)] or [*self._of_machine()])
            if said:
                self.deaths += 1
                why = (str(error).strip() or type(error).__name__).splitlines()[0]
                head = redacted(f"{tasks[0].node.name} {', '.join(task.key for task in tasks)}: {why}\n")
                when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                name = f"runs/{when}-{job_name()}-died-{self.deaths:03d}.log"
                last = redacted(said).encode("utf-8", "replace")[-MOST_BYTES:]
                storage.replace(name, head.encode() + last + b"\n")
        self.spent += time.monotonic() - began

    def _of_cluster(self, reference: Any) -> Iterator[str]:
        """Asked of the cluster's head, which asks the node; nothing where no head listens or none knows the worker."""
        from ray.util.state import get_log, get_task, list_logs

        end = time.monotonic() + NOTICED_SECONDS
        worker = node = None
        with suppress(Exception):
            while not worker and time.monotonic() < end:
                found = get_task(reference.task_id().hex(), timeout=ANSWER_SECONDS)
                for task in found if isinstance(found, list) else [found]:
                    worker, node = getattr(task, "worker_id", None), getattr(task, "node_id", None)
                if not worker:
                    time.sleep(0.5)
        if not worker or not node:
            return
        with suppress(Exception):
            listed = list_logs(node_id=node, glob_filter=f"*{worker}*", timeout=ANSWER_SECONDS)
            for name in sorted({Path(file).name for files in listed.values() for file in files}):
                if name.endswith((".err", ".out")) and name not in self.seen:
                    self.seen.add(name)
                    lines = get_log(node_id=node, filename=name, tail=LINES, timeout=ANSWER_SECONDS, errors="replace")
                    yield from _told(name, "".join(lines))

    def _of_machine(self) -> Iterator[str]:
        """The workers of this machine's Ray that are gone: all of them where none was told of."""
        import ray

        node: Any = ray._private.worker._global_node
        folder = None if node is None else Path(str(node.get_logs_dir_path()))
        for path in sorted(folder.glob("worker-*")) if folder else ():
            pid = re.search(r"-(\d+)\.(?:err|out)$", path.name)
            if pid and path.name not in self.seen and not _lives(int(pid[1])):
                self.seen.add(path.name)
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - MOST_BYTES))
                    yield from _told(path.name, file.read().decode("utf-8", "replace"))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _told(name: str, said: str) -> Iterator[str]:
    # Ray's own marks of which job and task wrote what follows.
    lines = [
        line for line in said.splitlines() if line.strip() and not re.match(r":(?:job_id|task_name|actor_name):", line)
    ]
    if lines:
        yield f"{name}:"
        yield from lines[-LINES:]
