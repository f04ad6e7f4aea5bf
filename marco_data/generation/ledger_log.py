"""The log of one attempt: completions as they come, each safe before whoever asked for it goes on.

In: rows of the ledger (`Row`). Out: lines, each with a checksum of its own, and where they lie. Knows neither who asked
nor which of two equal keys counts.

On a local disk an attempt has one file, `<pid>-<random>.log`, and a row is one write() to it: once `append` returns,
the kernel has it, whatever becomes of the process (a machine that loses power may lose the last seconds). The owner
holds a lock on the file; whoever can take the lock knows that the owner is gone. On any other root an attempt makes a
new object every OBJECT_ROWS rows or OBJECT_SECONDS, and keeps all of its rows in a nameless local file to read from.

A line is a newline, the XXH3-64 of what follows, the key, the row as JSON, a newline. The newline at both ends lets a
torn line, or a byte turned into or out of a newline, cost that line alone.
"""

import fcntl
import json
import os
import secrets
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import xxhash

from marco_data.errors import RetryableError
from marco_data.storage import DISK_FULL, Storage

SUFFIX = ".log"
OBJECT_ROWS = 256
OBJECT_SECONDS = 30.0
Row = dict[str, Any]


def check(row: Row) -> int:
    """A checksum of a row's answer, 63 bits: Parquet's own leave out the footer, which says what a page is."""
    rest = f"{row['finish_reason']} {row['tokens_in']} {row['tokens_out']} {row['gpu_seconds']!r} {row['text']}"
    return int(xxhash.xxh3_64_intdigest(row["key"] + rest.encode())) >> 1


def encoded(row: Row) -> bytes:
    """A row's line. JSON has no newlines of its own."""
    rest = {name: value for name, value in row.items() if name != "key"}
    said = row["key"].hex().encode() + b" " + json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode()
    return b"\n%b %b\n" % (_checksum(said), said)


def decoded(line: bytes) -> Row | None:
    """The row of a line without its newlines, None where a byte of it is not as it was written."""
    if not _whole(line):
        return None
    return {"key": bytes.fromhex(line[17:49].decode()), **json.loads(line[50:])}


def _whole(line: bytes) -> bool:
    return len(line) > 50 and line[:16] == _checksum(line[17:]) and line[16:17] == b" "


