"""Labelled documents to train and judge a language model with: files of JSON lines in, documents out.

A line holds `id`, `text` and `label` (of any scheme; ours are made canonical) and may name its `source` and `licence`.
Documents whose id hashes to 0 modulo 20 are held out of every training.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash
import zstandard

from marco_data.errors import RecipeError
from marco_data.languages import from_label

HELD_OUT = 20  # one document in so many

_FIELDS = ("id", "text", "label")


@dataclass(frozen=True)
class Document:
    id: str
    text: str
    label: str
    source: str  # where it came from and its licence, for the model card


def read_documents(path: Path) -> list[Document]:
    """The labelled documents of a file, or of the `*.jsonl` and `*.jsonl.zst` in a folder by name."""
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.name.endswith((".jsonl", ".jsonl.zst")))
        if not files:
            raise RecipeError(f"no *.jsonl or *.jsonl.zst in `{path}`", hint="fields: id, text, label")
    return [_document(file, json.loads(line)) for file in files for line in _lines(file)]


def is_held_out(document_id: str) -> bool:
    return xxhash.xxh3_64_intdigest(document_id.encode()) % HELD_OUT == 0


def _document(path: Path, row: dict[str, str]) -> Document:
    missing = [name for name in _FIELDS if name not in row]
    if missing:
        raise RecipeError(f"{path}: a document without `{'`, `'.join(missing)}`", hint="fields: id, text, label")
    source = f"{row.get('source', 'unknown')} ({row.get('licence', 'licence unknown')})"
    return Document(row["id"], row["text"], from_label(row["label"]), source)


def _lines(path: Path) -> Iterator[str]:
    if path.suffix == ".zst":
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            yield from file
    else:
        with path.open(encoding="utf-8") as file:
            yield from file
