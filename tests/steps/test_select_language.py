"""Select language: the order of its checks, and thresholds that belong to the model they came from."""

import pyarrow as pa
import pytest
from fasttext_models import make_model
from hypothesis import given
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.languages.model import model_facts
from marco_data.languages.shares import SHARES
from marco_data.step import Tools, check_output
from marco_data.steps.select_language import SelectLanguage, thresholds_for

THRESHOLDS = dict.fromkeys(LANGUAGES, 0.5) | {"ben_Beng": 0.8}


def step(**fields):
    values = {"languages": ("ben_Beng", "srp_Cyrl", "zho_Hans", "jpn_Jpan"), "thresholds": THRESHOLDS} | fields
    return SelectLanguage(**values)


def batch_of(rows, shares=None):
    """Rows of (language, score, script, declared); `shares`: {language: share} of each, else all of its own."""
    language, score, script, declared = zip(*rows, strict=True) if rows else ((), (), (), ())
    shares = shares or [{row[0]: 1.0} if row[0] else {} for row in rows]
    entries = [[{"language": code, "share": share} for code, share in of.items()] for of in shares]
    return pa.record_batch(
        {
            "lid_shares": pa.array(entries, SHARES),
            "lid_language": pa.array(language, pa.string()),
            "lid_score": pa.array(score, pa.float64()),
            "lid_script": pa.array(script, pa.string()),
            "declared_language": pa.array(declared, pa.string()),
        }
    )


def verdicts(step, rows, shares=None):
    batch = batch_of(rows, shares)
    output = step.bind(None, Tools())(batch)
    check_output(step, batch, output)
    return list(zip(output.reason.to_pylist(), output.measured.to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("ben_Beng", 0.9, "Beng", None), None),
        (("ben_Beng", 0.8, "Beng", "ben_Beng"), None),  # equal to the threshold is enough
        (("ben_Beng", 0.7999, "Beng", None), "low_score"),
        (("ben_Beng", None, "Beng", None), "low_score"),
        (("ben_Beng", 0.9, "Latn", None), "wrong_script"),
        (("ben_Beng", 0.9, "Beng", "hin_Deva"), "wrong_language"),
        (("hin_Deva", 0.9, "Deva", None), "not_in_recipe"),
        (("hin_Deva", 0.1, "Latn", None), "not_in_recipe"),
        (("nno_Latn", 0.9, "Latn", None), "unknown_language"),
        (("und", 0.0, "Zyyy", None), "unknown_language"),
        ((None, None, None, None), "unknown_language"),
        (("und", 0.0, "Zyyy", "ben_Beng"), "wrong_language"),
        ((None, None, None, "ben_Beng"), "wrong_language"),
        (("zxx_Noise", 0.9, "Latn", None), "no_language"),
        (("zxx_Filler", 0.1, "Latn", "ben_Beng"), "no_language"),
        (("zxx_Code", 0.9, "Latn", None), "no_language"),
        (("srp_Cyrl", 0.9, "Latn", None), "wrong_script"),
        (("srp_Cyrl", 0.4, "Latn", None), "low_score"),  # the score is asked first
        (("zho_Hans", 0.9, "Hani", None), None),
        (("jpn_Jpan", 0.9, "Jpan", None), None),
        (("jpn_Jpan", 0.9, "Hani", None), None),
        (("zho_Hans", 0.9, "Jpan", None), "wrong_script"),
        (("zho_Hans", 0.9, None, None), "wrong_script"),
    ],
)
def test_the_first_check_that_fails_gives_the_reason(row, reason):
    expected = (None, None) if reason is None else (f"select_language/{reason}", row[1])
    assert verdicts(step(), [row]) == [expected]


ROW = st.tuples(
    st.sampled_from(["ben_Beng", "srp_Cyrl", "hin_Deva", "nno_Latn", "und", None]),
    st.one_of(st.none(), st.floats(0, 1).map(lambda x: round(x, 4))),
    st.sampled_from(["Beng", "Latn", "Cyrl", "Zyyy", None]),
    st.sampled_from(["ben_Beng", "hin_Deva", None]),
)


@given(st.lists(ROW, max_size=20))
def test_a_verdict_depends_on_its_row_alone(rows):
    assert verdicts(step(), rows) == [verdicts(step(), [row])[0] for row in rows]


def test_an_empty_batch_gets_no_verdicts():
    assert verdicts(step(), []) == []


def test_a_sliced_batch_is_judged_by_its_own_rows():
    batch = batch_of([("ben_Beng", 0.1, "Beng", None), ("ben_Beng", 0.9, "Beng", None)]).slice(1)
    assert step().bind(None, Tools())(batch).reason.to_pylist() == [None]


