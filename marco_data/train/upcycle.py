"""A mixture of experts made of a dense model: sub-matrices as experts, scaled, some neurons drawn anew.

In comes a dense Qwen3 folder and the sizes to make; out comes a Qwen3-MoE folder of the same vocabulary and attention,
and how far it is from the dense model. A layer is in memory at a time. Every weight is a function of the dense ones,
the settings and, for what is drawn, (seed, layer, expert) alone: a rank that makes its own experts only makes the same.

Drop-Upcycling, with one set of indices for an expert's three matrices: of its `width` inner neurons
round(drop * width) are chosen; their gate and up rows and down columns become normal values of the mean and the
standard deviation that these rows (or columns) together had, matrix by matrix, after scaling. So a neuron is drawn anew
altogether or not at all, and 1 - drop of them stay whole. (The method's published code chooses a set for each matrix,
which leaves (1 - drop) ** 3 of them whole.) What draws is numpy's default generator, seeded [seed, layer, 1, expert].
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from marco_data.errors import RecipeError
from marco_data.tokens import Shard
from marco_data.train.config import ModelConfig
from marco_data.train.divergence import Divergence, Walk, compare
from marco_data.train.hub import DOWN, GATE_UP, parameter_shapes
from marco_data.train.slices import Settings, Slices, cut
from marco_data.train.weights import HubFolder, HubWriter, copy_tokenizer, write_json

REPORT = "upcycle.json"


def dropped(settings: Settings, layer: int, expert: int, width: int) -> npt.NDArray[np.int64]:
    """The inner neurons of an expert that are drawn anew, ascending."""
    return _chosen(_draws(settings, layer, expert), round(settings.drop * width), width)


def router(settings: Settings, layer: int, config: ModelConfig, slices: Slices) -> Tensor:
    """A layer's router [experts, width] in fp32: normal values of `initializer_range`.

    `virtual_group`: one row for each copy, had by all its slices, so that whole copies are chosen.
    """
    draws = np.random.default_rng([settings.seed, layer, 0])
    rows = slices.copies if settings.router == "virtual_group" else config.num_experts
    drawn = draws.standard_normal((rows, config.hidden_size), dtype=np.float32) * np.float32(config.initializer_range)
    weight = torch.from_numpy(drawn)
    return weight.repeat_interleave(slices.slices, 0) if settings.router == "virtual_group" else weight


def experts_of(
    dense: tuple[Tensor, Tensor, Tensor],
    settings: Settings,
    layer: int,
    slices: Slices,
    experts: range,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """`gate_up_proj` and `down_proj` of some of a layer's experts, made of its gate, up and down matrices."""
    gate, up, down = dense
    width, model_width = slices.width, gate.shape[1]
    gate_up = torch.empty(len(experts), 2 * width, model_width, dtype=dtype)
    downs = torch.empty(len(experts), model_width, width, dtype=dtype)
    of_gate, of_up, of_down = slices.scales(settings.scale)
    for at, expert in enumerate(experts):
        part = slices.of(expert)
        # In fp32 whatever the weights are stored in: as multiplying them in place would round, and no coarser.
        own = gate[part].float() * of_gate, up[part].float() * of_up, down[:, part].float().T * of_down
        _draw_anew(own, settings, layer, expert)
        gate_up[at, :width], gate_up[at, width:], downs[at] = own[0], own[1], own[2].T
    return gate_up, downs


