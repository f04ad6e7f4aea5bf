"""Which experts a token goes to, and what keeps them evenly busy.

In come hidden states; out come for each token its experts and their weights, and what the balance is measured by: how
many tokens each expert got, the sum of its probabilities, the z-loss. Computed in fp32 whatever the model's precision.
Does not know the experts, nor other ranks: whoever trains sums `load` over the global batch before `aux_loss`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marco_data.train.config import ModelConfig


class Routing(NamedTuple):
    """Of a layer: `weights` and `experts` are [tokens, top_k], `load` and `probability_sum` [experts], `z` a number."""

    weights: Tensor
    experts: Tensor
    load: Tensor
    probability_sum: Tensor
    z: Tensor


def in_full_precision(values: Tensor) -> Tensor:
    """The same in fp32, or in fp64 where it is that already."""
    return values if values.dtype == torch.float64 else values.float()


class Router(nn.Module):
    """A linear layer, and the `top_k` highest of its logits; softmax over those alone with `norm_topk_prob`."""

    def __init__(self, config: ModelConfig, *, balance_by_bias: bool = False) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.top_k = config.num_experts_per_tok
        self.norm_topk_prob = config.norm_topk_prob
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        # Of use in training alone: Hugging Face's qwen3_moe has no such thing, so a model that was balanced like this
        # routes elsewhere once it is exported, unless its bias has been brought back to zero.
        bias = torch.zeros(config.num_experts, dtype=torch.float32) if balance_by_bias else None
        self.register_buffer("expert_bias", bias)

    def forward(self, hidden: Tensor) -> Routing:
        """`hidden` is [tokens, width]."""
        logits = F.linear(in_full_precision(hidden), in_full_precision(self.weight))
        probabilities = logits.softmax(-1)
        chosen_by = logits.detach()
        if self.expert_bias is not None:
            chosen_by = chosen_by + self.expert_bias
        experts = chosen_by.topk(self.top_k, -1).indices
        weights = logits.gather(-1, experts).softmax(-1) if self.norm_topk_prob else probabilities.gather(-1, experts)
        # Not bincount, which makes the host wait for a GPU.
        flat = experts.flatten()
        load = torch.zeros(self.num_experts, dtype=torch.int64, device=flat.device)
        load = load.scatter_add_(0, flat, torch.ones_like(flat))
        z = logits.logsumexp(-1).square().mean()
        return Routing(weights, experts, load, probabilities.sum(0), z)


def aux_loss(probability_sum: Tensor, load: Tensor, tokens: int) -> Tensor:
    """The load-balancing loss of layers, [..., experts] -> [...]; 1 where experts are chosen evenly.

    experts x sum over e of (share of choices that fell on e) x (mean probability of e). `load` are the choices of a
    whole global batch, over all ranks and micro-batches; `probability_sum` is summed over the `tokens` of this
    micro-batch alone. Its mean over all micro-batches of equal size is then the loss of the global batch, and so is
    the mean of its gradients. Only the probabilities have a gradient.
    """
    share = load / load.sum(-1, keepdim=True)
    result: Tensor = load.shape[-1] * (share * probability_sum / tokens).sum(-1)
    return result


@torch.no_grad()
def update_expert_bias(bias: Tensor, load: Tensor, rate: float) -> None:
    """After a step: busier than average lowers an expert's bias by `rate` nats, idler raises it.

    `load` is that of the global batch. The bias is added to the logits where experts are chosen and nowhere else, so it
    has no gradient and does not weigh an expert's output.
    """
    mean = load.sum(-1, keepdim=True) / load.shape[-1]
    bias += rate * torch.sign(mean - load)


class LoadStatistics(NamedTuple):
    """How evenly a layer's experts are used: `busiest` and `idlest` relative to the mean; `dead` got no token."""

    busiest: float
    idlest: float
    dead: int
    entropy: float


def load_statistics(load: Tensor) -> list[LoadStatistics]:
    """One row per layer of `load` [layers, experts]; entropy relative to even use, which is 1."""
    rows = []
    for counts in load.double():
        total = counts.sum()
        if not total:
            raise ValueError("no token was routed, so there is no load to speak of")
        share = counts / total
        entropy = -(share * share.clamp_min(1e-300).log()).sum() / torch.tensor(float(len(counts))).log()
        relative = share * len(counts)
        rows.append(
            LoadStatistics(
                busiest=float(relative.max()),
                idlest=float(relative.min()),
                dead=int((counts == 0).sum()),
                entropy=float(entropy) if len(counts) > 1 else 1.0,
            )
        )
    return rows
