"""Which files of a root its builds need, and which of its folders are being worked on.

In: the manifests of stages and nodes, and what `runs/` says of runs that have not ended. Out: paths. A build needs its
stage's folder, its nodes' records and every file that those name, and the same of the stage that it goes on after.
What a `dedup: index` names is needed too, as long as the index is there.

Knows nothing of steps, and reads no data: of a node one manifest, whatever the number of its tasks.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from marco_data.cluster.leases import FOLDER as LEASES
from marco_data.nodes.mix import build_before
from marco_data.recipe import Recipe
from marco_data.record_table import records_of
from marco_data.run_state import FOLDER, RunState
from marco_data.stage import Stage, find_stage
from marco_data.storage import Entry, Storage

NODE = re.compile(r"[a-z][a-z_]*-[0-9a-f]{12}")
STAGE = re.compile(r"stage-[0-9]-[0-9a-f]{12}")


@dataclass
class Reach:
    """What is needed: single files, and folders of which all is."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    stages: dict[str, Stage] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        return path in self.files or path.partition("/")[0] in self.folders

    def add_stage(self, storage: Storage, folder: str) -> None:
        """The build in a folder, and those that it goes on after."""
        raw = None if folder in self.stages else storage.read_json(f"{folder}/manifest.json")
        if raw is None:
            return
        stage = Stage.from_json(raw)
        self.stages[folder] = stage
        self.folders.add(folder)
        for node in stage.nodes.values():
            for path in node["records"]:
                self.add_record(storage.read_json(path))
            if node["manifest"] is not None:
                self.add_manifest(storage, node["manifest"])
        if stage.mix.get("after"):
            self.add_stage(storage, stage.mix["after"])

    def add_before(self, storage: Storage, family: str, stage: int, after: str) -> None:
        """What a build that has no manifest yet is to go on after: without it that would begin anew."""
        before = build_before(storage, family, stage, after)
        if before is not None:
            self.add_stage(storage, before[0])

    def add_manifest(self, storage: Storage, path: str) -> None:
        found = storage.read_json(path)
        if found is None or path in self.files:
            return
        self.files |= {path, found["records"]}
        for record in records_of(storage, path) or ():
            self.files.update(file.path for file in record.data)
            self.add_record({"folder": record.folder, "key": record.key, "named": [record.reads, record.facts]})

    def add_record(self, raw: Any) -> None:
        """A record and every file it names, among its data or its facts."""
        if raw is not None:
            self.files.add(f"{raw['folder']}/{raw['key']}.json")
            self.files.update(_named(raw))

    def add_index(self, raw: Any) -> None:
        for run in raw["runs"]:
            for records in run.values():
                for record in records:
                    self.add_record(record)


def _named(raw: Any) -> Iterator[str]:
    """The paths of all files that are described somewhere in a value."""
    if isinstance(raw, dict):
        if isinstance(raw.get("path"), str) and "digest" in raw:
            yield raw["path"]
        for value in raw.values():
            yield from _named(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _named(value)


def needed_by(storage: Storage, recipes: Sequence[Recipe]) -> tuple[Reach, list[str]]:
    """What the recipes and the indexes of a root need, and what a person should know of it.

    Of a recipe without a whole build it is not known which tasks it has: all of its steps' folders stay.
    """
    reach, notes = Reach(), []
    for recipe in recipes:
        stage = find_stage(storage, recipe.family, recipe.stage, recipe)
        if stage is not None:
            reach.add_stage(storage, stage.folder)
        if stage is not None and not stage.whole:
            trial = _whole_builds(storage, reach, recipe)
            if trial:
                notes.append(f"`{recipe.family}` stage {recipe.stage}: its newest build is a trial; {trial} stay too")
        if stage is None or not stage.complete:
            reach.folders |= {node.folder for node in recipe.pipeline_function()(recipe).nodes}
            reach.add_before(storage, recipe.family, recipe.stage, recipe.after)
            notes.append(
                f"`{recipe.family}` stage {recipe.stage} ({recipe.digest}) has no whole build here: "
                "the folders of all its steps stay, and the stage that it is to go on after"
            )
    for name in storage.names("indexes"):
        reach.add_index(storage.read_json(f"indexes/{name}"))
        notes.append(f"`indexes/{name}` stays, and with it what a later crawl is compared with")
    return reach, notes


def _whole_builds(storage: Storage, reach: Reach, recipe: Recipe) -> str:
    """Add the whole builds of a recipe whose newest one is a trial: that took over the pointer to them."""
    found = []
    for folder in (name for name in folders_of(storage) if STAGE.fullmatch(name)):
        raw = storage.read_json(f"{folder}/manifest.json")
        if raw is not None and raw["recipe"] == recipe.recorded and Stage.from_json(raw).whole:
            reach.add_stage(storage, folder)
            found.append(f"`{folder}`")
    return ", ".join(found)


def folders_of(storage: Storage) -> list[str]:
    """The folders of nodes and stages, by their names; whatever else lies in a root is nobody's here."""
    return [name for name in storage.names("") if NODE.fullmatch(name) or STAGE.fullmatch(name)]


def worked_on(storage: Storage, reach: Reach, listed: dict[str, list[Entry]], since: float) -> dict[str, str]:
    """{folder: why} of what is being built: runs that have not ended and leases, where something was written `since`.

    What those runs go on after is added to `reach`. A run that was killed has not ended either: after a day of silence
    it is taken for dead.
    """
    said = {entry.path: entry.written for entry in storage.below(FOLDER)}
    found: dict[str, str] = {}
    for path in said:
        raw = storage.read_json(path) if path.endswith(".json") else None
        if raw is None or "nodes" not in raw or raw["ended"] is not None:
            continue
        state = RunState.from_json(raw)
        folders = {node.folder for node in state.nodes}
        signs = [at for name, at in said.items() if state.run in name]
        signs += [entry.written for folder in folders for entry in listed.get(folder, ())]
        if max(signs) >= since:
            found |= dict.fromkeys(folders, f"the run {state.run} of {state.family}-{state.stage} works on it")
            reach.add_before(storage, state.family, state.stage, state.recipe.get("after", "nothing"))
    for entry in storage.below(LEASES):
        name = entry.path.rpartition("/")[2].removesuffix(".json")
        if entry.written >= since and name in listed:  # runs as a whole have notes there too
            found[name] = "somebody holds a lease on it"
    return found
