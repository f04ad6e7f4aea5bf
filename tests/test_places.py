"""What the tasks of a step take: read from a pools file, its mistakes told, and without a trace in what is built."""

import re
from pathlib import Path

import pytest
from roots import digests
from small_corpus import as_recipe, recipe_values, write_corpus

from marco_data.cli_build import Machines, plan_of, reachable
from marco_data.dataset import Dataset
from marco_data.errors import RecipeError
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.generation.pools import load_pools
from marco_data.places import Place, load_places
from marco_data.storage import Storage

GOOD = """\
steps:
  all: {resources: {cpu_node: 0.01}, cpus: 1}
  measure: {memory: 4GiB, in_flight: 20}
  dedup:
    cpus: 2
  settle: {cpus: 4}
  generate: {cpus: 0.1}
"""

# (what is replaced in GOOD, by what, line of the mistake, what the message says)
MISTAKES: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "step": ("measure:", "mesure:", 3, ("`steps.mesure`", "did you mean `measure`?")),
    "step like no other": ("settle:", "xyzzy:", 6, ("`steps.xyzzy`", "those that `marco-data plan` prints")),
    "key": ("in_flight", "inflight", 3, ("unknown key `steps.measure.inflight`", "did you mean `in_flight`?")),
    "memory": ("4GiB", "4 gigs", 3, ("`steps.measure.memory`", "`4GiB`, `500MB`")),
    "nothing": ("cpus: 4", "cpus: 0", 6, ("`steps.settle.cpus`", "greater than 0")),
    "endless": ("cpus: 4", "cpus: .inf", 6, ("`steps.settle.cpus`", "finite")),
    "resource": ("0.01", "a little", 2, ("`steps.all.resources.cpu_node`", "valid number")),
    "resource of Ray's own": ("cpu_node", "CPU", 2, ("`steps.all.resources`: `CPU` is no name", "`cpus` says it")),
    "no mapping": ("{cpus: 4}", "4", 6, ("`steps.settle` is a mapping: cpus, memory, resources, in_flight",)),
    "no steps": (GOOD, "steps: [measure]\n", 1, ("`steps` is a mapping",)),
}


@pytest.fixture
def plan(tmp_path: Path) -> Dataset:
    return plan_of(as_recipe(recipe_values(write_corpus(tmp_path / "corpus"))))


def write(folder: Path, text: str) -> Path:
    path = folder / "pools.yaml"
    path.write_text(text, "utf-8")
    return path


def test_of_several_keys_that_mean_a_step_the_closest_counts(plan, tmp_path):
    places = load_places(write(tmp_path, GOOD), plan.nodes)
    everywhere = {"cpu_node": 0.01}
    assert places["measure"] == Place(cpus=1, memory=4 << 30, resources=everywhere, in_flight=20)
    assert places["decide"] == Place(cpus=1, resources=everywhere)
    assert places["ranks"] == places["dedup"] == Place(cpus=2, resources=everywhere)
    assert places["settle"] == Place(cpus=4, resources=everywhere)
    assert places.keys() == {node.name for node in plan.nodes}
    assert load_places(write(tmp_path, "steps: {mix: {cpus: 3}}"), plan.nodes) == {"mix": Place(cpus=3)}
    assert load_places(write(tmp_path, "other: {kind: scripted, script: a:b}"), plan.nodes) == {}


@pytest.mark.parametrize(
    ("said", "size"), [("4GiB", 4 << 30), ("500 MB", 500_000_000), ("1.5K", 1500), ("7", 7), ("2Ti", 2 << 40), (9, 9)]
)
def test_memory_is_written_in_units_or_bytes(said, size):
    assert Place(memory=said).memory == size


def test_what_a_task_asks_of_ray_has_rays_names():
    place = Place(memory="1MB", resources={"fast_disk": 1.0})
    assert place.wants(0.25) == {"CPU": 0.25, "memory": 1e6, "fast_disk": 1.0}
    assert Place(cpus=2).wants(0.25) == {"CPU": 2}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_place(name, plan, tmp_path):
    old, new, line, parts = MISTAKES[name]
    assert GOOD.count(old) == 1
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(RecipeError) as failed:
        reachable(plan, Machines(pools=path), Storage(str(tmp_path / "root")))
    assert failed.value.message.startswith(f"{path}:{line}: ")
    assert [part for part in parts if part not in failed.value.message] == []
    assert not (tmp_path / "root").exists()


def test_the_documented_file_is_right_with_and_without_what_is_set_aside(plan, tmp_path, checkout):
    documented = (checkout / "infra" / "pools.yaml").read_text("utf-8")
    head, steps = documented.split("\nsteps:\n")
    assert load_places(checkout / "infra" / "pools.yaml", plan.nodes) == {"measure": Place(memory="1GiB")}
    whole = load_places(write(tmp_path, f"{head}\nsteps:\n{re.sub('^  # ', '  ', steps, flags=re.M)}"), plan.nodes)
    assert whole["settle"] == Place(memory="16GiB", resources={"cpu_node": 0.001})


def test_steps_are_no_pool_and_no_part_of_what_is_built(plan, tmp_path):
    path = write(tmp_path, GOOD)
    assert load_pools(path) == {}
    assert len(load_places(path, plan.nodes)) == len(plan.nodes)
    placed = reachable(plan, Machines(pools=path), Storage(str(tmp_path / "there")))
    assert placed.fingerprint == plan.fingerprint
    for root, dataset in (("there", placed), ("here", plan)):
        assert run(dataset, Storage(str(tmp_path / root)), LocalExecutor(), Silent()).complete
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    assert len(digests(tmp_path / "here")) > 50
