"""What storage does wrong is never said of a file: it is tried again."""

import gzip
import io
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fsspec.implementations.memory import MemoryFileSystem

from marco_data.errors import RetryableError
from marco_data.sources import Source, list_files, read_slice, split

LINES = b"".join(b'{"text": "line %d"}\n' % n for n in range(5000))


class Faulty(io.BytesIO):
    """A file that ends early without a word, or whose connection breaks, after `good` bytes of each read."""

    def __init__(self, data: bytes, *, good: int, breaks: bool) -> None:
        super().__init__(data if breaks else data[:good])
        self._good = good if breaks else None

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self._good is not None and self.tell() > self._good:
            raise TimeoutError("connection lost")
        return data


class FaultyFileSystem(MemoryFileSystem):
    """An in-memory store; while `good` is set, files it opens are Faulty."""

    protocol = "faulty"
    store: dict[str, Any] = {}  # noqa: RUF012  as in its parent
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    good: int | None = None
    breaks = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("faulty:"))

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super().open(path, mode, **options)
        if mode != "rb" or self.good is None:
            return file
        with file:
            return Faulty(file.read(), good=self.good, breaks=self.breaks)


@pytest.fixture
def faulty() -> Iterator[FaultyFileSystem]:
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    filesystem = fsspec.filesystem("faulty")
    yield filesystem
    filesystem.good = None


def parquet_bytes() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(5000)]}), out, row_group_size=500)
    return out.getvalue()


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl.gz", gzip.compress(LINES)),
        ("a.jsonl.zst", zstandard.compress(LINES)),
        ("a.parquet", parquet_bytes()),
        ("a.warc.gz", gzip.compress(b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: 9999\r\n\r\n" + bytes(9999))),
        ("a.txt", LINES),
    ],
)
def test_a_failing_read_is_retryable_and_no_verdict_on_the_file(faulty, name: str, data: bytes, breaks: bool) -> None:
    faulty.pipe(f"/{name}", data)
    source = Source(paths=(f"faulty://{name}",))
    pieces = split(list_files("src", source), 1 << 20)
    faulty.good, faulty.breaks = len(data) // 2, breaks
    with pytest.raises(RetryableError, match="cannot read `faulty://"):
        [list(read_slice(piece, "src", source)) for piece in pieces]
