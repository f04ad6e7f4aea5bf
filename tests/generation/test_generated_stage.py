"""A whole stage with documents that a model wrote: the books, what is replaced, where a document comes from, rounds."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from roots import digests
from small_corpus import CODES, as_recipe, recipe_values, write_corpus, write_recipe

from marco_data.dashboard import distributions, documents
from marco_data.errors import RecipeError
from marco_data.evidence import explained
from marco_data.stage import load_stage
from marco_data.storage import Storage
from marco_data.tokens import Shard
from marco_data.why import Lookup, Place

MODEL = {"model": "nobody/tiny", "revision": "0123456789abcdef"}
POOLS = {"tiny": {"kind": "scripted", "script": "generation_makers:model"}}


def generating(corpus: Path, **entries: Any) -> dict[str, Any]:
    values = recipe_values(corpus)
    values["generators"] = {"tiny": dict(MODEL)}
    values["generate"] = entries or {
        "rephrase": {
            "maker": "generation_makers:Reprint",
            "generator": "tiny",
            "languages": list(CODES),
            "seeds": {"sources": ["web"]},
        },
        "qa": {
            "maker": "generation_makers:Translate",
            "generator": "tiny",
            "languages": ["tha_Thai", "zho_Hans"],
            "seeds": {"sources": ["books"]},
        },
    }
    values["mixture"] |= {"rephrase": {"weight": 1}, "multilingual_qa": {"weight": 1}}
    values["steps"]["quality"] = {"exempt": ["multilingual_qa"]}
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    values = generating(write_corpus(folder / "corpus"))
    write_recipe(folder / "recipe.yaml", values)
    write_recipe(folder / "pools.yaml", POOLS)
    return folder


def built(folder: Path, root: str, *more: object, recipe: str = "recipe.yaml") -> dict[str, Any]:
    done = marco(
        *("build-stage", 3, "--recipe", folder / recipe, "--root", folder / root, "--executor", "local"),
        *("--pools", folder / "pools.yaml", "--json"),
        *more,
    )
    assert done.code == 0, done.err
    return dict(done.json)


@pytest.fixture(scope="module")
def stats(folder: Path) -> dict[str, Any]:
    return built(folder, "out")


def why(folder: Path, root: str, *terms: str) -> list[dict[str, Any]]:
    done = marco("why", *terms, "--recipe", folder / "recipe.yaml", "--root", folder / root, "--json")
    assert done.code == 0, done.err
    return done.lines


def test_every_document_that_was_read_or_generated_is_accounted_for(stats: dict[str, Any]) -> None:
    documents = stats["documents"]
    assert stats["balanced"]
    assert documents["generated"] == sum(m["accepted"] for m in stats["requests"].values()) == 14
    gone = documents["kept"] + documents["replaced"] + sum(documents["dropped"].values())
    assert documents["read"] + documents["generated"] == gone + sum(documents["failed"].values())


def test_requests_are_counted_by_maker_with_a_reason_for_each_rejection(stats: dict[str, Any]) -> None:
    assert stats["requests"]["rephrase"] == {"requested": 14, "accepted": 12, "rejected": {"refusal": 2}}
    assert stats["requests"]["qa"] == {"requested": 2, "accepted": 2, "rejected": {}}
    tokens = {(r["maker"], r["language"]): r["accepted_tokens"] for r in stats["requests_by"]}
    assert tokens["qa", "tha_Thai"] > 0
    assert tokens["rephrase", "rus_Cyrl"] == 0


def test_what_was_generated_is_judged_like_what_was_read(stats: dict[str, Any]) -> None:
    assert stats["documents"]["dropped"]["select_language/wrong_language"] == 1
    # Two seeds of a language, and translations, were answered with one text each: one of them stays.
    assert stats["documents"]["dropped"]["dedup/exact"] >= 5


def test_a_seed_is_replaced_where_its_rewriting_is_kept_and_nowhere_else(folder: Path, stats: dict[str, Any]) -> None:
    keys = [f"{code[:3]}-{n}" for code in CODES for n in (0, 1)]
    verdicts = {answer["source_id"]: answer for answer in why(folder, "out", *keys)}
    replaced = {key for key, answer in verdicts.items() if answer["verdict"] == "replaced"}
    assert len(replaced) == stats["documents"]["replaced"]
    assert {"deu-0", "fra-0", "rus-0", "rus-1"} & replaced == set()
    # In Thai and Chinese a translation has the same text: whichever has the lower id stays.
    one_each = Counter(key[:3] for key in replaced if key[:3] not in ("tha", "zho"))
    assert one_each == {"eng": 1, "deu": 1, "fra": 1, "ben": 1}
    (rewriting,) = why(folder, "out", verdicts["deu-1"]["replaced_by"])
    assert rewriting["verdict"] == "kept"
    assert rewriting["part"] == "rephrase"
    assert rewriting["origin"]["parent_ids"] == [verdicts["deu-1"]["id"]]
    assert rewriting["origin"]["model"] == "nobody/tiny@0123456789abcdef"
    assert rewriting["origin"]["labels"] == {"style": "reprint"}
    assert [(m["maker"], m["reason"]) for m in verdicts["rus-0"]["made"]] == [("rephrase", "refusal")]


def test_tokens_in_a_shard_lead_back_to_the_seed(folder: Path, stats: dict[str, Any]) -> None:
    prefix = next(s for s in stats["shards"] if "/rephrase/deu_Latn/" in s)
    assert Shard(Path(prefix)).tokens > 0
    (answer,) = why(folder, "out", f"{prefix}:0")
    (seed,) = why(folder, "out", answer["origin"]["parent_ids"][0])
    assert (answer["verdict"], seed["verdict"], seed["source_id"]) == ("kept", "replaced", "deu-1")


def test_before_the_last_dedup_generated_documents_have_answers_too(folder: Path, stats: dict[str, Any]) -> None:
    storage = Storage(str(folder / "out"))
    stage = load_stage(storage, "small", 3)
    kept = ("measure", "decide", "dedup_seeds", "seeds")
    nodes = {n: v for n, v in stage.nodes.items() if n in kept or n.startswith(("generate", "measure_", "decide_"))}
    lookup = Lookup(replace(stage, nodes=nodes, mix={}, shards=()), storage)
    places = [Place(n, row) for n, (_, file, _) in enumerate(lookup.measured) for row in range(file.rows)]
    generated = [place for place in places if place.shard >= len(lookup.sidecars)]
    assert len(generated) == stats["documents"]["generated"]
    assert 0 < len(lookup.sidecars) < len(lookup.measured)
    known = list(explained(lookup, places))
    assert [answer.verdict for answer, _ in known].count("kept") > len(generated) / 2
    assert all(answer.origin is not None for answer, _ in known[-len(generated) :])
    assert {lookup.id_of(place) for place in generated} == {answer.id for answer, _ in known[-len(generated) :]}
    assert len(documents.listed(lookup, documents.Filter(), most=100)) == len(places)
    assert documents.opened(lookup, generated[0]).answer == lookup.answer(generated[0])
    assert distributions.duplicates(lookup)["documents"] == stats["documents"]["read"]


def test_a_second_build_asks_nothing_and_writes_nothing(folder: Path, stats: dict[str, Any]) -> None:
    before = digests(folder / "out")
    write_recipe(folder / "pools.yaml", {"tiny": {"kind": "scripted", "script": "generation_makers:silent"}})
    try:
        again = built(folder, "out")
    finally:
        write_recipe(folder / "pools.yaml", POOLS)
    assert again == stats
    assert digests(folder / "out") == before


def test_two_workers_write_the_same_bytes(folder: Path, stats: dict[str, Any]) -> None:
    built(folder, "two", "--workers", 2)
    assert digests(folder / "two") == digests(folder / "out")


def test_a_changed_limit_asks_nothing_again(folder: Path, stats: dict[str, Any]) -> None:
    values = generating(folder / "corpus")
    values["steps"]["quality"] = {"overrides": {"tha_Thai": {"min_words": 45}}, "exempt": ["multilingual_qa"]}
    write_recipe(folder / "changed.yaml", values)
    write_recipe(folder / "pools.yaml", {"tiny": {"kind": "scripted", "script": "generation_makers:silent"}})
    try:
        changed = built(folder, "out", recipe="changed.yaml")
    finally:
        write_recipe(folder / "pools.yaml", POOLS)
    assert changed["balanced"]


def test_without_a_pool_a_copied_ledger_gives_the_same_shards(folder: Path, stats: dict[str, Any]) -> None:
    (folder / "copied").mkdir()
    (folder / "out" / "ledger").rename(folder / "copied" / "ledger")
    try:
        done = marco(
            *("build-stage", 3, "--recipe", folder / "recipe.yaml", "--root", folder / "copied"),
            *("--executor", "local", "--json"),
        )
        assert done.code == 0, done.err
        assert "no pool for the generator `tiny`" in done.err
        names = [Path(s).relative_to(folder / "out") for s in stats["shards"]]
        assert [Path(s).relative_to(folder / "copied") for s in done.json["shards"]] == names
    finally:
        (folder / "copied" / "ledger").rename(folder / "out" / "ledger")


def test_what_nobody_answered_is_counted_and_answered_by_the_build_that_can(folder: Path) -> None:
    done = marco(
        *("build-stage", 3, "--recipe", folder / "recipe.yaml", "--root", folder / "alone"),
        *("--executor", "local", "--json"),
    )
    assert done.code == 0, done.err
    assert done.json["requests"]["rephrase"] == {"requested": 14, "accepted": 0, "rejected": {"not_recorded": 14}}
    assert "documents wanted, 0 accepted" in done.err
    assert "(not_recorded" in done.err
    assert built(folder, "alone")["requests"]["rephrase"]["accepted"] == 12


def test_retry_asks_again_for_one_reason_in_one_language_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(folder, "retried")
    monkeypatch.setenv("ASKED", str(folder / "asked.txt"))
    done = marco(
        *("retry", 3, "--recipe", folder / "recipe.yaml", "--root", folder / "retried", "--reason", "refusal"),
        *("--languages", "ru", "--executor", "local", "--pools", folder / "pools.yaml", "--json"),
    )
    assert done.code == 0, done.err
    assert done.json["requests"]["rephrase"] == {"requested": 14, "accepted": 14, "rejected": {}}
    assert len((folder / "asked.txt").read_text().splitlines()) == 2
    again = marco(
        *("retry", 3, "--recipe", folder / "recipe.yaml", "--root", folder / "retried", "--reason", "refusal")
    )
    assert again.code == 2
    assert "nothing was rejected" in again.err


def test_a_language_is_topped_up_in_rounds_until_its_target(folder: Path) -> None:
    values = generating(folder / "corpus")
    del values["generate"]["qa"], values["mixture"]["multilingual_qa"]
    values["steps"]["quality"] = {}
    values["generate"]["rephrase"]["target"] = {"eng_Latn": 1}
    write_recipe(folder / "target.yaml", values)
    stats = built(folder, "target", recipe="target.yaml")
    assert stats["generation_ended"]["rephrase"]["eng_Latn"] == "target"
    assert stats["generation_ended"]["rephrase"]["deu_Latn"] == "seeds"


def test_a_limit_of_cost_needs_a_price_and_stops_where_it_is_reached(folder: Path) -> None:
    words = ("build-stage", 3, "--recipe", folder / "recipe.yaml", "--root", folder / "cheap", "--executor", "local")
    done = marco(*words, "--pools", folder / "pools.yaml", "--max-cost", "0")
    assert done.code == 2
    assert "the pool `tiny` says no price" in done.err
    priced = {"tiny": {**POOLS["tiny"], "price": {"input": 1, "output": 1e6}}}
    write_recipe(folder / "priced.yaml", priced)
    done = marco(*words, "--pools", folder / "priced.yaml", "--max-cost", "0", "--json")
    assert done.code == 0, done.err
    assert done.json["balanced"]
    assert set(done.json["generation_ended"]["rephrase"].values()) == {"max_cost"}
    assert done.json["requests"] == {}


def test_only_the_languages_asked_for_are_generated(folder: Path) -> None:
    stats = built(folder, "some", "--languages", "deu_Latn,tha_Thai")
    assert {r["language"] for r in stats["requests_by"]} == {"deu_Latn", "tha_Thai"}
    assert "qa" not in stats["requests"]  # its seeds are English


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"generator": "tinny"}, "did you mean `tiny`"),
        ({"maker": "rephrasing"}, "did you mean `rephrase`"),
        ({"languages": ["xx"]}, "is not one of the 64 languages"),
        ({"languages": ["swh_Latn"]}, "swh_Latn not among the recipe's `languages`"),
        ({"seeds": {"sources": ["wob"]}}, "did you mean `web`"),
        ({"make": {"prefixx": "a"}}, "did you mean `prefix`"),
        ({"target": "many"}, "is not a number of tokens"),
    ],
)
def test_a_mistake_in_an_entry_is_told_with_its_line(folder: Path, change: dict[str, Any], said: str) -> None:
    values = generating(folder / "corpus")
    values["generate"]["rephrase"] |= change
    path = write_recipe(folder / "wrong.yaml", values)
    done = marco("validate", path)
    assert done.code == 2
    assert said in done.err
    assert str(path) in done.err


def test_documents_that_no_part_draws_from_are_a_mistake(folder: Path) -> None:
    values = generating(folder / "corpus")
    del values["mixture"]["rephrase"]
    with pytest.raises((RecipeError, ValueError), match="no part of `mixture` draws from"):
        as_recipe(values)
