"""A model's sizes, and what follows from them by arithmetic.

In come the numbers of a Qwen3 or Qwen3-MoE model under the names that Hugging Face gives them; out come parameters,
FLOPs of a training step and bytes on a GPU. Needs no torch. Does not know the optimizer's settings, the schedule or
the machine; how fast a GPU is, it does not know either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from marco_data.errors import RecipeError

STATE_BYTES = 16
"""Per parameter: fp32 master weight, its gradient and Adam's two moments, four bytes each."""

GROUP_ALIGNMENT = 8
"""Rows of an expert are a multiple of this on a GPU: 16 bytes of bf16, which grouped GEMM asks of every operand."""

CHUNK_TOKENS = 2048
"""Rows of logits that exist at once: 2,048 x 151,936 in fp32 are 1.2 GB, and twice that while the loss is taken."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of a decoder; `num_experts` 0 is the dense model."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    moe_intermediate_size: int = 0
    num_experts: int = 0
    num_experts_per_tok: int = 0
    norm_topk_prob: bool = True
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    max_position_embeddings: int = 32_768
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        for name in (*sizes, "head_dim", "intermediate_size", "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise RecipeError(f"the model's `{name}` is {getattr(self, name)}", hint="it has to be at least 1")
        if self.num_attention_heads % self.num_key_value_heads:
            raise RecipeError(
                f"{self.num_attention_heads} attention heads do not share {self.num_key_value_heads} key-value heads",
                hint="`num_attention_heads` has to be a multiple of `num_key_value_heads`",
            )
        if self.head_dim % 2:
            raise RecipeError(f"the model's `head_dim` is {self.head_dim}", hint="rotary positions need an even one")
        if self.num_experts and not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise RecipeError(
                f"the router chooses {self.num_experts_per_tok} of {self.num_experts} experts",
                hint="`num_experts_per_tok` has to be between 1 and `num_experts`",
            )
        if self.num_experts and self.moe_intermediate_size < 1:
            raise RecipeError(
                f"an expert's `moe_intermediate_size` is {self.moe_intermediate_size}",
                hint="it has to be at least 1 where `num_experts` is",
            )

    def parameters(self) -> int:
        """All parameters; embeddings that are also the output layer count once."""
        layers = self.num_hidden_layers * (self._attention() + 2 * self.hidden_size + self._feed_forward(whole=True))
        return self._embedding() * (1 if self.tie_word_embeddings else 2) + layers + self.hidden_size

    def active_parameters(self) -> int:
        """Parameters that one token meets: the chosen experts only, and the whole router and embedding."""
        idle = self.num_experts - self.num_experts_per_tok
        return self.parameters() - self.num_hidden_layers * idle * self._expert()

    def flops_per_token(self, seq: int, *, causal: bool = True) -> int:
        """Of one training step, forward and backward, without recomputation.

        3 x (2 x weights of every matrix product a token takes part in + layers x 4 x heads x head_dim x keys), where
        keys is seq/2 with `causal` (what a token sees on average) and seq without (what a kernel that does not skip the
        masked half computes). Weights: attention, router, chosen experts and the output layer; not the
        embedding's look-up, and not the norms. 3: one product forward, two backward.
        """
        weights = self.num_hidden_layers * (self._attention_weights() + self._feed_forward(whole=False))
        weights += self._embedding()
        attention = self.num_hidden_layers * 4 * self.num_attention_heads * self.head_dim * seq
        return 3 * (2 * weights + (attention // 2 if causal else attention))

    def expert_parameters(self) -> int:
        """Parameters of all experts of all layers: what expert parallelism shares out."""
        return self.num_hidden_layers * self.num_experts * self._expert()

    def memory_parts(
        self, *, dp: int, ep: int = 1, tokens: int = 4096, recompute: bool = True, state_bytes: int = STATE_BYTES
    ) -> dict[str, int]:
        """Bytes on one GPU by what they are for; `tokens` are those of one micro-batch.

        `dp` are all ranks, over which FSDP shards weights, gradients and optimizer states; `ep` divides `dp`, and a
        rank gathers the experts of its own share only. An estimate for bf16: the allocator's waste, communication
        buffers and the kernels' own space are not in it, and routing is taken to be balanced.
        """
        self.check_layout(dp, ep)
        experts = self.num_experts * self._expert() // ep
        others = self._attention() + 2 * self.hidden_size + self._feed_forward(whole=True) - ep * experts
        embeddings = self._embedding() * (1 if self.tie_word_embeddings else 2)
        # Two layers are gathered at once (the next while this one computes), and one layer's gradients are whole
        # until they are scattered; the embedding and the output layer stay gathered from forward to backward.
        gathered = 2 * (2 * (experts + others) + embeddings)
        gradients = 2 * (experts + others + embeddings)
        layer = 2 * tokens * self.activation_values()
        boundaries = 2 * tokens * self.hidden_size * self.num_hidden_layers
        return {
            "states": -(-self.parameters() * state_bytes // dp),
            "gathered_weights": gathered,
            "whole_gradients": gradients,
            "activations": boundaries + layer if recompute else self.num_hidden_layers * layer,
            # Logits of a chunk and their gradient in fp32, and the output layer's gradient, summed in fp32.
            "loss": 2 * 4 * min(tokens, CHUNK_TOKENS) * self.vocab_size + 4 * self._embedding(),
        }

    def memory_bytes_per_gpu(
        self, *, dp: int, ep: int = 1, tokens: int = 4096, recompute: bool = True, state_bytes: int = STATE_BYTES
    ) -> int:
        """Sum of `memory_parts`."""
        parts = self.memory_parts(dp=dp, ep=ep, tokens=tokens, recompute=recompute, state_bytes=state_bytes)
        return sum(parts.values())

    def activation_values(self) -> int:
        """Values that one layer keeps per token from its forward to its backward pass."""
        width, heads = self.hidden_size, self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        # Per norm its input in the model's own precision and normalised in fp32 (two bf16 values); queries and keys
        # before their norm, in fp32 and rotated, values, and attention's output.
        attention = 3 * width + 5 * (heads + keys) + keys + heads
        if not self.num_experts:
            return attention + 3 * width + 4 * self.intermediate_size
        rows = self.num_experts_per_tok
        # Per chosen expert a copy of the input, gate and up (their product is computed again) and the output; in
        # fp32 the router's logits and probabilities.
        return attention + 3 * width + rows * (2 * width + 2 * self.moe_intermediate_size) + 4 * self.num_experts

    def check_layout(self, dp: int, ep: int) -> None:
        """Refuse ranks that cannot share this model out."""
        if dp < 1 or ep < 1 or dp % ep:
            raise RecipeError(
                f"expert parallelism over {ep} does not divide {dp} ranks", hint="`ep` has to divide the ranks"
            )
        if ep > 1 and (not self.num_experts or self.num_experts % ep):
            raise RecipeError(
                f"{self.num_experts} experts cannot be shared out over {ep} ranks",
                hint="`ep` has to divide `num_experts`; a dense model has none, so there it is 1",
            )

    def _embedding(self) -> int:
        return self.vocab_size * self.hidden_size

    def _attention_weights(self) -> int:
        return 2 * self.hidden_size * self.head_dim * (self.num_attention_heads + self.num_key_value_heads)

    def _attention(self) -> int:
        return self._attention_weights() + 2 * self.head_dim

    def _expert(self) -> int:
        return 3 * self.hidden_size * self.moe_intermediate_size

    def _feed_forward(self, *, whole: bool) -> int:
        if not self.num_experts:
            return 3 * self.hidden_size * self.intermediate_size
        used = self.num_experts if whole else self.num_experts_per_tok
        return self.num_experts * self.hidden_size + used * self._expert()


_QWEN3_06B = ModelConfig(
    vocab_size=151_936,
    hidden_size=1024,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=3072,
)


def _with_experts(dense: ModelConfig, *, experts: int, width: int, chosen: int) -> ModelConfig:
    return replace(dense, num_experts=experts, moe_intermediate_size=width, num_experts_per_tok=chosen)


_TINY = ModelConfig(
    vocab_size=512,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    intermediate_size=192,
    max_position_embeddings=2048,
)

CONFIGS: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "qwen3-0.6b": _QWEN3_06B,
        "marco-nano": _with_experts(_QWEN3_06B, experts=232, width=384, chosen=8),
        "marco-mini": _with_experts(_QWEN3_06B, experts=256, width=768, chosen=8),
        "tiny": _TINY,
        "tiny-moe": _with_experts(_TINY, experts=16, width=48, chosen=8),
    }
)
"""Models by name. An expert's width divides the dense one's, so that a dense model can be cut into slices."""


def config_named(name: str) -> ModelConfig:
    """The model of that name."""
    if name not in CONFIGS:
        raise RecipeError(f"no model is called `{name}`", hint=f"there are {', '.join(CONFIGS)}")
    return CONFIGS[name]
