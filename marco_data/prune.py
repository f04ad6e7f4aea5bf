"""What of a root may go, because no recipe that is to be kept needs it, and its removal.

In: a root and the recipes to keep. Out: files, in an order in which whatever is left at any moment names nothing that
is gone: pointers, manifests, records, data. Never among them: what is younger than a day or being built, what a build
of the last day needs, what models were paid for (`ledger/`), logs, training runs, and files that no build would make.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from marco_data.errors import RecipeError
from marco_data.reach import STAGE, Reach, differences, folders_of, needed_by, worked_on
from marco_data.recipe import Recipe
from marco_data.storage import Entry, Storage, canonical_json

DAY = 86_400.0
AT_ONCE = 1_000
"""Files in one request to delete, by S3's rules."""

MANIFEST = re.compile(r"(?:manifest|records)-([0-9a-f]{12})(?:\.json|\.[0-9a-f]{8}\.parquet)")
MADE = re.compile(r".+\.[0-9a-f]{12}\.json|.+\.[0-9a-f]{8}\.(?:parquet|bin|idx|run|index)")
OF_A_STAGE = frozenset({"manifest.json", "blend.json", "blend.txt", "CARD.md"})
POINTER = re.compile(r"stages/(?P<number>(?P<family>.+)-[0-9])\.(?P<of>[0-9a-f]{12}|whole)\.json")


@dataclass
class Pruning:
    """What may go, and of what stays although nobody needs it, why."""

    goes: list[Entry] = field(default_factory=list)
    young: list[Entry] = field(default_factory=list)
    unknown: list[Entry] = field(default_factory=list)
    building: dict[str, str] = field(default_factory=dict)
    pointers: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    uploads: list[tuple[str, str]] = field(default_factory=list)
    kept: int = 0
    kept_bytes: int = 0

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.goes)

    @property
    def stages_gone(self) -> set[str]:
        """The folders of the builds that may go."""
        parts = (entry.path.partition("/") for entry in self.goes)
        return {folder for folder, _, name in parts if STAGE.fullmatch(folder) and name == "manifest.json"}

    def by_folder(self) -> dict[str, tuple[int, int]]:
        """{folder: (files, bytes)} of what may go."""
        out: dict[str, tuple[int, int]] = {}
        for entry in self.goes:
            folder = entry.path.partition("/")[0]
            files, size = out.get(folder, (0, 0))
            out[folder] = (files + 1, size + entry.bytes)
        return dict(sorted(out.items()))


def find(storage: Storage, keep: Sequence[Recipe], now: float, stages: Sequence[str] = ()) -> Pruning:
    """What of a root may go at the moment `now`, if these recipes are kept and the builds in the folders `stages`.

    Reads manifests and lists every folder; changes nothing.
    """
    listed = {folder: storage.below(folder) for folder in folders_of(storage)}
    reach, notes = needed_by(storage, keep, stages)
    for folder in listed:
        manifest = next((e for e in listed[folder] if e.path == f"{folder}/manifest.json"), None)
        if STAGE.fullmatch(folder) and manifest is not None and manifest.written > now - DAY:
            reach.add_stage(storage, folder)  # its old parts too
    found = Pruning(notes=notes, building=worked_on(storage, reach, listed, now - DAY))
    for folder, entries in listed.items():
        if folder in found.building:
            continue
        for entry in entries:
            if reach.has(entry.path):
                found.kept += 1
                found.kept_bytes += entry.bytes
            elif not _made_by_a_build(entry.path):
                found.unknown.append(entry)
            elif entry.written > now - DAY:
                found.young.append(entry)
            else:
                found.goes.append(entry)
    found.goes.sort(key=lambda entry: (_rank(entry.path), entry.path))
    found.pointers = _pointers(storage, found, reach)
    found.notes += _alike(storage, found, keep)
    try:
        found.uploads = storage.unfinished_uploads(now - DAY)
    except (PermissionError, RecipeError) as error:  # a right of its own, and not every server knows the request
        found.notes.append(f"uploads that were never completed cannot be listed: {error}")
    if found.uploads:
        found.notes.append(f"{len(found.uploads):,} uploads that began more than a day ago were never completed")
    return found


