"""The agreement report: its oracle is datatrove itself, its limits are those shipped, its command runs without data.

Maltese needs no tokenizer of datatrove's extras, so it stands for all languages where they are not installed.
"""

import csv
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("datatrove")
from datatrove.data import Document as DatatroveDocument
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

from benchmarks.agreement import segmentation
from benchmarks.agreement.figures import Measured, measure
from benchmarks.agreement.oracle import Missing, tokenizer_of
from benchmarks.agreement.texts import DERIVED, REFERENCE, Document, documents
from benchmarks.agreement.verdicts import Row, broken, derive, judged
from marco_data.languages import LANGUAGES
from marco_data.quality_metrics import DUPLICATE_N, TOP_N
from marco_data.steps import apply_limits
from marco_data.steps.apply_limits import Limits, load_limits
from marco_data.steps.measure_quality import METRICS, stop_words_of

ROOT = Path(__file__).parents[1]
CSV = Path(apply_limits.__file__).parents[1] / "languages" / "limits_for_our_words.csv"
SHIPPED = list(csv.DictReader(CSV.read_text("utf-8").splitlines()))


def filters_with(limits: Limits, language: str) -> list[Any]:
    """datatrove's filters as FineWeb-2 sets them up."""
    words = tokenizer_of(language)
    return [
        GopherRepetitionFilter(
            dup_line_frac=limits.max_duplicate_lines,
            dup_para_frac=0,
            dup_line_char_frac=0,
            dup_para_char_frac=0,
            top_n_grams=tuple((n, getattr(limits, f"max_top_{n}_gram")) for n in TOP_N),
            dup_n_grams=tuple((n, getattr(limits, f"max_duplicate_{n}_grams")) for n in DUPLICATE_N),
            language=words,
        ),
        FineWebQualityFilter(
            line_punct_thr=limits.min_line_punctuation,
            short_line_thr=999,
            char_duplicates_ratio=0.1,
            new_line_ratio=limits.max_new_lines,
            language=words,
        ),
        GopherQualityFilter(
            min_avg_word_length=limits.min_word_length,
            max_avg_word_length=limits.max_word_length,
            max_non_alpha_words_ratio=limits.min_alphabetic_words,
            min_stop_words=2,
            stop_words=list(stop_words_of(language)),
            language=words,
        ),
    ]


@pytest.fixture
def on_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARCO_TEST_DATA", raising=False)


def test_verdicts_from_noted_figures_are_those_of_the_filters(on_the_sample: None):
    theirs = measure("mlt_Latn").theirs
    middle = float(np.median(theirs[:, METRICS.index("alphabetic_words")])) + 1e-9
    limits = load_limits("fineweb2_unchanged")["mlt_Latn"].model_copy(update={"min_alphabetic_words": middle})
    verdicts = broken(theirs, limits).any(1).tolist()
    judges = filters_with(limits, "mlt_Latn")
    for document, dropped in zip(documents("mlt_Latn"), verdicts, strict=True):
        kept = all(judge.filter(DatatroveDocument(text=document.text, id="")) is True for judge in judges)
        assert dropped == (not kept)
    assert set(verdicts) == {True, False}


def test_the_same_words_give_the_same_figures(on_the_sample: None):
    measured = measure("mlt_Latn")
    assert measured.twin_equal.all()
    assert measured.kernel_equal.all()
    assert (measured.theirs != measured.ours).any()  # other words do not


def made_up(theirs: list[float], ours: list[float]) -> Measured:
    """English documents of the derived half that differ in one metric only."""
    rows = len(theirs)
    figures = {name: np.zeros((rows, len(METRICS))) for name in ("theirs", "ours")}
    for name, values in (("theirs", theirs), ("ours", ours)):
        figures[name][:, METRICS.index("alphabetic_words")] = values
    flags = np.ones(rows, np.bool_)
    none = np.zeros((rows, 3))
    whole = np.full(rows, DERIVED), np.ones(rows, np.int64)
    return Measured("eng_Latn", figures["theirs"], figures["ours"], none, flags, flags, ~flags, flags, *whole)


LIMIT = Limits(min_words=None, max_words=None, max_hashes=None, max_ellipses=None, max_bullet_lines=None)
LIMIT = LIMIT.model_copy(update={"max_ellipsis_lines": None, "min_alphabetic_words": 0.8})


def test_a_limit_is_replaced_where_too_few_agree_and_only_there():
    theirs = [0.75, *[0.81 + i / 1000 for i in range(99)]]
    assert derive(made_up(theirs, theirs), LIMIT) == []
    lower = [value - 0.05 for value in theirs]
    (row,) = derive(made_up(theirs, lower), LIMIT)
    assert (row.limit, row.fineweb2, row.value) == ("min_alphabetic_words", 0.8, 0.75)
    assert (row.dropped_by_theirs, row.dropped_by_ours, row.dropped) == (0.01, 0.41, 0.01)
    assert (row.agreed, row.agrees) == (0.6, 1.0)


def test_documents_whose_spaces_of_no_width_count_as_words_are_not_judged():
    measured = made_up([0.5, 0.9], [0.9, 0.9])
    measured.invisible[0] = True
    assert judged(measured, half=DERIVED).tolist() == [False, True]


def test_word_ends_are_compared_by_the_characters_that_both_have():
    f1, compared = segmentation.boundaries([["ab", "c"], ["x"]], [["a", "b\u200b", "c"], ["y"]])
    assert f1 == pytest.approx(2 * 2 / (2 + 3))
    assert compared == 0.5
    assert segmentation.character_words("ไทยab, 12", 2) == ["ไท", "ย", "ab", ",", "12"]


def test_halves_are_by_the_id(on_the_sample: None):
    halves = [document.half for document in documents("deu_Latn")]
    assert all(isinstance(document, Document) and document.kind == REFERENCE for document in documents("deu_Latn"))
    assert halves == [document.half for document in documents("deu_Latn")]
    assert {document.half for code in LANGUAGES for document in documents(code)} == {0, 1}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MARCO_TEST_DATA"}
    line = [sys.executable, "-m", "benchmarks.agreement", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)


def test_without_real_documents_the_command_says_so_in_a_sentence():
    said = command().stdout
    assert said.startswith("MARCO_TEST_DATA is not set")
    assert said.count("\n") == 1


def test_the_report_runs_on_the_sample_and_says_whose_tokenizer_is_missing(tmp_path: Path):
    pytest.importorskip("datasketch")
    command("--languages", "mt", "kk", "--out", str(tmp_path / "report.md"))
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "Different: 0 of the specification in Python, 0 of the kernels." in text
    assert "| mlt_Latn (stand-in) |" in text
    assert "## MinHash" in text


@pytest.mark.slow
@pytest.mark.parametrize("language", [code for code in LANGUAGES if any(code == row["language"] for row in SHIPPED)])
def test_the_shipped_limits_are_those_the_command_derives(language: str, test_data: Path):
    try:
        measured = measure(language)
    except Missing as missing:
        pytest.skip(f"datatrove's tokenizer is not here: {missing}")
    rows = [row for row in SHIPPED if row["language"] == language]
    assert [as_text(row) for row in derive(measured, load_limits("fineweb2_unchanged")[language])] == rows


def as_text(row: Row) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in asdict(row).items()}
