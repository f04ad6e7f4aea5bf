"""Numbers by priority: how many documents of its language come before each one that is the first with its text.

In: those documents and their copies sorted by priority, a few cells a task. Out: ids and places in order of rank,
places with their ranks sorted by place, and the copies by the rank of what they copy.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.history import History
from marco_data.nodes.duplicates.layout import (
    COPY,
    DISTINCT_ORDER,
    PLACED,
    RANKED,
    SCOPE_SHIFT,
    digests,
    nth,
    opened,
    rank_of,
    table,
)
from marco_data.nodes.duplicates.same_ids import MERGED_ROWS
from marco_data.nodes.duplicates.same_texts import ID_BITS, Cells, scopes_of
from marco_data.run_files import in_order, in_range, merged, stretches, write_run
from marco_data.step import Tools
from marco_data.steps.remove import CopiesRule
from marco_data.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Ranks(Node):
    kind: ClassVar[str] = "ranks"
    whole: ClassVar[bool] = True

    rule: DropDuplicates
    copies: CopiesRule = "report"

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"removed": "first"} if self.copies == "drop" else {}

    def tasks(self, context: Context) -> list[Task]:
        found = context.done["same_texts"]
        if not found:
            return []
        files = nth(found, 0)
        history = History.of(context, self.rule)
        cells = Cells.of(scopes_of(context), history.run, self.rule.partition, self.copies).starts
        originals = np.sum([r.facts["originals"] for r in found], axis=0)
        copies = np.sum([r.facts["copies"] for r in found], axis=0)
        scopes = (cells >> np.uint64(SCOPE_SHIFT)).astype(np.int64)
        reads = {"distinct": digests(files)}
        tasks = []
        for i, (a, b) in enumerate(stretches((originals + copies).tolist(), self.rule.partition)):
            start, stop = int(cells[a]), int(cells[b]) if b < len(cells) else 1 << 64
            # How many documents of the language come before the first of each that begins or goes on here.
            before = {int(s): int(originals[:a][scopes[:a] == s].sum()) for s in np.unique(scopes[a:b])}
            base = {scope: history.known[scope] + n for scope, n in before.items()}
            said = {"range": [f"{start:x}", f"{stop:x}"], "base": {str(k): v for k, v in base.items()}}
            weight = 33 * int((originals + copies)[a:b].sum())
            tasks.append(Task(self, f"ranks-{i:05d}", {**reads, **said}, (files, start, stop, base), weight))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        files, start, stop, base = task.inputs
        following = dict(base)
        ranked, placed, copied = [], [], []
        ranges: dict[int, int] = {}
        rank_before = -1
        for chunk in merged(in_range(opened(storage, files), start, stop), DISTINCT_ORDER, MERGED_ROWS):
            scopes = (chunk["key"] >> np.uint64(SCOPE_SHIFT)).astype(np.int64)
            rank = np.empty(len(chunk), np.uint64)
            original = chunk["copy"] == 0
            for scope in np.unique(scopes).tolist():
                mine = np.flatnonzero(scopes == scope)
                number = following[scope] - 1 + np.cumsum(original[mine])
                rank[mine] = number.astype(np.uint64) | np.uint64(scope << SCOPE_SHIFT)
                new = int(original[mine].sum())
                following[scope] += new
                ranges[scope] = ranges.get(scope, 0) + new
            if not original[0]:  # its original ended the chunk before
                assert rank_before == int(rank[0])
            rank_before = int(rank[-1])
            kept = chunk[original]
            ids = np.stack([kept["id"], kept["id_low"]], axis=1)
            ranked.append(table(RANKED, len(kept), id=ids, place=kept["place"]))
            placed.append(table(PLACED, len(kept), place=kept["place"], rank=rank[original]))
            copied.append(table(COPY, int((~original).sum()), rank=rank[~original], place=chunk["place"][~original]))
        stem = f"{self.folder}/{task.key}"
        by_place = in_order(np.concatenate([np.empty(0, PLACED), *placed]), ("place",))
        data = (
            write_run(storage, f"{stem}.ranked", ranked, RANKED, block=128),
            write_run(storage, f"{stem}.placed", [by_place], PLACED),
            write_run(storage, f"{stem}.copies", copied, COPY),
        )
        spans = [[rank_of(scope, base[scope]), n] for scope, n in sorted(ranges.items()) if n]
        return Outcome(data, facts={"spans": spans})


def taken_out(context: Context, rule: DropDuplicates, copies: CopiesRule) -> list[tuple[int, int]]:
    """(first rank, ranks) by language of what `remove` lists, where it comes first of this run; else none."""
    found = context.done["same_texts"]
    if copies != "drop" or not found:
        return []
    history = History.of(context, rule)
    starts = Cells.of(scopes_of(context), history.run, rule.partition, copies).starts
    originals = np.sum([r.facts["originals"] for r in found], axis=0)
    sums: dict[int, int] = {}
    for key, n in zip(starts.tolist(), originals.tolist(), strict=True):
        scope, document_class = key >> SCOPE_SHIFT, (key >> ID_BITS) & 0xFF
        if document_class == 0 and n:
            sums[scope] = sums.get(scope, 0) + n
    return [(rank_of(scope, history.known[scope]), n) for scope, n in sorted(sums.items())]
