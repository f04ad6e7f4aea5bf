"""Make the sample's input files from its prose: `python recipes/sample/make_sample.py [--out FOLDER]`.

In: `text/*.txt` (original prose, a document after each `== slug`), `planted.yaml` (what is planted, and what must
become of it), `noisy.yaml` (posts of a forum) and `problems.txt` (with their solutions). Out: `sources/` in every
format the readers know, and `expected.jsonl`, a line a document.
The same text gives the same bytes: no clock, no chance; rows are in the order of the SHA-256 of their keys.

The first document of each language becomes a web page, the second a JSONL record, the third a Parquet row, a
record of a language folder, a text file or a WET record; the fourth waits for stage 4.
"""

import argparse
import gzip
import hashlib
import html
import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import yaml
import zstandard

from marco_data.languages import LANGUAGES

HERE = Path(__file__).resolve().parent
LICENCE = "CC0-1.0"
DATE = "2024-03-01T12:00:00Z"

ENGLISH_PARTS = {
    "web": "nemotron_high",
    "synthetic": "nemotron_high_synthetic",
    "code": "code",
    "stem": "stem",
    "wiki": "wiki",
    "math": "math",
    "academic": "academic",
    "instruction": "instruction",
}

# Pages older than UTF-8: what a crawl has to guess or to be told.
CHARSETS = {
    "jpn_Jpan": "shift_jis",
    "rus_Cyrl": "windows-1251",
    "kor_Hang": "euc-kr",
    "ell_Grek": "iso-8859-7",
}

MENUS = {
    "eng_Latn": "Home|News|Sport|Weather|Contact|We use cookies to improve this site.|Accept all",
    "deu_Latn": "Start|Nachrichten|Sport|Wetter|Impressum|Wir verwenden Cookies.|Alle akzeptieren",
    "fra_Latn": "Accueil|Actualités|Sport|Météo|Contact|Ce site utilise des cookies.|Tout accepter",
    "spa_Latn": "Inicio|Noticias|Deportes|El tiempo|Contacto|Usamos cookies.|Aceptar todo",
    "por_Latn": "Início|Notícias|Esporte|Tempo|Contato|Este site usa cookies.|Aceitar tudo",
    "rus_Cyrl": "Главная|Новости|Спорт|Погода|Контакты|Мы используем файлы cookie.|Принять все",
    "zho_Hans": "首页|新闻|体育|天气|联系我们|本网站使用 Cookie。|全部接受",
    "jpn_Jpan": "ホーム|ニュース|スポーツ|天気|お問い合わせ|当サイトはCookieを使用します。|すべて許可",
    "arb_Arab": "الرئيسية|الأخبار|الرياضة|الطقس|اتصل بنا|نستخدم ملفات تعريف الارتباط.|قبول الكل",
    "hin_Deva": "होम|समाचार|खेल|मौसम|संपर्क|हम कुकीज़ का उपयोग करते हैं।|सभी स्वीकार करें",
}
"""Five entries of a menu, what a cookie banner says and its button; sites of other languages have English ones."""


@dataclass(frozen=True)
class Row:
    """A document on its way into a file: what it says, how to find it again, what must become of it."""

    source: str
    file: str
    find: str  # its id, URL or file name
    fields: dict[str, Any]  # of the record; for pages `url` and `body`, `status`, `type` ...
    expect: dict[str, Any] = field(default_factory=lambda: {"verdict": "kept"})
    raw: bytes | None = None  # a line that is no record

    @property
    def place(self) -> bytes:
        return hashlib.sha256(f"{self.source} {self.find} {self.fields.get('text')}".encode()).digest()


def documents(path: Path) -> list[tuple[str, str]]:
    """(slug, text) of each document of a prose file."""
    pieces = f"\n{path.read_text(encoding='utf-8')}".split("\n== ")[1:]
    return [(slug.strip(), text.strip()) for slug, _, text in (piece.partition("\n") for piece in pieces)]


