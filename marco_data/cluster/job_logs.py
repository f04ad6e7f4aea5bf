"""What a job left under `runs/` of its root: for when its cluster, or the node that it wrote its words on, is gone.

In: a root and a job's name. Out: its tasks as they ended, in their order, and the last words of workers that died.
Knows no cluster.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from marco_data.storage import Storage


def ended_tasks(storage: Storage, job: str) -> Iterator[dict[str, Any]]:
    """A line for each task that ended, in the order of their ends; one cut off by a kill is passed over."""
    for name in storage.names("runs"):
        if name.endswith(".jsonl") and name.rpartition("-")[0].partition("-")[2] == job:
            yield from storage.read_json_lines(f"runs/{name}")


def last_words(storage: Storage, job: str) -> Iterator[str]:
    """What each worker that died said last, as far as it was still to be had."""
    for name in storage.names("runs"):
        if re.fullmatch(rf"\d{{8}}T\d{{6}}Z-{re.escape(job)}-died-\d+\.log", name):
            yield (storage.read(f"runs/{name}") or b"").decode("utf-8", "replace").rstrip()


def told(storage: Storage, job: str) -> Iterator[str]:
    """The same for people: tasks by step, and each failure with where it was and how it went."""
    done: Counter[str] = Counter()
    failed: list[dict[str, Any]] = []
    for task in ended_tasks(storage, job):
        done[str(task.get("node"))] += 1
        if task.get("error"):
            failed.append(task)
    for node, tasks in done.items():
        broken = sum(task.get("node") == node for task in failed)
        yield f"{node}: {tasks:,} tasks ended" + (f", {broken:,} failed" if broken else "")
    for task in failed:
        yield f"failed: {task.get('node')} {task.get('task')} on {task.get('host')}: {task['error']}"
        if task.get("trace"):
            yield str(task["trace"]).rstrip()
    for words in last_words(storage, job):
        yield f"a worker died of {words}"
