"""Language identification: our predictor beside fastText with the same model, and lid.176, in one run.

    python benchmarks/language_id.py --data FOLDER [--lid176 lid.176.ftz] [--model embedded] [--rounds 5]

FOLDER holds `clean/*.jsonl.zst` (id, text, label) and, for accuracy, any of `lid_test.tsv`, `lid_stress.tsv` and
`web/turku_register_docs.jsonl.zst`. Speeds are UTF-8 MB of input per second of CPU time, median of the rounds (least
to greatest), all candidates in turn within a round, our cache emptied before each. fastText is given each text as it
needs it, prepared in Python where the model is ours. Documents are every nth of the folder, languages mixed, which is
unkind to a cache.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from marco_data.kernels.prepare import prepare_all
from marco_data.kernels.unicode_tables import tables
from marco_data.languages import LANGUAGES, from_label
from marco_data.languages.evaluate import macro_f1, read_lines
from marco_data.languages.model import LanguageModel, load_model
from marco_data.languages.prepare import prepare
from marco_data.languages.texts import text_buffers
from marco_data.step import Tools

KEPT_BYTES = 12_000_000  # of documents for speed
LONG = 2048  # bytes


def documents(file: Path) -> Iterator[dict[str, Any]]:
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def speed_texts(data: Path) -> list[str]:
    texts = [row["text"] for file in sorted((data / "clean").glob("*.jsonl.zst")) for row in documents(file)]
    every = max(1, sum(len(text.encode()) for text in texts) // KEPT_BYTES)
    return texts[::every]


def by_kernel(model: LanguageModel, texts: Sequence[str], sampled: bool) -> list[str]:
    found, _ = model.predict_all(pa.array(texts, pa.string()), sampled=sampled)
    languages: list[str] = found.to_pylist()
    return languages


def by_fasttext(model: LanguageModel, texts: Sequence[str]) -> list[str]:
    return [model.reference(text)[0] for text in texts]


def seconds(candidate: Callable[[], object]) -> float:
    start = time.process_time()
    candidate()
    return time.process_time() - start


def compare_speed(models: dict[str, LanguageModel], texts: list[str], rounds: int) -> None:
    size = sum(len(text.encode()) for text in texts) / 1e6
    array = pa.array(texts, pa.string())
    candidates: dict[str, Callable[[], object]] = {
        "normaliser, kernel": lambda: prepare_all(*text_buffers(array), tables()),
        "normaliser, Python": lambda: [prepare(text) for text in texts],
    }
    for name, model in models.items():
        candidates[f"{name}, kernel"] = partial(model.predict_all, array)
        candidates[f"{name}, kernel, whole texts"] = partial(model.predict_all, array, sampled=False)
        candidates[f"{name}, fastText"] = partial(by_fasttext, model, texts)
    took: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):  # the first compiles and is not counted
        for name, candidate in candidates.items():
            for model in models.values():
                if model.file is not None:
                    model._cache.keys[:] = np.uint64(0)
                    model._cache.counts[:] = 0
                    model._cache.sums[:] = np.float32(0)
            spent = seconds(candidate)
            if turn:
                took[name].append(spent)
    for name, spent in took.items():
        print(
            f"  {name:<34} {size / statistics.median(spent):8.1f} ({size / max(spent):.1f} to {size / min(spent):.1f})"
        )
    for name in models:
        ratios = [f / k for f, k in zip(took[f"{name}, fastText"], took[f"{name}, kernel"], strict=True)]
        print(f"  {name}: {statistics.median(ratios):.1f} times fastText ({min(ratios):.1f} to {max(ratios):.1f})")


def compare_answers(models: dict[str, LanguageModel], texts: list[str]) -> None:
    for name, model in models.items():
        reference = by_fasttext(model, texts)
        for sampled in (True, False):
            same = sum(map(str.__eq__, by_kernel(model, texts, sampled), reference))
            read = "sampled" if sampled else "whole"
            print(f"  {name}, {read}: {same} of {len(texts)} labels are fastText's, {same / len(texts):.3%}")


def accuracy(models: dict[str, LanguageModel], data: Path) -> None:
    sets: dict[str, list[tuple[str, str]]] = {}
    if (data / "lid_test.tsv").is_file():
        sets["lid_test, macro-F1"] = lines = list(read_lines(data / "lid_test.tsv"))
        sets["lid_test, 50 characters and more"] = [(label, text) for label, text in lines if len(text) >= 50]
    if (data / "lid_stress.tsv").is_file():
        rows = [row.split("\t") for row in (data / "lid_stress.tsv").read_text(encoding="utf-8").splitlines()[1:]]
        for length in ("full", "short"):
            sets[f"lid_stress, {length}, macro-F1"] = [
                (from_label(r[0]), r[1]) for r in rows if r[3] == length and from_label(r[0]) in LANGUAGES
            ]
    for title, lines in sets.items():
        scores = {
            name: macro_f1(Counter(zip((k for k, _ in lines), by_kernel(m, [t for _, t in lines], True), strict=True)))
            for name, m in models.items()
        }
        print(f"  {title:<34}", ", ".join(f"{name} {score:.4f}" for name, score in scores.items()))
    file = data / "web" / "turku_register_docs.jsonl.zst"
    if file.is_file():
        pages = list(documents(file))
        truth = [from_label(page.get("label") or page["language"]) for page in pages]
        for name, model in models.items():
            right = sum(map(str.__eq__, truth, by_kernel(model, [page["text"] for page in pages], True)))
            print(f"  turku, share right                 {name} {right / len(pages):.4f} of {len(pages)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MARCO_TEST_DATA"), help="default: MARCO_TEST_DATA")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--lid176", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or MARCO_TEST_DATA in the environment")
    data = Path(arguments.data)
    models = {"ours": load_model(arguments.model, Tools())}
    if arguments.lid176:
        models["lid.176"] = load_model(str(arguments.lid176), Tools())
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, one used")
    texts = speed_texts(data)
    for title, of in (
        ("documents", texts),
        (f"documents over {LONG} bytes", [t for t in texts if len(t.encode()) > LONG]),
    ):
        print(f"MB/s, {len(of)} {title}, {sum(len(t.encode()) for t in of) / 1e6:.1f} MB")
        compare_speed(models, of, arguments.rounds)
    print("Agreement")
    compare_answers(models, texts)
    if (data / "lid_test.tsv").is_file():
        print("Agreement on the lines of lid_test")
        compare_answers(models, [text for _, text in read_lines(data / "lid_test.tsv")])
    print("Accuracy")
    accuracy(models, data)


if __name__ == "__main__":
    main()