def prose_rows() -> Iterator[tuple[str, Row]]:
    """Every document of the prose, each at its place; with the name planted.yaml calls it by, `deu_Latn.0`."""
    for number, (code, language) in enumerate(LANGUAGES.items()):
        short = language.iso639_1
        page, record, third, curated = documents(HERE / "text" / f"{code}.txt")
        url = f"https://{short}.example.org/{{}}"
        yield f"{code}.0", page_row(url.format(page[0]), page[1], code)
        file = "records-a.jsonl" if number % 2 == 0 else "records-b.jsonl.gz"
        yield f"{code}.1", record_row(f"{short}-{record[0]}", record[1], code, file)
        yield f"{code}.2", third_row(number, code, url.format(third[0]), *third)
        find = f"curated-{short}-{curated[0]}"
        fields = {"id": find, "language": short, "text": curated[1]}
        yield f"{code}.3", Row("curated", "curated.parquet", find, fields)
    for kind, source in ENGLISH_PARTS.items():
        for slug, text in documents(HERE / "text" / f"eng_Latn.{kind}.txt"):
            # One question is enough for `synthetic`; its chart is the nearest to what the others are.
            name = "synthetic" if slug == "question-weather-versus-climate" else source
            suffix = "parquet" if name in ("code", "stem", "math") else "jsonl.gz"
            # Parts with a small weight: the budget takes one of three documents.
            small = {"or": "mix/not_selected"} if name in ("wiki", "academic") else {}
            key = f"{name}/{slug}"
            fields = {"id": key, "text": text}
            yield key, Row(name, f"{name}.{suffix}", key, fields, {"verdict": "kept", **small})


def third_row(number: int, code: str, url: str, slug: str, text: str) -> Row:
    match number % 8:
        case 2:
            return Row("by_language", f"{code}/part-0.jsonl.zst", url, {"url": url, "text": text})
        case 3:
            return Row("archive", f"{code}-{slug}.txt", f"{code}-{slug}.txt", {"text": text})
        case 7:
            return Row("crawl_text", "pages.warc.wet.gz", url, {"url": url, "text": text})
        case _:
            return table_row(f"{code}/{slug}", text, url)


def record_row(key: str, text: str, code: str, file: str = "records-a.jsonl", **more: Any) -> Row:
    fields = {"id": key, "url": f"https://records.example.org/{key}", "language": code, "text": text}
    return Row("web_records", file, key, {**fields, "licence": LICENCE}, **more)


def table_row(key: str, text: str | bytes, url: str | None = None, **more: Any) -> Row:
    return Row("web_tables", "tables.parquet", key, {"doc_id": key, "page_url": url, "content": text}, **more)


def page_row(url: str, text: str, code: str, **more: Any) -> Row:
    charset = CHARSETS.get(code, "utf-8")
    body = page(text, code).encode(charset, "xmlcharrefreplace")
    fields = {"url": url, "body": body, "type": f"text/html; charset={charset}"}
    return Row("crawl", "pages.warc.gz", url, fields, **more)


def page(text: str, code: str) -> str:
    """An article with what a site puts around it: a menu, a cookie banner, things to read next, a footer."""
    *menu, cookies, accept = MENUS.get(code, MENUS["eng_Latn"]).split("|")
    links = "".join(f'<li><a href="/{n}">{name}</a></li>' for n, name in enumerate(menu))
    related = "".join(f'<li><a href="/more/{n}">{name}</a></li>' for n, name in enumerate(menu[2:4]))
    paragraphs = "\n".join(f"<p>{html.escape(p, quote=False)}</p>" for p in text.split("\n\n"))
    return (
        f'<!DOCTYPE html>\n<html lang="{LANGUAGES[code].iso639_1}"><head><title>{menu[1]}</title></head>\n<body>\n'
        f'<header><nav class="menu"><ul>{links}</ul></nav></header>\n'
        f'<div id="cookie-banner" class="cookie-consent"><p>{cookies}</p><button>{accept}</button></div>\n'
        f"<main><article>\n{paragraphs}\n</article></main>\n"
        f'<aside class="related"><ul>{related}</ul></aside>\n'
        f'<footer><p>&copy; 2024 {menu[0]} | <a href="/contact">{menu[4]}</a></p></footer>\n</body></html>\n'
    )


