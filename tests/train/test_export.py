"""Checkpoints as Hugging Face folders: what transformers and vLLM make of them, and the way back."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch.distributed.checkpoint as dcp  # noqa: E402
from written_models import TOKENIZER, model_of, random_state, tokens_of, write_model  # noqa: E402

from marco_data.errors import RecipeError  # noqa: E402
from marco_data.train.config import CONFIGS, ModelConfig  # noqa: E402
from marco_data.train.export import CheckpointFolder, StateDict, export, import_from_hub  # noqa: E402
from marco_data.train.hub import parameter_shapes  # noqa: E402
from marco_data.train.slices import Settings  # noqa: E402
from marco_data.train.upcycle import upcycle  # noqa: E402
from marco_data.train.weights import HubFolder  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

TINY, MOE = CONFIGS["tiny"], CONFIGS["tiny-moe"]
ODD = replace(MOE, rope_theta=5e4, rms_norm_eps=1e-5, max_position_embeddings=777)
ODDLY_TURNED = replace(MOE, rope_theta=5e4)
UNTIED = replace(ODD, tie_word_embeddings=False)
NAMES = ["dense", "experts", "untied experts"]


def save(folder: Path, state: dict[str, Any], config: Any = None, below: str = ".") -> Path:
    """A checkpoint folder as a single process writes it."""
    (folder / below).mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or asdict(MOE)))
    with pytest.warns(UserWarning, match="torch.distributed is"):
        dcp.save(state, checkpoint_id=folder / below, no_dist=True)
    return folder


# What others read


@pytest.mark.parametrize("config", [TINY, ODD, UNTIED], ids=NAMES)
def test_transformers_5_computes_the_same(tmp_path: Path, config: ModelConfig):
    transformers = pytest.importorskip("transformers")
    export(StateDict(config, random_state(config)), tmp_path / "m", dtype=torch.float32)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokens = tokens_of(config, 2, 48)
    with torch.no_grad():
        difference = (theirs(tokens).logits - model_of(HubFolder(tmp_path / "m")).logits(tokens)).abs().max()
    assert float(difference) <= 5e-6


@pytest.mark.parametrize("config", [TINY, ODD], ids=NAMES[:2])
def test_what_transformers_5_saves_is_read_back(tmp_path: Path, config: ModelConfig):
    transformers = pytest.importorskip("transformers")
    export(StateDict(config, random_state(config)), tmp_path / "m", dtype=torch.float32)
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").save_pretrained(tmp_path / "theirs")
    read = HubFolder(tmp_path / "theirs")
    assert read.config == config
    assert all(torch.equal(read.tensor(name), tensor) for name, tensor in random_state(config).items())


TRANSFORMERS_4 = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, transformers
from pathlib import Path
assert transformers.__version__.startswith("4.57"), transformers.__version__
for folder in map(Path, sys.argv[2:]):
    model, said = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"] and not said["mismatched_keys"], said
    with torch.no_grad():
        torch.save(model(torch.load(folder / "tokens.pt")).logits, folder / "logits.pt")
"""


