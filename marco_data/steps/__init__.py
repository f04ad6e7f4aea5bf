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

        return DatatroveFilter(filter=cls, arguments=arguments)
    try:
        step = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise RecipeError(f"no step `{name}`: {error}", hint="write it as package.module:Class") from error
    if not (isinstance(step, type) and issubclass(step, Step)):
        raise RecipeError(f"`{name}` is not a marco_data.step.Step")
    try:
        return step(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"step `{name}`: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from None
