"""What a recipe may say in short: `recipe show` and `recipe diff` know each form, what it means and where it stands."""

from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import marco
from test_recipe import GOOD, write

from marco_data.recipe import load_recipe
from marco_data.recipe_text import differences, read_recipe, yaml_of


class Form(NamedTuple):
    """A value in short and another; `key` is what both become, `line` where the other stands."""

    short: str
    other: str
    key: str
    line: int = 4
    default: str | None = None  # a key beside it that is not said
    instead_of: str = "budget: 500B\n"


def made(target: str) -> str:
    entry = f"{{generator: g, languages: [bn], {target}}}"
    return f'generators: {{g: {{model: m, revision: "1"}}}}\ngenerate:\n  qa: {entry}\n'


def leaks(benchmark: str) -> str:
    return f"steps:\n  decontaminate: {{index: i, benchmarks: {{b: {benchmark}}}}}\n"


FORMS = {
    "a list alone": Form("remove: a.txt\n", "remove: b.txt\n", "remove.file", default="remove.copies"),
    "a list and its rule": Form("remove: a.txt\n", "remove: {copies: drop, file: b.txt}\n", "remove.file"),
    "tokens": Form("budget: 5K\n", "budget: 1.5M\n", "budget"),
    "tokens of a shard": Form(
        "shards: {tokens: 5K}\n", "shards: {tokens: 6K}\n", "shards.tokens", default="shards.bytes"
    ),
    "one path": Form("{paths: a.jsonl}", "{paths: b.jsonl}", "sources.books.paths", 11, instead_of="{paths: books}"),
    "all languages": Form("all", "[zh, bn]", "languages", 5, instead_of="[en, zh, bn]"),
    "a limit by a short code": Form(
        "bn: {min_words: 41}",
        "ben_Beng: {min_words: 42}",
        "steps.quality.overrides.ben_Beng.min_words",
        16,
        instead_of="bn: {min_words: 40}",
    ),
    "shares by a short code": Form(
        "zh: 11", "zho_Hans: 12", "mixture.multilingual.languages.zho_Hans", 21, instead_of="zh: 11.7"
    ),
    "columns by number": Form(
        leaks("{paths: a.tsv, fields: [1]}"),
        leaks("{paths: a.tsv, fields: [2]}"),
        "steps.decontaminate.benchmarks.b.fields",
        13,
        default="steps.decontaminate.limits.words",
        instead_of="steps:\n",
    ),
    "one file of a benchmark": Form(
        leaks("{paths: a.tsv, fields: [a]}"),
        leaks("{paths: b.tsv, fields: [a]}"),
        "steps.decontaminate.benchmarks.b.paths",
        13,
        instead_of="steps:\n",
    ),
    "a target for all": Form(
        made("target: 1M"), made("target: 2M"), "generate.qa.target", 6, default="generate.qa.maker"
    ),
    "a target by language": Form(made("target: {bn: 1M}"), made("target: {bn: 2M}"), "generate.qa.target.ben_Beng", 6),
    "a step as it is": Form(
        "steps:\n  mask_pii: {}\n  sign: {frames: [Question]}\n",
        "steps:\n  mask_pii: {}\n  sign: {frames: [Answer]}\n",
        "steps.sign.frames",
        14,
        instead_of="steps:\n",
    ),
}


def written(folder: Path, form: Form, words: str, name: str) -> Path:
    for removed in ("a.txt", "b.txt"):
        write(folder, f"{removed}.example\n", removed)
    assert GOOD.count(form.instead_of) == 1
    text = GOOD.replace(form.instead_of, words)
    if words.startswith("generators"):
        text = text.replace("{weight: 14.3}", "{weight: 14.3, sources: [books, multilingual_qa]}")
    return write(folder, text, name)


@pytest.mark.parametrize("resolved", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_what_is_shown_of_a_short_form_loads_as_the_same_recipe(name: str, resolved: bool, tmp_path: Path):
    form = FORMS[name]
    for words in (form.short, form.other):
        file = written(tmp_path, form, words, "r.yaml")
        shown = write(tmp_path, yaml_of(read_recipe(file), resolved=resolved), "shown.yaml")
        assert load_recipe(shown) == load_recipe(file)
        assert load_recipe(shown).digest == load_recipe(file).digest


@pytest.mark.parametrize("name", FORMS)
def test_a_short_form_has_the_place_it_is_written_at_and_what_is_not_said_is_default(name: str, tmp_path: Path):
    form = FORMS[name]
    file = written(tmp_path, form, form.other, "r.yaml")
    place = read_recipe(file).place(tuple(form.key.split(".")))
    assert place.endswith(f"r.yaml:{form.line}")
    file = written(tmp_path, form, form.short, "r.yaml")
    if form.default is not None:
        assert read_recipe(file).place(tuple(form.default.split("."))) == "default"


@pytest.mark.parametrize("name", FORMS)
def test_two_recipes_in_short_forms_differ_by_both_values_at_both_places(name: str, tmp_path: Path):
    form = FORMS[name]
    a, b = (written(tmp_path, form, words, f"{n}.yaml") for n, words in (("a", form.short), ("b", form.other)))
    (found,) = [d for d in differences(read_recipe(a), read_recipe(b)) if d.key == form.key]
    assert found.a != found.b
    assert f"{tmp_path.name}/a.yaml:" in found.place_a
    assert found.place_b.endswith(f"b.yaml:{form.line}")


def test_the_command_prints_a_list_that_one_recipe_has_and_both_where_both_have_one(tmp_path: Path):
    form = FORMS["a list alone"]
    plain = write(tmp_path, GOOD, "plain.yaml")
    a, b = (written(tmp_path, form, words, f"{n}.yaml") for n, words in (("a", form.short), ("b", form.other)))
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    told = marco("recipe", "diff", plain, a).out
    assert ": 2 keys differ\n" in told  # the budget and the list; the default beside the list is not told
    assert f"  remove.file: - -> {first}    (absent -> " in told
    assert "a.yaml:4)\n" in told
    assert f"  remove.file: {first} -> {second}    (" in marco("recipe", "diff", a, b).out
    assert f"  file: {first}  # " in marco("recipe", "show", a).out


def test_a_list_in_short_replaces_all_that_an_included_file_says_of_it(tmp_path: Path):
    write(tmp_path, GOOD + "remove: {file: a.txt, copies: drop}\n", "below.yaml")
    for removed in ("a.txt", "b.txt"):
        write(tmp_path, f"{removed}.example\n", removed)
    file = write(tmp_path, "include: below.yaml\n# above\nremove: b.txt\n")
    reading = read_recipe(file)
    assert reading.recipe.copies == "report"
    assert reading.place(("remove", "copies")) == "default"
    assert reading.place(("remove", "file")).endswith("recipe.yaml:3")
    assert load_recipe(write(tmp_path, yaml_of(reading, resolved=False), "shown.yaml")) == reading.recipe
