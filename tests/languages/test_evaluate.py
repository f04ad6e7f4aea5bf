"""Figures of a language model, and those of the one we ship where the test lines are at hand."""

import os
from pathlib import Path

import pytest

from marco_data.errors import RecipeError
from marco_data.languages.evaluate import evaluate, f1, macro_f1, read_lines


def test_lines_of_other_languages_count_against_what_they_were_taken_for():
    pairs = {("eng_Latn", "eng_Latn"): 8, ("deu_Latn", "eng_Latn"): 2, ("deu_Latn", "deu_Latn"): 8}
    pairs |= {("ceb_Latn", "deu_Latn"): 2}
    assert f1(pairs) == {"deu_Latn": 16 / 20, "eng_Latn": 16 / 18}
    assert macro_f1(pairs) == round((16 / 20 + 16 / 18) / 2, 4)
    assert macro_f1({}) == 0.0


def test_lines_are_read_with_and_without_a_header(tmp_path):
    (tmp_path / "plain.tsv").write_text("bn\tবাংলা\textra\n", encoding="utf-8")
    (tmp_path / "header.tsv").write_text("source\ttext\tlabel\nx\tবাংলা\tben_Beng\n", encoding="utf-8")
    assert list(read_lines(tmp_path / "plain.tsv")) == [("ben_Beng", "বাংলা")]
    assert list(read_lines(tmp_path / "header.tsv")) == [("ben_Beng", "বাংলা")]


def test_a_line_without_a_text_is_named(tmp_path):
    (tmp_path / "bad.tsv").write_text("bn\tবাংলা\nbn\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="row 2"):
        list(read_lines(tmp_path / "bad.tsv"))


@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA: the folder with lid_test.tsv")
def test_the_shipped_model_is_as_good_as_its_card_says():
    folder = Path(os.environ["MARCO_TEST_DATA"])
    assert macro_f1(evaluate(read_lines(folder / "lid_test.tsv"))) >= 0.96
