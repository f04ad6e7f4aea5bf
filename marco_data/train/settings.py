"""What a run is decided by, and whether it can be run at all, before anything heavy is loaded.

In come a plan of data, a model's sizes, a schedule and the optimizer's constants; out comes a `Settings`, or a
RecipeError that says what does not fit. Needs no torch, so that a laptop can check what a cluster will run. Does not
know where a run lies, nor how its ranks share the work out.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from marco_data.errors import RecipeError
from marco_data.train.batches import iterations
from marco_data.train.config import ModelConfig
from marco_data.train.order import Plan
from marco_data.train.schedule import Schedule
from marco_data.train.spikes import SpikePolicy

BF16, FP32, FP64 = "bf16", "fp32", "fp64"
PRECISIONS = (BF16, FP32, FP64)


@dataclass(frozen=True)
class AdamSettings:
    """AdamW's, under its own names; `clip` is the highest norm that gradients keep."""

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"`{name}` is {getattr(self, name)}", hint="it has to be in [0, 1)")
        for name in ("eps", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"`{name}` is {getattr(self, name)}", hint="it has to be above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise RecipeError(f"`weight_decay` is {self.weight_decay}", hint="it has to be 0 or more")


@dataclass(frozen=True)
class Coefficients:
    """Of the losses that keep experts evenly used and the router's logits small."""

    aux: float = 0.001
    z: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What a run's numbers are decided by, beside its plan. `precision` is what is multiplied in; masters are fp32."""

    model: ModelConfig
    global_batch: int
    schedule: Schedule
    adam: AdamSettings = field(default_factory=AdamSettings)
    coefficients: Coefficients = field(default_factory=Coefficients)
    spikes: SpikePolicy = field(default_factory=SpikePolicy)
    expert_bias_rate: float = 0.0
    mask_documents: bool = False
    precision: str = BF16

    def identity(self) -> dict[str, Any]:
        return asdict(self)


def check_layout(config: ModelConfig, ranks: int, ep: int) -> None:
    """Refuse ranks that cannot share this model out, before any is started."""
    config.check_layout(ranks, ep)
    edp = ranks // ep
    if config.num_experts and (2 * config.moe_intermediate_size % edp or config.hidden_size % edp):
        raise RecipeError(
            f"experts of {config.hidden_size} x {config.moe_intermediate_size} cannot be cut into {edp} equal shards "
            f"({ranks} ranks, ep {ep})",
            hint=f"{edp} = ranks / ep has to divide `hidden_size` and twice `moe_intermediate_size`: change `--ep`",
        )


def check_memory(parts: Mapping[str, int], gigabytes: float) -> None:
    """Refuse a run whose parts in memory, in bytes, come to more than a GPU of so many GB has."""
    needed = sum(parts.values()) / 1e9
    if needed > gigabytes:
        largest = sorted(parts, key=lambda part: -parts[part])[:2]
        told = " and ".join(f"{parts[part] / 1e9:,.3g} GB for {part.replace('_', ' ')}" for part in largest)
        raise RecipeError(
            f"the run takes about {needed:,.3g} GB on each GPU, which has {gigabytes:,g}: {told}",
            hint="more GPUs share states, `--ep` the gathered experts; `--recompute` and a smaller `--micro-batch` "
            "take less for activations",
        )


def check_run(plan: Plan, settings: Settings, ranks: int, micro_batch: int) -> None:
    """Refuse what cannot work, before a GPU is asked for anything. Raises RecipeError."""
    if settings.precision not in PRECISIONS:
        raise RecipeError(f"no precision `{settings.precision}`", hint=f"there are {', '.join(PRECISIONS)}")
    if settings.global_batch % ranks:
        raise RecipeError(
            f"a global batch of {settings.global_batch} sequences cannot be dealt to {ranks} ranks",
            hint="the ranks have to divide it",
        )
    share = settings.global_batch // ranks
    if micro_batch < 1 or share % micro_batch:
        raise RecipeError(
            f"a rank has {share} sequences of each batch, which are no whole micro-batches of {micro_batch}",
            hint=f"`--micro-batch` has to divide {share}",
        )
    if plan.sequence > settings.model.max_position_embeddings:
        raise RecipeError(
            f"sequences of {plan.sequence:,} tokens, and the model has {settings.model.max_position_embeddings:,} "
            "positions",
            hint="shorten `sequence`",
        )
    for stage in plan.stages:
        if stage.blend.tokenizer["vocab_size"] > settings.model.vocab_size:
            raise RecipeError(
                f"stage {stage.stage} has {stage.blend.tokenizer['vocab_size']:,} token ids, the model "
                f"{settings.model.vocab_size:,}",
                hint="take a model with as large a vocabulary, or the tokenizer that it was made for",
            )
        if not iterations(stage, settings.global_batch):
            raise RecipeError(
                f"stage {stage.stage} has {stage.samples:,} samples, less than one global batch of "
                f"{settings.global_batch:,}",
                hint="a smaller `global_batch`, a shorter `sequence` or a larger stage",
            )
    if settings.schedule.tokens != stage_tokens(plan, settings.global_batch):
        raise RecipeError(
            f"the schedule is for stages of {settings.schedule.tokens} tokens, the plan has "
            f"{stage_tokens(plan, settings.global_batch)}",
            hint="make the schedule from `stage_tokens` of the plan",
        )


def stage_tokens(plan: Plan, global_batch: int) -> tuple[int, ...]:
    """The tokens that each stage trains on, in whole batches."""
    return tuple(iterations(stage, global_batch) * global_batch * plan.sequence for stage in plan.stages)
