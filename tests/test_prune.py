"""`prune` and `stats --disk`: what named recipes need stays to the byte, and of the rest goes only what may go."""

import json
import os
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from roots import digests
from small_corpus import build, recipe_values, write_corpus, write_recipe

from marco_data.cluster.leases import lease_of
from marco_data.disk_use import disk_use
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.prune import Pruning, find, remove
from marco_data.reach import Reach
from marco_data.recipe import Recipe, load_recipe
from marco_data.run_state import Announced, end_state
from marco_data.storage import Storage

DAYS = 2 * 86_400


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    """A folder with two recipes and the root of both; what it held after the first, and after both."""
    folder = tmp_path_factory.mktemp("prune")
    values = recipe_values(write_corpus(folder / "in")) | {"languages": ["en", "bn"]}
    write_recipe(folder / "a.yaml", values)
    write_recipe(folder / "b.yaml", values | {"steps": {"identify_language": {"threshold": 0.5}}, "budget": 2000})
    build(folder / "a.yaml", folder / "root")
    first = digests(folder / "root")
    build(folder / "b.yaml", folder / "root")
    return folder, first, digests(folder / "root")


@pytest.fixture
def site(built: tuple[Path, dict[str, str], dict[str, str]], tmp_path: Path) -> Path:
    """A copy of it in which everything is two days old."""
    shutil.copytree(built[0], tmp_path / "site")
    age(tmp_path / "site" / "root", DAYS)
    for path in (tmp_path / "site").glob("*.yaml"):  # their sources stay where they were: so are the same recipes
        assert load_recipe(path).digest == load_recipe(built[0] / path.name).digest
    return tmp_path / "site"


def age(root: Path, seconds: float) -> None:
    for path in root.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_what_was_there_before_the_other_recipe_is_what_is_left(site: Path, built):
    first, both = built[1], built[2]
    assert len(both) > len(first)
    listed = marco("prune", "--keep", site / "a.yaml", "--root", site / "root", "--json")
    assert listed.code == 0, listed.err
    assert digests(site / "root") == both
    assert listed.json["deleted"] == 0
    done = marco("prune", "--keep", site / "a.yaml", "--root", site / "root", "--yes")
    assert done.code == 0, done.err
    assert sorted(set(digests(site / "root").items()) ^ set(first.items())) == []
    assert f"{listed.json['files']:,} files deleted" in done.err
    again = build(site / "a.yaml", site / "root")
    assert set(again.run.ran.values()) == {0}


def test_with_both_recipes_kept_nothing_goes(site: Path, built):
    done = marco("prune", "--keep", site / "a.yaml", site / "b.yaml", "--root", site / "root", "--yes")
    assert (done.code, digests(site / "root")) == (0, built[2])
    assert "nothing here that may go" in done.out


def test_what_is_younger_than_a_day_stays(site: Path, built):
    age(site / "root", 3600)
    done = marco("prune", "--keep", site / "a.yaml", "--root", site / "root", "--yes")
    assert (done.code, digests(site / "root")) == (0, built[2])


def test_a_build_of_today_keeps_the_old_records_it_rests_on(site: Path, built):
    manifests = (site / "root").glob("stage-3-*/manifest.json")
    for manifest in manifests:
        os.utime(manifest)
    marco("prune", "--keep", site / "a.yaml", "--root", site / "root", "--yes")
    assert digests(site / "root") == built[2]


def test_what_is_being_built_stays_and_what_died_days_ago_does_not(site: Path):
    storage, recipe = Storage(str(site / "root")), load_recipe(site / "a.yaml")
    folders = sorted({path.partition("/")[0] for path in (e.path for e in find(storage, [recipe], time.time()).goes)})
    folder = next(name for name in folders if name.startswith("decide-"))
    state = {"run": "x", "family": "small", "stage": 3, "digest": "0" * 12, "recipe": {}, "ended": None}
    nodes = [{"name": "decide", "kind": "decide", "folder": folder}]
    storage.replace("runs/now/x.json", json.dumps(state | {"nodes": nodes}).encode())
    found = find(storage, [recipe], time.time())
    assert list(found.building) == [folder]
    assert not [entry for entry in found.goes if entry.path.startswith(folder)]
    os.utime(site / "root" / "runs" / "now" / "x.json", (time.time() - DAYS,) * 2)
    assert [entry for entry in find(storage, [recipe], time.time()).goes if entry.path.startswith(folder)]


