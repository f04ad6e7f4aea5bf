"""Sharing a model out over ranks: FSDP for all of it, and expert parallelism for its experts.

In come a model's sizes and a layout; out comes a sharded model whose gradients are those of one process with the whole
batch. Two meshes cover the same ranks: `dp`, all of them, over which everything but experts is sharded, and
`edp` x `ep`, where a rank holds `1/ep` of the experts and shards those over `edp`. Every rank trains on data of its
own, also those that share experts. Does not know data, schedule or checkpoints.

Gradients are summed over ranks, never averaged: the loss that a rank differentiates is its own share of the global
batch's. An average would be off by `ep` for experts, whose gradients the exchange has summed over `ep` already.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from marco_data.errors import RecipeError
from marco_data.train.config import ModelConfig
from marco_data.train.experts import GROUPED, SparseMoe
from marco_data.train.model import CausalLM
from marco_data.train.settings import check_layout

Weights = Callable[[str, tuple[int, ...]], Tensor]
"""A parameter's name and whole shape to its initial value."""


@dataclass(frozen=True)
class World:
    """This process among its like: the meshes and the device. `edp` is `ranks / ep`."""

    rank: int
    ranks: int
    ep: int
    device: torch.device
    dp: DeviceMesh
    experts: DeviceMesh

    @property
    def edp(self) -> int:
        return self.ranks // self.ep

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place, without a gradient."""
        dist.all_reduce(values, group=self.dp.get_group())
        return values


def join(ep: int = 1, *, timeout: timedelta = timedelta(minutes=30)) -> World:
    """Meet the other ranks by the environment that torchrun sets; alone where it sets none."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # gloo beside nccl: checkpoints are written by a thread that must not wait for the GPU's queue.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        if "RANK" in os.environ:
            dist.init_process_group(backend, timeout=timeout)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
    ranks = dist.get_world_size()
    if ranks % ep:
        raise RecipeError(f"ep {ep} does not divide {ranks} ranks", hint="`--ep` has to divide the ranks")
    return World(
        rank=dist.get_rank(),
        ranks=ranks,
        ep=ep,
        device=device,
        dp=init_device_mesh(device.type, (ranks,), mesh_dim_names=("dp",)),
        experts=init_device_mesh(device.type, (ranks // ep, ep), mesh_dim_names=("edp", "ep")),
    )


def end_process() -> None:
    """End a rank whose work is done, without Python's own end; nothing happens where it was alone.

    One of four ranks was once aborted after its last line ("terminate called without an active exception"), as a thread
    of gloo can be that asks for an interpreter which is ending; torchrun then calls a run failed that is done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Way(NamedTuple):
    sent: list[int]
    received: list[int]
    order: Tensor


class _Reorder(torch.autograd.Function):
    """rows[order] for a permutation, whose gradient is taken by its inverse instead of by adding up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return grad.index_select(0, order.argsort()), None


class AllToAll:
    """The exchange of `marco_data.train.experts.Exchange` over the `ep` ranks of a mesh.

    Rows arrive by rank and within it by expert; experts want them by expert. Within an expert they stay in the order of
    ranks, so that a step repeats bit for bit.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.ranks = dist.get_world_size(group)

    def send(self, rows: Tensor, load: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Rows of own experts sorted by expert, how many each has, and the way back."""
        counts = torch.empty_like(load)
        dist.all_to_all_single(counts, load, group=self.group)
        by_rank = counts.view(self.ranks, -1)
        # The host has to know how much to send: the one point where it waits for a GPU in a layer.
        sent, received = torch.stack((load.view(self.ranks, -1).sum(1), by_rank.sum(1))).tolist()
        arrived = all_to_all_single_autograd(rows, received, sent, self.group)
        own = by_rank.shape[1]
        expert = torch.arange(own, device=load.device).repeat(self.ranks)
        order = expert.repeat_interleave(counts, output_size=sum(received)).argsort(stable=True)
        return _Reorder.apply(arrived, order), by_rank.sum(0), _Way(sent, received, order)

    def bring_back(self, rows: Tensor, way: Any) -> Tensor:
        """The rows that `send` sent away, in the order they had."""
        by_rank = _Reorder.apply(rows, way.order.argsort())
        back: Tensor = all_to_all_single_autograd(by_rank.contiguous(), way.sent, way.received, self.group)
        return back


@dataclass(frozen=True)
class Computing:
    """How a step is computed, which changes no more than its last digits."""

    dtype: torch.dtype = torch.float32
    master: torch.dtype = torch.float32
    recompute: bool = False
    compile: bool = False
    implementation: str = GROUPED


def sharded(
    config: ModelConfig, world: World, weights: Weights, computing: Computing, *, balance_by_bias: bool = False
) -> CausalLM:
    """The model, each rank holding its shards alone; `weights` gives what they start with."""
    check_layout(config, world.ranks, world.ep)
    with torch.device("meta"):
        model = CausalLM(config, implementation=computing.implementation, balance_by_bias=balance_by_bias)
    model.to(computing.master)
    policy = MixedPrecisionPolicy(param_dtype=computing.dtype, reduce_dtype=computing.master)
    if computing.dtype == computing.master:
        policy = MixedPrecisionPolicy()
    model.model.recompute = computing.recompute
    for layer in model.model.layers:
        if isinstance(layer.mlp, SparseMoe):
            _share_experts(layer.mlp, world)
            fully_shard(layer.mlp.experts, mesh=world.experts["edp"], mp_policy=policy, shard_placement_fn=_second)
        if computing.compile:
            # Rows per expert change every step and so would the compiled graph: of a sparse layer, attention alone.
            (layer.self_attn if isinstance(layer.mlp, SparseMoe) else layer).compile()
        fully_shard(layer, mesh=world.dp, mp_policy=policy)
    fully_shard(model, mesh=world.dp, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    model.to_empty(device=world.device)
    _fill(model, weights)
    return model


def _second(_: nn.Parameter) -> Shard:
    return Shard(1)  # the first axis is the experts', which `ep` shares out


def _share_experts(mlp: SparseMoe, world: World) -> None:
    mesh = world.experts["ep"]
    for name, parameter in list(mlp.experts.named_parameters()):
        local = parameter.data[: parameter.shape[0] // world.ep]
        shared = DTensor.from_local(local, mesh, [Shard(0)], run_check=False)
        setattr(mlp.experts, name, nn.Parameter(shared))
    if world.ep > 1:
        mlp.exchange = AllToAll(mesh.get_group())


@torch.no_grad()
def _fill(model: nn.Module, weights: Weights) -> None:
    for name, parameter in model.named_parameters():
        whole = weights(name, tuple(parameter.shape))
        if tuple(whole.shape) != tuple(parameter.shape):
            raise RecipeError(
                f"`{name}` is {tuple(whole.shape)} where the model has {tuple(parameter.shape)}",
                hint="the initial weights are of another model",
            )
        parameter.to_local().copy_(own_part(parameter, whole))
    for _, buffer in model.named_buffers():
        buffer.zero_()


def own_part(sharded_as: DTensor, whole: Tensor) -> Tensor:
    """What of a whole tensor this rank holds."""
    part = whole
    for axis, (placement, size) in enumerate(zip(sharded_as.placements, sharded_as.device_mesh.shape, strict=True)):
        if isinstance(placement, Shard):
            pieces = part.chunk(size, placement.dim)
            at = sharded_as.device_mesh.get_local_rank(axis)
            part = pieces[at] if at < len(pieces) else part.narrow(placement.dim, 0, 0)
    return part
