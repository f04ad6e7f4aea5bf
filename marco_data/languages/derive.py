"""Limits, stop words and all else that a recipe needs of a new language, from clean text of it.

In: texts of the language, its code, and a shipped language to compare with. Out: a `NewLanguage`, and for each limit
what it rests on. A limit stays that of the other language unless it drops more of these texts than of that language's
prose (by DIFFERS): then it is loosened to the value that stands among these figures where the limit stands among those
(`match_limits.matched`). It is never tightened: how little clean text repeats itself says more of its length than of
the language. The other language's prose is known by percentiles, `reference_figures.csv`, which
`python -m benchmarks.reference_figures` makes. Knows nothing of files that a recipe reads.

Stop words are words of letters that are OFTEN of all words and stand in SPREAD of the documents, as they are spelled;
of a text with fewer than LEAST such words its LEAST most widespread.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import regex

from marco_data.errors import RecipeError
from marco_data.languages import NOT_LINGUISTIC, SHIPPED, Language, NewLanguage, canonical, know
from marco_data.languages.match_limits import DIFFERS, beyond, matched
from marco_data.languages.model import FEW, NO_LANGUAGE, READ_CHARACTERS, load_model
from marco_data.languages.script import dominant_scripts
from marco_data.step import Tools
from marco_data.steps.apply_limits import FINEWEB2_NAMES
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.words import split_words

FIGURES_CSV = Path(__file__).with_name("reference_figures.csv")
PERCENTILES = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)
DERIVED = tuple(limit for limit in FINEWEB2_NAMES if limit != "min_stop_words")
"""Limits that belong to a language. The others (length in words, hashes, bullets) are the same for all."""
MIN_STOP_WORDS = 2  # FineWeb-2's, for every language
OFTEN, SPREAD, LEAST, MOST = 0.008, 1 / 3, 8, 40
TAKEN_FOR = 0.01
"""The share of the documents from which on a label of the language model is one that the language is identified as."""
ENOUGH_DOCUMENTS, ENOUGH_WORDS = 100, 20_000
"""The hundredth of 100 documents is one, which is what the outermost percentiles are worth."""

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")


@dataclass(frozen=True)
class Derived:
    """A new language, what each limit rests on, and what a person should know of it."""

    new: NewLanguage
    evidence: Mapping[str, Mapping[str, object]]
    documents: int
    words: int
    warnings: tuple[str, ...]


def derive(texts: Sequence[str], code: str, *, like: str = "eng_Latn", name: str = "") -> Derived:
    """All that the files of `languages_from` say of `code`, found in clean texts of it."""
    know(())  # only shipped languages have reference figures
    like = canonical(like).code
    script = code.rpartition("_")[2]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise RecipeError("there is no text to derive limits from")
    column = pa.array(texts, pa.string())
    language = _language(code, name or code, script)
    words = [split_words(text, language) for text in texts]
    stop_words, few = stop_words_of(words)
    score, identified, warnings = _identified(column, language)
    count = sum(map(len, words))
    if len(texts) < ENOUGH_DOCUMENTS or count < ENOUGH_WORDS:
        warnings.insert(
            0,
            f"this rests on {len(texts):,} documents and {count:,} words; with fewer than {ENOUGH_DOCUMENTS} documents "
            f"or {ENOUGH_WORDS:,} words the limits are a guess",
        )
    if few:
        warnings.append(
            f"only {few} words are as frequent as stop words are; the {LEAST} most widespread stand for them"
        )
    new = NewLanguage(language, identified, {}, score, stop_words)
    limits, evidence = _limits(column, new, like)
    return Derived(
        NewLanguage(language, identified, limits, score, stop_words), evidence, len(texts), count, tuple(warnings)
    )


def _language(code: str, name: str, script: str) -> Language:
    """Words and shingles are those of a shipped language in the same script."""
    near = next((x for x in SHIPPED.values() if script in x.scripts), None)
    how = (near.words, near.shingle_unit, near.shingle_size) if near else ("unicode", "word", 5)
    return Language(code, name, "", (script,), *how, family="", region="", aliases=())  # type: ignore[arg-type]


def stop_words_of(documents: Sequence[Sequence[str]]) -> tuple[frozenset[str], int | None]:
    """The stop words of texts in words; and how many were found, where they were too few."""
    counts: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    for words in documents:
        letters = [word for word in words if _LETTERS.fullmatch(word)]
        counts.update(letters)
        spread.update(set(letters))
    total = max(counts.total(), 1)
    ranked = sorted(spread, key=lambda word: (-spread[word], -counts[word], word))
    often = [w for w in ranked if counts[w] >= OFTEN * total and spread[w] >= SPREAD * len(documents)]
    return frozenset(often[:MOST] if len(often) >= LEAST else ranked[:LEAST]), None if len(often) >= LEAST else len(
        often
    )


def _identified(texts: pa.Array, language: Language) -> tuple[float, tuple[str, ...], list[str]]:
    """The least score, what the embedded model takes the language for, and warnings."""
    from marco_data.languages.train import threshold  # it knows how models are trained: not for a plan

    reading = load_model("embedded", Tools()).read(texts, FEW)
    labels = Counter(reading.languages.to_pylist())
    warnings = []
    nothing = sum(n for label, n in labels.items() if label == NO_LANGUAGE or label.startswith(NOT_LINGUISTIC))
    if nothing:
        warnings.append(f"the language model sees no language in {nothing:,} of the {len(texts):,} documents")
    scripts = Counter(dominant_scripts(texts, READ_CHARACTERS).to_pylist())
    if other := len(texts) - sum(scripts[script] for script in language.scripts):
        most = ", ".join(str(script) for script, _ in scripts.most_common(2))
        warnings.append(f"{other:,} documents are not in the script of `{language.code}`; most are in {most}")
    taken = [
        label
        for label, n in labels.items()
        if n >= TAKEN_FOR * len(texts) and label not in (language.code, NO_LANGUAGE)
        if not label.startswith(NOT_LINGUISTIC)
    ]
    return threshold(reading.scores.tolist()), tuple(sorted(taken)), warnings


def _limits(
    texts: pa.Array, new: NewLanguage, like: str
) -> tuple[dict[str, float | None], dict[str, dict[str, object]]]:
    """The limits of a language, and by limit what it rests on."""
    know((new,))
    try:
        found = MeasureQuality().bind(new.language, Tools())(pa.record_batch({"text": texts})).columns
    finally:
        know(())
    limits: dict[str, float | None] = {}
    evidence: dict[str, dict[str, object]] = {}
    for row in _reference(like):
        limit = row["limit"]
        side, metric = limit.split("_", 1)
        figures = found[f"quality_{metric}"].to_numpy(zero_copy_only=False).astype(np.float64)
        value = float(row["value"]) if row["value"] else None
        like_drops = float(row["drops"])
        if value is not None and float(np.mean(beyond(side, value, figures))) - like_drops >= DIFFERS:
            spread = np.array([float(row[f"p{p}"]) for p in PERCENTILES])
            value = round(max(matched(value, spread, np.percentile(figures, PERCENTILES)), 0.0), 3)
        limits[limit] = value
        evidence[limit] = {
            "like": like,
            "like_value": row["value"],
            "like_drops": like_drops,
            "drops": round(float(np.mean(beyond(side, value, figures))), 4),
            "documents": len(texts),
        }
    limits["min_stop_words"] = MIN_STOP_WORDS
    few = found["quality_stop_words"].to_numpy(zero_copy_only=False)
    evidence["min_stop_words"] = {"drops": round(float(np.mean(few < MIN_STOP_WORDS)), 4), "documents": len(texts)}
    return limits, evidence


def _reference(like: str) -> list[dict[str, Any]]:
    with FIGURES_CSV.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["language"] == like]
