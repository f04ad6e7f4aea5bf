"""Which recipe a command means: a family's stage, a file, or a user's own input with a family's settings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from marco_data.errors import RecipeError
from marco_data.languages import canonical
from marco_data.mix import parse_tokens
from marco_data.recipe import Recipe, load_recipe
from marco_data.sources import Fields

INPUT = "input"
"""The name of the one part and source that `--input` makes."""
_USUAL = {"id": "id", "url": "url"}
"""Columns that are taken for what their names say where `--input` has them and `--field` says nothing of them."""


@dataclass(frozen=True)
class Choice:
    """What the command line says of the recipe; None and empty mean: as the recipe has it."""

    stage: int | None = None
    family: str = "sample"
    recipe: Path | None = None
    languages: str | None = None
    budget: str | None = None
    inputs: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    waive: Sequence[str] = ()


def families() -> dict[str, Path]:
    """{family: folder} of the recipes that ship with the project."""
    root = Path(str(resources.files("recipes")))
    return {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and any(p.glob("stage*.yaml"))}


def recipe_file(choice: Choice) -> Path:
    if choice.recipe is not None:
        return choice.recipe
    known = families()
    if choice.family not in known:
        raise RecipeError(f"no recipe family `{choice.family}`", hint=f"families: {', '.join(known)}; or --recipe FILE")
    if choice.stage is None:
        raise RecipeError("which stage? give its number, or a recipe file")
    path = known[choice.family] / f"stage{choice.stage}.yaml"
    if not path.exists():
        stages = sorted(p.stem.removeprefix("stage") for p in known[choice.family].glob("stage*.yaml"))
        raise RecipeError(
            f"the family `{choice.family}` has no stage {choice.stage}", hint=f"stages: {', '.join(stages)}"
        )
    return path


def resolve(choice: Choice) -> Recipe:
    """The recipe a command means, checked, with the command line's changes in it."""
    recipe = load_recipe(recipe_file(choice))
    if choice.stage is not None and recipe.stage != choice.stage:
        raise RecipeError(f"`{choice.recipe}` is a recipe of stage {recipe.stage}, not of stage {choice.stage}")
    values: dict[str, Any] = recipe.model_dump(mode="json", exclude_unset=True)
    if choice.fields and not choice.inputs:
        raise RecipeError("--field says what the columns of --input are called, and there is no --input")
    if choice.inputs:
        values = _from_input(values, choice)
    if choice.languages is not None:
        values = _only_languages(values, recipe, choice.languages)
    if choice.budget is not None:
        values["budget"] = parse_tokens(choice.budget)
    if choice.waive:
        values["waive"] = [*values.get("waive", ()), *choice.waive]
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise RecipeError(f"`{'.'.join(map(str, problem['loc']))}`: {problem['msg']}") from None


def _from_input(values: dict[str, Any], choice: Choice) -> dict[str, Any]:
    """One source and part `input`, everything once; what is no matter of sources as the recipe has it."""
    left = {"description", "sources", "mixture", "budget", "after", "waive", "generators", "generate"}
    if choice.recipe is None:  # a family's limits are those of its own sources
        left.add("limits")
    paths = [path if "://" in path else str(Path(path).expanduser().absolute()) for path in choice.inputs]
    optional = [role for role in _USUAL if role not in choice.fields]
    values = json.loads(json.dumps(values))
    # What names sources that are not read now.
    values.get("steps", {}).get("quality", {}).pop("exempt", None)
    (values.get("limits", {}).get("removal") or {}).pop("sources", None)
    return {
        **{key: value for key, value in values.items() if key not in left},
        "after": "nothing",
        "sources": {INPUT: {"paths": paths, "fields": {**_USUAL, **choice.fields}, "optional": optional}},
        "mixture": {INPUT: {"weight": 1.0}},
    }


def _only_languages(values: dict[str, Any], recipe: Recipe, text: str) -> dict[str, Any]:
    codes = [canonical(code.strip()).code for code in text.split(",") if code.strip()]
    if not codes:
        raise RecipeError("--languages names no language")
    missing = [code for code in codes if code not in recipe.languages]
    if missing:
        raise RecipeError(
            f"--languages: {', '.join(missing)} not in this recipe",
            hint=f"its languages: {', '.join(recipe.languages)}",
        )
    mixture = json.loads(json.dumps(values["mixture"]))
    for name in list(mixture):
        shares = mixture[name].get("languages")
        if shares:
            mixture[name]["languages"] = {code: share for code, share in shares.items() if code in codes}
            if not mixture[name]["languages"]:
                del mixture[name]
    generate = {}
    for name, entry in recipe.generate.items():
        kept = [code for code in entry.languages if code in codes]
        if kept and set(entry.seed_languages()) & set(codes):
            seeds = [code for code in entry.seed_languages() if code in codes]
            given = values["generate"][name]
            generate[name] = {**given, "languages": kept, "seeds": {**given.get("seeds", {}), "languages": seeds}}
    made = {entry.make.part for name, entry in recipe.generate.items() if name in generate}
    for name, part in recipe.mixture.items():  # a part of what nothing is made of any more
        if name in mixture and set(part.sources or (name,)) <= set(recipe.generated_sources) - made:
            del mixture[name]
    gone = set(recipe.generated_sources) - made
    steps = json.loads(json.dumps(values.get("steps", {})))
    if "exempt" in steps.get("quality", {}):
        steps["quality"]["exempt"] = [source for source in steps["quality"]["exempt"] if source not in gone]
    return {**values, "languages": codes, "mixture": mixture, "generate": generate, "steps": steps}


def parse_fields(items: Sequence[str]) -> dict[str, str]:
    """`text=content` from the command line as {field: column}."""
    out = {}
    for item in items:
        name, equals, column = item.partition("=")
        if not equals or not name or not column:
            raise RecipeError(f"--field `{item}`: write it as text=COLUMN")
        if name not in Fields.model_fields:
            raise RecipeError(
                f"--field `{item}`: there is no `{name}` to map", hint=f"one of {', '.join(Fields.model_fields)}"
            )
        out[name] = column
    return out
