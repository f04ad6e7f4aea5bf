"""Which files of a root its builds need, and which of its folders are being worked on.

In: the manifests of stages and nodes, and what `runs/` says of runs that have not ended. Out: paths. A build needs its
stage's folder, its nodes' records and every file that those name, and the same of the stage that it goes on after.
What a `dedup: index` names is needed too, as long as the index is there.

Knows nothing of steps, and reads no data: of a node one manifest, whatever the number of its tasks.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from marco_data.cluster.leases import FOLDER as LEASES
from marco_data.cluster.leases import lease_of
from marco_data.errors import RecipeError
from marco_data.nodes.mix import build_before
from marco_data.recipe import ADDED, Recipe
from marco_data.record_table import records_of
from marco_data.records import read_in_blocks
from marco_data.run_state import FOLDER, RunState, find_state, pointer_to
from marco_data.stage import Stage, find_stage
from marco_data.storage import Entry, Storage

NODE = re.compile(r"[a-z][a-z_]*-[0-9a-f]{12}")
STAGE = re.compile(r"stage-[0-9]-[0-9a-f]{12}")
BY_OPTIONS = frozenset({"budget", "languages", "mixture", "generate", "waive"})
"""Keys of a recipe that a build's options change; `--languages` also cuts what names languages."""


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
            for data in read_in_blocks(storage, node["records"]):
                self.add_record(json.loads(data))
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


def needed_by(storage: Storage, recipes: Sequence[Recipe], stages: Sequence[str] = ()) -> tuple[Reach, list[str]]:
    """What the recipes, the named stages and the indexes of a root need, and what a person should know of it.

    A build that was broken off has no manifest, so nothing says which records are its own: while a recipe's newest run
    has not come to a whole build, all folders of its steps stay.
    """
    reach, notes = Reach(), []
    for folder in stages:
        _add_named(storage, reach, folder)
    for recipe in recipes:
        named = f"`{recipe.family}` stage {recipe.stage}"
        stage = find_stage(storage, recipe.family, recipe.stage, recipe)
        trial = ""
        if stage is not None:
            reach.add_stage(storage, stage.folder)
            trial = "" if stage.whole else _whole_builds(storage, reach, recipe)
        if trial:
            kind = "unfinished" if stage is not None and not stage.complete else "a trial"
            notes.append(f"{named}: its newest build is {kind}; {trial} stay too, and the folders of all its steps")
        runs = list(_broken_off(storage, recipe))
        if stage is None or not stage.whole or any(state.digest == recipe.digest for state in runs):
            reach.folders |= {node.folder for node in recipe.pipeline_function()(recipe).nodes}
            reach.add_before(storage, recipe.family, recipe.stage, recipe.after)
        if stage is None or (not stage.whole and not trial):
            notes.append(
                f"{named} ({recipe.digest}) has no whole build here: "
                "the folders of all its steps stay, and the stage that it is to go on after"
            )
        for state in runs:
            reach.folders |= {node.folder for node in state.nodes}
            if state.ended is not None:
                reach.add_stage(storage, state.ended)  # what says that it is unfinished
            reach.add_before(storage, state.family, state.stage, state.recipe.get("after", "nothing"))
            notes.append(
                f"{named}: the run {state.run} has not come to its end; the folders of all its steps stay until it "
                f"has, or until `{pointer_to(state)}` is removed"
            )
    for name in storage.names("indexes"):
        reach.add_index(storage.read_json(f"indexes/{name}"))
        notes.append(f"`indexes/{name}` stays, and with it what a later crawl is compared with")
    return reach, notes


def _add_named(storage: Storage, reach: Reach, folder: str) -> None:
    """A build that is to be kept by its own name; of an unfinished one all that lies in its steps' folders."""
    reach.add_stage(storage, folder)
    if folder not in reach.stages:
        raise RecipeError(f"there is no build `{folder}` in `{storage.root}`", hint="stats --disk lists them")
    if not reach.stages[folder].complete:
        reach.folders |= {node["folder"] for node in reach.stages[folder].nodes.values()}


