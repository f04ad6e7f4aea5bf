"""`config.json` in every spelling, and the command where torch is not installed."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from marco_data.errors import RecipeError
from marco_data.train.config import CONFIGS
from marco_data.train.hub import config_json, config_of, on_disk, parameter_shapes, read_config

NANO, DENSE = CONFIGS["marco-nano"], CONFIGS["qwen3-0.6b"]


def written(folder: Path, said: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(said))
    return path


def hub(**changed: Any) -> dict[str, Any]:
    said = config_json(NANO, "bfloat16", {}) | changed
    return {key: value for key, value in said.items() if value != "left out"}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_is_the_same_after_writing_and_reading(tmp_path: Path, name: str):
    path = written(tmp_path, config_json(CONFIGS[name], "bfloat16", {"eos_token_id": 7}))
    assert read_config(path) == CONFIGS[name]
    assert config_of(str(tmp_path)) == config_of(str(path)) == config_of(name)


def test_both_spellings_of_every_renamed_key_are_written():
    said = config_json(replace(NANO, rope_theta=5e5), "bfloat16", {})
    assert said["num_experts"] == said["num_local_experts"] == 232
    assert said["rope_theta"] == said["rope_parameters"]["rope_theta"] == 5e5
    assert said["torch_dtype"] == said["dtype"] == "bfloat16"


@pytest.mark.parametrize("absent", [("num_experts", "rope_theta"), ("num_local_experts", "rope_parameters")])
def test_one_spelling_is_enough_to_read(tmp_path: Path, absent: tuple[str, ...]):
    assert read_config(written(tmp_path, hub(**dict.fromkeys(absent, "left out")))) == NANO


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model_type": "llama"}, "of a `llama` model"),
        ({"rope_theta": 1e4}, "`rope_theta` 10000.0 and `rope_parameters.rope_theta` 1000000.0"),
        ({"num_local_experts": 128}, "`num_experts` 232 and `num_local_experts` 128"),
        ({"rope_theta": "left out", "rope_parameters": "left out"}, "does not give `rope_theta`"),
        ({"head_dim": "left out", "rms_norm_eps": "left out"}, "does not give `head_dim`, `rms_norm_eps`"),
        ({"hidden_size": "1024"}, '`hidden_size` is "1024"'),
        ({"attention_bias": True}, "has no `attention_bias`: true"),
        ({"mlp_only_layers": [3]}, "has no `mlp_only_layers`"),
        ({"rope_scaling": {"type": "yarn"}}, "has no `rope_scaling`"),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn"}}, "has no `rope_type`: yarn"),
        ({"quantization_config": {"bits": 4}}, "has no `quantization_config`"),
    ],
)
def test_a_config_that_would_be_misread_is_refused(tmp_path: Path, changed: dict[str, Any], told: str):
    with pytest.raises(RecipeError, match=told):
        read_config(written(tmp_path, hub(**changed)))


def test_sizes_of_ones_own_are_read_and_unknown_or_missing_keys_told(tmp_path: Path):
    own = asdict(replace(NANO, num_experts=64))
    assert config_of(str(written(tmp_path, own))).num_experts == 64
    with pytest.raises(RecipeError, match="`experts` is unknown"):
        config_of(str(written(tmp_path, own | {"experts": 3})))
    with pytest.raises(RecipeError, match="missing 1 required positional argument: 'hidden_size'"):
        config_of(str(written(tmp_path, {k: v for k, v in own.items() if k != "hidden_size"})))


def test_an_unknown_name_and_broken_json_are_told(tmp_path: Path):
    with pytest.raises(RecipeError, match="no model is called `marco-giant`"):
        config_of("marco-giant")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RecipeError, match="is no JSON"):
        config_of(str(tmp_path))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_parameters_listed_are_as_many_as_the_model_has(name: str):
    listed = pieces = 0
    for parameter, shape in parameter_shapes(CONFIGS[name]).items():
        listed += _size(shape)
        pieces += sum(_size(piece) for _, piece in on_disk(parameter, shape))
    assert listed == pieces == CONFIGS[name].parameters()


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def test_experts_lie_on_disk_as_vllm_asks_for_them():
    shapes = parameter_shapes(NANO)
    name = "model.layers.3.mlp.experts.gate_up_proj"
    pieces = list(on_disk(name, shapes[name]))
    assert pieces[:2] == [
        ("model.layers.3.mlp.experts.0.gate_proj.weight", (384, 1024)),
        ("model.layers.3.mlp.experts.0.up_proj.weight", (384, 1024)),
    ]
    name = "model.layers.3.mlp.experts.down_proj"
    assert list(on_disk(name, shapes[name]))[-1] == ("model.layers.3.mlp.experts.231.down_proj.weight", (1024, 384))


def test_an_output_layer_is_written_only_where_it_is_one_of_its_own():
    assert "lm_head.weight" not in parameter_shapes(DENSE)
    untied = parameter_shapes(replace(DENSE, tie_word_embeddings=False))
    assert untied["lm_head.weight"] == untied["model.embed_tokens.weight"]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
sys.argv = ["marco-data", *sys.argv[1:]]
from marco_data.cli import main
main()
"""


@pytest.mark.parametrize("command", ["upcycle", "export"])
def test_without_torch_a_command_says_what_to_install(tmp_path: Path, command: str):
    written(tmp_path, config_json(DENSE, "bfloat16", {}))
    words = {
        "upcycle": ["upcycle", "--from", tmp_path, "--to", "marco-nano", "--out", tmp_path / "out"],
        "export": ["export", tmp_path, "--to", tmp_path / "out"],
    }[command]
    said = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "the trainer needs torch" in said.stderr
    assert ".[train]" in said.stderr
