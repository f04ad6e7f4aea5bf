"""The records of a node, however many, as one table: gathered as its tasks end, written beside its manifest, read back.

In: records in any order, and the keys of the node's tasks in theirs. Out: `manifest-<digest>.json` and
`records-<digest>.parquet` in the node's folder, and a `Records`, which looks like a list of them. A node with at most
HELD records is a list indeed; of a larger one the records are made again each time somebody walks over them, and what
of a record is not asked for is not parsed. A driver that held a million records as objects would need 6 GB for a node
whose shards have four counts each, and 150 GB where each holds 64 languages (`docs/scale.md`).

Knows neither tasks nor what the facts mean.
"""

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate, islice
from typing import Any, overload

import numpy as np
import pyarrow as pa

from marco_data.records import Count, Record, add_counts
from marco_data.step import canonical_text
from marco_data.storage import DataFile, Storage, canonical_json, write_parquet

HELD = 2_000
"""Records of a node that are simply held: a few megabytes, and walks over them cost nothing."""
ROWS = 1024
"""Records of a row group, and of what is packed together."""
WALKED = ("key", "data")
"""Columns that a walk over a million records reads at once."""
UNPACKED_BYTES = 128 << 20
"""Of packs that are open at once while records are put in order; they come nearly in order."""
READ_BYTES = 16 << 20

GROUP = ("outcome", "source", "language", "reason", "part")
UNITS = ("documents", "bytes", "tokens")
COUNT = pa.schema([*((name, pa.string()) for name in GROUP), *((name, pa.int64()) for name in UNITS)])
_FILE = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("digest", pa.string()), ("rows", pa.int64())])
TABLE = pa.schema(
    [
        ("key", pa.string()),
        ("reads", pa.string()),  # JSON
        ("data", pa.list_(pa.struct(list(_FILE)))),
        ("counts", pa.list_(pa.struct(list(COUNT)))),
        ("facts", pa.string()),  # JSON
    ]
)
PACKED = pa.ipc.IpcWriteOptions(compression="zstd")


Column = Callable[[str], pa.Array]
"""Gives a column of TABLE by its name."""


