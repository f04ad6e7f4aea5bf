"""The metrics against datatrove's filters fed the same words: the figure is the one at which the verdict turns."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.languages import LANGUAGES, Language
from marco_data.quality_metrics import DUPLICATE_N, TOP_N, quality_metrics
from marco_data.steps.measure_quality import METRICS, stop_words_of
from marco_data.words import split_words

pytest.importorskip("datatrove")
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils.word_tokenizers import WordTokenizer

SAMPLE = Path(__file__).parent.parent / "recipes" / "sample" / "text"
INF = math.inf

REPETITION_OFF: dict[str, Any] = dict.fromkeys(
    ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")
) | {"top_n_grams": (), "dup_n_grams": ()}
FINEWEB_OFF = {"line_punct_thr": 0, "short_line_thr": INF, "char_duplicates_ratio": INF, "new_line_ratio": INF}
GOPHER_OFF: dict[str, Any] = dict.fromkeys(
    (
        "min_doc_words",
        "max_doc_words",
        "min_avg_word_length",
        "max_avg_word_length",
        "max_symbol_word_ratio",
        "max_bullet_lines_ratio",
        "max_ellipsis_lines_ratio",
        "max_non_alpha_words_ratio",
        "min_stop_words",
    )
)


class OurWords(WordTokenizer):
    """Feeds our words to datatrove."""

    def __init__(self, language: Language) -> None:
        super().__init__(language.code)
        self.ours = language

    def word_tokenize(self, text: str) -> list[str]:
        return split_words(text, self.ours)

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError


def filter_at(metric: str, limit: float, stop_words: frozenset[str]) -> Any:
    """(filter class, arguments) where only the rule of `metric` is on, and its limit is `limit`."""
    if metric.startswith("top_"):
        return GopherRepetitionFilter, REPETITION_OFF | {"top_n_grams": ((int(metric[4]), limit),)}
    if metric.startswith("duplicate_") and metric.endswith("_grams"):
        return GopherRepetitionFilter, REPETITION_OFF | {"dup_n_grams": ((int(metric.split("_")[1]), limit),)}
    return {
        "duplicate_lines": (GopherRepetitionFilter, REPETITION_OFF | {"dup_line_frac": limit}),
        "line_punctuation": (FineWebQualityFilter, FINEWEB_OFF | {"line_punct_thr": limit}),
        "short_lines": (FineWebQualityFilter, FINEWEB_OFF | {"short_line_thr": limit}),
        "duplicate_line_characters": (FineWebQualityFilter, FINEWEB_OFF | {"char_duplicates_ratio": limit}),
        "new_lines": (FineWebQualityFilter, FINEWEB_OFF | {"new_line_ratio": limit}),
        "words": (GopherQualityFilter, GOPHER_OFF | {"min_doc_words": limit}),
        "word_length": (GopherQualityFilter, GOPHER_OFF | {"max_avg_word_length": limit}),
        "hashes": (GopherQualityFilter, GOPHER_OFF | {"max_symbol_word_ratio": limit}),
        "ellipses": (GopherQualityFilter, GOPHER_OFF | {"max_symbol_word_ratio": limit}),
        "bullet_lines": (GopherQualityFilter, GOPHER_OFF | {"max_bullet_lines_ratio": limit}),
        "ellipsis_lines": (GopherQualityFilter, GOPHER_OFF | {"max_ellipsis_lines_ratio": limit}),
        "alphabetic_words": (GopherQualityFilter, GOPHER_OFF | {"max_non_alpha_words_ratio": limit}),
        "stop_words": (GopherQualityFilter, GOPHER_OFF | {"min_stop_words": limit, "stop_words": stop_words}),
    }[metric]


MINIMA = ("line_punctuation", "words", "alphabetic_words", "stop_words")


def assert_equals_datatrove(text: str, language: Language) -> None:
    """datatrove keeps the text when a limit is our figure, and drops it when the limit is one step tighter."""
    words = split_words(text, language)
    stop_words = stop_words_of(language.code)
    tokenizer = OurWords(language)
    metrics = quality_metrics(text, words, stop_words, 30)
    for metric, value in metrics.items():
        if metric in ("hashes", "ellipses") and value < max(metrics["hashes"], metrics["ellipses"]):
            continue  # datatrove has one limit for both: the larger one decides
        if metric.startswith(("top_", "duplicate_")) and len(words) < int("".join(filter(str.isdigit, metric)) or 0):
            assert value == 0
            continue  # datatrove has no n-grams to judge
        tighter = math.nextafter(value, INF if metric in MINIMA else -INF)
        for limit, keeps in ((value, True), (tighter, False)):
            kind, arguments = filter_at(metric, limit, stop_words)
            verdict = kind(**arguments, language=tokenizer).filter(Document(text=text, id="0"))
            assert (verdict is True) == keeps, f"{metric} {value} at {limit}: {verdict}"


@pytest.mark.parametrize("code", LANGUAGES)
def test_figures_equal_datatrove_on_the_sample(code: str):
    text = (SAMPLE / f"{code}.txt").read_text("utf-8")[:1500]
    assert_equals_datatrove(text, LANGUAGES[code])


@pytest.mark.parametrize("code", ["eng_Latn", "tha_Thai", "zho_Hans", "ben_Beng", "arb_Arab", "amh_Ethi"])
def test_figures_equal_datatrove_on_clean_documents(code: str):
    root = os.environ.get("MARCO_TEST_DATA")
    if root is None:
        pytest.skip("MARCO_TEST_DATA is not set")
    zstandard = pytest.importorskip("zstandard")

    language = LANGUAGES[code]
    with zstandard.open(Path(root) / "clean" / f"{language.iso639_1}.jsonl.zst", "rt", encoding="utf-8") as lines:
        for line, _ in zip(lines, range(15), strict=False):
            assert_equals_datatrove(json.loads(line)["text"][:5000], language)


WORDS = ["the", "of", "cat", "Ünï", "4", "12.5", ".", "...", "…", "#", "•", "€", "។", "。", "'", "!"]
SPACES = [" ", " ", " ", "\t", "    ", "\n", "\n\n", "\r\n", "\u2028"]
PIECES = st.sampled_from([*WORDS, *SPACES, "- ", "same line.\n", "na na na na na na na na "])


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join))
def test_figures_equal_datatrove_on_made_up_text(text: str):
    if any(word.isalpha() for word in split_words(text, LANGUAGES["eng_Latn"])):
        assert_equals_datatrove(text, LANGUAGES["eng_Latn"])


@pytest.mark.parametrize("text", ["", " ", "\n\n", ".", "…"])
def test_every_figure_is_defined_where_there_are_no_words(text: str):
    metrics = quality_metrics(text, split_words(text, None), frozenset(), 30)
    assert tuple(metrics) == METRICS
    assert all(math.isfinite(value) and value >= 0 for value in metrics.values())


def test_metrics_come_in_the_order_of_fineweb2():
    gopher_repetition = ["duplicate_lines", *(f"top_{n}_gram" for n in TOP_N)]
    assert list(METRICS)[:4] == gopher_repetition
    assert list(METRICS)[4:10] == [f"duplicate_{n}_grams" for n in DUPLICATE_N]
    assert list(METRICS)[10:14] == ["line_punctuation", "short_lines", "duplicate_line_characters", "new_lines"]
    assert METRICS[-1] == "stop_words"


@pytest.mark.parametrize("unit", ["The quick brown fox {} jumps.\n", "word ", "a", "中"])
def test_a_document_of_a_megabyte_takes_seconds(unit: str):
    text = "".join(unit.format(i) for i in range(1_000_000 // len(unit)))
    start = time.perf_counter()
    quality_metrics(text, split_words(text, None), frozenset(), 30)
    assert time.perf_counter() - start < 20  # measured 0.6 to 3
