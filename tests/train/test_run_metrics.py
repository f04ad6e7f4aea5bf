"""What a run says of itself is what its data and its model say, counted another way."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_run  # noqa: E402
from poisoned import poisoned_memory  # noqa: E402
from written_shards import END, VOCABULARY, entry, write_blend, write_shard, write_stage  # noqa: E402

from marco_data.errors import MarcoError  # noqa: E402
from marco_data.train.batches import Samples, documents_of  # noqa: E402
from marco_data.train.checkpoint import newest, read_state  # noqa: E402
from marco_data.train.config import CONFIGS  # noqa: E402
from marco_data.train.schedule import Piece, Schedule  # noqa: E402
from marco_data.train.settings import stage_tokens  # noqa: E402
from marco_data.train.spikes import SpikePolicy  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def out(stages) -> Path:
    """A run whose lines are of three iterations each."""
    out = stages / "out"
    tiny_run.run(stages, out, log_every=3, signatures_every=5, checkpoint_every=6, peak_flops=1e9)
    return out


def test_tokens_by_source_are_those_of_the_samples_that_were_trained_on(stages, out):
    plan = tiny_run.plan_of(stages)
    for stage, last in ((plan.stages[0], 9), (plan.stages[1], 15)):
        counted: Counter[str] = Counter()
        samples = Samples(stage)
        for number in range(stage.samples // tiny_run.BATCH * tiny_run.BATCH):
            for source in samples[number].sources[1:]:
                counted[plan.sources[source][2]] += 1
        [line] = [line for line in tiny_run.lines_of(out) if line["iteration"] == last]
        assert {row["source"]: row["seen"] for row in line["sources"]} == counted
        for row in line["sources"]:
            assert row["seen"] == pytest.approx(row["planned"], abs=2 * tiny_run.SEQUENCE)


def test_losses_by_language_add_up_to_the_loss(out):
    for line in tiny_run.lines_of(out):
        languages = Counter(row["language"] for row in line["sources"])
        assert line["loss_by_language"].keys() == languages.keys()
        assert min(line["loss_by_language"].values()) <= line["loss"] <= max(line["loss_by_language"].values())


def test_a_line_has_speed_waiting_and_mfu_by_its_formula(out):
    [start] = tiny_run.lines_of(out, "start")
    for line in tiny_run.lines_of(out):
        assert line["step_tokens"] == line["steps"] * tiny_run.BATCH * tiny_run.SEQUENCE
        assert line["tokens_per_second"] == pytest.approx(line["step_tokens"] / line["seconds"])
        assert line["mfu"] == pytest.approx(line["tokens_per_second"] * start["flops_per_token"] / 1e9)
        assert 0 <= line["data_wait_seconds"] <= line["seconds"]
        assert len(line["experts"]) == 2
        assert line["dead_experts"] == sum(row["dead"] for row in line["experts"])


def test_a_signature_counts_every_choice_of_an_expert_under_its_token_s_language(stages, out):
    plan = tiny_run.plan_of(stages)
    samples = Samples(plan.stages[0])
    saved = np.load(out / "signatures" / "iteration-00000005.npz")
    counted: Counter[str] = Counter()
    for number in range(4 * tiny_run.BATCH, 5 * tiny_run.BATCH):
        for source in samples[number].sources[:-1]:
            counted[plan.sources[source][0]] += tiny_run.MODEL.num_experts_per_tok
    for language, counts in zip(saved["languages"].tolist(), saved["counts"], strict=True):
        assert counts.sum(-1).tolist() == [counted[language]] * 2
    assert [line["iteration"] for line in tiny_run.lines_of(out, "signature")] == [5, 10, 15]


def test_losses_that_are_no_numbers_are_skipped_name_their_documents_and_stop_the_run(stages, tmp_path):
    plan = tiny_run.plan_of(stages)
    schedule = Schedule(1e30, 0, (Piece(), Piece()), stage_tokens(plan, tiny_run.BATCH))
    wild = {"schedule": schedule, "spikes": SpikePolicy(most_skipped=3)}
    with pytest.raises(MarcoError, match="3 steps in a row were skipped"):
        tiny_run.run(stages, tmp_path, settings=wild)
    spikes = tiny_run.lines_of(tmp_path, "spike")
    assert [(line["verdict"], line["skipped"]) for line in spikes] == [("not_finite", True)] * 3
    for line in spikes:
        uses = documents_of(plan.stage(1), line["stage_iteration"], tiny_run.BATCH)
        there = {(use.sample, use.prefix, use.document) for use in uses}
        named = [(row["sample"], row["prefix"], row["document"]) for row in line["documents"]]
        assert len(set(named)) == 5
        assert set(named) <= there


def test_activations_computed_again_change_nothing(stages, tmp_path):
    settings = {"precision": "fp64"}
    tiny_run.run(stages, tmp_path / "a", settings=settings, micro_batch=4, stop_after=4)
    tiny_run.run(stages, tmp_path / "b", settings=settings, micro_batch=4, stop_after=4, recompute=True)
    first, second = ([line["loss"] for line in tiny_run.lines_of(tmp_path / name)] for name in "ab")
    assert first == pytest.approx(second, abs=1e-12)


@pytest.fixture(scope="module")
def planted(one_thread, tmp_path_factory) -> Path:
    """A stage that counts to eight again and again, and in its midst a sample of five documents of noise."""
    made = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(5)
    counting = [[*(8 + np.arange(29) % 8).tolist(), END] for _ in range(256)]
    noise = [[*random.integers(100, VOCABULARY, length - 1).tolist(), END] for length in (7, 6, 7, 6, 7)]
    rows = []
    for name, documents in (("counting", counting), ("noise", noise)):
        rows.append(entry(made, write_shard(made / f"{name}-000", documents), documents, 1.0))
    write_blend(made / "stage-1.json", rows)
    write_stage(made, [([30] * 5, 1.0)], stage=2)
    return made


@pytest.mark.parametrize("action", ["report", "skip"])
def test_a_batch_with_planted_noise_is_told_with_its_five_documents_and_skipped_if_so_asked(planted, tmp_path, action):
    policy = SpikePolicy(window=16, action=action)
    tiny_run.run(planted, tmp_path, settings={"spikes": policy}, stop_after=32, checkpoint_every=32)
    [spike] = tiny_run.lines_of(tmp_path, "spike")
    uses = documents_of(tiny_run.plan_of(planted).stage(1), spike["stage_iteration"], tiny_run.BATCH)
    there = {(use.sample, use.prefix, use.document, use.offset, use.tokens) for use in uses}
    rows = spike["documents"]
    assert {tuple(row[name] for name in ("sample", "prefix", "document", "offset", "tokens")) for row in rows} <= there
    assert [row["source"] for row in rows] == ["noise"] * 5
    assert {row["document"] for row in rows} == set(range(5))
    assert [row["loss"] for row in rows] == sorted((row["loss"] for row in rows), reverse=True)
    lines = {line["iteration"]: line for line in tiny_run.lines_of(tmp_path)}
    at = spike["iteration"]
    assert (spike["verdict"], spike["loss"]) == ("spike", lines[at]["loss"])
    assert lines[at]["loss"] > lines[at - 1]["loss"] + 0.5 > spike["usual_loss"]
    skipped = action == "skip"
    assert (spike["skipped"], lines[at]["skipped"]) == (skipped, int(skipped))
    assert read_state(newest(tmp_path))["updates"] == 32 - skipped


def test_tensorboard_reads_the_scalars_of_the_run_and_of_the_one_that_went_on(stages, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):
        tiny_run.run(stages, tmp_path, stop_after=4, peak_flops=1e9)
    read = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    lines = tiny_run.lines_of(tmp_path)
    assert len(lines) == 8
    languages = {f"loss_by_language/{name}" for line in lines for name in line["loss_by_language"]}
    flat = {"loss", "aux", "z", "gradient_norm", "rate", "tokens_per_second", "data_wait_seconds", "mfu"}
    assert set(read.Tags()["scalars"]) == flat | languages | {"dead_experts"}
    for tag in read.Tags()["scalars"]:
        group, _, name = tag.partition("/")
        said = {line["iteration"]: line[group][name] if name else line[group] for line in lines if group in line}
        assert {event.step: event.value for event in read.Scalars(tag)} == pytest.approx(said, rel=1e-6)


def test_a_run_in_poisoned_memory_with_experts_that_get_no_token_learns_the_same_bits(stages, tmp_path):
    options = {"top_k": 1, "stop_after": 8, "checkpoint_every": 8}
    tiny_run.run(stages, tmp_path / "clean", **options)
    with poisoned_memory():
        tiny_run.run(stages, tmp_path / "poisoned", **options)
    assert max(line["dead_experts"] for line in tiny_run.lines_of(tmp_path / "clean")) > 0
    assert tiny_run.digest(tmp_path / "poisoned") == tiny_run.digest(tmp_path / "clean")
    assert tiny_run.untimed(tmp_path / "poisoned") == tiny_run.untimed(tmp_path / "clean")


def test_a_dense_model_is_trained_and_gone_on_with_and_speaks_of_no_experts(stages, tmp_path):
    for _ in range(2):
        tiny_run.run(stages, tmp_path, settings={"model": CONFIGS["tiny"]}, signatures_every=2, stop_after=2)
    lines = tiny_run.lines_of(tmp_path)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    assert [(line["aux"], "experts" in line) for line in lines] == [(0, False)] * 4
