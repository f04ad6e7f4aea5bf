"""`recipe diff`: which keys differ and where they stand, and what the plan has to build again because of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from added_languages import values as added_values
from command_line import marco
from small_corpus import TOKENIZER, build, recipe_values, write_corpus, write_recipe

from marco_data.plan import SKIP, plan_nodes
from marco_data.recipe import load_recipe
from marco_data.recipe_changes import compare
from marco_data.storage import Storage


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    write_recipe(folder / "a.yaml", recipe_values(write_corpus(folder / "in")))
    (folder / "other").mkdir()
    spec = json.loads(TOKENIZER.read_text("utf-8"))
    spec["truncation"] = None
    (folder / "other" / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    return folder


def changed(site: Path, **values: Any) -> Path:
    return write_recipe(site / "b.yaml", recipe_values(site / "in") | values)


def statuses(site: Path, **values: Any) -> dict[str, str]:
    """{part: status}, `~` before what is built again only as far as what it reads changes."""
    found = compare(site / "a.yaml", changed(site, **values))
    return {node.part: ("~" if node.after else "") + node.status for node in found.nodes}


def says(site: Path, **values: Any) -> dict[str, str]:
    return {s.section: s.says for s in compare(site / "a.yaml", changed(site, **values)).sections}


STEPS: dict[str, Any] = {"identify_language": {"threshold": 0.3}}
REST = ("tokenize", "mix", "shards")


def test_equal_recipes_have_no_difference_and_skip_everything(site: Path):
    found = compare(site / "a.yaml", changed(site))
    assert (found.keys, found.sections) == ([], [])
    assert {node.status for node in found.nodes} == {SKIP}


def test_limits_of_quality_are_decided_again_and_no_text_is_read(site: Path):
    steps = {**STEPS, "quality": {"overrides": {"de": {"min_words": 60}}}}
    found = statuses(site, steps=steps)
    assert (found["measure"], found["decide"]) == ("skip", "re-decide")
    assert {found[part] for part in ("dedup", *REST)} == {"~rebuild"}
    assert says(site, steps=steps)["steps.quality"].startswith("re-decide from columns, no text is read; then dedup, ")


def test_another_tokenizer_tokenizes_again_and_nothing_before(site: Path):
    values = {"tokenizer": {"path": str(site / "other")}}
    found = statuses(site, **values)
    assert [found[part] for part in ("measure", "decide", "dedup")] == ["skip"] * 3
    assert (found["tokenize"], found["mix"]) == ("rebuild", "~rebuild")
    assert "rebuild" in found["shards"]
    assert says(site, **values)["tokenizer"].startswith("rebuild tokenize")


@pytest.mark.parametrize(
    ("values", "section", "begins"),
    [
        ({"description": "Other words"}, "description", "nothing is built again"),
        ({"waive": ["quality/web/eng_Latn"]}, "waive", "nothing is built again"),
        ({"budget": "5K"}, "budget", "rebuild mix; no text is measured again; then shards"),
        ({"steps": {**STEPS, "normalize": {"max_unreadable": 0.2}}}, "steps.normalize", "all text is read again; then"),
        ({"steps": {"identify_language": {"threshold": 0.4}}}, "steps.identify_language", "re-decide from columns"),
        ({"steps": {**STEPS, "dedup": {"threshold": 0.9}}}, "steps.dedup", "rebuild dedup; no text is measured"),
        ({"shards": {"bytes": 3000}}, "shards", "all text is read again"),
        ({"seed": "other"}, "seed", "rebuild mix"),
    ],
)
def test_a_section_says_what_it_costs(values: dict[str, Any], section: str, begins: str, site: Path):
    found = says(site, **values)
    assert list(found) == [section]
    assert found[section].startswith(begins)


def test_a_source_more_is_read_and_the_others_are_there(site: Path):
    write_corpus(site / "more")
    values = recipe_values(site / "in")
    more = {**values["sources"], "more": {"paths": [f"{site}/more/web/a.jsonl"]}}
    found = compare(site / "a.yaml", changed(site, sources=more, mixture={**values["mixture"], "more": {"weight": 1}}))
    measure = next(node for node in found.nodes if node.node == "measure")
    assert measure.because == ["the source `more` is read; the others are there already"]


def test_what_the_diff_skips_a_root_of_the_first_recipe_has(site: Path, tmp_path: Path):
    """The claim of `skip` is the root's own: what was built by A is found there by B."""
    build(site / "a.yaml", tmp_path)
    b = changed(site, budget="5K", steps={**STEPS, "quality": {"overrides": {"de": {"min_words": 60}}}})
    skipped = {node.node for node in compare(site / "a.yaml", b).nodes if node.status == SKIP}
    recipe = load_recipe(b)
    planned = plan_nodes(recipe.pipeline_function()(recipe), Storage(str(tmp_path)), None)
    assert skipped == {"measure"}
    assert skipped <= {node.node for node in planned if node.status == SKIP}
    assert {node.node for node in planned if node.status == "re-decide"} == {"decide"}


