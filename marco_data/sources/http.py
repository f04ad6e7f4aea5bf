"""The HTTP response inside a WARC record: status, type and the decoded body.

In: the bytes of a record's block. Out: `Body`, with chunks joined and gzip, deflate, brotli or zstd undone,
never more than the limit plus one byte of it. Crawlers often store the decoded body under headers that say
otherwise: where a body is not what its headers claim, it is taken as it is.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import brotli  # type: ignore[import-untyped]
import zstandard

PACKAGES = ("brotli", "zstandard")

HEADER_BYTES = 64 << 10
CODINGS = 3
"""Content codings that are undone; a page has one, and each costs up to the limit of a body."""

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"',]+)""", re.IGNORECASE)


@dataclass(slots=True)
class Body:
    data: bytes
    status: int | None
    media_type: str  # lower case, "" where there is none
    charset: str | None
    header_too_large: bool = False  # nothing else is known then


def body(block: bytes, record_type: str, limit: int) -> Body:
    """The payload of a record whose own content type is `record_type` (that of a resource's payload)."""
    if not block.startswith(b"HTTP/"):
        media_type, charset = _media_type(record_type)
        return Body(block, None, media_type, charset)
    end = _HEADER_END.search(block, 0, HEADER_BYTES)
    if end is None and len(block) > HEADER_BYTES:
        return Body(block, None, "", None, header_too_large=True)
    head, data = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    status_line, *lines = head.split(b"\n")
    headers = parse_headers(lines, "latin-1")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        data = _join_chunks(data)
    for coding in reversed(headers.get("content-encoding", "").lower().split(",")[:CODINGS]):
        data = _decode(data, coding.strip(), limit)
    media_type, charset = _media_type(headers.get("content-type", ""))
    return Body(data, _status(status_line), media_type, charset)


def parse_headers(lines: Iterable[bytes], encoding: str) -> dict[str, str]:
    """Header lines by name in lower case, the first of each; a line that begins with a space continues the
    last."""
    parts: dict[str, list[str]] = {}  # joined at the end: a value of 100,000 lines would be copied for each
    name = ""
    for line in lines:
        text = line.decode(encoding, "replace").rstrip("\r\n")
        if text[:1] in (" ", "\t") and name:
            parts[name].append(text.strip())
            continue
        name, _, value = text.partition(":")
        name = name.strip().lower()
        parts.setdefault(name, [value.strip()])
    return {name: " ".join(values) for name, values in parts.items()}


def _status(line: bytes) -> int | None:
    code = line.split(maxsplit=2)[1:2]
    return int(code[0]) if code and len(code[0]) <= 4 and code[0].isdigit() else None


def _media_type(value: str) -> tuple[str, str | None]:
    media_type = value.partition(";")[0].strip().lower()
    charset = _CHARSET.search(value)
    return media_type, charset.group(1) if charset else None


def _join_chunks(data: bytes) -> bytes:
    """The chunks of a chunked body up to the first bad length; the body itself where the very first is
    bad."""
    parts: list[bytes] = []
    at = 0
    while (end := data.find(b"\n", at, at + 64)) >= 0:
        try:
            size = int(data[at:end].partition(b";")[0], 16)
        except ValueError:
            break
        if size <= 0:
            return b"".join(parts)
        parts.append(data[end + 1 : end + 1 + size])
        at = end + 1 + size + (2 if data.startswith(b"\r\n", end + 1 + size) else 1)
    return b"".join(parts) if parts else data


def _decode(data: bytes, coding: str, limit: int) -> bytes:
    """Undo one content coding, at most `limit` + 1 bytes of it: a bomb is cut, not unpacked."""
    try:
        if coding in ("gzip", "x-gzip"):
            return zlib.decompressobj(31).decompress(data, limit + 1)
        if coding == "deflate":
            raw = data[:1] and (data[0] & 15) != 8  # many servers send the bare stream without zlib's header
            return zlib.decompressobj(-15 if raw else 15).decompress(data, limit + 1)
        if coding == "br":
            return _unbrotli(data, limit + 1)
        if coding == "zstd":
            return bytes(zstandard.ZstdDecompressor().stream_reader(data).read(limit + 1))
    except (zlib.error, brotli.error, zstandard.ZstdError):
        pass
    return data


def _unbrotli(data: bytes, most: int) -> bytes:
    decoder = brotli.Decompressor()
    out: bytes = decoder.process(data, output_buffer_limit=most)
    while len(out) < most and not decoder.is_finished() and not decoder.can_accept_more_data():
        out += decoder.process(b"", output_buffer_limit=most - len(out))
    return out[:most]
