"""`recipe show`: the YAML that is printed is the same recipe, and says of each value where it comes from."""

import re
from pathlib import Path

import pytest
from added_languages import values as added_values
from command_line import marco
from small_corpus import write_recipe
from test_recipe import GOOD, write

import recipes
from marco_data.recipe import Recipe, load_recipe
from marco_data.recipe_text import leaves, read_recipe, yaml_of

FILES = sorted(Path(recipes.__file__).parent.glob("*/stage*.yaml"))
assert len(FILES) == 16


@pytest.mark.parametrize("resolved", [True, False])
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_recipe_that_is_shown_loads_as_the_same_recipe(file: Path, resolved: bool, tmp_path: Path):
    text = yaml_of(read_recipe(file), resolved=resolved)
    shown = load_recipe(write(tmp_path, text))
    assert shown.digest == load_recipe(file).digest
    assert shown == load_recipe(file)


def test_a_recipe_with_languages_of_its_own_loads_as_the_same(tmp_path: Path):
    file = write_recipe(tmp_path / "r.yaml", added_values(tmp_path))
    (tmp_path / "shown").mkdir()
    shown = load_recipe(write(tmp_path / "shown", yaml_of(read_recipe(file))))
    assert shown.digest == load_recipe(file).digest


def test_strings_that_yaml_takes_for_something_else_stay_strings(tmp_path: Path):
    words = ["no", "1e3", "null", "2024-01-01", "a: b # c", "x\u2028y", "\x1f", "'", '"', "- a", "~", "ü\n", ""]
    values = {"description": "".join(words), "waive": words, "accept": {"no": words}}
    plain = GOOD + "".join(f"{key}: {value!r}\n" for key, value in {"seed": "x"}.items())
    file = write(tmp_path, plain)
    recipe = Recipe.model_validate(load_recipe(file).model_dump(mode="json") | values)
    write_recipe(tmp_path / "odd.yaml", recipe.model_dump(mode="json"))
    assert load_recipe(write(tmp_path, yaml_of(read_recipe(tmp_path / "odd.yaml")), "again.yaml")) == recipe


def test_each_value_has_the_file_and_line_it_comes_from_or_default(tmp_path: Path):
    write(tmp_path, "seed: below\nlimits: {failed_rows: 0.5}\nmixture: {books: {spill: none}}\n", "below.yaml")
    file = write(tmp_path, f"include: below.yaml\n{GOOD}")
    shown = yaml_of(read_recipe(file))

    def comment(line: str) -> str:
        (found,) = re.findall(rf"^{re.escape(line)}.*  # (.*)$", shown, re.MULTILINE)
        return re.sub(r".*/", "", found)

    assert comment("seed: below") == "below.yaml:1"
    assert comment("  failed_rows: 0.5") == "below.yaml:2"
    assert comment("  failed_files: 0.01") == "default"
    assert comment("budget: 500000000000") == "recipe.yaml:5"
    assert comment("      zho_Hans: 11.7") == "recipe.yaml:22"  # written as zh
    assert comment("languages: [eng_Latn, zho_Hans, ben_Beng]") == "recipe.yaml:6"
    assert comment("rehydrate: null") == "default"
    # The included mixture is replaced whole: what it said of `spill` does not count.
    assert shown.count("spill: unimax  # default") == 2
    assert "spill: none" not in shown


def test_every_line_of_the_yaml_has_a_place():
    lines = yaml_of(read_recipe(FILES[-1])).splitlines()
    assert [line for line in lines if not re.search(r"  # (?:default|\S.*:\d+)$", line)] == []


def test_without_resolved_only_what_the_files_say_is_shown(tmp_path: Path):
    file = write(tmp_path, GOOD)
    shown = yaml_of(read_recipe(file), resolved=False)
    assert "# default" not in shown
    assert "keep_dropped" not in shown
    assert "min_words: 40" in shown


def test_the_command_prints_yaml_or_json_with_places(tmp_path: Path):
    file = write(tmp_path, GOOD)
    assert marco("recipe", "show", file, "--resolved").out == yaml_of(read_recipe(file))
    told = marco("recipe", "show", file, "--resolved", "--json").json
    assert set(told) == {"recipe", "digest", "values", "places"}
    assert told["digest"] == load_recipe(file).digest
    assert Recipe.model_validate(told["values"]).digest == told["digest"]
    assert set(told["places"]) == {".".join(key) for key, _ in leaves(told["values"])}
    assert told["places"]["budget"].endswith("recipe.yaml:4")


def test_a_family_and_stage_name_a_recipe():
    assert (
        marco("recipe", "show", "sample/3", "--resolved", "--json").json["digest"]
        == load_recipe(next(file for file in FILES if file.parts[-2:] == ("sample", "stage3.yaml"))).digest
    )
