"""From a training recipe to a run: the page to read before training.

A `train.yaml` says what is trained on what, and how: model, sequence, global batch, schedule in tokens. It says nothing
of GPUs, ranks or folders; those are the command line's, and the same recipe trains the same run on any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from marco_data.errors import RecipeError
from marco_data.mix import parse_tokens
from marco_data.train.config import CONFIGS, ModelConfig
from marco_data.train.data_check import DataReport, check_data
from marco_data.train.hub import check_initial, config_of
from marco_data.train.order import MEGATRON, SEED, Plan
from marco_data.train.schedule import Piece, Schedule
from marco_data.train.settings import AdamSettings, Coefficients, Settings, check_layout, check_memory, check_run
from marco_data.train.spikes import SpikePolicy
from marco_data.yaml_lines import explain, read_yaml

Tokens = Annotated[int, BeforeValidator(parse_tokens)]
Rate = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PieceSection(_Section):
    """What the learning rate does in a stage."""

    shape: Literal["constant", "linear", "cosine"] = "constant"
    to: Rate | None = None


class ScheduleSection(_Section):
    """The learning rate; stages that are not named keep the rate they begin with."""

    peak: Annotated[float, Field(gt=0)]
    warmup: Tokens | Literal[0] = 0
    stages: dict[Annotated[int, Field(ge=1, le=9)], PieceSection] = {}


class OptimizerSection(_Section):
    """AdamW's constants, and the highest norm of gradients."""

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0


class RouterSection(_Section):
    """What keeps experts evenly used."""

    aux: Rate = 0.01
    z: Rate = 0.0
    bias_rate: Rate = 0.0


class SpikeSection(_Section):
    """What a loss spike is, and what is done about it."""

    deviations: float = 10.0
    window: int = 64
    action: Literal["report", "skip"] = "report"
    most_skipped: int = 10


class TrainRecipe(_Section):
    """A `train.yaml`."""

    description: str = ""
    model: str
    sequence: Annotated[int, Field(ge=1)]
    global_batch: Annotated[int, Field(ge=1)]
    schedule: ScheduleSection
    optimizer: OptimizerSection = OptimizerSection()
    router: RouterSection = RouterSection()
    spikes: SpikeSection = SpikeSection()
    precision: Literal["bf16", "fp32"] = "bf16"
    mask_documents: bool = False
    order: Literal["stable", "megatron"] = "stable"
    seed: int = SEED


@dataclass(frozen=True)
class PlannedRun:
    """A run that can be started: all of it was checked, and nothing of it needs torch."""

    plan: Plan
    data: DataReport
    settings: Settings
    memory: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        model = self.settings.model
        tokens = sum(self.settings.schedule.tokens)
        return {
            "settings": asdict(self.settings),
            "data": self.data.to_json(),
            "parameters": model.parameters(),
            "active_parameters": model.active_parameters(),
            "flops_per_token": model.flops_per_token(self.plan.sequence),
            "flops": model.flops_per_token(self.plan.sequence) * tokens,
            "memory_bytes_per_gpu": sum(self.memory.values()),
            "memory_bytes": dict(self.memory),
        }


def load_train_recipe(path: Path) -> TrainRecipe:
    """Read and check a `train.yaml`; what is wrong is told with file, line and key.

    Its `model` is a name, or the path of a config.json or of the folder of one, relative to the recipe's own folder.
    """
    values, lines = read_yaml(path, a="training recipe", hint="give --recipe FILE, or a family that has a train.yaml")
    model = values.get("model")
    if isinstance(model, str) and model not in CONFIGS:  # then it is a file, and beside the recipe
        values["model"] = str(path.parent / Path(model).expanduser())
    try:
        return TrainRecipe.model_validate(values)
    except ValidationError as error:
        raise explain(error, TrainRecipe, path, {key: (path, line) for key, line in lines.items()}) from None


def train_stage(
    recipe: TrainRecipe,
    blends: Sequence[Path | str],
    *,
    ranks: int = 1,
    ep: int = 1,
    micro_batch: int = 1,
    recompute: bool = False,
    verify: bool = False,
    initial: Path | None = None,
    gpu_memory: float | None = None,
    indexes: Path | None = None,
) -> PlannedRun:
    """The run of a recipe over built stages, in the order given. Raises RecipeError for what cannot be run.

    `initial` are weights to begin with, `gpu_memory` the GB (1e9 bytes) that a GPU has; `indexes` is where copies of
    the indexes of shards elsewhere are kept.
    """
    if recipe.order == MEGATRON and recipe.mask_documents:
        raise RecipeError(
            "`order: megatron` with `mask_documents: true`",
            hint="Megatron's order is there to repeat a Megatron run, which masks no documents unless told to",
        )
    model = config_of(recipe.model)
    tokenizer = None if initial is None else check_initial(initial, model)
    plan, data = check_data(
        blends,
        sequence=recipe.sequence,
        batch=recipe.global_batch,
        order=recipe.order,
        seed=recipe.seed,
        tokenizer=tokenizer,
        verify=verify,
        indexes=indexes,
    )
    settings = settings_of(recipe, model, data)
    check_run(plan, settings, ranks, micro_batch)
    check_layout(model, ranks, ep)
    memory = model.memory_parts(dp=ranks, ep=ep, tokens=micro_batch * recipe.sequence, recompute=recompute)
    if gpu_memory is not None:
        check_memory(memory, gpu_memory)
    return PlannedRun(plan, data, settings, memory)


def settings_of(recipe: TrainRecipe, model: ModelConfig, data: DataReport) -> Settings:
    """The settings of a run over the stages of `data`."""
    pieces = [recipe.schedule.stages.get(stage.stage, PieceSection()) for stage in data.stages]
    return Settings(
        model=model,
        global_batch=recipe.global_batch,
        schedule=Schedule(
            peak=recipe.schedule.peak,
            warmup=recipe.schedule.warmup,
            pieces=tuple(Piece(piece.shape, piece.to) for piece in pieces),
            tokens=tuple(stage.iterations * recipe.global_batch * recipe.sequence for stage in data.stages),
        ),
        adam=AdamSettings(**recipe.optimizer.model_dump()),
        coefficients=Coefficients(recipe.router.aux, recipe.router.z),
        spikes=SpikePolicy(**recipe.spikes.model_dump()),
        expert_bias_rate=recipe.router.bias_rate,
        mask_documents=recipe.mask_documents,
        precision=recipe.precision,
    )
