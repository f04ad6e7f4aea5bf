"""The commands that run a plan: `build-stage`, and `retry`, which asks models again for what was rejected."""

import json
import shlex
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from marco_data.catalog import Choice, parse_fields, recipe_file, resolve
from marco_data.cluster.metrics import Metered
from marco_data.dataset import Dataset
from marco_data.errors import RecipeError
from marco_data.execute import Executor, LocalExecutor, Run
from marco_data.execute import run as run_plan
from marco_data.generation.generator import NOT_RECORDED
from marco_data.generation.pools import load_pools
from marco_data.generation.retries import give_order, load_attempts, make_order
from marco_data.generation.rounds import MAX_COST, MAX_GPU_HOURS, NO_YIELD, SEEDS, SpendingLimits
from marco_data.languages import canonical
from marco_data.nodes.generate import reached
from marco_data.nodes.measure import Measure
from marco_data.options import (
    Address,
    Budget,
    ExecutorName,
    Family,
    Fields,
    Inputs,
    Json,
    Languages,
    MaxCost,
    MaxGpuHours,
    Pools,
    RecipeOption,
    Root,
    StageNumber,
    Verify,
    Workers,
)
from marco_data.places import load_places
from marco_data.progress import show_progress
from marco_data.recipe import Recipe
from marco_data.redact import redacted
from marco_data.removal import removal_of, tell_removal
from marco_data.report import budget_note, print_built, program, stats_object, tell_failures
from marco_data.report_evidence import tell_alarms
from marco_data.report_slow import tell_slow
from marco_data.run_state import Announced
from marco_data.sources import check_fields, found_before
from marco_data.stage import Stage, finish, load_stage
from marco_data.step import Tools
from marco_data.steps.remove import read_list
from marco_data.storage import Storage
from marco_data.why import Lookup, harmless

err = Console(stderr=True)


@dataclass(frozen=True)
class Machines:
    """Where a plan runs, and what generation may cost. Context: nothing of it is identity."""

    executor: str = "ray"
    address: str | None = None
    workers: int | None = None
    pools: Path | None = None
    max_gpu_hours: float | None = None
    max_cost: float | None = None


def build_stage(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    executor: ExecutorName = "ray",
    address: Address = None,
    workers: Workers = None,
    pools: Pools = None,
    max_gpu_hours: MaxGpuHours = None,
    max_cost: MaxCost = None,
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    sample: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Run this share of the shards through everything.")
    ] = 1.0,
    only: Annotated[str | None, typer.Option(help="Repeat exactly this shard, and say all of it.")] = None,
    waive: Annotated[
        list[str] | None, typer.Option(help="Do without this shard, or pass over this alarm (repeatable).")
    ] = None,
    verify: Verify = False,
    json_output: Json = False,
) -> None:
    """Build a stage: read, clean, deduplicate, generate, mix, tokenize.

    Example:  marco-data build-stage 3 --input my.jsonl --field text=content
    """
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []), waive or ())
    resolved = resolve(choice)
    machines = Machines(executor, address, workers, pools, max_gpu_hours, max_cost)
    storage = Storage(root)
    storage.check_writable()
    dataset = reachable(plan_of(resolved, sample, verify), machines, storage)
    raise typer.Exit(_build(choice, resolved, dataset, machines, storage, only=only, json_output=json_output))


def retry(
    stage: StageNumber,
    reason: Annotated[list[str], typer.Option(help="Ask again for what was rejected for this reason (repeatable).")],
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Annotated[str | None, typer.Option(help="Only in these languages; default: all of the recipe.")] = None,
    entry: Annotated[str | None, typer.Option(help="Only of this entry of the recipe's `generate`.")] = None,
    executor: ExecutorName = "ray",
    address: Address = None,
    workers: Workers = None,
    pools: Pools = None,
    max_gpu_hours: MaxGpuHours = None,
    max_cost: MaxCost = None,
    json_output: Json = False,
) -> None:
    """Ask models again for documents that were rejected, and build the stage with what comes.

    Example:  marco-data retry 4 --reason truncated --languages th,ko --pools pools.yaml
    """
    choice = Choice(stage, family, recipe)
    resolved = resolve(choice)
    machines = Machines(executor, address, workers, pools, max_gpu_hours, max_cost)
    storage = Storage(root)
    codes = [canonical(code.strip()).code for code in languages.split(",")] if languages else None
    entries = [name for name in resolved.generate if entry in (None, name)]
    if not entries:
        known = ", ".join(resolved.generate) or "this recipe has none"
        raise RecipeError(f"no entry `{entry}` under `generate`", hint=f"entries: {known}")
    built = load_stage(storage, resolved.family, stage, resolved if recipe else None)
    letters = {name: [r.data[1].path for r in built.records(storage, f"generate_{name}")] for name in entries}
    order = make_order(storage, letters, reasons=reason, languages=codes)
    give_order(storage, order)
    say(f"{order.requests:,} requests are tried again")
    dataset = reachable(plan_of(resolved), machines, storage)
    raise typer.Exit(_build(choice, resolved, dataset, machines, storage, json_output=json_output))


