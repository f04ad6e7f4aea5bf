"""A small corpus in seven languages, recipes over it and a way to build them: what tests of whole runs share.

The prose is the sample's. Four files: `web/a.jsonl` (English, German, French), `web/b.jsonl.gz` (Russian, Thai),
`web/c.jsonl` (Chinese, Bengali) and `books/d.parquet` (all seven); two sources, two parts.
"""

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from marco_data.execute import LocalExecutor, Run, Silent, run
from marco_data.recipe import Recipe, load_recipe
from marco_data.stage import Stage, finish
from marco_data.storage import Storage

SAMPLE = Path(__file__).parents[1] / "recipes" / "sample"
TOKENIZER = SAMPLE / "tokenizer.json"
CODES = ("eng_Latn", "deu_Latn", "fra_Latn", "rus_Cyrl", "tha_Thai", "zho_Hans", "ben_Beng")
WEB_FILES = {"a.jsonl": CODES[:3], "b.jsonl.gz": CODES[3:5], "c.jsonl": CODES[5:]}

Row = dict[str, Any]


def prose(code: str) -> list[str]:
    """The sample's documents of a language."""
    pieces = (SAMPLE / "text" / f"{code}.txt").read_text("utf-8").split("== ")[1:]
    return [piece.partition("\n")[2].strip() for piece in pieces]


def row(code: str, number: int, text: str | None = None) -> Row:
    """A document of the prose; Bengali 1 is cut to 70 words, so that a test knows one that is short."""
    key = f"{code[:3]}-{number}"
    if text is None:
        text = prose(code)[number]
        if key == "ben-1":
            text = " ".join(text.split()[:70]) + "।"
    return {"id": key, "url": f"https://example.org/{key}", "text": text}


def write_jsonl(path: Path, rows: Iterable[Row]) -> Path:
    """Plain or, by the name, gzipped; the same rows give the same bytes."""
    data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_parquet_file(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def write_corpus(folder: Path) -> Path:
    """Documents 0 and 1 of each language are web pages, 2 a book; the corpus's folder."""
    for name, codes in WEB_FILES.items():
        write_jsonl(folder / "web" / name, [row(code, n) for code in codes for n in (0, 1)])
    write_parquet_file(folder / "books" / "d.parquet", [row(code, 2) for code in CODES])
    return folder


def recipe_values(corpus: Path) -> dict[str, Any]:
    """The recipe over a corpus, as plain values for a test to change."""
    fields = {"text": "text", "id": "id", "url": "url"}
    return {
        "family": "small",
        "stage": 3,
        "tokenizer": {"path": str(TOKENIZER)},
        "languages": list(CODES),
        "sources": {
            "web": {"paths": [f"{corpus}/web/*"], "fields": dict(fields)},
            "books": {"paths": [f"{corpus}/books/*.parquet"], "fields": fields, "licence": "CC0-1.0"},
        },
        "mixture": {"web": {"weight": 3}, "books": {"weight": 1}},
        "steps": {"identify_language": {"threshold": 0.3}},
    }


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), "utf-8")
    return path


def as_recipe(values: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(values)


@dataclass(frozen=True)
class Built:
    """A finished build: what ran, its manifest, where it lies."""

    recipe: Recipe
    run: Run
    stage: Stage
    storage: Storage


def build(recipe: Recipe | Path, root: str | Path, **options: Any) -> Built:
    """A whole stage in this process."""
    recipe = load_recipe(recipe) if isinstance(recipe, Path) else recipe
    storage = Storage(str(root))
    dataset = recipe.pipeline_function()(recipe, **options)
    result = run(dataset, storage, LocalExecutor(), Silent(), waive=recipe.waive, watch=recipe.watch)
    return Built(recipe, result, finish(recipe, dataset, result, storage), storage)


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()
