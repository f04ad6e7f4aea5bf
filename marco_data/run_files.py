"""Run files: fixed-width records on storage, in checksummed blocks, read in order, by key range or by place.

What dedup sorts, merges and looks up is too large for memory: it lies in run files, written once by one task, sorted
by their first field where a reader looks for a range of it. A file is a header of 4 KiB (what a record is, how many)
and blocks of equally many records, each block followed by its XXH64. So any part can be read alone and is checked as it
is read; a flipped bit or a lost tail is a DamagedFile, never a wrong verdict.

This module does not know what the records mean.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from marco_data.errors import DamagedFile
from marco_data.storage import DataFile, Storage

SUFFIX = ".run"
HEADER_BYTES = 4096
MAGIC = b"marco-data run 1\n"
BLOCK_BYTES = 1 << 16
READ_BYTES = 1 << 22
Table = npt.NDArray[np.void]
"""A structured array: one field a column."""


def write_run(storage: Storage, stem: str, parts: Iterable[Table], dtype: np.dtype[Any], *, block: int = 0) -> DataFile:
    """Write the records of all parts one after the other, as they come.

    `block` is the number of records a checksum is for and so the least that is read: 64 KiB of them by default, 1 for
    large records that are looked up singly.
    """
    from marco_data.kernels import blocks

    block = block or max(1, BLOCK_BYTES // dtype.itemsize)
    size = block * dtype.itemsize + 8
    rows = 0
    with storage.scratch() as folder:
        path = folder / "run.partial"
        with path.open("wb") as file:
            file.write(bytes(HEADER_BYTES))

            def flush(records: Table) -> None:
                count = -(-len(records) // block)
                buffer = np.zeros((count, size), np.uint8)
                padded = np.zeros(count * block, dtype)
                padded[: len(records)] = records
                buffer[:, :-8] = padded.view(np.uint8).reshape(count, -1)
                flat = buffer.reshape(-1)
                blocks.seal(flat, size)
                file.write(flat.data)

            left = np.empty(0, dtype)
            at_once = max(block, READ_BYTES // dtype.itemsize // block * block)
            for part in parts:
                rows += len(part)
                both = np.concatenate([left, part]) if len(left) else part
                whole = len(both) // block * block
                for at in range(0, whole, at_once):
                    flush(both[at : min(whole, at + at_once)])
                left = both[whole:].copy()
            if len(left):
                flush(left)
            file.seek(0)
            file.write(_header(dtype, rows, block))
        return storage.commit(path, stem, SUFFIX, rows=rows)


def _header(dtype: np.dtype[Any], rows: int, block: int) -> bytes:
    said = MAGIC + json.dumps({"fields": dtype.descr, "rows": rows, "block": block}).encode()
    assert len(said) < HEADER_BYTES - 8
    said = said.ljust(HEADER_BYTES - 8, b"\0")
    return said + xxhash.xxh64_digest(said)


class SortedRuns:
    """Records as they come, written as run files of about `rows` sorted records each; whoever reads them merges anyway.

    `united`, where it is given, makes one of the equal ones of a file before it is written.
    """

    def __init__(
        self,
        storage: Storage,
        stem: str,
        dtype: np.dtype[Any],
        names: Sequence[str],
        rows: int,
        united: Callable[[Table], Table] = lambda records: records,
    ) -> None:
        self.storage, self.stem, self.dtype, self.names = storage, stem, dtype, names
        self.most, self.united = rows, united
        self.parts: list[Table] = []
        self.rows = 0
        self.files: list[DataFile] = []

    def add(self, records: Table) -> None:
        self.parts.append(records)
        self.rows += len(records)
        if self.rows >= self.most:
            self._write()

    def finish(self) -> list[DataFile]:
        """All files; at least one, which may be empty."""
        if self.rows or not self.files:
            self._write()
        return self.files

    def _write(self) -> None:
        records = self.united(in_order(np.concatenate([np.empty(0, self.dtype), *self.parts]), self.names))
        self.files.append(write_run(self.storage, f"{self.stem}-{len(self.files):04d}", [records], self.dtype))
        self.parts, self.rows = [], 0


@dataclass(frozen=True)
class RunFile:
    """One run file; it is open only while it is read, for a merge reads thousands.

    Reading raises DamagedFile where the bytes are not those written.
    """

    storage: Storage
    file: DataFile

    @cached_property
    def _layout(self) -> tuple[np.dtype[Any], int, int]:
        """(dtype, rows, records a block)."""
        buffer = bytearray(HEADER_BYTES)
        self._fill([(0, memoryview(buffer))])
        raw = bytes(buffer)
        if not raw.startswith(MAGIC) or xxhash.xxh64_digest(raw[:-8]) != raw[-8:]:
            raise DamagedFile(self.file.path, "its header is not whole")
        said = json.loads(raw[len(MAGIC) : -8].rstrip(b"\0"))
        fields = [(name, kind, *map(tuple, shape)) for name, kind, *shape in said["fields"]]
        return np.dtype(fields), said["rows"], said["block"]

    def __len__(self) -> int:
        return self._layout[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._layout[0]

    def read(self, start: int = 0, stop: int | None = None) -> Table:
        """Records start..stop, a copy."""
        _, rows, block = self._layout
        stop = rows if stop is None else min(stop, rows)
        if stop <= start:
            return np.empty(0, self.dtype)
        first, last = start // block, -(-stop // block)
        return self._blocks(np.array([first]), np.array([last]))[start - first * block : stop - first * block]

    def chunks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Table]:
        """Records start..stop, so many at a time."""
        stop = len(self) if stop is None else stop
        for at in range(start, stop, rows):
            yield self.read(at, min(stop, at + rows))

    def take(self, indices: npt.NDArray[np.int64]) -> Table:
        """The records at ascending indices; those that lie near each other are read together."""
        block = self._layout[2]
        if not len(indices):
            return np.empty(0, self.dtype)
        if indices[-1] >= len(self):
            raise IndexError(f"{self.file.path} has {len(self)} records, asked for {indices[-1]}")
        wanted = indices // block
        # A call costs as much as 8 KiB read in vain.
        near = max(1, 8192 // (block * self.dtype.itemsize))
        breaks = np.flatnonzero(np.diff(wanted) > near) + 1
        first = wanted[np.concatenate([[0], breaks])]
        last = wanted[np.concatenate([breaks - 1, [len(wanted) - 1]])] + 1
        rows = self._blocks(first, last)
        before = np.concatenate([[0], np.cumsum(last - first)])[:-1]
        stretch = np.searchsorted(first, wanted, side="right") - 1
        found: Table = rows[(before[stretch] + wanted - first[stretch]) * block + indices % block]
        return found

    def find(self, key: int) -> int:
        """The number of records whose first field is less than `key`; they ascend by it."""
        _, rows, block = self._layout
        if key >= 1 << 64:
            return rows
        name = str(self.dtype.names[0])  # type: ignore[index]
        low, high = 0, -(-rows // block)
        while low < high:
            middle = (low + high) // 2
            if int(self.read(middle * block, middle * block + 1)[name][0]) < key:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return 0
        inside = self.read((low - 1) * block, low * block)[name]
        return (low - 1) * block + int(np.searchsorted(inside, np.uint64(key)))

    def _blocks(self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Table:
        """The records of the blocks first[i]..last[i], one stretch after the other."""
        from marco_data.kernels import blocks

        dtype, _, block = self._layout
        size = block * dtype.itemsize + 8
        buffer = np.empty(int((last - first).sum()) * size, np.uint8)
        view = buffer.data
        lengths = (last - first) * size
        ends = np.cumsum(lengths)
        places = zip((HEADER_BYTES + first * size).tolist(), (ends - lengths).tolist(), ends.tolist(), strict=True)
        self._fill([(offset, view[start:end]) for offset, start, end in places])
        bad = blocks.damaged(buffer, size)
        if bad >= 0:
            raise DamagedFile(self.file.path, "a block's checksum is not that of its bytes")
        records = buffer.reshape(-1, size)[:, :-8]
        return np.ascontiguousarray(records).reshape(-1).view(dtype)

    def _fill(self, stretches: list[tuple[int, memoryview]]) -> None:
        try:
            whole = self.storage.read_stretches(self.file.path, stretches)
        except FileNotFoundError:
            raise DamagedFile(self.file.path, "it is not there") from None
        if not whole:
            raise DamagedFile(self.file.path, "it ends too early")


def in_order(records: Table, names: Sequence[str]) -> Table:
    """Records sorted by the fields `names`; few of them share the first."""
    first = np.ascontiguousarray(records[names[0]])
    order = np.argsort(first)  # the fast unstable sort: what it leaves open is sorted again below
    if len(names) > 1:
        ordered = first[order]
        equal = ordered[1:] == ordered[:-1]
        tied = np.zeros(len(order), np.bool_)
        tied[1:] = equal
        tied[:-1] |= equal
        at = np.flatnonzero(tied)
        some = order[at]
        order[at] = some[np.lexsort([records[name][some] for name in reversed(names)])]
    return records[order]


def merged(
    parts: Sequence[tuple[RunFile, int, int]], names: Sequence[str], rows: int, *, whole: Sequence[str] = ()
) -> Iterator[Table]:
    """The records start..stop of several files, each sorted by `names`, as one sorted sequence of chunks.

    A chunk has `rows` records or a few more, and as many again are held. Records that are equal in the fields `whole`
    come in one chunk, however many they are.
    """
    waiting: list[Table] = []
    size = 0
    for piece in _merged(parts, names, rows):
        waiting.append(piece)
        size += len(piece)
        if size < rows:
            continue
        chunk = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        cut = len(chunk)
        if whole:
            last = np.ones(len(chunk), np.bool_)
            for name in whole:
                last &= chunk[name] == chunk[name][-1]
            cut = 0 if last.all() else len(chunk) - int(last[::-1].argmin())
        waiting, size = [chunk[cut:]], len(chunk) - cut
        if cut:
            yield chunk[:cut]
    if size:
        yield np.concatenate(waiting)


def _merged(parts: Sequence[tuple[RunFile, int, int]], names: Sequence[str], rows: int) -> Iterator[Table]:
    """The same in pieces of any size, with no more than `rows` records held, or 64 of each file."""
    parts = [part for part in parts if part[1] < part[2]]
    each = max(64, rows // max(1, len(parts)))
    readers = [file.chunks(each, start, stop) for file, start, stop in parts]
    buffers: list[Table] = [next(reader) for reader in readers]
    ended = [len(b) == stop - start for b, (_, start, stop) in zip(buffers, parts, strict=True)]
    while any(len(b) for b in buffers):
        # What comes after the least of the buffers' ends may still have smaller ones before it.
        bounds = [tuple(b[-1][list(names)].tolist()) for b, over in zip(buffers, ended, strict=True) if not over]
        counts = [len(b) for b in buffers]
        if bounds:
            bound = min(bounds)
            counts = [_up_to(b, names, bound) for b in buffers]
        taken = [b[:n] for b, n in zip(buffers, counts, strict=True) if n]
        buffers = [b[n:] for b, n in zip(buffers, counts, strict=True)]
        for i, reader in enumerate(readers):
            if not ended[i] and not len(buffers[i]):
                more = next(reader, None)
                ended[i] = more is None
                buffers[i] = buffers[i] if more is None else more
        yield in_order(np.concatenate(taken), names)


def _up_to(records: Table, names: Sequence[str], bound: tuple[Any, ...]) -> int:
    """How many of sorted records are not after `bound`."""
    low, high = 0, len(records)
    for name, value in zip(names, bound, strict=True):
        column = records[name][low:high]
        high = low + int(np.searchsorted(column, column.dtype.type(value), side="right"))
        low = low + int(np.searchsorted(column[: high - low], column.dtype.type(value), side="left"))
    return high


def in_range(files: Iterable[RunFile], start: int, stop: int) -> list[tuple[RunFile, int, int]]:
    """The stretch of each sorted file whose first field is in [start, stop)."""
    return [(f, f.find(start), f.find(stop)) for f in files if len(f)]


def changes(records: Table, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether each record differs from the one before it in any of the fields; the first does."""
    out = np.ones(len(records), np.bool_)
    if len(records):
        out[1:] = False
        for name in names:
            out[1:] |= records[name][1:] != records[name][:-1]
    return out


def stretches(sizes: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Consecutive items together, as many as come to `most` in size, and at least one: (first, end) of each."""
    bounds, size = [0], 0
    for i, n in enumerate(sizes):
        if i > bounds[-1] and size + n > most:
            bounds.append(i)
            size = 0
        size += n
    return list(pairwise([*bounds, len(sizes)])) if sizes else []
