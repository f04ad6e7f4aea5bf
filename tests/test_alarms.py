"""Alarms: what is unusual, which limit holds, and a run that stops, stops again, and goes on where it is told to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import Built, as_recipe, build, prose, recipe_values, write_corpus, write_jsonl, write_recipe

from marco_data.alarms import BY_LANGUAGE, BY_SOURCE, OTHERS, WHOLE, Alarm, RemovalLimits, removal_alarms
from marco_data.errors import RecipeError
from marco_data.recipe import load_recipe
from marco_data.records import DROPPED, FAILED, Count
from marco_data.stage import load_stage

PASSED = "passed"
SWAHILI = ("swh_Latn",)


def counts(passed: int, language: str = "swh_Latn", source: str = "web", failed: int = 0, **drops: int) -> list[Count]:
    """What `decide` and `dedup` count: `passed` includes the documents that are duplicates."""
    out = [Count(PASSED, source, language, documents=passed), Count(FAILED, source, language, "x/y", documents=failed)]
    for reason, n in drops.items():
        out.append(Count(DROPPED, source, language, reason.replace("__", "/"), documents=n))
    return out


def raised(counted: list[Count], **limits: Any) -> list[tuple[str, int, int]]:
    alarms = removal_alarms(counted, RemovalLimits.model_validate(limits), SWAHILI)
    return [(alarm.name, alarm.dropped, alarm.reached) for alarm in alarms]


def test_a_share_at_the_limit_is_within_it():
    assert raised(counts(10_000, dedup__near=6_000)) == []
    assert raised(counts(10_000, dedup__near=6_001)) == [("dedup/near/web/swh_Latn", 6_001, 10_000)]


def test_few_documents_raise_no_alarm():
    assert raised(counts(999, dedup__near=998)) == []
    assert raised(counts(1_000, dedup__near=998)) != []
    assert raised(counts(5, dedup__near=4), documents=5) == [("dedup/near/web/swh_Latn", 4, 5)]


def test_a_share_is_of_the_documents_that_reached_the_step():
    told = raised(counts(2_000, failed=50_000, quality__a=20_000, quality__b=1, dedup__same_id=500, dedup__near=901))
    assert told == [("dedup/near/web/swh_Latn", 901, 1_500), ("quality/web/swh_Latn", 20_001, 22_001)]
    told = raised(counts(400, quality__a=5_000, my_step__b=5_000))
    assert told == [("my_step/web/swh_Latn", 5_000, 5_400)], "a step of the recipe's own comes after quality"


def test_languages_that_the_recipe_does_not_build_are_no_loss():
    unwanted = counts(0, "nno_Latn", select_language__unknown_language=10**6)
    unwanted += counts(0, "deu_Latn", select_language__not_in_recipe=10**6)
    assert raised(unwanted) == []


def test_documents_of_another_declared_language_are_held_against_their_source():
    # A million German documents of which 2,000 are taken for Swahili: the Swahili of the source is as good as it was.
    counted = counts(1_500, select_language__wrong_language=2_000) + counts(10**6, "deu_Latn")
    assert raised(counted) == []
    counted = counts(0, select_language__wrong_language=2_000) + counts(1_000, "deu_Latn")
    assert raised(counted) == [(f"select_language/wrong_language/web/{WHOLE}", 2_000, 3_000)]


def test_what_is_dropped_before_its_language_is_known_is_counted_by_source():
    counted = counts(1_000) + counts(0, "und", read__not_html=300, normalize__empty=1_001)
    assert raised(counted) == [(f"normalize/web/{WHOLE}", 1_001, 2_001)]
    assert raised(counted, **{"read/not_html": 0.1}) != raised(counted)
    assert raised(counts(1_000, source="books") + counts(0, "und", normalize__empty=1_001)) == [
        (f"normalize/web/{WHOLE}", 1_001, 1_001)
    ], "each source for itself"


def test_the_limit_of_a_source_goes_before_that_of_a_language_and_that_before_the_general_one():
    limits = RemovalLimits.model_validate(
        {"quality": 0.5, "languages": {"sw": {"quality": 0.6}}, "sources": {"web": {"quality": None}}}
    )
    places = [("web", "swh_Latn"), ("books", "swh_Latn"), ("books", "deu_Latn")]
    assert [limits.limit("quality", *place) for place in places] == [None, 0.6, 0.5]
    keys = [limits.key("quality", *place) for place in places]
    assert keys == [("sources", "web", "quality"), ("languages", "swh_Latn", "quality"), ("quality",)]
    assert limits.key("dedup/near", "web", "swh_Latn") is None
    assert limits.limit("dedup/near", "web", "swh_Latn") == BY_LANGUAGE["dedup/near"]
    assert limits.limit("my_step", "web", "swh_Latn") == OTHERS


def test_a_limit_can_be_set_aside_and_one_reason_of_a_step_can_have_its_own():
    counted = counts(1_000, quality__few_words=600, quality__hashes=100)
    assert raised(counted) == []
    assert raised(counted, quality=0.3) == [("quality/web/swh_Latn", 700, 1_700)]
    assert raised(counted, **{"quality/few_words": 0.3}) == [("quality/few_words/web/swh_Latn", 600, 1_700)]
    assert raised(counts(1_000, dedup__near=1_000), **{"dedup/near": None}) == []
    assert raised(counts(1_000, dedup__near=500, dedup__exact=400), dedup=0.8) == [("dedup/web/swh_Latn", 900, 1_000)]


REASONS = st.sampled_from(["", "quality/a", "dedup/near", "dedup/exact", "my_step/b", "normalize/empty"])


@given(
    st.lists(st.tuples(REASONS, st.sampled_from(["web", "books"]), st.integers(0, 2_000)), max_size=20),
    st.randoms(),
)
def test_alarms_depend_on_sums_alone(drawn: list[tuple[str, str, int]], order: Any):
    counted = [Count(DROPPED if r else PASSED, s, "swh_Latn", r, documents=n) for r, s, n in drawn]
    halves = [replace(c, documents=part) for c in counted for part in (c.documents // 2, -(-c.documents // 2))]
    order.shuffle(halves)
    assert raised(halves) == raised(counted)


@pytest.mark.parametrize("step", [*BY_LANGUAGE, *BY_SOURCE])
def test_every_default_can_be_named_in_a_recipe(tmp_path: Path, step: str):
    values = recipe_values(tmp_path) | {"limits": {"removal": {step: 0.123}}}
    removal = load_recipe(write_recipe(tmp_path / "r.yaml", values)).limits.removal
    assert removal.limit(step, "web", "swh_Latn") == 0.123


@pytest.mark.parametrize(
    ("removal", "says"),
    [
        ({"dedup/naer": 0.5}, ("{line}: `limits.removal.dedup/naer`", "`dedup/naer`; did you mean `dedup/near`?")),
        ({"qualty": 0.5}, ("{line}: `limits.removal.qualty`", "did you mean `quality`?")),
        ({"quality/too_few_wrods": 0.5}, ("did you mean `quality/too_few_words`?",)),
        ({"xyzzy": 0.5}, ("no step or reason `xyzzy` (decontaminate, dedup, drop_marked, normalize, quality",)),
        ({"quality": 1.5}, ("{line}: `limits.removal.quality`", "less than or equal to 1")),
        ({"quality": "much"}, ("{line}: `limits.removal.quality`", "valid number")),
        ({"documents": 0}, ("{line}: `limits.removal.documents`", "greater than or equal to 1")),
        ({"sources": {"wbe": {"quality": 1}}}, ("no source `wbe`; did you mean `web`?",)),
        ({"sources": {"web": {"qualiti": 1}}}, ("`limits.removal.sources.web.qualiti`", "did you mean `quality`?")),
        ({"languages": {"swa_Latin": {"quality": 1}}}, ("`limits.removal.languages`", "swa_Latin")),
        ({"languages": {"sw": {"dedup/near": 2}}}, ("less than or equal to 1",)),
    ],
)
def test_a_mistake_in_the_limits_is_told_with_its_line(tmp_path: Path, removal: dict[str, Any], says: tuple[str, ...]):
    values = recipe_values(tmp_path) | {"limits": {"removal": removal}}
    values["steps"]["extra"] = [{"step": "planted_corpus:DropMarked"}]
    path = write_recipe(tmp_path / "r.yaml", values)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("limits:")) + 2
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for words in says:
        assert words.format(line=f"{path}:{line}") in str(caught.value)


def test_the_steps_of_a_recipes_own_can_be_named(tmp_path: Path):
    values = recipe_values(tmp_path)
    values["steps"]["extra"] = [{"step": "planted_corpus:DropMarked"}, {"step": "datatrove:GopherQualityFilter"}]
    values["limits"] = {"removal": {"drop_marked": 0.1, "datatrove/GopherQualityFilter": None}}
    assert as_recipe(values).limits.removal.limit("drop_marked", "web", "swh_Latn") == 0.1
    values |= {"pipeline": "my_pipelines:mine", "limits": {"removal": {"a_step_of_mine": 0.2}}}
    assert as_recipe(values).limits.removal.limit("a_step_of_mine", "web", "swh_Latn") == 0.2


# Runs


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Web pages of which nine in ten of the English ones are one text with a word changed."""
    folder = write_corpus(tmp_path_factory.mktemp("alarms") / "in")
    text = prose("eng_Latn")[3].split()
    again = [" ".join([*text[:5], f"word{n}", *text[6:]]) for n in range(10)]
    write_jsonl(folder / "web" / "again.jsonl", [{"id": f"again-{n}", "text": t} for n, t in enumerate(again)])
    short = [" ".join(text.split()[:30]) for text in prose("deu_Latn")[:3]]
    write_jsonl(folder / "web" / "short.jsonl", [{"id": f"short-{n}", "text": t} for n, t in enumerate(short)])
    return folder


