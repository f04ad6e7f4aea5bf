"""Parquet: every row of every row group is a row, or its group's break is."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marco_data.errors import RecipeError
from marco_data.sources import Source, check_fields, list_files, split

TEXTS = [f"text {n} " + "abc " * (n % 50) for n in range(1000)]


def write(path: Path, columns: dict[str, object] | pa.Table, **options: object) -> Path:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, **{"row_group_size": 100, "compression": "zstd", **options})
    return path


@pytest.mark.parametrize("shard_bytes", [1, 5000, 1 << 30])
def test_any_slicing_gives_the_same_rows(read, tmp_path: Path, shard_bytes: int) -> None:
    path = write(tmp_path / "a.parquet", {"text": TEXTS, "n": range(1000), "unused": TEXTS})
    table = read(path, shard_bytes=shard_bytes, fields={"id": "n"})
    assert table.column("text").to_pylist() == TEXTS
    assert table.column("source_id").to_pylist() == [str(n) for n in range(1000)]
    assert table.column("position").to_pylist() == list(range(1000))
    assert table == read(path, limits={"batch_rows": 17}, fields={"id": "n"})


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_ids_do_not_depend_on_the_column_type(read, tmp_path: Path, kind: pa.DataType) -> None:
    plain = read(write(tmp_path / "a.parquet", {"text": ["a", "ä", "b\0"]}))
    other = read(write(tmp_path / "b.parquet", {"z": [1, 2, 3], "text": pa.array(["a", "ä", "b\0"]).cast(kind)}))
    assert other.column("text").to_pylist() == ["a", "ä", "b\0"]
    assert other == plain


def test_each_bad_value_is_one_failed_row(read, tmp_path: Path) -> None:
    texts = pa.array([b"good", None, b"\xff\xfe", b"x" * 101, b""], pa.binary())
    rows = read(write(tmp_path / "a.parquet", {"text": texts}), limits={"max_document_bytes": 100}).to_pylist()
    assert [row["failed"] for row in rows] == [
        None,
        "read/missing_field",
        "read/invalid_utf8",
        "read/document_too_large",
        None,
    ]
    assert rows[2]["head"] == b"\xff\xfe"


def test_strings_that_are_not_utf8_fail_alone(read, tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"ok"]).buffers())
    assert read(write(tmp_path / "a.parquet", {"text": texts})).column("text").to_pylist() == [None, "ok"]


def test_a_file_without_the_column_fails_row_by_row(read, tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.parquet", {"body": ["a", "b"]}))
    assert table.column("failed").to_pylist() == ["read/missing_field"] * 2


@pytest.mark.parametrize("fields", [{"text": "content"}, {"text": "n"}, {"url": "link"}])
def test_a_wrong_field_is_told_with_the_fields_there_are(tmp_path: Path, fields: dict[str, str]) -> None:
    write(tmp_path / "a.parquet", {"text": ["a"], "n": [1]})
    source = Source(paths=(str(tmp_path),), fields=fields)
    with pytest.raises(RecipeError, match="it has: `text`, `n`"):
        check_fields(list_files("src", source)[0], source)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: d[: len(d) // 2], "read/truncated"),
        (lambda d: d[:-1], "read/truncated"),
        (lambda d: b"", "read/truncated"),
        (lambda d: b"not parquet", "read/unreadable"),
        (lambda d: d[:-8] + b"\xff\xff\xff\x7fPAR1", "read/unreadable"),
    ],
)
def test_a_file_without_footer_is_one_failed_row(read, tmp_path: Path, damage, reason: str) -> None:
    path = write(tmp_path / "a.parquet", {"text": TEXTS})
    path.write_bytes(damage(path.read_bytes()))
    source = Source(paths=(str(path),))
    check_fields(list_files("src", source)[0], source)
    assert read(path).column("failed").to_pylist() == [reason]


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
@pytest.mark.parametrize("part", ["header", "data"])  # of a page; damaged data may be told by its checksum only
def test_a_broken_row_group_is_one_failed_row_and_the_others_are_read(
    read, tmp_path: Path, part: str, shard_bytes: int
) -> None:
    path = write(tmp_path / "a.parquet", {"text": TEXTS}, use_dictionary=False, write_page_checksum=True)
    column = pq.ParquetFile(path).metadata.row_group(3).column(0)
    start = column.data_page_offset + (0 if part == "header" else column.total_compressed_size - 30)
    data = bytearray(path.read_bytes())
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    rows = read(path, shard_bytes=shard_bytes).to_pylist()
    assert [row["failed"] for row in rows if row["failed"]] == ["read/corrupt"]
    assert [row["text"] for row in rows if not row["failed"]] == TEXTS[:300] + TEXTS[400:]
    assert rows[300]["position"] == 300


def test_slices_are_runs_of_row_groups_and_footers_are_cached(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": TEXTS})
    files = list_files("src", Source(paths=(str(path),)))
    cache: dict[str, object] = {}
    slices = split(files, 50_000, cache=cache)
    assert [piece.start for piece in slices[1:]] == [piece.end for piece in slices[:-1]]
    assert (slices[0].start, slices[-1].end) == (0, 10)
    assert 1 < len(slices) < 10
    path.unlink()
    assert split(files, 50_000, cache=cache) == slices


def test_an_empty_table_has_no_rows(read, tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.parquet", {"text": pa.array([], pa.string())})).num_rows == 0
