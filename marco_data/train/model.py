"""Qwen3 and Qwen3-MoE: grouped-query attention with normed queries and keys, rotary positions, SwiGLU, RMSNorm.

In come tokens and labels; out come the summed loss, the loss of every token and what the router's balance is judged by.
Parameters have the names they have in transformers, so weights of one load into the other. Does not know how it is
sharded: layers are plain modules that a trainer wraps, and ranks exchange rows through `SparseMoe.exchange`.
"""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from marco_data.train.config import CHUNK_TOKENS, ModelConfig
from marco_data.train.experts import GROUPED, SparseMoe
from marco_data.train.loss import IGNORED, cross_entropy, document_mask, positions_in_documents
from marco_data.train.router import aux_loss, in_full_precision


class Output(NamedTuple):
    """Of a micro-batch. A tuple, because FSDP finds tensors to hook on in tuples and not in objects.

    `loss_sum` / `token_count` is the loss; `losses` [batch, seq] have no gradient. `aux` and `z` are means over layers,
    without a coefficient; `load` [layers, experts] counts choices of this micro-batch on this rank, and
    `probability_sum` of the same shape adds up the router's probabilities, without a gradient.
    """

    loss_sum: Tensor
    token_count: Tensor
    losses: Tensor
    aux: Tensor
    z: Tensor
    load: Tensor
    probability_sum: Tensor


class Positions(NamedTuple):
    """What attention needs to know of places: rotations, and who may look at whom (None: at all that came before)."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None


class RMSNorm(nn.Module):
    """Divided by its root mean square, computed in fp32 and weighted in the model's precision."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        full = in_full_precision(hidden)
        full = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * full.to(hidden.dtype)


class Attention(nn.Module):
    """Causal attention; with documents, within each of them alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, hidden: Tensor, positions: Positions) -> Tensor:
        """`hidden` is [batch, seq, width]."""
        heads = (*hidden.shape[:2], -1, self.head_dim)
        query = _rotated(self.q_norm(self.q_proj(hidden).view(heads)).transpose(1, 2), positions)
        key = _rotated(self.k_norm(self.k_proj(hidden).view(heads)).transpose(1, 2), positions)
        value = self.v_proj(hidden).view(heads).transpose(1, 2)
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=positions.mask, is_causal=positions.mask is None, enable_gqa=True
        )
        attended: Tensor = self.o_proj(seen.transpose(1, 2).flatten(2))
        return attended


class SwiGlu(nn.Module):
    """The dense feed-forward layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        down: Tensor = self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))
        return down


class Balance(NamedTuple):
    """What a layer's router says: tensors, so that recomputation and FSDP see them. Empty in a dense model."""

    load: Tensor
    probability_sum: Tensor
    z: Tensor


class Layer(nn.Module):
    """Attention and a feed-forward layer, each added to its own input."""

    def __init__(self, config: ModelConfig, *, implementation: str, balance_by_bias: bool) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp: SwiGlu | SparseMoe
        if config.num_experts:
            self.mlp = SparseMoe(config, implementation=implementation, balance_by_bias=balance_by_bias)
        else:
            self.mlp = SwiGlu(config)

    def forward(self, hidden: Tensor, positions: Positions) -> tuple[Tensor, Balance]:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), positions)
        normed = self.post_attention_layernorm(hidden)
        if isinstance(self.mlp, SparseMoe):
            added, routing = self.mlp(normed)
            return hidden + added, Balance(routing.load, routing.probability_sum, routing.z)
        nothing = hidden.new_zeros(0)
        return hidden + self.mlp(normed), Balance(nothing, nothing, hidden.new_zeros(()))


