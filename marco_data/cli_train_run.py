"""The command `train`: a model trained on built stages, by as many processes as are started."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from marco_data.catalog import families
from marco_data.cli_build import say
from marco_data.errors import RecipeError
from marco_data.options import Family, Json, Root, Verify
from marco_data.stage import find_stage
from marco_data.storage import Storage

PIPELINE = "pipelines.train_stage"


def train(
    stages: Annotated[str, typer.Argument(help="A stage, or several in their order: 3, 1-4, 1,3.")],
    family: Family = "sample",
    recipe: Annotated[Path | None, typer.Option(help="A training recipe; default: the family's train.yaml.")] = None,
    root: Root = "./marco-out",
    out: Annotated[Path | None, typer.Option(help="The run's folder; default: in --root, training/.")] = None,
    initial: Annotated[
        Path | None,
        typer.Option(help="A Hugging Face folder to begin with, as `upcycle` writes; default: from scratch."),
    ] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Processes to start here, one a GPU.")] = 1,
    ranks: Annotated[int | None, typer.Option(min=1, help="With --dry-run: GPUs in all; default: --nproc.")] = None,
    ep: Annotated[int, typer.Option(min=1, help="GPUs that share out the experts.")] = 1,
    micro_batch: Annotated[int, typer.Option(min=1, help="Sequences at once on one GPU.")] = 1,
    recompute: Annotated[bool, typer.Option(help="Compute activations again in the backward pass.")] = False,
    compile: Annotated[bool, typer.Option(help="Compile layers (of sparse ones, attention).")] = False,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Iterations.")] = 1000,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints that stay.")] = 3,
    log_every: Annotated[int, typer.Option(min=1, help="Iterations.")] = 10,
    signatures_every: Annotated[
        int, typer.Option(min=0, help="Iterations between counts of each language's experts; 0: never.")
    ] = 0,
    peak_flops: Annotated[
        float | None, typer.Option(help="FLOP/s of one GPU, for MFU; known for A100, H100 and H200.")
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0, help="GB of one GPU: refuse what takes more, by estimate.")
    ] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="End after so many iterations, to go on later.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check data, layout and schedule; train nothing.")] = False,
    verify: Verify = False,
    json_output: Json = False,
) -> None:
    """Train on built stages, or go on where the run stopped. Under torchrun, this process is one rank.

    Example:  marco-data train 3 --nproc 2 --ep 2
    """
    started = "RANK" in os.environ
    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ["WORLD_SIZE"]) if started else (ranks if dry_run and ranks else nproc)
    try:
        if out is None and Storage(root).local("") is None:
            raise RecipeError(
                f"`{root}` is not on a disk, and checkpoints are written to one",
                hint="--out FOLDER, on a disk that every machine of the run sees; indexes of shards are kept there too",
            )
        folder = out or Path(root) / "training" / f"{family}-{stages.replace(',', '-')}"
        begun = any(not path.suffix for path in folder.glob("iteration-*"))  # `.partial` ones begin nothing
        planned = _planned(
            stages,
            family,
            recipe,
            root,
            ranks=world,
            ep=ep,
            micro_batch=micro_batch,
            recompute=recompute,
            verify=verify,
            initial=None if begun else initial,
            gpu_memory=gpu_memory,
            indexes=folder / "indexes",
        )
        has_torch = importlib.util.find_spec("torch") is not None
        if begun and has_torch and not started:  # torch takes seconds, which a run that begins is spared
            from marco_data.train.loop import check_resumable

            check_resumable(folder, planned.plan, planned.settings)
        if dry_run:
            if begun and not has_torch:
                say(f"warning: the checkpoints in `{folder}` are not checked: that needs torch")
            _print(planned, folder, world, ep, json_output)
            return
        if not has_torch:
            raise RecipeError("the trainer needs torch", hint="uv pip install -c constraints.txt -e '.[train]'")
        if not started and nproc > 1:
            launch = [
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                str(nproc),
                "-m",
                "marco_data.cli",
            ]
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, *launch, *_without_nproc(sys.argv[1:])])
        from marco_data.train.loop import Running
        from marco_data.train.parallel import end_process
        from marco_data.train.start import start

        running = Running(
            folder=folder,
            micro_batch=micro_batch,
            recompute=recompute,
            compile=compile,
            checkpoint_every=checkpoint_every,
            keep=keep,
            log_every=log_every,
            signatures_every=signatures_every,
            peak_flops=peak_flops,
            stop_after=stop_after,
        )
        ended = start(planned.plan, planned.settings, running, ep, initial, say if rank == 0 else _nothing)
    except RecipeError:
        if rank:  # the same on every rank, and rank 0 says it
            raise typer.Exit(2) from None
        raise
    if rank == 0:
        said = {"folder": str(folder), **ended._asdict()}
        state = "done" if ended.finished else "stopped; the same command goes on"
        print(json.dumps(said) if json_output else f"{folder}: iteration {ended.iteration:,}, {state}")
    end_process()


def stage_numbers(text: str) -> list[int]:
    """`3`, `1-4` or `1,3` as numbers."""
    found: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RecipeError(f"`{text}` names no stages", hint="write 3, 1-4 or 1,3")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise RecipeError(f"`{text}` names no stages", hint="write 3, 1-4 or 1,3")
    return found


def _planned(stages: str, family: str, recipe: Path | None, root: str, *, verify: bool, **running: Any) -> Any:
    pipeline = importlib.import_module(PIPELINE)
    file = recipe
    if file is None:
        known = families()
        if family not in known:
            raise RecipeError(f"no recipe family `{family}`", hint=f"families: {', '.join(known)}; or --recipe FILE")
        file = known[family] / "train.yaml"
    values = pipeline.load_train_recipe(file)
    storage = Storage(root)
    blends: list[Path | str] = []
    for number in stage_numbers(stages):
        stage = find_stage(storage, family, number)
        if stage is None or not stage.complete:
            raise RecipeError(
                f"stage {number} of `{family}` is not built in `{root}`",
                hint=f"marco-data build-stage {number} --family {family} --root {root}",
            )
        blends.append(storage.local(stage.folder) or storage.uri(stage.folder))
    return pipeline.train_stage(values, blends, verify=verify, **running)


def _print(planned: Any, folder: Path, ranks: int, ep: int, json_output: bool) -> None:
    said = planned.to_json()
    if json_output:
        print(json.dumps({"folder": str(folder), "ranks": ranks, "ep": ep, **said}))
        return
    settings, data = planned.settings, planned.data
    print(f"{said['parameters']:,} parameters, {said['active_parameters']:,} active")
    print(f"{ranks} ranks, ep {ep}: about {said['memory_bytes_per_gpu'] / 1e9:,.3g} GB on each GPU")
    seen = 0
    for stage, tokens in zip(data.stages, settings.schedule.tokens, strict=True):
        rates = f"{settings.schedule.rate(seen):.3g} to {settings.schedule.rate(seen + tokens):.3g}"
        seen += tokens
        print(
            f"stage {stage.stage}: {stage.iterations:,} iterations, {tokens:,} tokens, learning rate {rates}; "
            f"{stage.shards:,} shards, {stage.left_samples:,} samples left over"
        )
    print(f"{said['flops']:.3g} FLOPs in all; plan {data.plan}")
    for warning in data.warnings:
        say(f"warning: {warning}")


def _without_nproc(words: list[str]) -> list[str]:
    """torchrun takes `--nproc` for a beginning of an option of its own, wherever it stands."""
    kept: list[str] = []
    for word, before in zip(words, ["", *words], strict=False):
        if word != "--nproc" and before != "--nproc" and not word.startswith("--nproc="):
            kept.append(word)
    return kept


def _nothing(_: str) -> None:
    """What other ranks than the first say."""
