"""The documents the agreement is measured on: reference prose and web pages of MARCO_TEST_DATA, or the sample.

Out: documents by language, each in one of two halves by the hash of its id, so that what is derived on one half can
fail on the other. Labels of web pages are automatic; that a page may be in another language hurts both sides alike.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
import zstandard

from benchmarks.corpus import SAMPLE, data_folder
from marco_data.languages import LANGUAGES

REFERENCE, WEB = "reference", "web"
_WEB_FILES = ("web/web_text.jsonl.zst", "web/turku_register_docs.jsonl.zst")
DERIVED, HELD_OUT = 0, 1


@dataclass(frozen=True)
class Document:
    """`half` is DERIVED or HELD_OUT; `kind` REFERENCE or WEB."""

    text: str
    kind: str
    half: int


def documents(language: str) -> list[Document]:
    """All documents of a language that hold more than white space."""
    folder = data_folder()
    rows = _embedded(language) if folder is None else _real(folder, language)
    return [
        Document(text, kind, xxhash.xxh3_64_intdigest(id_.encode()) % 2)
        for id_, kind, text in rows
        if text and not text.isspace()
    ]


def _real(folder: Path, language: str) -> Iterator[tuple[str, str, str]]:
    for row in _rows(folder / "clean" / f"{LANGUAGES[language].iso639_1}.jsonl.zst"):
        yield row["id"], REFERENCE, row["text"]
    for file in _WEB_FILES:
        for row in _rows(folder / file):
            if row["label"] == language:
                yield row["id"], WEB, row["text"]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _embedded(language: str) -> Iterator[tuple[str, str, str]]:
    pieces = (SAMPLE / "text" / f"{language}.txt").read_text("utf-8").split("== ")[1:]
    for number, piece in enumerate(pieces):
        yield f"{language}-{number}", REFERENCE, piece.partition("\n")[2].strip()
