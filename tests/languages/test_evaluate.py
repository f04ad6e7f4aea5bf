"""Figures of a language model, and those of the one we ship where the test lines are at hand."""

import os
from pathlib import Path

import pytest

from marco_data.errors import RecipeError
from marco_data.languages.evaluate import (
    evaluate,
    f1,
    macro_f1,
    read_lines,
    report_documents,
    report_lines,
    report_no_language,
)
from marco_data.languages.labelled import Document


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
    assert macro_f1(evaluate(read_lines(folder / "lid_test.tsv"))) >= 0.972


LINES = """text\tlabel\tlength
the people of this country have not seen the children since the morning of that day\teng\tfull
las mujeres y los hombres de este pueblo trabajan todos los días del año\tspa\tfull
los niños de la escuela\tspa\tshort
гэта беларуская мова, і на ёй гавораць людзі ў гэтай краіне\tbel_Cyrl\tfull
"""


def test_a_report_of_lines_has_figures_by_length_rejections_and_families(tmp_path):
    (tmp_path / "lines.tsv").write_text(LINES, encoding="utf-8")
    report = "\n".join(report_lines(tmp_path / "lines.tsv", "embedded"))
    assert "macro-F1 1.0000 over 2 languages, 3 lines: all lines" in report
    assert "macro-F1 1.0000 over 2 languages, 2 lines: 50 characters and more" in report
    assert "macro-F1 1.0000 over 1 languages, 1 lines: length `short`" in report
    assert "rejected 1.0000 of 1 bel_Cyrl" in report
    assert [line.split()[-5:] for line in report.splitlines() if line.split()[:1] == ["spa_Latn"]][-1] == list("00200")


def test_a_report_of_documents_counts_ours_and_what_is_rejected():
    documents = [
        Document("1", "the people of this country have not seen it", "eng_Latn", "made up"),
        Document("2", "the people of this country have not seen it", "deu_Latn", "made up"),
        Document("3", "людзі ў гэтай краіне гавораць па-беларуску", "bel_Cyrl", "made up"),
    ]
    report = "\n".join(report_documents(documents, "embedded"))
    assert "right 0.5000" in report
    assert "1 deu_Latn as eng_Latn" in report
    assert "rejected 1.0000 of 1 bel_Cyrl" in report


def test_a_report_of_no_language_has_each_kind_and_file(tmp_path):
    (tmp_path / "a.c").write_text("int x = strlen(buf);\nfree(ptr);\n", encoding="utf-8")
    report = list(report_no_language([tmp_path / "a.c"], "embedded", seed=1, count=10))
    assert [line.split("of ")[1].split(";")[0] for line in report] == [
        "1 a.c", "10 zxx_Code", "10 zxx_Filler", "10 zxx_Noise",
    ]  # fmt: skip
