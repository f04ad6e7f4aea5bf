"""The commands that add up: `stats`, a stage's books in documents, and `ledger`, its tokens by language and part."""

import csv
import json
import sys
from dataclasses import astuple, fields
from enum import StrEnum
from typing import Annotated

import typer

from marco_data.catalog import Choice, parse_fields
from marco_data.cli_build import say
from marco_data.disk_use import disk_use
from marco_data.errors import RecipeError
from marco_data.options import (
    Budget,
    Family,
    Fields,
    Inputs,
    Json,
    Languages,
    RecipeOption,
    Root,
    StageNumber,
    described,
)
from marco_data.recipe import Recipe
from marco_data.records import Count
from marco_data.report import print_books, stats_object
from marco_data.report_disk import print_disk_use
from marco_data.report_ledger import print_ledger, progress_note
from marco_data.report_slow import print_slow
from marco_data.run_state import find_state
from marco_data.stage import Stage, find_stage, load_stage
from marco_data.stage_ledger import ANY, AXES, LedgerRow, StageLedger, read_ledger, stage_so_far
from marco_data.storage import Storage
from marco_data.stragglers import read_stragglers, slow_object

Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


class By(StrEnum):
    """What the rows of a ledger are of."""

    language = "language"
    part = "part"
    source = "source"


def stats(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    json_output: Json = False,
    csv_output: Csv = False,
    disk: Annotated[bool, typer.Option("--disk", help="What the root holds instead, by step and recipe.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Tasks that took far longer than others instead, and why.")
    ] = False,
) -> None:
    """The books of a stage, of one that is being built those so far: documents by outcome and reason, tokens kept.

    Example:  marco-data stats 3 --json
    """
    _one_form(json_output, csv_output)
    if [disk, slow, csv_output].count(True) > 1:
        raise RecipeError("--disk, --slow and --csv are answers to three questions", hint="ask for one of them")
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []))
    storage, (name, own) = Storage(root), described(choice)
    if disk:
        use = disk_use(storage)
        if json_output:
            print(json.dumps(use.to_object()))
        else:
            print_disk_use(use)
        return
    if slow:
        found = read_stragglers(storage, _folders(storage, name, stage, own))
        if json_output:
            print(json.dumps(slow_object(found), ensure_ascii=False))
        else:
            print_slow(found)
        return
    built = _stage(storage, name, stage, own)
    if csv_output:
        _write_counts(built)
        raise typer.Exit(0 if built.balanced else 1)
    report = stats_object(built, storage)
    if json_output:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print_books(report, built)
    raise typer.Exit(0 if built.balanced else 1)


def _stage(storage: Storage, family: str, number: int, recipe: Recipe | None) -> Stage:
    """The newest build of a stage; where there is none yet, what the one under way has committed."""
    built = find_stage(storage, family, number, recipe)
    state = find_state(storage, family, number, recipe.digest if recipe else None)
    if state is None or state.ended is not None:
        return built or load_stage(storage, family, number, recipe)
    if built is not None:
        how = "is being built anew" if state.lives(storage) else "was begun anew, and no live build is at it"
        say(f"note: stage {number} {how}; these are the books before it")
        say("  `marco-data ledger` has what is committed so far")
        return built
    how = "it is being built" if state.lives(storage) else "no live build is at it, and the same command goes on"
    say(f"note: this stage has no manifest yet: {how}; so far, it has")
    return stage_so_far(storage, state)


def _folders(storage: Storage, family: str, number: int, recipe: Recipe | None) -> dict[str, str]:
    """{node: its folder} of the newest build of a stage, or of the one under way."""
    state = find_state(storage, family, number, recipe.digest if recipe else None)
    if state is not None and state.ended is None:
        return {node.name: node.folder for node in state.nodes}
    return {name: node["folder"] for name, node in load_stage(storage, family, number, recipe).nodes.items()}


def _write_counts(built: Stage) -> None:
    """The counts that the books are sums of, a line each."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([f.name for f in fields(Count)])
    writer.writerows(astuple(count) for count in built.counts)


def ledger(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    by: Annotated[list[By] | None, typer.Option(help="Rows of what (repeatable). Default: language and part.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a language falls short.")] = False,
    json_output: Json = False,
    csv_output: Csv = False,
) -> None:
    """Tokens by language and part: wanted, collected, left after each step, synthesized, written, drawn, short.

    Works while the stage is being built. Example:  marco-data ledger 3 --by language
    """
    _one_form(json_output, csv_output)
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []))
    axes = [axis for axis in AXES if axis in (by or (By.language, By.part))]
    name, own = described(choice)
    found = read_ledger(Storage(root), name, stage, own)
    if json_output:
        print(json.dumps(found.to_object(), ensure_ascii=False))
    elif csv_output:
        print(found.to_csv(*axes) if by else found.to_csv(), end="")
    else:
        print_ledger(found, axes)
    if found.running or not found.complete:
        say(progress_note(found))
    short = found.short
    if strict and short:
        say(f"short of what the recipe wants: {', '.join(_told(found, row) for row in short)}")
    raise typer.Exit(1 if strict and short else 0)


def _told(found: StageLedger, row: LedgerRow) -> str:
    """A language that falls short, and by how much; where no language has anything, the parts."""
    if row.language != ANY:
        return f"{row.language} by {row.shortfall:,}"
    parts = [one.part for one in found.rows if one.language == ANY and one.shortfall]
    return f"any language in {', '.join(f'`{part}`' for part in parts)} by {row.shortfall:,}"


def _one_form(json_output: bool, csv_output: bool) -> None:
    if json_output and csv_output:
        raise RecipeError("--json and --csv are two forms of one answer", hint="leave one of them out")
