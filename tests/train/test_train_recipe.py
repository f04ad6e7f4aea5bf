"""Training recipes: those that ship, mistakes told by line, and what is refused before a GPU is taken."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from written_shards import write_stage

import recipes
from marco_data.cli_train_run import stage_numbers
from marco_data.errors import RecipeError
from pipelines.train_stage import load_train_recipe, train_stage

SHIPPED = sorted(Path(recipes.__file__).parent.glob("*/train.yaml"))
TINY: dict[str, Any] = {
    "model": "tiny-moe",
    "sequence": 32,
    "global_batch": 4,
    "precision": "fp32",
    "schedule": {"peak": 0.01, "warmup": 256, "stages": {2: {"shape": "linear", "to": 0.001}}},
}


@pytest.fixture
def blends(tmp_path: Path) -> list[Path]:
    return [write_stage(tmp_path, [([30] * 20, 1.0), ([7, 40, 3] * 6, 1.0)], stage=number) for number in (1, 2)]


def recipe(folder: Path, **changes: Any):
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
    return load_train_recipe(path)


def test_the_shipped_recipes_are_there():
    assert [path.parent.name for path in SHIPPED] == ["marco-mini", "marco-nano", "sample"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_a_shipped_recipe_loads_and_its_model_is_known(path):
    from marco_data.train.hub import config_of

    loaded = load_train_recipe(path)
    assert config_of(loaded.model).num_experts > 0


def test_a_run_is_planned_in_tokens_of_whole_batches(tmp_path, blends):
    planned = train_stage(recipe(tmp_path), blends, ranks=2, ep=2, micro_batch=2)
    assert planned.settings.schedule.tokens == (7 * 128, 7 * 128)
    assert [stage.iterations for stage in planned.data.stages] == [7, 7]
    rate = planned.settings.schedule.rate
    assert [rate(0), rate(128), rate(256), rate(896)] == pytest.approx([0, 0.005, 0.01, 0.01])
    assert rate(1792) == pytest.approx(0.001)
    assert planned.to_json()["memory_bytes_per_gpu"] == sum(planned.memory.values()) > 0


def test_ranks_and_micro_batches_are_no_part_of_what_a_run_is(tmp_path, blends):
    one = train_stage(recipe(tmp_path), blends)
    other = train_stage(recipe(tmp_path), blends, ranks=4, ep=2)
    assert one.settings == other.settings
    assert one.plan.digest == other.plan.digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"sequense": 1}, "train.yaml:12: .*did you mean `sequence`", id="a key"),
        pytest.param({"schedule": {"peak": 0}}, "train.yaml:6", id="a rate"),
        pytest.param({"schedule": {"peak": 1, "warmup": "some"}}, "train.yaml:7", id="tokens"),
        pytest.param({"precision": "fp8"}, "train.yaml:4", id="a precision"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(tmp_path, changes, told):
    with pytest.raises(RecipeError, match=told):
        recipe(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "layout", "told"),
    [
        pytest.param({}, {"ranks": 3}, "cannot be dealt to 3 ranks", id="ranks"),
        pytest.param({}, {"ranks": 2, "ep": 2, "micro_batch": 4}, "whole micro-batches of 4", id="micro-batch"),
        pytest.param({}, {"ranks": 2, "ep": 4}, "does not divide 2 ranks", id="ep"),
        pytest.param({"model": "tiny"}, {"ranks": 2, "ep": 2}, "experts", id="experts of a dense model"),
        pytest.param({"global_batch": 4096}, {}, "no global batch", id="a batch larger than the stage"),
        pytest.param({"schedule": {"peak": 1, "warmup": "1M"}}, {}, "warm-up", id="a warm-up longer than the run"),
        pytest.param({"model": "nobody"}, {}, "no model is called", id="a model"),
        pytest.param({"order": "megatron", "mask_documents": True}, {}, "masks no documents", id="order and masks"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_started(tmp_path, blends, changes, layout, told):
    with pytest.raises(RecipeError, match=told):
        train_stage(recipe(tmp_path, **changes), blends, **layout)


def test_stages_are_named_one_by_one_or_from_to():
    assert [stage_numbers(text) for text in ("3", "1-4", "1,3")] == [[3], [1, 2, 3, 4], [1, 3]]
    for text in ("", "x", "4-", "3-1"):
        with pytest.raises(RecipeError, match="names no stages"):
            stage_numbers(text)
