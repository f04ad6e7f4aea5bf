"""The real documents of MARCO_TEST_DATA, and which of them are for what.

In: the folder. Out: clean documents of ten languages, each held out, for the tokenizer or for training by the hash of
its address; web documents and web pages. Knows no noise, no tokens and no model.

The address is that of the article (its id where it has none), so that an article which was translated is held out in
all languages or in none.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import warcio
import xxhash
import zstandard

from marco_data.languages import canonical
from marco_data.sources import html

LANGUAGES = ("ar", "de", "en", "es", "fr", "id", "pt", "ru", "sw", "zh")
HELD_OUT, TOKENIZER, TRAINING = "held out", "tokenizer", "training"
HELD_OUT_PERCENT, TOKENIZER_PERCENT = 8, 8
_SENTENCE = re.compile(r"[.!?。！？؟\n]+")
_SHORTEST = 30
"""Characters of a sentence that tells something: shorter ones are in many documents by chance."""


@dataclass(frozen=True)
class Text:
    """A document; `language` is a code of ours where its source says so, else empty."""

    id: str
    text: str
    language: str


@dataclass(frozen=True)
class Page:
    """A web page as it came: its markup, decoded."""

    url: str
    markup: str


def rows(file: Path) -> Iterator[dict[str, Any]]:
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def code(language: str) -> str:
    return str(canonical(language).code)


def use_of(address: str) -> str:
    """What a document is for: a function of its address alone."""
    place = xxhash.xxh3_64_intdigest(address.encode()) % 100
    if place < HELD_OUT_PERCENT:
        return HELD_OUT
    return TOKENIZER if place < HELD_OUT_PERCENT + TOKENIZER_PERCENT else TRAINING


def clean(data: Path) -> dict[str, list[Text]]:
    """The clean documents by their use."""
    found: dict[str, list[Text]] = {HELD_OUT: [], TOKENIZER: [], TRAINING: []}
    for language in LANGUAGES:
        for row in rows(data / "clean" / f"{language}.jsonl.zst"):
            found[use_of(row.get("url") or row["id"])].append(Text(row["id"], row["text"], code(language)))
    return found


def web(data: Path) -> list[Text]:
    """Documents of the web in our languages, extracted by others, noise kept."""
    return [
        Text(row["id"], row["text"], code(row["language"]))
        for row in rows(data / "web" / "turku_register_docs.jsonl.zst")
        if row["language"] in LANGUAGES
    ]


def others(data: Path) -> list[Text]:
    """Documents of languages that the stage does not want."""
    return [Text(row["id"], row["text"], "") for row in rows(data / "other" / "other_languages.jsonl.zst")]


def page_files(data: Path) -> list[Path]:
    return sorted((data / "web").glob("*.warc.gz"))


@cache
def pages(data: Path) -> list[Page]:
    """Every HTML page of the WARC files, once for each record."""
    found = []
    for file in page_files(data):
        with file.open("rb") as stream:
            for record in warcio.ArchiveIterator(stream):
                if record.rec_type != "response" or record.http_headers is None:
                    continue
                said = record.http_headers.get_header("Content-Type", "")
                body = record.content_stream().read()
                if "html" in said or html.looks_like_html(body):
                    charset = said.partition("charset=")[2].strip(" \"';") or None
                    found.append(Page(record.rec_headers.get_header("WARC-Target-URI"), html.decode(body, charset)))
    return found


def page_languages(data: Path) -> dict[str, str]:
    """{address of a page: its code} for pages of our languages, as a language model labelled them."""
    labelled = rows(data / "web" / "web_text.jsonl.zst")
    return {row["url"]: code(row["language"]) for row in labelled if row["url"] and row["language"] in LANGUAGES}


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.parts.append(data.strip())


def visible_text(markup: str) -> str:
    """A page without its tags, scripts and styles: menus, notices and all, a line for each run of text."""
    parser = _Visible()
    parser.feed(markup)
    return "\n".join(parser.parts)


def sentences(text: str) -> set[str]:
    """The sentences that are long enough to tell texts apart, without case and white space."""
    found = ("".join(part.split()).casefold() for part in _SENTENCE.split(text))
    return {sentence for sentence in found if len(sentence) >= _SHORTEST}


def without_twins(held_out: Iterable[Text], training: Iterable[str], most: float = 0.1) -> list[Text]:
    """Those of which at most a share of the long sentences (by length) stands in the text that is trained on."""
    seen: set[str] = set()
    for text in training:
        seen |= sentences(text)
    kept = []
    for document in held_out:
        own = sentences(document.text)
        if own and sum(len(s) for s in own & seen) <= most * sum(map(len, own)):
            kept.append(document)
    return kept
