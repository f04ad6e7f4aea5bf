"""A built stage: its books, its manifest, where the next one starts, and how it is found again."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import CODES, Built, as_recipe, build, recipe_values, row, write_corpus, write_jsonl, write_recipe

from marco_data.catalog import Choice, resolve
from marco_data.errors import RecipeError
from marco_data.execute import Run
from marco_data.records import DROPPED, FAILED, GENERATED, KEPT, READ, REPLACED, Count
from marco_data.stage import Stage, books, find_stage, finish, load_stage, unbalanced
from marco_data.storage import Storage


def count(outcome: str, documents: int, reason: str = "", language: str = "eng_Latn") -> Count:
    return Count(outcome, "web", language, reason, documents=documents)


def test_books_sum_by_outcome_and_reason():
    b = books(
        [
            *(count(READ, 9), count(READ, 1), count(GENERATED, 2), count(KEPT, 5), count(REPLACED, 1)),
            *(count(DROPPED, 2, "quality/a"), count(DROPPED, 1, "dedup/b"), count(DROPPED, 1, "quality/a")),
            count(FAILED, 2, "read/c"),
        ]
    )
    assert (b.read, b.generated, b.kept, b.replaced) == (10, 2, 5, 1)
    assert (b.dropped, b.failed) == ({"dedup/b": 1, "quality/a": 3}, {"read/c": 2})
    assert b.balanced


@given(read=st.integers(0, 50), kept=st.integers(0, 50), dropped=st.integers(0, 50), failed=st.integers(0, 50))
def test_books_balance_exactly_where_nothing_is_missing(read: int, kept: int, dropped: int, failed: int):
    counts = [count(READ, read), count(KEPT, kept), count(DROPPED, dropped, "x/y"), count(FAILED, failed, "x/z")]
    assert books(counts).balanced == (read == kept + dropped + failed)


def test_a_gap_in_one_language_is_not_hidden_by_a_surplus_in_another():
    counts = [count(READ, 5), count(KEPT, 4), count(READ, 5, language="ben_Beng"), count(KEPT, 6, language="ben_Beng")]
    assert books(counts).balanced
    assert [where[:2] for where in unbalanced(counts)] == [("web", "ben_Beng"), ("web", "eng_Latn")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "in")


def test_a_manifest_read_back_is_the_stage(corpus: Path, tmp_path: Path):
    built = build(as_recipe(recipe_values(corpus)), tmp_path / "out")
    found = load_stage(built.storage, "small", 3)
    assert found.to_json() == built.stage.to_json()
    assert Stage.from_json(built.storage.read_json(f"{found.folder}/manifest.json")) == found
    for node in ("measure", "decide", "dedup", "tokenize", "mix", "shards"):
        assert [r.to_json() for r in found.records(built.storage, node)] == [
            r.to_json() for r in built.run.records[node]
        ]


def test_the_newest_build_is_found_by_stage_and_every_build_by_its_recipe(corpus: Path, tmp_path: Path):
    one, two = as_recipe(recipe_values(corpus)), as_recipe(recipe_values(corpus) | {"budget": 3000})
    first, second = build(one, tmp_path / "out"), build(two, tmp_path / "out")
    storage = first.storage
    assert load_stage(storage, "small", 3).folder == load_stage(storage, "small", None).folder == second.stage.folder
    assert load_stage(storage, "small", 3, one).folder == first.stage.folder != second.stage.folder
    assert find_stage(storage, "small", 4) is None
    with pytest.raises(
        RecipeError, match=r"stage 4 of `small` has not been built in .*; built here: small-3"
    ) as caught:
        load_stage(storage, "small", 4)
    assert caught.value.hint.startswith("marco-data build-stage 4 --family small")


def ids(built: Built) -> set[str]:
    return {i for s in built.stage.shards for i in built.storage.read_table(s["lineage"])["id"].to_pylist()}


def test_stages_of_a_family_take_documents_one_after_the_other(corpus: Path, tmp_path: Path):
    values = recipe_values(corpus) | {"budget": 2500}
    built = [build(as_recipe(values | {"stage": n}), tmp_path / "out") for n in (1, 2, 3)]
    taken = [ids(b) for b in built]
    assert all(taken[:2])
    assert not taken[0] & taken[1]
    assert not (taken[0] | taken[1]) & taken[2]
    assert "mix/in_earlier_stage" not in built[0].stage.books.dropped
    assert built[1].stage.books.dropped["mix/in_earlier_stage"] == len(taken[0])
    assert built[2].stage.books.dropped["mix/in_earlier_stage"] == len(taken[0]) + len(taken[1])
    assert all(b.stage.balanced for b in built)
    alone = build(as_recipe(values | {"stage": 3, "after": "nothing"}), tmp_path / "out")
    assert ids(alone) == taken[0], "without a stage before it, a stage starts where the first did"


def test_a_stage_goes_on_after_the_recipes_own_and_whole_build_of_the_one_before(corpus: Path, tmp_path: Path):
    values = recipe_values(corpus) | {"budget": 2500}
    first = build(as_recipe(values | {"stage": 1}), tmp_path / "out")
    path = write_recipe(tmp_path / "r.yaml", values | {"stage": 1})
    build(resolve(Choice(recipe=path, inputs=[str(corpus / "web" / "a.jsonl")])), tmp_path / "out")
    broken = as_recipe(values | {"stage": 1, "seed": "other"})
    dataset = broken.pipeline_function()(broken)
    finish(broken, dataset, Run(records={}, stopped_before="mix"), first.storage)
    second = build(as_recipe(values | {"stage": 2}), tmp_path / "out")
    assert second.stage.mix["after"] == first.stage.folder
    assert not ids(first) & ids(second)


def test_a_branch_goes_on_after_the_stage_it_names(corpus: Path, tmp_path: Path):
    values = recipe_values(corpus) | {"budget": 2500}
    stages = [build(as_recipe(values | {"stage": n}), tmp_path / "out") for n in (1, 2)]
    branch = as_recipe(values | {"family": "small-global", "stage": 3, "after": "small/1", "seed": "small"})
    built = build(branch, tmp_path / "out")
    assert ids(built) == ids(stages[1])
    assert built.stage.mix["after"] == stages[0].stage.folder


def test_a_waived_shard_is_named_and_no_book_with_it_balances(corpus: Path, tmp_path: Path):
    values = recipe_values(corpus)
    key = build(as_recipe(values), tmp_path / "out").run.records["measure"][0].key
    built = build(as_recipe(values | {"waive": [key]}), tmp_path / "out")
    assert built.run.complete
    assert (built.stage.waived, built.stage.balanced) == ((key,), False)
    assert replace(built.stage, waived=()).balanced, "what was read is accounted for"
    blend = built.storage.read_json(f"{built.stage.folder}/blend.json")
    assert blend["waivers"] == [key]


def test_what_a_build_is_called_depends_on_its_content_and_not_on_its_place(corpus: Path, tmp_path: Path):
    here, there = (build(as_recipe(recipe_values(corpus)), tmp_path / name) for name in ("here", "there"))
    assert here.stage == there.stage


def test_files_are_counted_by_source_and_broken_ones_apart(tmp_path: Path):
    corpus = tmp_path / "in"
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_jsonl(corpus / "web" / name, [row(code, 0) for code in CODES])
    whole = (corpus / "web" / "b.jsonl.gz").read_bytes()
    (corpus / "web" / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    values = recipe_values(corpus) | {"mixture": {"web": {"weight": 1}}}
    built = build(as_recipe(values), tmp_path / "out")
    assert built.stage.files == {"web": {"files": 2, "broken": 1}}
    assert built.stage.books.failed == {"read/truncated": 1}
    assert built.stage.balanced


def test_an_unknown_root_has_no_stages(tmp_path: Path):
    with pytest.raises(RecipeError, match="`small` has not been built") as caught:
        load_stage(Storage(str(tmp_path / "none")), "small", None)
    assert "build-stage 3 --family small" in caught.value.hint