def _alike(storage: Storage, found: Pruning, keep: Sequence[Recipe]) -> list[str]:
    """Of each build that goes although a recipe of its family and stage is kept, in what it was another."""
    notes = []
    for folder in sorted(found.stages_gone):
        raw = storage.read_json(f"{folder}/manifest.json") or {}
        same = [recipe for recipe in keep if (recipe.family, recipe.stage) == (raw.get("family"), raw.get("stage"))]
        if same:
            keys = min((differences(raw["recipe"], recipe) for recipe in same), key=len)
            what = f"with another {', '.join(f'`{key}`' for key in keys)}" if keys else "from the same recipe, earlier"
            notes.append(
                f"`{folder}` goes: `{raw['family']}` stage {raw['stage']}, built {what}; --keep {folder} keeps it"
            )
    return notes


def _is_manifest(path: str) -> bool:
    return MANIFEST.fullmatch(path.partition("/")[2]) is not None


def _made_by_a_build(path: str) -> bool:
    folder, _, name = path.partition("/")
    if STAGE.fullmatch(folder):
        return name in OF_A_STAGE
    return _is_manifest(path) or MADE.fullmatch(name) is not None


def _rank(path: str) -> int:
    """Who names others goes before them."""
    folder, _, name = path.partition("/")
    if STAGE.fullmatch(folder):
        return 0 if name == "manifest.json" else 1
    if _is_manifest(path):
        return 2 if name.endswith(".json") else 3
    return 4 if name.endswith(".json") else 5


def _pointers(storage: Storage, found: Pruning, reach: Reach) -> dict[str, str | None]:
    """{pointer: the folder it is to name instead, None: it goes too} of those to a stage that goes.

    What said "the newest build" says it of the newest one that is left.
    """
    gone = found.stages_gone
    listed = storage.below("stages")
    targets = {e.path: (storage.read_json(e.path) or {}).get("stage", "") for e in listed if e.path.endswith(".json")}
    left: list[tuple[float, str, re.Match[str]]] = [
        (entry.written, targets[entry.path], named)
        for entry in listed
        if (named := POINTER.fullmatch(entry.path)) and named["of"] != "whole" and targets[entry.path] not in gone
    ]
    whole: dict[str, list[tuple[float, str]]] = defaultdict(list)  # a trial may have taken over a recipe's pointer
    for folder, stage in reach.stages.items():
        if stage.whole and folder not in gone:
            written = max(entry.written for entry in storage.below(folder))
            whole[f"{stage.family}-{stage.stage}.whole"].append((written, folder))
    out: dict[str, str | None] = {}
    for path, target in targets.items():
        if target not in gone:
            continue
        name = path.removeprefix("stages/").removesuffix(".json")
        fits = [(at, folder) for at, folder, named in left if name in (named["family"], named["number"])]
        fits += whole[name]
        out[path] = max(fits)[1] if fits else None
    return out


def remove(storage: Storage, found: Pruning, keep: Sequence[Recipe], now: float, stages: Sequence[str] = ()) -> int:
    """Delete what may go, after a second look at what has begun since; how many files went."""
    again = find(storage, keep, now, stages)
    still = {entry.path for entry in again.goes}
    paths = [entry.path for entry in found.goes if entry.path in still]
    for pointer, target in again.pointers.items():
        if (storage.read_json(pointer) or {}).get("stage") not in again.stages_gone:
            continue  # a build has ended since, and it names that
        if target is None:
            storage.remove(pointer)
        else:
            number = int(target.split("-")[1])
            storage.replace(pointer, canonical_json({"stage": target, "number": number}))
    storage.end_uploads(again.uploads)
    for rank in range(6):
        some = [path for path in paths if _rank(path) == rank]
        for start in range(0, len(some), AT_ONCE):
            storage.remove_many(some[start : start + AT_ONCE])
    return len(paths)
