"""Bytes of a source file as a stream: opened once, decompressed in bounded pieces, cut into lines.

Two kinds of trouble are kept apart. What storage does (a lost connection, a file replaced while it is read)
raises RetryableError. What is in the bytes (cut short, flipped) ends the stream with `Broken`, after every
good byte before it has been handed out. "Truncated" is said only when the bytes read are as many as the file
has.

Does not know what a document is.
"""

import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xxhash
import zstandard

from marco_data.errors import MarcoError, RecipeError, RetryableError
from marco_data.filesystems import FileSystem, filesystem_of, version_of
from marco_data.hub import is_pinned, refused
from marco_data.sources.source import SourceFile

CHUNK_BYTES = 1 << 20
# Text is packed to a third or a tenth, a log of equal lines to a hundredth; a bomb is a thousand times its size and
# more. Below EXPANDS_FREELY it does no harm, whatever it is.
EXPANDS_AT_MOST = 256
EXPANDS_FREELY = 256 << 20
HEAD_BYTES = 200
# decompressobj gives all that its input expands to, and a zstd block of 4 bytes may stand for 128 KiB: 2 KiB
# of input bound a hostile file to 64 MiB a call, and cost 3 % of the speed of 64 KiB on ordinary text.
ZST_FEED_BYTES = 2 << 10
# Reddit and Pile dumps are written with --long=31; the decoder's default stops at 27.
ZST_MAX_WINDOW = 1 << 31


class Broken(Exception):
    """The bytes of a file end or stop making sense here; `reason` is `read/truncated`, `/corrupt`, `/unreadable`
    or `/expands_too_much`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_filesystem(uri: str, storage_options: Mapping[str, Any]) -> tuple[FileSystem, str]:
    """The filesystem of a source's `uri` and the path in it."""
    return filesystem_of(uri, "cannot read", **storage_options)


