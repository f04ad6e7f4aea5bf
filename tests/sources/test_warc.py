"""WARC and WET: as many rows as an outside reader counts, and for each page its text or why there is none."""

import gzip
import io
import os
import time
import zlib
from pathlib import Path

import brotli
import pytest
import xxhash
import zstandard
from warcio.archiveiterator import ArchiveIterator

from marco_data.child import STUCK
from marco_data.sources import READ_REASONS, html, packages_of
from marco_data.sources.html import decode, extract

SENTENCE = "The committee met on Tuesday morning and agreed to publish the minutes before the end of the month. "
PAGE = (
    "<html><head><title>Minutes</title></head><body><nav><a href='/'>Home</a></nav><article><h1>Minutes</h1>"
    + "".join(f"<p>{n}. {SENTENCE * 3}</p>" for n in range(5))
    + "</article><footer>Cookies</footer></body></html>"
).encode()
HTML = "Content-Type: text/html; charset=utf-8\r\n"


def chunked(data: bytes) -> bytes:
    pieces = [data[at : at + 700] for at in range(0, len(data), 700)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (PAGE, ""),
        (chunked(PAGE), "Transfer-Encoding: chunked\r\n"),
        (PAGE, "Transfer-Encoding: chunked\r\n"),
        (gzip.compress(PAGE), "Content-Encoding: gzip\r\n"),
        (PAGE, "Content-Encoding: gzip\r\n"),
        (chunked(gzip.compress(PAGE)), "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        (zlib.compress(PAGE), "content-encoding: deflate\r\n"),
        (deflated(PAGE), "Content-Encoding: deflate\r\n"),
        (brotli.compress(PAGE), "Content-Encoding: br\r\n"),
        (zstandard.compress(PAGE), "Content-Encoding: zstd\r\n"),
    ],
)
def test_a_page_is_its_main_text_however_it_was_sent(read, record, tmp_path: Path, body: bytes, headers: str) -> None:
    (tmp_path / "a.warc").write_bytes(record(body, headers=HTML + headers))
    (row,) = read(tmp_path, licence="cc0").to_pylist()
    assert row["failed"] is None
    assert row["text"].count(SENTENCE.strip()) == 15
    assert "Home" not in row["text"]
    assert (row["url"], row["source_id"], row["licence"]) == ("http://example.org/1", "<urn:uuid:1>", "cc0")
    assert row["id"] == xxhash.xxh3_128_hexdigest(b"src\0<urn:uuid:1>")


@pytest.mark.parametrize(
    ("body", "http", "headers", "reason", "measured"),
    [
        (PAGE, "404 Not Found", HTML, "read/http_error", 404.0),
        (PAGE, "503", HTML, "read/http_error", 503.0),
        (b"%PDF-1.7", "200 OK", "Content-Type: application/pdf\r\n", "read/not_html", None),
        (b"\x89PNG", "200 OK", "", "read/not_html", None),
        (b"<html><body></body></html>", "200 OK", HTML, "read/no_text", 26.0),
        (b"", "200 OK", HTML, "read/no_text", 0.0),
        (b"  \n", "200 OK", "Content-Type: text/plain\r\n", "read/no_text", 3.0),
    ],
)
def test_a_page_without_text_has_a_reason(read, record, tmp_path: Path, body, http, headers, reason, measured) -> None:
    (tmp_path / "a.warc").write_bytes(record(body, http=http, headers=headers))
    (row,) = read(tmp_path).to_pylist()
    assert (row["text"], row["failed"], row["reason"], row["measured"]) == (
        None,
        None,
        reason,
        measured,
    )
    assert reason in READ_REASONS


def test_plain_text_and_resources_are_read_and_other_records_are_not_counted(read, record, tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(
        b"".join(
            gzip.compress(part)
            for part in (
                record(b"software: x", kind="warcinfo", http=None),
                record(b"GET / HTTP/1.1\r\n\r\n", kind="request", http=None),
                record(b"plain words", headers="Content-Type: text/plain\r\n", number=1),
                record(PAGE, kind="resource", http=None, headers="Content-Type: text/html\r\n", number=2),
                record(b"a: b", kind="metadata", http=None),
                record(b"", kind="revisit", number=3),
                record(PAGE, headers="", number=4),
            )
        )
    )
    rows = read(tmp_path).to_pylist()
    assert [row["source_id"] for row in rows] == [f"<urn:uuid:{n}>" for n in (1, 2, 4)]
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert rows[0]["text"] == "plain words"
    assert rows[1]["text"] == rows[2]["text"]


def test_wet_files_give_their_conversions(read, record, tmp_path: Path) -> None:
    text = "Zeile eins\nZeile zwei äöü\n"
    parts = [
        record(b"info", kind="warcinfo", http=None),
        record(text.encode(), kind="conversion", http=None, headers="Content-Type: text/plain\r\n", number=7),
    ]
    (tmp_path / "a.warc.wet.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    (row,) = read(tmp_path).to_pylist()
    assert (row["text"], row["source_id"]) == (text, "<urn:uuid:7>")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * 300_000, ""),
        (gzip.compress(bytes(50 << 20)), "Content-Encoding: gzip\r\n"),
        (brotli.compress(bytes(50 << 20), quality=5), "Content-Encoding: br\r\n"),
        (zstandard.compress(bytes(50 << 20)), "Content-Encoding: zstd\r\n"),
    ],
)
def test_a_large_or_exploding_body_fails_alone(read, record, tmp_path: Path, body: bytes, headers: str) -> None:
    (tmp_path / "a.warc").write_bytes(
        record(body, headers=HTML + headers, number=1) + record(PAGE, headers=HTML, number=2)
    )
    rows = read(tmp_path, limits={"max_document_bytes": 200_000}).to_pylist()
    assert [row["failed"] for row in rows] == ["read/document_too_large", None]
    assert len(rows[0]["head"]) == 200


