"""One step's forward and backward passes over the micro-batches of a rank.

In come a sharded model and this rank's sequences of the global batch; out come summed gradients, the loss of the global
batch and of every token, and experts' load. Gradients do not depend on how sequences are dealt to ranks and
micro-batches. Does not know where sequences come from, nor what is done with the gradients.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from marco_data.train.loss import IGNORED
from marco_data.train.model import CausalLM
from marco_data.train.parallel import World
from marco_data.train.router import aux_loss
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


def forward_backward(
    model: CausalLM,
    world: World,
    tokens: Tensor,
    labels: Tensor,
    documents: Tensor | None,
    micro_batch: int,
    coefficients: Coefficients,
    load: Tensor,
    watch: Callable[[slice], AbstractContextManager[None]] | None = None,
) -> Done:
    """Add up gradients of `tokens` and `labels` [sequences of this rank, seq]; all ranks have as many sequences.

    The loss is the mean over the labels of the global batch. Probabilities are weighed with `load` [layers, experts],
    that of the global batch before this one, for the gradient of the aux loss: this one's own is known only after its
    last micro-batch, and a sum up to now (Megatron's way) would make gradients depend on `micro_batch` and ranks. The
    `aux` that is returned is this batch's own. `watch` is entered around each forward pass, with the sequences in it.
    """
    count = int(world.sum((labels != IGNORED).sum()))
    used = torch.zeros_like(load)
    probability_sum = torch.zeros(load.shape, dtype=torch.float64, device=load.device)
    sums = torch.zeros(2, dtype=torch.float64, device=tokens.device)
    losses = []
    for start in range(0, len(tokens), micro_batch):
        part = slice(start, start + micro_batch)
        with nullcontext() if watch is None else watch(part):
            out = model(tokens[part], labels[part], None if documents is None else documents[part], load=load)
        # What is a mean over this rank's tokens becomes its share of the mean over all.
        share = len(tokens[part]) / (len(tokens) * world.ranks)
        loss = out.loss_sum / max(count, 1) + share * (coefficients.aux * out.aux + coefficients.z * out.z)
        loss.backward()
        sums += torch.stack((out.loss_sum.detach(), share * out.z.detach())).double()
        if used.numel():  # else a dense model
            used += out.load
            probability_sum += out.probability_sum
        losses.append(out.losses.detach())
    loss_sum, z = world.sum(sums).tolist()
    aux = 0.0
    if used.numel():
        used, probability_sum = world.sum(used), world.sum(probability_sum)
        aux = float(aux_loss(probability_sum, used, tokens.numel() * world.ranks).mean())
    return Done(loss_sum / max(count, 1), aux, z, count, used, torch.cat(losses))