def values_of(corpus: Path, **limits: Any) -> dict[str, Any]:
    removal = {"documents": 5, "quality": None, **limits}
    return recipe_values(corpus) | {"limits": {"removal": removal}}


def test_an_alarm_stops_a_run_before_anything_is_tokenized_and_does_so_again(corpus: Path, tmp_path: Path):
    recipe = as_recipe(values_of(corpus))
    for again in (False, True):
        built = build(recipe, tmp_path / "out")
        assert built.run.stopped_before is not None
        assert list(built.run.records)[-1] == "dedup"
        assert [(a.name, a.dropped, a.reached, a.waived) for a in built.stage.alarms] == [
            ("dedup/near/web/eng_Latn", 9, 12, False)
        ]
        assert (built.stage.complete, built.stage.balanced, built.stage.failures) == (False, False, ())
        assert again == (not any(built.run.ran.values())), "a run that is started again finds all of it done"
    assert {path.name.partition("-")[0] for path in (tmp_path / "out").iterdir()}.isdisjoint({"tokenize", "mix"})
    assert load_stage(built.storage, "small", 3) == built.stage


def test_an_alarm_of_the_limits_stops_a_run_before_duplicates_are_looked_for(corpus: Path, tmp_path: Path):
    built = build(as_recipe(values_of(corpus, quality=0.5)), tmp_path / "out")
    assert set(built.run.records) == {"measure", "decide"}
    assert [(a.name, a.dropped, a.reached) for a in built.stage.alarms] == [("quality/web/deu_Latn", 3, 5)]


