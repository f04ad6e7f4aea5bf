"""Each of the 64 languages has an instruction and labels in its own words and script."""

import csv
from dataclasses import fields
from importlib import resources

import pytest

from marco_data.errors import RecipeError
from marco_data.generation.wording import Wording, wording
from marco_data.languages import LANGUAGES
from marco_data.languages.model import load_model
from marco_data.languages.script import dominant_script
from marco_data.step import Tools

LABELS = ("question", "answer", "options", "explanation", "problem", "solution")


def test_every_language_has_a_row_and_no_other_has():
    text = resources.files("marco_data.generation").joinpath("wording.csv").read_text(encoding="utf-8")
    assert [row["code"] for row in csv.DictReader(text.splitlines())] == list(LANGUAGES)


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_instruction_is_in_its_language(code):
    found, score = load_model("embedded", Tools()).predict(wording(code).instruction)
    assert found == code
    assert score > 0.5


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_word_is_in_the_script_of_its_language(code):
    words = wording(code)
    scripts = {dominant_script(getattr(words, name)) for name in ("autonym", "instruction", *LABELS)}
    assert scripts <= set(LANGUAGES[code].scripts)


@pytest.mark.parametrize("code", LANGUAGES)
def test_labels_are_short_and_tell_their_texts_apart(code):
    words = wording(code)
    labels = [getattr(words, name) for name in LABELS]
    assert len({words.question, words.answer, words.options, words.explanation, words.solution}) == 5
    assert [label for label in labels if not 0 < len(label) <= 24 or label != label.strip() or ":" in label] == []


def test_no_field_is_blank_and_no_two_languages_share_an_instruction():
    everyone = [wording(code) for code in LANGUAGES]
    assert [w.code for w in everyone if any(not getattr(w, field.name) for field in fields(Wording))] == []
    assert len({w.instruction for w in everyone}) == len({w.autonym for w in everyone}) == 64


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("de", "Frage: ?"),
        ("fr", "Question : ?"),
        ("zh", "问题：?"),
        ("ja", "質問：?"),
        ("km", "សំណួរ៖ ?"),
        ("am", "ጥያቄ፦ ?"),
        ("ar", "السؤال: ?"),
    ],
)
def test_a_label_has_the_colon_of_its_language(code, written):
    words = wording(code)
    assert words.labelled(words.question, "?") == written


def test_a_language_is_found_by_any_of_its_codes_and_no_other_is():
    assert wording("ko") is wording("kor_Hang")
    assert wording("ko").language_name == "Korean"
    with pytest.raises(RecipeError, match="`xx` is not one of the 64 languages"):
        wording("xx")
