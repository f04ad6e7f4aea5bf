"""The command `prune`: what of a root no recipe needs any more, and its removal."""

import json
import time
from typing import Annotated

import typer

from marco_data import prune as pruning
from marco_data.cli_build import say
from marco_data.cli_recipe import file_of
from marco_data.errors import RecipeError
from marco_data.options import Json, Root
from marco_data.reach import STAGE, folders_of
from marco_data.recipe import load_recipe
from marco_data.report_disk import amount, print_pruning
from marco_data.storage import Storage


def prune(
    keep: Annotated[
        list[str], typer.Option("--keep", help="A recipe file, FAMILY/STAGE or a stage's folder to keep (repeatable).")
    ],
    more: Annotated[list[str] | None, typer.Argument(help="More of them.")] = None,
    root: Root = "./marco-out",
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only list.")] = False,
    json_output: Json = False,
) -> None:
    """List what no named recipe needs, and with --yes delete it; never what is younger than a day or being built.

    Example:  marco-data prune --keep sample/3 sample/4
    """
    names = [name.rstrip("/") for name in (*keep, *(more or ()))]
    stages = [name for name in names if STAGE.fullmatch(name)]
    recipes = [load_recipe(file_of(name)) for name in names if name not in stages]
    storage, now = Storage(root), time.time()
    if not folders_of(storage):
        raise RecipeError(f"nothing was built in `{root}`", hint="--root names another")
    found = pruning.find(storage, recipes, now, stages)
    gone = pruning.remove(storage, found, recipes, now, stages) if yes else 0
    if json_output:
        folders = {name: {"files": n, "bytes": size} for name, (n, size) in found.by_folder().items()}
        said = {"folders": folders, "files": len(found.goes), "bytes": found.bytes, "deleted": gone}
        young = sum(entry.bytes for entry in found.young)
        print(json.dumps(said | {"young_bytes": young, "being_built": found.building, "notes": found.notes}))
        return
    print_pruning(found)
    if yes:
        say(f"{gone:,} files deleted")
    elif found.goes:
        say(f"nothing was deleted; the same command with --yes frees {amount(found.bytes)}")
