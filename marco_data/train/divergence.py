"""How far one model is from another, layer by layer: never more than a layer of each is in memory.

In come two models' parameters, one layer after the other, and tokens; out come the Kullback-Leibler divergence of
what they predict next, how often their first choice is the same, and the largest difference of a logit. Does not know
why the models differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from marco_data.train.config import ModelConfig
from marco_data.train.model import Decoder

ROWS = 64
"""Predictions compared at once: 64 x 151,936 logits of each model are 160 MB in fp64."""


@dataclass(frozen=True)
class Divergence:
    """Means over `predictions`; `kl` in nats, of the second model from the first."""

    kl: float
    same_first_choice: float
    largest_difference: float
    predictions: int


class _Given(nn.Module):
    """Stands where an embedding would: gives what the layer before has made."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hidden


class Walk:
    """One model's hidden states of the tokens, after as many layers as it has been given. Computed in fp32."""

    def __init__(self, config: ModelConfig, tokens: Tensor, embedding: Tensor) -> None:
        self.config = replace(config, num_hidden_layers=1)
        self.tokens = tokens
        self.hidden = F.embedding(tokens, embedding).float()

    @torch.no_grad()
    def layer(self, parameters: Mapping[str, Tensor]) -> None:
        """Go through a layer; names begin behind `model.layers.N.`."""
        with torch.device("meta"):
            decoder = Decoder(self.config, implementation="loop", balance_by_bias=False)
        decoder.layers[0].load_state_dict({key: value.float() for key, value in parameters.items()}, assign=True)
        decoder.embed_tokens = _Given(self.hidden)
        decoder.norm = nn.Identity()
        self.hidden, _ = decoder(self.tokens, None)

    def normed(self, weight: Tensor) -> Tensor:
        """[predictions, width], ready for the output layer."""
        scaled = self.hidden * torch.rsqrt(self.hidden.square().mean(-1, keepdim=True) + self.config.rms_norm_eps)
        return (scaled * weight.float()).flatten(0, 1)


@torch.no_grad()
def compare(first: Walk, second: Walk, norm: Tensor, output: Tensor) -> Divergence:
    """Of two models that have gone through all their layers and share their last norm and output layer."""
    weight = output.float()
    kl = same = largest = 0.0
    of, to = first.normed(norm), second.normed(norm)
    for one, other in zip(of.split(ROWS), to.split(ROWS), strict=True):
        logits, others = F.linear(one, weight).double(), F.linear(other, weight).double()
        expected = logits.log_softmax(-1)
        kl += float((expected.exp() * (expected - others.log_softmax(-1))).sum())
        same += float((logits.argmax(-1) == others.argmax(-1)).sum())
        largest = max(largest, float((logits - others).abs().max()))
    return Divergence(kl / len(of), same / len(of), largest, len(of))
