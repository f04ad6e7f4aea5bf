"""What a root takes of its disk or bucket, by step and by recipe.

In: the root's manifests and a listing of its folders. Out: files and bytes. Steps share folders between builds and
builds share records: what one build needs alone is what pruning it would free. Reads no data.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from marco_data.prune import POINTER
from marco_data.reach import STAGE, Reach, folders_of
from marco_data.storage import Storage


@dataclass(frozen=True)
class StepUse:
    """The folders of one kind of step; `unneeded`: bytes that no build in the root names."""

    name: str
    files: int
    bytes: int
    unneeded: int


@dataclass(frozen=True)
class BuildUse:
    """The newest build of one recipe: all it needs, and what nothing else in the root does."""

    name: str
    folder: str
    bytes: int
    own: int


@dataclass(frozen=True)
class DiskUse:
    steps: tuple[StepUse, ...]
    builds: tuple[BuildUse, ...]

    @property
    def bytes(self) -> int:
        return sum(step.bytes for step in self.steps)

    @property
    def unneeded(self) -> int:
        return sum(step.unneeded for step in self.steps)

    def to_object(self) -> dict[str, Any]:
        return {**asdict(self), "bytes": self.bytes, "unneeded": self.unneeded}


NOBODY, SHARED = -1, -2


def disk_use(storage: Storage) -> DiskUse:
    """One build's needs are held at a time, and of each file a number: whose alone it is, nobody's, or of several."""
    sizes = {entry.path: entry.bytes for folder in folders_of(storage) for entry in storage.below(folder)}
    stages: dict[str, list[str]] = defaultdict(list)  # of these a build needs all, of other folders single files
    for path in sizes:
        folder = path.partition("/")[0]
        if STAGE.fullmatch(folder):
            stages[folder].append(path)
    owner = dict.fromkeys(sizes, NOBODY)
    builds = sorted(_builds(storage))
    needed, own = [0] * len(builds), [0] * len(builds)
    for number, (_, folder) in enumerate(builds):
        for path in _needed(storage, folder, sizes, stages):
            needed[number] += sizes[path]
            owner[path] = number if owner[path] == NOBODY else SHARED
    steps: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path, size in sizes.items():
        folder = path.partition("/")[0]
        sums = steps["stage" if STAGE.fullmatch(folder) else folder.rpartition("-")[0]]
        sums[0] += 1
        sums[1] += size
        sums[2] += size if owner[path] == NOBODY else 0
        if owner[path] >= 0:
            own[owner[path]] += size
    return DiskUse(
        tuple(StepUse(name, *sums) for name, sums in sorted(steps.items())),
        tuple(BuildUse(*build, *sums) for build, *sums in zip(builds, needed, own, strict=True)),
    )


def _builds(storage: Storage) -> Iterator[tuple[str, str]]:
    """(name of a recipe, folder of its newest build)."""
    for entry in storage.below("stages"):
        named = POINTER.fullmatch(entry.path)
        if named and named["of"] != "whole":
            yield f"{named['number']}.{named['of']}", str((storage.read_json(entry.path) or {}).get("stage", ""))


def _needed(storage: Storage, folder: str, sizes: Mapping[str, int], stages: Mapping[str, list[str]]) -> set[str]:
    """The files of a root that a build needs, of those that are there."""
    reach = Reach()
    reach.add_stage(storage, folder)
    files = {path for path in reach.files if path in sizes}
    return files.union(*(stages.get(name, ()) for name in reach.folders))
