"""Slow tasks: found among written logs with the cause that was planted, and told after a build that had one."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from small_corpus import prose, recipe_values, write_corpus, write_recipe

from marco_data.storage import Storage
from marco_data.stragglers import MOST, SlowStep, Spread, Stragglers, read_stragglers

FOLDERS = {"measure": "measure-1", "generate_qa": "generate-2"}


def line(task: str, **said: Any) -> dict[str, Any]:
    """A task like most: 50 MB in ten seconds of the processor, on one of two machines."""
    host = f"host-{sum(task.encode()) % 2}"
    usual = {"node": "measure", "folder": FOLDERS[said.get("node", "measure")], "seconds": 10.0, "processor": 9.5}
    return {"task": task, **usual, "bytes": 50_000_000, "host": host, "error": None, **said}


def usual(number: int = 50, **said: Any) -> list[dict[str, Any]]:
    return [line(f"task-{n}", **said) for n in range(number)]


def found(lines: Iterable[dict[str, Any]]) -> list[SlowStep]:
    stragglers = Stragglers()
    for one in lines:
        stragglers.add(one)
    return stragglers.found()


PLANTED: dict[str, tuple[dict[str, Any], str]] = {
    "larger input": (
        {"seconds": 100.0, "processor": 95.0, "bytes": 500_000_000},
        "reads 500.0 MB, 10.0 times the usual",
    ),
    "storage": (
        {"seconds": 100.0, "storage_retries": {"503": 5, "reset": 2}},
        "waited 90 of 100 seconds, with 7 requests to storage tried again (503 5, reset 2)",
    ),
    "waiting": ({"seconds": 100.0}, "waited 90 of 100 seconds: for storage, or for a processor"),
    "heavy text": ({"seconds": 100.0, "processor": 99.0}, "0.5 MB a second of its text, where 5"),
    "worker died": ({"lost": {"memory": 2, "node": 1}}, "died 3 times (memory 2, node 1), and it was sent again"),
    "engines": (
        {"node": "generate_qa", "seconds": 100.0, "processor": 1.0},
        "waited 99 of 100 seconds for what models",
    ),
}


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_cause_is_the_one_that_is_told(cause):
    said, why = PLANTED[cause]
    node = said.get("node", "measure")
    (step,) = found([*usual(node=node), line("odd", **said)])
    assert [(task.task, task.cause) for task in step.worst] == [("odd", cause)]
    assert why in step.worst[0].why
    assert (step.node, step.tasks) == (node, 51)
    assert step.usual == pytest.approx(10, rel=0.01)
    assert (step.slow, step.sent_again) == ((0, 1) if cause == "worker died" else (1, 0))


def test_a_machine_that_is_slower_than_the_others_is_named():
    slow = [line(f"there-{n}", host="host-9", seconds=40.0, processor=39.0) for n in range(4)]
    (step,) = found([*usual(), *slow])
    assert {task.cause for task in step.worst} == {"slow machine"}
    assert len(step.worst) == step.slow == 4
    assert "host-9 takes 4.0 times as long for a byte as the others" in step.worst[0].why


def test_what_is_like_the_others_or_takes_a_moment_is_not_told():
    assert found(usual()) == []
    assert found([*usual(seconds=0.1), line("odd", seconds=1.0)]) == []  # ten times, and nobody waits for it
    assert found([*usual(), line("odd", seconds=29.0, processor=1.0)]) == []
    failed = line("odd", seconds=900.0, error="it could not be read")
    assert found([*usual(), failed]) == []


def test_of_very_many_the_worst_are_kept_and_all_are_counted():
    many = [line(f"odd-{n}", seconds=100.0 + n, processor=99.0 + n) for n in range(3 * MOST)]
    (step,) = found([*many, *usual(2000)])
    assert step.slow == 3 * MOST
    assert [task.seconds for task in step.worst] == [100.0 + n for n in reversed(range(2 * MOST, 3 * MOST))]
    assert (step.usual, found([*usual(2000), *many])) == (step.usual, [step])


def test_the_middle_of_a_spread_is_within_two_percent_whatever_the_order():
    spread = Spread()
    for figure in [*range(1, 100_000, 7), 1e-9, 0.0]:
        spread.add(figure)
    assert spread.middle == pytest.approx(50_000, rel=0.02)
    assert spread.above(75_000) == pytest.approx(25_000 / 7, rel=0.05)
    assert (spread - spread).middle is None


def test_a_line_whose_text_has_another_alphabets_line_break_is_whole(tmp_path):
    storage = Storage(str(tmp_path))
    lost = line("odd", lost={"worker": 4}, error="its worker died over \u2028 and \x85 in a file's name")
    lines = [json.dumps(one, ensure_ascii=False) for one in [*usual(), lost]]
    storage.replace("runs/20260101T000000Z-1-00000.jsonl", "\n".join(lines).encode())
    (step,) = read_stragglers(storage, FOLDERS)
    assert [task.task for task in step.worst] == ["odd"]


def test_logs_of_other_builds_and_cut_off_lines_are_passed_over(tmp_path):
    storage = Storage(str(tmp_path))
    odd = line("odd", seconds=100.0)
    foreign = [line("other", folder="measure-9", seconds=900.0), line("none", node="measure") | {"node": "mix"}]
    old = line("old", seconds=200.0)
    del old["folder"]
    logs = {"20260101T000000Z-1-00000.jsonl": [*usual(), odd], "20260102T000000Z-2-00000.jsonl": [*foreign, old]}
    for name, lines in logs.items():
        storage.replace(f"runs/{name}", "\n".join(map(json.dumps, lines)).encode() + b'\n{"task": "cut o')
    (step,) = read_stragglers(storage, FOLDERS)
    assert [task.task for task in step.worst] == ["old", "odd"]


@pytest.fixture(scope="module")
def sleepy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe of twelve shards with a step that sleeps over one document, and its root."""
    folder = tmp_path_factory.mktemp("sleepy")
    values = recipe_values(write_corpus(folder / "corpus"))
    word = prose("eng_Latn")[1].split()[20]
    values["steps"]["extra"] = [{"step": "fatal_steps:Sleeps", "arguments": {"word": word, "seconds": 6.0}}]
    recipe = write_recipe(folder / "r.yaml", {**values, "shards": {"bytes": 3000, "tokens": 2000}})
    return recipe, folder / "out"


