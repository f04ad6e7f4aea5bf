"""The arms: which model, begun how, on which stages; and one run of one arm, from its data to its held-out losses.

    python -m benchmarks.proof.arms FOLDER ARM SEED

In: the folder that `corpora` filled. Out: `results/ARM-SEED.json`. The run is the trainer's own: its recipe,
checks, loop and checkpoints, each of which is then judged; stopped, it goes on from the newest. Seeds decide the first
weights and the order of samples.
"""

import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.proof.corpora import CURATED, EARLIER, MARKUP, MATCHED
from benchmarks.proof.held_out import losses
from marco_data.train.checkpoint import newest
from marco_data.train.config import ModelConfig
from marco_data.train.export import CheckpointFolder, export
from marco_data.train.loop import Running
from marco_data.train.model import CausalLM, initial_weight
from marco_data.train.parallel import Weights
from marco_data.train.slices import Settings as Upcycling
from marco_data.train.start import start
from marco_data.train.upcycle import upcycle
from marco_data.train.weights import HubFolder
from pipelines.train_stage import load_train_recipe, train_stage

SEQUENCE, BATCH = 128, 32
POINTS = 5
"""Checkpoints of a run that are judged, the last one among them."""

DENSE = ModelConfig(
    vocab_size=4096,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    intermediate_size=256,
    max_position_embeddings=2048,
)
SPARSE = ModelConfig(**asdict(DENSE) | {"moe_intermediate_size": 64, "num_experts": 16, "num_experts_per_tok": 4})
"""Sixteen experts are four copies of four slices of the dense layer, and as many are chosen as make up one copy."""


@dataclass(frozen=True)
class Arm:
    """`stages` are trained on one after the other; `upcycled`: begun with the dense arm of the same seed."""

    name: str
    says: str
    stages: tuple[str, ...] = (CURATED,)
    model: ModelConfig = SPARSE
    upcycled: Upcycling | None = None
    decays: bool = True


DENSE_ARM = "dense"
ARMS = {
    arm.name: arm
    for arm in (
        Arm("curated", "experts from scratch, our stage 2"),
        Arm("markup", "the same, the crawl as it came: markup, noise and all", (MARKUP,)),
        Arm("matched", "the same, pages without tags, languages as in stage 2", (MATCHED,)),
        Arm(DENSE_ARM, "a dense model, our stage 1", (EARLIER,), DENSE, decays=False),
        Arm("upcycled-drop", "of `dense`: recipe scale, drop 0.5", upcycled=Upcycling("recipe", "virtual_group", 0.5)),
        Arm("upcycled-exact", "of `dense`: exact scale, drop 0", upcycled=Upcycling("exact", "virtual_group", 0.0)),
        Arm("scratch-long", "experts from scratch, stages 1 and 2", (EARLIER, CURATED)),
    )
}


def result_file(folder: Path, arm: str, seed: int) -> Path:
    return folder / "results" / f"{arm}-{seed}.json"


def run(folder: Path, arm: Arm, seed: int) -> None:
    """One arm with one seed, if it was not run before."""
    out = result_file(folder, arm.name, seed)
    if out.exists():
        return
    place = folder / "runs" / f"{arm.name}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    made = json.loads((folder / "stages.json").read_text())
    (place / "model.json").write_text(json.dumps(asdict(arm.model)))
    (place / "train.yaml").write_text(yaml.safe_dump(_recipe(arm, seed, made["tokens"])))
    stages = [Path(made["stages"][name]) for name in arm.stages]
    planned = train_stage(load_train_recipe(place / "train.yaml"), stages, micro_batch=BATCH)
    initial, divergence = (None, None) if arm.upcycled is None else _upcycled(folder, arm, seed, place)
    tokens = made["tokens"] + sum(planned.settings.schedule.tokens[:-1])
    iterations = min(tokens, sum(planned.settings.schedule.tokens)) // (SEQUENCE * BATCH)
    before = newest(place)
    reached = 0 if before is None else _iteration(before)
    began = time.process_time()
    if reached < iterations:
        running = Running(
            place,
            micro_batch=BATCH,
            checkpoint_every=-(-iterations // POINTS),
            keep=POINTS + 2,
            in_background=False,
            stop_after=iterations - reached,
        )
        reached = start(planned.plan, planned.settings, running, 1, initial, lambda _: None).iteration
    if reached < iterations:
        raise SystemExit(f"{arm.name} was stopped at iteration {reached} of {iterations}; it goes on from there")
    said = {
        "arm": arm.name,
        "seed": seed,
        "iterations": iterations,
        "tokens": iterations * SEQUENCE * BATCH,
        "stage_tokens": list(planned.settings.schedule.tokens),
        "parameters": arm.model.parameters(),
        "active_parameters": arm.model.active_parameters(),
        "divergence": divergence,
        "cpu_seconds": time.process_time() - began if before is None else None,  # a part of the run tells nothing
        "held_out": _judged(folder, place, arm.model, seed, initial),
    }
    if arm.name == DENSE_ARM:
        export(CheckpointFolder(_last(place)), folder / "dense" / str(seed), dtype=torch.float32)
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(said, indent=1))
    for checkpoint in place.glob("iteration-*"):
        shutil.rmtree(checkpoint)


def _recipe(arm: Arm, seed: int, tokens: int) -> dict[str, Any]:
    last = {2: {"shape": "linear", "to": 3e-4}} if arm.decays else {}
    return {
        "model": "model.json",
        "sequence": SEQUENCE,
        "global_batch": BATCH,
        "precision": "fp32",
        "schedule": {"peak": 3e-3, "warmup": tokens // 15, "stages": last},
        "router": {"aux": 0.01},
        "seed": seed,
    }


def _upcycled(folder: Path, arm: Arm, seed: int, place: Path) -> tuple[Path, float]:
    """The folder that training begins with, and how far its model is from the dense one (KL, nats)."""
    settings = Upcycling(**{**asdict(arm.upcycled), "seed": seed}) if arm.upcycled else Upcycling()
    shutil.rmtree(place / "initial", ignore_errors=True)
    found = upcycle(HubFolder(folder / "dense" / str(seed)), arm.model, place / "initial", settings)
    return place / "initial", found.kl


def _iteration(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def _last(place: Path) -> Path:
    found = newest(place)
    if found is None:
        raise SystemExit(f"{place} has no checkpoint")
    return found


def _judged(folder: Path, place: Path, config: ModelConfig, seed: int, initial: Path | None) -> list[dict[str, Any]]:
    """Held-out losses before the first step and at each checkpoint."""
    documents = json.loads((folder / "held_out.json").read_text())
    end = documents[next(iter(documents))][0]["ids"][-1]
    model = CausalLM(config)

    def judged(iteration: int, weights: Weights) -> dict[str, Any]:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights(name, tuple(parameter.shape)))
        return {"tokens": iteration * SEQUENCE * BATCH, "languages": losses(model, documents, end, SEQUENCE)}

    if initial is None:
        said = [judged(0, lambda name, shape: initial_weight(name, shape, config, seed))]
    else:
        said = [judged(0, _weights(HubFolder(initial)))]
    for checkpoint in sorted(place.glob("iteration-*")):
        said.append(judged(_iteration(checkpoint), _weights(CheckpointFolder(checkpoint))))
    return said


def _weights(folder: HubFolder | CheckpointFolder) -> Weights:
    return lambda name, _: folder.tensor(name)


if __name__ == "__main__":
    run(Path(sys.argv[1]), ARMS[sys.argv[2]], int(sys.argv[3]))
