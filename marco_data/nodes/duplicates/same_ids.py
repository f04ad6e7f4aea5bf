"""The same id with the same text again is dropped; with another text it is another document and gets a new id.

In: the documents sorted by id, a range of ids a task. Out: lines for what was dropped or renamed, by place, and what
`same_texts` has to take back and add, by text. All languages together, so that an id never means two documents.

Of an id that an earlier run knows with one text, that text keeps it, whatever later runs bring.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import xxhash

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import SAME_ID, DropDuplicates
from marco_data.nodes.duplicates.history import History
from marco_data.nodes.duplicates.layout import (
    LINE,
    TEXT,
    TEXT_ORDER,
    digests,
    nth,
    opened,
    table,
)
from marco_data.run_files import Table, changes, in_order, in_range, merged, write_run
from marco_data.step import Tools
from marco_data.storage import Storage

ORDER = ("id", "id_low", "text", "text_low", "place")
MERGED_ROWS = 1 << 20


def key_ranges(rows: int, partition: int, least: int = 0, most: int = 1 << 64) -> list[tuple[int, int]]:
    """Equal ranges of keys that are hashes, of about `partition` of the rows each."""
    n = max(1, -(-rows // partition))
    bounds = [least + (most - least) * i // n for i in range(n + 1)]
    return list(pairwise(bounds))


@dataclass(frozen=True, kw_only=True)
class SameIds(Node):
    kind: ClassVar[str] = "same_ids"
    whole: ClassVar[bool] = True

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"version": 2}

    def tasks(self, context: Context) -> list[Task]:
        files = nth(History.of(context, self.rule).all("documents"), 2)
        rows = sum(file.rows for file in files)
        reads = {"ids": digests(files)}
        return [
            Task(self, f"ids-{i:05d}", {**reads, "range": [f"{a:x}", f"{b:x}"]}, (files, a, b), 42 * rows)
            for i, (a, b) in enumerate(key_ranges(rows, self.rule.partition) if rows else [])
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        files, start, stop = task.inputs
        lines, texts, renamed = [], [], 0
        parts = in_range(opened(storage, files), start, stop)
        for chunk in merged(parts, ORDER, MERGED_ROWS, whole=("id", "id_low")):
            some, changed, n = resolved(chunk)
            lines.append(some)
            texts.append(changed)
            renamed += n
        stem = f"{self.folder}/{task.key}"
        all_lines = np.concatenate([np.empty(0, LINE), *lines])
        all_texts = np.concatenate([np.empty(0, TEXT), *texts])
        data = (
            write_run(storage, f"{stem}.lines", [in_order(all_lines, ("place",))], LINE),
            write_run(storage, f"{stem}.texts", [in_order(all_texts, TEXT_ORDER)], TEXT),
        )
        return Outcome(data, facts={"renamed": renamed})


def resolved(documents: Table) -> tuple[Table, Table, int]:
    """(lines, changes to the texts, texts with a new id) of documents sorted by id and text, with all of each id."""
    new_id = changes(documents, ("id", "id_low"))
    group = np.cumsum(new_id) - 1
    shared = np.bincount(group)[group] > 1 if len(group) else np.zeros(0, np.bool_)
    documents, new_id = documents[shared], new_id[shared]
    if not len(documents):
        return np.empty(0, LINE), np.empty(0, TEXT), 0
    new_text = changes(documents, ("id", "id_low", "text", "text_low"))
    # Sorted by place, so that the first of a text is of its earliest run.
    first = np.flatnonzero(new_text)[np.cumsum(new_text) - 1]
    id_group = np.cumsum(new_id) - 1
    run = documents["priority"] >> 8
    earliest = np.full(id_group[-1] + 1, np.iinfo(np.uint32).max, np.uint32)
    np.minimum.at(earliest, id_group, run)
    of_earliest = run[first] == earliest[id_group]
    texts_of_earliest = np.bincount(id_group[new_text & of_earliest], minlength=len(earliest))
    texts = np.bincount(id_group[new_text], minlength=len(earliest))
    keeps = of_earliest & (texts_of_earliest[id_group] == 1)
    renames = (texts[id_group] > 1) & ~keeps

    ids = np.stack([documents["id"], documents["id_low"]], axis=1)
    hashes = np.stack([documents["text"], documents["text_low"]], axis=1)
    for i in np.flatnonzero(renames & new_text):
        both = ids[i].astype(">u8").tobytes() + hashes[i].astype(">u8").tobytes()
        ids[i] = np.frombuffer(xxhash.xxh3_128_digest(both), ">u8")
    ids = ids[first]
    repeated = ~new_text
    told = repeated | renames
    lines = table(
        LINE,
        int(told.sum()),
        place=documents["place"][told],
        reason=np.where(repeated, SAME_ID, 0)[told],
        id=ids[told],
        twin=np.where(repeated[:, None], ids, 0)[told],
        jaccard=np.where(repeated, 1, 0)[told],
        counted=repeated[told],
    )
    names = ("text", "text_low", "scope", "priority", "place")
    columns = {name: documents[name][told] for name in names}
    back = table(TEXT, len(lines), **columns, id=documents["id"][told], id_low=documents["id_low"][told], gone=1)
    new = renames & new_text
    columns = {name: documents[name][new] for name in names}
    again = table(TEXT, int(new.sum()), **columns, id=ids[new, 0], id_low=ids[new, 1])
    return lines, np.concatenate([back, again]), int((renames & new_text).sum())
