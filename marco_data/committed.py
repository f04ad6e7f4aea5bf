"""The counts of what a node has committed so far, while its run is still going on.

In: what a run says it works on (`run_state`) and the records on disk. Out: sums of counts. A node that is through has a
manifest, which holds its sums. Of one that is not, the records are read by Arrow, each once: what was summed is kept in
a file under `runs/`, with the keys it covers, and the next look reads only what came since. That file decides nothing;
where it covers a record that is no longer there, or cannot be read, everything is summed again. Knows nothing of steps
or languages.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from marco_data.records import Count, add_counts
from marco_data.run_state import FOLDER, KEYS, NodeState
from marco_data.storage import Storage

AT_ONCE = 16 << 20
"""Bytes of records that are parsed together."""
FILES_AT_ONCE = 2_000
WORTH_KEEPING = 200
"""New records from which on, with a twentieth of those covered, the kept sums are written again."""

_GROUP = ("outcome", "source", "language", "reason", "part")
_UNITS = ("documents", "bytes", "tokens")
_COUNT = pa.struct([*((name, pa.string()) for name in _GROUP), *((name, pa.int64()) for name in _UNITS)])
_RECORD = pa.schema([("counts", pa.list_(_COUNT))])


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
    place = f"{FOLDER}/sums-{node.name}-{node.folder.rpartition('-')[2]}.parquet"
    counts, covered = _kept(storage, place, keys)
    new = [key for key in keys if key not in covered]
    if new:
        counts = add_counts([*counts, *counts_at(storage, [f"{node.folder}/{key}.json" for key in new])])
        if len(new) > WORTH_KEEPING + len(covered) // 20:
            with suppress(OSError):  # a root that can only be read is summed anew each time
                storage.replace(place, _to_keep(counts, keys))
    return Committed(node.name, node.tasks, len(keys), counts)


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
                found.append(_summed(_parsed(waiting)))
                waiting, size = [], 0
    if waiting:
        found.append(_summed(_parsed(waiting)))
    if not found:
        return ()
    return add_counts(Count(**row) for row in _summed(pa.concat_tables(found)).to_pylist())


def _parsed(records: Sequence[bytes]) -> pa.Table:
    """The counts of some records, a row each."""
    table = pyarrow.json.read_json(
        pa.BufferReader(b"\n".join(records)),
        read_options=pyarrow.json.ReadOptions(block_size=max(1 << 20, 2 * max(map(len, records)))),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=_RECORD, newlines_in_values=True, unexpected_field_behavior="ignore"
        ),
    )
    counts = pc.list_flatten(table["counts"]).combine_chunks()
    if isinstance(counts, pa.ChunkedArray):
        counts = pa.concat_arrays(counts.chunks) if counts.num_chunks else pa.array([], _COUNT)
    return pa.Table.from_arrays([counts.field(name) for name in (*_GROUP, *_UNITS)], [*_GROUP, *_UNITS])


def _summed(rows: pa.Table) -> pa.Table:
    sums = rows.group_by(list(_GROUP)).aggregate([(unit, "sum") for unit in _UNITS])
    return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names])


def _to_keep(counts: Iterable[Count], keys: Sequence[str]) -> bytes:
    told = json.dumps([asdict(count) for count in counts], ensure_ascii=False)
    table = pa.table({"key": keys}, schema=KEYS.with_metadata({"counts": told}))
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=False)
    return out.getvalue()


def _kept(storage: Storage, place: str, keys: Sequence[str]) -> tuple[tuple[Count, ...], set[str]]:
    """The sums that were kept, and the keys they cover: nothing, unless all of these are among `keys`."""
    data = storage.read(place)
    if data is None:
        return (), set()
    try:
        table = pq.read_table(pa.BufferReader(data))
        counts = tuple(Count(**count) for count in json.loads(table.schema.metadata[b"counts"]))
        covered = set(table["key"].to_pylist())
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
        return (), set()
    return (counts, covered) if covered <= set(keys) else ((), set())
