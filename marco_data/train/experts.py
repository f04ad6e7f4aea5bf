"""The experts of a layer, all in one grouped GEMM; a plain loop over them is kept as the reference.

In come hidden states and a `Routing`; out come the chosen experts' outputs, weighted and summed. Every sum is taken in
a fixed order, without atomics, so that a step repeats bit for bit. Does not know how experts were chosen; which ranks
hold them is known to an `Exchange` only.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from marco_data.train.config import GROUP_ALIGNMENT, ModelConfig
from marco_data.train.router import Router, Routing

GROUPED, LOOP = "grouped", "loop"


class Exchange(Protocol):
    """Brings rows to the ranks that hold their experts, and back. Both directions have gradients."""

    def send(self, rows: Tensor, load: Tensor) -> tuple[Tensor, Tensor, Any]:
        """From `rows` sorted by expert and `load` of all experts: rows sorted by own expert, own load, a way back."""

    def bring_back(self, rows: Tensor, way: Any) -> Tensor:
        """The rows that `send` sent away, in the order they had."""


def grouped_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """rows[start:end] @ weights[e] for every group e: [rows, in] x [groups, in, out] -> [rows, out]."""
    if rows.dtype == torch.float64:  # what grouped GEMM does not do, and comparisons to 1e-12 need
        pieces = rows.tensor_split(ends[:-1].tolist())
        return torch.cat([piece @ weight for piece, weight in zip(pieces, weights, strict=True)])
    product: Tensor = F.grouped_mm(rows, weights, offs=ends)
    return product


def grouped_outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """left[start:end].T @ right[start:end] for every group: [rows, a] x [rows, b] -> [groups, a, b]."""
    if left.dtype == torch.float64:
        cut = ends[:-1].tolist()
        return torch.stack([a.T @ b for a, b in zip(left.tensor_split(cut), right.tensor_split(cut), strict=True)])
    product: Tensor = F.grouped_mm(left.T, right, offs=ends)
    return product


class _GroupedSwiGlu(torch.autograd.Function):
    """SwiGLU of every group of rows; keeps rows and gate-up for the backward pass and computes their product again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gate_up_proj: Tensor, down_proj: Tensor, ends: Tensor) -> Tensor:
        gate_up = grouped_product(rows, gate_up_proj.transpose(1, 2), ends)
        gate, up = gate_up.chunk(2, -1)
        ctx.save_for_backward(rows, gate_up, gate_up_proj, down_proj, ends)
        return grouped_product(F.silu(gate) * up, down_proj.transpose(1, 2), ends)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, gate_up, gate_up_proj, down_proj, ends = ctx.saved_tensors
        grad = grad.contiguous()  # a sum's gradient has strides of 0, which grouped GEMM refuses
        gate, up = gate_up.chunk(2, -1)
        activated = F.silu(gate)
        of_product = grouped_product(grad, down_proj, ends)
        of_down = grouped_outer(grad, activated * up, ends)
        of_gate = torch.ops.aten.silu_backward(of_product * up, gate)
        of_gate_up = torch.cat((of_gate, of_product * activated), -1)
        of_rows = grouped_product(of_gate_up, gate_up_proj, ends)
        return of_rows, grouped_outer(of_gate_up, rows, ends), of_down, None


class _Spread(torch.autograd.Function):
    """Every token's row, once per chosen expert, sorted by expert; backward adds them up in the order of choice."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, order: Tensor, place: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(place)
        ctx.top_k = top_k
        return hidden.index_select(0, order // top_k)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (place,) = ctx.saved_tensors
        return grad.index_select(0, place).view(-1, ctx.top_k, grad.shape[-1]).sum(1), None, None, None


class _Reorder(torch.autograd.Function):
    """rows[order], where `order` is a permutation and `inverse` its inverse."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


def padded(rows: Tensor, load: Tensor, alignment: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of every group followed by zeros to a multiple of `alignment`; also where groups end, and each row's place.

    Never less than `alignment` rows: an expert without a token then multiplies zeros, and its gradient is zero instead
    of what a kernel leaves where it has nothing to write. The number of rows depends on no value on the GPU, so
    nothing waits for it; what is left over belongs to the last group.
    """
    sizes = (load + alignment - 1).div(alignment, rounding_mode="floor").clamp_min(1) * alignment
    ends = sizes.cumsum(0)
    moved = (ends - sizes) - (load.cumsum(0) - load)
    place = torch.arange(len(rows), device=rows.device) + moved.repeat_interleave(load, output_size=len(rows))
    length = -(-len(rows) // alignment) * alignment + len(load) * alignment
    ends[-1] = length
    return rows.new_zeros(length, rows.shape[-1]).index_copy(0, place, rows), ends, place


class Experts(nn.Module):
    """SwiGLU experts, or one rank's share of them, on rows that are sorted by expert."""

    def __init__(self, config: ModelConfig, *, implementation: str = GROUPED, alignment: int | None = None) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(config.num_experts, 2 * inner, width))
        self.down_proj = nn.Parameter(torch.empty(config.num_experts, width, inner))
        self.implementation = implementation
        self.alignment = alignment

    def forward(self, rows: Tensor, load: Tensor) -> Tensor:
        """`load` says how many rows each expert has."""
        gate_up_proj, down_proj = _local(self.gate_up_proj), _local(self.down_proj)
        if self.implementation == LOOP:
            return looped(rows, gate_up_proj, down_proj, load)
        # A CPU multiplies groups of any size, and equal to the loop bit for bit only if they have its sizes.
        alignment = self.alignment or (GROUP_ALIGNMENT if rows.is_cuda else 0)
        if not alignment:
            return _GroupedSwiGlu.apply(rows, gate_up_proj, down_proj, load.cumsum(0).to(torch.int32))
        filled, ends, place = padded(rows, load, alignment)
        return _GroupedSwiGlu.apply(filled, gate_up_proj, down_proj, ends.to(torch.int32)).index_select(0, place)


def looped(rows: Tensor, gate_up_proj: Tensor, down_proj: Tensor, load: Tensor) -> Tensor:
    """The same, one expert after the other, with gradients by autograd: what `grouped` has to equal."""
    outputs = []
    for expert, own in enumerate(rows.split(load.tolist())):
        gate, up = F.linear(own, gate_up_proj[expert]).chunk(2, -1)
        outputs.append(F.linear(F.silu(gate) * up, down_proj[expert]))
    return torch.cat(outputs)


def _local(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight


class SparseMoe(nn.Module):
    """Router and experts in place of a feed-forward layer."""

    def __init__(self, config: ModelConfig, *, implementation: str = GROUPED, balance_by_bias: bool = False) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.gate = Router(config, balance_by_bias=balance_by_bias)
        self.experts = Experts(config, implementation=implementation)
        self.exchange: Exchange | None = None

    def forward(self, hidden: Tensor) -> tuple[Tensor, Routing]:
        """`hidden` is [batch, seq, width]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        routing: Routing = self.gate(flat)
        # Stable: within an expert rows stay in the order of their tokens, whoever computes them.
        order = routing.experts.flatten().argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        rows = _Spread.apply(flat, order, place, self.top_k)
        if self.exchange is None:
            outputs = self.experts(rows, routing.load)
        else:
            own, load, way = self.exchange.send(rows, routing.load)
            outputs = self.exchange.bring_back(self.experts(own, load), way)
        by_token = _Reorder.apply(outputs, place, order).view(-1, self.top_k, hidden.shape[-1])
        summed = torch.bmm(routing.weights.to(by_token.dtype).unsqueeze(1), by_token)
        return summed.view_as(hidden), routing
