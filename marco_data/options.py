"""Options that commands share, and the build that they mean."""

import re
from pathlib import Path
from typing import Annotated

import typer

from marco_data.catalog import Choice, resolve
from marco_data.errors import RecipeError
from marco_data.recipe import Recipe
from marco_data.redact import lets_in, public_url
from marco_data.stage import Stage, load_stage
from marco_data.storage import Storage


def _name(family: str) -> str:
    """It is part of the names of files in the root."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", family):
        raise RecipeError(f"no recipe family `{family}`", hint="a family is small letters, digits and `-`: marco-mini")
    return family


Family = Annotated[str, typer.Option(help="Recipe family.", callback=_name)]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="A recipe file instead of a family's.")]


def _without_secrets(root: str) -> str:
    """Paths of the root are printed and written into manifests."""
    if lets_in(root):
        raise RecipeError(
            f"--root {public_url(root)}: the URL of a root holds no password and no signature",
            hint="set what its storage asks for in the environment (AWS_ACCESS_KEY_ID, ...), or use a role",
        )
    return root


Root = Annotated[str, typer.Option(help="Where results lie: a folder or any fsspec URL.", callback=_without_secrets)]
Languages = Annotated[str | None, typer.Option(help="Only these languages of the recipe: ben_Beng,sw or short codes.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="Build from this file, folder or glob instead (repeatable)."),
]
Fields = Annotated[
    list[str] | None, typer.Option("--field", help="Where --input has what: text=COLUMN, id=..., url=...")
]
Budget = Annotated[str | None, typer.Option(help="Tokens of this stage: 500B, 10M.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verify = Annotated[bool, typer.Option("--verify", help="Hash input files whole, not just their ends.")]
ExecutorName = Annotated[
    str, typer.Option("--executor", help="`ray` (a private one, or that at --address) or `local`.")
]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster, e.g. ray://head:10001.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes at once; default: ray all cores, local 1.")]
Pools = Annotated[
    Path | None, typer.Option("--pools", help="Where the recipe's models run; without it, what is recorded answers.")
]
MaxGpuHours = Annotated[
    float | None, typer.Option("--max-gpu-hours", min=0, help="Generation stops there, and the build goes on.")
]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", min=0, help="The same in US dollars, by the prices in --pools.")
]
AnyStage = Annotated[int | None, typer.Option("--stage", min=1, max=9, help="Default: the stage built last.")]
StageNumber = Annotated[int, typer.Argument(min=1, max=9, help="Curriculum stage.")]


def built_stage(choice: Choice, root: str) -> tuple[Stage, Storage]:
    """The build a command asks about: the newest of a stage, or that of the recipe the options describe."""
    storage = Storage(root)
    family, recipe = described(choice)
    return load_stage(storage, family, recipe.stage if recipe else choice.stage, recipe), storage


def described(choice: Choice) -> tuple[str, Recipe | None]:
    """The family a command asks about, and the recipe where its options describe one."""
    if choice.recipe or choice.inputs or choice.languages or choice.budget:
        recipe = resolve(choice)
        return recipe.family, recipe
    return choice.family, None