def _build(
    choice: Choice,
    resolved: Recipe,
    dataset: Dataset,
    machines: Machines,
    storage: Storage,
    *,
    only: str | None = None,
    json_output: bool = False,
) -> int:
    """Run a plan and say what came of it; the exit code."""
    if moving := resolved.unpinned:
        say(
            f"note: {len(moving):,} paths on a hub name no commit, {moving[0]} first: their content is recorded, but "
            "may be another tomorrow; "
            + (
                "`hf://datasets/ORG/NAME@` and 40 hex digits name one for good"
                if choice.inputs
                else "`marco-data recipe pin RECIPE --write` names the commits of now"
            )
        )
    _check_inputs(dataset, storage)
    executor = _executor(machines, dataset)
    announced = None if only else Announced.of(resolved, dataset.nodes, storage)
    with announced.living() if announced else nullcontext():
        with closing(executor) as runner, show_progress(err) as progress:
            run = run_plan(
                dataset,
                storage,
                runner,
                progress if machines.executor == "local" else Metered(progress, f"{resolved.family}-{resolved.stage}"),
                waive=resolved.waive,
                only=only,
                watch=resolved.watch,
                announced=announced,
            )
        built = finish(resolved, dataset, run, storage) if only is None else None
    if run.storage.retries:
        why = ", ".join(f"{cause} {n:,}" for cause, n in sorted(run.storage.retries.items()))
        say(f"note: of {run.storage.requests.total():,} requests to storage, some were tried again: {why}")
    if only is not None or built is None:
        return _tell_only(run, only or "")
    where = f"--root {shlex.quote(storage.root)}"
    tell_slow(run.slow.found(), f"{program()} stats {resolved.stage} --slow {_which(choice)} {where}", say)
    if built.complete and built.starts_over:
        say(
            f"note: no stage before {built.stage} is built in this root; this one took its documents from the beginning"
        )
    if note := budget_note(built, storage):
        say(note)
    damaged = sum(r.facts.get("damaged", 0) for records in run.records.values() for r in records)
    if damaged:
        say(f"warning: {damaged:,} files of the ledger are damaged; what was lost in them was asked again")
    if missing := sum(row.rejected.get(NOT_RECORDED, 0) for row in built.wanted):
        which = f"{built.stage} {_which(choice)} --root {shlex.quote(storage.root)}"
        say(f"note: {missing:,} documents were not asked for, because no recorded completion answers")
        say(f"  the requests: {program()} prompts {which}")
        say(f"  to ask them:  {program()} build-stage {which} --pools FILE")
    tell_alarms(Lookup(built, storage), resolved, recipe_file(choice), say)
    removal = None
    if resolved.remove is not None:
        listed = read_list(Tools().path(resolved.remove.file))
        removal = removal_of(Lookup(built, storage), listed, resolved.remove.copies)
        tell_removal(removal, resolved.remove.file, storage, say)
    _tell_generation(built)
    reached_by = "" if machines.pools is None else f" --pools {shlex.quote(str(machines.pools))}"
    code = tell_failures(built, resolved, storage.root, _which(choice), say, reached_by)
    if json_output:
        said = {} if removal is None else {"removal": removal.to_object()}
        print(json.dumps(stats_object(built, storage) | said, ensure_ascii=False))
    else:
        print_built(built, storage)
    return code


