"""The band keys of every document that is the first with its text, sorted: a task for a group of shards.

In: signatures by place, and which places have which rank. Out: (key, rank) sorted by key, band after band.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.history import group_of
from marco_data.nodes.duplicates.layout import BAND, PLACE_SHIFT, SCOPE_SHIFT, Group, digests, nth, opened, table
from marco_data.run_files import RunFile, Table, in_order, in_range, write_run
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage

ROWS_AT_ONCE = 1 << 16


def key_bits(bands: int) -> int:
    """How many of a key's highest bits hold the band's number."""
    return (bands - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class Bands(Node):
    kind: ClassVar[str] = "bands"
    whole: ClassVar[bool] = True

    rule: DropDuplicates

    def config(self, tools: Tools) -> dict[str, Any]:
        banding = self.rule.banding
        return {"bands": banding.bands, "rows": banding.rows}

    def tasks(self, context: Context) -> list[Task]:
        placed = nth(context.done["ranks"], 1)
        return [
            Task(
                self,
                f"group-{group.number:05d}",
                {"signatures": group.signatures.digest, "placed": digests(placed), "group": group.number},
                (group, placed),
                group.signatures.bytes,
            )
            for group in map(group_of, context.done["documents"])
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        group, placed = task.inputs
        distinct = places_of(storage, group, placed)
        keys = self._keys(storage, group, distinct)
        order = np.argsort(distinct["rank"])
        ranks = distinct["rank"][order]

        def by_band() -> Any:
            for band in keys:
                mine = table(BAND, len(ranks), key=band[order], rank=ranks)
                yield in_order(mine, ("key", "rank"))

        data = write_run(storage, f"{self.folder}/{task.key}.bands", by_band(), BAND)
        return Outcome((data,))

    def _keys(self, storage: Storage, group: Group, distinct: Table) -> Any:
        """uint64[bands, n]: the keys of the documents at ascending places."""
        from marco_data.kernels import buckets

        banding = self.rule.banding
        keys = np.empty((banding.bands, len(distinct)), np.uint64)
        signatures = RunFile(storage, group.signatures)
        numbers = (distinct["place"] & np.uint64((1 << PLACE_SHIFT) - 1)).astype(np.int64)
        scopes = (distinct["rank"] >> np.uint64(SCOPE_SHIFT)).astype(np.uint16)
        for at in range(0, len(distinct), ROWS_AT_ONCE):
            end = min(len(distinct), at + ROWS_AT_ONCE)
            rows = np.ascontiguousarray(signatures.take(numbers[at:end])["signature"])
            for band in range(banding.bands):
                keys[band, at:end] = buckets.band_keys(
                    rows, scopes[at:end], band, banding.rows, key_bits(banding.bands)
                )
        return keys


def places_of(storage: Storage, group: Group, placed: list[DataFile]) -> Table:
    """The places of a group that have a rank, ascending, with it."""
    files = opened(storage, placed)
    parts = [f.read(a, b) for f, a, b in in_range(files, group.first_place, group.first_place + (1 << PLACE_SHIFT))]
    return in_order(np.concatenate(parts), ("place",)) if parts else np.empty(0, [("place", "<u8"), ("rank", "<u8")])
