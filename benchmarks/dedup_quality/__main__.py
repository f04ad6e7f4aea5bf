"""`python -m benchmarks.dedup_quality`: measure, write `benchmarks/DEDUP_QUALITY.md`.

Needs MARCO_TEST_DATA, a folder with real documents in `clean/`; without it this says so. About ten minutes of one
core; most of its memory is for the cluster of a million (`--largest`).
"""

import argparse
import random
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from benchmarks.corpus import data_folder
from benchmarks.dedup_quality import clusters, pairs, templates, translations, units
from benchmarks.dedup_quality.report import report
from benchmarks.dedup_quality.texts import CLASSES, Tokens, articles
from benchmarks.language_id import documents
from marco_data.languages import LANGUAGES, from_label

REPORT = Path(__file__).parents[1] / "DEDUP_QUALITY.md"
SEED = 4
TEMPLATED = ("eng_Latn", "arb_Arab", "zho_Hans", "tha_Thai")


def main() -> None:
    arguments = _arguments()
    if data_folder() is None:
        print("MARCO_TEST_DATA is not set: quality is measured on a folder of real documents that it names")
        return
    told, removals = [], []
    for script, codes in CLASSES.items():
        for code in codes:
            more = pairs.measure(script, _articles(code), LANGUAGES[code], arguments.pairs // len(codes), SEED)
            told += more[0]
            removals += more[1]
        _say(f"{script}: {sum(one.script == script for one in told)} pairs")
    translated = translations.measure(_translated())
    _say("translations")
    unit = [row for code in units.UNSPACED for row in units.measure(code, _articles(code), arguments.changed, SEED)]
    _say("units")
    templated = [row for code in TEMPLATED for row in templates.measure(code, _articles(code), 1000, SEED)]
    _say("templates")
    left, memory = clusters.measure_all(arguments.largest)
    shown = ["python -m benchmarks.dedup_quality", *sys.argv[1:]]
    text = report(told, removals, translated, unit, left, memory, templated, templates.short(), " ".join(shown))
    (arguments.out or REPORT).write_text(text, "utf-8")
    print(text)


@cache
def _rows(file: Path) -> list[tuple[str, str, str]]:
    """(language, URL, text) of each document."""
    return [(from_label(row["label"]), row["url"], row["text"]) for row in documents(file)]


def _all_rows() -> list[tuple[str, str, str]]:
    folder = data_folder()
    assert folder is not None
    return [row for file in sorted((folder / "clean").glob("*.jsonl.zst")) for row in _rows(file)]


@cache
def _articles(code: str) -> list[Tokens]:
    texts = [text for language, _, text in _all_rows() if language == code]
    return articles(texts, code, random.Random(SEED))


def _translated() -> dict[str, dict[str, str]]:
    """The items that are there in at least two languages; of several texts at one URL the longest."""
    items: dict[str, dict[str, str]] = defaultdict(dict)
    for language, url, text in _all_rows():
        if language in LANGUAGES and url and len(text) > len(items[url].get(language, "")):
            items[url][language] = text
    return {url: texts for url, texts in items.items() if len(texts) > 1 and "#" in url}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.dedup_quality", description="Quality of near duplicates.")
    parser.add_argument("--pairs", type=int, default=4000, help="pairs a script class (4000)")
    parser.add_argument("--changed", type=int, default=2000, help="texts an amount of change (2000)")
    parser.add_argument("--largest", type=int, default=1_000_000, help="documents of the largest cluster (1000000)")
    parser.add_argument("--out", type=Path, help="where to write, if not benchmarks/DEDUP_QUALITY.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
