"""A run started from the command line: the ranks meet, the first weights are found, and the loop takes over.

In come a plan, settings and a folder of weights or none; out comes how the run ended. Does not know recipes.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from marco_data.train.checkpoint import newest
from marco_data.train.config import ModelConfig
from marco_data.train.hub import check_initial
from marco_data.train.loop import Ended, Running, train
from marco_data.train.model import initial_weight
from marco_data.train.order import Plan
from marco_data.train.parallel import Weights, join
from marco_data.train.settings import Settings


def start(
    plan: Plan, settings: Settings, running: Running, ep: int, initial: Path | None, say: Callable[[str], None]
) -> Ended:
    """Run this rank of a run to its end, and leave the other ranks properly."""
    weights = _weights(settings.model, plan.seed, None if newest(running.folder) else initial)
    world = join(ep)
    if world.device.type == "cpu" and world.ranks == 1:
        # Sums over threads are added up in another order for another number of them; torchrun gives a rank one, too.
        torch.set_num_threads(1)
    try:
        ended = train(plan, settings, running, world, weights, say=say)
        dist.barrier()  # gloo ends a process whose threads still wait for another that has gone
        return ended
    finally:
        dist.destroy_process_group()


def _weights(model: ModelConfig, seed: int, initial: Path | None) -> Weights:
    if initial is None:
        return lambda name, shape: initial_weight(name, shape, model, seed)
    from marco_data.train.weights import HubFolder  # safetensors, which training from scratch does not need

    check_initial(initial, model)
    folder = HubFolder(initial)

    def weight(name: str, _shape: tuple[int, ...]) -> Tensor:
        return folder.tensor(name)

    return weight
