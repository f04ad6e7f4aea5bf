"""Answers from a built stage: every document has one, on any root, of a whole build and of one that stopped."""

import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from planted_corpus import planted_values, write_planted
from small_corpus import Built, as_recipe, build

from marco_data.errors import RecipeError
from marco_data.records import DROPPED, FAILED, KEPT
from marco_data.why import Lookup, Place, inert


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("why")
    return build(as_recipe(planted_values(write_planted(folder / "in")) | {"budget": 3000}), folder / "out")


@pytest.fixture(scope="module")
def lookup(built: Built) -> Lookup:
    return Lookup(built.stage, built.storage)


def every_place(lookup: Lookup) -> list[Place]:
    return [Place(n, row) for n, (_, file, _) in enumerate(lookup.measured) for row in range(file.rows)]


def test_the_answers_for_all_documents_are_the_books(lookup: Lookup):
    answers = [lookup.answer(place) for place in every_place(lookup)]
    books = lookup.stage.books
    assert len(answers) == books.read
    assert sum(a.verdict == KEPT for a in answers) == books.kept
    for verdict, told in ((DROPPED, books.dropped), (FAILED, books.failed)):
        reasons = [a.reason for a in answers if a.verdict == verdict]
        assert {reason: reasons.count(reason) for reason in reasons} == told


def test_every_kept_document_is_found_at_its_tokens_and_no_other_is(lookup: Lookup):
    at_tokens = set()
    for shard in lookup.stage.shards:
        for token in range(0, shard["tokens"], 50):
            at_tokens.add(lookup.position(shard["prefix"], token))
            assert lookup.position(lookup.storage.uri(shard["prefix"]), token) in at_tokens
    assert at_tokens == {place for place in every_place(lookup) if lookup.answer(place).verdict == KEPT}


def test_where_decide_failed_for_a_shard_its_documents_are_undecided_and_no_other_answer_changes(built: Built):
    nodes, storage = built.stage.nodes, built.storage
    left = [record.path for record in built.stage.records(storage, "decide")][1:]
    decide = {**nodes["decide"], "manifest": None, "records": left}
    ended = replace(built.stage, mix={}, shards=())
    stages = (replace(ended, nodes={"measure": nodes["measure"], "decide": d}) for d in (nodes["decide"], decide))
    whole, part = (Lookup(stage, storage) for stage in stages)
    for place in every_place(whole):
        answer = part.answer(place)
        if place.shard == 0:
            assert (answer.verdict, answer.reason) == (FAILED, "undecided")
        else:
            assert answer == whole.answer(place)
    failed = list(whole.failures())
    assert failed
    first = {row["id"] for row in storage.read_table(whole.measured[0][1].path, ["id"]).to_pylist()}
    assert list(part.failures()) == [row for row in failed if row["id"] not in first]


def test_a_renamed_document_is_found_by_its_new_id_and_by_its_own(lookup: Lookup):
    places = [place for _, place in lookup.places(["two-texts"])]
    assert len(places) == 2
    for place in places:
        assert [p for _, p in lookup.places([lookup.answer(place).id])] == [place]


def test_a_shard_or_a_token_that_is_not_there_is_told(lookup: Lookup):
    with pytest.raises(RecipeError, match="no shard `x/y`"):
        lookup.position("x/y", 0)
    shard = lookup.stage.shards[0]
    with pytest.raises(RecipeError, match=f"there is none at {shard['tokens']:,}"):
        lookup.position(shard["prefix"], shard["tokens"])


def test_text_is_found_with_what_stands_around_it(lookup: Lookup):
    (place, around), *_ = lookup.find("MARKED-BY-THE-TEST")
    assert "MARKED-BY-THE-TEST" in around
    assert lookup.answer(place).verdict == DROPPED
    assert list(lookup.find("no such words (as these) .*")) == []


def test_to_find_a_token_nothing_is_written_to_the_root(lookup: Lookup):
    scratch = Path(lookup.storage.root) / "runs" / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    lookup.position(lookup.stage.shards[0]["prefix"], 0)
    assert not scratch.exists()


def told(reads: Callable[..., Any], paths: list[str]) -> Callable[..., Any]:
    """A method of a file system that says which path it was asked for."""

    def telling(filesystem: Any, path: str, *more: Any, **named: Any) -> Any:
        paths.append(path)
        return reads(filesystem, path, *more, **named)

    return telling


def test_a_build_on_another_file_system_answers_the_same(built: Built, lookup: Lookup, monkeypatch: pytest.MonkeyPatch):
    recipe = built.recipe
    there = build(recipe, "memory://why/root")
    elsewhere = Lookup(there.stage, there.storage)
    for place in every_place(lookup):
        assert elsewhere.answer(place) == lookup.answer(place)
    read: list[str] = []
    for name in ("_open", "cat_file"):
        monkeypatch.setattr(MemoryFileSystem, name, told(getattr(MemoryFileSystem, name), read))
    shard = lookup.stage.shards[-1]
    for token in (0, shard["tokens"] - 1):
        assert elsewhere.position(shard["prefix"], token) == lookup.position(shard["prefix"], token)
    assert [path.rpartition(".")[2] for path in read if not path.endswith(".parquet")].count("idx") == 1
    assert not [path for path in read if path.endswith(".bin")]
    assert list(elsewhere.failures()) == list(lookup.failures())
    fsspec.filesystem("memory").store.clear()


@given(st.binary(max_size=200))
def test_bytes_that_are_shown_hold_nothing_that_acts(data: bytes):
    shown = inert(data)
    assert shown.isprintable()
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def test_plain_text_is_shown_as_it_is():
    assert inert("ভোরের কুয়াশা, naïve".encode()) == "ভোরের কুয়াশা, naïve"
    assert inert(b"a\x1b[31mb\xff\n") == "a\\x1b[31mb\\xff\\n"
