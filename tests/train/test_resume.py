"""A run that was stopped, killed or moved to other ranks ends where one that never stopped does."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import tiny_run  # noqa: E402

from marco_data.errors import RecipeError  # noqa: E402
from marco_data.train.checkpoint import damage, newest  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def straight(stages) -> Path:
    """A run of all 15 iterations without a stop."""
    out = stages / "straight"
    assert tiny_run.run(stages, out).finished
    return out


EXACT = {"precision": "fp64"}  # the order of sums differs between layouts, and Adam's first steps make much of little


@pytest.fixture(scope="module")
def exact(stages) -> Path:
    """The same run in fp64."""
    out = stages / "exact"
    assert tiny_run.run(stages, out, settings=EXACT).finished
    return out


def wait_for(condition, process) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_run_learns_every_batch_of_its_stages_in_their_order(straight):
    lines = tiny_run.lines_of(straight)
    assert [line["stage"] for line in lines] == [1] * 9 + [2] * 6
    assert [line["tokens"] for line in lines] == [128 * k for k in range(1, 16)]
    assert lines[-1]["rate"] < lines[8]["rate"] == 1e-2
    assert len(list((straight).glob("iteration-*"))) == 3, "the newest three are kept"
    assert (straight / "latest").read_text() == newest(straight).name


@pytest.mark.parametrize("in_background", [True, False])
def test_a_stopped_run_goes_on_bit_for_bit_and_tells_the_same(stages, straight, tmp_path, in_background):
    assert not tiny_run.run(stages, tmp_path, stop_after=5, in_background=in_background).finished
    assert not tiny_run.run(stages, tmp_path, stop_after=4, in_background=in_background).finished  # a stage's end
    assert tiny_run.run(stages, tmp_path, in_background=in_background).finished
    assert tiny_run.digest(tmp_path) == tiny_run.digest(straight)
    assert tiny_run.untimed(tmp_path) == tiny_run.untimed(straight)


def test_a_finished_run_is_left_as_it_is(stages, straight):
    before = tiny_run.digest(straight)
    assert tiny_run.run(stages, straight).finished
    assert tiny_run.digest(straight) == before


def test_a_run_killed_at_any_step_goes_on_bit_for_bit(stages, straight, tmp_path):
    cut = random.Random(0).randrange(5, 12)
    with tiny_run.started(stages, tmp_path) as process:
        metrics = tmp_path / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > cut, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert tiny_run.run(stages, tmp_path).finished
    assert tiny_run.digest(tmp_path) == tiny_run.digest(straight)
    assert tiny_run.untimed(tmp_path) == tiny_run.untimed(straight)


def test_a_run_killed_in_the_middle_of_a_checkpoint_goes_on_from_the_one_before(stages, straight, tmp_path):
    tiny_run.run(stages, tmp_path, stop_after=4)
    with tiny_run.started(stages, tmp_path, slow=True) as process:
        wait_for((tmp_path / "written").exists, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list((tmp_path).glob("*.partial/*.distcp")), "it was killed while it wrote"
    assert newest(tmp_path).name == "iteration-00000004"
    assert tiny_run.run(stages, tmp_path).finished
    assert tiny_run.digest(tmp_path) == tiny_run.digest(straight)
    assert not list((tmp_path).glob("*.partial"))


def test_sigterm_writes_a_checkpoint_of_all_ranks_and_fewer_ranks_go_on(stages, exact, tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with tiny_run.started(
        stages, tmp_path, *launch, ep=2, checkpoint_every=1000, settings=EXACT, micro_batch=2
    ) as process:
        metrics = tmp_path / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, process)
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert "the same command goes on from here" in said
    cut = len(tiny_run.lines_of(tmp_path))
    assert 3 <= cut < 15
    assert newest(tmp_path).name == f"iteration-{cut:08d}"
    assert tiny_run.run(stages, tmp_path, settings=EXACT, micro_batch=4).finished
    both, alone = tiny_run.lines_of(tmp_path), tiny_run.lines_of(exact)
    assert [line["iteration"] for line in both] == list(range(1, 16))
    for ours, theirs in zip(both, alone, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-9)
        seen = [[(row["source"], row["seen"]) for row in line["sources"]] for line in (ours, theirs)]
        assert seen[0] == seen[1], "the same data, whatever the ranks"


def test_a_checkpoint_of_one_rank_is_gone_on_with_by_two_that_share_experts(stages, exact, tmp_path):
    tiny_run.run(stages, tmp_path, stop_after=12, settings=EXACT, micro_batch=4)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with tiny_run.started(stages, tmp_path, *launch, ep=2, settings=EXACT, micro_batch=2) as process:
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said
    for ours, theirs in zip(tiny_run.lines_of(tmp_path), tiny_run.lines_of(exact), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-9)
    tiny_run.digest(tmp_path)
    weights = torch.load(tmp_path / "whole.pt", weights_only=True)["model"]
    experts = weights["model.layers.0.mlp.experts.gate_up_proj"]
    assert len({expert.numpy().tobytes() for expert in experts}) == len(experts) == tiny_run.MODEL.num_experts


def test_a_damaged_checkpoint_stops_the_run_before_it_trains(stages, tmp_path):
    tiny_run.run(stages, tmp_path, stop_after=5)
    path = newest(tmp_path)
    [data] = path.glob("*.distcp")
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    with pytest.raises(RecipeError, match=r"__0_0\.distcp. has .* bytes, not .*\n\nhint: remove .*iteration-00000004"):
        tiny_run.run(stages, tmp_path)
    data.unlink()
    with pytest.raises(RecipeError, match="is gone"):
        tiny_run.run(stages, tmp_path)
    data.write_bytes(whole)
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(RecipeError, match=rf"is damaged: .*{file.name}"):
            tiny_run.run(stages, tmp_path)
        file.write_bytes(content)
    assert len(tiny_run.lines_of(tmp_path)) == 5, "none of these has trained"
    (tmp_path / "latest").write_bytes(b"\x00nothing")  # for people and scripts: a run looks at the folders themselves
    assert tiny_run.run(stages, tmp_path, stop_after=1).iteration == 6
    assert (tmp_path / "latest").read_text() == "iteration-00000006"


def test_ranks_share_the_reading_of_a_checkpoint_and_each_file_is_read_by_one(stages, tmp_path):
    tiny_run.run(stages, tmp_path, stop_after=1)
    path = newest(tmp_path)
    for file in sorted(set(path.iterdir()) - {path / "complete.json"}):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        said = [damage(path, part=part, parts=3) for part in range(3)]
        assert [one for one in said if one] == [damage(path)]
        assert file.name in damage(path)
        file.write_bytes(content)
    assert damage(path) is None


def test_other_settings_or_data_than_a_run_began_with_are_refused_by_name(stages, tmp_path):
    tiny_run.run(stages, tmp_path / "out", stop_after=1)
    with pytest.raises(RecipeError, match=r"`expert_bias_rate` was 0\.0, is 0\.1"):
        tiny_run.run(stages, tmp_path / "out", settings={"expert_bias_rate": 0.1})
    tiny_run.write_stage(tmp_path, [([30] * 30, 1.0)], stage=1)
    tiny_run.write_stage(tmp_path, [([25] * 40, 1.0)], stage=2)
    with pytest.raises(RecipeError, match="the data is not what the checkpoint was trained on"):
        tiny_run.run(tmp_path, tmp_path / "out")
