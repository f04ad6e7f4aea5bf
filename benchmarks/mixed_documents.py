"""Shares of languages: false alarms on documents of one language, errors on mixtures, and what they cost.

    python -m benchmarks.mixed_documents --data FOLDER [--model embedded] [--limit 0.7]

FOLDER holds `clean/*.jsonl.zst` (id, text, label) and, for more false alarms, `web/turku_register_docs.jsonl.zst` and
`web/web_text.jsonl.zst`. A false alarm is a document that is identified as its source has it with at least the score
0.7, and of which less than the limit is not of another language: it would be dropped as mixed. Mixtures are of two
languages drawn at random, by seed, from documents that training held out where a language has enough of them: the
first part in one and the rest in the other, paragraphs or sentences in random order, or paragraphs by turns. The error
is that of the second language's share, of what is of a language for certain. Cost is CPU time of one core,
identification of the same documents beside it, our cache emptied before each.
"""

import argparse
import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
import xxhash

from benchmarks.language_id import documents
from marco_data.languages import from_label
from marco_data.languages.model import LanguageModel, load_model
from marco_data.languages.shares import language_shares
from marco_data.step import Tools
from marco_data.steps.select_language import own_shares

SCORE = 0.7
SEED = 1
MIXTURES = 400  # of each kind
ENOUGH = 200  # documents: of a language with fewer all are taken
READ = 19_000  # characters: a little less than is read
GOES = 5
LONG = 2048  # bytes

_SENTENCE = re.compile(r"(?<=[.!?။።۔।。！？])\s*")
_LETTER = regex.compile(r"[\p{L}\p{M}]")

Labelled = tuple[str, str]  # (language, text)


@dataclass(frozen=True)
class Mixture:
    text: str
    first: str
    second: str
    share: float  # of letters, of the second language


def rows(file: Path) -> list[tuple[Labelled, bool]]:
    """((language, text), whether training held it out) of each document of a file."""
    return [
        (
            (from_label(row.get("label") or row["language"]), row["text"]),
            xxhash.xxh3_64_intdigest(str(row["id"]).encode()) % 20 == 0,
        )
        for row in documents(file)
    ]


def false_alarms(model: LanguageModel, pages: Sequence[Labelled], limit: float) -> tuple[int, list[str]]:
    """(documents that are judged, the language of each that would be dropped as mixed)."""
    texts = pa.array([text for _, text in pages], pa.string())
    found, scores = model.predict_all(texts)
    shares = own_shares(language_shares(model, texts), found)
    judged = [scores[i] >= SCORE and found[i].as_py() == code for i, (code, _) in enumerate(pages)]
    return sum(judged), [code for (code, _), j, share in zip(pages, judged, shares, strict=True) if j and share < limit]


def mixtures(kind: str, by_language: dict[str, list[str]]) -> list[Mixture]:
    chance = random.Random(SEED)
    made: list[Mixture] = []
    while len(made) < MIXTURES:
        first, second = chance.sample(sorted(by_language), 2)
        parts = [_parts(kind, chance.sample(by_language[c], min(4, len(by_language[c])))) for c in (first, second)]
        order = _order(kind, chance)
        parts = [list((part * len(order))[: order.count(i)]) for i, part in enumerate(parts)]
        taken = [iter(part) for part in parts]
        said: tuple[list[str], list[str]] = ([], [])
        text: list[str] = []
        for which in order:
            part = next(taken[which], "")
            if part and sum(map(len, text)) + len(part) < READ:
                text.append(part)
                said[which].append(part)
        letters = [sum(len(_LETTER.findall(part)) for part in of) for of in said]
        if all(letters):
            joined = (" " if kind == "sentences" else "\n").join(text)
            made.append(Mixture(joined, first, second, letters[1] / sum(letters)))
    return made


def _parts(kind: str, texts: Iterable[str]) -> list[str]:
    paragraphs = [line for text in texts for line in text.split("\n") if len(line) > 80]
    if kind != "sentences":
        return paragraphs
    return [part for line in paragraphs for part in _SENTENCE.split(line) if len(part) > 30]


