"""MeasureQuality: the step around the metrics."""

import pyarrow as pa
import pytest

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.step import StepOutput, Tools, fingerprint, run_step
from marco_data.steps.measure_quality import METRICS, MeasureQuality, stop_words_of

ENGLISH = LANGUAGES["eng_Latn"]


def measure(step: MeasureQuality, *texts: str, language: str = "eng_Latn") -> StepOutput:
    return run_step(step, step.bind(LANGUAGES[language], Tools()), pa.record_batch({"text": list(texts)}))


def test_figures_are_rounded_and_counts_are_integers():
    columns = measure(MeasureQuality(), "The cat sat with the dog, and the dog sat with the cat.", "").columns
    assert list(columns) == [f"quality_{metric}" for metric in METRICS]
    assert columns["quality_words"].to_pylist() == [13, 0]
    assert columns["quality_stop_words"].to_pylist() == [3, 0]  # `with`, `the`, `and`
    assert columns["quality_words"].type == pa.int32()
    assert columns["quality_word_length"].to_pylist() == [round(41 / 13, 4), 0.0]


def test_stop_words_are_those_of_the_language():
    assert "และ" in stop_words_of("tha_Thai")
    assert "the" in stop_words_of("eng_Latn")
    assert all(len(stop_words_of(code)) >= 4 for code in LANGUAGES)


def test_without_a_language_it_says_what_is_missing():
    with pytest.raises(RecipeError, match="language"):
        MeasureQuality().bind(None, Tools())


def test_the_stop_words_and_the_word_splitter_are_identity():
    identity = MeasureQuality().identity(Tools())
    assert len(identity["content"]["stop_words"]) == 64
    assert {"icu4py", "regex"} <= set(identity["packages"])
    other = MeasureQuality(short_line_characters=40).identity(Tools())
    assert fingerprint(other) != fingerprint(identity)
