"""A recipe's `remove`: what it names is in no new shard, nothing else is done again, the report says where it was."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import marco
from generation_makers import rewriting
from small_corpus import recipe_values, write_corpus, write_recipe

from marco_data.errors import RecipeError
from marco_data.step import Tools, run_step
from marco_data.steps.remove import LISTED, Remove, read_list

POOLS = {"tiny": {"kind": "scripted", "script": "generation_makers:model"}}
SILENT = {"tiny": {"kind": "scripted", "script": "generation_makers:silent"}}


def built(folder: Path, recipe: str, *more: object) -> tuple[dict[str, Any], str]:
    words = ("--recipe", folder / recipe, "--root", folder / "out", "--executor", "local", "--json")
    done = marco("build-stage", 3, *words, *more)
    assert done.code == 0, done.err
    return dict(done.json), done.err


def node_folders(root: Path, kind: str) -> set[str]:
    return {path.name for path in root.glob(f"{kind}-*")}


def lineage(stats: dict[str, Any]) -> set[str]:
    """The ids of all documents in a build's shards."""
    stage = Path(stats["blend"]).parent
    shards = json.loads((stage / "manifest.json").read_text("utf-8"))["shards"]
    assert len(shards) == len(stats["shards"])
    return {id for shard in shards for id in pq.read_table(stage.parent / shard["lineage"])["id"].to_pylist()}


def verdicts(folder: Path, recipe: str, *terms: str) -> dict[str, dict[str, Any]]:
    done = marco("why", *terms, "--recipe", folder / recipe, "--root", folder / "out", "--json")
    assert done.code == 0, done.err
    return {answer["source_id"]: answer for answer in done.lines}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any], str]:
    """A corpus built without and then with a list, in one root."""
    folder = tmp_path_factory.mktemp("removed")
    values = recipe_values(write_corpus(folder / "corpus"))
    write_recipe(folder / "all.yaml", values)
    first, _ = built(folder, "all.yaml")
    listed = "# asked for in May\neng-0\nhttp://EXAMPLE.org/deu-1/  # a page\nnobody-has-this\n"
    (folder / "remove.txt").write_text(listed, "utf-8")
    write_recipe(folder / "some.yaml", {**values, "remove": "remove.txt"})
    second, said = built(folder, "some.yaml")
    return folder, first, second, said


def test_listed_documents_are_dropped_and_the_books_balance(plain):
    folder, first, second, _ = plain
    assert first["balanced"]
    assert second["balanced"]
    assert second["documents"]["dropped"]["remove/listed"] == 2
    assert second["documents"]["kept"] == first["documents"]["kept"] - 2
    gone = verdicts(folder, "some.yaml", "eng-0", "deu-1")
    assert {(answer["verdict"], answer["reason"]) for answer in gone.values()} == {("dropped", LISTED)}
    before = verdicts(folder, "all.yaml", "eng-0", "deu-1")
    ids = {answer["id"] for answer in before.values()}
    assert ids <= lineage(first)
    assert ids.isdisjoint(lineage(second))


def test_no_source_is_read_again_and_shards_without_them_are_the_same_files(plain):
    folder, first, second, _ = plain
    assert len(node_folders(folder / "out", "measure")) == 1
    assert len(node_folders(folder / "out", "decide")) == 2
    assert len(list((folder / "out").glob("measure-*/manifest-*.json"))) == 1
    changed = {Path(prefix).parent.name for prefix in set(first["shards"]) - set(second["shards"])}
    assert changed == {"eng_Latn", "deu_Latn"}


def test_the_report_names_the_shards_that_had_them_and_entries_that_name_nothing(plain):
    folder, first, second, said = plain
    assert "removed: 2 documents" in said
    assert "1 entries name no document of this stage:\n    `nobody-has-this`" in said
    assert "`eng-0`" not in said
    (kept,) = (folder / "out" / "runs" / "removed").glob("*.json")
    report = json.loads(kept.read_text("utf-8"))
    (shards,) = report["shards"].values()
    gone = {prefix.removeprefix(f"{folder / 'out'}/") for prefix in set(first["shards"]) - set(second["shards"])}
    assert set(shards) == gone
    assert sum(shards.values()) == 2
    assert all(prefix in said for prefix in shards)


def test_a_list_in_another_order_with_other_comments_builds_nothing(plain):
    folder, _, second, _ = plain
    values = recipe_values(folder / "corpus")
    (folder / "again.txt").write_text("nobody-has-this\n\nhttp://EXAMPLE.org/deu-1/\neng-0 # by mail\n", "utf-8")
    write_recipe(folder / "again.yaml", {**values, "remove": "again.txt"})
    decided = node_folders(folder / "out", "decide")
    again, _ = built(folder, "again.yaml")
    assert again["shards"] == second["shards"]
    assert node_folders(folder / "out", "decide") == decided