def upcycle(
    source: HubFolder,
    target: ModelConfig,
    out: Path,
    settings: Settings,
    *,
    dtype: torch.dtype | None = None,
    tokens: Tensor | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> Divergence:
    """Write the model to `out`; returns how far its predictions on `tokens` are from the dense model's."""
    slices = cut(source.config, target, settings.router)
    dtype = source.dtype if dtype is None else dtype
    tokens = probe_tokens(target.vocab_size) if tokens is None else tokens
    embedding = source.tensor("model.embed_tokens.weight")
    old, new = Walk(source.config, tokens, embedding), Walk(target, tokens, embedding.to(dtype))
    names = list(parameter_shapes(target))
    with HubWriter(out, target, dtype, tokens=source.special_tokens) as writer:
        writer.write(names[0], embedding)
        for layer in range(target.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            of_dense = _layer(source, prefix)
            made = _upcycled(of_dense, settings, layer, target, slices, dtype)
            for name in names:
                if name.startswith(prefix):
                    writer.write(name, made[name.removeprefix(prefix)])
            old.layer(of_dense)
            new.layer(made)
            told(f"layer {layer + 1} of {target.num_hidden_layers}")
        norm = source.tensor("model.norm.weight")
        writer.write("model.norm.weight", norm)
        output = embedding
        if not target.tie_word_embeddings:
            output = source.tensor("lm_head.weight")
            writer.write("lm_head.weight", output)
        divergence: Divergence = compare(old, new, norm, output)
        copy_tokenizer(source.folder, writer.partial, target.vocab_size)
        write_json(writer.partial / REPORT, _report(source, settings, slices, dtype))
    return divergence


def probe_tokens(vocab_size: int, sequences: int = 4, length: int = 128) -> Tensor:
    """Tokens to compare two models on where no text is given: drawn evenly, so rarer than those of any text."""
    drawn = np.random.default_rng(0).integers(0, vocab_size, (sequences, length))
    return torch.from_numpy(drawn)


def shard_tokens(prefix: str | Path, vocab_size: int, sequences: int = 4, length: int = 128) -> Tensor:
    """The first tokens of a shard, to compare two models on."""
    shard = Shard(prefix)
    found: list[npt.NDArray[np.integer]] = []
    for document in range(shard.documents):
        if sum(map(len, found)) >= sequences * length:
            break
        found.append(shard.read_document(document))
    ids = np.concatenate(found).astype(np.int64)[: sequences * length] if found else np.zeros(0, np.int64)
    if len(ids) < length:
        raise RecipeError(f"`{prefix}` has {len(ids)} tokens", hint=f"give a shard of at least {length}")
    if ids.max() >= vocab_size:
        hint = "the shard was made with another tokenizer"
        raise RecipeError(f"`{prefix}` has a token {ids.max():,}, the model's last is {vocab_size - 1:,}", hint=hint)
    return torch.from_numpy(ids[: len(ids) // length * length]).view(-1, length)


def _layer(source: HubFolder, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): source.tensor(name) for name in source.shapes if name.startswith(prefix)}


def _upcycled(
    dense: dict[str, Tensor], settings: Settings, layer: int, target: ModelConfig, slices: Slices, dtype: torch.dtype
) -> dict[str, Tensor]:
    kept = {name: tensor.to(dtype) for name, tensor in dense.items() if not name.startswith("mlp.")}
    matrices = dense["mlp.gate_proj.weight"], dense["mlp.up_proj.weight"], dense["mlp.down_proj.weight"]
    gate_up, down = experts_of(matrices, settings, layer, slices, range(target.num_experts), dtype)
    gate = router(settings, layer, target, slices).to(dtype)
    return kept | {"mlp.gate.weight": gate, GATE_UP: gate_up, DOWN: down}


def _draws(settings: Settings, layer: int, expert: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, layer, 1, expert])


def _chosen(draws: np.random.Generator, count: int, width: int) -> npt.NDArray[np.int64]:
    return np.sort(draws.permutation(width)[:count])


def _draw_anew(matrices: tuple[Tensor, Tensor, Tensor], settings: Settings, layer: int, expert: int) -> None:
    """Change neurons, which are rows of all three here, in place."""
    width = matrices[0].shape[0]
    count = round(settings.drop * width)
    if not count:
        return
    draws = _draws(settings, layer, expert)
    neurons = _chosen(draws, count, width)
    for matrix in matrices:
        values = matrix.numpy()
        old = values[neurons].astype(np.float64)
        new = draws.standard_normal(old.shape, dtype=np.float32)
        values[neurons] = new * np.float32(old.std()) + np.float32(old.mean())


def _report(source: HubFolder, settings: Settings, slices: Slices, dtype: torch.dtype) -> dict[str, Any]:
    # Not the divergence, whose last digits depend on how many threads a processor summed with.
    return {
        "settings": asdict(settings),
        "slices": slices.slices,
        "copies": slices.copies,
        "drawn_anew_per_expert": round(settings.drop * slices.width),
        "dtype": str(dtype).removeprefix("torch."),
        "dense_files": source.digests(),
    }
