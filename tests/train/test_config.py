"""A model's sizes: published ones come out, formulas hold, and sizes that fit nothing are refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import marco
from hypothesis import given
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.train.config import CONFIGS, STATE_BYTES, ModelConfig, config_named

TINY, TINY_MOE, NANO, MINI = (CONFIGS[name] for name in ("tiny", "tiny-moe", "marco-nano", "marco-mini"))


@pytest.mark.parametrize(
    ("name", "all_of_them", "active"),
    [
        ("marco-nano", 8.001e9, 0.603e9),
        ("marco-mini", 17.25e9, 0.868e9),
        ("qwen3-0.6b", 596_049_920, 596_049_920),
    ],
)
def test_parameters_are_those_that_are_published(name, all_of_them, active):
    config = config_named(name)
    assert config.parameters() == pytest.approx(all_of_them, rel=5e-4)
    assert config.active_parameters() == pytest.approx(active, rel=1e-3)


def test_every_mixture_of_experts_can_be_cut_out_of_the_dense_model_of_its_sizes():
    for config in (TINY_MOE, NANO, MINI):
        slices, rest = divmod(config.intermediate_size, config.moe_intermediate_size)
        assert rest == 0
        assert config.num_experts % slices == 0
        assert config.num_experts_per_tok % slices == 0


def test_a_step_of_mini_takes_6_61_gigaflops_a_token_of_which_one_fifth_is_attention():
    flops = MINI.flops_per_token(4096)
    assert flops == pytest.approx(6.61e9, rel=1e-3)
    attention = 3 * 28 * 4 * 2048 * 16 * 128
    assert flops - attention == pytest.approx(6 * MINI.active_parameters(), rel=1e-3)
    assert MINI.flops_per_token(4096, causal=False) == flops + attention


def test_an_output_layer_of_its_own_costs_parameters_and_no_flops():
    untied = replace(MINI, tie_word_embeddings=False)
    assert untied.parameters() - MINI.parameters() == MINI.vocab_size * MINI.hidden_size
    assert untied.flops_per_token(4096) == MINI.flops_per_token(4096)


def test_states_are_sixteen_bytes_a_parameter_shared_out_over_all_ranks():
    assert STATE_BYTES * MINI.parameters() == pytest.approx(276e9, rel=1e-3)
    for dp in (1, 8, 64):
        assert MINI.memory_parts(dp=dp)["states"] == pytest.approx(16 * MINI.parameters() / dp, abs=1)


def test_mini_does_not_fit_one_gpu_of_141_gigabytes_and_fits_each_of_eight_with_80():
    assert MINI.memory_bytes_per_gpu(dp=1) > 141e9
    assert MINI.memory_bytes_per_gpu(dp=8, ep=8) < 80e9


@given(
    ep=st.sampled_from([2, 4, 8]),
    tokens=st.integers(1, 100_000),
    recompute=st.booleans(),
    name=st.sampled_from(["marco-nano", "marco-mini"]),
)
def test_more_ranks_and_more_expert_parallelism_never_need_more_memory(ep, tokens, recompute, name):
    config = CONFIGS[name]

    def need(dp: int, ep: int) -> int:
        return config.memory_bytes_per_gpu(dp=dp, ep=ep, tokens=tokens, recompute=recompute)

    assert need(8, ep) < need(8, 1)
    assert need(16, ep) < need(8, ep)
    kept = config.memory_bytes_per_gpu(dp=8, ep=ep, tokens=tokens, recompute=False)
    assert config.memory_bytes_per_gpu(dp=8, ep=ep, tokens=tokens, recompute=True) < kept


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"num_key_value_heads": 3}, "4 attention heads do not share 3"),
        ({"head_dim": 31}, "head_dim"),
        ({"num_experts_per_tok": 17}, "17 of 16"),
        ({"num_experts_per_tok": 0}, "0 of 16"),
        ({"moe_intermediate_size": 0}, "moe_intermediate_size"),
    ],
)
def test_sizes_that_fit_nothing_are_refused_by_name(change, named):
    with pytest.raises(RecipeError, match=named):
        replace(TINY_MOE, **change)


@pytest.mark.parametrize(
    ("config", "dp", "ep", "named"),
    [
        (MINI, 8, 3, "over 3 does not divide 8"),
        (NANO, 16, 16, "232 experts cannot be shared out over 16"),
        (TINY, 2, 2, "0 experts cannot"),
        (MINI, 0, 1, "0 ranks"),
    ],
)
def test_a_layout_that_shares_nothing_out_evenly_is_refused(config: ModelConfig, dp, ep, named):
    with pytest.raises(RecipeError, match=named):
        config.memory_bytes_per_gpu(dp=dp, ep=ep)


def test_model_info_is_one_flat_object_of_absolute_numbers():
    told = marco("model-info", "marco-mini", "--ep", 8, "--json").json
    assert (told["parameters"], told["active_parameters"]) == (MINI.parameters(), MINI.active_parameters())
    assert told["flops_per_token"] == MINI.flops_per_token(4096)
    assert told["memory_bytes_per_gpu"] == MINI.memory_bytes_per_gpu(dp=8, ep=8)
    parts = [value for key, value in told.items() if key.startswith("memory_bytes_") and key != "memory_bytes_per_gpu"]
    assert sum(parts) == told["memory_bytes_per_gpu"]
    assert all(isinstance(value, int | float) for key, value in told.items() if key != "name")


def test_model_info_for_people_says_the_same_numbers():
    told = dict(line.split() for line in marco("model-info", "tiny-moe").out.splitlines())
    assert told["parameters"] == f"{TINY_MOE.parameters():,}"
    assert told["recompute"] == "True"


def test_an_unknown_model_is_refused_with_those_there_are():
    told = marco("model-info", "marco-maxi")
    assert told.code == 2
    assert "no model is called `marco-maxi`" in told.err
    assert "marco-mini" in told.err


def test_the_page_says_of_mini_s_memory_what_model_info_says():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for gpus, ep, states, whole in rows:
        said = marco("model-info", "marco-mini", "--dp", gpus, "--ep", ep, "--json").json
        figures = (said["memory_bytes_states"], said["memory_bytes_per_gpu"])
        assert tuple(f"{figure / 1e9:.1f}" for figure in figures) == (states, whole)
    kept = marco("model-info", "marco-mini", "--ep", 8, "--no-recompute", "--json").json["memory_bytes_per_gpu"]
    assert f"Without `--recompute` eight GPUs take {kept / 1e9:.1f} GB each" in page
    alone = marco("model-info", "marco-mini", "--dp", 1, "--json").json["memory_bytes_per_gpu"]
    assert f"a single one would take {alone / 1e9:.0f} GB" in page
    assert f"{MINI.parameters() / 1e9:.2f} billion parameters" in page
    assert f"{MINI.parameters() * STATE_BYTES / 1e9:.0f} GB, which FSDP cuts" in page
