"""The command `duplicates`: what was matched with what, sampled and summed."""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from marco_data.catalog import Choice, parse_fields
from marco_data.errors import RecipeError
from marco_data.evidence import Wanted, pairs, sample, survey
from marco_data.languages import canonical
from marco_data.nodes.cluster_sizes import judges, tally_files
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
    built_stage,
)
from marco_data.rehydrate import Rehydrate, rehydration_weights
from marco_data.report_evidence import print_duplicates, print_weights
from marco_data.why import Lookup


class Reason(StrEnum):
    """Why a document was dropped, without `dedup/`."""

    near = "near"
    exact = "exact"
    same_id = "same_id"


def duplicates(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    size: Annotated[int, typer.Option("--sample", min=0, help="Show so many pairs.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Another seed shows others; the same one the same.")] = 0,
    language: Annotated[str | None, typer.Option(help="Only duplicates of this language.")] = None,
    source: Annotated[str | None, typer.Option(help="Only duplicates in this source.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only those dropped for this reason.")] = None,
    rehydrate: Annotated[
        int | None, typer.Option(min=1, help="Print instead how often to repeat documents, at most so many times.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="With --rehydrate: as CSV.")] = False,
    json_output: Json = False,
) -> None:
    """What duplicates were matched with: similarities and cluster sizes by language, and pairs side by side.

    Example:  marco-data duplicates 3 --sample 5 --language tha_Thai --reason near
    """
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []))
    built, storage = built_stage(choice, root)
    if not {"dedup", "dedup_seeds"} & built.nodes.keys():
        raise RecipeError("this build stopped before duplicates were looked for", hint="`marco-data stats` says why")
    if source is not None and source not in built.recipe["sources"]:
        raise RecipeError(f"no source `{source}`", hint=f"sources: {', '.join(sorted(built.recipe['sources']))}")
    lookup = Lookup(built, storage)
    # A language that the build's recipe has added is known by its code alone: its files may be elsewhere by now.
    code = language if language is None or language in built.recipe["languages"] else canonical(language).code
    if rehydrate is not None:
        _print_weights(lookup, Rehydrate(max=rehydrate), code, "json" if json_output else "csv" if csv else "table")
        return
    wanted = Wanted("dedup" if reason is None else f"dedup/{reason}", code, source)
    found = survey(lookup, wanted)
    shown = list(pairs(lookup, sample(lookup, wanted, size, seed)))
    if json_output:
        told = {code: one.to_json() for code, one in found.items()}
        print(json.dumps({"languages": told, "pairs": [asdict(pair) for pair in shown]}, ensure_ascii=False))
    else:
        print_duplicates(found, shown)


def _print_weights(lookup: Lookup, config: Rehydrate, language: str | None, form: str) -> None:
    """Weights by language and cluster size, from what limits dropped of each."""
    if lookup.stage.recipe["steps"]["dedup"].get("over") != "all":
        raise RecipeError(
            "this build does not know the cluster sizes of what its limits dropped",
            hint="build with `steps: {dedup: {over: all}}`",
        )
    steps = judges([step["step"] for step in lookup.stage.nodes["decide"]["identity"]["config"]["steps"]])
    verdicts = [record.data[0] for record in lookup.decided.values()]
    table = tally_files(lookup.storage, zip(verdicts, lookup.sidecars, strict=True), steps)
    languages = [language] if language else lookup.stage.recipe["languages"]
    weights = rehydration_weights({code: table[code] for code in languages if code in table}, config)
    rows = [
        {"language": code, **asdict(sizes), "rate": round(float(sizes.rate), 4)}
        for code, found in weights.items()
        for sizes in found
    ]
    if form == "json":
        print(json.dumps(rows))
    else:
        print_weights(rows, csv=form == "csv")
