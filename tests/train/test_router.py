"""Routing, its balance by definition, and the same numbers from transformers and Megatron where they have them."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from marco_data.train.config import CONFIGS, ModelConfig  # noqa: E402
from marco_data.train.loss import labels_of  # noqa: E402
from marco_data.train.model import CausalLM, initialize  # noqa: E402
from marco_data.train.router import Router, aux_loss, load_statistics, update_expert_bias  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # on a machine with other work, threads of these small products mostly wait for each other

TINY = CONFIGS["tiny-moe"]


def router(config: ModelConfig = TINY, *, dtype: Any = torch.float32, **options: Any) -> Router:
    module = Router(config, **options)
    with torch.no_grad():
        shape = module.weight.shape
        module.weight.copy_(torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.3)
    return module.to(dtype)


def hidden_states(count: int = 200, *, seed: int = 1) -> Tensor:
    return torch.randn(count, TINY.hidden_size, generator=torch.Generator().manual_seed(seed))


def test_experts_are_the_highest_logits_and_weights_a_softmax_over_those_alone():
    module, hidden = router(), hidden_states()
    routing = module(hidden)
    logits = hidden @ module.weight.T
    for row in range(len(hidden)):
        best = logits[row].argsort(descending=True)[: TINY.num_experts_per_tok]
        assert routing.experts[row].tolist() == best.tolist()
        torch.testing.assert_close(routing.weights[row], logits[row][best].softmax(0))


def test_without_renormalising_weights_are_probabilities_among_all_experts():
    module, hidden = router(replace(TINY, norm_topk_prob=False)), hidden_states()
    routing = module(hidden)
    probabilities = (hidden @ module.weight.T).softmax(-1)
    torch.testing.assert_close(routing.weights, probabilities.gather(1, routing.experts))
    assert torch.all(routing.weights.sum(1) < 1)


def test_load_counts_every_choice_once():
    routing = router()(hidden_states())
    assert int(routing.load.sum()) == 200 * TINY.num_experts_per_tok
    assert routing.load.tolist() == [int((routing.experts == expert).sum()) for expert in range(TINY.num_experts)]


def test_a_bf16_model_routes_in_fp32():
    coarse, hidden = router(dtype=torch.bfloat16), hidden_states().bfloat16()
    routing = coarse(hidden)
    exact = (hidden.double() @ coarse.weight.double().T).topk(TINY.num_experts_per_tok)
    assert routing.weights.dtype == torch.float32
    assert torch.equal(routing.experts, exact.indices)
    torch.testing.assert_close(routing.weights.double(), exact.values.softmax(1), rtol=1e-5, atol=1e-6)


def test_aux_loss_is_one_where_experts_are_chosen_evenly_and_their_number_where_one_is_always():
    even = torch.full((16,), 50)
    assert aux_loss(torch.full((16,), 100 / 16), even, 100).item() == pytest.approx(1)
    always = torch.zeros(16)
    always[3] = 100
    assert aux_loss(always, always, 100).item() == pytest.approx(16)


def test_aux_loss_is_that_of_transformers_for_one_layer_over_top_k():
    # Theirs counts choices per token, so it is top_k times ours; with several layers it averages them before it
    # multiplies, which is another loss.
    qwen = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    module, hidden = router(), hidden_states()
    routing = module(hidden)
    theirs = qwen.load_balancing_loss_func((hidden @ module.weight.T,), TINY.num_experts, TINY.num_experts_per_tok)
    ours = aux_loss(routing.probability_sum, routing.load, len(hidden))
    assert ours.item() * TINY.num_experts_per_tok == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore")  # what importing megatron-core says on a machine without a GPU
def test_aux_and_z_loss_are_megatrons():
    moe = pytest.importorskip("megatron.core.transformer.moe.moe_utils", exc_type=ImportError)
    module, hidden = router(), hidden_states()
    routing = module(hidden)
    logits = hidden @ module.weight.T
    aux = moe.switch_load_balancing_loss_func(
        probs=logits.softmax(-1),
        tokens_per_expert=routing.load,
        total_num_tokens=len(hidden),
        topk=TINY.num_experts_per_tok,
        num_experts=TINY.num_experts,
        moe_aux_loss_coeff=1.0,
    )
    ours = aux_loss(routing.probability_sum, routing.load, len(hidden))
    assert ours.item() == pytest.approx(aux.item(), rel=1e-6)
    assert routing.z.item() == pytest.approx(moe.z_loss_func(logits, 1.0).item(), rel=1e-6)


def gradients(model: CausalLM, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_micro_batches_that_know_the_global_load_have_the_global_batchs_aux_loss_and_gradient():
    model = initialize(CausalLM(TINY), 0).double()
    tokens = torch.randint(0, TINY.vocab_size, (8, 33), generator=torch.Generator().manual_seed(0))

    def aux_of(rows: Tensor, load: Tensor | None = None) -> tuple[Tensor, Tensor]:
        out = model(rows[:, :-1], labels_of(rows), load=load)
        return out.aux, out.load

    whole, load = aux_of(tokens)
    expected = gradients(model, whole)
    parts = [aux_of(tokens[start : start + 2], load)[0] for start in range(0, 8, 2)]
    mean = torch.stack(parts).mean()
    assert mean.item() == pytest.approx(whole.item(), rel=1e-12)
    for name, gradient in gradients(model, mean).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-14)
    # Of their own load alone, micro-batches would each be asked to be even, which is another and a higher loss.
    alone = torch.stack([aux_of(tokens[start : start + 2])[0] for start in range(0, 8, 2)]).mean()
    assert alone.item() > whole.item() + 1e-4


def test_aux_loss_of_the_model_is_the_mean_over_its_layers_by_definition():
    model = initialize(CausalLM(TINY), 0).double()
    tokens = torch.randint(0, TINY.vocab_size, (3, 33), generator=torch.Generator().manual_seed(0))
    seen: list[Any] = []
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda _, inputs, routing: seen.append((inputs[0], routing)))
    out = model(tokens[:, :-1], labels_of(tokens))
    values, squares = [], []
    for layer, (hidden, routing) in zip(model.model.layers, seen, strict=True):
        logits = hidden @ layer.mlp.gate.weight.T
        probability = logits.softmax(-1).mean(0)
        value = 0.0
        for expert in range(TINY.num_experts):
            share = (routing.experts == expert).sum() / (len(hidden) * TINY.num_experts_per_tok)
            value += TINY.num_experts * share.item() * probability[expert].item()
        values.append(value)
        squares.append(logits.exp().sum(-1).log().square().mean().item())
    assert out.aux.item() == pytest.approx(sum(values) / len(values), rel=1e-12)
    assert out.z.item() == pytest.approx(sum(squares) / len(squares), rel=1e-12)


@pytest.mark.parametrize("weighed_with", ["its own load", "the load of the batch before"])
def test_learning_by_aux_loss_alone_evens_the_load(weighed_with):
    module, hidden = router(replace(TINY, num_experts_per_tok=2)), hidden_states(2000) + 0.5
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    before = load_statistics(module(hidden).load[None])[0].busiest
    last = torch.ones(TINY.num_experts)
    for number in range(200):
        rows = hidden[number % 4 :: 4]  # each batch has other tokens than the one before
        routing = module(rows)
        optimizer.zero_grad()
        load = routing.load if weighed_with == "its own load" else last
        aux_loss(routing.probability_sum, load, len(rows)).backward()
        optimizer.step()
        last = routing.load
    assert load_statistics(module(hidden).load[None])[0].busiest < 0.6 * before


def test_learning_by_z_loss_alone_shrinks_logits():
    module, hidden = router(), hidden_states()
    first = module(hidden).z
    first.backward()
    with torch.no_grad():
        module.weight -= 0.1 * module.weight.grad
    assert module(hidden).z.item() < first.item()


def test_a_bias_after_every_step_evens_the_load_and_leaves_weights_to_the_logits():
    module = router(replace(TINY, num_experts_per_tok=2), balance_by_bias=True)
    hidden = hidden_states(2000) + 0.5
    before = load_statistics(module(hidden).load[None])[0]
    for _ in range(400):
        update_expert_bias(module.expert_bias, module(hidden).load, 0.01)
    routing = module(hidden)
    after = load_statistics(routing.load[None])[0]
    assert before.busiest > 2
    assert after.busiest < 1.3
    assert after.idlest > 0.7
    logits = hidden @ module.weight.T
    torch.testing.assert_close(routing.weights, logits.gather(1, routing.experts).softmax(1))


def test_a_bias_moves_by_the_rate_towards_the_mean_load():
    bias = torch.tensor([0.5, 0.0, -0.25, 0.0])
    update_expert_bias(bias, torch.tensor([10, 2, 6, 6]), 0.125)
    assert bias.tolist() == [0.375, 0.125, -0.25, 0.0]


def test_a_model_without_bias_balancing_has_no_bias_in_its_state():
    assert not [name for name in CausalLM(TINY).state_dict() if "bias" in name]
    with_bias = CausalLM(TINY, balance_by_bias=True).state_dict()
    assert "model.layers.1.mlp.gate.expert_bias" in with_bias


def test_load_statistics_tell_even_use_from_dead_experts():
    even, dead = load_statistics(torch.tensor([[5, 5, 5, 5], [20, 0, 0, 0]]))
    assert (even.busiest, even.idlest, even.dead, even.entropy) == (1, 1, 0, pytest.approx(1))
    assert (dead.busiest, dead.idlest, dead.dead, dead.entropy) == (4, 0, 3, pytest.approx(0))


def test_statistics_of_no_tokens_are_refused():
    with pytest.raises(ValueError, match="no token was routed"):
        load_statistics(torch.zeros(1, 4))
