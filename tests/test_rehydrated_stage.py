"""A stage that repeats documents by the size of their cluster: shards hold each once, the blend draws it so often."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from small_corpus import Built, as_recipe, build, prose, recipe_values, write_jsonl, write_recipe

from marco_data.errors import RecipeError
from marco_data.recipe import load_recipe
from marco_data.why import Lookup

SHORT, LONG = 95, 130
# Clusters of `size` documents whose text is short and which quality drops; there is one long one of each size.
DROPPED_CLUSTERS = {1: 6, 2: 2, 3: 1}
# Dropped: 6 of 7, 4 of 6, 3 of 6, none of 4, 5, 6 and 7: 13 of 41 in all. Raw, max 5: 1 1 1 5 5 5 5.
# Means of five: 1, 8/4, 13/5, 17/5, 21/5, 20/4, 15/3.
WEIGHTS = {1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: 5, 7: 5}


def texts(size: int, words: int, seed: int) -> list[str]:
    """A cluster: an order of words of the sample's prose, with one word that tells its members apart."""
    mixed = " ".join(prose("eng_Latn")).replace(".", "").split()
    random.Random(seed).shuffle(mixed)
    return [" ".join([*mixed[:40], f"word{n}", *mixed[41:words]]) + "." for n in range(size)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehydrated") / "in"
    rows = []
    for size in WEIGHTS:
        rows += [{"id": f"long-{size}-{n}", "text": t} for n, t in enumerate(texts(size, LONG, seed=size))]
        for cluster in range(DROPPED_CLUSTERS.get(size, 0)):
            name, seed = f"short-{size}-{cluster}", 100 + 10 * size + cluster
            rows += [{"id": f"{name}-{n}", "text": t} for n, t in enumerate(texts(size, SHORT, seed))]
    write_jsonl(folder / "web" / "a.jsonl", rows[::2])
    write_jsonl(folder / "web" / "b.jsonl", rows[1::2])
    return folder


def values_of(corpus: Path, **more: Any) -> dict[str, Any]:
    values = recipe_values(corpus)
    values["mixture"] = {"web": {"weight": 1}}
    values["steps"] |= {"dedup": {"over": "all"}, "quality": {"overrides": {"en": {"min_words": 110}}}}
    return values | {"rehydrate": {"max": 5, "documents": 1}, **more}


@pytest.fixture(scope="module")
def built(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(as_recipe(values_of(corpus)), tmp_path_factory.mktemp("rehydrated") / "out")


def blend_of(built: Built) -> dict[str, Any]:
    return built.storage.read_json(f"{built.stage.folder}/blend.json")


def repeats(built: Built) -> dict[int, int]:
    """{cluster size: how often the blend's shards say a document is seen in a round}, of the documents in shards."""
    lookup = Lookup(built.stage, built.storage)
    out = {}
    for shard in built.stage.shards:
        for id in built.storage.read_table(shard["lineage"])["id"].to_pylist():
            ((_, place),) = lookup.places([id])
            out[lookup.answer(place).cluster_size or 1] = shard["repeats"]
    return out


def test_documents_are_repeated_by_the_weights_worked_out_by_hand(built: Built):
    assert built.stage.balanced
    assert repeats(built) == WEIGHTS
    assert built.stage.books.kept == len(WEIGHTS), "shards hold a document once"


def test_without_a_budget_each_document_is_drawn_as_often_as_its_weight_says(built: Built):
    blend = blend_of(built)
    assert {entry["epochs"] for entry in blend["entries"]} == {1, 2, 3, 4, 5}
    assert all(entry["epochs"] == entry["repeats"] for entry in blend["entries"])
    assert blend["tokens"] == sum(entry["tokens"] for entry in blend["entries"])
    assert blend["drawn"] == sum(entry["tokens"] * entry["repeats"] for entry in blend["entries"])
    assert sum(entry["weight"] for entry in blend["entries"]) == pytest.approx(1)
    names = Counter(entry["prefix"].rpartition("/")[2].partition("-")[0] for entry in blend["entries"])
    assert names == {"web": 1, "web.x2": 1, "web.x3": 1, "web.x4": 1, "web.x5": 1}


@pytest.mark.parametrize("share", [0.1, 0.4, 0.75, 1, 1.5, 2.5, 10])
def test_a_budget_counts_repeated_tokens(corpus: Path, built: Built, tmp_path: Path, share: float):
    round_ = blend_of(built)["drawn"]
    values = values_of(corpus, budget=int(share * round_))
    values["mixture"]["web"]["max_epochs"] = 4
    other = build(as_recipe(values), tmp_path / "out")
    blend = blend_of(other)
    longest = 5 * max(entry["tokens"] for entry in blend_of(built)["entries"])
    assert other.stage.balanced
    assert min(values["budget"], 4 * round_) - (longest if share < 1 else 0) <= blend["drawn"]
    assert blend["drawn"] <= min(values["budget"], 4 * round_)
    drawn = sum(entry["tokens"] * entry["epochs"] for entry in blend["entries"])
    assert drawn == pytest.approx(blend["drawn"])
    for entry in blend["entries"]:
        assert entry["epochs"] / entry["repeats"] == pytest.approx(min(max(share, 1), 4), rel=1e-3)
    assert WEIGHTS | repeats(other) == WEIGHTS


def test_the_next_stage_goes_on_after_the_documents_of_this_one(corpus: Path, built: Built, tmp_path: Path):
    values = values_of(corpus, budget=blend_of(built)["drawn"] // 2)
    stages = [build(as_recipe(values | {"stage": n}), tmp_path / "out") for n in (1, 2)]
    sizes = [repeats(stage).keys() for stage in stages]
    assert sizes[0]
    assert sizes[1]
    assert not sizes[0] & sizes[1]


def test_a_second_run_finds_all_of_it_done_and_workers_change_nothing(corpus: Path, built: Built, tmp_path: Path):
    again = build(built.recipe, built.storage.root)
    assert not any(again.run.ran.values())
    path = write_recipe(tmp_path / "r.yaml", values_of(corpus))
    words = ("build-stage", 3, "--recipe", path, "--root", tmp_path / "out", "--executor", "local", "--workers", 2)
    assert marco(*words).code == 0
    name = f"{built.stage.folder}/blend.json"
    assert (tmp_path / "out" / name).read_bytes() == built.storage.read(name)


def test_repeating_nothing_gives_the_tokens_of_a_recipe_without_it(corpus: Path, tmp_path: Path):
    one = build(as_recipe(values_of(corpus, rehydrate={"max": 1})), tmp_path / "one")
    plain = build(as_recipe(values_of(corpus, rehydrate=None)), tmp_path / "plain")
    assert "cluster_sizes" not in plain.run.records
    entries = [[{k: v for k, v in e.items() if k != "prefix"} for e in blend_of(b)["entries"]] for b in (one, plain)]
    assert entries[0] == entries[1]
    data = [b.storage.read(f"{b.stage.shards[0]['prefix']}.bin") for b in (one, plain)]
    assert data[0] == data[1]


def test_the_table_of_weights_is_printed(built: Built):
    site = ("--family", "small", "--root", built.storage.root)
    rows = marco("duplicates", 3, "--rehydrate", 5, *site, "--json").json
    # By default sizes are taken together until a thousand documents are: here all of them.
    assert rows == [
        {"language": "eng_Latn", "first": 1, "last": 7, "documents": 41, "dropped": 13, "weight": 1, "rate": 0.3171}
    ]
    csv = marco("duplicates", 3, "--rehydrate", 5, *site, "--csv").out.splitlines()
    assert csv == ["language,first,last,documents,dropped,rate,weight", "eng_Latn,1,7,41,13,0.3171,1"]
    assert "repetitions by cluster size" in marco("duplicates", 3, "--rehydrate", 5, *site).out


def test_a_recipe_that_does_not_know_the_clusters_is_told_so(corpus: Path, tmp_path: Path):
    values = values_of(corpus)
    values["steps"]["dedup"] = {}
    path = write_recipe(tmp_path / "r.yaml", values)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("rehydrate:"))
    with pytest.raises(RecipeError, match=rf"r.yaml:{line}: `rehydrate`: .*over: all"):
        load_recipe(path)
