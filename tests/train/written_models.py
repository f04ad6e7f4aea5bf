"""Small models on disk, with weights far enough from zero for every part to tell in the logits."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marco_data.train.config import ModelConfig
from marco_data.train.hub import parameter_shapes
from marco_data.train.model import CausalLM
from marco_data.train.weights import HubFolder, HubWriter, Weights

TOKENIZER = '{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<end>"}]}'


def random_state(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in parameter_shapes(config).items():
        noise = torch.randn(shape, generator=generator) * 0.1
        state[name] = (noise if len(shape) > 1 else 1 + noise).to(dtype)
    return state


def write_model(folder: Path, config: ModelConfig, *, dtype: torch.dtype = torch.float32, **options: Any) -> HubFolder:
    state = random_state(config)
    with HubWriter(folder, config, dtype, tokens={"eos_token_id": 2}, **options) as writer:
        for name, tensor in state.items():
            writer.write(name, tensor)
    (folder / "tokenizer.json").write_text(TOKENIZER)
    return HubFolder(folder)


def model_of(weights: Weights) -> CausalLM:
    model = CausalLM(weights.config)
    model.load_state_dict({name: weights.tensor(name).float() for name in parameter_shapes(weights.config)})
    return model


def tokens_of(config: ModelConfig, *shape: int) -> Tensor:
    return torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(1))