def test_what_no_build_makes_is_left_alone_and_told_of(site: Path):
    folder = next((site / "root").glob("decide-*"))
    for place in (folder / "notes.txt", site / "root" / "mine" / "x.parquet", site / "root" / "ledger" / "a.log"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
    age(site / "root", DAYS)
    done = marco("prune", "--keep", site / "a.yaml", "--root", site / "root", "--yes")
    assert "notes.txt" in done.out
    assert (folder / "notes.txt").exists()
    assert (site / "root" / "mine" / "x.parquet").exists()
    assert (site / "root" / "ledger" / "a.log").exists()


def test_a_recipe_without_a_build_keeps_the_folders_of_its_steps(site: Path):
    values = site / "a.yaml"
    values.write_text(values.read_text("utf-8") + "\nbudget: 1000\n", "utf-8")
    found = find(Storage(str(site / "root")), [load_recipe(values)], time.time())
    assert any("has no whole build here" in note for note in found.notes)
    assert not [entry for entry in found.goes if entry.path.startswith("measure-")]


def test_a_stage_that_is_not_built_yet_or_is_being_built_keeps_the_one_it_goes_on_after(site: Path):
    root = site / "root"
    storage = Storage(str(root))
    whole = json.loads((root / "stages" / "small-3.whole.json").read_text())["stage"]
    blend = f"{whole}/blend.json"
    fourth = site / "4.yaml"
    fourth.write_text((site / "b.yaml").read_text("utf-8").replace("stage: 3", "stage: 4"), "utf-8")
    kept, other = load_recipe(fourth), load_recipe(site / "a.yaml")
    assert [(r.stage, r.after) for r in (kept, other)] == [(4, "previous"), (3, "previous")]
    assert blend in {entry.path for entry in find(storage, [other], time.time()).goes}
    assert blend not in {entry.path for entry in find(storage, [kept], time.time()).goes}
    state = {"run": "x", "family": "small", "stage": 4, "digest": "0" * 12, "recipe": kept.recorded, "ended": None}
    storage.replace("runs/now/x.json", json.dumps(state | {"nodes": []}).encode())
    assert blend not in {entry.path for entry in find(storage, [other], time.time()).goes}


def test_a_pointer_to_what_goes_names_the_build_that_is_left(site: Path):
    newest = json.loads((site / "root" / "stages" / "small-3.json").read_text())["stage"]
    marco("prune", "--keep", site / "a.yaml", "--root", site / "root", "--yes")
    left = {path.name for path in (site / "root").glob("stage-3-*")}
    assert newest not in left
    for path in (site / "root" / "stages").iterdir():
        assert json.loads(path.read_text())["stage"] in left


def test_a_trial_on_a_sample_takes_nothing_from_the_whole_build_before_it(site: Path):
    root = site / "root"
    whole = json.loads((root / "stages" / "small-3.whole.json").read_text())["stage"]
    trial = build(site / "b.yaml", root, sample=0.5).stage
    assert (trial.sample, trial.whole, trial.folder != whole) == (0.5, False, True)
    before = digests(root)
    age(root, DAYS)
    done = marco("prune", "--keep", site / "b.yaml", "--root", root, "--yes")
    assert done.code == 0, done.err
    assert f"`{whole}` stay too" in done.out + done.err
    after = digests(root)
    assert {path for path in before if path.startswith((f"{whole}/", f"{trial.folder}/"))} <= set(after)
    assert json.loads((root / "stages" / "small-3.whole.json").read_text())["stage"] == whole
    again = build(site / "b.yaml", root)
    assert (again.stage.folder, set(again.run.ran.values())) == (whole, {0})


def test_where_the_last_whole_build_goes_the_one_that_stays_takes_its_place_and_no_trial(site: Path):
    root = site / "root"
    stages = root / "stages"
    mine = json.loads((stages / f"small-3.{load_recipe(site / 'a.yaml').digest}.json").read_text())["stage"]
    assert json.loads((stages / "small-3.whole.json").read_text())["stage"] != mine
    trial = build(site / "a.yaml", root, sample=0.5).stage
    age(root, DAYS)
    marco("prune", "--keep", site / "a.yaml", "--root", root, "--yes")
    assert json.loads((stages / "small-3.whole.json").read_text())["stage"] == mine
    assert {path.name for path in root.glob("stage-3-*")} == {mine, trial.folder}


@pytest.mark.parametrize("budget", [None, 1500], ids=["as it is", "with --budget"])
def test_what_a_broken_off_build_of_a_kept_recipe_has_done_stays(site: Path, budget: int | None):
    root, kept = site / "root", load_recipe(site / "a.yaml")
    before = set(digests(root))
    left_alone(root, load_recipe(site / "a.yaml", {"budget": budget}), sample=0.5)
    age(root, DAYS)
    done = set(digests(root)) - before
    assert len(done) > 5
    found = find(Storage(str(root)), [kept], time.time())
    assert done.isdisjoint(entry.path for entry in found.goes)
    (note,) = [note for note in found.notes if "has not come to its end" in note]
    (root / note.split("`")[-2]).unlink()  # a run that nobody will go on with can be given up
    assert done & {entry.path for entry in find(Storage(str(root)), [kept], time.time()).goes}


def test_an_unfinished_build_of_a_kept_recipe_with_another_budget_stays(site: Path):
    root, kept = site / "root", load_recipe(site / "a.yaml")
    other = load_recipe(site / "a.yaml", {"budget": 1500})
    left_alone(root, other)
    mixed = {path for path in digests(root) if path.startswith(mix_of(other))}
    assert mixed
    end_state(Storage(str(root)), other, "stage-3-" + "0" * 12)
    manifest = root / ("stage-3-" + "0" * 12) / "manifest.json"
    manifest.parent.mkdir()
    for complete in (False, True):
        whole = json.loads(next(root.glob("stage-3-*[!0]/manifest.json")).read_text())
        manifest.write_text(json.dumps(whole | {"complete": complete, "recipe": other.recorded}))
        age(root, DAYS)
        goes = {entry.path for entry in find(Storage(str(root)), [kept], time.time()).goes}
        name = f"{manifest.parent.name}/manifest.json"
        assert goes & {*mixed, name} == ({*mixed, name} if complete else set())


def mix_of(recipe: Recipe) -> str:
    return next(node.folder for node in recipe.pipeline_function()(recipe).nodes if node.name == "mix")


def test_a_trial_keeps_what_a_broken_off_whole_build_has_done(site: Path):
    root = site / "root"
    kept = load_recipe(site / "a.yaml", {"budget": 1000})
    before = set(digests(root))
    left_alone(root, kept)
    done = set(digests(root)) - before
    assert build(kept, root, sample=0.5).stage.complete
    age(root, DAYS)
    goes = {entry.path for entry in find(Storage(str(root)), [kept], time.time()).goes}
    assert done
    assert done.isdisjoint(goes)
    assert not [path for path in goes if path.startswith(("measure-", "decide-"))]


def left_alone(root: Path, recipe: Recipe, **options: Any) -> None:
    """A build that was ended by its machine before it could write a manifest."""
    storage, dataset = Storage(str(root)), recipe.pipeline_function()(recipe, **options)
    Announced.of(recipe, dataset.nodes, storage)
    run(dataset, storage, LocalExecutor(), Silent())


def test_a_run_that_waits_for_days_is_known_by_its_note_alone(site: Path):
    root, keep = site / "root", [load_recipe(site / "a.yaml")]
    storage, other = Storage(str(root)), load_recipe(site / "b.yaml")
    (decide,) = [node for node in other.pipeline_function()(other).nodes if node.name == "decide"]
    name = lease_of(Announced.of(other, [decide], storage).state.run)
    storage.replace(name, b"{}")
    age(root, DAYS)
    assert [e for e in find(storage, keep, time.time()).goes if e.path.startswith(f"{decide.folder}/")]
    os.utime(root / name)
    found = find(storage, keep, time.time())
    assert list(found.building) == [decide.folder]
    assert not [entry for entry in found.goes if entry.path.startswith(f"{decide.folder}/")]


def test_a_build_with_other_options_is_told_of_before_it_goes_and_kept_by_its_folder(site: Path):
    root = site / "root"
    pointer = root / "stages" / f"small-3.{load_recipe(site / 'b.yaml').digest}.json"
    folder = json.loads(pointer.read_text())["stage"]
    listed = marco("prune", "--keep", site / "a.yaml", "--root", root, "--json")
    assert folder in listed.json["folders"]
    (note,) = [note for note in listed.json["notes"] if folder in note]
    assert "with another `budget`, `steps`" in note
    assert f"--keep {folder} keeps it" in note
    before = digests(root)
    done = marco("prune", "--keep", site / "a.yaml", folder, "--root", root, "--yes")
    assert (done.code, digests(root)) == (0, before)
    none = marco("prune", "--keep", "stage-3-0123456789ab", "--root", root, "--yes")
    assert (none.code, digests(root)) == (2, before)
    assert "there is no build `stage-3-0123456789ab`" in none.err


def test_a_trial_leaves_whole_builds_of_an_older_version_and_of_nobody_known(site: Path):
    root, keep = site / "root", [load_recipe(site / "b.yaml")]
    storage, whole = Storage(str(root)), json.loads((root / "stages" / "small-3.whole.json").read_text())["stage"]
    trial = json.loads((root / whole / "manifest.json").read_text()) | {"folder": "stage-3-" + "0" * 12, "sample": 0.5}
    storage.replace(f"{trial['folder']}/manifest.json", json.dumps(trial).encode())
    for name in (f"small-3.{keep[0].digest}", "small-3", "small"):
        storage.replace(f"stages/{name}.json", json.dumps({"stage": trial["folder"], "number": 3}).encode())
    old = json.loads((root / whole / "manifest.json").read_text())
    for key in ("languages_from", "remove"):
        assert old["recipe"].pop(key) is None
    last = root / "stages" / "small-3.whole.json"
    for recipe, pointed in ((old["recipe"], "stage-3-" + "1" * 12), (old["recipe"] | {"seed": "x"}, whole)):
        storage.replace(f"{whole}/manifest.json", json.dumps(old | {"recipe": recipe}).encode())
        storage.replace("stages/small-3.whole.json", json.dumps({"stage": pointed, "number": 3}).encode())
        age(root, DAYS)
        assert last.is_file()
        assert f"{whole}/manifest.json" not in {entry.path for entry in find(storage, keep, time.time()).goes}


def test_a_pointer_that_a_build_has_moved_meanwhile_stays_as_it_is(site: Path, monkeypatch: pytest.MonkeyPatch):
    root, keep = site / "root", [load_recipe(site / "a.yaml")]
    storage, now = Storage(str(root)), time.time()
    found = find(storage, keep, now)
    newer = json.dumps({"stage": "stage-3-" + "0" * 12, "number": 3}).encode()
    number, family = root / "stages" / "small-3.json", root / "stages" / "small.json"

    def while_a_build_ends(*arguments: Any) -> Pruning:
        again = find(*arguments)
        number.write_bytes(newer)
        return again

    monkeypatch.setattr("marco_data.prune.find", while_a_build_ends)
    assert {"stages/small-3.json", "stages/small.json"} <= set(found.pointers)
    assert remove(storage, found, keep, now) == len(found.goes)
    assert number.read_bytes() == newer
    assert json.loads(family.read_text())["stage"] == found.pointers["stages/small.json"]


def test_a_root_without_builds_is_a_mistake(tmp_path: Path, site: Path):
    answer = marco("prune", "--keep", site / "a.yaml", "--root", tmp_path / "none", "--yes")
    assert answer.code == 2
    assert "nothing was built" in answer.err


def test_disk_use_counts_every_file_once_and_says_what_pruning_would_free(site: Path):
    told = marco("stats", 3, "--family", "small", "--disk", "--root", site / "root", "--json")
    assert told.code == 0, told.err
    use = told.json
    files = [p for folder in (site / "root").glob("*-*") for p in folder.rglob("*") if p.is_file()]
    assert (sum(s["files"] for s in use["steps"]), use["bytes"]) == (len(files), sum(p.stat().st_size for p in files))
    assert (len(use["builds"]), use["unneeded"]) == (2, 0)
    kept = load_recipe(site / "a.yaml").digest
    (other,) = [b for b in use["builds"] if not b["name"].endswith(kept)]
    goes = find(Storage(str(site / "root")), [load_recipe(site / "a.yaml")], time.time())
    assert goes.bytes == other["own"]
    assert "needed by it alone" in marco("stats", 3, "--disk", "--root", site / "root").out


def test_disk_use_holds_the_needs_of_one_build_and_looks_at_no_file_once_for_each(site: Path, monkeypatch):
    storage, made, alive = Storage(str(site / "root")), [], []

    class Watched(Reach):
        def __init__(self) -> None:
            super().__init__()
            alive.append(sum(known() is not None for known in made))
            made.append(weakref.ref(self))

        def has(self, path: str) -> bool:
            raise AssertionError(f"{path} was looked for in one build after the other")

    monkeypatch.setattr("marco_data.disk_use.Reach", Watched)
    before = disk_use(storage)
    assert alive == [0, 0]
    pointer = next((site / "root" / "stages").glob("small-3.????????????.json"))
    shutil.copy(pointer, pointer.with_name(f"small-3.{'0' * 12}.json"))
    same = disk_use(storage).builds
    assert len(same) == 3
    folder = json.loads(pointer.read_text())["stage"]
    assert [build.own for build in same if build.folder == folder] == [0, 0]
    assert {build.bytes for build in same} == {build.bytes for build in before.builds}
