"""Documents like a removed one are named or go too, with what models made of them; shards that have any are named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from command_line import marco
from generation_makers import rewriting
from small_corpus import prose, recipe_values, row, write_corpus, write_jsonl, write_parquet_file, write_recipe
from test_removal import POOLS, SILENT, built, lineage, verdicts

from benchmarks import remove_list
from marco_data.errors import RecipeError
from marco_data.recipe import load_recipe
from marco_data.removal import removal_of
from marco_data.stage import load_stage
from marco_data.steps.remove import COPIES, read_list
from marco_data.storage import Storage
from marco_data.why import Lookup


def edited(text: str) -> str:
    """A near copy: two words of two hundred are others."""
    words = text.split(" ")
    assert len(words) > 60
    words[20], words[40] = "quite", "nearly"
    return " ".join(words)


def with_copies(folder: Path) -> dict[str, Any]:
    """The small corpus with the text of `eng-0` twice more, in another file: once as it is and once edited."""
    values = recipe_values(write_corpus(folder / "corpus"))
    text = prose("eng_Latn")[0]
    rows = [row("eng_Latn", 8, text) | {"url": "https://mirror.example/a"}, row("eng_Latn", 9, edited(text))]
    write_jsonl(folder / "corpus" / "web" / "d.jsonl", rows)
    (folder / "remove.txt").write_text("eng-0\nnobody-has-this\n", "utf-8")
    return values


def files_with(root: Path, ids: set[str]) -> set[str]:
    """The files of a root that have rows with texts of these documents."""
    files = [*root.glob("measure-*/*.parquet"), *root.glob("generate-*/*.documents*.parquet")]
    texts = [file for file in files if not file.name.startswith("records-")]
    assert texts
    found = {file: set(pq.read_table(file, columns=["id"])["id"].to_pylist()) for file in texts}
    return {str(file.relative_to(root)) for file, there in found.items() if ids & there}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[dict[str, Any], str]]]:
    """The same corpus without a list, with copies reported, and with copies dropped, in one root."""
    folder = tmp_path_factory.mktemp("copies")
    values = with_copies(folder)
    recipes = {
        "all": values,
        "report": {**values, "remove": "remove.txt"},
        "drop": {**values, "remove": {"file": "remove.txt", "copies": "drop"}},
    }
    for name, recipe in recipes.items():
        write_recipe(folder / f"{name}.yaml", recipe)
    return folder, {name: built(folder, f"{name}.yaml") for name in recipes}


def test_a_copy_that_comes_back_is_named_and_nothing_else_is_dropped(three):
    folder, builds = three
    (before, _), (report, said) = builds["all"], builds["report"]
    assert report["balanced"]
    assert report["documents"]["kept"] == before["documents"]["kept"]
    assert COPIES not in report["documents"]["dropped"]
    (copy,) = report["removal"]["copies"]
    assert copy["source_id"] in {"eng-8", "eng-9"}
    assert copy["id"] in lineage(report)
    gone = verdicts(folder, "report.yaml", "eng-0")["eng-0"]
    assert copy["of"] == [gone["id"]]
    assert gone["duplicate_of"] == copy["source_id"]
    assert f"    {copy['source_id']} (web, " in said
    assert "`copies: drop` takes them out" in said


def test_copies_go_too_where_the_recipe_says_so(three):
    folder, builds = three
    (before, _), (dropped, said) = builds["all"], builds["drop"]
    assert dropped["balanced"]
    assert dropped["documents"]["dropped"][COPIES] == 2
    assert dropped["documents"]["kept"] == before["documents"]["kept"] - 1
    answers = verdicts(folder, "drop.yaml", "eng-0", "eng-8", "eng-9")
    assert {answers[name]["reason"] for name in ("eng-8", "eng-9")} == {COPIES}
    assert {answers[name]["duplicate_of"] for name in ("eng-8", "eng-9")} == {"eng-0"}
    assert {answer["id"] for answer in answers.values()}.isdisjoint(lineage(dropped))
    assert {copy["source_id"] for copy in dropped["removal"]["copies"]} == {"eng-8", "eng-9"}
    assert "2 documents that are like them went too" in said


def test_why_names_the_shards_of_other_builds_that_have_a_removed_document(three):
    folder, builds = three
    had = {prefix for prefix in builds["report"][0]["shards"] if "/eng_Latn/" in prefix}
    (copy,) = builds["report"][0]["removal"]["copies"]
    told = verdicts(folder, "drop.yaml", copy["source_id"])[copy["source_id"]]
    named = {prefix for shards in told["held_by"].values() for prefix in shards}
    assert named
    assert {f"{folder / 'out'}/{prefix}" for prefix in named} <= had | set(builds["all"][0]["shards"])
    done = marco("why", copy["source_id"], "--recipe", folder / "drop.yaml", "--root", folder / "out")
    assert all(prefix in done.out for prefix in named)
    assert f"-- {COPIES}, similarity " in done.out
    assert "removed: web, eng-0 (" in done.out
    listed = marco("why", "eng-0", "--recipe", folder / "report.yaml", "--root", folder / "out")
    assert f"kept: web, {copy['source_id']} (" in listed.out


def test_removed_says_it_again_with_every_file(three):
    folder, builds = three
    words = ("--recipe", folder / "drop.yaml", "--root", folder / "out")
    done = marco("removed", 3, *words, "--json")
    assert done.code == 0, done.err
    assert done.json == builds["drop"][0]["removal"]
    assert all((folder / "out" / path).is_file() for path in done.json["texts"])
    shown = marco("removed", 3, *words)
    assert {Path(line) for line in shown.out.split()} == {folder / "out" / path for path in done.json["texts"]}
    none = marco("removed", 3, "--recipe", folder / "all.yaml", "--root", folder / "out")
    assert none.code != 0
    assert "removes nothing" in none.err


def test_a_list_that_was_changed_after_the_build_is_told(three, tmp_path: Path):
    folder, _ = three
    values = recipe_values(folder / "corpus")
    write_recipe(folder / "changed.yaml", {**values, "remove": "changed.txt"})
    (folder / "changed.txt").write_text("eng-1\n", "utf-8")
    done = marco("removed", 3, "--recipe", folder / "changed.yaml", "--root", folder / "out")
    assert done.code == 2
    assert "from this recipe" in done.err
    # What a list at a URL holds, a recipe does not know.
    storage = Storage(str(folder / "out"))
    stage = load_stage(storage, "small", 3, load_recipe(folder / "drop.yaml"))
    with pytest.raises(RecipeError, match="another one than this stage was built with"):
        removal_of(Lookup(stage, storage), read_list(folder / "changed.txt"), "drop")


def test_what_was_made_of_a_copy_goes_with_it_and_the_files_that_hold_it_are_named(tmp_path: Path):
    values = rewriting(write_corpus(tmp_path / "corpus"))
    values["generate"]["rephrase"]["seeds"] = {"sources": ["books"]}
    near = row("deu_Latn", 9, edited(prose("deu_Latn")[2]))
    write_parquet_file(tmp_path / "corpus" / "books" / "e.parquet", [near])
    (tmp_path / "remove.txt").write_text("deu-2\n", "utf-8")
    write_recipe(tmp_path / "all.yaml", values)
    write_recipe(tmp_path / "some.yaml", {**values, "remove": {"file": "remove.txt", "copies": "drop"}})
    write_recipe(tmp_path / "pools.yaml", POOLS)
    write_recipe(tmp_path / "silent.yaml", SILENT)
    first, _ = built(tmp_path, "all.yaml", "--pools", tmp_path / "pools.yaml")
    before = verdicts(tmp_path, "all.yaml", "deu-2", "deu-9")
    (made,) = {answer["replaced_by"] for answer in before.values()} - {None}
    second, _ = built(tmp_path, "some.yaml", "--pools", tmp_path / "silent.yaml")
    assert second["balanced"]
    assert second["documents"]["dropped"][COPIES] == 1
    assert second["requests"]["rephrase"]["requested"] == first["requests"]["rephrase"]["requested"] - 1
    assert {made, *(answer["id"] for answer in before.values())}.isdisjoint(lineage(second))
    removal = second["removal"]
    kinds = {path.partition("-")[0] for path in removal["texts"]}
    assert {"measure", "generate", "tokenize"} <= kinds
    assert removal["ledger"]
    assert all((tmp_path / "out" / path).is_file() for path in [*removal["texts"], *removal["ledger"]])
    ids = {made, *(answer["id"] for answer in before.values())}
    assert files_with(tmp_path / "out", ids) <= set(removal["texts"])


def test_the_files_that_hold_a_removed_rewriting_and_its_answer_are_named(tmp_path: Path):
    values = rewriting(write_corpus(tmp_path / "corpus"))
    values["generate"]["rephrase"]["seeds"] = {"sources": ["books"]}
    write_recipe(tmp_path / "all.yaml", values)
    write_recipe(tmp_path / "some.yaml", {**values, "remove": "remove.txt"})
    write_recipe(tmp_path / "pools.yaml", POOLS)
    built(tmp_path, "all.yaml", "--pools", tmp_path / "pools.yaml")
    made = verdicts(tmp_path, "all.yaml", "deu-2")["deu-2"]["replaced_by"]
    (tmp_path / "remove.txt").write_text(f"{made}\n")
    second, _ = built(tmp_path, "some.yaml", "--pools", tmp_path / "pools.yaml")
    assert second["documents"]["dropped"]["remove/listed"] == 1
    assert files_with(tmp_path / "out", {made}) <= set(second["removal"]["texts"])
    assert second["removal"]["ledger"]


def test_what_a_model_wrote_like_a_removed_document_is_not_dropped_for_it(tmp_path: Path):
    values = rewriting(write_corpus(tmp_path / "corpus"))
    values["generate"]["rephrase"]["seeds"] = {"sources": ["books"]}
    write_jsonl(tmp_path / "corpus" / "web" / "d.jsonl", [row("deu_Latn", 3)])  # what the model answers
    (tmp_path / "remove.txt").write_text("deu-3\n")
    write_recipe(tmp_path / "some.yaml", {**values, "remove": "remove.txt"})
    write_recipe(tmp_path / "pools.yaml", POOLS)
    report, _ = built(tmp_path, "some.yaml", "--pools", tmp_path / "pools.yaml")
    assert report["balanced"]
    made = verdicts(tmp_path, "some.yaml", "deu-2")["deu-2"]["replaced_by"]
    assert made in lineage(report)
    assert [copy["id"] for copy in report["removal"]["copies"]] == [made]


def test_shards_of_a_source_whose_files_have_changed_since_are_named(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    write_recipe(tmp_path / "all.yaml", values)
    first, _ = built(tmp_path, "all.yaml")
    gone = verdicts(tmp_path, "all.yaml", "eng-0")["eng-0"]["id"]
    with (tmp_path / "corpus" / "web" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row("eng_Latn", 3), ensure_ascii=False) + "\n")
    (tmp_path / "remove.txt").write_text("eng-0\n")
    write_recipe(tmp_path / "some.yaml", {**values, "remove": "remove.txt"})
    second, _ = built(tmp_path, "some.yaml")
    (named,) = second["removal"]["shards"].values()
    assert {f"{tmp_path / 'out'}/{prefix}" for prefix in named} <= set(first["shards"])
    assert sum(named.values()) == 1
    there = files_with(tmp_path / "out", {gone})
    assert len(there) == 2
    assert there <= set(second["removal"]["texts"])


def test_shards_are_named_whose_build_the_same_recipe_has_taken_the_pointer_from(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus")) | {"languages": ["en", "bn"]}
    write_recipe(tmp_path / "all.yaml", values)
    trained_on, _ = built(tmp_path, "all.yaml")
    with (tmp_path / "corpus" / "web" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row("eng_Latn", 3), ensure_ascii=False) + "\n")
    newer, _ = built(tmp_path, "all.yaml")
    (tmp_path / "remove.txt").write_text("eng-0\n")
    write_recipe(tmp_path / "some.yaml", {**values, "remove": "remove.txt"})
    removal = built(tmp_path, "some.yaml")[0]["removal"]
    both = {Path(stats["blend"]).parent.name for stats in (trained_on, newer)}
    assert len(both) == 2
    assert set(removal["shards"]) == both
    named = {prefix for shards in removal["shards"].values() for prefix in shards}
    assert {f"{prefix}.bin" for prefix in named} == {path for path in removal["texts"] if path.endswith(".bin")}
    assert all((tmp_path / "out" / f"{prefix}.bin").is_file() for prefix in named)


def test_a_document_of_an_earlier_crawl_that_is_like_a_removed_one_is_told(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    write_recipe(tmp_path / "old.yaml", values | {"steps": {**values["steps"], "dedup": {"index": "old"}}})
    built(tmp_path, "old.yaml")
    there = verdicts(tmp_path, "old.yaml", "eng-0")["eng-0"]["id"]
    pages = [row("eng_Latn", 9, edited(prose("eng_Latn")[0])), row("eng_Latn", 3)]
    write_jsonl(tmp_path / "corpus" / "new" / "a.jsonl", pages)
    values["sources"]["web"]["paths"] = [f"{tmp_path}/corpus/new/*"]
    values |= {"steps": {**values["steps"], "dedup": {"earlier": "old"}}, "remove": "remove.txt"}
    (tmp_path / "remove.txt").write_text("eng-9\n")
    write_recipe(tmp_path / "new.yaml", values)
    report, said = built(tmp_path, "new.yaml")
    (copy,) = report["removal"]["copies"]
    assert (copy["id"], copy["source"]) == (there, None)
    assert "1 documents of earlier crawls are like them" in said
    assert f"    {there} (an earlier crawl, " in said


def test_of_a_build_whose_decide_failed_for_some_shards_no_other_document_is_reported(three):
    folder, _ = three
    storage = Storage(str(folder / "out"))
    stage = load_stage(storage, "small", 3, load_recipe(folder / "report.yaml"))
    ((_, place),) = Lookup(stage, storage).places(["eng-0"])
    assert place.shard > 0
    left = [record.path for record in stage.records(storage, "decide")][1:]
    decide = {**stage.nodes["decide"], "manifest": None, "records": left}
    ended = replace(stage, nodes={"measure": stage.nodes["measure"], "decide": decide}, shards=())
    found = removal_of(Lookup(ended, storage), read_list(folder / "remove.txt"), "report")
    assert (found.documents, found.unmatched) == (1, ("nobody-has-this",))


def test_a_later_stage_is_without_them_and_the_earlier_one_that_had_them_is_named(tmp_path: Path):
    values = {**recipe_values(write_corpus(tmp_path / "corpus")), "budget": 4000}
    write_recipe(tmp_path / "three.yaml", values)
    write_recipe(tmp_path / "four.yaml", {**values, "stage": 4, "budget": None})
    where = ("--root", tmp_path / "out", "--executor", "local", "--json")
    third, _ = built(tmp_path, "three.yaml")
    fourth = marco("build-stage", 4, "--recipe", tmp_path / "four.yaml", *where)
    assert fourth.code == 0, fourth.err
    taken, left = sorted(lineage(third)), sorted(lineage(fourth.json))
    assert taken
    assert left
    (tmp_path / "remove.txt").write_text(f"{taken[0]}\n{left[0]}\n", "utf-8")
    write_recipe(tmp_path / "some.yaml", {**values, "stage": 4, "budget": None, "remove": "remove.txt"})
    again = marco("build-stage", 4, "--recipe", tmp_path / "some.yaml", *where)
    assert again.code == 0, again.err
    assert again.json["balanced"]
    assert again.json["documents"]["dropped"]["remove/listed"] == 2
    assert lineage(again.json) == set(left) - {left[0]}
    named = again.json["removal"]["shards"]
    assert sorted(folder.split("-")[1] for folder in named) == ["3", "4"]
    assert sum(n for shards in named.values() for n in shards.values()) == 2


def test_a_long_list_is_measured_and_finds_none_of_other_documents():
    figures = remove_list.measured(3_000)
    assert set(figures) == {"seconds", "MiB", "microseconds"}
    assert figures["microseconds"] > 0


def test_only_shards_that_were_made_from_the_same_files_are_looked_through(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    write_recipe(tmp_path / "all.yaml", {**values, "budget": 4000})
    (tmp_path / "remove.txt").write_text("eng-0\n", "utf-8")
    write_recipe(tmp_path / "some.yaml", {**values, "remove": "remove.txt"})
    first, _ = built(tmp_path, "all.yaml")
    second, _ = built(tmp_path, "some.yaml")
    (named,) = second["removal"]["shards"].values()
    manifest = json.loads((Path(first["blend"]).parent / "manifest.json").read_text("utf-8"))
    ours = {prefix.removeprefix(f"{tmp_path / 'out'}/") for prefix in second["shards"]}
    theirs = [s for s in manifest["shards"] if s["prefix"] not in ours]
    others = [s["lineage"] for s in theirs if s["language"] not in ("eng_Latn", "deu_Latn", "fra_Latn")]
    assert others
    for path in others:
        (tmp_path / "out" / path).write_bytes(b"not to be read")
    again = marco("removed", 3, "--recipe", tmp_path / "some.yaml", "--root", tmp_path / "out", "--json")
    assert again.code == 0, again.err
    assert list(again.json["shards"].values()) == [named]
    assert [prefix.split("/")[2] for prefix in named] == ["eng_Latn"]
