"""JSONL: each line is one row, whatever is wrong with it, and big input is never held."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.sources import READ_FAILURES, Source, check_fields, list_files


def line(text: str, **more: object) -> bytes:
    return json.dumps({"text": text, **more}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"text": "a"', "read/invalid_json"),
        (b"[" * 100_000, "read/invalid_json"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "read/invalid_json"),
        (b'["text"]', "read/not_an_object"),
        (b'"text"', "read/not_an_object"),
        (b"", "read/empty_line"),
        (b" \t\r", "read/empty_line"),
        (b'{"text": "\xff"}', "read/invalid_utf8"),
        (b"\x1f\x8b\x08", "read/invalid_utf8"),
        (b"{}", "read/missing_field"),
        (b'{"text": null}', "read/missing_field"),
        (b'{"text": 3}', "read/missing_field"),
        (b'{"text": {"a": "b"}}', "read/missing_field"),
        (b'{"text": "' + b"x" * 2000 + b'"}', "read/document_too_large"),
    ],
)
def test_a_bad_line_is_one_failed_row_between_its_neighbours(read, tmp_path: Path, bad: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("before") + b"\n" + bad + b"\n" + line("after") + b"\n")
    limit = 1000 if reason == "read/document_too_large" else 1 << 20
    rows = read(tmp_path / "a.jsonl", limits={"max_document_bytes": limit}).to_pylist()
    assert [row["text"] for row in rows] == ["before", None, "after"]
    assert [row["failed"] for row in rows] == [None, reason, None]
    assert rows[1]["head"] == bad.removesuffix(b"\r")[:200]
    assert rows[1]["id"] == xxhash.xxh3_128_hexdigest(bad.removesuffix(b"\r"))
    assert reason in READ_FAILURES


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"", []),
        (line("a"), ["a"]),
        (line("a") + b"\n", ["a"]),
        (line("a") + b"\r\n" + line("b") + b"\r\n", ["a", "b"]),
        (b"\xef\xbb\xbf" + line("a") + b"\n" + line("b"), ["a", "b"]),
        (b'{"text": "a\\u0000b"}', ["a\0b"]),
        (b'{"text": "\\ud800!"}', ["\ufffd!"]),
        (b'{"text": "a", "score": NaN, "deep": {"list": [1, {"x": null}]}}', ["a"]),
        (b'{"text": ""}', [""]),
    ],
)
def test_lines_that_are_odd_but_right_are_read(read, tmp_path: Path, data: bytes, texts: list[str]) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    table = read(tmp_path / "a.jsonl")
    assert table.column("text").to_pylist() == texts
    assert table.column("failed").null_count == len(texts)


def test_a_line_ending_does_not_change_an_id(read, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a") + b"\n" + line("b"))
    (tmp_path / "b.jsonl").write_bytes(line("a") + b"\r\n" + line("b") + b"\r\n")
    assert read(tmp_path / "a.jsonl").column("id") == read(tmp_path / "b.jsonl").column("id")


@pytest.mark.parametrize(
    ("key", "source_id"),
    [
        ("k-1", "k-1"),
        (17, "17"),
        (10**30, str(10**30)),
        (1.5, "1.5"),
        (["a", 1], '["a", 1]'),
        (None, None),
        ("", None),
    ],
)
def test_the_id_is_made_of_the_key_where_there_is_one(read, tmp_path: Path, key: object, source_id: str | None) -> None:
    data = line("a", k=key)
    (tmp_path / "a.jsonl").write_bytes(data)
    (row,) = read(tmp_path / "a.jsonl", fields={"id": "k"}).to_pylist()
    of_key = None if source_id is None else f"src\0{source_id}".encode()
    assert row["source_id"] == source_id
    assert row["id"] == xxhash.xxh3_128_hexdigest(data if of_key is None else of_key)


def test_a_row_says_more_than_its_source(read, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        line("a", u="http://x.org", l="de", c="cc0") + b"\n" + line("b") + b"\n" + line("c", l="klingon")
    )
    rows = read(
        tmp_path / "a.jsonl",
        fields={"url": "u", "language": "l", "licence": "c"},
        language="en",
        licence="odc-by",
        url="http://home",
    ).to_pylist()
    assert [row["url"] for row in rows] == ["http://x.org", "http://home", "http://home"]
    assert [row["licence"] for row in rows] == ["cc0", "odc-by", "odc-by"]
    assert [row["declared_language"] for row in rows] == ["deu_Latn", "eng_Latn", None]


def packed(data: bytes, suffix: str) -> bytes:
    return gzip.compress(data) if suffix == "gz" else zstandard.compress(data)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("parts", [1, 3])
def test_compressed_files_and_their_members_read_like_plain_ones(read, tmp_path: Path, suffix: str, parts: int) -> None:
    data = b"".join(line(f"{n} " * 50) + b"\n" for n in range(3000))
    cut = len(data) // parts + 1
    whole = b"".join(packed(data[at : at + cut], suffix) for at in range(0, len(data), cut))
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(whole)
    (tmp_path / "b.jsonl").write_bytes(data)
    assert read(tmp_path / f"a.jsonl.{suffix}") == read(tmp_path / "b.jsonl")


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda d: d[: len(d) // 2], "read/truncated"),
        (lambda d: d[:-3], "read/truncated"),
        (lambda d: b"", "read/truncated"),
        (lambda d: b"not compressed at all\n" * 9, "read/unreadable"),
        (lambda d: d + b"trailing garbage", "read/corrupt"),
    ],
)
def test_a_damaged_file_keeps_its_rows_before_the_break(read, tmp_path: Path, suffix, damage, reason) -> None:
    texts = [xxhash.xxh3_128_hexdigest(b"%d" % n) * 4 for n in range(4000)]
    data = b"".join(line(text) + b"\n" for text in texts)
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(damage(packed(data, suffix)))
    rows = read(tmp_path / f"a.jsonl.{suffix}").to_pylist()
    good = [row["text"] for row in rows if row["failed"] is None]
    assert [row["failed"] for row in rows if row["failed"]] == [reason]
    assert rows[-1]["failed"] == reason
    assert good == texts[: len(good)]
    if reason != "read/unreadable" and (tmp_path / f"a.jsonl.{suffix}").stat().st_size > 100:
        assert len(good) > 1000


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_flipped_bytes_end_the_file_with_one_corrupt_row(read, tmp_path: Path, suffix: str) -> None:
    texts = [xxhash.xxh3_128_hexdigest(b"%d" % n) * 4 for n in range(4000)]
    data = bytearray(packed(b"".join(line(text) + b"\n" for text in texts), suffix))
    data[len(data) // 2 :] = bytes(byte ^ 0x5A for byte in data[len(data) // 2 :])
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(data)
    rows = read(tmp_path / f"a.jsonl.{suffix}").to_pylist()
    assert [row["failed"] for row in rows].count("read/corrupt") == 1
    assert rows[-1]["failed"] == "read/corrupt"
    assert [row["text"] for row in rows[:1500]] == texts[:1500]


def test_a_gzip_error_loses_no_byte_before_it(read, tmp_path: Path) -> None:
    data = b"".join(line(f"line {n}") + b"\n" for n in range(1000))
    whole = bytearray(gzip.compress(data))
    whole[-6] ^= 1  # the checksum: everything before it is there
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    rows = read(tmp_path / "a.jsonl.gz").to_pylist()
    assert [row["failed"] for row in rows] == [None] * 1000 + ["read/corrupt"]


LINES = st.lists(
    st.one_of(
        st.just(b""),
        st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")),
        st.text(max_size=30).map(line),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, newline=st.booleans(), shard_bytes=st.integers(1, 300), limit=st.integers(5, 60))
def test_any_slicing_gives_the_same_rows(read, tmp_path, lines, newline, shard_bytes, limit) -> None:
    data = b"\n".join(lines) + (b"\n" if newline else b"")
    (tmp_path / "a.jsonl").write_bytes(data)
    limits = {"max_document_bytes": limit}
    whole = read(tmp_path / "a.jsonl", limits=limits)
    assert read(tmp_path / "a.jsonl", shard_bytes=shard_bytes, limits=limits) == whole
    assert whole.num_rows == data.count(b"\n") + (data != b"" and not data.endswith(b"\n"))


@pytest.mark.parametrize("limits", [{"batch_rows": 1}, {"batch_rows": 7}, {"batch_bytes": 1}, {"batch_bytes": 999}])
def test_batch_limits_change_no_row(read, tmp_path: Path, limits: dict[str, int]) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(line("x" * n) + b"\n\n" for n in range(100)))
    assert read(tmp_path / "a.jsonl", limits=limits) == read(tmp_path / "a.jsonl")


MEASURE = """
import re, sys
from pathlib import Path
from marco_data.sources import Source, list_files, read_slice, split
source = Source(paths=(sys.argv[1],))
rows = [(r["text"], r["failed"]) for piece in split(list_files("s", source), 64 << 20)
        for batch in read_slice(piece, "s", source) for r in batch.to_pylist()]
