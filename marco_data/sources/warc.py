"""WARC and WET: one row a `response` or `resource` record (WET: `conversion`), HTML reduced to its main text.

In: a slice of one .warc or .wet file, gzip or plain. Out: one `Row` a record; other record types are not
counted. A page without usable text is not a failure but a verdict of the reader (`reason`).

The record format is parsed here, in http.py what is inside a response. warcio 1.8 and fastwarc 2.0 both end
silently where a file is cut short, and the first reads header lines and brotli bodies without a bound; their
speed (4,000 and 10,000 records/s) does not matter beside the extraction's 50. warcio is the oracle in the
tests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marco_data.child import ChildDied, in_child, watched
from marco_data.errors import MarcoError
from marco_data.sources import html, http
from marco_data.sources.rows import Row, break_id, content_id, failure, keyed_id, picked, utf8
from marco_data.sources.source import Slice, Source, SourceFile
from marco_data.sources.stream import HEAD_BYTES, Broken, RawFile, chunks

PACKAGES = (*html.PACKAGES, *http.PACKAGES)

_COUNTED = {"warc": ("response", "resource"), "wet": ("conversion",)}
_VERSION = re.compile(rb"WARC/\d\.\d+\s*")
_HEADER_BYTES = 256 << 10
_LENGTH = re.compile("[0-9]{1,18}")  # int() raises on thousands of digits
_HTML_TYPES = ("text/html", "application/xhtml+xml")


def rows(
    piece: Slice,
    source_name: str,
    source: Source,
    limit: int,
    storage_options: Mapping[str, Any],
    picks: Sequence[int] | None = None,
    *,
    isolated: bool = False,
) -> Iterator[Row]:
    """Yield a row for each counted record; `limit` bounds a body, in bytes before and after HTTP decoding.

    `isolated`: pages are reduced to their text in child processes, because one of them may have killed a worker.
    """
    (file,) = piece.files
    with RawFile(file, storage_options) as raw:
        for position, rec in picked(enumerate(counted(raw, limit + http.HEADER_BYTES)), picks):
            if isinstance(rec, Broken):
                yield failure(file, break_id(file, position), position, rec.reason)
            else:
                yield _row(rec, file, source_name, source, position, limit, isolated)
        raw.check_unchanged()


def counted(raw: RawFile, most: int) -> Iterator["_Record | Broken"]:
    """The records that are rows, with at most `most` bytes of each block, and what ended the file early."""
    try:
        for rec in _records(_Unpacked(raw), most):
            if rec.headers.get("warc-type", "").lower() in _COUNTED[raw.file.format]:
                yield rec
    except Broken as broken:
        yield broken


@dataclass(slots=True)
class _Record:
    headers: dict[str, str]  # names in lower case
    block: bytes  # what follows the headers, cut after the most bytes that are wanted
    cut: bool


class _Unpacked:
    """The decompressed file, to be taken by lines and lengths. Raises Broken at its early end."""

    def __init__(self, raw: RawFile) -> None:
        self._raw = raw
        self._pieces = chunks(raw)
        self._held = b""
        self._at = 0

    def _fill(self) -> bool:
        """Whether anything is left to take; fetches the next piece where nothing is held."""
        if self._at < len(self._held):
            return True
        self._held, self._at = next(self._pieces, b""), 0
        return bool(self._held)

    def line(self, limit: int) -> bytes:
        """The next line with its newline; b"" at the end of the file. Broken where it is longer than
        `limit`."""
        parts: list[bytes] = []
        size = 0
        while self._fill():
            end = self._held.find(b"\n", self._at) + 1 or len(self._held)
            parts.append(self._held[self._at : end])
            size += end - self._at
            self._at = end
            if size > limit:
                raise Broken("read/corrupt")
            if parts[-1].endswith(b"\n"):
                break
        return b"".join(parts)

    def take(self, size: int, most: int) -> bytes:
        """The first `most` of the next `size` bytes; the others are passed over."""
        parts: list[bytes] = []
        left, wanted = size, min(size, most)
        while left:
            if not self._fill():
                raise self._raw.ended()
            end = min(len(self._held), self._at + left)
            if wanted:
                parts.append(self._held[self._at : min(end, self._at + wanted)])
                wanted -= len(parts[-1])
            left -= end - self._at
            self._at = end
        return b"".join(parts)

    def ended(self) -> Broken:
        return self._raw.ended()


def _records(stream: _Unpacked, most: int) -> Iterator[_Record]:
    """Each record with at most `most` bytes of its block; raises Broken where the file cannot be parsed
    on."""
    seen = False
    while line := stream.line(_HEADER_BYTES):
        if not line.strip():
            continue
        if not _VERSION.fullmatch(line):
            raise Broken("read/corrupt" if seen else "read/unreadable")
        headers = _headers(stream)
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length):
            raise Broken("read/corrupt")
        seen = True
        block = stream.take(int(length), most)
        yield _Record(headers, block, cut=len(block) < int(length))


def _headers(stream: _Unpacked) -> dict[str, str]:
    lines: list[bytes] = []
    left = _HEADER_BYTES
    while (line := stream.line(left)).strip():
        left -= len(line)
        lines.append(line)
    if not line:
        raise stream.ended()
    return http.parse_headers(lines, "utf-8")


def _row(
    rec: _Record, file: SourceFile, source_name: str, source: Source, position: int, limit: int, isolated: bool
) -> Row:
    key = rec.headers.get("warc-record-id")
    url = rec.headers.get("warc-target-uri", "").strip("<>") or source.url
    row = Row(
        content_id(rec.block) if key is None else keyed_id(source_name, utf8(key)),
        position,
        source_id=None if key is None else utf8(key),
        url=None if url is None else utf8(url),
        licence=None if source.licence is None else source.licence.encode(),
        declared_language=file.declared_language,
    )
    if file.format == "wet":
        body = http.Body(rec.block, None, "text/plain", "utf-8")
    else:
        body = http.body(rec.block, rec.headers.get("content-type", ""), limit)
    if body.header_too_large:
        row.failed, row.head = "read/header_too_large", body.data[:HEAD_BYTES]
    elif rec.cut or len(body.data) > limit:
        row.failed, row.head = "read/document_too_large", body.data[:HEAD_BYTES]
    else:
        _judge(row, body, isolated)
    return row


def _judge(row: Row, body: http.Body, isolated: bool) -> None:
    """Set the row's text, or why there is none."""
    if body.status is not None and body.status >= 400:
        row.reason, row.measured = "read/http_error", float(body.status)
        return
    if body.media_type in _HTML_TYPES or (not body.media_type and html.looks_like_html(body.data)):
        try:
            if isolated:
                text = in_child(lambda: html.extract(body.data, body.charset))
            else:
                with watched():
                    text = html.extract(body.data, body.charset)
        except MarcoError:  # memory ran out, which is no page's fault
            raise
        except ChildDied:
            row.failed, row.head = "read/worker_died", body.data[:HEAD_BYTES]
            return
        except Exception:  # what a parser can raise on a hostile page is not a closed list
            row.failed, row.head = "read/html_extraction_failed", body.data[:HEAD_BYTES]
            return
    elif body.media_type == "text/plain":
        text = html.decode(body.data, body.charset)
    else:
        row.reason = "read/not_html"
        return
    if text.strip():
        row.text = utf8(text)
    else:
        row.reason, row.measured = "read/no_text", float(len(body.data))
