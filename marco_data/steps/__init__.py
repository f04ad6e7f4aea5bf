"""One data operation a file, and the door for operations of a user's own."""

import importlib
from typing import Any

from pydantic import ValidationError

from marco_data.errors import RecipeError
from marco_data.step import Step


def user_step(name: str, arguments: dict[str, Any]) -> Step:
    """The step a recipe names under `steps.extra`: `package.module:Class`, or `datatrove:FilterClass`."""
    module, _, cls = name.partition(":")
    if module == "datatrove":
        from marco_data.steps.datatrove_filter import DatatroveFilter

        return _constructed(name, DatatroveFilter, {"filter": cls, "arguments": arguments})
    try:
        step = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise RecipeError(f"no step `{name}`: {error}", hint="write it as package.module:Class") from error
    if not (isinstance(step, type) and issubclass(step, Step)):
        raise RecipeError(f"`{name}` is not a marco_data.step.Step")
    return _constructed(name, step, arguments)


def _constructed(name: str, step: type[Step], arguments: dict[str, Any]) -> Step:
    try:
        return step(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, RecipeError):
            raise RecipeError(f"step `{name}`: {cause.message}", hint=cause.hint) from None
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(f"step `{name}`: " + (f"`{place}`: " if place else "") + str(first["msg"])) from None