class RawFile(io.RawIOBase):
    """A source file's stored bytes. Any trouble in reading them is a RetryableError, also kept in `trouble`,
    because a parser above may turn it into an error of its own."""

    def __init__(self, file: SourceFile, storage_options: Mapping[str, Any]) -> None:
        super().__init__()
        self.file = file
        self.trouble: MarcoError | None = None
        self._fs, self._path = open_filesystem(file.uri, storage_options)
        self._stays = is_pinned(file.uri)
        self.check_unchanged()
        known = {"size": file.size} if self._stays else {}
        try:
            self._handle = self._fs.open(self._path, "rb", block_size=4 << 20, **known)
        except Exception as error:
            raise self._retryable(error) from error

    def check_unchanged(self) -> None:
        """Raise RetryableError where the file is not the one that was listed any more."""
        if self._stays:
            return
        try:
            self._fs.invalidate_cache(self._path)
            info = self._fs.info(self._path)
        except Exception as error:
            raise self._retryable(error) from error
        if info["size"] != self.file.size or version_of(info) != self.file.version:
            self.trouble = RetryableError(
                f"`{self.file.uri}` changed after it was listed (read/changed)",
                hint="run the command again: it lists the file anew",
            )
            raise self.trouble

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            data: bytes = self._handle.read(-1 if size is None else size)
        except Exception as error:  # storage libraries raise their own kinds, few of them OSError
            raise self._retryable(error) from error
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._handle.seek(offset, whence))

    def tell(self) -> int:
        return int(self._handle.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed and hasattr(self, "_handle"):
            self._handle.close()
        super().close()

    def ended(self) -> Broken:
        """What an early end of the data means: truncated where every stored byte was read, else a short
        read."""
        if self.tell() == self.file.size:
            return Broken("read/truncated")
        raise self._retryable(EOFError(f"{self.tell()} of {self.file.size} bytes read"))

    def _retryable(self, error: Exception) -> MarcoError:
        if isinstance(error, RecipeError):  # a bucket that is not there, a key that is not known: no better later
            self.trouble = error
            return error
        trouble: MarcoError = refused(error, self.file.uri) or RetryableError(
            f"cannot read `{self.file.uri}`: {error or type(error).__name__}"
        )
        self.trouble = trouble
        return trouble


def chunks(raw: RawFile) -> Iterator[bytes]:
    """The file's decompressed bytes in pieces; raises Broken after the last good one."""
    if raw.file.compression == "gz":
        return _bounded(raw, _gunzip(raw))
    if raw.file.compression == "zst":
        return _bounded(raw, _unzstd(raw))
    return _plain(raw)


def _bounded(raw: RawFile, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a compressed file, to the point where they are too much for what was read of it."""
    given = 0
    for piece in pieces:
        given += len(piece)
        if given > EXPANDS_FREELY and given > EXPANDS_AT_MOST * raw.tell():
            raise Broken("read/expands_too_much")
        yield piece


def _plain(raw: RawFile) -> Iterator[bytes]:
    while data := raw.read(CHUNK_BYTES):
        yield data
    if raw.tell() < raw.file.size:
        raise raw.ended()


def _gunzip(raw: RawFile) -> Iterator[bytes]:
    """Gzip members one after the other (WARC has one a record); zero bytes between or after them are
    padding."""
    data = raw.read(CHUNK_BYTES)
    if not data:
        raise raw.ended()
    good = False
    while data:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            before = member.copy()
            try:
                out = member.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                for byte in _until_error(before, data):
                    good = True
                    yield byte
                raise Broken("read/corrupt" if good else "read/unreadable") from error
            if out:
                good = True
                yield out
            data = member.unconsumed_tail
            # A full output may leave more inside the decompressor with no input left to show for it.
            if not data and not member.eof and len(out) < CHUNK_BYTES and not (data := raw.read(CHUNK_BYTES)):
                raise raw.ended()
        good = True
        data = member.unused_data.lstrip(b"\0")
        while not data and (more := raw.read(CHUNK_BYTES)):
            data = more.lstrip(b"\0")


def _until_error(member: Any, data: bytes) -> Iterator[bytes]:
    """What a decompressor gives before it fails on `data`. zlib keeps back all of a call that ends in an
    error (a MiB of good rows, for a flipped bit), so the bytes are fed to it again one by one."""
    out = bytearray()
    try:
        for at in range(len(data)):
            out += member.decompress(data[at : at + 1])
    except zlib.error:
        pass
    if out:
        yield bytes(out)


def _unzstd(raw: RawFile) -> Iterator[bytes]:
    data = raw.read(CHUNK_BYTES)
    if not data:
        raise raw.ended()
    good = False
    while data:
        frame = zstandard.ZstdDecompressor(max_window_size=ZST_MAX_WINDOW).decompressobj()
        while not frame.eof:
            if not data and not (data := raw.read(CHUNK_BYTES)):
                raise raw.ended()
            try:
                out = frame.decompress(data[:ZST_FEED_BYTES])
            except zstandard.ZstdError as error:
                raise Broken("read/corrupt" if good else "read/unreadable") from error
            data = data[ZST_FEED_BYTES:]
            if out:
                good = True
                yield out
        good = True
        data = frame.unused_data + data or raw.read(CHUNK_BYTES)


@dataclass(slots=True)
class Line:
    """One line without its newline. Of a line above the limit only the head is held; `broken` names the break
    in the file that this (partial, maybe empty) line ran into."""

    offset: int  # of its first byte, in the decompressed file
    data: bytes
    digest: str | None = None  # xxh3-128 of the whole line, only where `data` is not the whole of it
    broken: str | None = None

    def id(self) -> str:
        return self.digest or xxhash.xxh3_128_hexdigest(self.data)


def lines(pieces: Iterator[bytes], limit: int, offset: int = 0) -> Iterator[Line]:
    """Cut a stream into lines, holding at most `limit` bytes plus one piece whatever the line's length."""
    held = _Held(offset, limit)
    try:
        for piece in pieces:
            start = 0
            while (end := piece.find(b"\n", start)) >= 0:
                if held.size == 0 and end - start <= limit:
                    line = Line(held.offset, piece[start:end])
                    held.offset += end - start + 1
                    yield line
                else:
                    held.add(piece[start:end])
                    yield held.take(newline=True)
                start = end + 1
            if start < len(piece):
                held.add(piece[start:])
    except Broken as broken:
        line = held.take(newline=False)
        line.broken = broken.reason
        yield line
        return
    if held.size:
        yield held.take(newline=False)


class _Held:
    """The line being read: its pieces, or only head and running hash once it is above the limit."""

    def __init__(self, offset: int, limit: int) -> None:
        self.offset = offset
        self.size = 0
        self._limit = limit
        self._pieces: list[bytes] = []
        self._hash: xxhash.xxh3_128 | None = None

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._hash is None:
            self._pieces.append(piece)
            if self.size > self._limit:
                whole = b"".join(self._pieces)
                self._hash = xxhash.xxh3_128(whole)
                self._pieces = [whole[:HEAD_BYTES]]
        else:
            self._hash.update(piece)

    def take(self, *, newline: bool) -> Line:
        line = Line(self.offset, b"".join(self._pieces), self._hash.hexdigest() if self._hash else None)
        self.offset += self.size + newline
        self.size, self._pieces, self._hash = 0, [], None
        return line
