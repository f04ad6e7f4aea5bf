"""AdamW on fp32 master weights, and gradients clipped by their norm over all meshes.

In come a sharded model's parameters and gradients; out come updated parameters. The model computes in the precision
that its sharding casts to, and what is updated here is fp32 always. Knows neither the schedule nor the loss.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from marco_data.train.parallel import World
from marco_data.train.settings import AdamSettings


def optimizer_of(model: nn.Module, settings: AdamSettings) -> torch.optim.AdamW:
    """Groups by mesh, because one fused operation cannot span two; norms' weights do not decay."""
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for parameter in model.parameters():
        groups[_axes(parameter), parameter.dim() > 1].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": settings.weight_decay if decays else 0.0}
            for (_, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        foreach=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter], world: World) -> Tensor:
    """The norm of all gradients of all ranks, the same number on each.

    Experts lie on another mesh than the rest, and torch's own clipping refuses to mix them. Here no mesh is asked:
    every element of a gradient is on one rank, so squares of what each has are added, in fp64.
    """
    square = torch.zeros((), dtype=torch.float64, device=world.device)
    for parameter in parameters:
        if parameter.grad is not None:
            square += _held(parameter.grad).double().square().sum()
    return world.sum(square).sqrt()


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], norm: Tensor, highest: float) -> None:
    """Scale all gradients by highest / norm where the norm is higher: the same factor on every mesh and rank."""
    scale = highest / (norm + 1e-6)
    if scale >= 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            held = _held(parameter.grad)
            held.mul_(scale.to(held.dtype))


def _held(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _axes(parameter: Tensor) -> int:
    return parameter.device_mesh.ndim if isinstance(parameter, DTensor) else 0
