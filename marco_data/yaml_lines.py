"""YAML files that people write: a mapping, and the line of each of its keys, so that a mistake can be told where it is."""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from marco_data.errors import RecipeError


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


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """A YAML mapping and the line (from 1) of each of its keys and items, by path into the value."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"no recipe at `{path}`", hint="give --family NAME or --recipe FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    lines: dict[tuple[Any, ...], int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(f"{path}:1: a recipe is a mapping of keys to values")
        _note_lines(node, (), lines, path)
        value = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    finally:
        loader.dispose()
    return value, lines


def _note_lines(node: yaml.Node, at: tuple[Any, ...], lines: dict[tuple[Any, ...], int], path: Path) -> None:
    lines[at] = node.start_mark.line + 1
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
