"""A planted corpus on disk, made once: Parquet files of texts, and a root whose measure and decide passes are done.

    FOLDER/1e6-seed1/texts/00007.parquet   `id` (the document's number), `text`; 50,000 documents, 25 MB of text
    FOLDER/1e6-seed1/root                  what `marco-data build-stage` makes of them, as far as dedup
    FOLDER/1e6-seed1/made.json             what making it took; its being there says that all of it is

The plan is that of `pipelines.build_stage`, so what is timed is what users run, whatever its nodes are called.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.corpus import SAMPLE
from benchmarks.dedup_scale.planted import LANGUAGES, Planted, plant, total_bytes
from benchmarks.dedup_scale.watch import processor_seconds
from marco_data.dataset import Dataset
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.recipe import Recipe
from marco_data.storage import Storage, canonical_json

FILE_DOCUMENTS = 50_000
WORKERS = 2
BEFORE, LAST = "decide", "dedup"
"""The node before dedup's first, and dedup's last."""


@dataclass(frozen=True)
class Made:
    """What a corpus is and took: seconds of making the texts, then of measuring and deciding."""

    documents: int
    seed: int
    text_bytes: int
    text_seconds: float
    measure_seconds: float
    measure_processor_seconds: float
    measure_bytes: int


@dataclass(frozen=True)
class Corpus:
    """One corpus under `folder`."""

    folder: Path
    documents: int
    seed: int

    @property
    def texts(self) -> Path:
        return self.folder / "texts"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def planted(self) -> Planted:
        return plant(self.documents, self.seed)

    def files(self) -> list[Path]:
        return sorted(self.texts.glob("*.parquet"))

    def made(self) -> Made | None:
        """None: it is not there, or not all of it."""
        path = self.folder / "made.json"
        return Made(**json.loads(path.read_text())) if path.exists() else None

    def dataset(self) -> Dataset:
        """The plan up to dedup's verdicts."""
        plan = recipe(self.texts).pipeline_function()(recipe(self.texts))
        names = [node.name for node in plan.nodes]
        return Dataset(plan.nodes[: names.index(LAST) + 1])

    def dedup_nodes(self) -> Sequence[str]:
        names = [node.name for node in self.dataset().nodes]
        return names[names.index(BEFORE) + 1 :]


def corpus(folder: Path, documents: int, seed: int) -> Corpus:
    """Where a corpus lies, made or not."""
    return Corpus(folder / f"{short(documents)}-seed{seed}", documents, seed)


def make(one: Corpus) -> Made:
    """Write and measure it, or find it there."""
    made = one.made()
    if made is None:
        start = time.perf_counter()
        text_bytes = write_texts(one)
        texts, before = time.perf_counter(), processor_seconds()
        measured = measure(one)
        end = time.perf_counter()
        made = Made(
            one.documents, one.seed, text_bytes, texts - start, end - texts, processor_seconds() - before, measured
        )
        (one.folder / "made.json").write_bytes(canonical_json(asdict(made)))
    return made


def write_texts(one: Corpus) -> int:
    """Bytes of text. A file that is there is taken for what it should be: it gets its name last."""
    planted, size = one.planted(), 0
    one.texts.mkdir(parents=True, exist_ok=True)
    step = min(FILE_DOCUMENTS, -(-one.documents // WORKERS))  # or starting all workers would belong to larger ones
    for number, start in enumerate(range(0, one.documents, step)):
        path = one.texts / f"{number:05d}.parquet"
        stop = min(start + step, one.documents)
        texts = planted.texts(start, stop)
        size += total_bytes(texts)
        if not path.exists():
            table = pa.table({"id": pa.array(range(start, stop)).cast(pa.string()), "text": texts})
            pq.write_table(table, path.with_suffix(".partial"), compression="zstd", row_group_size=10_000)
            path.with_suffix(".partial").rename(path)
    return size


def recipe(texts: Path) -> Recipe:
    """Every limit lets the texts pass: they are words drawn by lot, and all of them are to be compared."""
    return Recipe.model_validate(
        {
            "family": "dedup-scale",
            "stage": 3,
            "tokenizer": {"path": str(SAMPLE / "tokenizer.json")},
            "languages": list(LANGUAGES),
            "sources": {"web": {"paths": [f"{texts}/*.parquet"], "fields": {"text": "text", "id": "id"}}},
            "mixture": {"web": {"weight": 1}},
            "steps": {
                "identify_language": {"threshold": 0.2, "check_script": False, "min_share": None},
                "quality": {"exempt": ["web"]},
            },
        }
    )


def measure(one: Corpus) -> int:
    """Run the plan as far as `decide`; bytes of what it wrote."""
    nodes = one.dataset().nodes
    before = [node.name for node in nodes].index(BEFORE) + 1
    executor = LocalExecutor(WORKERS)
    try:
        result = run(Dataset(nodes[:before]), Storage(str(one.root)), executor, Silent())
    finally:
        executor.close()
    assert result.complete, result.failures
    return sum(file.bytes for records in result.records.values() for record in records for file in record.data)


def short(documents: int) -> str:
    """1e6 for 1000000; 2000 as it is."""
    zeros = len(str(documents)) - len(str(documents).rstrip("0"))
    power = f"{documents // 10**zeros}e{zeros}"
    return power if len(power) < len(str(documents)) else str(documents)
