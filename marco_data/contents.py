"""What is in local files, as a digest: the same wherever they lie, and whatever they and their folder are called.

In: a file or a folder. Out: twelve hex digits, or the path itself where nothing is there. Reads each file once in a
process as long as its size and time stay; knows no recipe.
"""

from functools import lru_cache
from pathlib import Path

from marco_data.step import fingerprint
from marco_data.storage import file_digest


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
    return [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p.relative_to(path))]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


@lru_cache(maxsize=4096)
def _digest_at(path: Path, size: int, modified: int) -> str:
    """Kept: a recipe is asked for its name again and again."""
    return file_digest(path)
