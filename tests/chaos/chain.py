"""One build after another in one root, each in a fork of this process that dies at its point; the last goes to the end.

In: on stdin, `{recipe, pools, root, points}`. Out: a line of JSON for each build: how it ended and what it was told.
The forks find the kernels compiled and loaded; what starts threads (tokenizers, the asking of models) this process
leaves to them.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from fatal_storage import FatalStorage, Point, Write

from marco_data.cli_build import Machines, plan_of, reachable
from marco_data.dataset import Dataset
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.recipe import load_recipe
from marco_data.stage import Stage, finish
from marco_data.storage import Storage

THREADED = ("generate", "tokenize")


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def build(recipe_file: str, pools: str, storage: Storage, heard: Heard) -> Stage:
    """A stage in this process, as the command builds it."""
    recipe = load_recipe(Path(recipe_file))
    dataset = reachable(plan_of(recipe), Machines(pools=Path(pools)), storage)
    result = run(dataset, storage, LocalExecutor(), heard, watch=recipe.watch)
    return finish(recipe, dataset, result, storage)


def load_kernels(recipe_file: str) -> None:
    nodes = plan_of(load_recipe(Path(recipe_file))).nodes
    first = next(n for n, node in enumerate(nodes) if node.name.startswith(THREADED))
    with tempfile.TemporaryDirectory() as folder:
        run(Dataset(nodes[:first]), Storage(folder), LocalExecutor(), Silent())


def build_in_fork(given: dict, point: Point | None) -> None:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        print(json.dumps({"ended": os.waitstatus_to_exitcode(status), "point": str(point)}), flush=True)
        return
    heard = Heard()
    stage = build(given["recipe"], given["pools"], FatalStorage(given["root"], point), heard)
    print(json.dumps({"balanced": stage.balanced, "complete": stage.complete, "said": heard.said}), flush=True)
    os._exit(0)


def main() -> None:
    given = json.load(sys.stdin)
    load_kernels(given["recipe"])
    for write, when in given["points"]:
        build_in_fork(given, Point(Write(**write), when))
    build_in_fork(given, None)


if __name__ == "__main__":
    main()
