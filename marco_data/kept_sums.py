"""Sums of the counts of a node's records, kept under `runs/` with the keys of the records they cover.

In: records, or sums of some. Out: `runs/now/sums-<node>-<fingerprint>.parquet`, which lets whoever looks at a node that
is still being worked on read only the records that came since. The run writes it as it goes, and so does who looked. It
decides nothing: where it is damaged, or covers a record that is not there, everything is summed again.
"""

import io
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from marco_data.records import Count, add_counts
from marco_data.storage import Storage

FOLDER = "runs/now"
KEYS = pa.schema([("key", pa.string())])
WORTH_KEEPING = 200
"""New records from which on, with a hundredth of those covered, sums are written again: a thousand times in a run of a
million records."""


@dataclass
class KeptSums:
    """The sums of a node's records; `covered` are their keys, `written` how many of those the file covers."""

    node: str
    folder: str
    counts: tuple[Count, ...] = ()
    covered: set[str] = field(default_factory=set)
    written: int = 0
    _waiting: list[Count] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"{FOLDER}/sums-{self.node}-{self.folder.rpartition('-')[2]}.parquet"

    @staticmethod
    def read(storage: Storage, node: str, folder: str, keys: Sequence[str]) -> "KeptSums":
        """What was kept; nothing, unless all that it covers are among `keys`."""
        kept = KeptSums(node, folder)
        data = storage.read(kept.place)
        if data is None:
            return kept
        try:
            table = pq.read_table(pa.BufferReader(data))
            counts = tuple(Count(**count) for count in json.loads(table.schema.metadata[b"counts"]))
            covered = set(table["key"].to_pylist())
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
            return kept
        return KeptSums(node, folder, counts, covered, len(covered)) if covered <= set(keys) else kept

    def add(self, counts: Iterable[Count], keys: Iterable[str]) -> None:
        """Counts of the records of these keys, which were not covered before."""
        self._waiting += counts
        self.covered.update(keys)
        if len(self._waiting) > 100_000:
            self._sum()

    def _sum(self) -> None:
        self.counts, self._waiting = add_counts([*self.counts, *self._waiting]), []

    def total(self) -> tuple[Count, ...]:
        self._sum()
        return self.counts

    def write(self, storage: Storage) -> None:
        """Where it is worth it. A root that can only be read is left as it is."""
        if len(self.covered) - self.written <= WORTH_KEEPING + len(self.covered) // 100:
            return
        told = json.dumps([asdict(count) for count in self.total()], ensure_ascii=False)
        table = pa.table({"key": sorted(self.covered)}, schema=KEYS.with_metadata({"counts": told}))
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", use_dictionary=False)
        with suppress(OSError):
            storage.replace(self.place, out.getvalue())
            self.written = len(self.covered)