def test_transformers_4_computes_the_same(tmp_path: Path):
    """`pip install --target FOLDER transformers==4.57.6`, and MARCO_TRANSFORMERS_4 names FOLDER."""
    folder = os.environ.get("MARCO_TRANSFORMERS_4")
    if not folder:
        pytest.skip("MARCO_TRANSFORMERS_4 is not set: it names a folder with transformers 4.57 installed in it")
    folders = [tmp_path / name.replace(" ", "-") for name in NAMES]
    for at, config in zip(folders, [TINY, ODD, UNTIED], strict=True):
        export(StateDict(config, random_state(config)), at, dtype=torch.float32)
        torch.save(tokens_of(config, 2, 48), at / "tokens.pt")
    done = subprocess.run(
        [sys.executable, "-c", TRANSFORMERS_4, folder, *folders], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for at in folders:
        with torch.no_grad():
            ours = model_of(HubFolder(at)).logits(torch.load(at / "tokens.pt"))
        assert float((torch.load(at / "logits.pt") - ours).abs().max()) <= 5e-6


VLLM = """
import json, sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    model = LLM(sys.argv[1], skip_tokenizer_init=True, enforce_eager=True, dtype="float32", max_model_len=64)
    prompts = [{"prompt_token_ids": ids} for ids in json.loads(sys.argv[2])]
    greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, detokenize=False)
    print("TOKENS", json.dumps([list(said.outputs[0].token_ids) for said in model.generate(prompts, greedy)]))
"""


def test_vllm_generates_the_tokens_that_the_model_ranks_first(tmp_path: Path):
    """The whole way: upcycled, made a checkpoint, exported."""
    from benchmarks.apart.environment import default_folder
    from benchmarks.contest import CannotRun
    from benchmarks.generation.engine_environment import ENVIRONMENT, interpreter

    try:
        python = interpreter(default_folder())
    except CannotRun as reason:
        pytest.skip(str(reason))
    upcycle(write_model(tmp_path / "dense", replace(TINY, rope_theta=5e4)), ODDLY_TURNED, tmp_path / "u", Settings())
    import_from_hub(HubFolder(tmp_path / "u"), tmp_path / "checkpoint")
    export(CheckpointFolder(tmp_path / "checkpoint"), tmp_path / "m", dtype=torch.float32)
    model = model_of(HubFolder(tmp_path / "m"))
    prompts = tokens_of(MOE, 3, 10).tolist()
    done = subprocess.run(
        [python, "-c", VLLM, tmp_path / "m", json.dumps(prompts)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = next(json.loads(line.removeprefix("TOKENS ")) for line in done.stdout.splitlines() if line[:6] == "TOKENS")
    for prompt, generated in zip(prompts, said, strict=True):
        ids = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model.logits(torch.tensor([ids]))[0, -1].argmax()))
        assert generated == ids[len(prompt) :]


# Our own checkpoints


@pytest.mark.parametrize("config", [TINY, ODD, UNTIED], ids=NAMES)
def test_a_model_is_bit_equal_after_the_way_to_a_checkpoint_and_back(tmp_path: Path, config: ModelConfig):
    source = write_model(tmp_path / "m", config)
    assert import_from_hub(source, tmp_path / "checkpoint") == ["tokenizer.json"]
    read = CheckpointFolder(tmp_path / "checkpoint")
    assert read.config == config
    assert export(read, tmp_path / "back", dtype=torch.float32, tokenizer=tmp_path / "checkpoint") == ["tokenizer.json"]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "m" / name).read_bytes()
    assert json.loads((tmp_path / "back/config.json").read_text())["eos_token_id"] == 2


def test_what_a_trainer_saves_beside_the_weights_is_passed_over(tmp_path: Path):
    state = random_state(MOE)
    moments = {name: {"exp_avg": tensor + 1, "step": torch.tensor(3.0)} for name, tensor in state.items()}
    other = {f"exp_avg.{name}": tensor + 2 for name, tensor in state.items()}
    saved = {"model": state, "optimizer": {"state": moments, "other": other}, "iteration": 7}
    read = CheckpointFolder(save(tmp_path / "c", saved, {"model": asdict(MOE), "stage": 3}, below="state"))
    assert all(torch.equal(read.tensor(name), tensor) for name, tensor in state.items())
    name = "model.layers.1.mlp.experts.down_proj"
    assert torch.equal(read.tensor(name, experts=range(4, 8)), state[name][4:8])


TWO_RANKS = """
import sys, torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
whole = torch.load(f"{folder}/state.pt")
dcp.save({"model": {n: distribute_tensor(t, mesh, [Shard(0)]) for n, t in whole.items()}}, checkpoint_id=f"{folder}/c")
dist.destroy_process_group()
"""


def test_what_two_ranks_have_saved_is_one_model(tmp_path: Path):
    state = random_state(MOE)
    torch.save(state, tmp_path / "state.pt")
    ranks = [subprocess.Popen([sys.executable, "-c", TWO_RANKS, str(rank), tmp_path]) for rank in range(2)]
    assert [rank.wait(300) for rank in ranks] == [0, 0]
    assert len(list((tmp_path / "c").glob("*.distcp"))) == 2
    (tmp_path / "c/config.json").write_text(json.dumps(asdict(MOE)))
    export(CheckpointFolder(tmp_path / "c"), tmp_path / "m", dtype=torch.float32)
    read = HubFolder(tmp_path / "m")
    assert all(torch.equal(read.tensor(name), tensor) for name, tensor in state.items())