def _order(kind: str, chance: random.Random) -> list[int]:
    """0 or 1, the language of each part."""
    if kind == "by turns":
        return [0, 1] * chance.randint(2, 14)
    n = chance.choice((20, 40, 60)) if kind == "sentences" else chance.choice((8, 16, 24))
    second = max(1, round(n * chance.choice((0.1, 0.2, 0.3, 0.4, 0.5))))
    order = [0] * (n - second) + [1] * second
    if kind != "two halves":
        chance.shuffle(order)
    return order


def measure_mixtures(model: LanguageModel, of: Sequence[Mixture], limit: float) -> str:
    texts = pa.array([mixture.text for mixture in of], pa.string())
    shares = language_shares(model, texts)
    found, _ = model.predict_all(texts)
    errors = []
    for mixture, entries in zip(of, shares.to_pylist(), strict=True):
        said = {entry["language"]: entry["share"] for entry in entries}
        errors.append(abs(said.get(mixture.second, 0.0) / (sum(said.values()) or 1.0) - mixture.share))
    minority = np.array([min(mixture.share, 1 - mixture.share) for mixture in of])
    dropped = own_shares(shares, found) < limit
    bands = [(1 - limit - 0.1, 1 - limit), (1 - limit, 1 - limit + 0.1), (1 - limit + 0.1, 0.5001)]
    caught = ", ".join(f"{a:.1f}-{b:.1f} {_of(dropped, (minority >= a) & (minority < b))}" for a, b in bands)
    return f"error {statistics.mean(errors):.3f}, median {statistics.median(errors):.3f}; dropped by minority: {caught}"


def _of(dropped: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> str:
    return f"{int(dropped[among].sum())} of {int(among.sum())}"


def cost(model: LanguageModel, texts: Sequence[str]) -> str:
    """Milliseconds for a million bytes, median of GOES (least to greatest)."""
    array = pa.array(texts, pa.string())
    million = sum(len(text.encode()) for text in texts) / 1e6
    took: dict[str, list[float]] = {"identification": [], "with shares": []}
    for go in range(GOES + 1):  # the first compiles and is not counted
        for name, spent in took.items():
            if model.file is not None:
                model._cache.keys[:] = np.uint64(0)
            start = time.process_time()
            _ = model.predict_all(array) if name == "identification" else language_shares(model, array)
            if go:
                spent.append(1000 * (time.process_time() - start) / million)
    told = [f"{n} {statistics.median(s):.1f} ms/MB ({min(s):.1f} to {max(s):.1f})" for n, s in took.items()]
    return f"{len(texts)} documents, {million:.1f} MB: " + ", ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("MARCO_TEST_DATA"), help="default: MARCO_TEST_DATA")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--limit", type=float, default=0.7)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data FOLDER, or MARCO_TEST_DATA in the environment")
    data, limit = Path(arguments.data), arguments.limit
    model = load_model(arguments.model, Tools())
    clean = [row for file in sorted((data / "clean").glob("*.jsonl.zst")) for row in rows(file)]
    pages = {"clean": [page for page, _ in clean]}
    for name in ("turku_register_docs", "web_text"):
        if (file := data / "web" / f"{name}.jsonl.zst").is_file():
            pages[name] = [page for page, _ in rows(file)]
    print(f"Documents of one language that {limit} would drop as mixed")
    for name, of in pages.items():
        judged, dropped = false_alarms(model, of, limit)
        print(f"  {name}: {len(dropped)} of {judged}, {len(dropped) / judged:.3%} {sorted(dropped)}")
    documents_of = Counter(code for code, _ in pages["clean"])
    by_language: dict[str, list[str]] = {}
    for (code, text), held in clean:
        if held or documents_of[code] < ENOUGH:
            by_language.setdefault(code, []).append(text)
    print(f"Mixtures of two languages, {MIXTURES} of each kind")
    for kind in ("two halves", "paragraphs", "sentences", "by turns"):
        print(f"  {kind}: {measure_mixtures(model, mixtures(kind, by_language), limit)}")
    print("Cost")
    long = [text for _, text in pages["clean"] if len(text.encode()) > LONG][::6]
    print(f"  over {LONG} bytes: {cost(model, long)}")
    print(f"  up to {LONG} bytes: {cost(model, [t for _, t in pages['clean'] if len(t.encode()) <= LONG][::6])}")


if __name__ == "__main__":
    main()
