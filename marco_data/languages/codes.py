"""Language codes as recipes write them: any spelling in, ours out, and a RecipeError for what is none."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from marco_data.languages import LANGUAGES, canonical


def _codes(value: Any) -> Any:
    if value == "all":
        return tuple(LANGUAGES)
    return tuple(canonical(code).code for code in value) if isinstance(value, list | tuple) else value


def by_code(value: Any) -> Any:
    """A mapping's keys as our codes; anything else as it is, for pydantic to complain of."""
    return {canonical(str(k)).code: v for k, v in value.items()} if isinstance(value, Mapping) else value


Codes = Annotated[tuple[str, ...], BeforeValidator(_codes)]
"""A list of languages, or `all`."""

ByCode = BeforeValidator(by_code)
"""Marks a mapping whose keys are languages."""
