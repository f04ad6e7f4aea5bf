"""The commands `upcycle` and `export` as a user gives them."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from command_line import marco  # noqa: E402
from written_models import random_state, write_model  # noqa: E402

from marco_data.train.config import CONFIGS  # noqa: E402
from marco_data.train.weights import HubFolder  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

TINY, MOE = CONFIGS["tiny"], CONFIGS["tiny-moe"]


def test_upcycling_prints_the_divergence_and_what_was_made(tmp_path: Path):
    write_model(tmp_path / "dense", TINY)
    words = ["upcycle", "--from", tmp_path / "dense", "--to", "tiny-moe", "--drop", 0]
    exact = marco(*words, "--out", tmp_path / "exact", "--scale", "exact", "--json")
    assert exact.code == 0, exact.err
    assert exact.json["kl"] < 1e-10
    assert (exact.json["slices"], exact.json["copies"], exact.json["predictions"]) == (4, 4, 512)
    assert exact.json["parameters"] == MOE.parameters()
    assert "4 slices x 4 copies = 16 experts, 48 wide" in exact.err
    assert "layer 2 of 2" in exact.err
    told = marco(*words, "--out", tmp_path / "recipe", "--dtype", "bfloat16")
    assert told.code == 0, told.err
    assert "on 512 random tokens:" in told.out
    assert "KL divergence" in told.out
    assert HubFolder(tmp_path / "recipe").dtype == torch.bfloat16


def test_a_model_goes_to_a_checkpoint_and_back(tmp_path: Path):
    write_model(tmp_path / "m", MOE)
    assert marco("export", "--from-hf", tmp_path / "m", "--to", tmp_path / "checkpoint").code == 0
    back = marco("export", tmp_path / "checkpoint", "--to", tmp_path / "back", "--dtype", "float32")
    assert back.code == 0, back.err
    assert f"{MOE.parameters():,} parameters in float32" in back.out
    read = HubFolder(tmp_path / "back")
    assert all(torch.equal(read.tensor(name), tensor) for name, tensor in random_state(MOE).items())
    assert (tmp_path / "back" / "tokenizer.json").is_file()


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path):
    write_model(tmp_path / "m", MOE)
    (tmp_path / "m" / "tokenizer.json").unlink()
    assert "has no tokenizer" in marco("export", "--from-hf", tmp_path / "m", "--to", tmp_path / "checkpoint").err
    assert "name a folder with --tokenizer" in marco("export", tmp_path / "checkpoint", "--to", tmp_path / "b").err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "marco-giant"], "no model is called `marco-giant`"),
        (["--to", "marco-nano"], "the two models differ in more than experts: `vocab_size` 512 and 151936"),
        (["--to", "tiny"], "the model to make has no experts"),
        (["--to", "tiny-moe", "--scale", "none"], "`scale` is `none`"),
        (["--to", "tiny-moe", "--router", "none"], "`router` is `none`"),
        (["--to", "tiny-moe", "--dtype", "int4"], "there is no precision `int4`"),
        (["--to", "tiny-moe", "--tokens", "nowhere"], "`nowhere"),
    ],
)
def test_what_cannot_be_upcycled_is_told_before_anything_is_written(tmp_path: Path, words: list[str], told: str):
    write_model(tmp_path / "dense", TINY)
    said = marco("upcycle", "--from", tmp_path / "dense", *words, "--out", tmp_path / "out")
    assert said.code in (1, 2)
    assert told in said.err
    assert "bug of marco-data" not in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense"]


def test_a_folder_that_is_no_model_or_no_checkpoint_is_told(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for words in (["export"], ["export", "--from-hf"]):
        said = marco(*words, tmp_path / "empty", "--to", tmp_path / "out")
        assert said.code == 2
        assert "there is no" in said.err
