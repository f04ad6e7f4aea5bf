"""What lies in one place of the ledger: an index of the keys in its files, and their rows.

In: a folder of Parquet files and logs. Out: which keys are there, and the rows of those that are wanted, of each key
the one that counts (`ledger` says which). Writes nothing; removes logs whose keys are all committed.

The index has 28 bytes a completion. Rows are read as they are wanted: of a Parquet file the row group, of a log the
line.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from marco_data.errors import DamagedFile, MarcoError, RetryableError
from marco_data.generation import ledger_log
from marco_data.generation.ledger_log import Row, Spool, check
from marco_data.storage import Storage

CACHED_BYTES = 1 << 26
LOOKS = 10
UNKNOWN = -1

Keys = npt.NDArray[np.bytes_]
Positions = npt.NDArray[np.int64]


def as_keys(keys: Iterable[bytes]) -> Keys:
    return np.frombuffer(b"".join(keys), "S16")


def all_in(keys: Keys, others: Keys) -> bool:
    """Whether each of the keys is among `others`, which are sorted."""
    if not len(keys) or not len(others):
        return not len(keys)
    at = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return bool((others[at] == keys).all())


class Source(Protocol):
    """A file of the place: where rows lie."""

    path: str

    @property
    def damaged(self) -> int:
        """How many rows of it turned out to be damaged so far."""
        ...

    def keys(self) -> tuple[Keys, Positions]:
        """All keys that can be read, and their positions."""
        ...

    def rows(self, at: Sequence[int]) -> list[Row | None]:
        """The rows at ascending positions, None for one that is damaged."""
        ...


class Groups:
    """The row groups that were read last, as many as fit into CACHED_BYTES."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._bytes = 0

    def get(self, file: "ParquetRows", group: int) -> pa.Table:
        name = (file.path, group)
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        table = self._kept[name] = file.read(group)
        self._bytes += table.nbytes
        while self._bytes > CACHED_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return table


@contextmanager
def damage_told(path: str) -> Iterator[None]:
    """Whatever is raised over bytes of a Parquet file that are not those written, as DamagedFile.

    Pages have checksums. The footer has none, and pyarrow meets a flipped byte in it with a dozen kinds of exception;
    its own OSErrors have no errno, those of a disk or a network do.
    """
    try:
        yield
    except MarcoError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        raise DamagedFile(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error


class ParquetRows:
    """A committed file; a position is the number of a row."""

    def __init__(self, path: str, file: pq.ParquetFile, groups: Groups) -> None:
        self.path = path
        self._file, self._groups = file, groups
        self._unread = 0  # rows whose keys cannot be read
        self._lost: set[int] = set()
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])

    @property
    def damaged(self) -> int:
        return self._unread + len(self._lost)

    def keys(self) -> tuple[Keys, Positions]:
        end = int(self._starts[-1])
        with suppress(DamagedFile), damage_told(self.path):
            return _key_column(self._file.read(columns=["key"]), end), np.arange(end)
        keys, positions = [np.empty(0, "S16")], [np.empty(0, np.int64)]
        for group, (start, end) in enumerate(pairwise(self._starts.tolist())):
            try:
                with damage_told(self.path):
                    table = self._file.read_row_group(group, columns=["key"])
                    keys.append(_key_column(table, end - start))
                positions.append(np.arange(start, end))
            except DamagedFile:
                self._unread += end - start
        return np.concatenate(keys), np.concatenate(positions)

    def read(self, group: int) -> pa.Table:
        return self._file.read_row_group(group)

    def rows(self, at: Sequence[int]) -> list[Row | None]:
        positions = np.asarray(at)
        groups = np.searchsorted(self._starts, positions, side="right") - 1
        out: list[Row | None] = []
        for group in np.unique(groups):
            wanted = positions[groups == group]
            rows: list[Row | None] = [None] * len(wanted)
            with suppress(DamagedFile), damage_told(self.path):
                taken = self._groups.get(self, int(group)).take(wanted - self._starts[group]).to_pylist()
                rows = [row if row["check"] == check(row) else None for row in taken]
            self._lost.update(int(i) for i, row in zip(wanted, rows, strict=True) if row is None)
            out.extend(rows)
        return out


class LogRows:
    """A log of another attempt; a position is the offset of a line in the open file that holds it."""

    def __init__(self, path: str, descriptor: int, start: int = 0, end: int | None = None) -> None:
        self.path = path
        self._unread = 0  # lines that are not whole
        self._lost: set[int] = set()
        self._descriptor, self._start, self._end = descriptor, start, end
        self.read = 0  # bytes of it that were read

    @property
    def damaged(self) -> int:
        return self._unread + len(self._lost)

    def keys(self) -> tuple[Keys, Positions]:
        keys, positions = [], []
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            for key, at in ledger_log.scan(file, self._start, self._end):
                if key is None:
                    self._unread += 1
                else:
                    keys.append(key)
                    positions.append(at)
            self.read = file.tell() - self._start
        return as_keys(keys), np.array(positions, np.int64)

    def rows(self, at: Sequence[int]) -> list[Row | None]:
        found = [ledger_log.row_at(self._descriptor, offset) for offset in at]
        self._lost.update(offset for offset, row in zip(at, found, strict=True) if row is None)
        return found