def test_a_build_ends_with_a_line_on_its_slow_tasks_and_a_command_that_names_them(sleepy):
    recipe, root = sleepy
    where = ("--recipe", recipe, "--root", root)
    built = marco("build-stage", 3, *where, "--executor", "local")
    assert built.code == 0, built.err
    assert re.search(
        r"note: of the tasks, \d+ took more than 3 times what is usual of their step \(.*waiting", built.err
    )
    (told,) = [text for text in built.err.splitlines() if "which, and why: " in text]
    assert told.endswith(f"stats 3 --slow --recipe {recipe} --root {root}")
    asked = marco("stats", 3, "--slow", *where, "--json")
    assert asked.code == 0, asked.err
    measure = next(step for step in asked.json["steps"] if step["node"] == "measure")
    odd = next(task for task in measure["worst"] if task["cause"] == "waiting")
    assert odd["seconds"] > 6
    table = marco("stats", 3, "--slow", *where).out
    assert odd["task"] in table
    assert "for storage, or for a processor" in table


def test_a_build_without_slow_tasks_says_so_when_asked(sleepy):
    recipe, root = sleepy
    storage = Storage(str(root))
    for name in storage.names("runs"):
        if name.endswith(".jsonl"):
            storage.remove(f"runs/{name}")
    asked = marco("stats", 3, "--slow", "--recipe", recipe, "--root", root)
    assert asked.out == "no task took 3 times what is usual of its step and 5 s more; none was sent again\n"
