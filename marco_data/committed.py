"""The counts of what a node has committed so far, while its run is still going on.

In: what a run says it works on (`run_state`) and the records on disk. Out: sums of counts. A node that is through has a
manifest, which holds its sums. Of one that is not, the records that `kept_sums` does not cover are read, by Arrow.
Knows nothing of steps or languages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.json

from marco_data.kept_sums import KeptSums
from marco_data.record_table import COUNT, TABLE, count_rows, summed
from marco_data.records import Count, add_counts
from marco_data.run_state import NodeState
from marco_data.storage import Storage

AT_ONCE = 16 << 20
"""Bytes of records that are parsed together."""
FILES_AT_ONCE = 2_000

_RECORD = pa.schema([TABLE.field("counts")])


@dataclass(frozen=True)
class Committed:
    """`done` of a node's `tasks` (None: not known yet) are committed; `counts` are their sums."""

    name: str
    tasks: int | None
    done: int
    counts: tuple[Count, ...] = ()


def committed(storage: Storage, node: NodeState) -> Committed:
    if node.manifest is None:
        return Committed(node.name, node.tasks, 0)
    manifest = storage.read_json(node.manifest)
    if manifest is not None:
        return Committed(node.name, node.tasks, manifest["tasks"], sums_in(manifest))
    keys = keys_so_far(storage, node)
    kept = KeptSums.read(storage, node.name, node.folder, keys)
    new = [key for key in keys if key not in kept.covered]
    if new:
        kept.add(counts_at(storage, [f"{node.folder}/{key}.json" for key in new]), new)
        kept.write(storage)
    return Committed(node.name, node.tasks, len(keys), kept.total())


def keys_so_far(storage: Storage, node: NodeState) -> list[str]:
    """The keys of those of a node's tasks whose record is there, in their order."""
    if node.keys is None:
        return []
    try:
        keys: list[str] = storage.read_table(node.keys)["key"].to_pylist()
    except FileNotFoundError:  # the run has ended since
        return []
    there = set(storage.names(node.folder))
    return [key for key in keys if f"{key}.json" in there]


def sums_in(manifest: Mapping[str, Any]) -> tuple[Count, ...]:
    """The sums that a node's manifest holds."""
    return tuple(Count(**count) for count in manifest["counts"])


def counts_at(storage: Storage, paths: Sequence[str]) -> tuple[Count, ...]:
    """The sums of the counts of the records at `paths`."""
    found: list[pa.Table] = []
    waiting: list[bytes] = []
    size = 0
    for start in range(0, len(paths), FILES_AT_ONCE):
        for data in storage.read_many(paths[start : start + FILES_AT_ONCE]):
            waiting.append(data)
            size += len(data)
            if size > AT_ONCE:
                found.append(summed(_parsed(waiting)))
                waiting, size = [], 0
    if waiting:
        found.append(summed(_parsed(waiting)))
    if not found:
        return ()
    return add_counts(Count(**row) for row in summed(pa.concat_tables(found)).to_pylist())


def _parsed(records: Sequence[bytes]) -> pa.Table:
    """The counts of some records, a row each."""
    table = pyarrow.json.read_json(
        pa.BufferReader(b"\n".join(records)),
        read_options=pyarrow.json.ReadOptions(block_size=max(1 << 20, 2 * max(map(len, records)))),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=_RECORD, newlines_in_values=True, unexpected_field_behavior="ignore"
        ),
    )
    return pa.Table.from_batches([count_rows(chunk) for chunk in table["counts"].chunks], COUNT)
