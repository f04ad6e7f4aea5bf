"""How dense layers are cut into experts, by the sizes alone."""

from dataclasses import replace
from typing import Any

import pytest

from marco_data.errors import RecipeError
from marco_data.train.config import CONFIGS
from marco_data.train.slices import cut

DENSE, NANO, MINI = CONFIGS["qwen3-0.6b"], CONFIGS["marco-nano"], CONFIGS["marco-mini"]


@pytest.mark.parametrize(
    ("sparse", "slices", "copies", "groups"), [(NANO, 8, 29, 1), (MINI, 4, 64, 2)], ids=["nano", "mini"]
)
def test_marcos_models_are_cut_as_published(sparse, slices, copies, groups):
    made = cut(DENSE, sparse, "virtual_group")
    assert (made.slices, made.copies) == (slices, copies)
    assert sparse.num_experts_per_tok / slices == groups


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.num_experts])
def test_every_shipped_mixture_can_be_made_of_its_dense_model(name):
    sparse = CONFIGS[name]
    dense = next(d for d in CONFIGS.values() if not d.num_experts and d.hidden_size == sparse.hidden_size)
    made = cut(dense, sparse, "virtual_group")
    assert made.slices * made.copies == sparse.num_experts


def test_each_copy_holds_every_slice_once_and_in_order():
    made = cut(DENSE, NANO, "random")
    for copy in range(made.copies):
        parts = [made.of(copy * made.slices + at) for at in range(made.slices)]
        assert [(part.start, part.stop) for part in parts] == [(at * 384, (at + 1) * 384) for at in range(8)]


def test_both_scales_make_an_expert_as_many_times_larger_as_there_are_slices():
    made = cut(DENSE, NANO, "random")
    assert made.scales("recipe") == pytest.approx((2, 2, 2))
    gate, up, down = made.scales("exact")
    assert gate == 1
    assert up * down == pytest.approx(8)


@pytest.mark.parametrize(
    ("changed", "router", "told"),
    [
        ({"moe_intermediate_size": 500}, "random", "3072 wide cannot be cut into experts 500 wide"),
        ({"num_experts": 230}, "random", "230 experts are no whole number of copies of 8 slices"),
        ({"num_experts_per_tok": 6}, "virtual_group", "chooses 6 experts, which is no whole number of groups of 8"),
        ({"norm_topk_prob": False}, "random", "weights do not sum to 1"),
        ({"num_experts": 0}, "random", "has no experts"),
        ({"hidden_size": 512, "rope_theta": 1e4}, "random", "`hidden_size` 1024 and 512; `rope_theta` 1000000.0 and"),
    ],
)
def test_what_does_not_fit_is_named_with_its_numbers(changed: dict[str, Any], router: Any, told: str):
    with pytest.raises(RecipeError, match=told):
        cut(DENSE, replace(NANO, **changed), router)


def test_a_number_chosen_that_is_no_group_is_fine_with_a_random_router():
    assert cut(DENSE, replace(NANO, num_experts_per_tok=6), "random").slices == 8


def test_a_mixture_is_not_upcycled_again():
    with pytest.raises(RecipeError, match="has experts already"):
        cut(NANO, NANO, "random")