def test_nothing_that_a_model_made_of_a_removed_document_is_left(tmp_path: Path):
    values = rewriting(write_corpus(tmp_path / "corpus"))
    values["generate"]["rephrase"]["seeds"] = {"sources": ["books"]}  # one of each language: no two answers are alike
    write_recipe(tmp_path / "all.yaml", values)
    write_recipe(tmp_path / "pools.yaml", POOLS)
    first, _ = built(tmp_path, "all.yaml", "--pools", tmp_path / "pools.yaml")
    (replaced,) = verdicts(tmp_path, "all.yaml", "deu-2").values()
    seed, made = replaced["id"], replaced["replaced_by"]
    assert made in lineage(first)
    (tmp_path / "remove.txt").write_text(f"{seed}\n", "utf-8")
    write_recipe(tmp_path / "some.yaml", {**values, "remove": "remove.txt"})
    write_recipe(tmp_path / "silent.yaml", SILENT)  # nobody answers what is asked again
    second, said = built(tmp_path, "some.yaml", "--pools", tmp_path / "silent.yaml")
    assert second["balanced"]
    assert second["requests"]["rephrase"]["requested"] == first["requests"]["rephrase"]["requested"] - 1
    assert second["requests"]["rephrase"]["rejected"] == first["requests"]["rephrase"]["rejected"]
    assert {seed, made}.isdisjoint(lineage(second))
    held = json.loads(next((tmp_path / "out" / "runs" / "removed").glob("*.json")).read_text("utf-8"))["shards"]
    (shards,) = held.values()
    assert [prefix.split("/", 1)[1].rpartition("/")[0] for prefix in shards] == ["rephrase/deu_Latn"]
    assert "or of what was made of them" in said


ROWS = [
    {"id": "0" * 32, "source_id": "eng-0", "url": "https://a.example/x"},
    {"id": "1" * 32, "source_id": None, "url": None},
    {"id": "2" * 32, "source_id": "<urn:uuid:2>", "url": "http://me@WWW.B.example:8080/p/?q=1#part"},
    {"id": "3" * 32, "source_id": "report.txt", "url": "https://notb.example/"},
    {"id": "4" * 32, "source_id": None, "url": "http://xn--bcher-kva.example/%7eu/%c3%bc?"},
    {"id": "5" * 32, "source_id": None, "url": "https://c.ex\r\nample/\ty\nz"},
]


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("eng-0", [0]),
        ("1" * 32, [1]),
        ("<urn:uuid:2>", [2]),
        ("b.example", [2]),
        ("domain:B.Example.", [2]),
        ("report.txt", [3]),
        ("id:b.example", []),
        ("https://www.b.example/p/?q=1", [2]),
        ("url:www.b.example/p/?q=1#other", [2]),
        ("https://www.b.example/p/", []),
        ("https://notb.example", [3]),
        ("example", []),
        ("http://www.notb.example/", [3]),
        ("https://b.example/p/?q=2", []),
        ("HTTPS://bücher.example/~u/ü/", [4]),
        ("https://bücher.example/~u/%C3%BC", [4]),
        ("https://bücher.example/~u%2f%C3%BC", []),
        ("domain:Bücher.example", [4]),
        ("domain:https://me@xn--bcher-kva.example:443/x", [4]),
        ("c.example", [5]),
        ("https://c.example/yz", [5]),
        ("# b.example", []),
        ("", []),
    ],
)
def test_an_entry_names_ids_urls_and_domains(tmp_path: Path, line: str, rows: list[int]):
    (tmp_path / "list.txt").write_text(f"{line}\n", "utf-8")
    step = Remove(file=str(tmp_path / "list.txt"))
    schema = pa.schema([(name, pa.string()) for name in ROWS[0]])
    batch = pa.RecordBatch.from_pylist(ROWS, schema)
    reasons = run_step(step, step.bind(None, Tools()), batch).reason.to_pylist()
    assert [i for i, reason in enumerate(reasons) if reason == LISTED] == rows


def test_a_wrong_entry_and_a_missing_list_are_told_with_their_place(tmp_path: Path):
    (tmp_path / "list.txt").write_text("a.example\ndomain:\n", "utf-8")
    with pytest.raises(RecipeError, match=r"list\.txt:2: `domain:` is no domain"):
        read_list(tmp_path / "list.txt")
    with pytest.raises(RecipeError, match=r"missing\.txt`: No such file or directory\n"):
        Remove(file=str(tmp_path / "missing.txt")).identity(Tools())
