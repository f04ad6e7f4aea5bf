"""What is said of the documents of a group, brought together: so that a shard's sidecar looks into two files.

In: the lines of `same_ids` and `settle_open`, each file of which has lines of documents of any group. Out, for each
group of shards, two run files with those of its own documents, sorted by place. Without it every shard would look into
every one of those files: of a million shards and thousands of files that is more requests than all else
(`docs/scale.md`). And a sidecar is made again only where something is said otherwise of its own group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.layout import LINE, PLACE_SHIFT, digests, nth, opened
from marco_data.run_files import Table, in_order, write_run
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage


@dataclass(frozen=True, kw_only=True)
class Lines(Node):
    kind: ClassVar[str] = "lines"
    whole: ClassVar[bool] = True

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        said = (nth(context.done["same_ids"], 0), [f for r in context.done["settle_open"] for f in r.data[2:]])
        reads = {"same_ids": digests(said[0]), "settled": digests(said[1])}
        tasks = []
        for record in context.done["documents"]:
            group = record.facts["group"]
            start, rows = group << PLACE_SHIFT, record.data[0].rows
            places = {**reads, "places": [start, rows]}
            tasks.append(Task(self, f"group-{group:05d}", places, (said, start, rows), LINE.itemsize * rows))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        said, start, rows = task.inputs
        stem = f"{self.folder}/{task.key}"
        return Outcome(
            tuple(
                write_run(storage, f"{stem}.{name}", [in_order(between(storage, files, start, rows), ("place",))], LINE)
                for name, files in zip(("ids", "settled"), said, strict=True)
            )
        )


def between(storage: Storage, files: Sequence[DataFile], start: int, rows: int) -> Table:
    """The lines of `rows` places from `start` on, of files that are sorted by place."""
    parts = [np.empty(0, LINE)]
    for file in opened(storage, files):
        parts.append(file.read(file.find(start), file.find(start + rows)))
    return np.concatenate(parts)
