"""The stable order: shares exact to a sample, nothing again before its round was seen, independent of the past."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_shards import entry, random_documents, write_blend, write_shard, write_stage

from marco_data.errors import RecipeError
from marco_data.train.blend import load_blend
from marco_data.train.order import Plan, StableOrder, StagePlan, Stretch, plan_stages
from marco_data.train.shuffle import Interleaving, Shuffle


@given(st.integers(1, 3000), st.text(max_size=5))
@settings(deadline=None)
def test_a_shuffle_is_a_permutation(size: int, key: str):
    shuffle = Shuffle(size, key)
    assert sorted(map(shuffle, range(size))) == list(range(size))


def test_a_shuffle_is_as_it_always_was():
    assert [Shuffle(10, "a")(i) for i in range(10)] == [5, 7, 2, 3, 6, 0, 1, 4, 9, 8]
    assert Shuffle(10**12, "a")(123_456_789_012) == 342_563_408_253


def test_a_shuffle_leaves_no_trace_of_the_order():
    size = 20_000
    at = np.array([Shuffle(size, "key")(i) for i in range(size)])
    assert abs(np.corrcoef(at, np.arange(size))[0, 1]) < 0.03
    assert abs(np.corrcoef(at[1:], at[:-1])[0, 1]) < 0.03
    other = np.array([Shuffle(size, "other")(i) for i in range(size)])
    assert abs(np.corrcoef(at, other)[0, 1]) < 0.03
    assert (at == other).sum() < 10
    firsts = Counter(Shuffle(5, f"{key}")(0) for key in range(5000))
    assert all(800 < firsts[i] < 1200 for i in range(5)), "each place is as likely, also of a handful"


def test_a_place_outside_an_order_is_refused():
    for number in (-1, 3):
        with pytest.raises(IndexError):
            Shuffle(3, "")(number)
        with pytest.raises(IndexError):
            Interleaving([1, 0, 2])(number)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40))
@settings(deadline=None)
def test_interleaved_sequences_end_exact_and_are_never_two_samples_off(counts: list[int]):
    even, taken = Interleaving(counts), Counter()
    for number in range(even.size):
        which, before = even(number)
        assert before == taken[which]
        taken[which] += 1
        for sequence, count in enumerate(counts):
            assert abs(taken[sequence] - (number + 1) * count / even.size) < 2
    assert [taken[i] for i in range(len(counts))] == counts


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
SHARDS = st.lists(st.tuples(LENGTHS, st.sampled_from([0.4, 1.0, 1.0, 1.75, 2.0, 5.3])), min_size=1, max_size=6)


def plan_of(folder: Path, stages: list[list[tuple[list[int], float]]], sequence: int) -> Plan:
    paths = [write_stage(folder, shards, stage=number) for number, shards in enumerate(stages, 1)]
    return plan_stages([load_blend(path) for path in paths], sequence=sequence)


def too_small(shards: list[tuple[list[int], float]], sequence: int) -> bool:
    return sum(round(Fraction(epochs) * sum(lengths)) for lengths, epochs in shards) <= sequence


def inputs(stage: StagePlan, number: int) -> list[tuple[int, int]]:
    """(shard, token) of a sample's inputs."""
    return [(piece.entry, piece.start + i) for piece in stage.order(number) for i in range(piece.tokens)][:-1]


