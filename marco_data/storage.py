"""Where results live: one folder on local disk or any fsspec URL, and the one writer of Parquet.

Commits are two moves. Data first: a file is finished under a temporary name (never ending in .parquet, .bin
or .idx), then appears whole under a name that contains the hash of its bytes, so writing it twice is harmless.
The record last: it is created only if it does not exist, and its existence means the data is there.
"""

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from marco_data.errors import DamagedFile, RecipeError, RetryableError
from marco_data.machine_folders import private_folder, remove_left
from marco_data.redact import public_url

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""On the disk of the root no retry and no other shard escapes it: such an OSError ends the run."""

UPLOADS = 3
"""How often a file is sent whole. Each request of an upload has tries of its own; this is for what voids all of it."""
READ_AHEAD_BYTES = 4 << 20

ROW_GROUP_ROWS = 16_384
PARQUET_SETTINGS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "data_page_version": "2.0",
    "write_page_checksum": True,  # 0.2 % of the time of a pass: a damaged page is told from a whole one
    "use_dictionary": False,  # zstd finds what it would: a shard is 10 % smaller without, and written faster
}
DAMAGE = (
    "CRC checksum verification failed",
    "Parquet magic bytes not found",
    "Couldn't deserialize thrift",
    "Parquet file size is",
    "Unexpected end of stream",
)
"""How pyarrow says that a file is not as it was written."""
SOUGHT = ("shard", "language", "lid_language")
"""Columns by whose least and most in a row group readers pass it over; of text they are 8 KB a group, for nobody."""


@dataclass(frozen=True)
class DataFile:
    """A committed file: path relative to the root, size in bytes, hex digest (16 digits of SHA-256)."""

    path: str
    bytes: int
    digest: str
    rows: int = 0


class Entry(NamedTuple):
    """A file as a listing knows it: path relative to the root, bytes, when it was written (seconds since 1970)."""

    path: str
    bytes: int
    written: float


@dataclass(frozen=True)
class Storage:
    """A root folder; every path given to its methods is relative to it."""

    root: str

    def __post_init__(self) -> None:
        if not self.root:
            raise RecipeError("the root has no name", hint="--root FOLDER, or any fsspec URL")
        if self._local is None and (signs := sorted(set("*?[") & set(self.root))):
            raise RecipeError(
                f"the root `{public_url(self.root)}` holds `{signs[0]}`, which storage reads as a pattern",
                hint="name another folder with --root",
            )

    @property
    def _local(self) -> Path | None:
        if "://" not in self.root:
            return Path(self.root)
        return Path(self.root.removeprefix("file://")) if self.root.startswith("file://") else None

    def _remote(self) -> tuple[Any, str]:
        from marco_data.filesystems import filesystem_of

        # A cached listing would hide what another worker or run has committed since.
        return filesystem_of(self.root, "cannot use the root", use_listings_cache=False)

    def local(self, path: str) -> Path | None:
        """Where `path` is on this machine's own file system, None where the root is elsewhere."""
        return None if self._local is None else self._local / path

    def uri(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}"

    # -- reading ------------------------------------------------------------------------------------------

    def open(self, path: str) -> IO[bytes]:
        if self._local is not None:
            return (self._local / path).open("rb")
        filesystem, base = self._remote()
        file: IO[bytes] = filesystem.open(f"{base}/{path}", "rb", block_size=READ_AHEAD_BYTES)
        return file

    def read(self, path: str) -> bytes | None:
        """The bytes at `path`, or None where there is nothing."""
        try:
            if self._local is not None:
                with self.open(path) as file:
                    return file.read()
            filesystem, base = self._remote()
            data: bytes = filesystem.cat_file(f"{base}/{path}")  # one request; to open it first would be a second
            return data
        except FileNotFoundError:
            return None

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """The bytes of those of `paths` that are there, in their order; elsewhere many are asked for at once."""
        if self._local is not None:
            base, local = str(self._local), []
            for path in paths:
                with (
                    suppress(FileNotFoundError),
                    io.FileIO(f"{base}/{path}") as file,
                ):  # a Path costs as much as reading
                    local.append(file.readall())
            return local
        filesystem, base = self._remote()
        full = [f"{base}/{path}" for path in paths]
        answers = filesystem.cat(full, on_error="return") if full else {}
        for answer in answers.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
        return [answers[path] for path in full if isinstance(answers.get(path), bytes)]

    def read_json(self, path: str) -> Any | None:
        data = self.read(path)
        return None if data is None else json.loads(data)

    def read_json_lines(self, path: str) -> Iterator[dict[str, Any]]:
        """The objects of a file of JSON lines, none where there is no file; a line that is cut off is passed over."""
        for line in io.BytesIO(self.read(path) or b""):  # str.splitlines would part a text at U+2028 and its like too
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict):
                yield said

    def read_stretches(self, path: str, stretches: Sequence[tuple[int, memoryview]]) -> bool:
        """Fill each buffer with the bytes from its offset on; whether all were there.

        Raises FileNotFoundError where there is no file.
        """
        if self._local is not None:
            with (self._local / path).open("rb", buffering=0) as file:
                return all(os.preadv(file.fileno(), [view], at) == len(view) for at, view in stretches)
        filesystem, base = self._remote()
        starts = [at for at, _ in stretches]
        ends = [at + len(view) for at, view in stretches]
        parts = filesystem.cat_ranges([f"{base}/{path}"] * len(starts), starts, ends, on_error="raise")
        if [len(part) for part in parts] != [len(view) for _, view in stretches]:
            return False
        for (_, view), part in zip(stretches, parts, strict=True):
            view[:] = part
        return True

    def exists(self, path: str) -> bool:
        if self._local is not None:
            return (self._local / path).exists()
        filesystem, base = self._remote()
        return bool(filesystem.exists(f"{base}/{path}"))

    def names(self, folder: str) -> list[str]:
        """Sorted names of the entries of a folder (empty where there is none)."""
        try:
            if self._local is not None:
                with os.scandir(self._local / folder) as entries:  # of a million records; a Path each takes seconds
                    return sorted(entry.name for entry in entries)
            filesystem, base = self._remote()
            return sorted(Path(p).name for p in filesystem.ls(f"{base}/{folder}", detail=False))
        except FileNotFoundError:
            return []

    def below(self, folder: str) -> list[Entry]:
        """Every file at any depth below a folder, sorted; elsewhere one request for a thousand of them."""
        if self._local is not None:
            return sorted(_files_below(str(self._local), folder))
        filesystem, root = self._remote()
        listed = filesystem.find(f"{root}/{folder}", detail=True).items()
        return sorted(Entry(path[len(root) + 1 :], int(info["size"]), _moment(info)) for path, info in listed)

    def read_table(self, path: str, columns: list[str] | None = None) -> pa.Table:
        with self.parquet(path) as file:
            return file.read(columns=columns)

    @contextmanager
    def parquet(self, path: str) -> Iterator[pq.ParquetFile]:
        """Raises DamagedFile, also from what is read of it, where the bytes are not those that were written."""
        try:
            with ExitStack() as opened:
                if self._local is not None:
                    file = pq.ParquetFile(self._local / path, memory_map=True, page_checksum_verification=True)
                else:
                    filesystem, base = self._remote()
                    # Arrow asks for the stretches of the columns it wants; ahead of those nothing is needed.
                    source = opened.enter_context(filesystem.open(f"{base}/{path}", "rb", cache_type="none"))
                    file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
                yield opened.enter_context(file)
        except (pa.ArrowInvalid, OSError) as error:
            if any(sign in str(error) for sign in DAMAGE):
                raise DamagedFile(path, str(error).splitlines()[0]) from error
            raise

    # -- writing ------------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raise RecipeError, before anything is computed, where the root cannot be written."""
        name = f"runs/tmp/{secrets.token_hex(8)}.partial"
        try:
            self.replace(name, b"")
            self.remove(name)
        except OSError as error:
            raise RecipeError(
                f"cannot write to the root `{self.root}`: {error.strerror or error}",
                hint="choose another with --root, or repair its rights",
            ) from error

    def create(self, path: str, data: bytes) -> bool:
        """Write `path` in one move if nothing is there; False where something already was."""
        if self._local is None:
            filesystem, base = self._remote()
            try:
                filesystem.pipe_file(f"{base}/{path}", data, mode="create")
            except FileExistsError:
                return False
            return True
        target = self._local / path
        temporary = self._temporary(data)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Write `path` in one move, whatever was there."""
        if self._local is None:
            filesystem, base = self._remote()
            filesystem.pipe_file(f"{base}/{path}", data)
            return
        target = self._local / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._temporary(data).replace(target)

    def remove(self, path: str) -> None:
        if self._local is not None:
            (self._local / path).unlink(missing_ok=True)
            return
        filesystem, base = self._remote()
        filesystem.rm_file(f"{base}/{path}")

    def remove_many(self, paths: Sequence[str]) -> None:
        """Remove files, those that are gone already included, and folders that are empty after."""
        if self._local is None:
            filesystem, base = self._remote()
            if paths:
                with suppress(FileNotFoundError):
                    filesystem.rm([f"{base}/{path}" for path in paths])
            return
        for path in paths:
            (self._local / path).unlink(missing_ok=True)
        for folder in sorted({folder for path in paths for folder in Path(path).parents[:-1]}, reverse=True):
            with suppress(OSError):  # something is left in it
                (self._local / folder).rmdir()

    def unfinished_uploads(self, before: float) -> list[tuple[str, str]]:
        """What killed workers left of uploads that began `before`: no listing of files shows it, and it is paid for."""
        if self._local is not None:
            return []
        filesystem, base = self._remote()
        return filesystem.unfinished_uploads(base, before) if hasattr(filesystem, "unfinished_uploads") else []

    def end_uploads(self, uploads: Sequence[tuple[str, str]]) -> None:
        if uploads:
            filesystem, base = self._remote()
            filesystem.end_uploads(base, uploads)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder for unfinished files, on the root's own disk where the root is local."""
        if self._local is None:
            with private_folder() as folder:
                yield folder
            return
        parent = self._local / "runs" / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, suffix=".partial"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove_stale_scratch(self, older_than_seconds: float = 86_400.0) -> None:
        """Remove what killed runs left of unfinished files; another run's own are younger, or locked."""
        remove_left()
        if self._local is None:
            return
        folder = self._local / "runs" / "tmp"
        limit = time.time() - older_than_seconds
        for left in folder.iterdir() if folder.is_dir() else ():
            with suppress(OSError):  # another run may be removing the same
                if max(path.stat().st_mtime for path in (left, *left.glob("*"))) < limit:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    def commit(self, finished: Path, stem: str, suffix: str, *, digest: str | None = None, rows: int = 0) -> DataFile:
        """Publish a finished scratch file as `<stem>.<digest[:8]><suffix>`.

        `digest` names a group of files after one of them (.bin and .idx); by default the file's own.
        """
        own = file_digest(finished)
        path = f"{stem}.{(digest or own)[:8]}{suffix}"
        size = finished.stat().st_size
        try:
            if self._local is not None:
                target = self._local / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with finished.open("rb") as file:
                    os.fsync(file.fileno())
                finished.replace(target)
            else:
                self._upload(finished, path, size)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise RetryableError(f"writing `{path}` failed: {error.strerror or error}") from error
        return DataFile(path=path, bytes=size, digest=own, rows=rows)

    def _upload(self, finished: Path, path: str, size: int) -> None:
        """A file appears when its upload is completed. Its name is that of its bytes: sent again, it is the same."""
        filesystem, base = self._remote()
        options = filesystem.upload_options(size) if hasattr(filesystem, "upload_options") else {}
        for attempt in range(1, UPLOADS + 1):
            try:
                filesystem.put_file(str(finished), f"{base}/{path}", **options)
                return
            except OSError as error:
                # A conflict at the end, or an upload that is gone: completed by a try whose reply was lost, or aborted.
                if not (isinstance(error, FileNotFoundError) or error.errno == errno.EBUSY):
                    raise
                if self._bytes_at(path) == size:  # of that name, so of these bytes: 8 GB need not go again
                    return
                if attempt == UPLOADS:
                    raise

    def _bytes_at(self, path: str) -> int | None:
        filesystem, base = self._remote()
        try:
            return int(filesystem.info(f"{base}/{path}")["size"])
        except FileNotFoundError:
            return None

    def _temporary(self, data: bytes) -> Path:
        assert self._local is not None
        folder = self._local / "runs" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{secrets.token_hex(8)}.partial"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary


