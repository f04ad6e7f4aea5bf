"""The same text twice: the first by priority goes on, its copies follow it whatever becomes of it.

In: the documents sorted by text with what `same_ids` takes back and adds, a range of text hashes a task. Out: the first
document of each text and language, and its copies behind it, sorted by priority; and how many there are in each cell,
so that `ranks` knows where a number begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.history import History
from marco_data.nodes.duplicates.layout import (
    AGAIN,
    CLASSES,
    DISTINCT,
    DISTINCT_ORDER,
    PLACE_SHIFT,
    SCOPE_SHIFT,
    TEXT_ORDER,
    digests,
    nth,
    opened,
    table,
)
from marco_data.nodes.duplicates.same_ids import MERGED_ROWS, key_ranges
from marco_data.run_files import Table, changes, in_order, in_range, merged, write_run
from marco_data.step import Tools
from marco_data.steps.remove import CopiesRule
from marco_data.storage import Storage

ID_BITS = 24


@dataclass(frozen=True)
class Cells:
    """The order of priority cut into cells: by language, run and class, and where one is large by its first id bits."""

    starts: npt.NDArray[np.uint64]  # the least key of each cell, ascending

    @staticmethod
    def of(scopes: dict[int, int], run: int, partition: int, copies: CopiesRule) -> "Cells":
        """For so many documents of each language."""
        starts = []
        for scope, documents in sorted(scopes.items()):
            bits = min(ID_BITS, max(0, -(-documents // partition) - 1).bit_length())
            for document_class in range(CLASSES + (copies == "drop")):
                base = _key(scope, run << 8 | document_class)
                starts += [base + (part << (ID_BITS - bits)) for part in range(1 << bits)]
        return Cells(np.array(starts, np.uint64))

    def count(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        return np.bincount(np.searchsorted(self.starts, keys, side="right") - 1, minlength=len(self.starts))


def _key(scope: int, priority: int) -> int:
    return scope << SCOPE_SHIFT | priority << ID_BITS


def scopes_of(context: Context) -> dict[int, int]:
    """{language number: documents listed}."""
    sums: dict[int, int] = {}
    for record in context.done["documents"]:
        for scope, n in record.facts["scopes"].items():
            sums[int(scope)] = sums.get(int(scope), 0) + n
    return sums


@dataclass(frozen=True, kw_only=True)
class SameTexts(Node):
    kind: ClassVar[str] = "same_texts"
    whole: ClassVar[bool] = True

    rule: DropDuplicates
    copies: CopiesRule = "report"

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"removed": "first"} if self.copies == "drop" else {}

    def tasks(self, context: Context) -> list[Task]:
        history = History.of(context, self.rule)
        files = nth(history.all("documents"), 3) + nth(context.done["same_ids"], 1)
        rows = sum(file.rows for file in files)
        scopes = scopes_of(context)
        reads: dict[str, Any] = {"texts": digests(files), "scopes": {str(k): v for k, v in sorted(scopes.items())}}
        new = history.first_group << PLACE_SHIFT
        reads |= {"partition": self.rule.partition, "run": history.run, "new": new}
        inputs = (files, scopes, history.run, new)
        return [
            Task(self, f"texts-{i:05d}", {**reads, "range": [f"{a:x}", f"{b:x}"]}, (*inputs, a, b), 47 * rows)
            for i, (a, b) in enumerate(key_ranges(rows, self.rule.partition) if rows else [])
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        files, scopes, run, new, start, stop = task.inputs
        parts = in_range(opened(storage, files), start, stop)
        here, again = [np.empty(0, DISTINCT)], [np.empty(0, AGAIN)]
        for own, original in _distinct(merged(parts, TEXT_ORDER, MERGED_ROWS, whole=PLACE)):
            # Of earlier runs everything is known; what copies one of theirs follows it.
            old = original < new
            here.append(own[~old])
            mine = old & (own["place"] >= new)
            again.append(table(AGAIN, int(mine.sum()), original=original[mine], place=own["place"][mine]))
        distinct = in_order(np.concatenate(here), DISTINCT_ORDER)
        stem = f"{self.folder}/{task.key}"
        data = (
            write_run(storage, f"{stem}.distinct", [distinct], DISTINCT),
            write_run(storage, f"{stem}.again", [in_order(np.concatenate(again), ("original", "place"))], AGAIN),
        )
        cells = Cells.of(scopes, run, self.rule.partition, self.copies)
        facts = {
            "originals": cells.count(distinct["key"][distinct["copy"] == 0]).tolist(),
            "copies": cells.count(distinct["key"][distinct["copy"] == 1]).tolist(),
        }
        return Outcome(data, facts=facts)


PLACE = TEXT_ORDER[:-1]


def _distinct(chunks: Iterator[Table]) -> Iterator[tuple[Table, npt.NDArray[np.uint64]]]:
    """DISTINCT with the place of the original of each.

    Chunks are sorted by text and priority, records and what takes them back together; a text may go over many chunks.
    """
    text: tuple[Any, ...] | None = None
    original = np.empty(0, DISTINCT)
    for chunk in chunks:
        chunk = chunk[_stays(chunk)]
        if not len(chunk):
            continue
        starts = changes(chunk, ("text", "text_low", "scope"))
        starts[0] = text != _text(chunk[0])
        key = (chunk["scope"].astype(np.uint64) << np.uint64(SCOPE_SHIFT)) | (
            (chunk["priority"].astype(np.uint64) << np.uint64(ID_BITS)) | (chunk["id"] >> np.uint64(64 - ID_BITS))
        )
        columns = {name: chunk[name] for name in ("id", "id_low", "text", "place")}
        own = table(DISTINCT, len(chunk), key=key, **columns)
        # The one each follows: the last start before it, or the original of the chunk before.
        firsts = np.concatenate([original, own[starts]])
        follows = firsts[np.cumsum(starts) - (0 if len(original) else 1)]
        out = own.copy()
        for name in ("key", "id", "id_low"):
            out[name] = follows[name]
        out["copy"] = ~starts
        yield out, follows["place"]
        text, original = _text(chunk[-1]), follows[-1:]


def _text(record: Any) -> tuple[Any, ...]:
    return tuple(record[["text", "text_low", "scope"]].tolist())


def _stays(chunk: Table) -> npt.NDArray[np.bool_]:
    """Whether a record is not taken back: one that is has the same record with `gone` behind it."""
    gone = chunk["gone"] == 1
    same = ~changes(chunk, PLACE)
    taken_back = np.zeros(len(chunk), np.bool_)
    taken_back[:-1] = gone[1:] & same[1:]
    stays: npt.NDArray[np.bool_] = ~gone & ~taken_back
    return stays
