"""ApplyLimits: which limit, of which language, in which order, and the tier of what is kept."""

import csv
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.step import StepOutput, Tools, run_step
from marco_data.steps.apply_limits import FINEWEB2_NAMES, RULES, ApplyLimits, Limits, load_limits, require_limits
from marco_data.steps.measure_quality import METRICS, MeasureQuality

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "recipes" / "sample" / "text"
LIMITS = ROOT / "marco_data" / "languages"

# The figures of good prose: within the limits of every language, and of every limit tightened.
GOOD: dict[str, Any] = dict.fromkeys(METRICS, 0.0) | {
    "line_punctuation": 1.0,
    "words": 500,
    "word_length": 4.5,
    "alphabetic_words": 0.95,
    "stop_words": 8,
}


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Good documents in English, with the changes given."""
    labels = {"source": "web", "lid_language": "eng_Latn"}
    filled = [{**labels, **GOOD, **row} for row in rows]
    figures = {
        f"quality_{name}": pa.array([r[name] for r in filled], MeasureQuality.adds.field(f"quality_{name}").type)
        for name in GOOD
    }
    return pa.record_batch({**{n: pa.array([r[n] for r in filled], pa.string()) for n in labels}, **figures})


def judge(*rows: dict[str, Any], step: ApplyLimits | None = None) -> StepOutput:
    step = step or ApplyLimits(limits=load_limits())
    return run_step(step, step.bind(None, Tools()), batch(*rows))


BEYOND_ENGLISH = {
    "quality/too_many_duplicate_lines": {"duplicate_lines": 0.31},
    **{f"quality/too_much_of_one_{n}_gram": {f"top_{n}_gram": 0.21} for n in (2, 3, 4)},
    **{f"quality/too_many_duplicate_{n}_grams": {f"duplicate_{n}_grams": 0.16} for n in range(5, 11)},
    "quality/too_little_line_punctuation": {"line_punctuation": 0.11},
    "quality/too_many_short_lines": {"short_lines": 0.68},
    "quality/too_many_duplicate_line_characters": {"duplicate_line_characters": 0.02},
    "quality/too_many_new_lines": {"new_lines": 0.31},
    "quality/too_few_words": {"words": 49},
    "quality/too_many_words": {"words": 100_001},
    "quality/words_too_short": {"word_length": 2.9},
    "quality/words_too_long": {"word_length": 10.1},
    "quality/too_many_hashes": {"hashes": 0.11},
    "quality/too_many_ellipses": {"ellipses": 0.11},
    "quality/too_many_bullet_lines": {"bullet_lines": 0.91},
    "quality/too_many_ellipsis_lines": {"ellipsis_lines": 0.31},
    "quality/too_few_alphabetic_words": {"alphabetic_words": 0.77},
    "quality/too_few_stop_words": {"stop_words": 1},
}


@pytest.mark.parametrize("reason", BEYOND_ENGLISH)
def test_what_is_beyond_a_limit_is_dropped_with_its_figure(reason: str):
    changes = BEYOND_ENGLISH[reason]
    output = judge(changes)
    assert output.reason.to_pylist() == [reason]
    assert output.measured.to_pylist() == list(changes.values())
    assert output.columns["quality_tier"].to_pylist() == [None]


def test_every_reason_is_reachable():
    assert set(BEYOND_ENGLISH) == ApplyLimits.reasons


def test_a_figure_equal_to_its_limit_is_within_it():
    english = load_limits()["eng_Latn"]
    at_limit = {limit.split("_", 1)[1]: getattr(english, limit) for limit, _ in RULES}
    assert judge(at_limit | {"words": 50, "stop_words": 2}).reason.to_pylist() == [None]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(BEYOND_ENGLISH, 2))[::7])
def test_the_first_broken_rule_in_order_gives_the_reason(first: str, second: str):
    both = BEYOND_ENGLISH[second] | BEYOND_ENGLISH[first]
    assert judge(both).reason.to_pylist() == [first]


def test_each_document_meets_the_limits_of_its_language():
    thai = {"lid_language": "tha_Thai", "line_punctuation": 0.0}  # no full stops: the limit is 0
    english = {"line_punctuation": 0.0}
    assert judge(thai, english).reason.to_pylist() == [None, "quality/too_little_line_punctuation"]


def test_a_kept_document_near_a_limit_is_low():
    assert judge({}, {"words": 61}, {"words": 63}, {"duplicate_lines": 0.25}).columns["quality_tier"].to_pylist() == [
        "high",
        "low",
        "high",
        "low",
    ]


def test_without_margin_nothing_is_low():
    step = ApplyLimits(limits=load_limits(), tier_margin=0)
    assert judge({"words": 50}, step=step).columns["quality_tier"].to_pylist() == ["high"]


def test_what_cannot_be_judged_is_kept_without_a_tier():
    output = judge({"lid_language": "xho_Latn"}, {"lid_language": None}, dict.fromkeys(METRICS))
    assert output.reason.to_pylist() == [None, None, None]
    assert output.columns["quality_tier"].to_pylist() == [None, None, None]


def test_an_override_changes_one_limit_of_one_language():
    limits = load_limits("fineweb2", {"bn": {"min_line_punctuation": 0.1, "max_hashes": None}})
    plain = load_limits()
    assert limits["ben_Beng"] == plain["ben_Beng"].model_copy(update={"min_line_punctuation": 0.1, "max_hashes": None})
    assert {c: v for c, v in limits.items() if c != "ben_Beng"} == {c: v for c, v in plain.items() if c != "ben_Beng"}


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("fineweb3", {}, "unknown limits `fineweb3`"),
        ("fineweb2", {"ben_Bang": {}}, "ben_Bang"),
        ("fineweb2", {"ben_Beng": {"min_word": 3}}, "did you mean `min_words`"),
        ("fineweb2", {"ben_Beng": {"line_punct_ratio": 3}}, "did you mean `min_line_punctuation`"),
        ("fineweb2", {"ben_Beng": {"max_non_alpha_words_ratio": 3}}, "did you mean `min_alphabetic_words`"),
        ("fineweb2", {"ben_Beng": {"min_words": "many"}}, "`min_words` for `ben_Beng` is not a number: 'many'"),
    ],
)
def test_a_mistake_in_the_limits_is_named(name: str, overrides: dict[str, Any], says: str):
    with pytest.raises(RecipeError) as error:
        load_limits(name, overrides)
    assert says in str(error.value)


def test_all_our_languages_have_limits_and_another_is_named():
    require_limits(load_limits(), LANGUAGES)
    with pytest.raises(RecipeError, match="`tha_Thai`"):
        require_limits({"eng_Latn": Limits()}, ["eng_Latn", "tha_Thai"])


def test_rules_limits_and_metrics_name_the_same_things():
    assert [limit for limit, _ in RULES] == list(Limits.model_fields)
    assert {limit.split("_", 1)[1] for limit, _ in RULES} == set(METRICS)
    assert set(FINEWEB2_NAMES) < set(Limits.model_fields)


def test_a_changed_limit_is_another_step():
    tighter = ApplyLimits(limits=load_limits("fineweb2", {"eng_Latn": {"min_words": 60}}))
    assert tighter.identity(Tools()) != ApplyLimits(limits=load_limits()).identity(Tools())


def test_limits_that_our_words_make_meaningless_are_replaced():
    limits, unchanged = load_limits(), load_limits("fineweb2_unchanged")
    assert limits["kor_Hang"].min_stop_words is None
    assert (limits["mlt_Latn"].min_alphabetic_words, unchanged["mlt_Latn"].min_alphabetic_words) == (0.714, 0.823)
    assert limits["jpn_Jpan"].min_alphabetic_words == 0.759  # FineWeb-2's
    assert limits["deu_Latn"] == unchanged["deu_Latn"]


def test_a_recipe_can_have_the_limits_of_fineweb2_unchanged():
    rows = {
        row["language"]: row for row in csv.DictReader((LIMITS / "fineweb2_limits.csv").read_text("utf-8").splitlines())
    }
    for code, limits in load_limits("fineweb2_unchanged").items():
        assert {ours: getattr(limits, ours) for ours in FINEWEB2_NAMES} == {
            ours: float(rows[code][theirs]) for ours, theirs in FINEWEB2_NAMES.items()
        }


def kept_of_sample(code: str) -> list[bool]:
    """For each text of the sample in a language, whether all limits keep it."""
    documents = ("\n" + (SAMPLE / f"{code}.txt").read_text("utf-8")).split("\n== ")[1:]
    texts = [document.partition("\n")[2].strip() for document in documents]
    measure = MeasureQuality()
    figures = run_step(measure, measure.bind(LANGUAGES[code], Tools()), pa.record_batch({"text": texts}))
    labels = {"source": pa.array(["web"] * len(texts)), "lid_language": pa.array([code] * len(texts))}
    rows = pa.record_batch({**labels, **figures.columns})
    step = ApplyLimits(limits=load_limits())
    return run_step(step, step.bind(None, Tools()), rows).reason.is_null().to_pylist()


def test_short_good_prose_is_kept_nine_times_of_ten_and_in_every_language():
    # Not all: a text of 80 words in Telugu, Tamil or Zulu may hold less than two of FineWeb-2's few stop words.
    kept = {code: kept_of_sample(code) for code in LANGUAGES}
    assert not [code for code, texts in kept.items() if not any(texts)]
    every = [one for texts in kept.values() for one in texts]
    assert sum(every) / len(every) > 0.9


def test_an_exempt_source_is_taken_as_it_is():
    step = ApplyLimits(limits=load_limits(), exempt=("code",))
    output = judge({"source": "code", "words": 1}, {"source": "web", "words": 1}, step=step)
    assert output.reason.to_pylist() == [None, "quality/too_few_words"]
    assert output.columns["quality_tier"].to_pylist() == ["high", None]