def _checksum(data: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(data).encode()


def scan(file: IO[bytes], start: int, end: int | None) -> Iterator[tuple[bytes | None, int]]:
    """(key, offset) of each line between two offsets; a damaged line has no key. Leaves the file where it stopped."""
    file.seek(start)
    at = start
    while (end is None or at < end) and (line := file.readline()):
        if line != b"\n":
            body = line.rstrip(b"\n")
            yield (bytes.fromhex(body[17:49].decode()) if _whole(body) else None), at
        at += len(line)


def row_at(descriptor: int, offset: int) -> Row | None:
    """The row whose line begins at `offset`."""
    return decoded(line_at(descriptor, offset))


def line_at(descriptor: int, offset: int) -> bytes:
    size = 1 << 13  # most lines; a longer one is read in growing steps
    data = os.pread(descriptor, size, offset)
    while b"\n" not in data and len(data) == size:
        size *= 4
        data = os.pread(descriptor, size, offset)
    return data.partition(b"\n")[0]


class LocalLog:
    """One attempt's file on this machine's disk. It is made when there is something to write."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder
        self.path = ""
        self.descriptor = -1
        self._end = 0

    def append(self, row: Row) -> int:
        """Write the row; where its line begins. It outlives this process from here on."""
        line = encoded(row)
        try:
            if self.descriptor < 0:
                self._open()
            offset = self._end + 1
            left = line
            while left:  # a disk that is nearly full takes a part
                left = left[os.write(self.descriptor, left) :]
        except OSError as error:
            if self.descriptor >= 0:
                self._end = os.fstat(self.descriptor).st_size
            if error.errno in DISK_FULL:
                raise
            raise RetryableError(f"writing a log of `{self.folder}` failed: {error.strerror or error}") from error
        self._end += len(line)
        return offset

    def _open(self) -> None:
        while self.descriptor < 0:
            self.path = f"{self.folder}/{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
            file = self.storage.local(self.path)
            assert file is not None
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
            with suppress(OSError):  # a file system without locks: nobody will take the owner for dead
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                self.descriptor = descriptor
            else:  # removed as an empty log without an owner, in the moment before the lock
                os.close(descriptor)

    def remove(self) -> None:
        if self.path:
            self.storage.remove(self.path)
            self.path = ""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def remove_abandoned(storage: Storage, path: str, size: int) -> bool:
    """Remove a local log that has still `size` bytes and no owner; whether it is gone."""
    file = storage.local(path)
    assert file is not None
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size != size:
            return False
        file.unlink(missing_ok=True)
    except OSError:  # its owner lives, or nobody can tell
        return False
    finally:
        os.close(descriptor)
    return True


class Spool:
    """A nameless local file of lines: what is read again by offset though its root is not on this machine."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix="marco-data-")  # noqa: SIM115  closed with its owner
        self.end = 0
        weakref.finalize(self, self.file.close)

    @property
    def descriptor(self) -> int:
        return self.file.fileno()

    def add(self, data: bytes) -> int:
        """Where the bytes begin."""
        at = self.end
        left = data
        while left:
            written = os.pwrite(self.descriptor, left, self.end)
            self.end += written
            left = left[written:]
        return at

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


class RemoteLog:
    """One attempt's objects on a root that is not on this machine; a thread writes them, so that nobody waits."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage = storage
        self.stem = f"{folder}/{os.getpid()}-{secrets.token_hex(6)}"
        self.paths: list[str] = []
        self._spool = Spool()
        self._lines: list[bytes] = []
        self._changed = threading.Condition()
        self._flushing = threading.Lock()
        self._since = 0.0
        self._closed = False
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    @property
    def descriptor(self) -> int:
        return self._spool.descriptor

    def append(self, row: Row) -> int:
        """Take the row; where its line begins. It outlives this process once its object is written."""
        if self._failure is not None:
            raise RetryableError(f"writing a log of `{self.stem}` failed: {self._failure}") from self._failure
        line = encoded(row)
        offset = self._spool.add(line) + 1
        with self._changed:
            if not self._lines:
                self._since = time.monotonic()
            self._lines.append(line)
            if len(self._lines) in (1, OBJECT_ROWS):
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_objects, name="ledger", daemon=True)
                self._thread.start()
        return offset

    def _write_objects(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._due():
                    waited = time.monotonic() - self._since
                    self._changed.wait(max(0.01, OBJECT_SECONDS - waited) if self._lines else None)
                if self._closed:
                    return
            try:
                self.flush()
            except Exception as error:  # told to whoever appends next; `close` tries once more
                self._failure = error
                return

    def _due(self) -> bool:
        waited = time.monotonic() - self._since
        return bool(self._lines) and (len(self._lines) >= OBJECT_ROWS or waited >= OBJECT_SECONDS)

    def flush(self) -> None:
        """Write what waits as an object of its own."""
        with self._flushing:
            with self._changed:
                lines = list(self._lines)
            if not lines:
                return
            path = f"{self.stem}-{len(self.paths):05d}{SUFFIX}"
            self.storage.replace(path, b"".join(lines))
            self.paths.append(path)
            with self._changed:
                del self._lines[: len(lines)]
                self._since = time.monotonic()

    def remove(self) -> None:
        """Remove all objects, and forget what waits."""
        with self._changed:
            self._lines.clear()
        with self._flushing:
            for path in self.paths:
                with suppress(FileNotFoundError):
                    self.storage.remove(path)
            self.paths.clear()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        try:
            self.flush()
        finally:
            self._spool.file.close()