def finished(built: Built) -> bool:
    return built.stage.complete and built.stage.balanced


def test_a_waived_alarm_is_passed_over_and_told_in_the_manifest(corpus: Path, tmp_path: Path):
    name = "dedup/near/web/eng_Latn"
    build(as_recipe(values_of(corpus)), tmp_path / "out")
    built = build(as_recipe(values_of(corpus) | {"waive": [name]}), tmp_path / "out")
    assert finished(built), "every document is accounted for"
    assert [(a.name, a.waived) for a in load_stage(built.storage, "small", 3).alarms] == [(name, True)]
    assert built.storage.read_json(f"{built.stage.folder}/blend.json")["waivers"] == [name]
    assert {built.run.ran[node] for node in ("measure", "decide", "dedup")} == {0}, "what was done stays done"


@pytest.mark.parametrize(
    "limits",
    [
        {"dedup/near": 0.8},
        {"dedup/near": None},
        {"languages": {"en": {"dedup/near": 0.8}}},
        {"sources": {"web": {"dedup/near": 0.8}}},
        {"documents": 13},
    ],
)
def test_a_limit_that_is_raised_lets_the_same_run_go_on(corpus: Path, tmp_path: Path, limits: dict[str, Any]):
    build(as_recipe(values_of(corpus)), tmp_path / "out")
    built = build(as_recipe(values_of(corpus, **limits)), tmp_path / "out")
    assert finished(built)
    assert (built.stage.alarms, built.run.ran["dedup"]) == ((), 0), "limits are no identity: nothing is done again"


