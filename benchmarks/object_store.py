"""`python -m benchmarks.object_store`: what builds of N and of 10 N shards leave in Ray's object store.

In: numbers of shards. Out: a table: tasks, text that went through them, the most that the stores of all raylets held at
any one time, what was ever put into them, what they spilled. The cluster is a head and two raylets on this machine;
every build is a whole stage 3 in a new root. Raylets are asked what they hold themselves, ten times a second, and what
they ever held at the end: a peak between two looks is not missed by the second. Knows no other figure of a build.
"""

import argparse
import importlib
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.places import environment, raylets
from benchmarks.chaos.recipes import of_tests
from benchmarks.corpus import rounds
from marco_data.execute import Silent, run
from marco_data.ray_executor import RayExecutor
from marco_data.recipe import load_recipe
from marco_data.stage import finish
from marco_data.storage import Storage

LOOK_SECONDS = 0.1
SHARDS = (40, 400)
SHARD_BYTES = 20_000
"""Of text. What a task says of its shard is as large for 256 MB, and that is what could end up in the store."""


@dataclass(frozen=True)
class Store:
    """What raylets say of their stores, all together. `created` counts copies on other nodes too."""

    held: int = 0
    created_objects: int = 0
    created: int = 0
    spilled: int = 0


@dataclass
class Use:
    """The stores during one build."""

    shards: int
    tasks: int = 0
    text: int = 0
    most: int = 0
    created_objects: int = 0
    created: int = 0
    spilled: int = 0
    by_step: dict[str, int] = field(default_factory=dict)  # bytes created while it ran


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.object_store", description="The object store of a build.")
    parser.add_argument("--shards", type=int, nargs="+", default=SHARDS, help="shards of each build (40 400)")
    shards = parser.parse_args().shards
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home,
        raylets(environment("object-store", Path(home))) as ray,
    ):
        uses = []
        for number in shards:
            uses.append(use_of_build(Path(home), ray.address, number))
            print(uses[-1], file=sys.stderr, flush=True)
    print(table(uses))


def table(uses: list[Use]) -> str:
    head = "| shards | tasks | text | most held at once | ever put in, copies included | objects | spilled |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for use in uses:
        figures = [use.shards, use.tasks, f"{use.text / 1e6:.1f} MB", f"{use.most / 1e3:.0f} kB"]
        figures += [f"{use.created / 1e3:.0f} kB", use.created_objects, f"{use.spilled / 1e3:.0f} kB"]
        lines.append("| " + " | ".join(map(str, figures)) + " |")
    steps = sorted({step for use in uses for step in use.by_step})
    lines += ["", "| put in while it ran | " + " | ".join(f"{use.shards} shards" for use in uses) + " |"]
    lines.append("|---|" + "---|" * len(uses))
    for step in steps:
        lines.append(f"| {step} | " + " | ".join(f"{use.by_step.get(step, 0) / 1e3:.1f} kB" for use in uses) + " |")
    return "\n".join(lines)


def use_of_build(folder: Path, address: str, shards: int) -> Use:
    """Build a stage 3 of so many shards on this cluster, and look at its stores all the time."""
    use = Use(shards)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        recipe = load_recipe(_recipe(Path(name), shards, use))
        dataset = recipe.pipeline_function()(recipe)
        storage = Storage(f"{name}/root")
        executor = _Watched(address=address, use=use)
        try:
            result = run(dataset, storage, executor, Silent())
            assert result.complete, result.failures
            assert finish(recipe, dataset, result, storage).balanced
            use.tasks = sum(result.ran.values())
        finally:
            executor.close()
    return use


@dataclass
class _Watched(RayExecutor):
    """The executor that builds use, and what its cluster's stores hold while a step's tasks run."""

    use: Use = field(default_factory=lambda: Use(0))

    def run(self, tasks: Any, storage: Storage) -> Iterator[Any]:
        if not tasks:
            return
        self._start()
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        before = stores(nodes)
        with watched(nodes) as seen:
            yield from super().run(tasks, storage)
        after = stores(nodes)
        use = self.use
        use.most = max(use.most, after.held, *seen)
        use.created += after.created - before.created
        use.created_objects += after.created_objects - before.created_objects
        use.spilled += after.spilled - before.spilled
        use.by_step[tasks[0].node.name] = after.created - before.created


def stores(nodes: list[dict[str, Any]]) -> Store:
    """As `ray memory` asks them, one after another."""
    ask = importlib.import_module("ray._private.internal_api").node_stats
    said = [ask(node["NodeManagerAddress"], node["NodeManagerPort"], False).store_stats for node in nodes]
    return Store(
        sum(one.object_store_bytes_used for one in said),
        sum(one.cumulative_created_objects for one in said),
        sum(one.cumulative_created_bytes for one in said),
        sum(one.spilled_bytes_total for one in said),
    )


@contextmanager
def watched(nodes: list[dict[str, Any]]) -> Iterator[list[int]]:
    """What the stores hold, looked at until the end of the block."""
    held, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            held.append(stores(nodes).held)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def _recipe(folder: Path, shards: int, use: Use) -> Path:
    """A file for each shard, of prose in 64 languages."""
    small = of_tests("small_corpus")
    corpus = folder / "corpus" / "web"
    corpus.mkdir(parents=True)
    for number, texts in enumerate(rounds(shards, SHARD_BYTES)):
        use.text += sum(len(text.text.encode()) for text in texts)
        rows = [{"id": f"{number}-{n}", "text": text.text} for n, text in enumerate(texts)]
        (corpus / f"{number:06d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = small.recipe_values(folder / "corpus")
    values |= {
        "languages": "all",
        "sources": {"web": {"paths": [f"{corpus}/*"], "fields": {"text": "text", "id": "id"}}},
    }
    values |= {"mixture": {"web": {"weight": 1}}}
    path: Path = small.write_recipe(folder / "recipe.yaml", values)
    return path


if __name__ == "__main__":
    main()
