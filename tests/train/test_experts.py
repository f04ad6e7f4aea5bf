"""Grouped experts are the loop: the same bits, the same gradients, also where an expert gets nothing or all."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from poisoned import poisoned_memory  # noqa: E402
from torch import Tensor  # noqa: E402

from marco_data.train.config import CONFIGS  # noqa: E402
from marco_data.train.experts import GROUPED, LOOP, Experts, SparseMoe, padded  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # on a machine with other work, threads of these small products mostly wait for each other

TINY = CONFIGS["tiny-moe"]
LOADS = {
    "uneven": [5, 1, 9, 2, 3, 17, 4, 8, 6, 1, 11, 7, 2, 3, 1, 16],
    "some without a token": [0, 40, 0, 0, 16, 8, 0, 1, 0, 2, 0, 0, 0, 29, 0, 0],
    "first and last without": [0, 12, 0, 0, 3, 8, 7, 1, 1, 2, 5, 9, 8, 13, 27, 0],
    "all to the first": [96, *[0] * 15],
    "all to one in the middle": [*[0] * 7, 96, *[0] * 8],
    "all to the last": [*[0] * 15, 96],
    "nothing at all": [0] * 16,
}


def experts(implementation: str, *, dtype: Any = torch.float32, alignment: int | None = None) -> Experts:
    module = Experts(TINY, implementation=implementation, alignment=alignment)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.to(dtype)


def run(module: Experts, load: list[int]) -> dict[str, Tensor]:
    """Output and gradients for rows and weights."""
    dtype = module.down_proj.dtype
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(sum(load), TINY.hidden_size, generator=generator).to(dtype).requires_grad_()
    wanted = torch.randn(sum(load), TINY.hidden_size, generator=generator).to(dtype)
    output = module(rows, torch.tensor(load))
    output.backward(wanted)
    return {"output": output.detach(), "rows": rows.grad} | {n: p.grad for n, p in module.named_parameters()}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_grouped_experts_give_the_bits_of_the_loop_in_fp32(load):
    grouped, looped = run(experts(GROUPED), load), run(experts(LOOP), load)
    for name, expected in looped.items():
        assert torch.equal(grouped[name], expected), name


@pytest.mark.parametrize("alignment", [None, 1, 8])
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_gradients_equal_those_of_the_loop_to_1e_12_in_fp64(load, alignment):
    grouped = run(experts(GROUPED, dtype=torch.float64, alignment=alignment), load)
    for name, expected in run(experts(LOOP, dtype=torch.float64), load).items():
        torch.testing.assert_close(grouped[name], expected, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("alignment", [None, 8])
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_in_poisoned_memory_all_is_finite_and_idle_experts_gradients_are_zero(load, alignment):
    with poisoned_memory():
        found = run(experts(GROUPED, alignment=alignment), load)
    for name, expected in run(experts(LOOP), load).items():
        assert bool(found[name].isfinite().all()), name
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-5)
    for name in ("gate_up_proj", "down_proj"):
        idle = found[name][torch.tensor(load) == 0]
        assert torch.equal(idle, torch.zeros_like(idle)), name


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("alignment", [1, 4, 8, 16])
def test_padding_keeps_every_row_and_gives_each_expert_a_whole_number_of_blocks(load, alignment):
    rows = torch.randn(sum(load), 4)
    filled, ends, place = padded(rows, torch.tensor(load), alignment)
    assert torch.equal(filled[place], rows)
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), ends[:-1]))
    assert torch.all((ends - starts) % alignment == 0)
    assert torch.all(ends - starts >= alignment)
    assert int(ends[-1]) == len(filled)
    group = torch.searchsorted(ends, place, right=True)
    assert torch.equal(torch.bincount(group, minlength=len(load)), torch.tensor(load))
    others = torch.ones(len(filled), dtype=torch.bool).scatter(0, place, value=False)
    assert not filled[others].any()


def test_padding_is_as_long_for_any_load_of_as_many_rows():
    lengths = {len(padded(torch.zeros(sum(load), 4), torch.tensor(load), 8)[0]) for load in LOADS.values() if any(load)}
    assert len(lengths) == 1


def test_bf16_gradients_are_the_bits_of_the_loop():
    load = LOADS["some without a token"]
    grouped = run(experts(GROUPED, dtype=torch.bfloat16), load)
    for name, expected in run(experts(LOOP, dtype=torch.bfloat16), load).items():
        assert torch.equal(grouped[name], expected), name


def block(implementation: str, dtype: Any, *, top_k: int = 8, push: int | None = None) -> SparseMoe:
    """A router and experts; `push` makes one expert every token's first choice."""
    module = SparseMoe(replace(TINY, num_experts_per_tok=top_k), implementation=implementation)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        if push is not None:
            module.gate.weight.zero_()[push] = 1
    return module.to(dtype)


