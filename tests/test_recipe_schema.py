"""The JSON Schema of recipes, by an independent validator: it takes what loads, and finds wrong types and keys."""

import json
from pathlib import Path
from typing import Any

import pytest
from added_languages import write_folder
from command_line import marco
from jsonschema import Draft202012Validator
from test_recipe import GOOD, MISTAKES, write

import recipes
from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, canonical
from marco_data.recipe import load_recipe
from marco_data.recipe_schema import described_keys, recipe_schema
from marco_data.recipe_text import read_recipe, yaml_of
from marco_data.yaml_lines import read_yaml

FOLDER = Path(recipes.__file__).parent
STAGES = sorted(FOLDER.glob("*/stage*.yaml"))
PARTS = [
    FOLDER / "sample" / "sources.yaml",
    *(FOLDER / "marco-mini" / f"{p}.yaml" for p in ("sources", "generate", "benchmarks")),
]
WHOLE, PART = recipe_schema(), recipe_schema(part=True)

NOT_BY_THE_SCHEMA = {
    "language twice in shares": "two keys that mean one thing",
    "threshold below the floor": "hangs on two keys",
    "shares of a language that is not built": "hangs on two keys",
    "part of an unknown source": "hangs on two keys",
    "source in two parts": "hangs on two keys",
    "frame of two lines": "what a string says",
    "frame that matches all": "what a string says",
    "include that is missing": "a file",
    "include of itself": "a file",
}
"""Mistakes that are no wrong type and no unknown key. All others of the table that is valid YAML are found."""


NO_YAML = {
    *("key twice", "key twice below", "tab", "open bracket"),
    *("key that is a list", "python tag", "python name"),
}


def values(path: Path) -> dict[str, Any]:
    return read_yaml(path, a="recipe")[0]


def problems(given: Any, schema: dict[str, Any] = WHOLE) -> list[str]:
    return [error.message for error in Draft202012Validator(schema).iter_errors(given)]


