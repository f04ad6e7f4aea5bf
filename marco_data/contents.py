"""What is in local files, as a digest: the same wherever they lie, and whatever they and their folder are called.

In: a file or a folder. Out: twelve hex digits, or the path itself where nothing is there. Reads each file once in a
process as long as its size and time stay; knows no recipe.
"""

import os
from functools import lru_cache
from pathlib import Path

from marco_data.errors import RecipeError
from marco_data.step import fingerprint
from marco_data.storage import file_digest

DEEPEST = 30
"""Folders within folders: a link that leads back has no end of them."""


def content_of(path: Path) -> str:
    """The digest of a file, or of a folder's files and their names in it, without those that are hidden."""
    if not path.exists():
        return str(path)
    said = [(file, file.stat()) for file in files_of(path)]
    return fingerprint([[str(f.relative_to(path)), _digest_at(f, at.st_size, at.st_mtime_ns)] for f, at in said])


def files_of(path: Path) -> list[Path]:
    """A file, or those of a folder that count: what is hidden or compiled neither does nor travels with a job."""
    if not path.is_dir():
        return [path]
    files = []
    for folder, below, names in os.walk(path, followlinks=True):  # links travel as what they lead to
        if folder.count(os.sep) - str(path).count(os.sep) > DEEPEST:
            raise RecipeError(f"`{path}`: folders lie more than {DEEPEST} deep in it", hint="does a link lead back?")
        below[:] = [name for name in below if not _hidden(name)]
        files += [Path(folder, name) for name in names if not _hidden(name)]
    return sorted(file for file in files if file.is_file())


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


@lru_cache(maxsize=4096)
def _digest_at(path: Path, size: int, modified: int) -> str:
    """Kept: a recipe is asked for its name again and again."""
    return file_digest(path)
