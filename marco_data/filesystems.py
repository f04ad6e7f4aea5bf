"""The file system behind a path or URL: fsspec's, and for S3 the one of `marco_data.s3`. The only room of fsspec.

In: a path or any fsspec URL. Out: the file system and the path in it, an open file, or a copy on this machine. Knows
nothing of what is in a file.
"""

import errno
import os
import secrets
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import fsspec
import xxhash

from marco_data.errors import RecipeError, ShardError
from marco_data.machine_folders import folder_of_process, locked, shared_folder, used

FileSystem = fsspec.AbstractFileSystem
BLOCK_BYTES = 4 << 20
"""Of one request for a file that is read from its start: what a stream in memory costs, and few enough requests."""


def filesystem_of(uri: str, what: str, **options: Any) -> tuple[Any, str]:
    """RecipeError, which begins with `what`, where the protocol is unknown or its package is not installed."""
    try:
        if uri.startswith(("s3://", "s3a://")) and "::" not in uri:
            from marco_data.s3 import S3  # half a second of imports that a build on disk does without

            return S3(**options), str(S3._strip_protocol(uri))
        filesystem, path = fsspec.core.url_to_fs(uri, **options)
    except (ValueError, ImportError) as error:
        raise RecipeError(f"{what} `{uri}`: {error}") from error
    return filesystem, str(path)


def opened(uri: str, compression: str | None = None) -> IO[bytes]:
    """A file to read, unpacked where `compression` (gzip, zstd) is given."""
    filesystem, path = filesystem_of(uri, "cannot read")
    file: IO[bytes] = filesystem.open(path, "rb", block_size=BLOCK_BYTES, compression=compression)
    return file


def content_version(info: Mapping[str, Any]) -> str:
    """What a file has as long as its content stays: ETag or blob id; empty where its storage names none."""
    return next((str(info[key]) for key in ("ETag", "etag", "blob_id") if info.get(key) is not None), "")


def version_of(info: Mapping[str, Any]) -> str:
    """What tells a rewritten file of equal size apart: ETag, blob id or modification time, whichever there
    is."""
    if version := content_version(info):
        return version
    for key in ("mtime", "LastModified", "last_modified", "created"):
        value = info.get(key)
        if value is not None:  # listings and lookups of one filesystem may give a time in different types
            return str(value.timestamp() if isinstance(value, datetime) else value)
    return ""


_begun: dict[str, threading.Lock] = {}
"""A lock for each copy, and one, under no name, for the folder of all: threads may want the same at once."""


def local_copy(uri: str, keep: Path | None = None) -> Path:
    """A copy of a file on this machine, fetched once per process.

    With `keep`, a folder, it stays there for other processes too, as long as the file is what it was.
    """
    if keep is None:
        with _begun.setdefault("", threading.Lock()):
            folder = folder_of_process()
        name = uri
    else:
        filesystem, path = filesystem_of(uri, "cannot read")
        folder, name = keep, f"{uri} {filesystem.ukey(path)}"
        folder.mkdir(parents=True, exist_ok=True)
    target = folder / xxhash.xxh3_128_hexdigest(name.encode())
    with _begun.setdefault(str(target), threading.Lock()):
        if not target.exists():
            _fetch(uri, target)
    return target


def _fetch(uri: str, target: Path) -> None:
    unfinished = target.with_suffix(f".{secrets.token_hex(4)}.partial")
    with opened(uri) as source, unfinished.open("wb") as out:
        shutil.copyfileobj(source, out, BLOCK_BYTES)
        out.flush()
        os.fsync(out.fileno())  # a copy outlives its machine's crash, and is then whole
    unfinished.replace(target)


_shared_copies: dict[str, Path] = {}
"""What this process has used: as it was then, however often it is asked for again."""


def shared_copy(uri: str) -> Path:
    """A copy on this machine for all of this user's processes, fetched once as long as the file is what it was.

    Where nobody can say whether it is (an HTTP server without ETags), the process's own.
    """
    copy = _shared_copies.get(uri)
    if copy is None or not used(copy):
        copy = _shared_copies[uri] = _shared_or_own(uri)
    return copy


def _shared_or_own(uri: str) -> Path:
    folder = shared_folder()
    filesystem, path = filesystem_of(uri, "cannot read")
    info = filesystem.info(path) if folder is not None else {}
    version = version_of(info)
    if folder is None or not version:
        return local_copy(uri)
    target = folder / xxhash.xxh3_128_hexdigest(f"{uri} {version} {info.get('size')}".encode())
    with locked(target):
        if not used(target):
            for left in folder.glob(f"{target.name}.*.partial"):  # of who died over it
                left.unlink(missing_ok=True)
            _fetch(uri, target)
    return target


@dataclass(frozen=True)
class RemoteFile:
    """A file that is read by stretches, each of them one request; `size` in bytes."""

    uri: str
    size: int

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`. Raises ShardError where the file no longer has them."""
        if start == stop:
            return b""  # storage refuses an empty range
        filesystem, path = filesystem_of(self.uri, "cannot read")
        data, why = b"", ""
        try:
            data = filesystem.cat_file(path, start=start, end=stop)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) and error.errno != errno.EINVAL:
                raise
            why = f" ({error})"  # gone, or shorter than where this begins
        if len(data) != stop - start:
            raise ShardError(
                f"`{self.uri}` gave {len(data):,} bytes from {start:,} on, not {stop - start:,}{why}",
                hint="bring back the file as it was, and go on from the last checkpoint",
            )
        return data


def remote_file(uri: str) -> RemoteFile:
    """Raises FileNotFoundError."""
    filesystem, path = filesystem_of(uri, "cannot read")
    return RemoteFile(uri, int(filesystem.info(path)["size"]))
