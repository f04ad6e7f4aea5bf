"""What a run would train on, said before a GPU is taken.

In: the stages' blends and the run's sequence length and global batch size. Out: a `DataReport`: iterations, tokens,
shares and epochs by source, what is left over, and warnings. Every shard is checked on the way (see `blend`), so that
what is wrong with the data stops here, with RecipeError. Knows nothing of models beyond their tokenizer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marco_data.errors import RecipeError
from marco_data.train.batches import iterations
from marco_data.train.blend import load_blend
from marco_data.train.order import SEED, STABLE, MegatronOrder, Plan, StagePlan, plan_stages

MANY_EPOCHS = 4  # beyond about four, repeated tokens are worth ever less (arXiv 2305.16264)


@dataclass(frozen=True)
class SourceRow:
    """One source of a stage: the tokens its shards hold, those that are drawn, and their share of the stage."""

    language: str
    part: str
    source: str
    held: int
    drawn: int
    epochs: float
    share: float


@dataclass(frozen=True)
class StageRow:
    """One stage: `left_tokens` are in no sample (less than one sample), `left_samples` in no global batch."""

    stage: int
    family: str
    path: str
    shards: int
    tokens: int
    samples: int
    iterations: int
    left_tokens: int
    left_samples: int
    sources: tuple[SourceRow, ...]


@dataclass(frozen=True)
class DataReport:
    """`plan` is the digest that a checkpoint's state has to agree with."""

    plan: str
    order: str
    sequence: int
    batch: int
    iterations: int
    tokens: int
    tokenizer: Mapping[str, Any]
    stages: tuple[StageRow, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_data(
    paths: Sequence[str | Path],
    *,
    sequence: int,
    batch: int,
    order: str = STABLE,
    seed: int = SEED,
    samples: Mapping[int, int] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    verify: bool = False,
    indexes: Path | None = None,
) -> tuple[Plan, DataReport]:
    """Check the shards of the stages in `paths` (blend.json files, or their folders) and say what a run would see.

    `indexes` is where copies of the indexes of shards elsewhere are kept.
    """
    blends = [load_blend(path, verify=verify, indexes=indexes) for path in paths]
    plan = plan_stages(blends, sequence=sequence, seed=seed, order=order, samples=samples, tokenizer=tokenizer)
    stages = tuple(_stage_row(plan, stage, batch) for stage in plan.stages)
    for row in stages:
        if row.iterations == 0:
            raise RecipeError(
                f"stage {row.stage} has {row.samples:,} samples of {sequence:,} tokens: no global batch of {batch:,}",
                hint="make the global batch or the sequence smaller, or build a larger stage",
            )
    report = DataReport(
        plan=plan.digest,
        order=order,
        sequence=sequence,
        batch=batch,
        iterations=sum(row.iterations for row in stages),
        tokens=sum(row.iterations for row in stages) * batch * sequence,
        tokenizer=dict(blends[0].tokenizer),
        stages=stages,
        warnings=tuple(_warnings(plan, stages)),
    )
    return plan, report


def planned_tokens(stage: StagePlan) -> dict[int, int]:
    """Input tokens of a stage's samples by source number; what is left over of the stage is in its sources' too."""
    found: Counter[int] = Counter()
    if isinstance(stage.order, MegatronOrder):
        counts = np.bincount(stage.order.blend.shards, minlength=len(stage.sources)).tolist()
        drawn = [count * stage.sequence for count in counts]
    else:
        drawn = [entry.drawn for entry in stage.blend.entries]
    for source, tokens in zip(stage.sources, drawn, strict=True):
        found[source] += tokens
    return dict(found)


def _stage_row(plan: Plan, stage: StagePlan, batch: int) -> StageRow:
    held: Counter[int] = Counter()
    for source, entry in zip(stage.sources, stage.blend.entries, strict=True):
        held[source] += entry.tokens
    planned = planned_tokens(stage)
    total = sum(planned.values())
    rows = [
        SourceRow(*plan.sources[n], held[n], planned[n], planned[n] / held[n], planned[n] / total)
        for n in sorted(planned)
    ]
    return StageRow(
        stage=stage.stage,
        family=stage.blend.family,
        path=str(stage.blend.path),
        shards=len(stage.blend.entries),
        tokens=stage.blend.drawn,
        samples=stage.samples,
        iterations=iterations(stage, batch),
        left_tokens=stage.left,
        left_samples=stage.samples % batch,
        sources=tuple(rows),
    )


def _warnings(plan: Plan, stages: Sequence[StageRow]) -> list[str]:
    found = []
    for stage in plan.stages:
        if stage.blend.waivers:
            found.append(f"stage {stage.stage} was built without {', '.join(stage.blend.waivers[:3])}: waived")
    for row in stages:
        often = [source for source in row.sources if source.epochs > MANY_EPOCHS]
        if often:
            worst = max(often, key=lambda source: source.epochs)
            found.append(
                f"stage {row.stage} sees {len(often)} sources more than {MANY_EPOCHS} times; {worst.language} "
                f"{worst.part}/{worst.source} {worst.epochs:.1f} times"
            )
    return found