def test_without_limits_there_are_no_alarms(corpus: Path, tmp_path: Path):
    assert finished(build(as_recipe(recipe_values(corpus) | {"limits": {"removal": None}}), tmp_path / "out"))


def test_the_command_shows_pairs_and_what_to_change_and_ends_red(corpus: Path, tmp_path: Path):
    path = write_recipe(tmp_path / "r.yaml", values_of(corpus))
    words = ("build-stage", 3, "--recipe", path, "--root", tmp_path / "out", "--executor", "local")
    done = marco(*words)
    assert done.code == 1
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.strip() == "removal:")
    assert "error: dedup/near dropped 75.0% of eng_Latn in `web`: 9 of the 12 that reached it" in done.err
    assert f"`limits.removal.sources.web.dedup/near: 0.75` would allow it: {path}:{line}" in done.err
    assert "`waive: [dedup/near/web/eng_Latn]`" in done.err
    assert done.err.count("-- dedup/near, similarity 0.") == 9
    assert "{+word" in done.err
    assert "shards failed" not in done.err
    report = marco("stats", 3, "--family", "small", "--root", tmp_path / "out", "--json")
    assert report.code == 1
    assert report.json["alarms"] == [
        {"name": "dedup/near/web/eng_Latn", "step": "dedup/near", "source": "web", "language": "eng_Latn"}
        | {"reached": 12, "dropped": 9, "share": 0.75, "limit": 0.6, "waived": False}
    ]
    again = marco(*words)
    assert again.code == 1
    assert again.err.partition(" of them")[2] == done.err.partition(" of them")[2], "the same sample"
    passed = marco(*words, "--waive", "dedup/near/web/eng_Latn")
    assert passed.code == 0, passed.err
    assert "waived: dedup/near dropped 75.0%" in passed.err
    told = marco("stats", 3, "--family", "small", "--root", tmp_path / "out")
    assert (told.code, "dedup/near/web/eng_Latn" in told.out, "waived" in told.out) == (0, True, True)


def test_the_command_shows_what_a_limit_dropped(corpus: Path, tmp_path: Path):
    path = write_recipe(tmp_path / "r.yaml", values_of(corpus, quality=0.5))
    done = marco("build-stage", 3, "--recipe", path, "--root", tmp_path / "out", "--executor", "local")
    assert done.code == 1
    assert done.err.count("-- quality/too_few_words (measured 3") == 3
    assert "error: quality dropped 60.0% of deu_Latn in `web`: 3 of the 5 that reached it" in done.err
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.strip() == "quality: 0.5")
    assert f"the limit is `limits.removal.quality`; 0.6 would allow it: {path}:{line}" in done.err
    assert " ".join(prose("deu_Latn")[1].split()[:10]) in done.err


def test_an_alarm_over_a_users_own_input_is_waived_on_the_command_line(corpus: Path, tmp_path: Path):
    path = write_recipe(tmp_path / "r.yaml", values_of(corpus))
    words = ("build-stage", 3, "--recipe", path, "--root", tmp_path / "out", "--executor", "local")
    words += ("--input", corpus / "web" / "again.jsonl")
    done = marco(*words)
    assert done.code == 1
    assert "`limits: {removal: {dedup/near: 0.9}}` in a recipe of your own" in done.err
    assert marco(*words, "--waive", "dedup/near/input/eng_Latn").code == 0


def test_an_alarm_has_a_share():
    assert Alarm("dedup/near", "web", "swh_Latn", 8, 6, 0.5).share == 0.75


def test_copies_of_removed_documents_are_judged_once_and_reach_no_later_step():
    assert raised(counts(10_000, remove__copy=5_000, dedup__near=3_001)) == [("dedup/near/web/swh_Latn", 3_001, 5_000)]
