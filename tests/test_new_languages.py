"""Languages that do not ship are added by a folder of data files: they are built, they are identity, they travel."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from added_languages import LANGUAGES_CSV, PROSE, STOP_WORDS, values, write_folder
from command_line import marco
from small_corpus import Built, as_recipe, build, recipe_values, write_corpus, write_recipe

from marco_data.dataset import Dataset
from marco_data.errors import RecipeError
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.languages import LANGUAGES, SHIPPED, canonical, new_languages
from marco_data.new_languages import read_new_languages
from marco_data.recipe import Recipe, load_recipe
from marco_data.stage import finish
from marco_data.storage import Storage

FOUR = sorted(PROSE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    write_recipe(folder / "r.yaml", values(folder))
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> Built:
    return build(site / "r.yaml", site / "root")


def verdicts(built: Built) -> list[dict[str, Any]]:
    columns = ["language", "failed", "reason", "measured"]
    files = [file for record in built.stage.records(built.storage, "decide") for file in record.data]
    return [row for file in files for row in built.storage.read_table(file.path, columns).to_pylist()]


def nodes(recipe: Recipe) -> dict[str, str]:
    dataset: Dataset = recipe.pipeline_function()(recipe)
    return {node.name: node.folder for node in dataset.nodes}


def message_of(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return str(caught.value)


# Built


def test_four_languages_of_a_users_folder_are_built_and_no_code_is_touched(built: Built):
    assert built.stage.balanced
    assert {row["reason"] for row in verdicts(built)} == {None}
    assert Counter(row["language"] for row in verdicts(built)) == dict.fromkeys(FOUR, 2)
    blend = (Path(built.storage.root) / built.stage.folder / "blend.json").read_text("utf-8")
    assert all(code in blend for code in FOUR)


def test_without_the_folder_none_of_the_four_is_a_language(site: Path):
    without = {key: value for key, value in values(site).items() if key != "languages_from"}
    assert "`srp_Latn` is not one of the 64 languages" in message_of(write_recipe(site / "without.yaml", without))


def test_stop_words_and_limits_of_the_folder_judge(site: Path, tmp_path: Path):
    changed = values(tmp_path)
    limits = (tmp_path / "languages" / "limits.csv").read_text("utf-8")
    (tmp_path / "languages" / "limits.csv").write_text(
        limits.replace("bos_Latn,min_words,30", "bos_Latn,min_words,500"), "utf-8"
    )
    words = [f"{c},{w}" for c, found in STOP_WORDS.items() for w in ("hvilken" if c == "nno_Latn" else found).split()]
    (tmp_path / "languages" / "stop_words.csv").write_text("\n".join(["language,word", *words]) + "\n", "utf-8")
    found = verdicts(build(write_recipe(tmp_path / "r.yaml", changed), tmp_path / "root"))
    by_language = {code: {row["reason"] for row in found if row["language"] == code} for code in FOUR}
    assert by_language["bos_Latn"] == {"quality/too_few_words"}
    assert by_language["nno_Latn"] == {"quality/too_few_stop_words"}
    assert by_language["srp_Latn"] == by_language["arz_Arab"] == {None}


def test_a_document_is_of_the_declared_language_only_where_the_model_takes_it_for_its_neighbour(tmp_path: Path):
    changed = values(tmp_path)
    rows = [
        {"id": "english", "text": " ".join(["The ferry leaves at nine and the river is calm in the morning."] * 8)},
        {"id": "bosnian", "text": PROSE["bos_Latn"][0]},
    ]
    (tmp_path / "text" / "bos_Latn" / "text.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    found = verdicts(build(write_recipe(tmp_path / "r.yaml", changed), tmp_path / "root"))
    assert Counter((r["language"], r["reason"]) for r in found if r["language"] in ("bos_Latn", "eng_Latn")) == {
        ("eng_Latn", "select_language/wrong_language"): 1,
        ("bos_Latn", None): 1,
    }


def test_serbian_in_cyrillic_letters_stays_what_sr_means(site: Path):
    load_recipe(site / "r.yaml")
    assert (canonical("sr").code, canonical("srp").code) == ("srp_Cyrl", "srp_Cyrl")
    assert (canonical("sr-Latn").code, canonical("masri").code, canonical("nn").code) == (
        "srp_Latn",
        "arz_Arab",
        "nno_Latn",
    )


# Travels


def test_another_process_knows_the_languages_of_the_nodes_it_is_sent(site: Path, tmp_path: Path, built: Built):
    recipe = load_recipe(site / "r.yaml")
    dataset = recipe.pipeline_function()(recipe)
    storage = Storage(str(tmp_path))
    result = run(dataset, storage, LocalExecutor(2), Silent())
    assert finish(recipe, dataset, result, storage).books == built.stage.books
    digests = [[file.digest for r in s.records(at, "tokenize") for file in r.data] for s, at in (
        (built.stage, built.storage), (finish(recipe, dataset, result, storage), storage))]  # fmt: skip
    assert digests[0] == digests[1]


def test_a_recipe_without_new_languages_forgets_those_of_the_one_before(site: Path, tmp_path: Path):
    load_recipe(site / "r.yaml")
    assert len(LANGUAGES) == len(SHIPPED) + 4
    as_recipe(recipe_values(write_corpus(tmp_path)))
    assert list(LANGUAGES) == list(SHIPPED)
    assert new_languages() == {}


# Identity


def test_a_recipe_without_new_languages_has_the_identity_it_always_had(site: Path, tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path))
    before = nodes(as_recipe(values))
    load_recipe(site / "r.yaml")
    assert nodes(as_recipe(values)) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "other"),
    [
        ("stop_words.csv", "nno_Latn,og", "nno_Latn,eller", {"measure"}),
        ("languages.csv", "nob_Latn dan_Latn", "nob_Latn", {"measure"}),
        ("languages.csv", "bos_Latn,Bosnian,bs,Latn", "bos_Latn,Bosnian,bs,Latn Cyrl", {"measure", "decide"}),
        ("limits.csv", "arz_Arab,max_word_length,12", "arz_Arab,max_word_length,13", {"decide"}),
        ("limits.csv", "arz_Arab,language_score,0.3", "arz_Arab,language_score,0.4", {"decide"}),
        ("languages.csv", "Norwegian Nynorsk", "Nynorsk", set()),
    ],
)
def test_what_a_file_says_is_identity_of_just_what_it_shapes(
    file: str, old: str, new: str, other: set[str], site: Path, tmp_path: Path
):
    recipe = write_recipe(tmp_path / "r.yaml", values(tmp_path))
    before = nodes(load_recipe(recipe))
    path = tmp_path / "languages" / file
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    after = nodes(load_recipe(recipe))
    assert {name for name in before if before[name] != after[name]} & {"measure", "decide"} == other


def test_where_the_folder_lies_is_no_identity(site: Path, tmp_path: Path):
    assert nodes(load_recipe(write_recipe(tmp_path / "r.yaml", values(tmp_path)))) == nodes(
        load_recipe(site / "r.yaml")
    )


# Mistakes

MISTAKES: dict[str, tuple[str, str, str, str]] = {
    # file, what is replaced, by what, what is said
    "a code of no form": ("languages.csv", "nno_Latn,Nor", "nynorsk,Nor", ":3: the code `nynorsk` is not ISO 639-3"),
    "a shipped code": ("languages.csv", "bos_Latn,", "hrv_Latn,", ":4: `hrv_Latn` is the shipped language `hrv_Latn`"),
    "a code twice": ("languages.csv", "bos_Latn,", "nno_Latn,", ":4: `nno_Latn` is there already"),
    "a shipped alias": ("languages.csv", "masri", "ar", ":5: the alias `ar` means the shipped language `arb_Arab`"),
    "an unknown column": ("languages.csv", "identified_as", "identifed_as", ":1: unknown column `identifed_as`; did"),
    "no code column": ("languages.csv", "code,name", "label,name", ":1: no column `code`"),
    "too few values": ("languages.csv", ",masri,arb_Arab", "", ":5: 6 values for 8 columns"),
    "an unknown limit": ("limits.csv", "srp_Latn,min_words", "srp_Latn,min_wrods", "unknown limit `min_wrods`; did"),
    "no number": ("limits.csv", "srp_Latn,min_words,30", "srp_Latn,min_words,few", "`min_words` is `few`: a number"),
    "a limit of nan": ("limits.csv", "srp_Latn,min_words,30", "srp_Latn,min_words,nan", ":6: `min_words` is `nan`: a"),
    "no end": ("limits.csv", "srp_Latn,min_words,30", "srp_Latn,min_words,-inf", ":6: `min_words` is `-inf`: a number"),
    "a score of nan": (
        "limits.csv",
        "srp_Latn,language_score,0.3",
        "srp_Latn,language_score,nan",
        "is `nan`: a number",
    ),
    "a limit twice": ("limits.csv", "srp_Latn,min_words,30", "srp_Latn,max_word_length,9", "is given twice"),
    "a limit of another": ("limits.csv", "srp_Latn,min_words", "srb_Latn,min_words", "`srb_Latn` is not in the lang"),
    "a low score": ("limits.csv", "srp_Latn,language_score,0.3", "srp_Latn,language_score,0.1", "below the floor 0.2"),
    "a score of no share": (
        "limits.csv",
        "srp_Latn,language_score,0.3",
        "srp_Latn,language_score,30",
        "a share from 0",
    ),
    "a word of another": (
        "stop_words.csv",
        "nno_Latn,og",
        "nor_Latn,og",
        ":10: `nor_Latn` is not in the languages.csv",
    ),
    "no word": ("stop_words.csv", "nno_Latn,og", "nno_Latn,", ":10: the word is empty"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_files_is_told_with_file_and_line(name: str, tmp_path: Path):
    file, old, new, says = MISTAKES[name]
    recipe = write_recipe(tmp_path / "r.yaml", values(tmp_path))
    path = tmp_path / "languages" / file
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    message = message_of(recipe)
    assert message.startswith(f"{recipe}:5: `languages_from`: ")
    assert says in message
    assert f"{path.parent}/" in message or "floor" in says


def test_a_language_without_stop_words_is_refused_where_some_are_asked_for(tmp_path: Path):
    recipe = write_recipe(tmp_path / "r.yaml", values(tmp_path))
    path = tmp_path / "languages" / "stop_words.csv"
    kept = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("arz")]
    path.write_text("\n".join(kept) + "\n", "utf-8")
    assert "`arz_Arab` has a limit `min_stop_words` and no word in stop_words.csv" in message_of(recipe)


def test_a_folder_or_file_that_is_missing_is_told(tmp_path: Path):
    recipe = write_recipe(tmp_path / "r.yaml", values(tmp_path))
    (tmp_path / "languages" / "limits.csv").unlink()
    assert "no `limits.csv` in" in message_of(recipe)
    recipe = write_recipe(tmp_path / "r.yaml", {**values(tmp_path), "languages_from": "gone"})
    assert f"no folder `{tmp_path / 'gone'}`" in message_of(recipe)


def test_a_language_that_nothing_can_tell_is_refused_before_anything_is_read(tmp_path: Path):
    undeclared = values(tmp_path)
    undeclared["sources"]["web"]["paths"] = ["text"]
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", undeclared))
    with pytest.raises(RecipeError, match="nothing can tell that a document is `srp_Latn`") as caught:
        recipe.pipeline_function()(recipe)
    assert "`identified_as`" in str(caught.value)


def test_models_are_not_asked_in_a_new_language(tmp_path: Path):
    generated = values(tmp_path) | {
        "generators": {"small": {"model": "m", "revision": "1"}},
        "generate": {"rephrase": {"generator": "small", "languages": ["nno_Latn"]}},
        "mixture": {"web": {"weight": 1}, "rephrase": {"weight": 1}},
    }
    message = message_of(write_recipe(tmp_path / "r.yaml", generated))
    assert "models are asked in the shipped languages only, not in nno_Latn" in message


def test_a_row_needs_no_more_than_code_and_name(tmp_path: Path):
    folder = write_folder(tmp_path)
    (folder / "languages.csv").write_text("code,name\n" + "".join(f"{code},X\n" for code in FOUR), "utf-8")
    first = read_new_languages(folder)[0]
    assert (first.language.code, first.language.scripts, first.language.words) == ("arz_Arab", ("Arab",), "unicode")
    assert (first.language.shingle_unit, first.language.shingle_size, first.identified_as) == ("word", 5, ())
    assert "identified_as" in LANGUAGES_CSV


def test_duplicates_of_an_added_language_are_asked_for_without_its_files(built: Built):
    words = ["--family", "four", "--root", built.storage.root, "--language"]
    assert marco("duplicates", 1, *words, "nno_Latn").code == 0
    assert "`nno_Cyrl` is not one of the 64 languages" in marco("duplicates", 1, *words, "nno_Cyrl").err
