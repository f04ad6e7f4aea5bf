"""Who shares a bucket with whom: band keys of all groups merged, a range of keys a task.

In the first round each document is paired with the two first of each of its buckets, which settles nearly all; buckets
of more than three are kept for the second. There the documents that are still open are paired with all of the bucket's
`first` that were not dropped. So a bucket of a million near duplicates costs two million pairs and not 64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.bands import key_bits
from marco_data.nodes.duplicates.history import History
from marco_data.nodes.duplicates.layout import BAND, PAIR, digests, nth, opened, table
from marco_data.nodes.duplicates.same_ids import MERGED_ROWS, key_ranges
from marco_data.nodes.duplicates.states import States
from marco_data.run_files import RunFile, SortedRuns, Table, changes, in_range, merged, write_run
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage

ASKED = 2
PAIRS_SORTED = 1 << 22
NO_KEY = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Buckets(Node):
    kind: ClassVar[str] = "buckets"
    whole: ClassVar[bool] = True

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"first": self.rule.first, "asked": ASKED, "bands": self.rule.banding.bands}

    def tasks(self, context: Context) -> list[Task]:
        history = History.of(context, self.rule)
        files = nth(history.all("bands"), 0)
        rows = sum(file.rows for file in files)
        bands = self.rule.banding.bands
        ranges = key_ranges(rows, 8 * self.rule.partition, most=bands << (64 - key_bits(bands))) if rows else []
        reads = {"bands": digests(files), "known": history.known}
        return [
            Task(self, f"keys-{i:05d}", {**reads, "range": [f"{a:x}", f"{b:x}"]}, (files, history.known, a, b), rows)
            for i, (a, b) in enumerate(ranges)
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        files, known, start, stop = task.inputs
        sorter = pair_sorter(storage, f"{self.folder}/{task.key}.pairs")
        parts = in_range(opened(storage, files), start, stop)
        rest = write_run(storage, f"{self.folder}/{task.key}.rest", self._pairs(parts, np.array(known), sorter), BAND)
        return Outcome((rest, *sorter.finish()))

    def _pairs(
        self, parts: list[tuple[RunFile, int, int]], known: npt.NDArray[np.int64], sorter: SortedRuns
    ) -> Iterator[Table]:
        """Gives pairs to the sorter, and yields the members of buckets that have more."""
        from marco_data.kernels import buckets

        most = sum(stop - start for _, start, stop in parts)
        head = np.zeros(max(min(self.rule.first, most), ASKED + 1), np.uint64)
        carried = np.array([NO_KEY, 0, 0], np.uint64)
        for chunk in merged(parts, ("key", "rank"), MERGED_ROWS):
            later, earlier, flags, keys, ranks = buckets.first_pairs(
                np.ascontiguousarray(chunk["key"]), np.ascontiguousarray(chunk["rank"]), head, carried,
                self.rule.first, min(ASKED, self.rule.first), known,
            )  # fmt: skip
            sorter.add(table(PAIR, len(later), later=later, earlier=earlier, flags=flags))
            yield table(BAND, len(keys), key=keys, rank=ranks)


@dataclass(frozen=True, kw_only=True)
class OpenBuckets(Node):
    """The second round: everything a document that is still open may be like."""

    kind: ClassVar[str] = "open_buckets"
    whole: ClassVar[bool] = True

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"first": self.rule.first}

    def tasks(self, context: Context) -> list[Task]:
        states = nth(context.done["settle"], 0)
        if not any(record.facts["open"] for record in context.done["settle"]):
            return []
        spans = [record.facts["spans"] for record in context.done["settle"]]
        reads = {"states": digests(states)}
        return [
            Task(
                self,
                f"keys-{i:05d}",
                {**reads, "pairs": digests(record.data)},
                (record.data, states, spans),
                sum(file.bytes for file in record.data),
            )
            for i, record in enumerate(context.done["buckets"])
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        from marco_data.kernels import buckets

        (rest, *pairs), states, spans = task.inputs
        known = States.read(storage, states, spans)
        sorter = pair_sorter(storage, f"{self.folder}/{task.key}.pairs")
        # What the small buckets have, and the first of the large ones, is already there: of those still open.
        for file in opened(storage, pairs):
            for chunk in file.chunks(MERGED_ROWS):
                chunk = chunk[known.is_open(chunk["later"]) & ~known.is_gone(chunk["earlier"])]
                chunk["flags"] = 0
                sorter.add(chunk)
        members = RunFile(storage, rest)
        head = np.zeros(min(self.rule.first, len(members)), np.uint64)
        carried = np.array([NO_KEY, 0], np.uint64)
        for chunk in members.chunks(max(1, PAIRS_SORTED // max(1, len(head)))):  # each has up to `first` pairs
            later, earlier = buckets.open_pairs(
                np.ascontiguousarray(chunk["key"]), np.ascontiguousarray(chunk["rank"]), head, carried,
                self.rule.first, known.bases, known.open, known.gone,
            )  # fmt: skip
            sorter.add(table(PAIR, len(later), later=later, earlier=earlier))
        return Outcome(tuple(sorter.finish()))


def pair_sorter(storage: Storage, stem: str) -> SortedRuns:
    """Pairs as run files sorted by (later, earlier), equal ones of a file once; a file of 70 MB each time."""
    return SortedRuns(storage, stem, PAIR, ("later", "earlier"), PAIRS_SORTED, united)


def united(pairs: Table) -> Table:
    """Equal ones of sorted pairs as one, with the flags of all."""
    starts = np.flatnonzero(changes(pairs, ("later", "earlier")))
    out = pairs[starts]
    if len(out):
        out["flags"] = np.bitwise_or.reduceat(pairs["flags"], starts)
    return out


def pair_files(records: Sequence[Any], skip: int) -> list[DataFile]:
    """The sorted pairs of all tasks; the first `skip` files of each are something else."""
    return [file for record in records for file in record.data[skip:]]