assert rows == [("before", None), (None, "read/document_too_large"), ("after", None)], rows
# Not getrusage: its peak survives exec, so it would be that of the tests' own process.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) >> 10)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_line_of_200_mb_is_one_failed_row_in_little_memory(tmp_path: Path, suffix: str) -> None:
    opened = {"": open, ".gz": gzip.open, ".zst": zstandard.open}[suffix]
    path = tmp_path / f"a.jsonl{suffix}"
    with opened(path, "wb") as out:
        out.write(line("before") + b'\n{"text": "')
        for _ in range(200):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n' + line("after") + b"\n")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400  # with numba, that the kernel is loaded with; a line that is held is 200 more


@pytest.mark.parametrize("fields", [{"text": "content"}, {"id": "key"}])
def test_a_wrong_field_is_told_with_the_fields_there_are(tmp_path: Path, fields: dict[str, str]) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a", url="u") + b"\n" + line("b", n=1))
    source = Source(paths=(str(tmp_path),), fields=fields)
    ((role, column),) = fields.items()
    with pytest.raises(RecipeError, match=rf"has no field `{column}`; it has: `text`, `url`, `n`") as raised:
        check_fields(list_files("src", source)[0], source)
    assert f"--field {role}=NAME" in str(raised.value)


def test_a_field_that_holds_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": ["a"]}\n')
    source = Source(paths=(str(tmp_path),))
    with pytest.raises(RecipeError, match="holds no text in field `text`"):
        check_fields(list_files("src", source)[0], source)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"broken\n", line("a")])
def test_a_field_check_says_nothing_of_files_it_cannot_judge(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    source = Source(paths=(str(tmp_path),))
    check_fields(list_files("src", source)[0], source)
