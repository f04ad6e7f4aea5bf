"""Recipes: every mistake is told with file, line, key and remedy; includes and paths mean what they say."""

import re
from pathlib import Path

import pytest

from marco_data.catalog import Choice, families, parse_fields, recipe_file, resolve
from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.recipe import Recipe, load_recipe

GOOD = """\
family: mine
stage: 3
tokenizer: {path: tokenizer.json}
budget: 500B
languages: [en, zh, bn]
sources:
  web:
    paths: [web/*.jsonl]
    fields: {text: text, id: id}
    licence: odc-by
  books: {paths: books}
steps:
  identify_language: {threshold: 0.5}
  quality:
    overrides:
      bn: {min_words: 40}
mixture:
  multilingual:
    weight: 62.5
    sources: [web]
    languages: {zh: 11.7, bn: 1.5}
  books: {weight: 14.3}
"""

# (what is replaced in GOOD, by what, line of the mistake, what the message says)
MISTAKES: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "key at the top": ("budget: 500B", "bugdet: 500B", 4, ("unknown key `bugdet`", "did you mean `budget`?")),
    "key like no other": ("budget: 500B", "xyzzy: 1", 4, ("unknown key `xyzzy`", "keys here: accept, after, budget")),
    "key below": ("threshold: 0.5", "treshold: 0.5", 13, ("`steps.identify_language.treshold`", "`threshold`?")),
    "key of a source": ("licence: odc-by", "license: odc-by", 10, ("`sources.web.license`", "`licence`?")),
    "field of a source": (
        "id: id}",
        "ident: id}",
        9,
        ("unknown key `sources.web.fields.ident`", "keys here: id, lang"),
    ),
    "key of a part": ("weight: 62.5", "wieght: 62.5", 19, ("unknown key `mixture.multilingual.wieght`", "`weight`?")),
    "missing key of a part": ("    weight: 62.5\n", "", 18, ("`mixture.multilingual.weight` is missing",)),
    "missing key": ("stage: 3\n", "", 1, ("the key `stage` is missing",)),
    "type": ("weight: 62.5", "weight: heavy", 19, ("`mixture.multilingual.weight`", "valid number")),
    "type of a section": ("steps:\n", "steps: [1]\nother:\n", 12, ("`steps`", "dictionary")),
    "weight of zero": ("weight: 62.5", "weight: 0", 19, ("`mixture.multilingual.weight`", "greater than 0")),
    "no paths": ("paths: [web/*.jsonl]", "paths: []", 8, ("`sources.web.paths`", "at least 1")),
    "stage": ("stage: 3", "stage: 0", 2, ("`stage`", "greater than or equal to 1")),
    "stage in words": ("stage: 3", "stage: third", 2, ("`stage`", "valid integer")),
    "family": ("family: mine", "family: My Family", 1, ("`family`", "pattern")),
    "budget": ("budget: 500B", "budget: 500X", 4, ("`budget`: `500X` is not a number of tokens", "500B, 1.5T, 10M")),
    "no budget": ("budget: 500B", "budget: 0", 4, ("`budget`: `0` is not a number of tokens",)),
    "language": (
        "[en, zh, bn]",
        "[en, zh, ben_Bengali]",
        5,
        ("`languages`", "ben_Bengali", "did you mean", "ben_Beng"),
    ),
    "languages that are no list": ("[en, zh, bn]", "en", 5, ("`languages`: input should be a list",)),
    "removal of a number": ("budget: 500B", "remove: 5", 4, ("`remove`: it names a file, `remove: remove.txt` or",)),
    "removal of a list": ("budget: 500B", "remove: [a]", 4, ("`remove`: it names a file, `remove: remove.txt` or",)),
    "a source that is no mapping": ("books: {paths: books}", "books: 5", 11, ("`sources.books`: input", "dictionary")),
    "language of a share": ("{zh: 11.7,", "{zhh: 11.7,", 21, ("`mixture.multilingual.languages`", "zhh")),
    "language twice in shares": ("bn: 1.5}", "zho_Hans: 1.5}", 21, ("two of its codes name the same language",)),
    "language of a limit": ("      bn:", "      bnn:", 15, ("`steps.quality.overrides`", "bnn")),
    "limit": (
        "min_words: 40",
        "min_wrods: 40",
        14,
        ("unknown quality limit `min_wrods` for `ben_Beng`", "`min_words`?"),
    ),
    "threshold": (
        "threshold: 0.5",
        "threshold: 1.5",
        13,
        ("`steps.identify_language.threshold`", "less than or equal to 1"),
    ),
    "share above 1": ("threshold: 0.5", "min_share: 70", 13, ("`steps.identify_language.min_share`", "or equal to 1")),
    "share below 0": (
        "threshold: 0.5",
        "min_share: -0.1",
        13,
        ("`steps.identify_language.min_share`", "or equal to 0"),
    ),
    "share in words": (
        "threshold: 0.5",
        "min_share: most",
        13,
        ("`steps.identify_language.min_share`", "valid number"),
    ),
    "threshold below the floor": ("threshold: 0.5", "threshold: 0.1", 13, ("below the floor 0.2", "lower `floor` too")),
    "shares of a language that is not built": (
        "[en, zh, bn]",
        "[en, bn]",
        21,
        ("`multilingual` has shares for zho_Hans",),
    ),
    "part of an unknown source": (
        "sources: [web]",
        "sources: [wbe]",
        20,
        ("names the source `wbe`", "did you mean `web`?"),
    ),
    "source in two parts": ("sources: [web]", "sources: [web, books]", 17, ("source `books` is in two parts",)),
    "key twice": ("stage: 3\n", "stage: 3\nstage: 4\n", 3, ("`stage` is given twice (first in line 2)",)),
    "key twice below": ("weight: 62.5\n", "weight: 1\n    weight: 2\n", 20, ("`weight` is given twice",)),
    "tab": ("stage: 3", "\tstage: 3", 2, ("not valid YAML",)),
    "open bracket": ("[en, zh, bn]", "[en, zh", 6, ("not valid YAML",)),
    "key that is a list": ("stage: 3", "[a, b]: 3", 2, ("a key is a word",)),
    "python tag": (
        "stage: 3",
        "stage: !!python/object/apply:os.getpid []",
        2,
        ("not valid YAML", "python/object/apply"),
    ),
    "python name": ("stage: 3", "stage: !!python/name:os.system", 2, ("not valid YAML",)),
    "frame of two lines": (
        "steps:\n",
        'steps:\n  sign:\n    frames:\n      - "Answer: {}"\n      - "Question: {}\\nAnswer: {}"\n',
        16,
        ("`steps.sign.frames.1`", "a frame is one line", "write each line of the template as a frame of its own"),
    ),
    "frame that matches all": (
        "steps:\n",
        "steps:\n  sign: {frames: ['{}']}\n",
        13,
        ("`steps.sign.frames.0`", "has no word beside {}", "write the template's words"),
    ),
    "key like frames": ("steps:\n", "steps:\n  sign: {frame: [a]}\n", 13, ("`steps.sign.frame`", "mean `frames`?")),
    "include that is missing": ("family: mine", "include: gone.yaml", 1, ("`include: gone.yaml`", "there is no file")),
    "include of itself": ("family: mine", "include: recipe.yaml", 1, ("goes round in a circle",)),
    "include of a number": ("family: mine", "include: 5", 1, ("`include: 5`", "there is no file")),
}


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def message_of(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return str(caught.value)


def test_the_recipe_that_the_mistakes_are_made_in_is_good(tmp_path: Path):
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.languages == ("eng_Latn", "zho_Hans", "ben_Beng")
    assert recipe.budget == 500 * 10**9
    assert recipe.part_of == {"web": "multilingual", "books": "books"}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_place_its_key_and_the_remedy(name: str, tmp_path: Path):
    old, new, line, says = MISTAKES[name]
    assert GOOD.count(old) == 1
    path = write(tmp_path, GOOD.replace(old, new))
    message = message_of(path)
    assert f"{path}:{line}: " in message, message
    for words in says:
        assert words in message, message


def test_every_mistake_of_a_recipe_is_told_at_once(tmp_path: Path):
    path = write(tmp_path, GOOD.replace("budget", "bugdet").replace("weight: 62.5", "weight: 0"))
    lines = message_of(path).splitlines()
    assert [re.match(rf"{re.escape(str(path))}:(\d+):", line).group(1) for line in lines] == ["4", "19"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a recipe is a mapping of keys to values"),
        (b"- a\n- b\n", "a recipe is a mapping of keys to values"),
        (b"family: \xff\xfe\n", "cannot be read as UTF-8 text"),
        (b"family: a\n---\nfamily: b\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_so(content: bytes, says: str, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    message = message_of(path)
    assert message.startswith(str(path))
    assert says in message


def test_a_recipe_that_is_not_there_says_how_to_name_one(tmp_path: Path):
    assert "give the path of one" in message_of(tmp_path / "none.yaml")


def test_a_mistake_in_an_included_file_is_told_with_that_file_and_line(tmp_path: Path):
    included = write(tmp_path, "seed: x\nsteps:\n  normalise: {}\n", "shared/steps.yaml")
    main = write(
        tmp_path, f"include: shared/steps.yaml\n{GOOD.partition('steps:')[0]}mixture: {{web: {{weight: 1}}}}\n"
    )
    message = message_of(main)
    assert message.startswith(f"{included}:3: unknown key `steps.normalise`; did you mean `normalize`?")


def test_a_circle_of_includes_is_an_error(tmp_path: Path):
    write(tmp_path, "include: recipe.yaml\n", "b.yaml")
    message = message_of(write(tmp_path, f"include: [b.yaml]\n{GOOD}"))
    assert message.startswith(f"{tmp_path / 'b.yaml'}:1: ")
    assert "goes round in a circle" in message


def test_two_files_may_include_the_same_third(tmp_path: Path):
    write(tmp_path, "seed: shared\n", "c.yaml")
    write(tmp_path, "include: c.yaml\n", "a.yaml")
    write(tmp_path, "include: c.yaml\n", "b.yaml")
    assert load_recipe(write(tmp_path, f"include: [a.yaml, b.yaml]\n{GOOD}")).seed == "shared"


def test_includes_are_merged_key_by_key_and_the_file_itself_has_the_last_word(tmp_path: Path):
    write(tmp_path, "limits: {failed_rows: 0.5, failed_files: 0.5}\nseed: a\nshards: {bytes: 5}\n", "a.yaml")
    write(tmp_path, "limits: {failed_rows: 0.25}\nseed: b\n", "b.yaml")
    recipe = load_recipe(write(tmp_path, f"include: [a.yaml, b.yaml]\n{GOOD}limits: {{failed_files: 0.1}}\n"))
    assert (recipe.limits.failed_rows, recipe.limits.failed_files) == (0.25, 0.1)
    assert (recipe.seed, recipe.shards.bytes) == ("b", 5)


def test_a_mixture_is_replaced_whole_by_the_file_that_includes_it(tmp_path: Path):
    write(tmp_path, "mixture: {web: {weight: 1}, other: {weight: 2}}\n", "a.yaml")
    recipe = load_recipe(write(tmp_path, f"include: a.yaml\n{GOOD}"))
    assert list(recipe.mixture) == ["multilingual", "books"]


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path):
    write(
        tmp_path,
        "tokenizer: {path: ../tokenizers/small}\n"
        "sources: {web: {paths: [in/*.jsonl, 's3://lake/x/*.parquet', /data/y.jsonl]}, books: {paths: b}}\n",
        "families/sources.yaml",
    )
    text = GOOD.replace("tokenizer: {path: tokenizer.json}\n", "").replace("    paths: [web/*.jsonl]\n", "")
    recipe = load_recipe(write(tmp_path, f"include: ../families/sources.yaml\n{text}", "stages/recipe.yaml"))
    assert Path(recipe.tokenizer.path).resolve() == (tmp_path / "tokenizers" / "small").resolve()
    assert recipe.sources["web"].paths == (f"{tmp_path}/families/in/*.jsonl", "s3://lake/x/*.parquet", "/data/y.jsonl")
    assert recipe.sources["books"].paths == (f"{tmp_path}/stages/books",)


def test_a_recipe_means_the_same_from_whatever_folder_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "here", GOOD)
    absolute = load_recipe(path)
    monkeypatch.chdir(path.parent)
    assert load_recipe(Path("recipe.yaml")) == absolute


def test_norwegian_is_a_language_and_no_truth_value(tmp_path: Path):
    text = GOOD.replace("[en, zh, bn]", "[en, zh, bn, no]").replace("bn: 1.5}", "bn: 1.5, no: 3}")
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.languages[-1] == "nob_Latn"
    assert recipe.mixture["multilingual"].languages["nob_Latn"] == 3


def test_true_and_false_are_truth_values(tmp_path: Path):
    text = GOOD.replace("{threshold: 0.5}", "{threshold: 0.5, check_script: false}")
    assert load_recipe(write(tmp_path, text)).steps.identify_language.check_script is False


def test_a_limit_is_set_aside_with_null(tmp_path: Path):
    recipe = load_recipe(write(tmp_path, GOOD.replace("min_words: 40", "min_words: null")))
    assert recipe.steps.quality.overrides == {"ben_Beng": {"min_words": None}}


def test_all_languages_are_one_word(tmp_path: Path):
    assert load_recipe(write(tmp_path, GOOD.replace("[en, zh, bn]", "all"))).languages == tuple(LANGUAGES)


STAGES = [(name, path) for name, folder in families().items() for path in sorted(folder.glob("stage*.yaml"))]


@pytest.mark.parametrize(("family", "path"), STAGES, ids=[f"{name}-{path.stem}" for name, path in STAGES])
def test_every_shipped_recipe_loads_under_its_own_name(family: str, path: Path):
    recipe = load_recipe(path)
    branches_from = {"marco-mini-global": ("marco-mini", 2)}  # the family and the last stage it shares with it
    shared, last = branches_from.get(family, (family, 4))
    assert f"stage{recipe.stage}" == path.stem
    assert recipe.family == (shared if recipe.stage <= last else family)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


# What a command line makes of a recipe


def test_an_unknown_family_or_stage_says_which_there_are():
    with pytest.raises(RecipeError, match="no recipe family `sampel`") as caught:
        recipe_file(Choice(3, "sampel"))
    assert "sample" in caught.value.hint
    with pytest.raises(RecipeError, match="the family `sample` has no stage 9") as caught:
        recipe_file(Choice(9))
    assert caught.value.hint == "stages: 1, 2, 3, 4"


def test_input_replaces_sources_mixture_and_budget_and_keeps_steps(tmp_path: Path):
    path = write(tmp_path, GOOD)
    recipe = resolve(Choice(recipe=path, inputs=["my.jsonl", "s3://b/x"], fields={"text": "content"}))
    assert recipe.budget is None
    assert list(recipe.mixture) == list(recipe.sources) == ["input"]
    assert recipe.sources["input"].paths == (str(Path("my.jsonl").absolute()), "s3://b/x")
    assert recipe.sources["input"].fields.text == "content"
    assert recipe.after == "nothing"
    base = load_recipe(path)
    assert (recipe.steps, recipe.languages, recipe.tokenizer) == (base.steps, base.languages, base.tokenizer)


def test_languages_from_the_command_line_are_a_choice_among_the_recipes(tmp_path: Path):
    path = write(tmp_path, GOOD)
    recipe = resolve(Choice(recipe=path, languages="bn,eng_Latn", budget="10M"))
    assert recipe.languages == ("ben_Beng", "eng_Latn")
    assert recipe.mixture["multilingual"].languages == {"ben_Beng": 1.5}
    assert recipe.budget == 10**7
    with pytest.raises(RecipeError, match="--languages: tha_Thai not in this recipe") as caught:
        resolve(Choice(recipe=path, languages="th"))
    assert "eng_Latn, zho_Hans, ben_Beng" in caught.value.hint
    with pytest.raises(RecipeError, match="names no language"):
        resolve(Choice(recipe=path, languages=" , "))


def test_fields_from_the_command_line_name_a_role_and_a_column():
    assert parse_fields(["text=content", "id=a=b"]) == {"text": "content", "id": "a=b"}
    for wrong in ("text", "=x", "text="):
        with pytest.raises(RecipeError, match="write it as text=COLUMN"):
            parse_fields([wrong])
    with pytest.raises(RecipeError, match="there is no `txt` to map") as caught:
        parse_fields(["txt=content"])
    assert "text, id, url, language, licence" in caught.value.hint


def test_a_recipe_has_its_name_by_what_is_in_its_files_wherever_they_lie(tmp_path: Path):
    text = GOOD.replace("web/*.jsonl", "s3://lake/web/*.jsonl").replace("paths: books", "paths: /corpus/books")

    def digest(folder: str, tokenizer: str = "{}") -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "tokenizer.json").write_text(tokenizer)
        (tmp_path / folder / "r.yaml").write_text(text)
        return load_recipe(tmp_path / folder / "r.yaml").digest

    here = digest("here")
    assert digest("there") == here
    assert digest("here", '{"other": 1}') != here
    text = text.replace("/corpus", "/another")  # sources stay where they are, and count by that
    assert digest("here") != here
