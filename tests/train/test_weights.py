"""Hugging Face folders, read and written one tensor at a time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402
from written_models import random_state, write_model  # noqa: E402

from marco_data.errors import RecipeError  # noqa: E402
from marco_data.train.config import CONFIGS  # noqa: E402
from marco_data.train.weights import HubFolder, HubWriter, copy_tokenizer  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

TINY, MOE = CONFIGS["tiny"], CONFIGS["tiny-moe"]
UNTIED = replace(MOE, tie_word_embeddings=False)


@pytest.mark.parametrize("config", [TINY, MOE, UNTIED], ids=["dense", "experts", "untied"])
@pytest.mark.parametrize("file_bytes", [10**9, 50_000], ids=["one file", "many files"])
def test_what_is_read_is_what_was_written(tmp_path: Path, config, file_bytes: int):
    read = write_model(tmp_path / "m", config, file_bytes=file_bytes)
    assert read.config == config
    assert len(list((tmp_path / "m").glob("*.safetensors"))) == (
        1 if file_bytes == 10**9 else pytest.approx(30, abs=25)
    )
    for name, tensor in random_state(config).items():
        assert torch.equal(read.tensor(name), tensor)


def test_files_are_those_that_safetensors_reads_and_the_index_names_all(tmp_path: Path):
    write_model(tmp_path / "m", MOE, file_bytes=200_000)
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    found = {}
    for path in sorted((tmp_path / "m").glob("*.safetensors")):
        tensors = load_file(path)
        assert {index["weight_map"][name] for name in tensors} == {path.name}
        found |= tensors
        assert path.stat().st_size < 200_000 + 20_000 or len(tensors) == 1
    assert set(found) == set(index["weight_map"])
    assert sum(t.nbytes for t in found.values()) == index["metadata"]["total_size"]
    state = random_state(MOE)
    expert = found["model.layers.1.mlp.experts.5.up_proj.weight"]
    assert torch.equal(expert, state["model.layers.1.mlp.experts.gate_up_proj"][5, 48:])


def test_a_share_of_the_experts_is_that_part_of_all(tmp_path: Path):
    read = write_model(tmp_path / "m", MOE, file_bytes=50_000)
    for name in ("model.layers.0.mlp.experts.gate_up_proj", "model.layers.1.mlp.experts.down_proj"):
        whole = read.tensor(name)
        shares = [read.tensor(name, experts=range(at, at + 4)) for at in range(0, 16, 4)]
        assert torch.equal(torch.cat(shares), whole)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_model(tmp_path / name, MOE)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    state = random_state(TINY)

    def broken(name: str) -> None:
        with HubWriter(tmp_path / "m", TINY, torch.float32, tokens={}) as writer:
            for at, (parameter, tensor) in enumerate(state.items()):
                if at == 5:
                    raise RuntimeError(name)
                writer.write(parameter, tensor)

    with pytest.raises(RuntimeError, match="stopped"):
        broken("stopped")
    assert not (tmp_path / "m").exists()
    assert write_model(tmp_path / "m", TINY).config == TINY
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_there_is_not_written_over(tmp_path: Path):
    write_model(tmp_path / "m", TINY)
    with pytest.raises(RecipeError, match="is there already, and not empty"):
        write_model(tmp_path / "m", TINY)


def changed(folder: Path, target: Path, **tensors: object) -> Path:
    """A copy of a model with tensors put in, or left out where None is given."""
    shutil.copytree(folder, target)
    state = load_file(target / "model.safetensors") | {
        name.replace("__", "."): value for name, value in tensors.items()
    }
    save_file({name: value for name, value in state.items() if value is not None}, target / "model.safetensors")
    return target


def test_missing_unlike_and_unknown_tensors_are_named(tmp_path: Path):
    write_model(tmp_path / "m", MOE)
    lost = changed(tmp_path / "m", tmp_path / "lost", **{"model.layers.1.mlp.experts.3.up_proj.weight": None})
    with pytest.raises(RecipeError, match=r"has no `model.layers.1.mlp.experts.3.up_proj.weight`: 1 of"):
        HubFolder(lost)
    wrong = {"model.layers.0.self_attn.q_norm.weight": torch.ones(7)}
    with pytest.raises(RecipeError, match=r"q_norm.weight` in `.*` is \[7\], by the configuration \[32\]"):
        HubFolder(changed(tmp_path / "m", tmp_path / "wrong", **wrong))
    more = {"model.layers.0.self_attn.q_proj.bias": torch.ones(128)}
    with pytest.raises(RecipeError, match=r"no such model has: `model.layers.0.self_attn.q_proj.bias`"):
        HubFolder(changed(tmp_path / "m", tmp_path / "more", **more))


def test_an_output_layer_written_out_once_more_is_passed_over_only_if_it_is_the_embedding(tmp_path: Path):
    embedding = write_model(tmp_path / "m", TINY).tensor("model.embed_tokens.weight")
    twice = changed(tmp_path / "m", tmp_path / "twice", **{"lm_head.weight": embedding.clone()})
    assert "lm_head.weight" not in HubFolder(twice).shapes
    with pytest.raises(RecipeError, match=r"its `lm_head.weight` is not its embedding"):
        HubFolder(changed(tmp_path / "m", tmp_path / "other", **{"lm_head.weight": embedding + 1}))


def test_a_damaged_or_lost_file_and_integers_are_told(tmp_path: Path):
    write_model(tmp_path / "m", TINY)
    cut = shutil.copytree(tmp_path / "m", tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(RecipeError, match=r"model.safetensors` cannot be read"):
        HubFolder(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"model.safetensors` cannot be read"):
        HubFolder(tmp_path / "cut")
    whole = {"model.norm.weight": torch.ones(64, dtype=torch.int8)}
    with pytest.raises(RecipeError, match=r"is stored as torch.int8"):
        HubFolder(changed(tmp_path / "m", tmp_path / "whole", **whole)).tensor("model.norm.weight")


def test_a_tokenizer_with_more_tokens_than_the_model_has_is_refused(tmp_path: Path):
    write_model(tmp_path / "m", TINY)
    (tmp_path / "out").mkdir()
    assert copy_tokenizer(tmp_path / "m", tmp_path / "out", 3) == ["tokenizer.json"]
    with pytest.raises(RecipeError, match="has a token 2, the model's last is 1"):
        copy_tokenizer(tmp_path / "m", tmp_path / "out", 2)