def _key_column(table: pa.Table, rows: int) -> Keys:
    column = table.column("key").combine_chunks()
    if column.type != pa.binary(16) or len(column) != rows:
        raise ValueError("the keys are not as they were written")
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    data = np.frombuffer(column.buffers()[1], "S16") if rows else np.empty(0, "S16")
    return data[column.offset : column.offset + rows]


@dataclass
class Place:
    """A place as it was at one moment; its files stay readable until `close`."""

    storage: Storage
    sources: list[Source] = field(default_factory=list)
    damaged_files: list[str] = field(default_factory=list)
    _opened: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._groups = Groups()
        self._keys = np.empty(0, "S16")  # sorted; of equal ones the one that counts comes first
        self._source = np.empty(0, np.int32)
        self._position = np.empty(0, np.int64)

    @staticmethod
    def look(storage: Storage, folder: str) -> "Place":
        """What is there now. A log that goes meanwhile has its rows in a file that came: it is looked once more."""
        for _ in range(LOOKS):
            place = Place(storage)
            try:
                place._read(folder)
            except FileNotFoundError:
                place.close()
            except BaseException:
                place.close()
                raise
            else:
                return place
        raise RetryableError(f"the files of `{folder}` come and go")

    def holds(self, keys: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        wanted = as_keys(keys)
        if not len(self._keys):
            return np.zeros(len(wanted), np.bool_)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        held: npt.NDArray[np.bool_] = self._keys[at] == wanted
        return held

    def rows(self, keys: Sequence[bytes]) -> dict[bytes, Row]:
        """Those of the keys that are there and whole in one of the files."""
        found: dict[bytes, Row] = {}
        wanted = as_keys(keys)
        at = np.searchsorted(self._keys, wanted)
        while len(wanted):
            there = at < len(self._keys)
            there[there] = self._keys[at[there]] == wanted[there]
            wanted, at = wanted[there], at[there]
            order = np.lexsort((self._position[at], self._source[at]))
            wanted, at = wanted[order], at[order]
            missing = np.zeros(len(wanted), np.bool_)
            for source in np.unique(self._source[at]):
                of_it = np.flatnonzero(self._source[at] == source)
                rows = self.sources[source].rows(self._position[at[of_it]].tolist())
                for i, row in zip(of_it.tolist(), rows, strict=True):
                    if row is None:
                        missing[i] = True  # damaged: another file may have it too
                    else:
                        found[row["key"]] = row
            wanted, at = wanted[missing], at[missing] + 1
        return found

    def keys(self) -> Keys:
        """All keys that are there, in order, each once."""
        return np.unique(self._keys)

    def committed(self) -> Keys:
        """All keys that are in Parquet files."""
        parquet = np.array([isinstance(source, ParquetRows) for source in self.sources], np.bool_)
        return self._keys[parquet[self._source]] if len(self._keys) else self._keys

    def remove_logs(self, committed: Keys) -> None:
        """Remove the logs that have no owner and whose keys are all among `committed`, which are sorted.

        An object on a remote root never changes, so that it does not matter whether its owner lives.
        """
        for number, source in enumerate(self.sources):
            if isinstance(source, LogRows) and all_in(self._keys[self._source == number], committed):
                if self.storage.local(source.path) is not None:
                    ledger_log.remove_abandoned(self.storage, source.path, source.read)
                else:
                    with suppress(FileNotFoundError):
                        self.storage.remove(source.path)

    @property
    def damaged(self) -> dict[str, int]:
        lost = {source.path: source.damaged for source in self.sources if source.damaged}
        return {**lost, **dict.fromkeys(self.damaged_files, UNKNOWN)}

    def close(self) -> None:
        self._opened.close()

    def _read(self, folder: str) -> None:
        names = self.storage.names(folder)
        for name in names:
            if name.endswith(".parquet"):
                path = f"{folder}/{name}"
                try:
                    with damage_told(path):
                        file = self._opened.enter_context(self.storage.parquet(path))
                        self.sources.append(ParquetRows(path, file, self._groups))
                except DamagedFile:
                    self.damaged_files.append(path)
        spool = None
        for name in names:
            if not name.endswith(ledger_log.SUFFIX):
                continue
            path = f"{folder}/{name}"
            if (file := self.storage.local(path)) is not None:
                descriptor = os.open(file, os.O_RDONLY)
                self._opened.callback(os.close, descriptor)
                self.sources.append(LogRows(path, descriptor))
            else:
                spool = spool or self._opened.enter_context(Spool())
                data = self.storage.read(path)
                if data is None:
                    raise FileNotFoundError(path)
                start = spool.add(data + b"\n")  # a torn end does not reach into the next
                self.sources.append(LogRows(path, spool.descriptor, start, start + len(data)))
        self._index()

    def _index(self) -> None:
        read = [source.keys() for source in self.sources]
        if not read:
            return
        keys = np.concatenate([keys for keys, _ in read])
        order = np.argsort(keys, kind="stable")  # files are sorted already, and those that count come first
        self._keys = keys[order]
        self._source = np.repeat(np.arange(len(read), dtype=np.int32), [len(keys) for keys, _ in read])[order]
        self._position = np.concatenate([positions for _, positions in read])[order]
