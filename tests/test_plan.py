"""Plans: what is there, what would run, because of which key; nothing is started and nothing written."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import as_recipe, build, recipe_values, row, write_corpus, write_jsonl

from marco_data.dataset import Context, Dataset, safe_name
from marco_data.errors import RecipeError
from marco_data.plan import REBUILD, REDECIDE, SKIP, difference, plan_nodes, plan_sources
from marco_data.report import print_plan
from marco_data.stage import find_stage
from marco_data.step import Tools
from marco_data.storage import Storage


def dataset_of(values: dict[str, Any], **options: Any) -> Dataset:
    recipe = as_recipe(values)
    return recipe.pipeline_function()(recipe, **options)


def test_before_anything_is_built_only_the_reading_is_known(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in"))
    root = tmp_path / "out"
    nodes = plan_nodes(dataset_of(values), Storage(str(root)), None)
    assert [(n.node, n.status) for n in nodes[:2]] == [("measure", REBUILD), ("decide", REDECIDE)]
    assert (nodes[0].tasks, nodes[0].pending, nodes[0].because) == (4, 4, ["not built here yet"])
    assert all(n.tasks is None and n.because == [f"reads what `{before.node}` makes"] for before, n in pairwise(nodes))
    assert not root.exists()


def test_the_files_of_each_source_are_counted(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in"))
    books, web = plan_sources(dataset_of(values), as_recipe(values).part_of, Storage(str(tmp_path / "out")))
    assert (books.source, books.part, books.files, books.problem) == ("books", "books", 1, None)
    assert (web.files, web.bytes) == (3, sum(p.stat().st_size for p in (tmp_path / "in" / "web").iterdir()))


def test_a_source_that_is_not_here_is_a_line_of_the_plan_and_no_error(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in"))
    values["sources"]["web"]["paths"] = [str(tmp_path / "elsewhere" / "*.jsonl")]
    dataset = dataset_of(values)
    web = plan_sources(dataset, as_recipe(values).part_of, Storage(str(tmp_path / "out")))[1]
    assert web.files is None
    assert "no file to read at" in web.problem
    nodes = plan_nodes(dataset, Storage(str(tmp_path / "out")), None, reachable=False)
    assert {n.tasks for n in nodes} == {None}
    assert nodes[0].because == ["its sources are not reachable"]


def test_a_tokenizer_that_is_not_here_is_no_error_either(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in")) | {"tokenizer": {"path": str(tmp_path / "none")}}
    nodes = {n.node: n for n in plan_nodes(dataset_of(values), Storage(str(tmp_path / "out")), None)}
    assert nodes["tokenize"].folder == "tokenize-?"


def test_part_of_a_node_done_is_part_to_do(tmp_path: Path):
    corpus = write_corpus(tmp_path / "in")
    values = recipe_values(corpus)
    built = build(as_recipe(values), tmp_path / "out")
    for name in ("y.jsonl", "z.jsonl"):
        write_jsonl(corpus / "web" / name, [row("eng_Latn", 3) | {"id": name}])
    before = find_stage(built.storage, "small", 3)
    first = plan_nodes(dataset_of(values), built.storage, before)[0]
    assert (first.tasks, first.pending) == (6, 2)
    assert first.because == ["2 of 6 input slices are new or changed"]


def test_a_sample_runs_some_shards_and_the_full_run_reuses_them(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in"))
    tasks = dataset_of(values).node("measure").tasks(Context(Storage(str(tmp_path / "out")), Tools(), {}))
    places = sorted(int(task.key[-12:], 16) / 16**12 for task in tasks)
    some = build(as_recipe(values), tmp_path / "out", sample=(places[1] + places[2]) / 2)
    assert some.run.ran["measure"] == 2
    full = build(as_recipe(values), tmp_path / "out")
    assert full.run.ran["measure"] == 2
    fresh = build(as_recipe(values), tmp_path / "fresh")
    assert full.stage.shards == fresh.stage.shards


def printed(capsys, values: dict[str, Any], root: Path) -> tuple[list[str], int]:
    """The lines of a plan that name nodes, and how many nodes they stand for."""
    storage = Storage(str(root))
    nodes = plan_nodes(dataset_of(values), storage, find_stage(storage, "small", 3))
    print_plan("small stage 3", as_recipe(values), [], nodes)
    lines = [line[3:] for line in capsys.readouterr().out.splitlines() if line.startswith(("├─", "└─"))]
    folded = [int(found[1]) for line in lines if (found := re.search(r", and (\d+) passes before it", line))]
    assert len(lines) + sum(folded) == len(nodes)
    return [line.split()[0] for line in lines], len(nodes)


def test_the_passes_of_dedup_are_one_line_as_far_as_they_share_a_status(tmp_path: Path, capsys):
    corpus = write_corpus(tmp_path / "in")
    values = recipe_values(corpus)
    short = ["measure", "decide", "dedup", "tokenize", "mix", "shards"]
    before, count = printed(capsys, values, tmp_path / "out")
    assert before == short
    assert count > len(short) + 10
    build(as_recipe(values), tmp_path / "out")
    assert printed(capsys, values, tmp_path / "out")[0] == short
    values["steps"] = {**values.get("steps", {}), "dedup": {"threshold": 0.9}}
    changed, _ = printed(capsys, values, tmp_path / "out")
    assert "dedup" in changed
    assert len(changed) > len(short), "passes that are done, the one that begins anew, and what follows from it"


def test_every_node_of_a_plan_has_its_own_name(tmp_path: Path):
    dataset = dataset_of(recipe_values(write_corpus(tmp_path / "in")))
    with pytest.raises(RecipeError, match="two `measure` nodes"):
        dataset.then(dataset.nodes[0])


def test_all_is_there_after_a_build_and_the_fingerprint_names_it(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in"))
    built = build(as_recipe(values), tmp_path / "out")
    nodes = plan_nodes(dataset_of(values), built.storage, find_stage(built.storage, "small", 3))
    assert {(n.status, n.pending) for n in nodes} == {(SKIP, 0)}
    assert all((tmp_path / "out" / n.folder).is_dir() for n in nodes)
    assert (
        dataset_of(values).fingerprint
        == dataset_of(values).fingerprint
        != dataset_of(values | {"budget": 9}).fingerprint
    )


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, ["a.b: 1 -> 3"]),
        ({"a": 1}, {"b": 2}, ["a: 1 -> None", "b: None -> 2"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a.1: 2 -> 3"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a: [1, 2] -> [1]"]),
        ({"steps": [{"step": "sign", "n": 1}]}, {"steps": [{"step": "sign", "n": 2}]}, ["steps.sign.n: 1 -> 2"]),
        (
            {"steps": [{"step": "quality", "n": 1}, {"step": "old"}]},
            {"steps": [{"step": "remove"}, {"step": "quality", "n": 2}, {"step": "language"}]},
            [
                "steps.quality.n: 1 -> 2",
                "steps.old: no longer a step",
                "steps.remove: a new step",
                "steps.language: a new step",
            ],
        ),
        ({"a": "x" * 100}, {"a": "y"}, [f"a: {'x' * 57}... -> y"]),
    ],
)
def test_a_difference_names_each_key_that_changed(old: Any, new: Any, lines: list[str]):
    assert list(difference(old, new)) == lines


@given(st.text(max_size=200))
def test_any_name_becomes_one_harmless_part_of_a_path(name: str):
    safe = safe_name(name)
    assert 0 < len(safe) <= 80
    assert set(safe) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
