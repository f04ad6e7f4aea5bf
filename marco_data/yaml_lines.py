"""YAML files that people write: their keys remember their lines, and a failed validation is told at them.

In: a file; out: a mapping with the line of each key, or one RecipeError that names file, line, key and remedy. Knows
no model but the one it is given.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, canonical

Key = tuple[Any, ...]


MOST_KEYS = 100_000
"""Keys and items of a file, those that an alias repeats counted each time: nine lines of aliases can stand for 10^9."""


class WrongAt(ValueError):
    """What is wrong between two places of a file, told at one of them."""

    def __init__(self, at: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.at = at


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """SafeLoader: tags that would build Python objects are refused by construction.

    `no` is Norwegian: of YAML 1.1's words for true and false only `true` and `false` are kept, as in YAML 1.2.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, word) for tag, word in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read_yaml(path: Path, *, a: str, hint: str | None = None) -> tuple[dict[str, Any], dict[Key, int]]:
    """A YAML mapping and the line (from 1) of each of its keys and items, by path into the value.

    `a` is what the file is (a recipe), `hint` what to do where there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"no {a} at `{path}`", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    lines: dict[Key, int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(f"{path}:1: a {a} is a mapping of keys to values")
        _note_lines(node, (), lines, path)
        value = loader.construct_document(node)
    except RecursionError:
        raise RecipeError(f"{path}: is nested too deep, or an alias holds itself") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    finally:
        loader.dispose()
    return value, lines


def _note_lines(node: yaml.Node, at: Key, lines: dict[Key, int], path: Path) -> None:
    lines[at] = node.start_mark.line + 1
    if len(lines) > MOST_KEYS:
        raise RecipeError(f"{path}:{lines[at]}: more than {MOST_KEYS:,} keys and items, aliases counted")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError(f"{path}:{key.start_mark.line + 1}: a key is a word, not a list or a mapping")
            here = (*at, key.value)
            if here in lines:
                raise RecipeError(
                    f"{path}:{key.start_mark.line + 1}: `{key.value}` is given twice (first in line {lines[here]})"
                )
            _note_lines(value, here, lines, path)
            lines[here] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_lines(value, (*at, i), lines, path)


def explain(
    error: ValidationError,
    model: type[BaseModel],
    path: Path,
    lines: Mapping[Key, tuple[Path, int]],
    *,
    below: tuple[str, ...] = (),
) -> RecipeError:
    """One RecipeError for a failed validation of `model`: each problem with its file, line and key.

    `below` is the key that the model's values are under; without one they are the file.
    """
    problems: list[tuple[str, int, str]] = []
    hints = []
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        at = (*below, *(cause.at if isinstance(cause, WrongAt) else item["loc"]))
        place = known(at, lines)
        file, line = lines.get(place, (path, 1))
        key = ".".join(str(p) for p in place) or "recipe"
        if item["type"] == "extra_forbidden":
            fields = _fields_at(model, place[len(below) : -1])
            near = difflib.get_close_matches(str(place[-1]), fields, n=1)
            choice = f"did you mean `{near[0]}`?" if near else f"keys here: {', '.join(fields)}"
            problem = f"unknown key `{key}`; {choice}"
        elif item["type"] == "missing":
            problem = f"the key `{'.'.join(str(p) for p in at)}` is missing"
        else:
            message = (
                str(cause.message) if isinstance(cause, RecipeError) else item["msg"].removeprefix("Value error, ")
            )
            if isinstance(cause, RecipeError) and cause.hint:
                hints.append(cause.hint)
            # In YAML's words: it has lists, and nobody who writes it knows our classes.
            message = re.sub(r" or instance of \w+$", "", message).replace("a valid tuple", "a list")
            problem = f"`{key}`: {message[:1].lower() + message[1:]}"
        problems.append((str(file), line, problem))
    told = [f"{file}:{line}: {problem}" for file, line, problem in sorted(set(problems))]
    return RecipeError("\n".join(told), hint=hints[0] if hints else None)


def known(at: Key, lines: Mapping[Key, Any]) -> Key:
    """The longest start of an error's location that is a place in the file (pydantic adds union members).

    A language is checked under its code (`ben_Beng`) and found here as the file spells it (`bn`).
    """
    kept: Key = ()
    for part in at:
        if (*kept, part) in lines:
            kept = (*kept, part)
        elif part in LANGUAGES:
            kept = next((key for key in lines if key and key[:-1] == kept and _code(key[-1]) == part), kept)
    return kept


def _code(name: Any) -> str | None:
    try:
        return canonical(str(name)).code
    except RecipeError:
        return None


def _fields_at(model: type[BaseModel], at: Key) -> list[str]:
    """The keys that values of a model may have at a place, by walking the models."""
    here: Any = model
    for part in at:
        if isinstance(here, type) and issubclass(here, BaseModel) and part in here.model_fields:
            here = _inner(here.model_fields[part].annotation)
        elif get_origin(here) in (dict, tuple):
            here = _inner(get_args(here)[1 if get_origin(here) is dict else 0])
        else:
            return []
    return sorted(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _inner(annotation: Any) -> Any:
    """`Annotated[X, ...]` and `X | None` seen as X."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        options = [a for a in get_args(annotation) if a is not NoneType]
        annotation = options[0]
    return annotation