def test_weights_are_exported_in_bfloat16_unless_told_otherwise(tmp_path: Path):
    state = random_state(MOE)
    export(StateDict(MOE, state), tmp_path / "m")
    read = HubFolder(tmp_path / "m")
    assert all(torch.equal(read.tensor(name), state[name].bfloat16()) for name in parameter_shapes(MOE))
    assert json.loads((tmp_path / "m/config.json").read_text())["torch_dtype"] == "bfloat16"


# What cannot be exported


def test_a_bias_that_others_do_not_know_is_refused_unless_it_is_nothing(tmp_path: Path):
    name = "model.layers.1.mlp.gate.expert_bias"
    StateDict(MOE, random_state(MOE) | {name: torch.zeros(16)})
    with pytest.raises(RecipeError, match=r"expert_bias` is not 0"):
        StateDict(MOE, random_state(MOE) | {name: torch.ones(16)})
    with pytest.raises(RecipeError, match=r"expert_bias` is not 0"):
        CheckpointFolder(save(tmp_path / "c", {"model": random_state(MOE) | {name: torch.ones(16)}}))


def test_a_checkpoint_of_another_model_is_told_by_its_first_tensor(tmp_path: Path):
    state = random_state(MOE)
    folder = save(tmp_path / "c", {"model": state}, asdict(replace(MOE, num_experts=32)))
    with pytest.raises(
        RecipeError, match=r"`model.layers.0.mlp.gate.weight` in `.*` is \[16, 64\], by the .* \[32, 64\]"
    ):
        CheckpointFolder(folder)
    del state["model.norm.weight"]
    with pytest.raises(RecipeError, match=r"has no `model.norm.weight`: 1 of"):
        CheckpointFolder(save(tmp_path / "d", {"model": state}))
    with pytest.raises(RecipeError, match=r"no such model has: `model.layers.0.mlp.shared.weight`"):
        StateDict(MOE, random_state(MOE) | {"model.layers.0.mlp.shared.weight": torch.ones(3)})


def test_an_unfinished_or_damaged_checkpoint_is_told(tmp_path: Path):
    folder = save(tmp_path / "c", {"model": random_state(MOE)})
    data = next(folder.glob("*.distcp"))
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecipeError, match="cannot be read"):
        export(CheckpointFolder(folder), tmp_path / "m")
    assert not (tmp_path / "m").exists()
    (folder / ".metadata").write_bytes(b"not a pickle")
    with pytest.raises(RecipeError, match=r"\.metadata` cannot be read"):
        CheckpointFolder(folder)
    (folder / ".metadata").unlink()
    with pytest.raises(RecipeError, match=r"is no checkpoint, but holds 1\n\nhint: give the .* as `.*/c`"):
        CheckpointFolder(tmp_path)
    with pytest.raises(RecipeError, match="has to hold one distributed checkpoint, and holds none"):
        CheckpointFolder(folder)


def test_the_tokenizer_lies_in_the_folder_that_is_exported(tmp_path: Path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/tokenizer.json").write_text(TOKENIZER)
    (tmp_path / "t/config.json").write_text(json.dumps({"eos_token_id": 2, "bos_token_id": None}))
    assert export(StateDict(MOE, random_state(MOE)), tmp_path / "m", tokenizer=tmp_path / "t") == ["tokenizer.json"]
    assert (tmp_path / "m/tokenizer.json").read_text() == TOKENIZER
    said = json.loads((tmp_path / "m/config.json").read_text())
    assert said["eos_token_id"] == 2
    assert "bos_token_id" not in said
    (tmp_path / "t/tokenizer.json").write_text(TOKENIZER.replace("2", "512"))
    with pytest.raises(RecipeError, match="has a token 512, the model's last is 511"):
        export(StateDict(MOE, random_state(MOE)), tmp_path / "n", tokenizer=tmp_path / "t")
    assert not (tmp_path / "n").exists()