def step(module: SparseMoe, hidden: Tensor) -> dict[str, Tensor]:
    hidden = hidden.to(module.gate.weight.dtype).requires_grad_()
    output, routing = module(hidden)
    wanted = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    ((output * wanted).sum() + routing.probability_sum.square().sum() + routing.z).backward()
    found = {"output": output.detach(), "hidden": hidden.grad, "load": routing.load}
    return found | {name: parameter.grad for name, parameter in module.named_parameters()}


def hidden_states(*, positive: bool = False) -> Tensor:
    states = torch.randn(3, 20, TINY.hidden_size, generator=torch.Generator().manual_seed(1))
    return states.abs() if positive else states


@pytest.mark.parametrize("top_k", [1, 2, 8, 16])
def test_all_gradients_of_a_layer_equal_the_loops_to_1e_12_in_fp64(top_k):
    grouped = step(block(GROUPED, torch.float64, top_k=top_k), hidden_states())
    looped = step(block(LOOP, torch.float64, top_k=top_k), hidden_states())
    for name, expected in looped.items():
        torch.testing.assert_close(grouped[name], expected, rtol=1e-12, atol=1e-12, msg=name)


def test_a_layer_whose_tokens_all_choose_one_expert_equals_that_expert_alone():
    module = block(GROUPED, torch.float64, top_k=1, push=5)
    hidden = hidden_states(positive=True)
    found = step(module, hidden)
    assert found["load"].tolist() == [60 if expert == 5 else 0 for expert in range(16)]
    gate, up = (hidden.double() @ module.experts.gate_up_proj[5].T).chunk(2, -1)
    expected = (torch.nn.functional.silu(gate) * up) @ module.experts.down_proj[5].T
    torch.testing.assert_close(found["output"], expected.detach(), rtol=1e-12, atol=1e-12)
    of_down = found["experts.down_proj"]
    assert of_down[5].abs().min() > 0
    assert not of_down[[e for e in range(16) if e != 5]].any()


def test_output_and_all_gradients_are_those_of_the_weighted_sum_token_by_token():
    # Shares nothing with the layer but its router: the loop over experts sorts rows as the grouped way does.
    module, hidden = block(GROUPED, torch.float64, top_k=3), hidden_states().double()
    found = step(module, hidden.clone())
    module.zero_grad()
    hidden.requires_grad_()
    routing = module.gate(hidden.flatten(0, 1))
    rows = []
    for token, (weights, chosen) in enumerate(zip(routing.weights, routing.experts, strict=True)):
        total = torch.zeros(TINY.hidden_size, dtype=torch.float64)
        for weight, expert in zip(weights, chosen, strict=True):
            gate, up = (module.experts.gate_up_proj[expert] @ hidden.flatten(0, 1)[token]).chunk(2)
            total = total + weight * (module.experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up))
        rows.append(total)
    output = torch.stack(rows).view_as(hidden)
    wanted = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2)).double()
    ((output * wanted).sum() + routing.probability_sum.square().sum() + routing.z).backward()
    expected = {"output": output.detach(), "hidden": hidden.grad}
    for name, value in (expected | {name: p.grad for name, p in module.named_parameters()}).items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)


class TwoShares:
    """Both ranks of expert parallelism over two, in one process: rows of the second half of the experts come first."""

    def send(self, rows: Tensor, load: Tensor) -> tuple[Tensor, Tensor, int]:
        half = len(load) // 2
        cut = int(load[:half].sum())
        return torch.cat((rows[cut:], rows[:cut])), torch.cat((load[half:], load[:half])), cut

    def bring_back(self, rows: Tensor, way: int) -> Tensor:
        return torch.cat((rows[len(rows) - way :], rows[: len(rows) - way]))


def test_rows_that_were_sent_to_where_their_experts_are_give_the_same_sums():
    here, away = block(GROUPED, torch.float64), block(GROUPED, torch.float64)
    away.exchange = TwoShares()
    with torch.no_grad():
        for parameter in away.experts.parameters():
            parameter.copy_(parameter.roll(8, 0))
    expected, found = step(here, hidden_states()), step(away, hidden_states())
    for name, value in expected.items():
        got = found[name].roll(8, 0) if name.startswith("experts.") else found[name]
        torch.testing.assert_close(got, value, rtol=1e-12, atol=1e-12, msg=name)
