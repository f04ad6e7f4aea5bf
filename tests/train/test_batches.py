"""Batches: what a sample holds, that ranks share one batch, and that a run goes on only with what it was started on."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from written_shards import END, TOKENIZER, VOCABULARY, entry, random_documents, write_blend, write_shard, write_stage

from marco_data.errors import RecipeError, ShardError
from marco_data.tokens import Shard
from marco_data.train.batches import Batches, Samples, documents_of, iterations
from marco_data.train.blend import load_blend
from marco_data.train.data_check import check_data, planned_tokens
from marco_data.train.order import MEGATRON, STABLE, Plan, plan_stages

STAGES = [
    [([30] * 40, 1.0), ([7, 90, 3] * 10, 1.0), ([50] * 5, 3.4)],
    [([11] * 60, 1.0), ([200], 1.0), ([3] * 4, 1.0)],
]


def write(folder: Path) -> list[Path]:
    return [write_stage(folder, shards, stage=number) for number, shards in enumerate(STAGES, 1)]


def plan_of(paths: list[Path], **options) -> Plan:
    return plan_stages([load_blend(path) for path in paths], **{"sequence": 16, **options})


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write(tmp_path)


@pytest.mark.parametrize("order", [STABLE, MEGATRON])
def test_a_sample_is_the_shards_tokens_with_their_documents_and_sources(paths, order):
    plan = plan_of(paths, order=order)
    for stage in plan.stages:
        samples = Samples(stage)
        for number in range(len(samples)):
            sample = samples[number]
            assert [a.shape for a in (sample.tokens, sample.documents, sample.sources)] == [(17,)] * 3
            tokens, documents, sources, seen = [], [], [], 0
            for piece in stage.order(number):
                named = stage.blend.entries[piece.entry]
                shard = Shard(named.files.prefix)
                owners = [shard.position(piece.start + i) for i in range(piece.tokens)]
                for i, owner in enumerate(owners):
                    seen += bool(tokens) and (i == 0 or owner != owners[i - 1])
                    tokens.append(int(shard.read_document(owner)[piece.start + i - shard.start(owner)]))
                    documents.append(seen)
                    sources.append(plan.sources.index((named.language, named.part, named.source)))
            assert sample.tokens.tolist() == tokens
            assert sample.documents.tolist() == documents
            assert sample.sources.tolist() == sources
            ends = np.flatnonzero(sample.tokens[:-1] == END)
            assert set(ends) <= set(np.flatnonzero(np.diff(sample.documents))), "a document ends where its end is"


@pytest.mark.parametrize("order", [STABLE, MEGATRON])
def test_documents_of_a_sample_lie_where_they_are_said_to(paths, order):
    stage = plan_of(paths, order=order).stage(1)
    samples, shards = Samples(stage), {e.prefix: Shard(e.files.prefix) for e in stage.blend.entries}
    for number in range(len(samples)):
        uses = samples.documents_of(number)
        parts = [shards[use.prefix].read_document(use.document)[use.offset :][: use.tokens] for use in uses]
        assert np.concatenate(parts).tolist() == samples[number].tokens.tolist()
        counts = np.bincount(samples[number].documents)
        assert [use.tokens for use in uses] == counts[counts > 0].tolist()


def test_any_number_of_ranks_reads_the_same_batches_disjointly(paths):
    plan = plan_of(paths)
    alone = list(Batches(plan, batch=12))
    assert [(b.stage, b.iteration) for b in alone] == [
        (stage.stage, i) for stage in plan.stages for i in range(1, iterations(stage, 12) + 1)
    ]
    for ranks in (2, 3, 4, 12):
        shares = [list(Batches(plan, batch=12, rank=rank, ranks=ranks)) for rank in range(ranks)]
        for whole, *parts in zip(alone, *shares, strict=True):
            assert {(p.stage, p.iteration) for p in parts} == {(whole.stage, whole.iteration)}
            assert [p.first for p in parts] == [whole.first + rank * 12 // ranks for rank in range(ranks)]
            for name in ("tokens", "documents", "sources"):
                joined = np.concatenate([getattr(p, name) for p in parts])
                np.testing.assert_array_equal(joined, getattr(whole, name))
    firsts = [k for b in alone if b.stage == 1 for k in range(b.first, b.first + 12)]
    assert firsts == list(range(len(firsts)))


def test_a_run_goes_on_after_any_batch_with_any_ranks_and_batch_size(paths):
    plan = plan_of(paths)
    straight = list(Batches(plan, batch=4))
    batches = Batches(plan, batch=4)
    states = [batches.state()]
    for _ in batches:
        states.append(batches.state())
    for done in range(0, len(states), 7):
        state = json.loads(json.dumps(states[done]))
        again = list(Batches(plan_of(paths), batch=4, rank=1, ranks=2, state=state))
        assert [(b.stage, b.first) for b in again] == [(b.stage, b.first + 2) for b in straight[done:]]
        for mine, whole in zip(again, straight[done:], strict=True):
            np.testing.assert_array_equal(mine.tokens, whole.tokens[2:])
    larger = next(iter(Batches(plan, batch=6, state=states[3])))
    np.testing.assert_array_equal(larger.tokens[:4], straight[3].tokens)
    assert states[-1]["samples"] == {"1": straight_end(plan, 1), "2": straight_end(plan, 2)}
    assert list(Batches(plan, batch=4, state=states[-1])) == []


def straight_end(plan: Plan, stage: int) -> int:
    return iterations(plan.stage(stage), 4) * 4


@pytest.mark.parametrize(("batch", "rank", "ranks"), [(5, 0, 2), (0, 0, 1), (4, 2, 2), (4, 0, 0), (4, -1, 2)])
def test_ranks_that_cannot_share_a_batch_are_refused(paths, batch, rank, ranks):
    with pytest.raises(RecipeError, match="ranks"):
        Batches(plan_of(paths), batch=batch, rank=rank, ranks=ranks)


def test_state_is_one_integer_a_stage_and_names_what_has_changed(paths, tmp_path):
    batches = Batches(plan_of(paths), batch=4)
    next(iter(batches))
    state = batches.state()
    assert state["samples"] == {"1": 4, "2": 0}
    assert state["plan"] == plan_of(paths).digest

    def refused(plan: Plan) -> str:
        with pytest.raises(RecipeError) as caught:
            Batches(plan, batch=4, state=state)
        assert caught.value.hint
        return caught.value.message

    assert "sequence length was 16, is 15" in refused(plan_of(paths, sequence=15))
    assert "seed was 1234, is 5" in refused(plan_of(paths, seed=5))
    assert "order was stable-1, is megatron-1" in refused(plan_of(paths, order=MEGATRON))
    assert "stages was [1, 2], is [1]" in refused(plan_of(paths[:1]))
    raw = json.loads(paths[0].read_text())
    for key, value, said in (
        ("hash", "cd" * 8, "stage 1: tokenizer was abab"),
        ("end_of_document", "</s>", "stage 1: end-of-document token was ['<|endoftext|>', 7], is ['</s>', 7]"),
    ):
        for path in paths:
            path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer": {**TOKENIZER, key: value}}))
        assert said in refused(plan_of(paths))
    for path in paths:
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer": TOKENIZER}))
    raw["entries"][0]["epochs"] = 2.0
    paths[0].write_text(json.dumps(raw))
    assert f"shard {raw['entries'][0]['prefix']} was [" in refused(plan_of(paths))


def test_a_shard_with_other_tokens_of_the_same_size_is_another_plan(tmp_path: Path):
    documents = random_documents(np.random.default_rng(1), [40, 60])
    plans = []
    for number in range(2):
        prefix = tmp_path / "data"  # a name without a hash, as a user's own shard may have
        Path(f"{write_shard(tmp_path / f'd{number}', documents)}.bin").rename(f"{prefix}.bin")
        write = write_shard(tmp_path / f"d{number}", documents)
        Path(f"{write}.idx").rename(f"{prefix}.idx")
        documents[1][3] += 1 if documents[1][3] < VOCABULARY - 1 else -1
        blend = write_blend(tmp_path / "blend.json", [entry(tmp_path, prefix, documents, 1.0)])
        plans.append(plan_of([blend], sequence=8))
    state = Batches(plans[0], batch=1).state()
    with pytest.raises(RecipeError, match="shard data was"):
        Batches(plans[1], batch=1, state=state)


def test_a_shard_that_changes_under_a_run_stops_it(paths):
    plan = plan_of(paths)
    named = plan.stage(1).blend.entries[0]
    other = write_shard(paths[0].parent / "other", random_documents(np.random.default_rng(1), [50]))
    for suffix in (".bin", ".idx"):
        Path(f"{other}{suffix}").replace(f"{named.files.prefix}{suffix}")
    with pytest.raises(ShardError, match="has changed while it was trained on"):
        list(Batches(plan, batch=4))


def test_an_iteration_names_its_documents_and_one_that_is_not_there_is_refused(paths):
    stage = plan_of(paths).stage(1)
    samples = Samples(stage)
    uses = documents_of(stage, 3, 4)
    assert uses == [use for k in range(8, 12) for use in samples.documents_of(k)]
    assert Counter(use.sample for use in uses).keys() == {8, 9, 10, 11}
    last = iterations(stage, 4)
    assert documents_of(stage, last, 4)
    for iteration in (0, last + 1):
        with pytest.raises(RecipeError, match=f"no iteration {iteration}"):
            documents_of(stage, iteration, 4)


# What is checked before a run


def test_a_report_adds_up_to_what_is_trained_on(paths):
    plan, report = check_data(paths, sequence=16, batch=8)
    assert report.plan == plan.digest
    for row, stage in zip(report.stages, plan.stages, strict=True):
        assert row.samples * 16 + row.left_tokens == row.tokens == stage.blend.drawn
        assert row.iterations * 8 + row.left_samples == row.samples
        assert sum(source.drawn for source in row.sources) == row.tokens
        assert sum(source.share for source in row.sources) == pytest.approx(1)
        counts: Counter[int] = Counter()
        for k in range(row.samples):
            counts.update(Samples(stage)[k].sources[:-1].tolist())
        for source, tokens in planned_tokens(stage).items():
            assert abs(counts[source] - tokens) <= 16
    assert report.tokens == sum(row.iterations for row in report.stages) * 8 * 16
    assert json.loads(json.dumps(report.to_json()))["iterations"] == report.iterations
    assert report.warnings == ()


def test_a_report_in_megatrons_order_says_what_that_draws(paths):
    plan, report = check_data(paths, sequence=16, batch=8, order=MEGATRON)
    for row, stage in zip(report.stages, plan.stages, strict=True):
        counts: Counter[int] = Counter()
        for k in range(row.samples):
            counts.update(Samples(stage)[k].sources[:-1].tolist())
        assert dict(counts) == {k: v for k, v in planned_tokens(stage).items() if v}


def test_a_report_warns_of_many_epochs_and_of_what_was_waived(tmp_path):
    path = write_stage(tmp_path, [([20] * 5, 6.5), ([30] * 9, 1.0)], waivers=["web/broken.gz"])
    _, report = check_data([path], sequence=8, batch=2)
    assert len(report.warnings) == 2
    assert "without web/broken.gz" in report.warnings[0]
    assert "eng_Latn web/source0 6.5 times" in report.warnings[1]


def test_a_batch_that_no_stage_fills_is_refused(paths):
    with pytest.raises(RecipeError, match="no global batch of 4,000"):
        check_data(paths, sequence=16, batch=4000)