def prose() -> dict[str, str]:
    """What `deu_Latn.0` and its like say."""
    texts = {code: documents(HERE / "text" / f"{code}.txt") for code in LANGUAGES}
    return {f"{code}.{n}": text for code, held in texts.items() for n, (_, text) in enumerate(held)}


def seed_rows() -> Iterator[Row]:
    """The rows of noisy.yaml and problems.txt, which are kept and which stage 4 generates from."""
    for entry in yaml.safe_load((HERE / "noisy.yaml").read_text(encoding="utf-8")):
        fields = {"id": f"forum/{entry['key']}", "language": entry["language"], "text": entry["text"]}
        yield Row("forum", "posts.jsonl.gz", fields["id"], fields)
    for slug, text in documents(HERE / "problems.txt"):
        yield Row("problems", "problems.jsonl.gz", f"problems/{slug}", {"id": f"problems/{slug}", "text": text})


def planted_rows(texts: dict[str, str], places: dict[str, Row]) -> Iterator[Row]:
    """The rows of planted.yaml; `texts` is what the prose says, `places` its row, whose fate a copy may be."""
    for entry in yaml.safe_load((HERE / "planted.yaml").read_text(encoding="utf-8")):
        expect = {key: entry[key] for key in ("planted", "verdict", "reason", "note") if key in entry}
        row = planted_row(entry, planted_text(entry, texts), expect)
        if "keeps" in entry:
            original = places[entry["copy"]]
            stays, goes = (row, original) if entry["keeps"] == "copy" else (original, row)
            dropped = {"verdict": "dropped", "reason": entry["reason"], "duplicate_of": stays.find}
            row.expect.pop("reason")
            stays.expect["verdict"] = "kept"
            goes.expect.update(dropped)
        yield row


def planted_text(entry: dict[str, Any], texts: dict[str, str]) -> str:
    """What a planted document says: its own text, or a copy of prose with changes."""
    copied = "\n\n".join(paragraph(texts, place) for place in entry.get("copy", "").split())
    text: str = copied or entry.get("text", "")
    for old, new in entry.get("changes", {}).items():
        assert old in text, f"{entry['key']}: `{old}` is not in {entry['copy']}"
        text = text.replace(old, new, 1)
    if entry.get("mojibake"):
        text = text.encode().decode("cp1252")
    return text * int(entry.get("times", 1))


def paragraph(texts: dict[str, str], place: str) -> str:
    """`ita_Latn.1` is a document, `ita_Latn.1:0` a paragraph of it."""
    document, _, number = place.partition(":")
    return texts[document].split("\n\n")[int(number)] if number else texts[document]


def planted_row(entry: dict[str, Any], text: str, expect: dict[str, Any]) -> Row:
    source, key = entry["source"], entry.get("key", "")
    if "line" in entry:  # characters stand for bytes
        line = entry["line"].encode("latin-1")
        return Row(source, "records-a.jsonl", xxhash.xxh3_128_hexdigest(line), {}, expect, line)
    if source == "crawl":
        body = page(text, entry["language"]).encode() if "body" not in entry else entry["body"].encode("latin-1")
        fields: dict[str, Any] = {"url": key, "type": "text/html", "body": body}
        fields |= {name: entry[name] for name in ("status", "type", "coding") if name in entry}
        return Row(source, "pages.warc.gz", key, fields, expect)
    if source == "web_tables":
        content = entry["bytes"].encode("latin-1") if "bytes" in entry else text
        return table_row(key, content, entry.get("url"), expect=expect)
    if source == "by_language":
        return Row(source, f"{entry['language']}/part-0.jsonl.zst", key, {"url": key, "text": text}, expect)
    row = record_row(key, text, entry["language"], entry.get("file", "records-a.jsonl"), expect=expect)
    for name in entry.get("without", ()):
        del row.fields[name]
    return row


