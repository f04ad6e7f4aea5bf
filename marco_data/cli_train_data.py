"""`why --iteration`: the documents of a training batch, for the command `why`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from marco_data.errors import RecipeError
from marco_data.stage import Stage
from marco_data.storage import Storage
from marco_data.train.order import SEED, STABLE
from marco_data.why import inert
from marco_data.why_iteration import Settings, batch_documents, settings_of_run

IterationNumber = Annotated[
    int | None, typer.Option("--iteration", min=1, help="Instead: the documents of this training batch of the stage.")
]
Run = Annotated[Path | None, typer.Option("--run", help="With --iteration: a training run's folder, or a checkpoint.")]
SequenceLength = Annotated[int | None, typer.Option("--sequence", min=1, help="With --iteration: tokens of a sample.")]
BatchSize = Annotated[int | None, typer.Option("--batch", min=1, help="With --iteration: samples of a global batch.")]
OrderName = Annotated[
    str | None, typer.Option("--order", help=f"With --iteration: `{STABLE}` (default) or `megatron`.")
]
OrderSeed = Annotated[int | None, typer.Option("--seed", help=f"With --iteration: the run's seed; default {SEED}.")]


def settings(
    run: Path | None, sequence: int | None, batch: int | None, order: str | None, seed: int | None
) -> Settings:
    """What the options say, over what a run says of itself."""
    if run is not None:
        known = settings_of_run(run)
        # A run may change its batch size on the way, and nothing else.
        if (sequence, order, seed) != (None, None, None):
            raise RecipeError("--run says --sequence, --order and --seed itself", hint="leave them out")
        return known if batch is None else replace(known, batch=batch)
    if sequence is None or batch is None:
        raise RecipeError(
            "a batch depends on sequence length and global batch size", hint="--run FOLDER, or --sequence N --batch N"
        )
    return Settings(sequence, batch, SEED if seed is None else seed, order or STABLE)


def print_batch(stage: Stage, storage: Storage, number: int, known: Settings, *, json_output: bool) -> None:
    """A line a document: sample, id, language, where it lies, and how much of it is in the batch."""
    for document in batch_documents(stage, storage, number, known):
        if json_output:
            print(json.dumps(asdict(document), ensure_ascii=False))
            continue
        name = inert((document.source_id or document.url or document.id).encode())
        end = document.offset + document.tokens
        place = f"{document.prefix} {document.document}"
        print(
            f"{document.sample} {name} {document.language} {document.part}/{document.source} "
            f"{place} {document.offset}-{end} of {document.length}"
        )
