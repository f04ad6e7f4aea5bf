"""Text folders: one file, one row, and slices that one more file hardly changes."""

import gzip
from pathlib import Path

import pytest
import xxhash

from marco_data.sources import Source, list_files, split


@pytest.mark.parametrize(
    ("data", "text", "failed"),
    [
        (b"two\nlines\n", "two\nlines\n", None),
        (b"", "", None),
        (b"\xef\xbb\xbfwith a mark", "with a mark", None),
        (b"nul \0 inside", "nul \0 inside", None),
        (b"latin \xe9", None, "read/invalid_utf8"),
        (b"x" * 1001, None, "read/document_too_large"),
    ],
)
def test_a_file_is_a_row(read, tmp_path: Path, data: bytes, text: str | None, failed: str | None) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_bytes(data)
    (row,) = read(tmp_path, limits={"max_document_bytes": 1000}).to_pylist()
    assert (row["text"], row["failed"]) == (text, failed)
    assert row["source_id"] == "deep/a.txt"
    assert row["id"] == xxhash.xxh3_128_hexdigest(data)


def test_a_compressed_file_has_the_id_of_its_text(read, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"hello"))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"hello")[:-5])
    table = read(tmp_path)
    assert table.column("text").to_pylist() == ["hello", "hello", None]
    assert table.column("failed").to_pylist() == [None, None, "read/truncated"]
    assert table.column("id")[0] == table.column("id")[1]


@pytest.mark.parametrize("shard_bytes", [30, 500, 1 << 20])
def test_one_more_file_touches_one_slice(tmp_path: Path, shard_bytes: int) -> None:
    for n in range(600):
        (tmp_path / f"{n:04}.txt").write_text(f"text {n}")
    source = Source(paths=(str(tmp_path),))
    before = [str(piece.identity()) for piece in split(list_files("src", source), shard_bytes)]
    (tmp_path / "0300b.txt").write_text("one more")
    files = list_files("src", source)
    after = split(files, shard_bytes)
    assert len(set(before) - {str(piece.identity()) for piece in after}) <= 1
    assert [file for piece in after for file in piece.files] == files
    assert all(piece.bytes <= shard_bytes for piece in after)
