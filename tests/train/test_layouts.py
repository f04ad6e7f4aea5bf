"""Gradients of one batch are the same however the ranks share model and data; fp64, so that 1e-12 means something."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

torch = pytest.importorskip("torch")

from marco_data.errors import RecipeError  # noqa: E402
from marco_data.train.config import CONFIGS  # noqa: E402
from marco_data.train.settings import check_layout  # noqa: E402

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def gradients(folder: Path, ranks: int, ep: int, micro_batch: int, recompute: str = "keep"):
    out = folder / f"{ranks}-{ep}-{micro_batch}.pt"
    command = [sys.executable, *LAUNCH, ranks, HERE / "layout_worker.py", ep, micro_batch, out, recompute]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return gradients(tmp_path_factory.mktemp("alone"), 1, 1, 4)


@pytest.mark.parametrize(
    ("ranks", "ep", "micro_batch", "recompute"),
    [
        pytest.param(2, 1, 1, "keep", id="two ranks of data, each in two micro-batches"),
        pytest.param(4, 1, 1, "keep", id="four ranks of data"),
        pytest.param(2, 2, 2, "keep", id="experts over two ranks"),
        pytest.param(4, 2, 1, "recompute", id="experts over two ranks, twice, activations computed again"),
    ],
)
def test_gradients_do_not_depend_on_how_ranks_share_the_work(alone, tmp_path, ranks, ep, micro_batch, recompute):
    shared = gradients(tmp_path, ranks, ep, micro_batch, recompute)
    for name in ("loss", "aux", "z", "norm"):
        assert shared[name] == pytest.approx(alone[name], rel=1e-13), name
    assert alone["aux"] > 1
    assert torch.equal(shared["load"], alone["load"])
    assert shared["gradients"].keys() == alone["gradients"].keys()
    apart = {
        name: float((shared["gradients"][name] - own).abs().max() / own.abs().max())
        for name, own in alone["gradients"].items()
    }
    assert {name: by for name, by in apart.items() if not by <= 1e-12} == {}
    clipped = torch.stack([own.square().sum() for own in shared["gradients"].values()]).sum().sqrt()
    assert float(clipped) == pytest.approx(shared["norm"] / 2, rel=1e-5), "the norm is that of all, and all are clipped"


@pytest.mark.parametrize(
    ("ranks", "ep", "told"),
    [
        pytest.param(4, 3, "does not divide", id="ranks"),
        pytest.param(32, 32, "16 experts", id="experts"),
        pytest.param(10, 2, "5 equal shards", id="an expert's rows"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_before_a_rank_is_started(ranks, ep, told):
    with pytest.raises(RecipeError, match=told):
        check_layout(CONFIGS["tiny-moe"], ranks, ep)


@pytest.mark.parametrize(("ranks", "code"), [("2", 0), ("1", -signal.SIGABRT)])
def test_a_rank_of_several_ends_without_what_python_does_at_its_end(ranks, code):
    """Which here is an abort, as a thread of gloo makes now and then."""
    program = """
        import atexit, os
        from marco_data.train.parallel import end_process
        atexit.register(os.abort)
        print("done", end="")
        end_process()
    """
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "WORLD_SIZE": ranks}
    command = [sys.executable, "-c", dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "done")
