"""What `plan` foretells: its options for that, when a probe is run, and `plan --compare`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from marco_data.dataset import Dataset
from marco_data.errors import MarcoError, RecipeError
from marco_data.plan import SKIP, NodePlan, SourcePlan, plan_sources
from marco_data.plan_compare import compare, compared_object, off
from marco_data.plan_expect import Taken, expect, look
from marco_data.plan_flow import so_far
from marco_data.plan_generation import estimates
from marco_data.plan_price import timed_in
from marco_data.probe import DOCUMENTS, Looked
from marco_data.recipe import Recipe
from marco_data.report_price import print_compared
from marco_data.storage import Storage

ProbeDocuments = Annotated[
    int, typer.Option("--probe", min=0, help="Documents of each source and language to look at; 0: none.")
]
PriceFile = Annotated[Path | None, typer.Option("--prices", help="What things cost, see infra/prices.yaml.")]
ByLanguage = Annotated[bool, typer.Option("--by-language", help="Every language, and every shortfall.")]
Compare = Annotated[bool, typer.Option("--compare", help="What a probe expects beside what this root's build found.")]


def look_around(
    recipe: Recipe, dataset: Dataset, sources: Sequence[SourcePlan], nodes: Sequence[NodePlan], documents: int
) -> tuple[Looked | None, str | None]:
    """A probe where something is left to do, else the tokenizer alone; None, and why, where nothing can be said."""
    problems = {s.source: s.problem for s in sources if s.problem is not None}
    if len(problems) == len(sources):
        return None, "no source can be read"
    if documents == 0:
        return None, "--probe 0"
    try:
        whole = not problems and all(node.status == SKIP for node in nodes)
        return look(recipe, dataset, problems, None if whole else documents), None
    except Exception as error:  # a user's own step may raise anything here; what was planned is told all the same
        said = error.message if isinstance(error, MarcoError) else f"{type(error).__name__}: {error}"
        return None, said.splitlines()[0]


def compare_plan(
    recipe: Recipe, dataset: Dataset, storage: Storage, documents: int, by_language: bool, json_output: bool
) -> int:
    """Print what was expected beside what happened; 1 where a total is off by more than is allowed."""
    found = so_far(dataset, storage, {})
    if "shards" not in found.records:
        raise RecipeError("this plan is not built in this root", hint="marco-data build-stage makes what is compared")
    problems = {s.source: s.problem for s in plan_sources(dataset, recipe.part_of, storage) if s.problem is not None}
    looked = look(recipe, dataset, problems, documents or DOCUMENTS)
    foretold = estimates(dataset, storage, {}, [], looked)[0] if recipe.generate else []
    expected = expect(recipe, dataset, storage, looked, Taken(tuple(foretold)), afresh=True)
    lines = compare(expected, found, timed_in(storage, found, dataset), dataset)
    if json_output:
        print(json.dumps(compared_object(lines), ensure_ascii=False))
    else:
        print_compared(lines, by_language)
    return 1 if off(lines) else 0