def test_the_script_is_not_asked_where_the_recipe_says_so():
    assert verdicts(step(check_script=False), [("srp_Cyrl", 0.9, "Latn", None)]) == [(None, None)]


@pytest.mark.parametrize(
    ("shares", "own"),
    [
        ({"ben_Beng": 1.0}, 1.0),
        ({}, 1.0),  # nothing is of any language for certain
        ({"ben_Beng": 0.1}, 1.0),
        ({"ben_Beng": 0.6, "eng_Latn": 0.3}, 0.7),  # equal to the limit is enough
        ({"ben_Beng": 0.6, "eng_Latn": 0.3001}, 0.6999),
        ({"ben_Beng": 0.5, "eng_Latn": 0.2, "hin_Deva": 0.2}, 0.6),
        ({"eng_Latn": 0.2, "zxx_Code": 0.7, "ben_Beng": 0.1}, 0.8),  # code is no other language
        ({"eng_Latn": 1.0001}, 0.0),
    ],
)
def test_text_of_other_languages_beyond_the_limit_is_mixed(shares, own):
    row = ("ben_Beng", 0.9, "Beng", None)
    expected = (None, None) if own >= 0.7 else ("select_language/mixed_language", own)
    assert verdicts(step(min_share=0.7), [row], [shares]) == [expected]
    assert verdicts(step(min_share=own), [row], [shares]) == [(None, None)]
    assert verdicts(step(), [row], [shares]) == [(None, None)]


def test_mixed_is_asked_last_and_changes_no_other_reason():
    rows = [("ben_Beng", 0.1, "Beng", None), ("hin_Deva", 0.9, "Deva", None), ("srp_Cyrl", 0.9, "Latn", None)]
    shares = [{"eng_Latn": 1.0}] * 3
    reasons = [reason for reason, _ in verdicts(step(min_share=0.7), rows, shares)]
    assert reasons == [f"select_language/{wrong}" for wrong in ("low_score", "not_in_recipe", "wrong_script")]
    assert verdicts(step(min_share=0.7), rows, shares) == verdicts(step(), rows, shares)


def test_a_language_of_the_users_own_can_be_listed():
    mine = step(languages=("nno_Latn",), thresholds={"nno_Latn": 0.5})
    rows = [("nno_Latn", 0.9, "Latn", None), ("nno_Latn", 0.9, "Cyrl", None), ("ben_Beng", 0.9, "Beng", None)]
    assert [reason for reason, _ in verdicts(mine, rows)] == [
        None,
        "select_language/wrong_script",
        "select_language/not_in_recipe",
    ]


def test_the_order_and_spelling_of_languages_are_not_identity():
    assert step(languages=("bn", "zh")).identity(Tools()) == step(languages=("zho_Hans", "ben_Beng")).identity(Tools())
    assert step().identity(Tools()) != step(thresholds=THRESHOLDS | {"ben_Beng": 0.7}).identity(Tools())


def test_a_language_without_a_threshold_is_refused():
    with pytest.raises(ValueError, match="no threshold for ben_Beng"):
        SelectLanguage(languages=("ben_Beng",), thresholds={})


def test_the_embedded_model_brings_its_thresholds():
    facts = model_facts("embedded", Tools())
    assert thresholds_for("embedded", tuple(LANGUAGES)) == {code: facts["thresholds"][code] for code in LANGUAGES}


def test_one_number_is_the_threshold_of_every_language():
    assert thresholds_for("embedded", ("bn", "zho_Hans"), 0.65) == {"ben_Beng": 0.65, "zho_Hans": 0.65}
    assert thresholds_for("nowhere.bin", ("bn",), 0.0) == {"ben_Beng": 0.0}


def test_a_glotlid_model_gets_the_thresholds_of_fineweb2(tmp_path):
    model = str(make_model("glotlid", tmp_path))
    assert thresholds_for(model, ("bn", "cmn_Hani", "sw")) == {"ben_Beng": 0.872, "zho_Hans": 0.692, "swh_Latn": 0.3}


@pytest.mark.parametrize("family", ["lid.176", "lid218"])
def test_any_other_model_needs_a_number(tmp_path, family):
    model = str(make_model(family, tmp_path))
    with pytest.raises(RecipeError) as error:
        thresholds_for(model, ("ben_Beng",))
    assert "threshold" in (error.value.hint or "")
    assert thresholds_for(model, ("ben_Beng",), 0.5) == {"ben_Beng": 0.5}


def test_a_language_the_model_has_no_threshold_for_is_a_recipe_error():
    with pytest.raises(RecipeError, match="nno_Latn"):
        thresholds_for("embedded", ("nno_Latn",))
