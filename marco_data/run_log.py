"""What happened, task by task: lines under `runs/` for people, for the page and for the times that `plan` goes by.

In: tasks that ended. Out: `runs/<when>-<process>-<segment>.jsonl`. Knows nothing of what tasks do, and nothing is
decided from it.
"""

import json
import os
import socket
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from marco_data.storage import Storage

if TYPE_CHECKING:
    from marco_data.execute import Done


class RunLog:
    """One line a finished task under runs/: when, where, how long, what failed. Never read to decide anything.

    Written in segments, so that a run of a million tasks does not write its first line again and again.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.stem = f"runs/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
        self.segment = 0
        self.lines: list[str] = []
        self.written = time.monotonic()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError) if error[0] else nullcontext():  # what ended the run is told, not what came of it
            self.write()

    def note(self, done: "Done") -> None:
        self.lines.append(
            json.dumps(
                {
                    "task": done.task.key,
                    "node": done.task.node.name,
                    "at": round(time.time(), 1),
                    "seconds": round(done.seconds, 3),
                    "processor": round(done.processor, 4),
                    "host": socket.gethostname(),
                    "error": done.error,
                    "trace": done.trace,
                },
                ensure_ascii=False,
            )
        )
        # Every ten seconds, an error within one: a thousand small puts a minute would cost more than the work.
        if time.monotonic() - self.written > (10 if done.error is None else 1):
            self.write()

    def write(self) -> None:
        self.written = time.monotonic()
        if self.lines:
            self.storage.replace(f"{self.stem}-{self.segment:05d}.jsonl", ("\n".join(self.lines) + "\n").encode())
            self.segment += 1
            self.lines = []
