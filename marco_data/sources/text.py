"""Text folders: one document a file, `.txt` or `.txt.gz`.

In: a slice of many small files. Out: one `Row` a file, with the file's name as `source_id` and an id made of
its bytes, so that a renamed or compressed file stays the same document.
"""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import xxhash

from marco_data.sources.rows import Row, picked, utf8
from marco_data.sources.source import Slice, Source
from marco_data.sources.stream import HEAD_BYTES, Broken, RawFile, chunks


def rows(
    piece: Slice,
    source_name: str,
    source: Source,
    limit: int,
    storage_options: Mapping[str, Any],
    picks: Sequence[int] | None = None,
) -> Iterator[Row]:
    """Yield a row for each file of the slice; `limit` bounds a file, in decompressed bytes."""
    for position, file in picked(enumerate(piece.files), picks):
        with RawFile(file, storage_options) as raw:
            row = _row(raw, position, limit)
            raw.check_unchanged()
        row.source_id = utf8(file.name)
        row.url = None if source.url is None else source.url.encode()
        row.licence = None if source.licence is None else source.licence.encode()
        row.declared_language = file.declared_language
        yield row


def _row(raw: RawFile, position: int, limit: int) -> Row:
    held, size, digest, failed = [], 0, xxhash.xxh3_128(), None
    try:
        for piece in chunks(raw):
            digest.update(piece)
            if size <= limit:
                held.append(piece)
            size += len(piece)
    except Broken as broken:
        failed = broken.reason
    data = b"".join(held)
    if failed is None and size > limit:
        failed = "read/document_too_large"
    if failed is None and not _is_utf8(data):
        failed = "read/invalid_utf8"
    row = Row(digest.hexdigest(), position, failed=failed)
    if failed is None:
        row.text = data.removeprefix(codecs.BOM_UTF8)
    else:
        row.head = data[:HEAD_BYTES]
    return row


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