def _tell_generation(built: Stage) -> None:
    """What became of what was wanted of models, and what ended early, in a line each."""
    rows = built.wanted
    if requested := sum(row.requested for row in rows):
        reasons: Counter[str] = Counter()
        for row in rows:
            reasons.update(row.rejected)
        most = ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common(MOST_REASONS))
        more = ", ..." if len(reasons) > MOST_REASONS else ""
        say(
            f"generation: {requested:,} documents wanted, {sum(row.accepted for row in rows):,} accepted, "
            f"{sum(reasons.values()):,} rejected{f' ({most}{more})' if reasons else ''}"
        )
    asked = {(row.maker, row.language) for row in rows}
    for entry, languages in built.ended.items():
        maker = built.nodes[f"generate_{entry}"]["identity"]["config"]["maker"]["maker"]
        for why in EARLY:
            if codes := [code for code, ended in languages.items() if ended == why]:
                say(f"note: `generate.{entry}` ended by {why}: {', '.join(codes)}")
        if empty := [c for c, ended in languages.items() if ended == SEEDS and (maker, c) not in asked]:
            say(f"note: `generate.{entry}` took no seeds for {', '.join(empty)}")


MOST_REASONS = 3
EARLY = (NO_YIELD, MAX_GPU_HOURS, MAX_COST)


def plan_of(recipe: Recipe, sample: float = 1.0, verify: bool = False) -> Dataset:
    """The recipe's plan; how its models are reached is not in it yet."""
    dataset = recipe.pipeline_function()(recipe, sample=sample, verify=verify)
    if not isinstance(dataset, Dataset):
        raise RecipeError(f"the pipeline `{recipe.pipeline}` returned no plan")
    return dataset.accepting(recipe.accept)


def reachable(dataset: Dataset, machines: Machines, storage: Storage | None = None) -> Dataset:
    """The plan with pools, limits of cost, and the attempts that `retry` has ordered in this root, where it is read."""
    pools = load_pools(machines.pools) if machines.pools else {}
    if machines.pools:
        load_places(machines.pools, dataset.nodes)  # its mistakes are told before anything runs
    limits = SpendingLimits(machines.max_gpu_hours, machines.max_cost)
    return reached(dataset, pools, limits, {} if storage is None else load_attempts(storage))


def _check_inputs(dataset: Dataset, storage: Storage) -> None:
    """Wrong paths and wrong column names are told before anything runs; what it takes to know them is kept."""
    measure = dataset.node("measure")
    assert isinstance(measure, Measure)
    for name, source in measure.sources.items():
        measure.found[name] = found = found_before.load(storage, source)
        elsewhere = any("://" in path for path in source.paths)
        try:
            files = measure.files(name)
            if elsewhere:
                measure.slices(name)  # the footers of Parquet files
        finally:
            if elsewhere:  # also what a hub gave before it had enough of us: the next start goes on from there
                found_before.save(storage, source, found)
        seen: set[str] = set()
        for file in files:
            if file.format not in seen:
                seen.add(file.format)
                check_fields(file, source)


def _executor(machines: Machines, dataset: Dataset) -> Executor:
    name, address, workers = machines.executor, machines.address, machines.workers
    places = load_places(machines.pools, dataset.nodes) if machines.pools else {}
    if name == "local":
        if address is not None:
            raise RecipeError("--address is for the ray executor", hint="leave it out, or use --executor ray")
        return LocalExecutor(workers or 1)
    if name != "ray":
        raise RecipeError(f"no executor `{name}`", hint="--executor ray or --executor local")
    from marco_data.ray_executor import RayExecutor

    return RayExecutor(address, workers, places, say=say)


def _which(choice: Choice) -> str:
    """The options that name this recipe again, for the commands that are printed."""
    words = ["--recipe", str(choice.recipe)] if choice.recipe else ["--family", choice.family]
    words += [word for path in choice.inputs for word in ("--input", path)]
    words += [word for name, column in choice.fields.items() for word in ("--field", f"{name}={column}")]
    words += ["--languages", choice.languages] if choice.languages else []
    words += ["--budget", choice.budget] if choice.budget else []
    words += [word for name in choice.waive for word in ("--waive", name)]
    return shlex.join(words)


def _tell_only(run: Run, only: str) -> int:
    keys = {r.key for records in run.records.values() for r in records}
    for failure in run.failures:
        err.print(harmless(f"failed: {failure.shard}: {failure.error}\n{failure.trace}"), markup=False, highlight=False)
    if run.failures:
        return 1
    if only not in keys:
        raise RecipeError(f"no shard `{only}` in this plan")
    err.print(f"`{only}` is done", markup=False)
    return 0


def say(message: str) -> None:
    """Tell something on stderr."""
    err.print(harmless(redacted(message)), markup=False, highlight=False, soft_wrap=True)
