"""What a root takes of its disk or bucket, by step and by recipe.

In: the root's manifests and a listing of its folders. Out: files and bytes. Steps share folders between builds and
builds share records: what one build needs alone is what pruning it would free. Reads no data.
"""

from collections import defaultdict
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


def disk_use(storage: Storage) -> DiskUse:
    sizes = {entry.path: entry.bytes for folder in folders_of(storage) for entry in storage.below(folder)}
    reaches: dict[str, tuple[str, Reach]] = {}
    for entry in storage.below("stages"):
        named = POINTER.fullmatch(entry.path)
        if named and named["of"] != "whole":
            folder = str((storage.read_json(entry.path) or {}).get("stage", ""))
            reach = Reach()
            reach.add_stage(storage, folder)
            reaches[f"{named['number']}.{named['of']}"] = (folder, reach)
    needed: dict[str, set[str]] = defaultdict(set)
    for name, (_, reach) in reaches.items():
        for path in sizes:
            if reach.has(path):
                needed[path].add(name)
    builds = tuple(
        BuildUse(
            name,
            folder,
            sum(size for path, size in sizes.items() if name in needed[path]),
            sum(size for path, size in sizes.items() if needed[path] == {name}),
        )
        for name, (folder, _) in sorted(reaches.items())
    )
    steps: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path, size in sizes.items():
        folder = path.partition("/")[0]
        sums = steps["stage" if STAGE.fullmatch(folder) else folder.rpartition("-")[0]]
        sums[0] += 1
        sums[1] += size
        sums[2] += 0 if needed[path] else size
    return DiskUse(tuple(StepUse(name, *sums) for name, sums in sorted(steps.items())), builds)