@pytest.mark.parametrize("suffix", ["warc", "warc.gz"])
@pytest.mark.parametrize(
    ("damage", "good", "reason"),
    [
        (lambda parts: b"".join(parts)[:-700], 3, "read/truncated"),
        (lambda parts: b"".join(parts[:2]) + bytes(300) + b"garbage\n" + parts[2], 2, "read/corrupt"),
        (lambda parts: parts[0] + b"WARC/1.0 nonsense" + parts[1], 1, "read/corrupt"),
        (lambda parts: b"something else\n" * 20, 0, "read/unreadable"),
    ],
)
def test_a_damaged_file_keeps_its_records_before_the_break(
    read, record, tmp_path, suffix, damage, good, reason
) -> None:
    parts = [record(os.urandom(900).hex().encode(), headers="Content-Type: text/plain\r\n", number=n) for n in range(4)]
    if suffix == "warc.gz":
        parts = [gzip.compress(part) for part in parts]
    (tmp_path / f"a.{suffix}").write_bytes(damage(parts))
    assert read(tmp_path).column("failed").to_pylist() == [None] * good + [reason]


def test_every_cut_of_a_file_gives_its_whole_records_and_at_most_one_break(read, record, tmp_path: Path) -> None:
    parts = [gzip.compress(record(b"some words", headers="Content-Type: text/plain\r\n", number=n)) for n in range(3)]
    data = b"".join(parts)
    ends = [len(parts[0]), len(parts[0]) + len(parts[1]), len(data)]
    for cut in range(1, len(data) + 1, 7):
        (tmp_path / "a.warc.gz").write_bytes(data[:cut])
        failed = read(tmp_path).column("failed").to_pylist()
        assert [f for f in failed if f] == ([] if cut in ends else ["read/truncated"])
        assert sum(f is None for f in failed) >= sum(end <= cut for end in ends)


@pytest.mark.parametrize(
    ("body", "header", "text"),
    [
        ("é".encode(), "iso-8859-1", "é"),  # valid UTF-8 is UTF-8, whatever is claimed
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        ("“é”".encode("cp1252"), "iso-8859-1", "“é”"),
        ("日本".encode("shift_jis"), "Shift_JIS", "日本"),
        ("日本".encode("iso2022_jp"), "iso-2022-jp", "日本"),
        ("中文㐀".encode("gb18030"), "gb2312", "中文㐀"),
        (b"<meta charset='windows-1251'>" + "да".encode("cp1251"), None, "<meta charset='windows-1251'>да"),
        (b"\xff\xfe" + "äb".encode("utf-16-le"), "utf-8", "äb"),
        (b"a\xffb \xc3\xa9", "utf-8", "a\ufffdb é"),
        (b"abc", "no-such-charset", "abc"),
        (b"abc", "rot13", "abc"),
    ],
)
def test_the_charset_is_found_as_browsers_do(body: bytes, header: str | None, text: str) -> None:
    assert decode(body, header) == text


def test_a_page_is_extracted_alike_whatever_came_before() -> None:
    pages = [PAGE.replace(b"Tuesday", day) for day in (b"Monday", b"Friday", b"Sunday")]
    assert [extract(page, None) for page in pages * 3] == [extract(page, None) for page in pages] * 3


def test_a_page_the_extractor_cannot_bear_fails_alone(read, record, tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(record(b"<br>" * 300_000, headers=HTML) + record(PAGE, headers=HTML, number=2))
    assert read(tmp_path).column("failed").to_pylist() == ["read/html_extraction_failed", None]


def test_a_page_that_kills_the_extractor_fails_alone_where_pages_are_isolated(
    read, record, tmp_path: Path, monkeypatch
) -> None:
    def fragile(body: bytes, charset: str | None) -> str:
        if b"deadly" in body:
            os._exit(3)
        if b"endless" in body:
            time.sleep(3600)
        return extract(body, charset)

    pages = [PAGE, PAGE.replace(b"Minutes", b"deadly"), PAGE.replace(b"Minutes", b"endless"), PAGE]
    data = b"".join(record(page, headers=HTML, number=n) for n, page in enumerate(pages, 1))
    (tmp_path / "a.warc").write_bytes(data)
    whole = read(tmp_path)
    monkeypatch.setattr(html, "extract", fragile)
    monkeypatch.setenv(STUCK, "12")
    rows = read(tmp_path, limits={"isolated": True})
    assert rows.column("failed").to_pylist() == [None, "read/worker_died", "read/worker_died", None]
    assert rows.column("id") == whole.column("id")
    fine = [0, 3]
    assert rows.take(fine) == whole.take(fine)


def test_what_shapes_the_text_of_pages_is_named() -> None:
    assert "trafilatura" in packages_of("warc")
    assert packages_of("jsonl") == ()


@pytest.mark.slow
@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA is not set")
def test_real_crawls_count_as_warcio_counts(read) -> None:
    for path in sorted(Path(os.environ["MARCO_TEST_DATA"], "web").glob("*.warc*.gz")):
        if path.name.endswith(".wat.gz"):
            continue
        kinds = ("conversion",) if ".wet" in path.name else ("response", "resource")
        outside = [
            rec.rec_headers.get_header("WARC-Record-ID")
            for rec in ArchiveIterator(io.BytesIO(path.read_bytes()))
            if rec.rec_type in kinds
        ]
        table = read(path)
        assert table.column("source_id").to_pylist() == outside
        assert table.column("failed").null_count == table.num_rows
