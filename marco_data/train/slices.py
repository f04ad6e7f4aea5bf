"""How a dense feed-forward layer is cut into experts, and what else upcycling is told: without weights.

In come the sizes of a dense model and of a mixture of experts; out come the number of slices and of copies, or what
does not fit. Expert e holds slice e % slices of the dense layer's inner dimension, so experts c * slices ...
(c + 1) * slices - 1 are copy c of the whole layer. That is also Megatron's order.
"""

from dataclasses import dataclass
from typing import Literal, cast

from marco_data.errors import RecipeError
from marco_data.train.config import ModelConfig

Scale = Literal["recipe", "exact"]
RouterStart = Literal["virtual_group", "random"]

_SHARED = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "rope_theta", "rms_norm_eps", "tie_word_embeddings"),
)
"""What upcycling does not change, so both models have to have it alike."""


@dataclass(frozen=True)
class Settings:
    """How to upcycle. Marco says neither its drop ratio nor its router's start; the method's paper found 0.5 best."""

    scale: Scale = "recipe"
    router: RouterStart = "virtual_group"
    drop: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("scale", ("recipe", "exact")), ("router", ("virtual_group", "random"))):
            if getattr(self, name) not in known:
                raise RecipeError(f"`{name}` is `{getattr(self, name)}`", hint=f"it is one of {', '.join(known)}")
        if not 0 <= self.drop <= 1:
            raise RecipeError(f"`drop` is {self.drop}", hint="a share of each expert's neurons, from 0 to 1")
        if self.seed < 0:
            raise RecipeError(f"`seed` is {self.seed}", hint="it has to be 0 or more")


def settings_of(scale: str, router: str, drop: float, seed: int) -> Settings:
    """From words of the user's."""
    return Settings(cast(Scale, scale), cast(RouterStart, router), drop, seed)


@dataclass(frozen=True)
class Slices:
    """`slices` x `copies` experts, each `width` wide."""

    slices: int
    copies: int
    width: int

    def of(self, expert: int) -> slice:
        """The part of the dense layer's inner dimension that an expert starts from."""
        start = expert % self.slices * self.width
        return slice(start, start + self.width)

    def scales(self, scale: Scale) -> tuple[float, float, float]:
        """What gate, up and down are multiplied by.

        The chosen experts are averaged where the dense layer's slices are summed, so an expert's output has to be
        `slices` times a slice's. `recipe`, as Marco and NVIDIA have it: the cube root on all three, which SiLU keeps
        from being exact (silu(s g) is not s silu(g)). `exact`: gate as it was, the square root on up and down.
        """
        if scale == "recipe":
            third = self.slices ** (1 / 3)
            return third, third, third
        root = self.slices**0.5
        return 1.0, root, root


def cut(dense: ModelConfig, sparse: ModelConfig, router: RouterStart) -> Slices:
    """How `sparse` is made of `dense`; a RecipeError names what does not fit."""
    if dense.num_experts:
        raise RecipeError("the model to start from has experts already", hint="give a dense Qwen3 model")
    if not sparse.num_experts:
        raise RecipeError(
            "the model to make has no experts", hint="give a model with `num_experts`, such as marco-nano"
        )
    unlike = [key for key in _SHARED if getattr(dense, key) != getattr(sparse, key)]
    if unlike:
        told = "; ".join(f"`{key}` {getattr(dense, key)} and {getattr(sparse, key)}" for key in unlike)
        hint = "only the feed-forward layers change; the first number is the dense model's"
        raise RecipeError(f"the two models differ in more than experts: {told}", hint=hint)
    whole, width, experts = dense.intermediate_size, sparse.moe_intermediate_size, sparse.num_experts
    if whole % width:
        raise RecipeError(
            f"a feed-forward layer {whole} wide cannot be cut into experts {width} wide",
            hint="`moe_intermediate_size` has to divide the dense model's `intermediate_size`",
        )
    slices = whole // width
    if experts % slices:
        raise RecipeError(
            f"{experts} experts are no whole number of copies of {slices} slices",
            hint=f"`num_experts` has to be a multiple of {slices}, which is {whole} / {width}",
        )
    if not sparse.norm_topk_prob:
        raise RecipeError(
            "the chosen experts' weights do not sum to 1, so no scale of the slices fits every token",
            hint="set `norm_topk_prob` to true: softmax over the chosen experts alone",
        )
    if router == "virtual_group" and sparse.num_experts_per_tok % slices:
        raise RecipeError(
            f"the router chooses {sparse.num_experts_per_tok} experts, which is no whole number of groups of {slices}",
            hint=f"choose a multiple of {slices} experts (`num_experts_per_tok`), or start with --router random",
        )
    return Slices(slices, experts // slices, width)
