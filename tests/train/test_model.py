"""The model against transformers', its own documents run apart, and what its sizes promise."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from marco_data.train.config import CONFIGS, ModelConfig  # noqa: E402
from marco_data.train.experts import LOOP  # noqa: E402
from marco_data.train.loss import labels_of  # noqa: E402
from marco_data.train.model import CausalLM, initial_weight, initialize  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # on a machine with other work, threads of these small products mostly wait for each other

TINY, TINY_MOE = CONFIGS["tiny"], CONFIGS["tiny-moe"]


def wide(config: ModelConfig, *, dtype: Any = torch.float32, seed: int = 0, **options: Any) -> CausalLM:
    """A model whose weights are far enough from zero for every part to tell in the logits."""
    model = CausalLM(config, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.copy_(noise if parameter.dim() > 1 else 1 + noise)
    return model.to(dtype)


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, TINY.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def gradients(model: CausalLM, *inputs: Any) -> dict[str, Tensor]:
    model.zero_grad()
    out = model(*inputs)
    (out.loss_sum / out.token_count + 0.01 * out.aux + 0.001 * out.z).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def twin(config: ModelConfig) -> Any:
    """The same sizes in transformers."""
    transformers = pytest.importorskip("transformers")
    shared: dict[str, Any] = {
        name: getattr(config, name)
        for name in (
            *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
            *("head_dim", "intermediate_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings"),
        )
    }
    shared["rope_parameters"] = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if not config.num_experts:
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shared)).eval()
    moe = ("moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob")
    shared |= {name: getattr(config, name) for name in moe}
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**shared)).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TINY, id="Qwen3"),
        pytest.param(TINY_MOE, id="Qwen3Moe"),
        pytest.param(replace(TINY_MOE, norm_topk_prob=False), id="probabilities of all experts"),
        pytest.param(replace(TINY_MOE, rope_theta=1e4, num_key_value_heads=1), id="other rotation, one key head"),
    ],
)
def test_logits_are_those_of_transformers_with_weights_copied_by_name(config, tied):
    config = replace(config, tie_word_embeddings=tied)
    ours, theirs = wide(config), twin(config)
    weights = dict(ours.state_dict())
    if tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    assert weights.keys() == theirs.state_dict().keys()
    theirs.load_state_dict(weights)
    batch = tokens(3, 96)
    with torch.no_grad():
        expected = theirs(batch).logits
        assert float((ours.logits(batch) - expected).abs().max()) <= 5e-6
    assert float(expected.abs().max()) > 1  # else 5e-6 would say little


def test_loss_and_gradients_are_those_of_transformers():
    ours, theirs = wide(TINY_MOE), twin(TINY_MOE)
    theirs.load_state_dict(ours.state_dict() | {"lm_head.weight": ours.model.embed_tokens.weight})
    batch = tokens(2, 65)
    out = ours(batch[:, :-1], labels_of(batch))
    (out.loss_sum / out.token_count).backward()
    loss = theirs(batch, labels=batch).loss  # it shifts labels itself
    loss.backward()
    assert int(out.token_count) == 128
    assert out.loss_sum.item() / 128 == pytest.approx(loss.item(), abs=1e-5)
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad - expected[name]).abs().max() / expected[name].abs().max()
        assert float(difference) < 2e-5, name


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_as_many_as_the_formula_says(name):
    with torch.device("meta"):
        model = CausalLM(CONFIGS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == CONFIGS[name].parameters()


@pytest.mark.parametrize("config", [TINY, TINY_MOE, replace(TINY_MOE, tie_word_embeddings=False)])
def test_flops_per_token_are_those_counted_in_a_step(config):
    model, batch = wide(config, implementation=LOOP), tokens(2, 129)
    # Attention as plain products: the fused kernel's are not counted on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch[:, :-1], labels_of(batch)).loss_sum.backward()
    # Adding up the experts' outputs is a product here, but not one with weights: 0.02 % of Mini's step.
    adding_up = 3 * 2 * config.num_hidden_layers * config.num_experts_per_tok * config.hidden_size
    assert counter.get_total_flops() / (2 * 128) == config.flops_per_token(128, causal=False) + adding_up


@pytest.mark.parametrize("config", [TINY, TINY_MOE])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-13)])
def test_documents_in_a_row_are_as_if_each_had_been_run_alone(config, dtype, tolerance):
    model, lengths = wide(config, dtype=dtype), [[7, 30, 1, 26], [64]]
    batch = tokens(2, 64)
    documents = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths])
    with torch.no_grad():
        together = model.logits(batch, documents)
        for row, sizes in enumerate(lengths):
            start = 0
            for size in sizes:
                alone = model.logits(batch[row : row + 1, start : start + size])[0]
                assert float((together[row, start : start + size] - alone).abs().max()) < tolerance
                start += size
        unmasked = model.logits(batch)
    assert float((together[0, 40:] - unmasked[0, 40:]).abs().max()) > 0.01  # a document does see its neighbour else


def test_gradients_of_documents_in_a_row_are_the_sum_of_each_ones_alone():
    model, batch = wide(TINY_MOE, dtype=torch.float64), tokens(1, 41)
    documents = (torch.arange(41) >= 17).long().unsqueeze(0)
    labels = labels_of(batch, documents)
    assert labels[0, 16] == -100

    def of(inputs: Tensor, wanted: Tensor, ids: Tensor | None = None) -> dict[str, Tensor]:
        model.zero_grad()
        model(inputs, wanted, ids).loss_sum.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    together = of(batch[:, :-1], labels, documents[:, :-1])
    first, second = of(batch[:, :17], labels[:, :17]), of(batch[:, 17:-1], labels[:, 17:])
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, first[name] + second[name], rtol=1e-12, atol=1e-12)


def test_a_later_token_changes_nothing_before_it():
    model, batch = wide(TINY_MOE), tokens(1, 50)
    changed = batch.clone()
    changed[0, 30] = (batch[0, 30] + 1) % TINY.vocab_size
    with torch.no_grad():
        before, after = model.logits(batch)[0], model.logits(changed)[0]
    assert float((before[:30] - after[:30]).abs().max()) < 1e-5
    assert float((before[30:] - after[30:]).abs().max()) > 0.01


@pytest.mark.parametrize("config", [TINY, TINY_MOE])
def test_recomputed_activations_give_the_same_gradients_bit_for_bit(config):
    model, batch = wide(config), tokens(2, 33)
    kept = gradients(model, batch[:, :-1], labels_of(batch))
    model.model.recompute = True
    again = gradients(model, batch[:, :-1], labels_of(batch))
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.mark.parametrize(("recompute", "shape"), [(False, "kept"), (True, "boundary")])
@pytest.mark.parametrize("config", [TINY, TINY_MOE])
def test_memory_of_activations_is_what_the_formula_says(config, recompute, shape):
    # In fp32, so every value of the formula's bf16 takes twice its bytes, and its fp32 values count twice there.
    def held(layers: int) -> int:
        model = wide(replace(config, num_hidden_layers=layers))
        model.model.recompute = recompute
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        storages: dict[int, int] = {}

        def keep(saved: Tensor) -> Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            out = model(batch[:, :-1], labels_of(batch))
        assert out.loss_sum.requires_grad
        return sum(storages.values())

    batch = tokens(4, 257)
    measured = (held(3) - held(1)) / 2 / (4 * 256)
    stated = 4 * (config.activation_values() if shape == "kept" else config.hidden_size)
    assert 0.5 < measured / stated < 1.1


def test_bf16_logits_are_near_those_of_fp32():
    exact, batch = wide(TINY_MOE), tokens(2, 64)
    coarse = wide(TINY_MOE, dtype=torch.bfloat16)
    with torch.no_grad():
        one, other = exact.logits(batch), coarse.logits(batch).float()
    assert coarse.logits(batch).dtype == torch.bfloat16
    assert float((one - other).norm() / one.norm()) < 0.1


def test_a_step_repeats_bit_for_bit():
    model, batch = wide(TINY_MOE), tokens(4, 65)
    first = gradients(model, batch[:, :-1], labels_of(batch))
    second = gradients(model, batch[:, :-1], labels_of(batch))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_initial_weights_depend_on_seed_and_name_alone():
    one, other = initialize(CausalLM(TINY_MOE), 3), initialize(CausalLM(TINY_MOE), 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    different = initialize(CausalLM(TINY_MOE), 4)
    name = "model.layers.0.mlp.experts.down_proj"
    assert not torch.equal(one.state_dict()[name], different.state_dict()[name])
    # A rank that holds experts 0 to 3 alone makes the same ones.
    shape = tuple(one.state_dict()[name].shape)
    assert torch.equal(initial_weight(name, (4, *shape[1:]), TINY_MOE, 3), one.state_dict()[name][:4])


def test_initial_weights_have_the_configured_spread_and_no_two_are_alike():
    model = initialize(CausalLM(TINY_MOE), 0)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
        else:
            assert weight.std().item() == pytest.approx(TINY_MOE.initializer_range, rel=0.05), name
    experts = model.state_dict()["model.layers.0.mlp.experts.gate_up_proj"].flatten(1)
    assert len(torch.unique(experts, dim=0)) == TINY_MOE.num_experts


def test_a_tiny_model_learns_what_follows_what():
    model = initialize(CausalLM(TINY_MOE), 0)
    batch = (torch.arange(33) * 7 % 50).repeat(4, 1) + torch.arange(4).unsqueeze(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        out = model(batch[:, :-1], labels_of(batch))
        optimizer.zero_grad()
        (out.loss_sum / out.token_count + 0.01 * out.aux).backward()
        optimizer.step()
        losses.append(out.loss_sum.item() / int(out.token_count))
    assert losses[0] > 5
    assert losses[-1] < 0.5