def _whole_builds(storage: Storage, reach: Reach, recipe: Recipe) -> str:
    """Add the whole builds of a recipe whose newest one is none: that took over the pointer to them.

    Where none of them is known to be the recipe's own, the last whole build of the stage stays.
    """
    found = []
    for folder in (name for name in folders_of(storage) if STAGE.fullmatch(name)):
        raw = storage.read_json(f"{folder}/manifest.json")
        if raw is not None and not differences(raw["recipe"], recipe) and Stage.from_json(raw).whole:
            reach.add_stage(storage, folder)
            found.append(f"`{folder}`")
    if not found:
        last = storage.read_json(f"stages/{recipe.family}-{recipe.stage}.whole.json")
        if last is not None:
            reach.add_stage(storage, last["stage"])
    return ", ".join(found)


def _broken_off(storage: Storage, recipe: Recipe) -> Iterator[RunState]:
    """Runs that have not ended, of a recipe or of the same with another budget, other languages or waivers.

    Of each such recipe only the newest run is looked at: it took up what those before it had done. One with another
    digest has not ended either where it came to an unfinished build.
    """
    named = re.compile(re.escape(f"{recipe.family}-{recipe.stage}.") + r"([0-9a-f]{12})\.json")
    for found in filter(None, map(named.fullmatch, storage.names(FOLDER))):
        state = find_state(storage, recipe.family, recipe.stage, found[1])
        if state is None:
            continue
        if state.ended is not None and (state.digest == recipe.digest or _is_complete(storage, state.ended)):
            continue
        if state.digest == recipe.digest or _apart_from_options(state.recipe) == _apart_from_options(recipe.recorded):
            yield state


def _is_complete(storage: Storage, folder: str) -> bool:
    """Also of a build that is gone: nothing of it is left to be finished."""
    raw = storage.read_json(f"{folder}/manifest.json")
    return raw is None or bool(raw["complete"])


def _apart_from_options(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded recipe without what `--budget`, `--languages` and `--waive` change in it."""
    out = {key: value for key, value in _filled(recorded).items() if key not in BY_OPTIONS}
    steps = dict(out.get("steps") or {})
    steps["quality"] = {key: value for key, value in (steps.get("quality") or {}).items() if key != "exempt"}
    return out | {"steps": steps}


def _filled(recorded: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(ADDED) | recorded


def differences(recorded: dict[str, Any], recipe: Recipe) -> list[str]:
    """The keys in which the recipe that a manifest holds is another than this one."""
    theirs, ours = _filled(recorded), recipe.recorded
    return sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))


def folders_of(storage: Storage) -> list[str]:
    """The folders of nodes and stages, by their names; whatever else lies in a root is nobody's here."""
    return [name for name in storage.names("") if NODE.fullmatch(name) or STAGE.fullmatch(name)]


def worked_on(storage: Storage, reach: Reach, listed: dict[str, list[Entry]], since: float) -> dict[str, str]:
    """{folder: why} of what is being built: runs that have not ended and leases, where something was written `since`.

    What those runs go on after is added to `reach`. A run that was killed has not ended either: after a day of silence
    it is taken for dead, unless it is of a recipe that is kept.
    """
    leases = {entry.path: entry.written for entry in storage.below(LEASES)}
    said = {entry.path: entry.written for entry in storage.below(FOLDER)}
    found: dict[str, str] = {}
    for path in said:
        raw = storage.read_json(path) if path.endswith(".json") else None
        if raw is None or "nodes" not in raw or raw["ended"] is not None:
            continue
        state = RunState.from_json(raw)
        folders = {node.folder for node in state.nodes}
        signs = [at for name, at in said.items() if state.run in name]
        signs.append(leases.get(lease_of(state.run), 0.0))  # written every 20 s, also by a run that waits for days
        signs += [entry.written for folder in folders for entry in listed.get(folder, ())]
        if max(signs) >= since:
            found |= dict.fromkeys(folders, f"the run {state.run} of {state.family}-{state.stage} works on it")
            reach.add_before(storage, state.family, state.stage, state.recipe.get("after", "nothing"))
    for path, written in leases.items():
        name = path.rpartition("/")[2].removesuffix(".json")
        if written >= since and name in listed:  # of runs as a whole there are notes too
            found[name] = "somebody holds a lease on it"
    return found
