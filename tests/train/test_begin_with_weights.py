"""A run that begins with the weights of a Hugging Face folder, here one that another run was exported to."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import tiny_run  # noqa: E402

from marco_data.errors import RecipeError  # noqa: E402
from marco_data.train.checkpoint import newest  # noqa: E402
from marco_data.train.export import CheckpointFolder, export  # noqa: E402
from marco_data.train.loop import Running  # noqa: E402
from marco_data.train.start import start  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_a_run_begins_with_the_weights_it_is_given_and_refuses_those_of_another_model(tmp_path):
    tiny_run.write_stages(tmp_path)
    tiny_run.run(tmp_path, tmp_path / "first", stop_after=6)
    checkpoint = CheckpointFolder(newest(tmp_path / "first"))
    export(checkpoint, tmp_path / "hub", dtype=torch.float32)
    plan = tiny_run.plan_of(tmp_path)
    settings = tiny_run.settings_of(plan)
    # A step with a rate of 0, at the beginning of the warm-up, leaves weights as they are.
    running = Running(folder=tmp_path / "second", stop_after=1, log_every=1)
    start(plan, settings, running, 1, tmp_path / "hub", lambda _: None)
    begun = CheckpointFolder(newest(tmp_path / "second"))
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.experts.down_proj", "model.norm.weight"):
        assert torch.equal(begun.tensor(name), checkpoint.tensor(name))
    other = replace(settings, model=replace(settings.model, num_experts_per_tok=4))
    with pytest.raises(RecipeError, match="`num_experts_per_tok` 8, the recipe's model 4"):
        start(plan, other, replace(running, folder=tmp_path / "third"), 1, tmp_path / "hub", lambda _: None)
