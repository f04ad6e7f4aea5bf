"""The nodes of a stage, each against what the ones before it left: rows, verdicts, sidecars, tokens, shards."""

import shutil
from collections import defaultdict, deque
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_corpus import PLANTED, DropMarked, planted_values, write_planted
from small_corpus import TOKENIZER, Built, as_recipe, build, recipe_values

from marco_data.dataset import Context
from marco_data.errors import RecipeError, ShardError
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.mix import selection_hashes
from marco_data.nodes.decide import Decide, measured_shards
from marco_data.nodes.measure import GATHERED_BYTES, Measure, by_language, gathered, numbered
from marco_data.nodes.mix import blocks, intervals_of
from marco_data.records import DROPPED, FAILED, READ, Record
from marco_data.sources import READ_SCHEMA, read_slice, split
from marco_data.stage import finish
from marco_data.step import Step, Tools
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer
from marco_data.tokens import Shard


class Planted:
    """The build of the planted corpus, and its tables joined by shard."""

    def __init__(self, folder: Path) -> None:
        values = planted_values(write_planted(folder / "in")) | {"budget": 3000}
        self.built: Built = build(as_recipe(values), folder / "out")
        assert self.built.run.failures == []

    @property
    def storage(self) -> Storage:
        return self.built.storage

    def records(self, node: str) -> list[Record]:
        return self.built.run.records[node]

    @cached_property
    def measured(self) -> list[pa.Table]:
        return [self.storage.read_table(file.path) for _, file in measured_shards(self.records("measure"))]

    def sidecars(self, node: str) -> list[pa.Table]:
        return [self.storage.read_table(r.data[0].path) for r in self.records(node)]

    def verdicts(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
        """(measured row, its verdict, its row of the dedup sidecar)."""
        for tables in zip(self.measured, self.sidecars("decide"), self.sidecars("dedup"), strict=True):
            yield from zip(*(t.to_pylist() for t in tables), strict=True)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"))


# measure


@given(
    lengths=st.lists(st.none() | st.integers(0, 30), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    limit=st.integers(1, 60),
)
@settings(deadline=None)
def test_shards_are_cut_by_rows_whatever_the_batches(lengths: list[int | None], cuts: list[int], limit: int):
    texts = pa.array([None if n is None else "x" * n for n in lengths], pa.string())
    batch = pa.record_batch({"row": list(range(len(lengths))), "text": texts})
    edges = sorted({0, len(lengths), *(c for c in cuts if c < len(lengths))})
    batches = [batch.slice(a, b - a) for a, b in pairwise(edges)]

    def cut(parts: list[pa.RecordBatch]) -> list[list[int]]:
        out: defaultdict[int, list[int]] = defaultdict(list)
        for number, piece in numbered(parts, limit):
            out[number] += piece.column("row").to_pylist()
        assert list(out) == list(range(len(out)))
        return list(out.values())

    got = cut(batches)
    assert got == cut([batch])
    assert [r for chunk in got for r in chunk] == list(range(len(lengths)))
    for i, chunk in enumerate(got):
        sizes = [lengths[r] or 0 for r in chunk]
        assert sum(sizes[:-1]) < limit, "a chunk ends with the row that fills it"
        assert sum(sizes) >= limit or i == len(got) - 1


def test_every_row_that_was_read_is_in_a_measure_shard(planted: Planted):
    rows = [r for table in planted.measured for r in table.to_pylist()]
    assert sum(c.documents for record in planted.records("measure") for c in record.counts if c.outcome == READ) == 22
    assert len(rows) == 22
    assert {"twice": 2, "two-texts": 2}.items() <= {
        name: [r["source_id"] for r in rows].count(name) for name in ("twice", "two-texts")
    }.items()
    assert {r["source_id"] for r in rows} >= PLANTED.keys()


def test_a_measure_shard_has_the_columns_of_every_step_in_order(planted: Planted):
    measure = planted.built.recipe.pipeline_function()(planted.built.recipe).node("measure")
    assert isinstance(measure, Measure)
    added = [name for step in measure.steps for name in step.adds.names]
    assert measure.schema.names == [*READ_SCHEMA.names, "text_bytes", *added]
    assert all(table.schema.equals(measure.schema) for table in planted.measured)
    assert {"lid_language", "lid_score", "lid_script", "quality_words", "text_hash", "signature"} <= set(added)


def test_rows_are_sorted_by_language_and_place_with_a_row_group_for_each_language(planted: Planted):
    for _, file in measured_shards(planted.records("measure")):
        with planted.storage.parquet(file.path) as parquet:
            groups = [
                parquet.read_row_group(i, columns=["lid_language", "position"]) for i in range(parquet.num_row_groups)
            ]
        languages = [pc.unique(group["lid_language"]).to_pylist() for group in groups]
        assert all(len(codes) == 1 for codes in languages)
        codes = [code for (code,) in languages]
        assert codes == sorted((c for c in codes if c), key=str) + [c for c in codes if c is None]
        assert len(set(codes)) == len(codes)
        for group in groups:
            assert group["position"].to_pylist() == sorted(group["position"].to_pylist())


def test_a_large_file_is_cut_into_shards_after_the_row_that_fills_one(planted: Planted):
    (record,) = [r for r in planted.records("measure") if r.facts["files"] == ["web/b.jsonl.gz"]]
    assert len(record.data) > 1
    sizes = [sum(planted.storage.read_table(file.path)["text_bytes"].to_pylist()) for file in record.data]
    assert all(size >= 4000 for size in sizes[:-1])
    assert sum(file.rows for file in record.data) == 7


def test_what_a_batch_holds_changes_no_measured_row(planted: Planted):
    measure = planted.built.recipe.pipeline_function()(planted.built.recipe).node("measure")
    source = measure.sources["web"]
    (piece, *_) = split(measure.files("web"), 1 << 20)
    tables = [
        pa.concat_tables(measure.tables(read_slice(piece, "web", source, batch_rows=n), {}, Tools()))
        for n in (1, 2, 5, 1000)
    ]
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0].num_rows == len(PLANTED)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20))
@settings(deadline=None)
def test_a_batch_is_parted_by_language_in_the_order_of_its_rows(codes: list[str | None]):
    batch = pa.record_batch({"lid_language": pa.array(codes, pa.string()), "n": range(len(codes))})
    parts = dict(by_language(batch))
    assert {code: part["n"].to_pylist() for code, part in parts.items()} == {
        code: [i for i, other in enumerate(codes) if other == code] for code in set(codes)
    }
    assert all(set(part["lid_language"].to_pylist()) == {code} for code, part in parts.items())


