"""A run small enough for a test: two stages of random documents, a model of 16 experts, and a digest of all it learnt.

As a program it is one rank of such a run, under torchrun or alone; its arguments are the folder and options as JSON.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from written_shards import write_stage

from marco_data.train.blend import load_blend
from marco_data.train.checkpoint import HashingWriter, newest, read_state
from marco_data.train.config import CONFIGS, ModelConfig
from marco_data.train.loop import Ended, Running, train
from marco_data.train.model import initial_weight
from marco_data.train.order import Plan, plan_stages
from marco_data.train.parallel import end_process, join
from marco_data.train.schedule import Piece, Schedule
from marco_data.train.settings import Coefficients, Settings, stage_tokens
from marco_data.train.spikes import SpikePolicy

MODEL = CONFIGS["tiny-moe"]
SEQUENCE, BATCH = 32, 4
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
_HERE = Path(__file__).parent
_ENVIRONMENT = os.environ | {"PYTHONPATH": f"{_HERE.parents[1]}{os.pathsep}{_HERE}", "OMP_NUM_THREADS": "1"}


class SlowWriter(HashingWriter):
    """Writes a checkpoint's data, says so by a file `written`, and takes its time before it is done with it."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        done = super().write_data(plan, planner)
        done.wait()
        (Path(self.path).parent / "written").touch()
        time.sleep(60)
        return done


def write_stages(folder: Path) -> None:
    """15 batches in all: 9 of stage 1 and 6 of stage 2."""
    write_stage(folder, [([30] * 20, 1.0), ([7, 40, 3] * 6, 1.0), ([50] * 4, 1.5)], stage=1)
    write_stage(folder, [([25] * 20, 1.0), ([60] * 5, 1.0)], stage=2)


def plan_of(folder: Path) -> Plan:
    return plan_stages([load_blend(folder / f"stage-{number}.json") for number in (1, 2)], sequence=SEQUENCE)


def settings_of(plan: Plan, model: ModelConfig = MODEL, **changes: Any) -> Settings:
    tokens = stage_tokens(plan, BATCH)
    pieces = (Piece(), Piece("linear", 1e-4))
    settings = Settings(
        model=model,
        global_batch=BATCH,
        schedule=Schedule(1e-2, 3 * BATCH * SEQUENCE, pieces, tokens),
        coefficients=Coefficients(0.01, 0.001),
        spikes=SpikePolicy(deviations=1e9),
        precision="fp32",
    )
    return replace(settings, **changes)


def run(
    folder: Path,
    out: Path,
    *,
    ep: int = 1,
    settings: dict[str, Any] | None = None,
    top_k: int = MODEL.num_experts_per_tok,
    slow: bool = False,
    say: Any = lambda _: None,
    **running: Any,
) -> Ended:
    world = join(ep)
    plan = plan_of(folder)
    chosen = settings_of(plan, **{"model": replace(MODEL, num_experts_per_tok=top_k), **(settings or {})})
    options = {"checkpoint_every": 4, "log_every": 1, **running}
    writer = SlowWriter if slow else None
    return train(
        plan,
        chosen,
        Running(folder=out, writer=writer, **options),
        world,
        lambda name, shape: initial_weight(name, shape, chosen.model, 0),
        say=say,
    )


@contextmanager
def started(stages: Path, out: Path, *launch: str, **options):
    """The run as processes of their own; whatever is left of them is killed."""
    command = [sys.executable, *launch, __file__, stages, out, json.dumps(options)]
    process = subprocess.Popen(
        [*map(str, command)], env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def digest(out: Path) -> str:
    """SHA-256 of all weights and moments of the newest checkpoint, and of the run's place."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    path = newest(out)
    assert path is not None
    whole = out / "whole.pt"
    dcp_to_torch_save(path, whole)
    state = torch.load(whole, weights_only=True)
    found = hashlib.sha256()
    for name, tensor in sorted(_leaves(state)):
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(tensor.numpy().tobytes())
    place = read_state(path)
    kept = {name: place[name] for name in ("iteration", "updates", "tokens", "data", "seen", "recent_losses")}
    found.update(json.dumps(kept, sort_keys=True).encode())
    return found.hexdigest()


def _leaves(state: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(state, dict):
        return [leaf for key, value in state.items() for leaf in _leaves(value, f"{name}.{key}")]
    return [(name, state)]


def lines_of(out: Path, event: str = "step") -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


TIMES = ("seconds", "data_wait_seconds", "tokens_per_second", "mfu")


def untimed(out: Path) -> list[dict[str, Any]]:
    """What a run said of its steps, without how fast they were."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines_of(out)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    ended = run(
        Path(sys.argv[1]), Path(sys.argv[2]), **json.loads(sys.argv[3]), say=lambda text: print(text, flush=True)
    )
    print(json.dumps(ended._asdict()), flush=True)
    torch.distributed.destroy_process_group()
    end_process()
