"""A run whose data and experts two ranks share says and learns what one process does, and both what is counted here.

Both mask documents, balance experts by bias and choose one of 16 a token, so that some experts get none.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_run  # noqa: E402

from marco_data.train.batches import Samples  # noqa: E402
from marco_data.train.model import CausalLM, initialize  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

RATE, PEAK, RANKS, ITERATIONS = 0.01, 1e9, 2, 12  # three of them in stage 2
SETTINGS = {"precision": "fp64", "mask_documents": True, "expert_bias_rate": RATE}
OPTIONS = {"signatures_every": 1, "peak_flops": PEAK, "stop_after": ITERATIONS, "top_k": 1}


@pytest.fixture(scope="module")
def alone(stages) -> Path:
    out = stages / "one"
    tiny_run.run(stages, out, settings=SETTINGS, micro_batch=1, **OPTIONS)
    return out


@pytest.fixture(scope="module")
def both(stages) -> Path:
    out = stages / "two"
    with tiny_run.started(
        stages, out, *tiny_run.TORCHRUN, str(RANKS), ep=RANKS, settings=SETTINGS, micro_batch=2, **OPTIONS
    ) as process:
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return out


def counts_of(out: Path, iteration: int):
    """[layers, experts] of an iteration, from its signature."""
    return np.load(out / "signatures" / f"iteration-{iteration:08d}.npz")["counts"].sum(0)


def about(said):
    """The same, its floating-point numbers to be equal to 1e-9 of themselves, and how fast it was left out."""
    if isinstance(said, dict):
        return {name: about(own) for name, own in said.items() if name not in tiny_run.TIMES}
    if isinstance(said, list):
        return [about(own) for own in said]
    return pytest.approx(said, rel=1e-9) if isinstance(said, float) else said


def test_two_ranks_that_share_data_and_experts_say_what_one_does(alone, both):
    for event in ("step", "signature"):
        lines = list(zip(tiny_run.lines_of(alone, event), tiny_run.lines_of(both, event), strict=True))
        assert len(lines) == ITERATIONS
        for one, two in lines:
            assert {name: own for name, own in two.items() if name not in tiny_run.TIMES} == about(one)
    for iteration in range(1, ITERATIONS + 1):
        assert np.array_equal(counts_of(alone, iteration), counts_of(both, iteration))


def test_two_ranks_have_speed_and_mfu_by_the_formula_and_tokens_near_the_plan(both):
    [start] = tiny_run.lines_of(both, "start")
    for line in tiny_run.lines_of(both):
        assert line["tokens_per_second"] == pytest.approx(line["step_tokens"] / line["seconds"])
        assert line["mfu"] == pytest.approx(line["tokens_per_second"] * start["flops_per_token"] / (RANKS * PEAK))
        assert sum(row["seen"] for row in line["sources"]) == pytest.approx(sum(r["planned"] for r in line["sources"]))
        for row in line["sources"]:
            assert abs(row["seen"] - row["planned"]) <= 3 * tiny_run.SEQUENCE


def test_dead_and_busy_experts_are_those_that_the_signature_counts(both):
    dead = []
    for line in tiny_run.lines_of(both):
        counts = counts_of(both, line["iteration"])
        assert counts.sum(1).tolist() == [line["step_tokens"]] * 2
        assert [row["dead"] for row in line["experts"]] == (counts == 0).sum(1).tolist()
        assert [row["busiest"] for row in line["experts"]] == pytest.approx(counts.max(1) / counts.mean(1))
        assert line["dead_experts"] == (counts == 0).sum()
        dead.append(line["dead_experts"])
    assert max(dead) > 0, "else nothing was tried"


@pytest.mark.parametrize("ranks", ["alone", "both"])
def test_a_bias_has_moved_a_rate_each_step_against_the_load(ranks, request):
    out = request.getfixturevalue(ranks)
    expected = np.zeros((2, 16), np.float32)
    for iteration in range(1, ITERATIONS + 1):
        counts = counts_of(out, iteration)
        expected += np.float32(RATE) * np.sign(counts.mean(1, keepdims=True) - counts).astype(np.float32)
    tiny_run.digest(out)
    weights = torch.load(out / "whole.pt", weights_only=True)["model"]
    for layer in range(2):
        found = weights[f"model.layers.{layer}.mlp.gate.expert_bias"].numpy()
        assert found == pytest.approx(expected[layer], abs=1e-6)
    assert np.abs(expected).max() > RATE, "it went on in a direction"


def test_with_documents_masked_a_run_s_loss_is_that_of_each_document_alone(stages, alone):
    model = initialize(CausalLM(replace(tiny_run.MODEL, num_experts_per_tok=1)), 0).double()
    samples = Samples(tiny_run.plan_of(stages).stages[0])
    total = count = 0.0
    for number in range(tiny_run.BATCH):
        sample = samples[number]
        for document in np.unique(sample.documents):
            tokens = torch.from_numpy(sample.tokens[sample.documents == document])[None]
            if tokens.shape[1] > 1:
                with torch.no_grad():
                    logits = model.logits(tokens[:, :-1])[0]
                total += float(torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
                count += tokens.shape[1] - 1
    first = tiny_run.lines_of(alone)[0]
    assert first["loss"] == pytest.approx(total / count, rel=1e-12)
    assert count < tiny_run.BATCH * tiny_run.SEQUENCE, "a document's first token is nobody's label"