def test_keys_have_both_values_and_both_places(site: Path):
    b = changed(site, budget="5K", steps={**STEPS, "quality": {"overrides": {"de": {"min_words": 60}}}})
    keys = {key.key: key for key in compare(site / "a.yaml", b).keys}
    assert list(keys) == ["budget", "steps.quality.overrides.deu_Latn.min_words"]
    assert (keys["budget"].a, keys["budget"].b, keys["budget"].place_a) == (None, 5000, "default")
    line = 1 + b.read_text("utf-8").splitlines().index("budget: 5K")
    assert keys["budget"].place_b.endswith(f"b.yaml:{line}")
    limit = keys["steps.quality.overrides.deu_Latn.min_words"]
    line = 1 + b.read_text("utf-8").splitlines().index("        min_words: 60")
    assert (limit.place_a, limit.b) == ("absent", 60)
    assert limit.place_b.endswith(f"b.yaml:{line}")


def test_stop_words_of_an_added_language_are_a_difference_though_no_key_differs(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_recipe(tmp_path / name / "r.yaml", added_values(tmp_path / name))
    words = tmp_path / "b" / "languages" / "stop_words.csv"
    words.write_text(words.read_text("utf-8").replace("nno_Latn,og", "nno_Latn,eller"), "utf-8")
    found = compare(tmp_path / "a" / "r.yaml", tmp_path / "b" / "r.yaml")
    assert next(node.status for node in found.nodes if node.node == "measure") == "rebuild"


# The command


def test_families_are_compared_by_name_and_whatever_cannot_be_reached(tmp_path: Path):
    done = marco("recipe", "diff", "marco-mini/1", "marco-mini/2")
    assert done.code == 0, done.err
    assert "\nbudget: rebuild mix" in done.out
    assert "mixture.nemotron_high.weight: 20.54 -> 3.33" in done.out
    assert "\nskip: measure, decide, dedup, tokenize" in done.out


def test_json_has_keys_sections_and_nodes(site: Path):
    told = marco("recipe", "diff", site / "a.yaml", changed(site, budget="5K"), "--json").json
    assert set(told) == {"a", "b", "keys", "sections", "nodes"}
    assert told["keys"][0] | {"place_b": ""} == {
        "key": "budget",
        "a": None,
        "b": 5000,
        "place_a": "default",
        "place_b": "",
    }
    assert told["sections"] == [{"section": "budget", "changes": ["mix"], "says": told["sections"][0]["says"]}]
    assert set(told["nodes"][0]) == {"node", "part", "status", "because", "after"}


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ("sample/3", "none.yaml", "no recipe at `none.yaml`"),
        ("sample/7", "sample/3", "the family `sample` has no stage 7"),
        ("sampel/3", "sample/3", "no recipe family `sampel`"),
        ("sample", "sample/3", "no recipe at `sample`"),
    ],
)
def test_what_is_no_recipe_is_told_in_one_message(a: str, b: str, says: str, tmp_path: Path):
    done = marco("recipe", "diff", a, b, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
