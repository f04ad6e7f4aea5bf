"""A recipe as text again: every value with the place it comes from, and what two recipes say differently.

In: a recipe's file. Out: a `Reading` (its values, checked and with defaults, and for each key `file:line` or
`default`), its YAML with those places as comments, and the `Difference`s of two. What `yaml_of` prints loads as the
same recipe. Knows nothing of plans.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from marco_data.errors import RecipeError
from marco_data.languages import canonical
from marco_data.recipe import Recipe, load_recipe, read_with_includes

DEFAULT, ABSENT = "default", "absent"
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Reading:
    """A recipe that was read: `values` have every default, `given` only what its files say."""

    file: Path
    recipe: Recipe
    values: dict[str, Any]
    given: dict[str, Any]
    written: Mapping[Key, Any]  # key as in `values` -> key as in the files
    lines: Mapping[Key, tuple[Path, int]]

    def place(self, key: Key) -> str:
        """`file:line` of a value, or of what it is part of; `default` where no file says it."""
        if key not in self.written:
            return DEFAULT
        at = self.written[key]
        while at and at not in self.lines:
            at = at[:-1]
        file, line = self.lines.get(at, (self.file, 1))
        return f"{shown(file)}:{line}"


def read_recipe(file: Path) -> Reading:
    """A recipe with the place of each of its values."""
    recipe = load_recipe(file)
    raw, lines = read_with_includes(file, set())
    values = recipe.model_dump(mode="json")
    written: dict[Key, Key] = {}
    _match(values, raw, (), (), written)
    return Reading(file, recipe, values, _only(values, (), written), written, lines)


def _match(value: Any, raw: Any, key: Key, at: Key, written: dict[Key, Key]) -> None:
    """Notes which keys of the checked values stand in the files, and by which spelling (`zh` for `zho_Hans`).

    A mapping that stands there in short (`remove: remove.txt`) has its place for the key that holds what is written.
    """
    if isinstance(value, dict) and raw is not None and not isinstance(raw, dict):
        held = [name for name, inner in value.items() if inner == raw] or list(value)
        written.update({(*key, name): at for name in held})
    if isinstance(value, dict) and isinstance(raw, dict):
        spelled = {str(name): name for name in raw}
        codes = {_code(name): name for name in spelled}
        for name, inner in value.items():
            spelling = name if name in spelled else codes.get(name)
            if spelling is not None:
                written[*key, name] = (*at, spelling)
                _match(inner, raw[spelled[spelling]], (*key, name), (*at, spelling), written)


def _code(name: str) -> str:
    try:
        return canonical(name).code
    except RecipeError:
        return name


def _only(value: Any, key: Key, written: Mapping[Key, Key]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _only(inner, (*key, name), written) for name, inner in value.items() if (*key, name) in written}


def shown(file: Path) -> str:
    """A file's name from here, or in full where it lies elsewhere."""
    near = os.path.relpath(file)
    return str(file.resolve()) if near.startswith("..") else near


def yaml_of(reading: Reading, *, resolved: bool = True) -> str:
    """YAML of a recipe, each value with its place: all values, or only those that its files say."""
    values = reading.values if resolved else reading.given
    return "\n".join(_lines(values, (), reading)) + "\n"


def _lines(values: Mapping[str, Any], key: Key, reading: Reading) -> Iterator[str]:
    indent = "  " * len(key)
    for name, value in values.items():
        here = (*key, name)
        if isinstance(value, dict) and value:
            yield f"{indent}{flow(name)}:  # {reading.place(here)}"
            yield from _lines(value, here, reading)
        else:
            yield f"{indent}{flow(name)}: {flow(value)}  # {reading.place(here)}"


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def leaves(values: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """(key, value) of everything that is no mapping with something in it."""
    if isinstance(values, dict) and values:
        for name, value in values.items():
            yield from leaves(value, (*key, name))
    else:
        yield key, values


@dataclass(frozen=True)
class Difference:
    """A key that two recipes have other values for; a place is `default`, or `absent` where one has no such key."""

    key: str
    a: Any
    b: Any
    place_a: str
    place_b: str

    @property
    def section(self) -> str:
        """What changes together: `tokenizer`, `steps.quality`."""
        parts = self.key.split(".")
        return ".".join(parts[: 2 if parts[0] in ("steps", "limits") else 1])


def differences(a: Reading, b: Reading) -> list[Difference]:
    """In the order of keys; a list is one value."""
    ours, theirs = dict(leaves(a.values)), dict(leaves(b.values))
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        if key in ours and key in theirs and ours[key] == theirs[key]:
            continue
        # An empty mapping that has something in the other recipe is told by what is in there.
        if any(len(k) > len(key) and k[: len(key)] == key for k in [*ours, *theirs]):
            continue
        found.append(
            Difference(
                ".".join(map(str, key)),
                ours.get(key),
                theirs.get(key),
                a.place(key) if key in ours else ABSENT,
                b.place(key) if key in theirs else ABSENT,
            )
        )
    return found
