"""Files of strangers: a bomb, an endless header, a number of many digits or a pickle costs its own row, no more."""

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from marco_data.dataset import safe_name
from marco_data.generation.ledger import model_folder
from marco_data.sources import READ_FAILURES, Source, http, list_files, read_slice, split, stream

GOOD = b'{"text": "a whole row"}\n'
LIMIT = 100_000
MIB = 1 << 20


def read(path: Path, **source: Any) -> list[dict[str, Any]]:
    recipe = Source(paths=(str(path),), **source)
    pieces = split(list_files("src", recipe), 1 << 28)
    batches = [b for piece in pieces for b in read_slice(piece, "src", recipe, max_document_bytes=LIMIT)]
    return [row for batch in batches for row in batch.to_pylist()]


def response(head: bytes, body: bytes = b"plain words") -> bytes:
    block = head + b"\r\n\r\n" + body
    return b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % len(block) + block + b"\r\n\r\n"


@pytest.fixture
def small_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a bomb of a test need not be as large as one that does harm."""
    monkeypatch.setattr(stream, "EXPANDS_FREELY", MIB)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_a_bomb_ends_at_the_limit_and_keeps_the_rows_before_it(tmp_path: Path, small_allowance, pack):
    name = "bomb.jsonl.gz" if pack is gzip.compress else "bomb.jsonl.zst"
    (tmp_path / name).write_bytes(pack(GOOD) + pack(bytes(48 * MIB)))
    rows = read(tmp_path)
    assert [row["failed"] for row in rows] == [None, "read/expands_too_much"]
    assert rows[0]["text"] == "a whole row"


def test_no_more_of_a_bomb_is_unpacked_than_is_allowed(tmp_path: Path, small_allowance):
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(bytes(48 * MIB)))
    (file,) = list_files("src", Source(paths=(str(tmp_path),)))
    pieces: list[int] = []
    with stream.RawFile(file, {}) as raw, pytest.raises(stream.Broken, match="read/expands_too_much"):
        pieces.extend(len(piece) for piece in stream.chunks(raw))
    assert sum(pieces) <= stream.EXPANDS_AT_MOST * file.size < 48 * MIB


def test_ordinary_text_is_nowhere_near_the_limit(tmp_path: Path, small_allowance):
    lines = b"".join(b'{"text": "line %d of a log that says the same again and again"}\n' % n for n in range(60_000))
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(lines))
    assert len(lines) > 3 * MIB
    assert {row["failed"] for row in read(tmp_path)} == {None}


HOSTILE_RECORDS = {
    "oversize header": (response(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 12_000), "read/header_too_large"),
    "header without end": (response(b"HTTP/1.1 200 OK\r\n" + b"x" * 80_000), "read/header_too_large"),
    "status of many digits": (response(b"HTTP/1.1 " + b"2" * 6_000 + b" OK\r\nContent-Type: text/plain"), None),
    "codings without number": (
        response(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: " + b"gzip," * 9_000),
        None,
    ),
}


@pytest.mark.parametrize("name", HOSTILE_RECORDS)
def test_a_hostile_record_fails_alone_or_is_read_as_it_is(tmp_path: Path, name: str):
    hostile, failed = HOSTILE_RECORDS[name]
    good = response(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain")
    (tmp_path / "a.warc").write_bytes(hostile + good)
    rows = read(tmp_path)
    assert [row["failed"] for row in rows] == [failed, None]
    assert {row["text"] for row in rows} <= {None, "plain words"}
    assert failed in READ_FAILURES | {None}


def test_a_length_of_many_digits_is_a_corrupt_file_and_no_crash(tmp_path: Path):
    good = response(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain")
    bad = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: " + b"9" * 6_000 + b"\r\n\r\n"
    (tmp_path / "a.warc").write_bytes(good + bad)
    assert [row["failed"] for row in read(tmp_path)] == [None, "read/corrupt"]


def test_a_body_is_unpacked_for_a_few_codings_only():
    packed = b"words"
    for _ in range(http.CODINGS + 1):
        packed = zlib.compress(packed)
    names = b", ".join([b"deflate"] * (http.CODINGS + 1))
    block = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + names + b"\r\n\r\n" + packed
    assert zlib.decompress(http.body(block, "", LIMIT).data) == b"words"


def test_a_header_of_many_lines_costs_as_much_as_its_bytes():
    lines = [b"a: 0\r\n", *[b" 1\r\n"] * 50_000]
    assert http.parse_headers(lines, "utf-8") == {"a": "0" + " 1" * 50_000}


@pytest.mark.parametrize(
    "value", [b"9" * 6_000, b"-" + b"9" * 6_000, b"[" * 60_000 + b"]" * 60_000], ids=["digits", "negative", "brackets"]
)
def test_a_hostile_number_or_nesting_is_a_row_that_failed(tmp_path: Path, value: bytes):
    (tmp_path / "a.jsonl").write_bytes(b'{"id": %s, "text": "x"}\n' % value + GOOD)
    rows = read(tmp_path, fields={"id": "id"}, optional=("id",))
    assert [row["failed"] for row in rows] in (["read/invalid_json", None], ["read/document_too_large", None])


class Touches:
    """What a pickle of it would do where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_the_schema_of_a_parquet_file_is_not_loaded(tmp_path: Path):
    trap = tmp_path / "loaded"
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Touches(trap)),
    }
    schema = pa.schema([pa.field("text", pa.string(), metadata=metadata)])
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["words"]}, schema=schema), tmp_path / "in" / "a.parquet")
    (row,) = read(tmp_path / "in")
    assert row["text"] == "words"
    assert not trap.exists()
    pickle.loads(pickle.dumps(Touches(trap)))  # the trap does spring
    assert trap.exists()


@given(st.text(max_size=200) | st.sampled_from(["..", "../../etc/passwd", "/etc/passwd", "a/../../b", "\0", "..\\.."]))
def test_a_name_from_outside_is_one_component_of_a_path(name: str):
    made = safe_name(name)
    assert 0 < len(made) <= 80
    assert not set(made) & set("/\\.\0 ")
    folder = model_folder(name, "1")
    assert folder.count("/") == 1
    assert ".." not in folder.partition("/")[2].split(".")[0]


def test_a_text_that_a_dictionary_repeats_ends_at_the_limit_and_the_next_row_group_is_read(
    tmp_path: Path, small_allowance
):
    bomb, good = "x" * (LIMIT - 1), "a whole row"
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema, compression="zstd") as writer:
        for text, times in ((bomb, 5_000), (good, 3)):
            writer.write_table(pa.table({"text": [text] * times}, schema=schema))
    assert (tmp_path / "a.parquet").stat().st_size < MIB / stream.EXPANDS_AT_MOST * 10
    rows = read(tmp_path)
    ended = [row["failed"] for row in rows].index("read/expands_too_much")
    assert ended * LIMIT <= MIB + stream.EXPANDS_AT_MOST * (tmp_path / "a.parquet").stat().st_size
    assert [row["text"] for row in rows[ended:]] == [None, good, good, good]
    assert {row["failed"] for row in rows[:ended]} == {None}
