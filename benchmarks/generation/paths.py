"""The two ways of the same requests through the same engine, and what each costs.

In: an engine's settings and requests. Out: a `Go`: seconds of the wall clock, tokens, and seconds of the processor
spent by everything but the engine's own processes. `Ours` is all that a `generate` task does around its makers: tasks
of the Ray executor, the ledger, the pool of engines. `Bare` is `LLM.generate`.
"""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.generation.bare_engine import read_requests, write_requests
from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.generation.asking import Asking
from marco_data.generation.generator import Request
from marco_data.generation.ledger import Ledger
from marco_data.generation.opening import open_generator
from marco_data.generation.pools import VllmPool
from marco_data.nodes.generate import in_flight_of
from marco_data.ray_executor import RayExecutor
from marco_data.step import Tools
from marco_data.storage import Storage

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Engine:
    pool: VllmPool
    model: str
    revision: str
    context: int


@dataclass(frozen=True)
class Go:
    """One way's run of all requests. `steps` are (moment, running, waiting) of the engine, of ours alone."""

    seconds: float
    tokens: int
    processor_seconds: float
    steps: tuple[tuple[float, int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shards(Node):
    """Shards of requests, each one task that has as many under way as the engine runs, as a `generate` task does."""

    kind: ClassVar[str] = "asked"
    cpus: ClassVar[float] = 0.25
    engine: Engine
    files: tuple[str, ...]

    @property
    def pools(self) -> dict[str, tuple[VllmPool, str, str, int]]:
        return {"model": (self.engine.pool, self.engine.model, self.engine.revision, self.engine.context)}

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        return [Task(self, Path(file).stem, {"file": file}, file, 1) for file in self.files]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        requests = read_requests(Path(task.inputs))

        async def go() -> Outcome:
            generator = open_generator(*self.pools["model"])
            ledger = Ledger(storage, self.engine.model, self.engine.revision, task.key)
            try:
                asking = Asking(
                    ledger, self.engine.model, self.engine.revision, None, generator, in_flight_of(self.engine.pool)
                )
                answers = await asyncio.gather(*map(asking, requests))
                wrong = [answer.error for answer in answers if answer.error is not None]
                file = ledger.finish(asking.used)
            finally:
                ledger.close()
                await generator.close()
            facts = {"tokens": asking.spent.tokens_out, "ended": len(answers), "errors": wrong}
            return Outcome(data=(file,), facts=facts)

        return asyncio.run(go())


class Ours:
    """The pool of engines, started at once and ended by `close`."""

    def __init__(self, engine: Engine, shards: int) -> None:
        self.engine, self.shards = engine, shards
        self.executor = RayExecutor()
        self._root = Path(tempfile.mkdtemp(prefix="marco-data-generation-"))
        self._node([], "none")

    def _node(self, shards: Sequence[Sequence[Request]], name: str) -> Shards:
        files = []
        for number, requests in enumerate(shards):
            path = self._root / f"{name}-{number}.json"
            write_requests(path, list(requests))
            files.append(str(path))
        return Shards(engine=self.engine, files=tuple(files))

    def go(self, name: str, requests: Sequence[Request]) -> Go:
        size = -(-len(requests) // self.shards)
        node = self._node([requests[at : at + size] for at in range(0, len(requests), size)], name)
        storage = Storage(str(self._root / name))
        tasks = node.tasks(Context(storage, Tools(), {}))
        since, processor, start = time.monotonic(), self._processor_seconds(), time.perf_counter()
        ends = list(self.executor.run(tasks, storage))
        seconds = time.perf_counter() - start
        spent = self._processor_seconds() - processor
        facts = [end.record.facts for end in ends if end.record is not None]
        if sum(fact["ended"] for fact in facts) != len(requests) or any(fact["errors"] for fact in facts):
            raise RuntimeError(f"not all was answered: {[end.error for end in ends]}")
        (engines,) = self.executor.engines.values()
        steps = self.executor.ray.get(engines.actors[0].steps.remote(since))
        return Go(seconds, sum(fact["tokens"] for fact in facts), spent, tuple(map(tuple, steps)))

    @property
    def version(self) -> str:
        (engines,) = self.executor.engines.values()
        return str(engines.reports[0]["engine"])

    def _processor_seconds(self) -> float:
        """Of this process and all that Ray started, but for the engine's processes."""
        if not self.executor.engines:
            return 0.0
        (engines,) = self.executor.engines.values()
        actor = engines.reports[0]["process"]
        inside = set(descendants(actor)) - {actor}
        return sum(processor_seconds(process) for process in descendants(os.getpid()) if process not in inside)

    def close(self) -> None:
        self.executor.close()
        shutil.rmtree(self._root, ignore_errors=True)


class Bare:
    """`LLM.generate` in a process of its own."""

    def __init__(self, engine: Engine) -> None:
        pool = engine.pool
        settings = {
            "model": engine.model,
            "max_model_len": engine.context,
            "max_num_seqs": pool.max_num_seqs,
            "tensor_parallel_size": pool.tensor_parallel,
            **pool.engine,
        }
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [str(pool.python), "-m", "benchmarks.generation.bare_engine", json.dumps(settings)],
            env=os.environ | pool.environment | {"PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="marco-data-generation-")
        self._answer("ready")

    def _answer(self, beginning: str) -> str:
        """The next line that is not vLLM's log, which goes to standard output too."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginning):
                return line
        self._log.seek(0)
        raise RuntimeError(f"the bare engine ended: {self._log.read()[-2000:]}")

    def go(self, name: str, requests: Sequence[Request]) -> Go:
        assert self._process.stdin is not None
        path = Path(self._folder.name) / f"{name}.json"
        write_requests(path, list(requests))
        before = processor_seconds(self._process.pid)
        print(path, file=self._process.stdin, flush=True)
        said = json.loads(self._answer("{"))
        if said["ended"] != len(requests):
            raise RuntimeError(f"{said['ended']} of {len(requests)} were answered")
        return Go(said["seconds"], said["tokens"], processor_seconds(self._process.pid) - before)

    def close(self) -> None:
        self._process.communicate()
        self._log.close()
        self._folder.cleanup()


def descendants(process: int) -> Iterator[int]:
    """This process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    waiting = [process]
    while waiting:
        yield (one := waiting.pop())
        waiting += children.get(one, [])


def processor_seconds(process: int) -> float:
    """User and system time of one process so far; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK
