"""The text that is measured: real documents where MARCO_TEST_DATA names a folder of them, else the embedded sample.

Out: rounds, each a list of documents. Documents follow one another through all rounds and begin again where the text
ends, so that one comes back as late as can be.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path

import xxhash
import zstandard

from marco_data.languages import LANGUAGES, from_label

SAMPLE = Path(__file__).parents[1] / "recipes" / "sample"


@dataclass(frozen=True)
class Text:
    """A document: what it says and the code of its language."""

    text: str
    language: str


Round = list[Text]


def data_folder() -> Path | None:
    folder = os.environ.get("MARCO_TEST_DATA")
    return Path(folder) if folder else None


def tokenizer_folder() -> Path:
    """Qwen2's tokenizer where there is one, else the sample's."""
    folder = data_folder()
    return folder / "qwen_tokenizer" if folder else SAMPLE


def size(texts: Round) -> int:
    """Bytes of UTF-8."""
    return sum(len(text.text.encode()) for text in texts)


def rounds(
    count: int, size_bytes: int, *, after: int = 0, language: str | None = None, longer_than: int = 0
) -> list[Round]:
    """`count` lists of documents of `size_bytes` each, of one language or of all in the corpus's proportions.

    They begin behind the first `after` bytes; `longer_than`: only documents of more bytes.
    """
    chosen = [text for text in corpus() if language in (None, text.language)]
    endless = cycle([text for text in chosen if not longer_than or len(text.text.encode()) > longer_than])
    _first(endless, after)
    return [_first(endless, size_bytes) for _ in range(count)]


def first(texts: Round, megabytes: float) -> Round:
    """The first documents, as many as make `megabytes`, or all."""
    return _first(iter(texts), int(megabytes * 1e6))


def _first(texts: Iterator[Text], length: int) -> Round:
    out: Round = []
    while length > 0 and (text := next(texts, None)):
        out.append(text)
        length -= len(text.text.encode())
    return out


@cache
def corpus() -> Round:
    """Every document, in an order that depends on nothing but the text."""
    found = _real(data_folder()) if data_folder() else _embedded()
    return sorted(found, key=lambda text: xxhash.xxh3_64_intdigest(text.text.encode()))


FILES = ("clean/*.jsonl.zst", "web/web_text.jsonl.zst", "web/turku_register_docs.jsonl.zst", "stem/*.jsonl.zst")
"""Clean prose of all languages, the text of web pages, technical English."""


def _real(folder: Path | None) -> Round:
    assert folder is not None
    out = []
    for file in sorted(found for pattern in FILES for found in folder.glob(pattern)):
        with zstandard.open(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        labelled = ((row["text"], from_label(row.get("label") or row["language"])) for row in rows)
        out += [Text(text, code) for text, code in labelled if code in LANGUAGES]
    return out


def _embedded() -> Round:
    out = []
    for file in sorted((SAMPLE / "text").glob("*.txt")):
        pieces = file.read_text("utf-8").split("== ")[1:]
        language = file.name.partition(".")[0]
        out += [Text(piece.partition("\n")[2].strip(), language) for piece in pieces]
    return out


def describe() -> str:
    name = "MARCO_TEST_DATA (`clean`, pages of `web`, `stem`)" if data_folder() else "the embedded sample, repeated"
    texts = corpus()
    languages = len({text.language for text in texts})
    return f"{name}: {len(texts):,} documents, {size(texts) / 1e6:.1f} MB, {languages} languages"
