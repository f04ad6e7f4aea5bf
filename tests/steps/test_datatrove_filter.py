"""DatatroveFilter: real filters of datatrove, their verdicts and what a wrong recipe is told."""

from typing import Any

import pyarrow as pa
import pytest

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.step import StepOutput, Tools, run_step
from marco_data.steps import user_step
from marco_data.steps.datatrove_filter import DatatroveFilter

pytest.importorskip("datatrove")
FILTERS = "datatrove.pipeline.filters"
PROSE = "The cat sat on the mat and the dog sat with the cat. " * 2
THAI = "สวัสดีครับ นี่คือหนังสือ"


def judge(name: str, *texts: str, language: str | None = "eng_Latn", **arguments: Any) -> StepOutput:
    step = DatatroveFilter(filter=f"{FILTERS}.{name}", arguments=arguments)
    batch = pa.record_batch(
        {"id": [str(i) for i in range(len(texts))], "text": list(texts), "url": [None] * len(texts)}
    )
    return run_step(step, step.bind(None if language is None else LANGUAGES[language], Tools()), batch)


@pytest.mark.parametrize(
    ("name", "text", "arguments", "reason"),
    [
        ("GopherRepetitionFilter", "na na na na na na na na na na", {}, "top_2_gram"),
        ("GopherQualityFilter", "Too short.", {}, "gopher_short_doc"),
        ("FineWebQualityFilter", "no full stop\n" * 9, {}, "line_punct_ratio"),
        ("C4QualityFilter", "Lorem ipsum dolor sit amet.", {}, "lorem_ipsum"),
        ("RegexFilter", "a secret word", {"regex_exp": "secret"}, None),
    ],
)
def test_a_verdict_becomes_a_reason(name: str, text: str, arguments: dict[str, Any], reason: str | None):
    output = judge(name, text, **arguments)
    said = output.reason.to_pylist()[0]
    assert said.startswith(f"datatrove/{name}")
    if reason is not None:
        assert said == f"datatrove/{name}/{reason}"


def test_what_a_filter_keeps_is_kept():
    assert judge("C4QualityFilter", PROSE, min_num_sentences=1).reason.to_pylist() == [None]


def test_a_filter_with_a_language_counts_our_words():
    arguments = {
        "min_doc_words": 5,
        "min_avg_word_length": None,
        "max_non_alpha_words_ratio": None,
        "min_stop_words": None,
    }
    assert judge("GopherQualityFilter", THAI, language="tha_Thai", **arguments).reason.to_pylist() == [None]
    too_many = arguments | {"min_doc_words": 6}
    assert judge("GopherQualityFilter", THAI, language="tha_Thai", **too_many).reason.to_pylist() == [
        "datatrove/GopherQualityFilter/gopher_short_doc"
    ]


def test_what_a_filter_edits_is_edited():
    output = judge("C4QualityFilter", "A sentence to keep here.\nno full stop", min_num_sentences=1)
    assert output.columns["text"].to_pylist() == ["A sentence to keep here."]


def test_a_document_a_filter_fails_on_fails_alone():
    output = judge("GopherQualityFilter", "", PROSE * 9, min_doc_words=None)  # datatrove divides by no words
    assert output.failed.to_pylist() == ["datatrove_filter/crashed", None]


@pytest.mark.parametrize(
    ("filter_", "arguments", "says"),
    [
        ("datatrove.pipeline.filters.GopherFilter", {}, "is not a datatrove filter"),
        ("datatrove.pipelines.filters.GopherQualityFilter", {}, "cannot import"),
        ("GopherFilter", {}, "is not a datatrove filter"),
        ("datatrove.data.Document", {}, "is not a datatrove filter"),
        (f"{FILTERS}.GopherQualityFilter", {"min_words": 3}, "takes no argument `min_words`"),
        (f"{FILTERS}.RegexFilter", {}, "needs the argument `regex_exp`"),
    ],
)
def test_a_mistake_is_named_when_the_recipe_is_read(filter_: str, arguments: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        DatatroveFilter(filter=filter_, arguments=arguments)


def test_a_recipe_names_a_filter_by_its_class_alone():
    step = user_step("datatrove:RegexFilter", {"regex_exp": "secret"})
    batch = pa.record_batch({"id": ["1"], "text": ["a secret"], "url": pa.array([None], pa.string())})
    output = run_step(step, step.bind(LANGUAGES["eng_Latn"], Tools()), batch)
    assert output.reason.to_pylist()[0].startswith("datatrove/RegexFilter")


def test_a_mistake_in_a_recipe_is_one_recipe_error_with_its_remedy():
    with pytest.raises(RecipeError, match=r"step `datatrove:Gopher`: `Gopher` is not a datatrove filter") as told:
        user_step("datatrove:Gopher", {})
    assert "in full" in (told.value.hint or "")


def test_the_version_of_datatrove_is_identity():
    step = DatatroveFilter(filter=f"{FILTERS}.GopherQualityFilter")
    assert set(step.identity(Tools())["packages"]) == {"datatrove", "icu4py"}
