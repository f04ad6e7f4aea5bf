"""One step's forward and backward passes over the micro-batches of a rank.

In come a sharded model and this rank's sequences of the global batch; out come summed gradients, the loss of the global
batch and of every token, and experts' load. Gradients do not depend on how sequences are dealt to ranks. Does not know
where sequences come from, nor what is done with the gradients.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from marco_data.train.loss import IGNORED
from marco_data.train.model import CausalLM
from marco_data.train.parallel import World
from marco_data.train.settings import Coefficients


@dataclass(frozen=True)
class Done:
    """Of the global batch `loss`, `aux`, `z`, `tokens` counted and `load` [layers, experts]; `losses` of this rank."""

    loss: float
    aux: float
    z: float
    tokens: int
    load: Tensor
    losses: Tensor


class _Load:
    """Choices of experts of all ranks, summed over the micro-batches that a step has seen so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.total: Tensor | None = None

    def __call__(self, load: Tensor) -> Tensor:
        everywhere = self.world.sum(load.clone())
        self.total = everywhere if self.total is None else self.total + everywhere
        return self.total


def forward_backward(
    model: CausalLM,
    world: World,
    tokens: Tensor,
    labels: Tensor,
    documents: Tensor | None,
    micro_batch: int,
    coefficients: Coefficients,
    watch: Callable[[slice], AbstractContextManager[None]] | None = None,
) -> Done:
    """Add up gradients of `tokens` and `labels` [sequences of this rank, seq]; all ranks have as many sequences.

    The loss is the mean over the labels of the global batch. The aux loss weighs a micro-batch's probabilities with the
    load of all ranks up to and with it: with one micro-batch a step, that is the global batch's. `watch` is entered
    around each forward pass, with the sequences that are in it.
    """
    count = int(world.sum((labels != IGNORED).sum()))
    load = _Load(world)
    sums = torch.zeros(3, dtype=torch.float64, device=tokens.device)
    losses = []
    for start in range(0, len(tokens), micro_batch):
        part = slice(start, start + micro_batch)
        with nullcontext() if watch is None else watch(part):
            out = model(tokens[part], labels[part], None if documents is None else documents[part], global_load=load)
        # What is a mean over this rank's tokens becomes its share of the mean over all.
        share = len(tokens[part]) / (len(tokens) * world.ranks)
        loss = out.loss_sum / max(count, 1) + share * (coefficients.aux * out.aux + coefficients.z * out.z)
        loss.backward()
        sums += torch.stack((out.loss_sum.detach(), share * out.aux.detach(), share * out.z.detach())).double()
        losses.append(out.losses.detach())
    loss_sum, aux, z = world.sum(sums).tolist()
    total = load.total if load.total is not None else torch.zeros(0, 0, device=tokens.device)
    return Done(loss_sum / max(count, 1), aux, z, count, total, torch.cat(losses))
