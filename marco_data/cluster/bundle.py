"""What travels with a job: its recipe with all includes merged, and the small files and modules that it names.

In: a checked recipe, and its pools. Out: a folder `recipe.yaml`, `pools.yaml`, `files/` and the user's own modules,
which a node with this project installed builds from; the same input gives the same bytes. The sources stay where they
are. Knows neither Ray nor where the job runs.
"""

import ast
import importlib.util
import io
import re
import shutil
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from marco_data.contents import files_of
from marco_data.errors import RecipeError
from marco_data.generation.pools import load_pools
from marco_data.recipe import Recipe, change_files, change_paths
from marco_data.redact import lets_in, public_url

RECIPE, POOLS, FILES = "recipe.yaml", "pools.yaml", "files"
MOST_BYTES = 200 << 20
"""Of files that travel: Ray keeps a job's folder in the memory of the head, 500 MiB at most."""

OURS = frozenset({"marco_data", "pipelines", "recipes"})
NAMED = re.compile(r"([A-Za-z_]\w*)(?:\.\w+)*:[A-Za-z_]\w*")
"""How recipes and pools name what is Python: `package.module:Name`."""


@dataclass(frozen=True)
class Bundle:
    """The folder of a job. `elsewhere`: local paths of the recipe that every node has to see where they are."""

    folder: Path
    pools: bool
    elsewhere: tuple[str, ...]

    def packed(self) -> bytes:
        """All of it as one zip file, the same bytes for the same files."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
                entry = zipfile.ZipInfo(path.relative_to(self.folder).as_posix(), (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
        return out.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """A packed bundle as a folder again; refuses names that lead out of it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise RecipeError(f"the stored job names a file outside of itself: `{name}`")
        archive.extractall(folder)


def make_bundle(recipe: Recipe, pools: Path | None, folder: Path) -> Bundle:
    """Write what travels with a job of this recipe into an empty folder."""
    values: dict[str, Any] = recipe.model_dump(mode="json")
    change_paths(values, _open_to_all)
    elsewhere = [p for source in values["sources"].values() for p in source["paths"] if "://" not in p]
    taken: dict[str, str] = {}

    def carried(path: Any) -> Any:
        if not isinstance(path, str) or "://" in path:
            return path
        if not Path(path).exists():  # a pattern, or a file that only the nodes see
            elsewhere.append(path)
            return path
        if path not in taken:
            taken[path] = f"{FILES}/{len(taken)}/{Path(path).name}"
        return taken[path]

    change_files(values, carried)  # benchmarks are read where their index is made, and never in a build
    named = [values]
    if pools is not None:
        named.append({name: pool.model_dump(mode="json") for name, pool in load_pools(pools).items()})
        shutil.copyfile(pools, folder / POOLS)
    modules = _modules(named)
    _check_size([*taken, *map(str, modules)])
    for path, name in taken.items():
        _copy(Path(path), folder / name)
    text = yaml.safe_dump(values, sort_keys=True, allow_unicode=True, width=120)
    (folder / RECIPE).write_text(text, "utf-8")
    for module in modules:
        _copy(module, folder / module.name)
    return Bundle(folder, pools is not None, tuple(dict.fromkeys(elsewhere)))


def _open_to_all(path: Any) -> Any:
    """A path as it is; refuses one that would carry a secret into the cluster's list of jobs and the root."""
    if isinstance(path, str) and lets_in(path):
        raise RecipeError(
            f"`{public_url(path)}`: the recipe's URL holds a password or a signature, which would travel with the job",
            hint="write it without, and set the storage's own variables on the nodes, as a secret of their pods",
        )
    return path


def _check_size(paths: list[str]) -> None:
    sizes = {path: sum(file.stat().st_size for file in files_of(Path(path))) for path in paths}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise RecipeError(
            f"the files and modules of this recipe are {sum(sizes.values()):,} bytes, too many to travel with a job; "
            f"`{largest}` has {sizes[largest]:,}",
            hint="put it where every node reads it, and name that URL in the recipe; a module, install on the nodes",
        )


def _copy(path: Path, target: Path) -> None:
    """A file, or a folder without what is hidden or compiled."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    else:
        shutil.copyfile(path, target)


def _modules(values: Any) -> list[Path]:
    """The user's own modules that are named in `values`, and those that they import: files, or packages' folders."""
    found: dict[str, Path] = {}
    asked = {match.group(1) for text in _texts(values) if (match := NAMED.fullmatch(text))}
    while asked:
        name = asked.pop()
        path = None if name in found else _own_module(name)
        if path is not None:
            found[name] = path
            for file in files_of(path):
                asked |= _imported(file) if file.suffix == ".py" else set()
    return [found[name] for name in sorted(found)]


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value)


def _own_module(name: str) -> Path | None:
    """Where a top-level module of the user's lies; None for what is installed, or no module at all."""
    if name in OURS:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    places = [*(spec.submodule_search_locations or ())] if spec else []
    origin = Path(places[0]) if places else Path(spec.origin) if spec and spec.has_location and spec.origin else None
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    if origin is None or any(path in installed for path in origin.resolve().parents):
        return None
    return origin


def _imported(file: Path) -> set[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # a package may have files that nobody imports; who does is told there
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names