class Decoder(nn.Module):
    """Embedding, layers, last norm."""

    def __init__(self, config: ModelConfig, *, implementation: str, balance_by_bias: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, implementation=implementation, balance_by_bias=balance_by_bias)
            for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head_dim = config.head_dim
        self.rope_theta = config.rope_theta
        self.recompute = False

    def forward(self, tokens: Tensor, documents: Tensor | None) -> tuple[Tensor, Balance]:
        hidden = self.embed_tokens(tokens)
        positions = self._positions(tokens, documents, hidden.dtype)
        said = []
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                hidden, balance = checkpoint(layer, hidden, positions, use_reentrant=False)
            else:
                hidden, balance = layer(hidden, positions)
            said.append(balance)
        return self.norm(hidden), Balance(*(torch.stack(values) for values in zip(*said, strict=True)))

    def _positions(self, tokens: Tensor, documents: Tensor | None, dtype: torch.dtype) -> Positions:
        # In fp32 whatever the model is, as transformers does: bf16 tells positions apart up to 256 only.
        power = torch.arange(0, self.head_dim, 2, device=tokens.device, dtype=torch.float32) / self.head_dim
        frequency = 1.0 / self.rope_theta**power
        if documents is None:
            place = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        else:
            place = positions_in_documents(documents)
        angle = place.unsqueeze(-1) * frequency
        angle = torch.cat((angle, angle), -1).unsqueeze(1)  # [batch or 1, 1, seq, head_dim]
        mask = None if documents is None else document_mask(documents)
        return Positions(angle.cos().to(dtype), angle.sin().to(dtype), mask)


class CausalLM(nn.Module):
    """The model; `forward` gives losses, `logits` what transformers' models give."""

    def __init__(self, config: ModelConfig, *, implementation: str = GROUPED, balance_by_bias: bool = False) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config, implementation=implementation, balance_by_bias=balance_by_bias)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def output_weight(self) -> Tensor:
        """[vocabulary, width]: the output layer's, which may be the embedding."""
        owner = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        weight: Tensor = owner.weight
        return weight

    def logits(self, tokens: Tensor, document_ids: Tensor | None = None) -> Tensor:
        """[batch, seq, vocabulary]."""
        hidden, _ = self.model(tokens, document_ids)
        return F.linear(hidden, self.output_weight())

    def forward(
        self,
        tokens: Tensor,
        labels: Tensor,
        document_ids: Tensor | None = None,
        *,
        load: Tensor | None = None,
        chunk: int = CHUNK_TOKENS,
    ) -> Output:
        """Losses of `tokens` [batch, seq]; with `document_ids`, attention ends where a document does.

        `load` [layers, experts] is what the aux loss weighs probabilities with; this micro-batch's own without it.
        """
        hidden, balance = self.model(tokens, document_ids)
        loss_sum, losses = cross_entropy(hidden.flatten(0, 1), self.output_weight(), labels.flatten(), chunk=chunk)
        aux = loss_sum.new_zeros(())
        if self.config.num_experts:
            weighed_with = balance.load if load is None else load
            aux = aux_loss(balance.probability_sum, weighed_with, tokens.numel()).mean()
        return Output(
            loss_sum=loss_sum,
            token_count=(labels != IGNORED).sum(),
            losses=losses.view_as(labels),
            aux=aux,
            z=balance.z.mean(),
            load=balance.load,
            probability_sum=balance.probability_sum.detach(),
        )


def _rotated(heads: Tensor, positions: Positions) -> Tensor:
    first, second = heads.chunk(2, -1)
    return heads * positions.cos + torch.cat((-second, first), -1) * positions.sin


def initial_weight(name: str, shape: tuple[int, ...], config: ModelConfig, seed: int) -> Tensor:
    """A parameter as training from scratch starts with it: a function of its name and the seed alone.

    Norms are 1, the rest is normal with `initializer_range`. Every expert has a generator of its own, so a rank
    may make those it holds and no others.
    """
    if len(shape) == 1:
        return torch.ones(shape)
    if ".experts." in name:
        return torch.stack([_normal(f"{name}.{e}", shape[1:], config, seed) for e in range(shape[0])])
    return _normal(name, shape, config, seed)


def _normal(name: str, shape: tuple[int, ...], config: ModelConfig, seed: int) -> Tensor:
    # Not torch's generator: it looks at 32 bits of a seed, and two of 13,000 experts would be twins one time in fifty.
    key = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=16).digest(), "little")
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values) * config.initializer_range


@torch.no_grad()
def initialize(model: CausalLM, seed: int) -> CausalLM:
    """Give every parameter its initial weight."""
    for name, parameter in model.named_parameters():
        parameter.copy_(initial_weight(name, tuple(parameter.shape), model.config, seed))
    return model
