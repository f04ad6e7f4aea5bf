"""The commands `prompts` and `export-completions`: what nobody has answered yet, and what was."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from marco_data.catalog import Choice, resolve
from marco_data.cli_build import Machines, plan_of, reachable, say
from marco_data.dataset import Context
from marco_data.errors import RecipeError
from marco_data.generation.generator import Request
from marco_data.generation.ledger import FOLDER
from marco_data.generation.recorded import export_ledger
from marco_data.nodes.generate import Generate
from marco_data.nodes.written import Wanted
from marco_data.options import Family, Json, RecipeOption, Root, StageNumber
from marco_data.plan import plan_nodes
from marco_data.records import Record
from marco_data.step import Tools
from marco_data.storage import Storage


def prompts(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    entry: Annotated[str | None, typer.Option(help="Only of this entry of the recipe's `generate`.")] = None,
    json_output: Json = False,
) -> None:
    """List requests that no recorded completion answers. Asks no model; exit 1 where there are any.

    Example:  marco-data prompts 4 --json
    """
    resolved = resolve(Choice(stage, family, recipe))
    storage = Storage(root)
    dataset = reachable(plan_of(resolved), Machines(), storage)
    done: dict[str, Sequence[Record]] = {}
    plan_nodes(dataset, storage, None, done=done)
    if "seeds" not in done:
        raise RecipeError(
            f"the seeds of stage {stage} are not known in `{root}`"
            if resolved.generate
            else f"stage {stage} generates nothing: its recipe has no `generate`",
            hint="build the stage first: without a pool nothing is asked, and what is missing is counted",
        )
    context = Context(storage, Tools(), done)
    found = 0
    for node in dataset.nodes:
        if isinstance(node, Generate) and entry in (None, node.scope):
            for task in node.tasks(context):
                for wanted, request in node.unanswered(task, storage):
                    found += 1
                    _tell(node, wanted, request, json_output=json_output)
    say(f"{found:,} requests without a recorded completion")
    raise typer.Exit(1 if found else 0)


def export_completions(
    out_file: Annotated[Path, typer.Option("--out", help="The file to write: .jsonl, .jsonl.gz or .jsonl.zst.")],
    root: Root = "./marco-out",
) -> None:
    """Write every completion of a root's ledger to one file, for the `recorded` of a recipe.

    Example:  marco-data export-completions --out completions.jsonl.zst
    """
    storage = Storage(root)
    if not storage.names(FOLDER):
        raise RecipeError(f"there is no ledger in `{root}`", hint="--root names the folder of a build that generated")
    number = export_ledger(storage, out_file)
    say(f"{number:,} completions in {out_file}")


def _tell(node: Generate, wanted: Wanted, request: Request, *, json_output: bool) -> None:
    key = request.key(node.model.model, node.model.revision)
    if json_output:
        said = {
            "key": key,
            "entry": node.scope,
            "prompt": request.prompt,
            "language": wanted.language,
            "seed": wanted.seed.id,
            "ordinal": wanted.ordinal,
            "sample": request.sample,
            "attempt": request.attempt,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "schema": None if request.schema is None else json.loads(request.schema),
        }
        print(json.dumps(said, ensure_ascii=False))
        return
    beginning = " ".join(wanted.seed.text[:60].split())
    print(f"{key}  {node.scope} {request.prompt} in {wanted.language} for {wanted.seed.id}: {beginning}")