@given(shards=SHARDS, sequence=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_every_token_is_an_input_as_often_as_the_blend_says(tmp_path_factory, shards, sequence):
    folder = tmp_path_factory.mktemp("stage")
    if too_small(shards, sequence):
        with pytest.raises(RecipeError, match="not one sample"):
            plan_of(folder, [shards], sequence)
        return
    stage = plan_of(folder, [shards], sequence).stages[0]
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(stage.samples):
        pieces = stage.order(number)
        assert sum(piece.tokens for piece in pieces) == sequence + 1
        seen.update(inputs(stage, number))
    drawn = [named.drawn for named in stage.blend.entries]
    wanted = Counter()
    for number, (named, tokens) in enumerate(zip(stage.blend.entries, drawn, strict=True)):
        assert abs(tokens - named.tokens * shards[number][1]) <= 0.5
        for token in range(named.tokens):
            wanted[number, token] = (tokens - token + named.tokens - 1) // named.tokens
    missing = wanted - seen
    assert seen <= wanted, "never more often"
    assert missing.total() == stage.left <= sequence
    by_shard = Counter(shard for shard, _ in seen.elements())
    assert all(abs(by_shard[n] - tokens) <= sequence for n, tokens in enumerate(drawn))


@given(shards=SHARDS, sequence=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_no_token_is_seen_again_before_all_of_its_round_was(tmp_path_factory, shards, sequence):
    folder = tmp_path_factory.mktemp("stage")
    if too_small(shards, sequence):
        return
    stage = plan_of(folder, [shards], sequence).stages[0]
    seen = [np.zeros(named.tokens, int) for named in stage.blend.entries]
    for number in range(stage.samples):
        for shard, token in inputs(stage, number):
            assert seen[shard][token] == seen[shard].min(), "a token again, while others of its round were not seen"
            seen[shard][token] += 1


FOUR = [
    [([30] * 40, 1.0), ([7, 90, 3] * 10, 1.0), ([50] * 5, 3.4)],
    [([11] * 60, 1.0), ([200], 1.0)],
    [([41, 2] * 20, 1.5), ([5] * 9, 2.0), ([77] * 3, 1.0), ([13] * 4, 8.0)],
    [([400, 1], 1.0), ([25] * 30, 1.0)],
]


def test_shares_of_four_stages_are_exact_to_one_sample(tmp_path: Path):
    sequence = 16
    plan = plan_of(tmp_path, FOUR, sequence)
    for stage, shards in zip(plan.stages, FOUR, strict=True):
        tokens = Counter(shard for k in range(stage.samples) for shard, _ in inputs(stage, k))
        for number, (lengths, epochs) in enumerate(shards):
            assert abs(tokens[number] - sum(lengths) * epochs) <= sequence
        assert tokens.total() == stage.samples * sequence
        assert 0 < stage.blend.drawn - tokens.total() <= sequence


def test_a_shard_in_two_stages_goes_on_where_the_first_stopped(tmp_path: Path):
    random, sequence = np.random.default_rng(3), 8
    documents = random_documents(random, [9, 30, 14, 22])
    mine = write_shard(tmp_path / "mine-000", documents)
    others = [random_documents(random, [40, 17]) for _ in range(3)]
    paths = []
    for number, (epochs, other) in enumerate(zip((0.5, 0.8, 1.4), others, strict=True), 1):
        own = write_shard(tmp_path / f"own{number}-000", other)
        rows = [entry(tmp_path, mine, documents, epochs), entry(tmp_path, own, other, 1.0)]
        paths.append(write_blend(tmp_path / f"stage-{number}.json", rows, stage=number))
    plan = plan_stages([load_blend(path) for path in paths], sequence=sequence)
    begins = [stage.order.stretches[0].begin for stage in plan.stages]
    drawn = [stage.blend.entries[0].drawn for stage in plan.stages]
    assert begins == [0, drawn[0], drawn[0] + drawn[1]]
    assert [stage.order.stretches[1].begin for stage in plan.stages] == [0, 0, 0], "other stages' own start anew"
    tokens, places = sum(map(len, documents)), []
    for stage in plan.stages:
        stretch = stage.order.stretches[0]
        places += [stretch.place(k) + i for k in range(stretch.samples) for i in range(sequence)]
        end = stretch.begin + stretch.samples * sequence
        places += range(end, end + stretch.rest)
    assert sorted(places) == list(range(sum(drawn))), "each place of the endless repetition once"
    rounds = [place // tokens for place in places]
    assert rounds == sorted(rounds) or max(np.diff(rounds)) <= 1


def test_a_sample_does_not_depend_on_what_was_asked_before(tmp_path: Path):
    one, other = (plan_of(tmp_path, FOUR, 16).stage(3) for _ in range(2))
    numbers = list(range(one.samples))
    forward = {k: one.order(k) for k in numbers}
    backward = {k: other.order(k) for k in reversed(numbers)}
    assert forward == backward
    assert plan_of(tmp_path, FOUR, 16).stage(3).order(numbers[-1]) == forward[numbers[-1]]


def test_whole_rounds_keep_their_order_when_more_are_drawn():
    two, five = (Stretch(1000, 0, rounds * 1000, 8, "key") for rounds in (2, 5))
    inside = 2 * 1000 // 8 - 2
    assert [two.place(k) for k in range(inside)] == [five.place(k) for k in range(inside)]


def test_stages_and_seeds_have_orders_of_their_own(tmp_path: Path):
    blend = load_blend(write_stage(tmp_path, FOUR[0]))
    orders = [StableOrder(blend, [0, 0, 0], sequence=16, seed=seed) for seed in (1, 2)]
    assert [orders[0](k) for k in range(60)] != [orders[1](k) for k in range(60)]
    assert plan_stages([blend], sequence=16, seed=1).digest != plan_stages([blend], sequence=16, seed=2).digest


def test_the_order_does_not_depend_on_where_a_stage_lies(tmp_path: Path):
    here, there = (plan_of(tmp_path / name, FOUR, 16) for name in ("here", "there"))
    assert here.digest == there.digest
    assert [here.stage(1).order(k) for k in range(50)] == [there.stage(1).order(k) for k in range(50)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sequence": 0}, "sequence length of 0"),
        ({"sequence": 10**6}, "not one sample"),
        ({"order": "random"}, "no order `random`"),
        ({"tokenizer": {"hash": "other"}}, "the tokenizer of .*stage-1.json.* is 'abab"),
        ({"tokenizer": {"id": 3}}, "id of the end-of-document token .* is 7, the model's is 3"),
        ({"tokenizer": {"end_of_document": "</s>"}}, "end-of-document token of"),
        ({"tokenizer": {"vocab_size": 511}}, "vocabulary of .* is 512, the model's is 511"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, change, said):
    blend = load_blend(write_stage(tmp_path, FOUR[0]))
    with pytest.raises(RecipeError, match=said) as caught:
        plan_stages([blend], **{"sequence": 16, **change})
    assert caught.value.hint


def test_a_model_with_more_rows_than_the_tokenizer_has_ids_is_fine(tmp_path: Path):
    blend = load_blend(write_stage(tmp_path, FOUR[0]))
    assert plan_stages([blend], sequence=16, tokenizer={"vocab_size": 640, "id": 7}).stage(1).samples


def test_stages_of_two_tokenizers_or_twice_the_same_are_refused(tmp_path: Path):
    first = load_blend(write_stage(tmp_path, FOUR[0]))
    changed = {"hash": "cd" * 8, "end_of_document": "<|endoftext|>", "id": 7, "vocab_size": 512}
    second = load_blend(write_stage(tmp_path, FOUR[1], stage=2, tokenizer=changed))
    with pytest.raises(RecipeError, match=r"the tokenizer of .*stage-2\.json.*stage-1\.json"):
        plan_stages([first, second], sequence=16)
    with pytest.raises(RecipeError, match="name one twice"):
        plan_stages([first, first], sequence=16)
    with pytest.raises(RecipeError, match="stage 4 is not in this plan"):
        plan_stages([first], sequence=16).stage(4)