@pytest.mark.parametrize("schema", [WHOLE, PART])
def test_the_schema_is_a_schema(schema: dict[str, Any]):
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("file", STAGES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_recipe_is_valid(file: Path):
    assert problems(values(file)) == []


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_included_file_is_a_valid_part(file: Path):
    assert problems(values(file), PART) == []
    assert problems(values(file)) != [] or "include" in values(file)


@pytest.mark.parametrize("file", STAGES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_resolved_recipe_is_valid_too(file: Path, tmp_path: Path):
    assert problems(values(write(tmp_path, yaml_of(read_recipe(file))))) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_in_a_type_or_a_key_is_found(name: str, tmp_path: Path):
    old, new, *_ = MISTAKES[name]
    path = write(tmp_path, GOOD.replace(old, new))
    if name in NO_YAML:  # editors say that without a schema
        with pytest.raises(RecipeError):
            values(path)
        return
    given = values(path)
    assert bool(problems(given)) == (name not in NOT_BY_THE_SCHEMA)


MORE: dict[str, tuple[str, str]] = {
    # what is added to GOOD, and what `validate` says of it
    "an unknown step": ("  nomalize: {}\n", "unknown key `steps.nomalize`"),
    "a key of a step": ("  dedup: {treshold: 0.8}\n", "unknown key `steps.dedup.treshold`"),
    "a choice": ("  dedup: {over: everything}\n", "'passed' or 'all'"),
    "a table of limits": ("  quality: {limits: fineweb3}\n", "unknown limits `fineweb3`"),
    "a step of one's own": ("  extra: [{steps: 'a:B'}]\n", "unknown key `steps.extra.0.steps`"),
    "a share of removal": ("limits: {removal: {quality: 90}}\n", "less than or equal to 1"),
    "a language of removal": ("limits: {removal: {languages: {swx: {quality: 0.5}}}}\n", "`swx` is not one"),
    "a key of limits": ("limits: {failed_row: 0.1}\n", "unknown key `limits.failed_row`"),
    "a size of shards": ("shards: {tokens: many}\n", "is not a number of tokens"),
    "repeats": ("rehydrate: {max: 0}\n", "greater than or equal to 1"),
    "a name of a source": ("sources: {Web Pages: {paths: a}}\n", "pattern"),
    "a format": ("sources: {x: {paths: [a], read: csv}}\n", "'jsonl'"),
    "a role": ("sources: {x: {paths: [a], optional: [text]}}\n", "'id'"),
    "a language of a source": ("sources: {x: {paths: [a], language: 5}}\n", "valid string"),
    "a model": ("generators: {m: {model: x}}\n", "`generators.m.revision` is missing"),
    "a maker": ("generate: {x: {maker: rewrite, generator: m, languages: all}}\n", "no maker `rewrite`"),
    "a maker's setting": (
        "generate: {qa: {generator: m, languages: all, make: {most_pair: 3}}}\n",
        "`make.most_pair` is no setting of `qa`",
    ),
    "a named maker's setting": (
        "generate: {x: {maker: mcq, generator: m, languages: all, make: {leaves: 0}}}\n",
        "`make.leaves`",
    ),
    "a seed's tier": ("generate: {qa: {generator: m, languages: all, seeds: {quality_tier: best}}}\n", "'high'"),
    "a target": ("generate: {qa: {generator: m, languages: all, target: lots}}\n", "is not a number of tokens"),
    "what is accepted": ("accept: {ftfy: 6}\n", "`accept.ftfy`"),
    "a stage to go on from": ("after: sample-3\n", "pattern"),
}


@pytest.mark.parametrize("name", MORE)
def test_mistakes_further_down_are_found_by_both(name: str, tmp_path: Path):
    added, says = MORE[name]
    text = GOOD.replace("steps:\n", f"steps:\n{added}") if added.startswith("  ") else GOOD + added
    if added.startswith("sources"):
        text = GOOD.replace("sources:\n", "sources:\n" + added.replace("sources: {", "  ").removesuffix("}\n") + "\n")
    if added.startswith("  quality"):
        text = GOOD.replace("  quality:\n", "  quality:\n    limits: fineweb3\n")
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert says in str(caught.value)
    assert problems(values(path)) != []


def test_every_key_says_what_it_is():
    assert [key for key, said in described_keys(WHOLE) if not said] == []
    said = dict(described_keys(WHOLE))
    assert said["Recipe.budget"].startswith("Tokens of the stage")
    assert said["MixturePart.max_epochs"] == "`max_epochs` says how often a document may be repeated at most."
    assert said["Mcq.questions"] == "wanted of each seed"
    assert len(said) > 150


def test_languages_are_offered_in_all_their_codes():
    offered = WHOLE["$defs"]["Language"]["enum"]
    assert {"ben_Beng", "bn", "cmn_Hani", "sw"} <= set(offered)
    assert {canonical(code).code for code in offered} == set(LANGUAGES)


def test_languages_of_ones_own_are_offered_where_their_folder_is_given(tmp_path: Path):
    own = recipe_schema(languages_from=write_folder(tmp_path))
    given = {"family": "x", "stage": 1, "languages": ["nno_Latn"], "tokenizer": {"path": "t"}}
    given |= {"sources": {"a": {"paths": "x"}}, "mixture": {"a": {"weight": 1}}, "languages_from": "own"}
    assert problems(given, own) == []
    assert problems(given) != []


def test_the_command_writes_the_schema_and_prints_the_line_for_editors(tmp_path: Path):
    assert json.loads(marco("recipe", "schema").out) == WHOLE
    assert json.loads(marco("recipe", "schema", "--part").out) == PART
    done = marco("recipe", "schema", "--out", tmp_path / "recipe.schema.json")
    assert done.out == "# yaml-language-server: $schema=recipe.schema.json\n"
    assert json.loads((tmp_path / "recipe.schema.json").read_text("utf-8")) == WHOLE
    write(tmp_path, done.out + GOOD)
    assert load_recipe(tmp_path / "recipe.yaml").family == "mine"
    assert marco("recipe", "schema", "--out", tmp_path / "no" / "x.json").code == 2
