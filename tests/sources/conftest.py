"""What the reader tests share: reading a whole source, and the bytes of WARC records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from marco_data.sources import READ_SCHEMA, Source, list_files, read_slice, split

Read = Callable[..., pa.Table]
Record = Callable[..., bytes]


@pytest.fixture
def read() -> Read:
    """Read all of a path: list, split, read; the options of `Source` and `read_slice` go where they belong."""

    def whole(path: str | Path, *, shard_bytes: int = 1 << 28, limits: dict[str, int] | None = None, **source: Any):
        recipe = Source(paths=(str(path),), **source)
        batches = [
            batch
            for piece in split(list_files("src", recipe), shard_bytes)
            for batch in read_slice(piece, "src", recipe, **(limits or {}))
        ]
        return pa.Table.from_batches(batches, READ_SCHEMA)

    return whole


@pytest.fixture
def record() -> Record:
    """The bytes of one WARC record; a response where `http` headers are given."""

    def make(
        body: bytes,
        *,
        kind: str = "response",
        http: str | None = "200 OK",
        headers: str = "",
        number: int = 1,
    ) -> bytes:
        if http is not None:
            body = f"HTTP/1.1 {http}\r\n{headers}\r\n".encode() + body
        head = (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
            f"WARC-Target-URI: http://example.org/{number}\r\nContent-Length: {len(body)}\r\n"
        )
        if http is None:
            head += headers
        return head.encode() + b"\r\n" + body + b"\r\n\r\n"

    return make
