"""The text that is measured: real documents where MARCO_TEST_DATA names a folder of them, else the embedded sample.

Out: rounds, each a list of documents of about the same size. No two rounds of real text share a document, so that
nobody profits from what a cache remembers of the last round; the sample is small and is repeated.
"""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import xxhash
import zstandard

from marco_data.languages import canonical

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


def rounds(count: int, size_bytes: int, *, language: str | None = None) -> list[Round]:
    """`count` lists of documents of `size_bytes` each, of one language or of all in the corpus's proportions."""
    documents = [text for text in corpus() if language in (None, text.language)]
    out: list[Round] = []
    endless = _repeated(documents)
    for _ in range(count):
        here: Round = []
        left = size_bytes
        while left > 0:
            here.append(next(endless))
            left -= len(here[-1].text.encode())
        out.append(here)
    return out


def _repeated(documents: Round) -> Iterator[Text]:
    while True:
        yield from documents


@cache
def corpus() -> Round:
    """Every document, in an order that depends on nothing but the text."""
    found = _real(data_folder()) if data_folder() else _embedded()
    return sorted(found, key=lambda text: xxhash.xxh3_64_intdigest(text.text.encode()))


def _real(folder: Path | None) -> Round:
    assert folder is not None
    out = []
    for file in sorted(folder.glob("clean/*.jsonl.zst")):
        with file.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            rows = [json.loads(line) for line in io.TextIOWrapper(stream, "utf-8")]
        out += [Text(row["text"], canonical(row["language"]).code) for row in rows]
    return out


def _embedded() -> Round:
    out = []
    for file in sorted((SAMPLE / "text").glob("*.txt")):
        pieces = file.read_text("utf-8").split("== ")[1:]
        language = file.name.partition(".")[0]
        out += [Text(piece.partition("\n")[2].strip(), language) for piece in pieces]
    return out


def describe() -> str:
    name = "MARCO_TEST_DATA, `clean`" if data_folder() else "the embedded sample, repeated"
    texts = corpus()
    languages = len({text.language for text in texts})
    return f"{name}: {len(texts):,} documents, {size(texts) / 1e6:.1f} MB, {languages} languages"
