"""Paths of a recipe on a hub that name no commit, and the same files with the commits of now written into them.

In: a recipe's file. Out: a `Pin` for each place where such a path stands, and, if asked, those files changed in place:
nothing in them but these paths. Knows nothing of what is at the paths.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from marco_data.errors import RecipeError
from marco_data.hub import HubPath, commit_of, hub_path
from marco_data.recipe import load_recipe, read_with_includes


@dataclass(frozen=True)
class Pin:
    """`path` as it stands in `file`, and the same at a commit."""

    file: Path
    line: int
    path: str
    pinned: str


def find_pins(recipe: Path) -> list[Pin]:
    """By file and line. RecipeError where a repository is not there, or a path is put together and stands nowhere."""
    moving = list(dict.fromkeys(load_recipe(recipe).unpinned))
    _, lines = read_with_includes(recipe, set())
    texts = {file: read_exactly(file) for file in {recipe, *(file for file, _ in lines.values())}}
    asked: dict[str, str] = {}
    pins = []
    for path in moving:
        there = hub_path(path)
        assert isinstance(there, HubPath)
        if there.place not in asked:
            asked[there.place] = commit_of(there)
        found = [
            Pin(file, text.count("\n", 0, match.start()) + 1, path, there.at(asked[there.place]))
            for file, text in texts.items()
            for match in _as_written(path).finditer(text)
        ]
        if not found:
            raise RecipeError(
                f"`{path}` is nowhere in {', '.join(map(str, sorted(texts)))} as it is read",
                hint=f"write `{there.at(asked[there.place])}` in its place",
            )
        pins += found
    return sorted(pins, key=lambda pin: (str(pin.file), pin.line, pin.path))


def write_pins(pins: list[Pin]) -> None:
    """Change the files, each in one move. RecipeError where one cannot be written."""
    for file in sorted({pin.file for pin in pins}):
        text = read_exactly(file)
        for pin in pins:
            if pin.file == file:
                text = _as_written(pin.path).sub(pin.pinned.replace("\\", r"\\"), text)
        beside = file.with_name(f".{file.name}.{os.getpid()}.partial")
        try:
            beside.write_bytes(text.encode())
            shutil.copymode(file, beside)
            beside.replace(file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise RecipeError(
                f"`{file}` cannot be written: {error.strerror}",
                hint="`marco-data recipe show RECIPE > my-recipe.yaml` makes one recipe of it that is yours",
            ) from error


def read_exactly(file: Path) -> str:
    """The text with the ends of its lines as they are."""
    return file.read_bytes().decode("utf-8")


def _as_written(path: str) -> re.Pattern[str]:
    """The path where it ends there: another may begin with it."""
    return re.compile(rf"{re.escape(path)}(?=[\s\"',\]}}]|$)")
