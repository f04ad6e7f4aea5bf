"""The removal of near duplicates keeps its goals in every bin of true similarity; and the measure of it measures."""

import random

import numpy as np
import pytest
from small_corpus import prose

from benchmarks.dedup_quality import __main__ as command
from benchmarks.dedup_quality import clusters, pairs, templates, translations, units
from benchmarks.dedup_quality.edits import KINDS
from benchmarks.dedup_quality.judge import exact
from benchmarks.dedup_quality.report import report
from benchmarks.dedup_quality.texts import CLASSES, articles, tokens_of
from marco_data.dedup import DropDuplicates
from marco_data.languages import LANGUAGES

CODES = [codes[0] for codes in CLASSES.values() if codes[0] != "ell_Grek"]
EACH = 80


def sample(code: str) -> list[list[str]]:
    return articles(prose(code), code, random.Random(1))


def planted(rule: DropDuplicates | None = None, codes: list[str] = CODES) -> tuple[list, list]:
    told, removals = [], []
    for code in codes:
        more = pairs.measure(code, sample(code), LANGUAGES[code], EACH, seed=1, rule=rule)
        told += more[0]
        removals += more[1]
    return told, removals


@pytest.fixture(scope="module")
def measured() -> tuple[list, list]:
    return planted()


@pytest.mark.slow
def test_every_bin_of_true_similarity_reaches_its_goal(measured):
    told, removals = measured
    assert {one.script for one in told} == set(CODES)
    assert {one.kind for one in told} == set(KINDS)
    for goal in pairs.GOALS:
        found = pairs.removed_in(told, goal.low, goal.high)
        assert found.of >= 60
        assert goal.least <= found.share <= goal.most, goal
    assert pairs.missed(told) == []
    assert pairs.removed_in(told, 0.75, 0.80).hits == 0
    assert pairs.precision(removals).share == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_another_threshold_misses_the_goals(threshold):
    told, _ = planted(DropDuplicates(threshold=threshold, hashes=128), ["eng_Latn", "zho_Hans", "tha_Thai"])
    assert pairs.missed(told)


@pytest.mark.slow
def test_the_true_similarity_is_that_of_the_shingles_that_are_signed(measured):
    for code in CODES:
        language = LANGUAGES[code]
        texts = ["".join(tokens) for tokens in sample(code)]
        changed = [text[: len(text) // 2] + text[len(text) // 2 + 9 :] for text in texts]
        couples = [*zip(texts, changed, strict=True), (texts[0][:9], texts[0][:9].upper()), ("🙂", "🙁")]
        assert units.jaccards(couples, language).tolist() == [exact(a, b, language) for a, b in couples]


def test_tokens_are_the_text():
    for code in CODES:
        text = prose(code)[0]
        assert "".join(tokens_of(text, LANGUAGES[code])).split() == text.replace("\u200b", "").split()


def test_intervals_are_wilsons():
    assert pairs.Share(0, 100).interval == pytest.approx((0, 0.0370), abs=1e-4)
    assert pairs.Share(95, 100).interval == pytest.approx((0.8882, 0.9785), abs=1e-4)


def test_what_was_changed_less_is_more_alike():
    assert units.auc(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1.0
    assert units.auc(np.array([0.5]), np.array([0.5, 0.1, 0.9])) == 0.5
    characters, words = units.measure("lao_Laoo", sample("lao_Laoo"), 60, seed=1)
    assert (characters.unit, words.unit) == ("character", "word")
    assert all(value > 0.5 for one in (characters, words) for value, _ in one.auc)
    # The same text with other spaces is the same text.
    assert set(characters.respaced.values()) == {1.0}
    assert max(words.respaced.values()) < 1.0


def test_drawn_signatures_are_as_alike_as_they_say():
    rng = np.random.default_rng(1)
    rows = clusters.around(0.8, 0.9, 0)(0, rng, 4000)
    assert (rows == clusters.CENTRE).mean() == pytest.approx(0.85, abs=0.02)
    rows = clusters.templated(0.6, 0.9)(0, rng, 4000)
    assert (rows[0::2] == rows[1::2]).mean() == pytest.approx(0.9, abs=0.01)
    assert (rows[0:-2:2] == rows[2::2]).mean() == pytest.approx(0.6, abs=0.06)  # over 112 minima of a frame


def test_a_cluster_leaves_what_its_shape_leaves():
    (near, _, _, first, last, *_) = clusters.SHAPES
    assert clusters.measure(near, 1000, 64).kept == 1
    assert clusters.measure(first, 1000, 64).left == 0
    few, all_of_them = (clusters.measure(last, 1000, k) for k in (2, clusters.EVERY))
    assert few.left > all_of_them.left


def test_translations_stay():
    items = {str(n): {code: prose(code)[n] for code in ("eng_Latn", "deu_Latn", "zho_Hans")} for n in range(3)}
    for told in translations.measure(items):
        assert (told.documents, told.pairs, told.removed) == (9, 9, 0)
    same = {"1": {"eng_Latn": prose("eng_Latn")[0], "deu_Latn": prose("eng_Latn")[0]}}
    assert [told.removed for told in translations.measure(same)] == [0, 1]


def test_frames_keep_contents_and_find_those_that_are_there_twice():
    found = [
        tokens_of("\n".join(prose(code)), LANGUAGES["eng_Latn"])
        for code in ("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn")
    ]
    without, given = templates.measure("eng_Latn", found, 20, seed=1)
    assert without.distinct_removed > 0.9 * without.distinct
    assert (given.distinct_removed, given.repeated, given.named_rightly) == (0, without.repeated, given.repeated)


def test_short_texts_are_alike_if_equal_after_folding():
    assert [one.removed for one in templates.short()] == [one.jaccard == 1.0 for one in templates.short()]
    assert {one.removed for one in templates.short()} == {True, False}


@pytest.mark.slow
def test_the_report_says_what_was_measured(measured):
    told, removals = measured
    items = {"1": {"eng_Latn": prose("eng_Latn")[0], "deu_Latn": prose("deu_Latn")[0]}}
    unit = units.measure("zho_Hans", sample("zho_Hans"), 20, seed=1)
    left = [clusters.measure(shape, 100, 64) for shape in clusters.SHAPES]
    text = report(told, removals, translations.measure(items), unit, left, 10**9, [], templates.short(), "a command")
    assert "All goals are reached" in text
    assert f"{len(told)} pairs" in text
    missing = [one._replace(removed=False) for one in told]
    assert "- all: 0.85-1.01: 0 of" in report(missing, removals, [], unit, left, 0, [], [], "a command")


def test_without_data_the_command_says_so(monkeypatch, capsys):
    monkeypatch.delenv("MARCO_TEST_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["dedup_quality"])
    command.main()
    assert "MARCO_TEST_DATA is not set" in capsys.readouterr().out
