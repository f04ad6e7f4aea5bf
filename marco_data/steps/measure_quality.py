"""Measure quality: `text` in, one `quality_<metric>` column for each metric of `quality_metrics` out.

The figures are those of `marco_data.quality_metrics` to the last bit; `kernels.quality` works them out.
It judges nothing: limits live in `apply_limits`, so that a changed limit re-decides without reading text.
Figures are rounded to 1e-4, so that a limit gives the same verdict on every processor.
"""

import csv
import hashlib
from functools import cache
from importlib import resources
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from marco_data.errors import RecipeError
from marco_data.languages import Language, new_digest, new_languages
from marco_data.quality_metrics import SYMBOLS, TERMINALS, quality_metrics
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools
from marco_data.words import find_words, texts_of

COUNTS = ("words", "stop_words")
DECIMALS = 4
METRICS = tuple(quality_metrics("", [], (), 0))
Figures = npt.NDArray[np.float64]


class MeasureQuality(Step):
    """The quality figures of each document, by the words and the stop words of its language."""

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema(
        [(f"quality_{metric}", pa.int32() if metric in COUNTS else pa.float64()) for metric in METRICS]
    )
    packages: ClassVar[tuple[str, ...]] = ("icu4py", "regex", UNICODE)

    stop_words: Literal["fineweb2"] = "fineweb2"
    short_line_characters: int = Field(30, ge=0)

    def content(self, tools: Tools) -> dict[str, str]:
        return {"stop_words": stop_words_digest()} | new_digest("iso639_1", "words", "stop_words")

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        if language is None:
            raise RecipeError(
                "step `measure_quality` needs to know the language of a document",
                hint="put `identify_language` before it",
            )
        from marco_data.kernels import quality  # numba takes 0.6 s to import: not for a plan
        from marco_data.kernels.characters import characters

        stop_words = quality.stop_word_set([word.encode() for word in sorted(stop_words_of(language.code))])
        table = characters(SYMBOLS, TERMINALS)

        def measure(batch: pa.RecordBatch) -> StepOutput:
            texts = texts_of(batch.column("text"))
            words = find_words(texts, language)
            places = (words.starts, words.ends, words.seen, words.first)
            figures = quality.measure(texts.data, texts.offsets, *places, table, stop_words, self.short_line_characters)
            columns = {
                field.name: pa.array(column.astype(field.type.to_pandas_dtype(), copy=False), field.type)
                for field, column in zip(self.adds, np.ascontiguousarray(rounded(figures).T), strict=True)
            }
            return StepOutput(columns=columns)

        return measure


def rounded(figures: Figures) -> Figures:
    """Each figure as Python's `round(figure, 4)` has it: of what is written in decimals, not of a product."""
    scaled = figures * 10**DECIMALS
    out: Figures = np.rint(scaled) / 10**DECIMALS
    for place in zip(*np.nonzero(np.abs(scaled - np.floor(scaled) - 0.5) < 1e-3), strict=True):
        out[place] = round(float(figures[place]), DECIMALS)
    return out


def stop_words_of(language: str) -> frozenset[str]:
    """The stop words of one language code, as they are spelled (case counts)."""
    new = new_languages().get(language)
    return _stop_words().get(language, frozenset()) if new is None else new.stop_words


@cache
def _stop_words() -> dict[str, frozenset[str]]:
    words: dict[str, set[str]] = {}
    for row in csv.DictReader(_stop_words_text().splitlines()):
        words.setdefault(row["language"], set()).add(row["word"])
    return {language: frozenset(found) for language, found in words.items()}


def _stop_words_text() -> str:
    return (resources.files("marco_data.languages") / "stop_words.csv").read_text("utf-8")


@cache
def stop_words_digest() -> str:
    """SHA-256 of the stop words file."""
    return hashlib.sha256(_stop_words_text().encode()).hexdigest()