class StoredRecord(Record):
    """A row of a table; its counts, reads and facts are parsed when they are asked for, and all but counts are kept."""

    def __init__(self, folder: str, key: str, data: tuple[DataFile, ...], column: Column, row: int) -> None:
        vars(self).update(folder=folder, key=key, data=data, _column=column, _row=row)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Record, (self.folder, self.key, self.reads, self.data, self.counts, self.facts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and all(getattr(self, n) == getattr(other, n) for n in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def reads(self) -> dict[str, Any]:  # type: ignore[override]
        return dict(json.loads(self._json("reads")))

    @cached_property
    def facts(self) -> dict[str, Any]:  # type: ignore[override]
        return dict(json.loads(self._json("facts")))

    @property
    def counts(self) -> tuple[Count, ...]:  # type: ignore[override]
        rows = vars(self)["_column"]("counts").slice(vars(self)["_row"], 1).flatten()
        return tuple(Count(*values) for values in zip(*(c.to_pylist() for c in rows.flatten()), strict=True))

    def _json(self, name: str) -> str:
        return str(vars(self)["_column"](name)[vars(self)["_row"]].as_py())


_FIELDS = ("folder", "key", "reads", "data", "counts", "facts")


class Records(Sequence[Record]):
    """The records of a node in the order of its tasks, read group by group whenever they are walked over."""

    folder: str

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """TABLE, or some columns of it, some thousand rows at a time."""
        raise NotImplementedError

    def sums(self) -> tuple[Count, ...]:
        """The counts of all records, added up."""
        return sums_of_tables(self.tables(["counts"]))

    def __iter__(self) -> Iterator[Record]:
        for table in self.tables():
            yield from _records(self.folder, table)

    @overload
    def __getitem__(self, at: int) -> Record: ...

    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...

    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        if isinstance(at, slice):
            wanted = range(len(self))[at]
            assert wanted.step == 1
            return list(islice(self, wanted.start, max(wanted.start, wanted.stop)))
        left = range(len(self))[at]
        for table in self.tables():
            if left < table.num_rows:
                return next(_records(self.folder, table.slice(left, 1)))
            left -= table.num_rows
        raise AssertionError("unreachable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(eq=False)
class Written(Records):
    """Records in the file beside a manifest."""

    storage: Storage
    folder: str
    path: str
    number: int
    counts: tuple[Count, ...]

    def __len__(self) -> int:
        return self.number

    def sums(self) -> tuple[Count, ...]:
        return self.counts

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        yield from tables_at(self.storage, self.path, columns)

    def __iter__(self) -> Iterator[Record]:
        """Keys and files alone are read, a fifth of the time where a record has one language; the other columns of
        some thousand records when the first of them is asked for."""
        for groups, table in _groups_at(self.storage, self.path, WALKED):
            yield from _records(self.folder, table, Later(self.storage, self.path, groups))


@dataclass(eq=False)
class Later:
    """Columns of some row groups of a file, each read when it is asked for, and kept."""

    storage: Storage
    path: str
    groups: Sequence[int]
    read: dict[str, pa.Array] = field(default_factory=dict)

    def __call__(self, name: str) -> pa.Array:
        if name not in self.read:
            with self.storage.parquet(self.path) as file:
                (table,) = _batches(file.read_row_groups(list(self.groups), columns=[name]))
            self.read[name] = table[name]
        return self.read[name]


@dataclass
class Gathered:
    """Records as they come, packed a thousand together: some 100 bytes each, and a few kilobytes with 64 languages."""

    folder: str
    place: dict[str, int] = field(default_factory=dict)  # by key; ROWS to a pack
    packs: list[pa.Buffer] = field(default_factory=list)
    waiting: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.place[record.key] = len(self.packs) * ROWS + len(self.waiting)
        self.waiting.append(record)
        if len(self.waiting) == ROWS:
            table = table_of(self.waiting)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema, options=PACKED) as stream:
                stream.write_batch(table)
            self.packs.append(sink.getvalue())
            self.waiting = []

    def ordered(self, keys: Iterable[str]) -> "Records":
        """Those of `keys` that have come, in their order."""
        places = np.array([self.place[key] for key in keys if key in self.place], np.int64)
        return Chosen(self.folder, places, self.packs, self.waiting)


@dataclass(eq=False)
class Chosen(Records):
    """Gathered records by their places."""

    folder: str
    places: np.ndarray
    packs: list[pa.Buffer]
    waiting: list[Record]

    def __len__(self) -> int:
        return len(self.places)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        last = table_of(self.waiting)
        opened: OrderedDict[int, pa.RecordBatch] = OrderedDict()

        def pack(number: int) -> pa.RecordBatch:
            if number == len(self.packs):
                return last
            if number not in opened:
                with pa.ipc.open_stream(self.packs[number]) as stream:
                    opened[number] = stream.read_next_batch()
                while len(opened) > 1 and sum(table.nbytes for table in opened.values()) > UNPACKED_BYTES:
                    opened.popitem(last=False)
            opened.move_to_end(number)
            return opened[number]

        for start in range(0, len(self.places), ROWS):
            places = self.places[start : start + ROWS]
            numbers, index = np.unique(places // ROWS, return_inverse=True)
            tables = [pack(int(number)) for number in numbers]
            starts = np.array([0, *accumulate(table.num_rows for table in tables)], np.int64)
            rows = pa.Table.from_batches(tables).take(pa.array(starts[index] + places % ROWS))
            table = rows.combine_chunks().to_batches()[0]
            yield table if columns is None else table.select(list(columns))


def table_of(records: Sequence[Record]) -> pa.RecordBatch:
    """TABLE of some records."""
    files = [file for record in records for file in record.data]
    counts = [count for record in records for count in record.counts]
    columns = [
        pa.array([record.key for record in records], pa.string()),
        pa.array([canonical_text(record.reads) for record in records], pa.string()),
        _lists([len(record.data) for record in records], files, _FILE),
        _lists([len(record.counts) for record in records], counts, COUNT),
        pa.array([canonical_text(record.facts) for record in records], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TABLE)


def _lists(lengths: Sequence[int], values: Sequence[Any], schema: pa.Schema) -> pa.Array:
    columns = [pa.array([getattr(value, f.name) for value in values], f.type) for f in schema]
    offsets = pa.array([0, *accumulate(lengths)], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(schema)))


def _records(folder: str, table: pa.RecordBatch, column: Column | None = None) -> Iterator[Record]:
    """The records of a table; what it has no columns for, `column` has."""
    column = column or table.column
    files = table["data"].flatten()
    made = [DataFile(*values) for values in zip(*(c.to_pylist() for c in files.flatten()), strict=True)]
    ends = list(accumulate(table["data"].value_lengths().to_pylist()))
    start = 0
    for row, (key, end) in enumerate(zip(table["key"].to_pylist(), ends, strict=True)):
        yield StoredRecord(folder, key, tuple(made[start:end]), column, row)
        start = end


def tables_at(storage: Storage, path: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """TABLE, or some columns of it, from a file of records: several row groups at a time, by their size."""
    for _, table in _groups_at(storage, path, columns):
        yield table


def _groups_at(
    storage: Storage, path: str, columns: Sequence[str] | None
) -> Iterator[tuple[Sequence[int], pa.RecordBatch]]:
    with storage.parquet(path) as file:
        sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        group = 0
        while group < len(sizes):
            before = ends[group - 1] if group else 0
            stop = max(group + 1, bisect_right(ends, before + READ_BYTES))
            groups = range(group, stop)
            table = file.read_row_groups(list(groups), columns=None if columns is None else list(columns))
            yield from ((groups, batch) for batch in _batches(table))
            group = stop


def _batches(table: pa.Table) -> list[pa.RecordBatch]:
    """A table of some row groups in one piece; none where it has no rows."""
    batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
    assert len(batches) <= 1
    return batches


def sums_of(records: Sequence[Record]) -> tuple[Count, ...]:
    """The counts of some records, added up."""
    return records.sums() if isinstance(records, Records) else add_counts(c for r in records for c in r.counts)


def sums_of_tables(tables: Iterable[pa.RecordBatch]) -> tuple[Count, ...]:
    """The column `counts` of some tables, added up."""
    parts = [summed(pa.Table.from_batches([count_rows(table["counts"])])) for table in tables]
    return add_counts(Count(**row) for row in summed(pa.concat_tables(parts)).to_pylist()) if parts else ()


def count_rows(counts: pa.ListArray) -> pa.RecordBatch:
    """COUNT, a row for each count of a column of lists of them."""
    return pa.RecordBatch.from_arrays(counts.flatten().flatten(), schema=COUNT)


def summed(rows: pa.Table) -> pa.Table:
    """COUNT with one row for each group."""
    sums = rows.group_by(list(GROUP)).aggregate([(unit, "sum") for unit in UNITS])
    return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names])


def records_of(storage: Storage, manifest: str) -> Sequence[Record] | None:
    """The records that a manifest sums up, in the order of the node's tasks; None where it is not there."""
    found = storage.read_json(manifest)
    if found is None:
        return None
    counts = tuple(Count(**count) for count in found["counts"])
    written = Written(storage, manifest.rpartition("/")[0], found["records"], found["tasks"], counts)
    return (
        [r for table in written.tables() for r in _records(written.folder, table)] if len(written) <= HELD else written
    )


def write_records(storage: Storage, manifest: str, said: dict[str, Any], records: Sequence[Record]) -> None:
    """One file for what may be a million, and the manifest that points to it: every later look is at these."""
    stem = manifest.removesuffix(".json").replace("/manifest-", "/records-")
    tables = records.tables() if isinstance(records, Records) else _cut(records)
    file = write_parquet(storage, stem, (pa.Table.from_batches([table]) for table in tables), TABLE)
    counts = sums_of(records)
    whole = {**said, "tasks": len(records), "records": file.path, "counts": [asdict(c) for c in counts]}
    storage.create(manifest, canonical_json(whole))


def _cut(records: Sequence[Record]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(records), ROWS):
        yield table_of(records[start : start + ROWS])
