"""Each figure of the kernel beside `quality_metrics`, its twin in plain Python: equal to the last bit."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels import quality
from marco_data.kernels.characters import characters
from marco_data.languages import LANGUAGES, Language
from marco_data.quality_metrics import SYMBOLS, TERMINALS, quality_metrics
from marco_data.steps.measure_quality import DECIMALS, METRICS, rounded, stop_words_of
from marco_data.words import find_words, split_words, texts_of

SAMPLE = Path(__file__).parents[2] / "recipes" / "sample" / "text"
ENGLISH = LANGUAGES["eng_Latn"]
ODD = [*".…#•-\u2013 \n\r\t\x0b\x0c\x1c\x85\u2028\u202f\u200b\u0301ab", "...", "\r\n", "\n\n", "the", " of ", "។", "。"]


def figures(texts: list[str], language: Language, stop_words: frozenset[str]) -> list[list[float]]:
    batch = texts_of(pa.array(texts, pa.string()))
    stops = quality.stop_word_set([word.encode() for word in sorted(stop_words)])
    table = characters(SYMBOLS, TERMINALS)
    return quality.measure(*batch, *find_words(batch, language), table, stops, 30).tolist()


def assert_equal_twins(texts: list[str], language: Language) -> None:
    stop_words = stop_words_of(language.code)
    for text, row in zip(texts, figures(texts, language, stop_words), strict=True):
        twin = quality_metrics(text, split_words(text, language), stop_words, 30)
        assert dict(zip(METRICS, row, strict=True)) == twin


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"]), max_size=60).map("".join)))
def test_figures_of_any_unicode_equal_their_twins(texts):
    assert_equal_twins(texts, ENGLISH)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(["a", "b", "ab", "ba", "\n", " ", "the"]), max_size=150), st.sampled_from(["", " "]))
def test_figures_of_texts_that_repeat_themselves_equal_their_twins(words, joint):
    assert_equal_twins([joint.join(words)], ENGLISH)


def test_n_grams_are_equal_wherever_their_spaces_are():
    assert_equal_twins(["ab c d e f g. a bc d e f g. a b cd e f g"], ENGLISH)


@pytest.mark.parametrize("code", LANGUAGES)
def test_figures_of_the_sample_equal_their_twins(code):
    assert_equal_twins([(SAMPLE / f"{code}.txt").read_text("utf-8")], LANGUAGES[code])


@pytest.mark.slow
@pytest.mark.parametrize("code", LANGUAGES)
def test_figures_of_real_documents_equal_their_twins(code, test_data):
    zstandard = pytest.importorskip("zstandard")
    language = LANGUAGES[code]
    with zstandard.open(test_data / "clean" / f"{language.iso639_1}.jsonl.zst", "rt", encoding="utf-8") as lines:
        assert_equal_twins([json.loads(line)["text"] for line in lines], language)


@pytest.mark.parametrize("unit", ["The quick brown fox {} jumps.\n", "word ", "a", "-", "\n", "a\n", "é"])
def test_a_document_of_a_megabyte_takes_no_time(unit):
    text = "".join(unit.format(i) for i in range(1_000_000 // len(unit)))
    figures(["a"], ENGLISH, frozenset())
    start = time.perf_counter()
    figures([text], ENGLISH, frozenset())
    assert time.perf_counter() - start < 3  # measured 0.02 to 0.2


@given(st.lists(st.floats(0, 1e7) | st.integers(0, 10**6).map(lambda n: n / 32) | st.just(0.00005)))
def test_rounding_is_pythons(values):
    assert rounded(np.array(values, np.float64)).tolist() == [round(value, DECIMALS) for value in values]
    assert all(map(math.isfinite, values))
