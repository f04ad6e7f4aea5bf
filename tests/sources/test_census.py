"""Counting rows without parsing them, and reading picked ones: neither changes what a whole reading finds."""

import gzip
import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from marco_data.sources import Slice, Source, list_files, read_slice, split
from marco_data.sources.census import take_census

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "runs", "on"]


def lines(number: int) -> bytes:
    noise = (hashlib.sha256(str(n).encode()).hexdigest() for n in range(number))  # or nothing is left when packed
    rows = ({"text": f"{' '.join(WORDS[n % 11 :] * (1 + n % 7))} {word}"} for n, word in enumerate(noise))
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def warc(number: int) -> bytes:
    out = io.BytesIO()
    for n in range(number):
        body = f"<html><body><p>{' '.join(WORDS)} {n}.</p></body></html>".encode()
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
        kind = "request" if n % 5 == 4 else "response"
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Type: application/http; msgtype={kind}\r\n"
        head += f"WARC-Record-ID: <urn:uuid:{n}>\r\nContent-Length: {len(block)}\r\n\r\n"
        out.write(gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0))
    return out.getvalue()


def parquet(number: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [f"{' '.join(WORDS)} {n}" for n in range(number)]}), sink, row_group_size=10)
    return sink.getvalue()


FILES = {
    "a.jsonl": lines(60),
    "a.jsonl.gz": gzip.compress(lines(60), mtime=0),
    "a.jsonl.zst": zstandard.compress(lines(60)),
    "cut.jsonl.gz": gzip.compress(lines(60), mtime=0)[:-40],
    "a.warc.gz": warc(40),
    "a.parquet": parquet(45),
    "a.txt": b"one document",
}


def slices(path: Path, shard_bytes: int = 1 << 30) -> tuple[Source, list[Slice]]:
    source = Source(paths=(str(path),))
    return source, split(list_files("s", source), shard_bytes)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_less_than_a_mebibyte_is_counted_exactly(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(FILES[name])
    source, pieces = slices(tmp_path / name, 700 if name == "a.jsonl" else 1 << 30)
    for piece in pieces:
        census = take_census(piece)
        assert census.share == 1
        assert census.rows == sum(batch.num_rows for batch in read_slice(piece, "s", source))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.warc.gz", "a.parquet", "a.txt"])
def test_picked_rows_are_those_rows_of_the_whole(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(FILES[name])
    source, (piece,) = slices(tmp_path / name)
    whole = pa.Table.from_batches(read_slice(piece, "s", source))
    picks = sorted({0, whole.num_rows // 3, whole.num_rows - 1})
    assert pa.Table.from_batches(read_slice(piece, "s", source, picks=picks)).equals(whole.take(picks))


@pytest.mark.parametrize("name", ["big.jsonl", "big.jsonl.gz", "big.warc.gz"])
def test_a_larger_file_is_estimated_from_its_first_mebibyte(tmp_path: Path, name: str):
    data = warc(20_000) if "warc" in name else lines(60_000)
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if name == "big.jsonl.gz" else data)
    _, (piece,) = slices(tmp_path / name)
    census = take_census(piece)
    real = 16_000 if "warc" in name else 60_000
    assert census.share < 1
    assert census.rows < real
    assert census.estimate == pytest.approx(real, rel=0.05)
