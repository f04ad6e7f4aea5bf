"""How right language identification is: our answers beside fastText's with the same model, and beside the truth.

    python -m benchmarks.language_id [--model FILE] [--lid176 lid.176.ftz]

Reads the folder of MARCO_TEST_DATA: the corpus of `corpus.py` and, as far as they are there, `lid_test.tsv`,
`lid_stress.tsv` and `web/turku_register_docs.jsonl.zst`. Prints how many labels are fastText's, long texts sampled and
read whole, and for each set the macro-F1 or the share that is right. Speed is in the table of `python -m benchmarks`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from benchmarks.corpus import corpus, data_folder
from marco_data.languages import LANGUAGES, from_label
from marco_data.languages.evaluate import macro_f1, read_lines
from marco_data.languages.model import LanguageModel, load_model
from marco_data.step import Tools

Labelled = list[tuple[str, str]]
"""Pairs of the true label and a text."""


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.language_id", description="Labels beside fastText's.")
    parser.add_argument("--model", default="embedded", help="a fastText file (the one that ships)")
    parser.add_argument("--lid176", metavar="FILE", help="fastText's lid.176.ftz or .bin, as a second model")
    arguments = parser.parse_args()
    data = data_folder()
    if data is None:
        parser.error("set MARCO_TEST_DATA to a folder of real documents")
    models = {arguments.model: load_model(arguments.model, Tools())}
    if arguments.lid176:
        models["lid.176"] = load_model(arguments.lid176, Tools())
    print("Labels that are fastText's, same model")
    texts = {"documents": [text.text for text in corpus()]}
    if (data / "lid_test.tsv").is_file():
        texts["lines of lid_test"] = [text for _, text in read_lines(data / "lid_test.tsv")]
    for title, plain in texts.items():
        for name, model in models.items():
            print(f"  {name}, {title}: {_agreement(model, plain)}")
    print("Right answers")
    for title, lines in _scored(data).items():
        print(f"  {title}:", ", ".join(f"{name} {_macro_f1(model, lines):.4f}" for name, model in models.items()))
    pages = _pages(data)
    if pages:
        shares = (f"{name} {_share_right(model, pages):.4f}" for name, model in models.items())
        print(f"  share of {len(pages)} turku documents:", ", ".join(shares))


def documents(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl.zst."""
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _answers(model: LanguageModel, texts: Sequence[str], *, sampled: bool = True) -> list[str]:
    found: list[str] = model.predict_all(pa.array(texts, pa.string()), sampled=sampled)[0].to_pylist()
    return found


def _agreement(model: LanguageModel, texts: Sequence[str]) -> str:
    reference = [model.reference(text)[0] for text in texts]
    told = []
    for read in ("sampled", "whole"):
        same = sum(map(str.__eq__, _answers(model, texts, sampled=read == "sampled"), reference))
        told.append(f"{read} {same} of {len(texts)} ({same / len(texts):.3%})")
    return ", ".join(told)


def _macro_f1(model: LanguageModel, lines: Labelled) -> float:
    found = _answers(model, [text for _, text in lines])
    return macro_f1(Counter(zip((label for label, _ in lines), found, strict=True)))


def _share_right(model: LanguageModel, pages: Labelled) -> float:
    found = _answers(model, [text for _, text in pages])
    return sum(map(str.__eq__, (label for label, _ in pages), found)) / len(pages)


def _scored(data: Path) -> dict[str, Labelled]:
    """The test lines of each set that is there, of our languages."""
    sets: dict[str, Labelled] = {}
    if (data / "lid_test.tsv").is_file():
        lines = list(read_lines(data / "lid_test.tsv"))
        sets["lid_test, macro-F1"] = lines
        sets["lid_test, 50 characters and more, macro-F1"] = [line for line in lines if len(line[1]) >= 50]
    if (data / "lid_stress.tsv").is_file():
        rows = [row.split("\t") for row in (data / "lid_stress.tsv").read_text(encoding="utf-8").splitlines()[1:]]
        known = [(from_label(row[0]), row[1], row[3]) for row in rows if from_label(row[0]) in LANGUAGES]
        for length in ("full", "short"):
            sets[f"lid_stress, {length} lines, macro-F1"] = [(label, text) for label, text, of in known if of == length]
    return sets


def _pages(data: Path) -> Labelled:
    file = data / "web" / "turku_register_docs.jsonl.zst"
    if not file.is_file():
        return []
    return [(from_label(row.get("label") or row["language"]), row["text"]) for row in documents(file)]


if __name__ == "__main__":
    main()