def test_small_pieces_are_measured_together_and_large_ones_alone():
    small, large = (
        pa.record_batch({"n": np.zeros(size // 8, np.int64)}) for size in (GATHERED_BYTES // 3, GATHERED_BYTES)
    )
    pieces = deque([small, small, small, small, large, large, small])
    sizes = [batch.nbytes for batch in gathered(pieces)]
    assert not pieces
    assert sum(sizes) == 5 * small.nbytes + 2 * large.nbytes
    assert min(sizes[:-1]) >= GATHERED_BYTES
    assert len(sizes) == 4


def test_text_that_nothing_can_keep_is_not_stored(planted: Planted):
    for r, verdict, _ in planted.verdicts():
        if verdict["failed"] == "read/missing_field" or verdict["reason"] == "normalize/empty":
            assert r["text"] is None
        if verdict["reason"] == "quality/too_few_words":
            assert r["text"], "a limit may be loosened later"


def test_two_steps_that_add_one_column_are_no_plan(tmp_path: Path):
    values = planted_values(write_planted(tmp_path / "in"))
    values["steps"]["extra"] = [{"step": "marco_data.steps.measure_quality:MeasureQuality"}]
    dataset_of = as_recipe(values).pipeline_function()
    with pytest.raises(RecipeError, match=r"adds the column `quality_\w+`, which is there already"):
        assert dataset_of(as_recipe(values)).node("measure").schema


# decide


def test_every_planted_row_gets_the_first_verdict_in_order(planted: Planted):
    got = {r["source_id"]: verdict["failed"] or verdict["reason"] for r, verdict, _ in planted.verdicts()}
    assert {name: got[name] for name in PLANTED} == {name: verdict for name, (_, verdict) in PLANTED.items()}


def test_a_verdict_says_what_was_measured(planted: Planted):
    measured = {r["source_id"]: verdict["measured"] for r, verdict, _ in planted.verdicts()}
    words = {r["source_id"]: r["quality_words"] for r, _, _ in planted.verdicts()}
    assert measured["short"] == words["short"] < 50
    assert measured["marked"] == 1.0
    assert measured["good"] is None
    assert 0 < measured["declared-wrong-and-short"] <= 1


def test_a_sidecar_has_a_row_for_each_row_of_its_shard_in_its_order(planted: Planted):
    for table, decided, deduplicated in zip(
        planted.measured, planted.sidecars("decide"), planted.sidecars("dedup"), strict=True
    ):
        ids = table["id"].to_pylist()
        assert decided["id"].to_pylist() == ids
        assert deduplicated["row_id"].to_pylist() == ids


def test_kept_is_the_last_word_of_all_passes(planted: Planted):
    for _, verdict, twin in planted.verdicts():
        assert twin["kept"] == (verdict["failed"] is None and verdict["reason"] is None and twin["reason"] is None)
        assert (verdict["quality_tier"] is None) == (verdict["failed"] is not None or verdict["reason"] is not None)


def test_counts_are_those_of_the_rows(planted: Planted):
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for node, outcomes in (("decide", (DROPPED, FAILED)), ("dedup", (DROPPED,))):
        for record in planted.records(node):
            for count in record.counts:
                if count.outcome in outcomes:
                    counted[count.outcome, count.reason] += count.documents
    rows: dict[tuple[str, str], int] = defaultdict(int)
    for _, verdict, twin in planted.verdicts():
        if verdict["failed"]:
            rows[FAILED, verdict["failed"]] += 1
        elif verdict["reason"] or twin["reason"]:
            rows[DROPPED, verdict["reason"] or twin["reason"]] += 1
    assert counted == rows
    assert planted.built.stage.balanced


class Decides(Step):
    """Reads what nothing has measured."""

    reads: ClassVar[tuple[str, ...]] = ("never_measured",)


def test_a_limit_on_a_column_that_nothing_measures_is_no_plan(planted: Planted):
    measure = planted.built.recipe.pipeline_function()(planted.built.recipe).node("measure")
    for wrong in (Decides(), DropMarked()):
        with pytest.raises(RecipeError, match="which no step before it adds"):
            assert Decide(measure=measure, steps=(wrong,)).identity


# dedup


def by_name(planted: Planted, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(r, twin) for r, _, twin in planted.verdicts() if r["source_id"] == name]


def test_an_id_with_the_same_text_again_is_dropped_and_names_the_first(planted: Planted):
    (first, kept), (second, dropped) = by_name(planted, "twice")
    assert first["id"] == second["id"]
    assert (kept["kept"], dropped["kept"]) == (True, False)
    assert (dropped["reason"], dropped["dup_of"], dropped["jaccard"]) == ("dedup/same_id", first["id"], 1.0)


def test_an_id_with_two_texts_becomes_two_ids_and_both_stay(planted: Planted):
    (first, one), (second, other) = by_name(planted, "two-texts")
    assert first["id"] == second["id"]
    assert one["kept"]
    assert other["kept"]
    assert len({first["id"], one["id"], other["id"]}) == 3
    (record,) = planted.records("same_ids")
    assert record.facts["renamed"] == 2


def test_a_copy_and_a_near_copy_name_the_document_that_stays(planted: Planted):
    trio = {name: by_name(planted, name)[0] for name in ("good", "copy-of-good", "near-good")}
    kept = [name for name, (_, twin) in trio.items() if twin["kept"]]
    assert len(kept) == 1
    survivor = trio[kept[0]][0]["id"]
    for name, (_, twin) in trio.items():
        if name not in kept:
            assert twin["reason"] in ("dedup/exact", "dedup/near")
            assert twin["jaccard"] >= 0.8
            assert twin["dup_of"] == survivor
    assert {twin["reason"] for _, twin in trio.values()} >= {"dedup/near"}


# tokenize, mix, shards


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(TOKENIZER)


def test_tokens_are_those_of_the_kept_rows_in_their_order(planted: Planted, tokenizer: Tokenizer):
    for table, sidecar, tokens in zip(
        planted.measured, planted.sidecars("dedup"), planted.sidecars("tokenize"), strict=True
    ):
        rows = np.flatnonzero(sidecar["kept"].to_numpy())
        assert tokens["row"].to_pylist() == rows.tolist()
        assert tokens["id"].to_pylist() == sidecar["id"].take(rows).to_pylist()
        assert tokens["language"].to_pylist() == table["lid_language"].take(rows).to_pylist()
        for text, ids in zip(table["text"].take(rows).to_pylist(), tokens["tokens"].to_pylist(), strict=True):
            assert ids[-1] == tokenizer.end_of_document_id
            assert ids == tokenizer.encode_batch([text])[0].tolist()
        assert tokens["length"].to_pylist() == [len(ids) for ids in tokens["tokens"].to_pylist()]


def documents_by_key(planted: Planted) -> dict[tuple[str, str], list[tuple[int, str, int]]]:
    """{(language, part): [(place, id, tokens)]} in the family's order; parts have the name of their source."""
    out = defaultdict(list)
    for table in planted.sidecars("tokenize"):
        places = selection_hashes(table["id"].to_pylist(), planted.built.recipe.family_seed)
        for place, r in zip(places.tolist(), table.to_pylist(), strict=True):
            out[r["language"], r["source"]].append((place, r["id"], r["length"]))
    return {key: sorted(documents) for key, documents in out.items()}


def test_the_mix_takes_the_documents_that_a_walk_in_hash_order_takes(planted: Planted):
    (record,) = planted.records("mix")
    shares = {(s["language"], s["part"]): s for s in record.facts["allocation"]["shares"]}
    intervals = intervals_of(record.facts)
    for key, documents in documents_by_key(planted).items():
        assert shares[key]["available"] == sum(length for _, _, length in documents)
        target, taken, tokens = min(shares[key]["target"], shares[key]["available"]), 0, 0
        while taken < len(documents) and tokens + documents[taken][2] <= target:
            tokens += documents[taken][2]
            taken += 1
        interval = intervals[key]
        assert (interval.documents, interval.tokens) == (taken, tokens)
        assert all((interval.lo <= place < interval.hi) == (n < taken) for n, (place, _, _) in enumerate(documents))
    left = sum(c.documents for c in record.counts if c.reason == "mix/not_selected")
    assert left == planted.built.stage.books.dropped["mix/not_selected"] > 0


def test_blocks_give_every_tokenized_document_once(planted: Planted):
    files = [r.data[0] for r in planted.records("tokenize")]
    got = sorted(
        (block.language, block.source, place, length)
        for block in blocks(planted.storage, files, planted.built.recipe.family_seed)
        for place, length in zip(block.hashes.tolist(), block.lengths.tolist(), strict=True)
    )
    assert got == sorted(
        (*key, place, length) for key, rows in documents_by_key(planted).items() for place, _, length in rows
    )


def test_a_shard_holds_its_documents_in_hash_order_and_their_text_comes_back(planted: Planted, tokenizer: Tokenizer):
    texts = {twin["id"]: r["text"] for r, _, twin in planted.verdicts() if twin["kept"]}
    seen: list[str] = []
    for entry in planted.built.stage.shards:
        shard = Shard(Path(planted.storage.root) / entry["prefix"])
        lineage = planted.storage.read_table(entry["lineage"])
        ids = lineage["id"].to_pylist()
        places = selection_hashes(ids, planted.built.recipe.family_seed)
        assert places.tolist() == sorted(places.tolist())
        assert (len(ids), shard.tokens) == (entry["documents"], entry["tokens"])
        for number, (id, length) in enumerate(zip(ids, lineage["length"].to_pylist(), strict=True)):
            tokens = shard.read_document(number)
            assert len(tokens) == length
            assert tokens[-1] == tokenizer.end_of_document_id
            assert tokenizer.end_of_document_id not in tokens[:-1]
            assert tokenizer.decode(tokens[:-1]) == texts[id]
        seen += ids
    intervals = intervals_of(planted.records("mix")[0].facts)
    assert len(seen) == len(set(seen)) == sum(i.documents for i in intervals.values())


def test_lineage_leads_back_to_the_measured_row(planted: Planted):
    number = {r.data[0].path: n for n, r in enumerate(planted.records("tokenize"))}
    for entry in planted.built.stage.shards:
        for line in planted.storage.read_table(entry["lineage"]).to_pylist():
            shard = number[line["tokenized"]]
            assert planted.sidecars("dedup")[shard]["id"][line["row"]].as_py() == line["id"]
            assert planted.measured[shard]["lid_language"][line["row"]].as_py() == entry["language"]
            assert planted.measured[shard]["source"][line["row"]].as_py() == entry["source"]


def test_a_sidecar_of_another_shard_is_refused(planted: Planted):
    dataset = planted.built.recipe.pipeline_function()(planted.built.recipe)
    tokenize = dataset.node("tokenize")
    done = dict(planted.built.run.records)
    one, *others = tokenize.tasks(Context(planted.storage, Tools(), done))
    other = next(t for t in others if t.inputs[0].rows != one.inputs[0].rows)
    with pytest.raises(ShardError, match="rows for the"):
        tokenize.work(type(one)(tokenize, "x", {}, (one.inputs[0], other.inputs[1])), planted.storage, Tools())
    with pytest.raises(ShardError, match="measure shards, but"):
        tokenize.tasks(Context(planted.storage, Tools(), done | {"dedup": done["dedup"][1:]}))


def test_small_shards_part_a_language_by_file_and_hold_the_same_documents(tmp_path: Path):
    corpus = write_planted(tmp_path / "in")
    values = planted_values(corpus)
    whole = build(as_recipe(values | {"shards": {"bytes": 4000}}), tmp_path / "out")
    parted = build(as_recipe(values | {"shards": {"bytes": 4000, "tokens": 300}}), tmp_path / "out")
    assert parted.run.ran["mix"] == 0
    assert len(parted.stage.shards) > len(whole.stage.shards)

    def ids(built: Built) -> list[str]:
        return sorted(id for s in built.stage.shards for id in built.storage.read_table(s["lineage"])["id"].to_pylist())

    assert ids(parted) == ids(whole)
    assert parted.stage.books == whole.stage.books


def test_an_empty_corpus_is_a_balanced_stage_without_shards(tmp_path: Path):
    (tmp_path / "in" / "web").mkdir(parents=True)
    (tmp_path / "in" / "web" / "a.jsonl").write_bytes(b"")
    values = recipe_values(tmp_path / "in") | {"mixture": {"web": {"weight": 1}}}
    built = build(as_recipe(values), tmp_path / "out")
    assert built.run.complete
    assert built.stage.balanced
    assert (built.stage.books.read, built.stage.shards) == (0, ())


def test_a_failed_task_stops_what_looks_at_the_whole_corpus_and_nothing_else(tmp_path: Path):
    corpus = write_planted(tmp_path / "in")
    recipe = as_recipe(planted_values(corpus))
    storage = Storage(str(tmp_path / "out"))
    dataset = recipe.pipeline_function()(recipe)
    first = run(dataset, storage, LocalExecutor(), Silent())
    broken = tmp_path / "out" / first.records["measure"][0].data[0].path
    whole, key = broken.read_bytes(), first.records["decide"][0].key
    shutil.rmtree(tmp_path / "out" / dataset.node("decide").folder)
    pq.write_table(pa.table({"another": [1]}), broken)

    result = run(dataset, storage, LocalExecutor(), Silent())

    assert [f.shard for f in result.failures] == [key]
    assert (result.stopped_before, result.complete) == ("documents", False)
    assert len(result.records["decide"]) == len(first.records["decide"]) - 1
    stage = finish(recipe, dataset, result, storage)
    assert (stage.complete, stage.balanced, [f.shard for f in stage.failures]) == (False, False, [key])

    broken.write_bytes(whole)
    only = run(dataset, storage, LocalExecutor(), Silent(), only=key)
    assert list(only.records) == ["measure", "decide"]
    assert only.ran == {"measure": 0, "decide": 1}
    again = run(dataset, storage, LocalExecutor(), Silent())
    assert again.complete
    assert set(again.ran.values()) == {0}


@pytest.mark.parametrize("damage", ["signature", "text", "all of it"])
def test_a_damaged_measure_shard_is_made_again(damage: str, tmp_path: Path):
    corpus = write_planted(tmp_path / "in")
    recipe = as_recipe(planted_values(corpus))
    storage = Storage(str(tmp_path / "out"))
    dataset = recipe.pipeline_function()(recipe)
    first = run(dataset, storage, LocalExecutor(), Silent())
    shard = tmp_path / "out" / first.records["measure"][0].data[0].path
    whole = shard.read_bytes()
    data = bytearray(whole)
    if damage in ("signature", "text"):
        group = pq.read_metadata(shard).row_group(0)
        columns = (group.column(i) for i in range(group.num_columns))
        column = next(c for c in columns if c.path_in_schema.startswith(damage))
        data[column.data_page_offset + column.total_compressed_size - 3] ^= 4
    shard.write_bytes(b"nothing" if damage == "all of it" else data)
    for folder in tmp_path.glob("out/*-*"):
        if not folder.name.startswith("measure-"):
            shutil.rmtree(folder)

    again = run(dataset, storage, LocalExecutor(), Silent())

    assert again.complete
    assert shard.read_bytes() == whole
    assert [r.data for r in again.records["shards"]] == [r.data for r in first.records["shards"]]


def test_a_record_read_back_is_the_record(planted: Planted):
    for node in planted.built.run.records:
        for record in planted.records(node):
            assert Record.from_json(record.to_json()).to_json() == record.to_json()