def write_parquet(storage: Storage, stem: str, groups: Iterable[pa.Table], schema: pa.Schema) -> DataFile:
    """The one writer: each table of `groups` becomes its own row groups of at most ROW_GROUP_ROWS rows.

    Equal rows give equal bytes: chunks are combined first (batch boundaries would show in the pages),
    settings are fixed, and there are no times or host names. An empty `groups` gives a file without rows.
    """
    sought = [name for name in SOUGHT if name in schema.names]
    with storage.scratch() as folder:
        finished = folder / "data.partial"
        rows = 0
        with pq.ParquetWriter(finished, schema, write_statistics=sought, **PARQUET_SETTINGS) as writer:
            for table in groups:
                rows += table.num_rows
                for start in range(0, table.num_rows, ROW_GROUP_ROWS):
                    part = _alone(table.slice(start, ROW_GROUP_ROWS))
                    # A cast of 40 columns to what they are takes a tenth of a small row group's time.
                    same = part.schema.equals(schema)
                    writer.write_table(part if same else part.cast(schema), row_group_size=ROW_GROUP_ROWS)
        return storage.commit(finished, stem, ".parquet", rows=rows)


def _files_below(base: str, folder: str) -> Iterator[Entry]:
    """Files on a disk; what another process removes meanwhile, as runs do with their notes, is none of them."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{base}/{folder}") as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(base, path)
                continue
            with suppress(FileNotFoundError):
                known = entry.stat()
                if stat.S_ISREG(known.st_mode):
                    yield Entry(path, known.st_size, known.st_mtime)


def _moment(info: Mapping[str, Any]) -> float:
    """When a file was written, as the file system of its root says; now, the safest, where it does not."""
    for name in ("LastModified", "last_modified", "mtime", "created"):
        value = info.get(name)
        if value is not None:
            return value.timestamp() if isinstance(value, datetime) else float(value)
    return time.time()


def _alone(table: pa.Table) -> pa.Table:
    """A copy of the rows in one chunk whose buffers hold nothing else: what they were cut from would show."""
    ends = (table.slice(0, 1), table.slice(1))  # a single chunk would not be copied
    return pa.concat_tables(ends).combine_chunks()


def row_of(storage: Storage, file: DataFile, row: int, columns: list[str] | None = None) -> dict[str, Any]:
    with storage.parquet(file.path) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            n = parquet.metadata.row_group(group).num_rows
            if start <= row < start + n:
                return dict(parquet.read_row_group(group, columns=columns).slice(row - start, 1).to_pylist()[0])
            start += n
    raise IndexError(f"{file.path} has no row {row}")


def file_digest(path: Path) -> str:
    """Sixteen hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def canonical_json(value: Any) -> bytes:
    """One JSON text for equal values: sorted keys, two-space indent, a final newline."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2) + "\n").encode()
