"""What happened, task by task: lines under `runs/` for people, for the page and for the times that `plan` goes by.

In: tasks that ended. Out: `runs/<when>-<job or process>-<segment>.jsonl`, and where remote storage was used also
`runs/<when>-<job or process>-storage.json`: how many requests of which kind, how many were tried again and why.
Knows nothing of what tasks do, and nothing is decided from it.
"""

import json
import os
import secrets
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from marco_data.errors import MarcoError
from marco_data.storage import Storage, canonical_json
from marco_data.storage_counts import COUNTS, StorageCounts
from marco_data.stragglers import Stragglers

if TYPE_CHECKING:
    from marco_data.execute import Done

JOB = "MARCO_DATA_JOB"
"""The environment variable by which a submitted job knows its own name."""
_DRAWN = secrets.token_hex(3)
"""The first process of each container is number 1, and many may be started in one second."""


def job_name() -> str:
    """This run's name among those of a root: the job's, or this process's where it is of no job."""
    return os.environ.get(JOB) or f"{os.getpid()}.{_DRAWN}"


class RunLog:
    """One line a finished task under runs/: when, where, how long, what failed. Never read to decide anything.

    Written in segments, so that a run of a million tasks does not write its first line again and again.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.stem = f"runs/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{job_name()}"
        self.segment = 0
        self.lines: list[str] = []
        self.written = time.monotonic()
        self.slow = Stragglers()
        self.asked = StorageCounts()  # of storage, by this process and by those that did the tasks
        self.own = COUNTS.copy()
        self.process = COUNTS.since(self.own).process

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.write()
        self.asked.add(COUNTS.since(self.own))
        with suppress(OSError, MarcoError):
            if self.asked.requests:
                self.storage.replace(f"{self.stem}-storage.json", canonical_json(self.asked.to_object()))

    def note(self, done: "Done") -> None:
        if done.storage.process != self.process:  # tasks of this process are counted with the rest of it
            self.asked.add(done.storage)
        line = {
            "task": done.task.key,
            "node": done.task.node.name,
            "folder": done.task.node.folder,
            "at": round(time.time(), 1),
            "seconds": round(done.seconds, 3),
            "processor": round(done.processor, 4),
            "bytes": done.task.weight,
            "host": done.host or socket.gethostname(),
            **({"storage_retries": dict(done.storage.retries)} if done.storage.retries else {}),
            **({"lost": dict(done.lost)} if done.lost else {}),
            "error": done.error,
        }
        self.slow.add(line)
        self.lines.append(json.dumps(line | {"trace": done.trace}, ensure_ascii=False))
        # Every ten seconds, an error within one: a thousand small puts a minute would cost more than the work.
        if time.monotonic() - self.written > (10 if done.error is None else 1):
            self.write()

    def write(self) -> None:
        """Write what there is; where storage does not take it, it goes with the next lines: no run ends by its log."""
        self.written = time.monotonic()
        if self.lines:
            with suppress(OSError, MarcoError):
                self.storage.replace(f"{self.stem}-{self.segment:05d}.jsonl", ("\n".join(self.lines) + "\n").encode())
                self.segment += 1
                self.lines = []
