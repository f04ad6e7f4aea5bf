"""A mixture of experts made of a dense model: its function, its numbers, and how they are drawn."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from written_models import model_of, random_state, tokens_of, write_model  # noqa: E402

from marco_data.errors import RecipeError  # noqa: E402
from marco_data.tokens import ShardWriter  # noqa: E402
from marco_data.train.config import CONFIGS  # noqa: E402
from marco_data.train.slices import Settings, cut  # noqa: E402
from marco_data.train.upcycle import (  # noqa: E402
    dropped,
    experts_of,
    probe_tokens,
    router,
    shard_tokens,
    upcycle,
)
from marco_data.train.weights import HubFolder  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

TINY, MOE = CONFIGS["tiny"], CONFIGS["tiny-moe"]
SLICES = cut(TINY, MOE, "virtual_group")
WIDTH = MOE.moe_intermediate_size
EXACT, RECIPE = Settings(scale="exact", drop=0), Settings(scale="recipe", drop=0)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> HubFolder:
    return write_model(tmp_path_factory.mktemp("dense") / "m", TINY)


def made(dense: HubFolder, out: Path, settings: Settings, **options: Any) -> HubFolder:
    upcycle(dense, MOE, out, settings, **options)
    return HubFolder(out)


def layer_of(dense: HubFolder, layer: int = 0) -> Any:
    return tuple(dense.tensor(f"model.layers.{layer}.mlp.{name}_proj.weight") for name in ("gate", "up", "down"))


def experts(dense: HubFolder, settings: Settings, layer: int = 0, which: range = range(16)) -> Any:
    return experts_of(layer_of(dense, layer), settings, layer, SLICES, which, torch.float32)


def kl(one: Any, other: Any) -> float:
    expected = one.double().log_softmax(-1)
    return float((expected.exp() * (expected - other.double().log_softmax(-1))).sum(-1).mean())


# The function


def test_exact_keeps_the_dense_models_function(dense: HubFolder, tmp_path: Path):
    tokens = tokens_of(TINY, 4, 64)
    found = upcycle(dense, MOE, tmp_path / "m", EXACT, tokens=tokens)
    with torch.no_grad():
        before, after = model_of(dense).logits(tokens), model_of(HubFolder(tmp_path / "m")).logits(tokens)
    assert kl(before, after) < 1e-10
    assert found.kl < 1e-10
    assert found.same_first_choice == 1
    assert found.largest_difference < 2e-5


@pytest.mark.parametrize(
    "settings",
    [RECIPE, replace(EXACT, router="random"), Settings()],
    ids=["the published scale", "a random router", "half drawn anew"],
)
def test_nothing_else_does_and_the_divergence_told_is_that_of_whole_models(dense, tmp_path: Path, settings):
    tokens = tokens_of(TINY, 4, 64)
    found = upcycle(dense, MOE, tmp_path / "m", settings, tokens=tokens)
    with torch.no_grad():
        before, after = model_of(dense).logits(tokens), model_of(HubFolder(tmp_path / "m")).logits(tokens)
    assert found.kl > 1e-6
    assert found.kl == pytest.approx(kl(before, after), rel=1e-3)
    assert found.largest_difference == pytest.approx(float((before - after).abs().max()), rel=1e-3)
    same = (before.argmax(-1) == after.argmax(-1)).float().mean()
    assert found.same_first_choice == pytest.approx(float(same), abs=0.01)
    assert found.predictions == 256


def test_attention_norms_and_embedding_are_the_dense_ones_bit_for_bit(dense: HubFolder, tmp_path: Path):
    sparse = made(dense, tmp_path / "m", Settings())
    kept = [name for name in sparse.shapes if ".mlp." not in name]
    assert len(kept) == 2 + 8 * TINY.num_hidden_layers
    assert all(torch.equal(sparse.tensor(name), dense.tensor(name)) for name in kept)


def test_recipe_is_bit_for_bit_what_nvidias_upcycling_makes(tmp_path: Path):
    pytest.importorskip("megatron.core")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("megatron_upcycled.py"), tmp_path / "theirs.pt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = torch.load(tmp_path / "theirs.pt")
    h, inner, granularity = theirs["hidden"], theirs["inner"], theirs["granularity"]
    small = replace(TINY, hidden_size=h, intermediate_size=inner)
    sparse = replace(
        small, num_experts=theirs["experts"], num_experts_per_tok=8, moe_intermediate_size=inner // granularity
    )
    slices = cut(small, sparse, "virtual_group")
    for layer in theirs["layers"]:
        gate, up = layer["fc1"].chunk(2)
        gate_up, down = experts_of(
            (gate, up, layer["fc2"]), RECIPE, 0, slices, range(sparse.num_experts), torch.float32
        )
        for expert in range(sparse.num_experts):
            assert torch.equal(gate_up[expert], layer["experts"][expert]["fc1"])
            assert torch.equal(down[expert], layer["experts"][expert]["fc2"])
        # Both start routers at random, and let the same experts share a row.
        ours = router(RECIPE, 0, sparse, slices)
        assert torch.equal(sharing(ours), sharing(layer["router"]))
        assert len(ours.unique(dim=0)) == slices.copies


def sharing(weight: Any) -> Any:
    return (weight.unsqueeze(0) == weight.unsqueeze(1)).all(-1)


# What is drawn anew


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
def test_drop_changes_exactly_its_share_of_neurons_in_all_three_matrices(dense: HubFolder, drop: float):
    kept_gate_up, kept_down = experts(dense, RECIPE)
    settings = replace(RECIPE, drop=drop)
    gate_up, down = experts(dense, settings)
    for expert in range(16):
        gate = (gate_up[expert, :WIDTH] != kept_gate_up[expert, :WIDTH]).any(1)
        up = (gate_up[expert, WIDTH:] != kept_gate_up[expert, WIDTH:]).any(1)
        out = (down[expert] != kept_down[expert]).any(0)
        assert int(gate.sum()) == round(drop * WIDTH)
        assert torch.equal(gate, up)
        assert torch.equal(gate, out)
        assert gate.nonzero().flatten().tolist() == dropped(settings, 0, expert, WIDTH).tolist()


def test_what_is_drawn_has_the_mean_and_deviation_of_what_it_replaces():
    wide = replace(TINY, hidden_size=256, intermediate_size=1024)
    sparse = replace(MOE, hidden_size=256, intermediate_size=1024, moe_intermediate_size=256)
    slices = cut(wide, sparse, "virtual_group")
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(1024, 256, generator=generator) * s + m for s, m in ((0.5, 0.1), (0.2, -0.3), (2, 1))]
    matrices[2] = matrices[2].T.contiguous()
    settings = Settings(drop=0.5)
    gate_up, down = experts_of(tuple(matrices), settings, 3, slices, range(16), torch.float32)
    old_gate_up, old_down = experts_of(tuple(matrices), replace(settings, drop=0), 3, slices, range(16), torch.float32)
    for expert in range(16):
        at = dropped(settings, 3, expert, 256)
        pairs = [
            (gate_up[expert, at], old_gate_up[expert, at]),
            (gate_up[expert, 256 + at], old_gate_up[expert, 256 + at]),
            (down[expert][:, at], old_down[expert][:, at]),
        ]
        for new, old in pairs:
            # 32,768 values: the error of a mean is 0.0055 deviations, that of a deviation 0.4 %; five times that.
            assert abs(float(new.mean() - old.mean())) < 0.028 * float(old.std())
            assert float(new.std()) == pytest.approx(float(old.std()), rel=0.02)
            assert not torch.equal(new, old)


def test_every_seed_layer_and_expert_draws_its_own():
    sets = {
        tuple(dropped(Settings(seed=seed), layer, expert, 384).tolist())
        for seed in range(3)
        for layer in range(3)
        for expert in range(8)
    }
    assert len(sets) == 3 * 3 * 8
    counts = np.bincount(np.concatenate([dropped(Settings(), 0, expert, 48) for expert in range(2000)]), minlength=48)
    assert counts.min() > 850  # of 2,000 experts half drop a neuron: 1,000 +- 22
    assert counts.max() < 1150


def test_what_is_drawn_stays_what_it_was_in_earlier_versions():
    """Weights are a function of the settings: a change of these numbers is a change of every upcycled model."""
    assert dropped(Settings(seed=7), 2, 11, 12).tolist() == DRAWN
    weight = router(Settings(seed=7), 2, MOE, SLICES)
    assert weight[4, :3].tolist() == pytest.approx(ROUTED, rel=1e-6)


DRAWN = [1, 2, 3, 6, 9, 11]
ROUTED = [-0.018807830289006233, 0.010660159401595592, 0.005469710100442171]


def test_a_share_of_the_experts_is_made_as_among_all(dense: HubFolder):
    whole = experts(dense, Settings(seed=3), layer=1)
    for start in range(0, 16, 4):
        share = experts(dense, Settings(seed=3), layer=1, which=range(start, start + 4))
        assert all(torch.equal(part, all_[start : start + 4]) for part, all_ in zip(share, whole, strict=True))


def test_a_random_router_has_a_row_for_each_expert():
    weight = router(replace(RECIPE, router="random"), 0, MOE, SLICES)
    assert len(weight.unique(dim=0)) == MOE.num_experts
    assert float(weight.std()) == pytest.approx(MOE.initializer_range, rel=0.1)


# Files


def test_the_same_settings_give_the_same_files_however_many_threads_and_another_seed_others(dense, tmp_path: Path):
    made(dense, tmp_path / "a", Settings(seed=1))
    torch.set_num_threads(3)
    made(dense, tmp_path / "b", Settings(seed=1))
    torch.set_num_threads(1)
    made(dense, tmp_path / "c", Settings(seed=2))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["config.json", "model.safetensors", "tokenizer.json", "upcycle.json"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()
    said = json.loads((tmp_path / "a/upcycle.json").read_text())
    assert (said["slices"], said["copies"], said["drawn_anew_per_expert"]) == (4, 4, 24)
    assert said["settings"] == {"scale": "recipe", "router": "virtual_group", "drop": 0.5, "seed": 1}


def test_half_precision_stays_half_precision_and_is_rounded_once(dense: HubFolder, tmp_path: Path):
    half = write_model(tmp_path / "half", TINY, dtype=torch.bfloat16)
    sparse = made(half, tmp_path / "m", RECIPE)
    assert sparse.dtype == torch.bfloat16
    up = sparse.tensor("model.layers.0.mlp.experts.gate_up_proj")[0, WIDTH:]
    first = half.tensor("model.layers.0.mlp.up_proj.weight")[:WIDTH]
    assert torch.equal(up, (first.float() * 4 ** (1 / 3)).to(torch.bfloat16))


def test_an_output_layer_of_its_own_is_kept(tmp_path: Path):
    untied = replace(TINY, tie_word_embeddings=False)
    source = write_model(tmp_path / "dense", untied)
    found = upcycle(source, replace(MOE, tie_word_embeddings=False), tmp_path / "m", EXACT)
    assert torch.equal(HubFolder(tmp_path / "m").tensor("lm_head.weight"), random_state(untied)["lm_head.weight"])
    assert found.kl < 1e-10


@pytest.mark.parametrize(
    ("values", "told"),
    [({"drop": 1.5}, "`drop` is 1.5"), ({"scale": "none"}, "`scale` is `none`"), ({"seed": -1}, "`seed` is -1")],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], told: str):
    with pytest.raises(RecipeError, match=told):
        Settings(**values)


def test_two_models_are_compared_on_a_shard_where_one_is_given(tmp_path: Path):
    documents = [np.arange(start, start + 70) % 512 for start in range(0, 700, 70)]
    with (tmp_path / "s.bin").open("wb") as bin_file, (tmp_path / "s.idx").open("wb") as idx_file:
        writer = ShardWriter(bin_file, idx_file, np.dtype("<u2"))
        for document in documents:
            writer.append(document.astype(np.uint16))
        writer.finish()
    found = shard_tokens(tmp_path / "s", 512)
    assert found.shape == (4, 128)
    assert found.flatten().tolist() == np.concatenate(documents)[:512].tolist()
    with pytest.raises(RecipeError, match="has a token 511, the model's last is 299"):
        shard_tokens(tmp_path / "s", 300)
    with pytest.raises(RecipeError, match="has 700 tokens"):
        shard_tokens(tmp_path / "s", 512, length=1000)
    assert torch.equal(probe_tokens(512), probe_tokens(512))


MEASURED = """
import sys
from dataclasses import replace
from pathlib import Path
from marco_data.train.config import CONFIGS
from marco_data.train.slices import Settings
from marco_data.train.upcycle import upcycle
from marco_data.train.weights import HubFolder
torch = sys.modules["torch"]
torch.set_num_threads(1)
source = HubFolder(Path(sys.argv[1]))
target = replace(source.config, moe_intermediate_size=128, num_experts=64, num_experts_per_tok=8)
upcycle(source, target, Path(sys.argv[2]), Settings())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
def test_memory_does_not_grow_with_the_layers(tmp_path: Path):
    """25 MB of experts a layer: eight layers more write 200 MB more, and take a third of that at most."""
    peaks, written = [], []
    for layers in (4, 12):
        config = replace(TINY, hidden_size=256, intermediate_size=1024, num_hidden_layers=layers)
        write_model(tmp_path / f"dense-{layers}", config)
        out = tmp_path / f"made-{layers}"
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, tmp_path / f"dense-{layers}", out],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed goes back, as glibc would else delay
        )
        peaks.append(int(done.stdout) * 1024)
        written.append((out / "model.safetensors").stat().st_size)
    assert written[1] - written[0] > 200e6
    # The dense model is mapped, and its own eight layers are 25 MB.
    assert peaks[1] - peaks[0] < (written[1] - written[0]) / 3