# Files


def packed(data: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as stream:
        stream.write(data)
    return out.getvalue()


def jsonl(rows: list[Row]) -> bytes:
    written = (json.dumps(row.fields, ensure_ascii=False).encode() if row.raw is None else row.raw for row in rows)
    return b"".join(line + b"\n" for line in written)


def parquet(rows: list[Row]) -> bytes:
    """Two or more row groups; text as binary, because a planted row is not UTF-8."""
    names = list(rows[0].fields)
    columns = {
        name: pa.array([row.fields[name] for row in rows], pa.binary() if name == "content" else pa.string())
        for name in names
    }
    out = io.BytesIO()
    packing = {"compression": "zstd", "compression_level": 9, "version": "2.6"}
    pq.write_table(pa.table(columns), out, row_group_size=16, **packing)
    return out.getvalue()


def warc(rows: list[Row], kind: str) -> bytes:
    """A record a gzip member: one about the file, then a request and a response a page, or a conversion (WET)."""
    software = b"software: make_sample\r\n"
    records = [warc_record("warcinfo", "pages", None, "application/warc-fields", software)]
    for row in rows:
        url = row.fields["url"]
        if kind == "wet":
            records.append(warc_record("conversion", url, url, "text/plain", row.fields["text"].encode()))
            continue
        request = f"GET {url} HTTP/1.1\r\nUser-Agent: make_sample\r\n\r\n".encode()
        records.append(warc_record("request", url, url, "application/http; msgtype=request", request))
        response = http_response(row.fields)
        records.append(warc_record("response", url, url, "application/http; msgtype=response", response))
    return b"".join(packed(record) for record in records)


def warc_record(kind: str, name: str, url: str | None, media_type: str, block: bytes) -> bytes:
    headers = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{kind} {name}')}>",
        "WARC-Date": DATE,
        **({"WARC-Target-URI": url} if url else {}),
        "Content-Type": media_type,
        "Content-Length": str(len(block)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"WARC/1.0\r\n{lines}\r\n".encode() + block + b"\r\n\r\n"


def http_response(fields: dict[str, Any]) -> bytes:
    body: bytes = fields["body"]
    coding = fields.get("coding", "")
    headers = f"Content-Type: {fields['type']}\r\n"
    if coding == "gzip":
        body, headers = packed(body), f"{headers}Content-Encoding: gzip\r\n"
    elif coding == "chunked":
        half = len(body) // 2
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:half], body[half:], b""))
        headers = f"{headers}Transfer-Encoding: chunked\r\n"
    return f"HTTP/1.1 {fields.get('status', '200 OK')}\r\n{headers}\r\n".encode() + body


def content(name: str, rows: list[Row]) -> bytes:
    if name.endswith(".parquet"):
        return parquet(rows)
    if name.endswith(".txt"):
        return str(rows[0].fields["text"]).encode()
    if ".warc" in name:
        return warc(rows, "wet" if ".wet" in name else "warc")
    if name.endswith(".gz"):
        return packed(jsonl(rows))
    lines = jsonl(rows)
    return bytes(zstandard.ZstdCompressor(level=9).compress(lines)) if name.endswith(".zst") else lines


def make(out: Path) -> None:
    """Write `sources/` and `expected.jsonl` below `out`."""
    places = dict(prose_rows())
    rows = [*places.values(), *planted_rows(prose(), places), *seed_rows()]
    files: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda r: r.place):
        files.setdefault(f"sources/{row.source}/{row.file}", []).append(row)
    for name, held in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, held))
    lines = [json.dumps({"source": r.source, "find": r.find, **r.expect}, ensure_ascii=False) for r in rows]
    (out / "expected.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    make(parser.parse_args().out)
