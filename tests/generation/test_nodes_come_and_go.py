"""Real nodes of Ray that join and die during a run: every request is answered."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_engine import answer
from ray_nodes import cluster, join

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.generation.generator import Request, Sampling
from marco_data.generation.pools import VllmPool
from marco_data.generation.ray_pool import open_pool
from marco_data.ray_executor import RayExecutor
from marco_data.step import Tools
from marco_data.storage import Storage

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Asks(Node):
    """A node whose tasks ask the pool again and again, until `over` is there."""

    kind: ClassVar[str] = "asks"
    cpus: ClassVar[float] = 0.25
    pools: Any = None
    over: Path

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        return [Task(self, f"task-{number}", {"number": number}, None) for number in range(4)]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        async def go() -> tuple[int, int]:
            generator = open_pool(*self.pools["one"])
            asked = answered = 0
            while not asked or not self.over.exists():
                requests = [Request((("user", f"{task.key} {asked + n}"),), Sampling(max_tokens=8)) for n in range(16)]
                asked += len(requests)
                out = await asyncio.gather(*(generator.complete(request) for request in requests))
                answered += sum(got == answer(request) for got, request in zip(out, requests, strict=True))
            await generator.close()
            return asked, answered

        asked, answered = asyncio.run(go())
        return Outcome(facts={"asked": asked, "answered": answered})


def test_engines_join_when_gpus_come_and_are_replaced_when_they_go(tmp_path):
    journal, over = tmp_path / "journal", tmp_path / "over"
    pool = VllmPool.model_validate(
        {
            "kind": "vllm",
            "replicas": {"min": 1, "max": 2},
            "max_num_seqs": 8,
            "engine": {"seconds": 0.2, "journal": str(journal)},
            "environment": {"PYTHONPATH": str(HERE)},
        }
    )
    said: list[str] = []
    with cluster(HERE, num_cpus=2) as nodes:
        first = join(nodes, num_cpus=0, num_gpus=1)
        executor = RayExecutor(address=nodes.address, engine="fake_engine:FakeEngine", say=said.append)
        node = Asks(pools={"one": (pool, "any", "0" * 40, 512)}, over=over)
        storage = Storage(str(tmp_path / "root"))

        def come_and_go() -> None:
            """A second node comes, its engine is asked, and the first one goes under what it has been asked."""
            try:
                until(lambda: len(engines(journal)) == 1, "no engine was asked")
                join(nodes, num_cpus=0, num_gpus=1)
                until(lambda: len(engines(journal)) == 2, "the engine that joined was not asked")
                nodes.remove_node(first, allow_graceful=False)
                begun = len(journal.read_text().splitlines())
                until(
                    lambda: len(journal.read_text().splitlines()) > begun + 32, "the engine that is left is not asked"
                )
            finally:
                over.touch()

        with ThreadPoolExecutor() as threads:
            changes = threads.submit(come_and_go)
            done = list(executor.run(node.tasks(Context(storage, Tools(), {})), storage))
            changes.result()
        assert [end.error for end in done] == [None] * 4
        assert all(end.record.facts["asked"] == end.record.facts["answered"] >= 16 for end in done)
        assert said == ["note: begins with 1 engines of 2; the others join as there is room for them"]
        executor.engines, started = {}, list(executor.engines.values())
        for one in started:
            one.close()
        import ray

        until(lambda: ray.available_resources().get("GPU", 0) >= 1, "a closed pool holds its GPU")
        executor.close()


def until(holds: Callable[[], bool], otherwise: str) -> None:
    last = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < last, otherwise
        time.sleep(0.2)


def engines(journal: Path) -> set[str]:
    """The processes that have begun a request."""
    return {line.split()[0] for line in journal.read_text().splitlines()} if journal.exists() else set()
