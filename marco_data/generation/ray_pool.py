"""Engines as actors of a Ray cluster: the driver starts a pool of them, and tasks anywhere in the job ask it.

In: a pool of the pools file, a model, its revision and context length. Out, for the driver, engines that run until it
closes them or ends; for a task, a `Generator`. As many as the pool wants at most are asked of Ray at once: those that
it has no room for are the demand that an autoscaler sees, and they begin whenever GPUs come. Requests travel in small
batches to the engine with the fewest of this task's, completions in the replies, nothing through the object store. An
engine that dies, or whose node goes, is started again by Ray, where there is room, and what it had not answered is
asked again, of another where there is one. Knows no vLLM: that is imported by the engines, whose environment is their
own.
"""

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError

from marco_data.errors import RecipeError, RetryableError
from marco_data.generation.generator import Completion, Request
from marco_data.generation.pools import VllmPool
from marco_data.generation.replica import ENGINE, Replica

GATHER_SECONDS = 0.003
"""How long a request waits for others, so that one call of an actor (0.3 ms of either process) carries many."""

BATCH_CHARACTERS = 25_000
"""Of one batch. Ray carries up to 100 KB in the call itself and puts more into the object store."""

MOST_DEATHS = 3
"""Engines in a row that may die under one request, or without answering any, before the task is told."""

RETRY_SECONDS = 1.0
"""Between two attempts to reach an engine that is being started again."""

START_SECONDS = 1800.0
"""How long an engine has to start, or to start again. The largest models take ten minutes from a slow disk."""

RESOURCES_SECONDS = 900.0
"""How long a cluster, which may grow, has to find room for the engines that are needed to begin: a cloud takes some
minutes for a node with GPUs, and the node some for the engine's image."""

WAIT_SECONDS = 1.0
"""Between two looks at engines that are being started."""

TELL_SECONDS = 30.0
"""After which a person is told what is waited for."""


@dataclass
class Engines:
    """The engines of one pool, in the driver's hands: those that run, and those that wait for room."""

    actors: list[Any]
    shards_in_flight: int = 1
    reports: list[dict[str, Any]] = field(default_factory=list)
    deaths: int = 0  # while starting
    words: str | None = None  # of one that could not start
    _coming: dict[Any, Any] = field(default_factory=dict)  # the call that a new one will answer: its actor

    def __post_init__(self) -> None:
        self._coming = {actor.ready.remote(): actor for actor in self.actors}

    def up(self) -> int:
        """How many have been able to answer; never waits. One whose node goes comes back, and is still counted."""
        if not self._coming:
            return len(self.reports)
        there, _ = ray.wait(list(self._coming), num_returns=len(self._coming), timeout=0)
        for call in there:
            actor = self._coming.pop(call)
            try:
                said = ray.get(call)
            except RayError as error:  # its process ended, or never began; Ray starts it again
                self.deaths += 1
                self.words = _first_line(error)
                self._coming[actor.ready.remote()] = actor
                continue
            if isinstance(said, str):
                # Why an engine refuses is no accident. Others may do, on other machines; this one is not counted on.
                self.deaths = max(self.deaths, MOST_DEATHS)
                self.words = f"Its last words:\n{said}"
            else:
                self.reports.append(said)
        return len(self.reports)

    def close(self) -> None:
        """End all of them, and the demand for those that never came."""
        for actor in self.actors:
            ray.kill(actor)


def start_pool(
    pool: VllmPool,
    model: str,
    revision: str,
    context: int,
    *,
    owned: bool = True,
    engine: str = ENGINE,
    say: Callable[[str], None] = lambda message: None,
) -> Engines:
    """Ask for all replicas and wait until `min` of them can answer. RecipeError says why one cannot.

    `owned` is a Ray of this machine, whose resources will not grow.
    """
    gpus = pool.gpus
    settings = {
        "model": model,
        "revision": revision,
        "context": pool.max_model_len or context,
        "tensor_parallel": pool.tensor_parallel,
        "gpus": gpus,
        "max_num_seqs": pool.max_num_seqs,
        "options": dict(pool.engine),
    }
    environment: dict[str, Any] = {"env_vars": engine_environment(pool)}
    if pool.python:
        environment["py_executable"] = pool.python
    if owned and (short := _short_of_room(pool)):
        raise short
    if pool.python:
        _check(pool, engine_environment(pool), model)
    # Of the cluster's CPUs it takes none: they are counted for tasks, and a machine with as many engines as CPUs
    # would have none left to ask them from.
    options = {
        **{"num_cpus": 0, "num_gpus": gpus, "resources": dict(pool.resources), "runtime_env": environment},
        **{"max_restarts": -1, "max_concurrency": 1000},
    }
    replica = ray.remote(Replica)
    actors: list[Any] = []
    try:
        for name in replica_names(pool, model, revision, context):
            actors.append(replica.options(**options, name=name).remote(engine, settings))
        engines = Engines(actors, pool.shards_in_flight)
        _wait_for(engines, pool, say)
        return engines
    except BaseException:
        for actor in actors:
            ray.kill(actor)
        raise


def _wait_for(engines: Engines, pool: VllmPool, say: Callable[[str], None]) -> None:
    """Return as soon as there are enough engines to begin with."""
    started, told = time.monotonic(), False
    while (up := engines.up()) < pool.replicas.min:
        waited = time.monotonic() - started
        if engines.deaths >= MOST_DEATHS:
            raise RecipeError(f"an engine did not start: {engines.words}", hint=HINT)
        short = _short_of_room(pool)
        if short and waited > RESOURCES_SECONDS:
            raise short
        if waited > START_SECONDS:
            raise RecipeError(f"an engine did not start within {START_SECONDS:.0f} seconds", hint=HINT)
        if waited > TELL_SECONDS and not told:
            told = True
            say(f"note: {up} of {pool.replicas.min} engines are up{f'; {short.message}' if short else ''}")
        time.sleep(0.05 if waited < WAIT_SECONDS else WAIT_SECONDS)
    if up < pool.replicas.max:
        say(f"note: begins with {up} engines of {pool.replicas.max}; the others join as there is room for them")


HINT = "it is started from the pool's `python`, `engine` and `environment` and from the recipe's `model`"


def engine_environment(pool: VllmPool) -> dict[str, str]:
    """Environment variables of the engines: the pool's own, and where this package is, if that is a checkout.

    The folder of an installed package holds all of this environment's, numba and numpy with it, which must not come
    before the engine's; there, `pip install --no-deps marco-data` puts the package into the engine's environment too.
    """
    root = Path(__file__).resolve().parents[2]
    variables = {"VLLM_NO_USAGE_STATS": "1", **pool.environment}
    if root.name not in ("site-packages", "dist-packages"):
        variables["PYTHONPATH"] = os.pathsep.join(p for p in (str(root), variables.get("PYTHONPATH", "")) if p)
    return variables


def replica_names(pool: VllmPool, model: str, revision: str, context: int) -> list[str]:
    """Names of a pool's actors, the same for the driver that starts them and the tasks that ask them."""
    identity = json.dumps([model, revision, context, pool.model_dump(mode="json")], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return [f"engine-{digest}-{index}" for index in range(pool.replicas.max)]


def _short_of_room(pool: VllmPool) -> RecipeError | None:
    """What to say where the cluster has not what it takes to begin, all together or one replica's on one machine."""
    wants = {**({"GPU": pool.gpus} if pool.gpus else {}), **pool.resources}
    if not wants:
        return None
    least, nodes = pool.replicas.min, [node["Resources"] for node in _nodes() if node["Alive"]]
    if sum(min(int(node.get(name, 0.0) / n) for name, n in wants.items()) for node in nodes) >= least:
        return None
    called = {name: "GPUs" if name == "GPU" else f"`{name}`" for name in wants}
    each = " and ".join(f"{n:g} {called[name]}" for name, n in wants.items())
    have = " and ".join(f"{[node.get(name, 0.0) for node in nodes]} {called[name]}" for name in wants)
    return RecipeError(
        f"{least} engines of {each} each, but the machines of this Ray have {have}",
        hint="lower `replicas`, `tensor_parallel`, `gpus` or `resources` of the pool; one engine stays on one machine",
    )


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


CHECK = """
import importlib.util, json, sys
from importlib.metadata import version
missing = [m for m in ("ray", "vllm", "pydantic", "marco_data") if importlib.util.find_spec(m) is None]
print(json.dumps({"missing": missing, "python": sys.version_info[:2], "ray": "ray" in missing or version("ray")}))
"""


def _check(pool: VllmPool, environment: dict[str, str], model: str) -> None:
    """Look at the engine's Python and at the model from where an engine would run, in a second, before one starts."""
    # A sliver of what an engine takes places the look on a machine of the right kind.
    sliver = dict.fromkeys(pool.resources, 0.001)
    look: Any = ray.remote(num_cpus=0, num_gpus=0.001 if pool.gpus else 0, resources=sliver, max_retries=3)(_look)
    try:
        wrong = ray.get(look.remote(pool.python, environment, model), timeout=RESOURCES_SECONDS)
    except GetTimeoutError:
        raise _short_of_room(pool) or RecipeError("no machine of this Ray has room to look at the engine") from None
    if wrong is not None:
        message, hint = wrong
        raise RecipeError(message, hint=hint)


def _look(python: str, environment: dict[str, str], model: str) -> tuple[str, str] | None:
    """What is wrong and its remedy."""
    if model.startswith(("/", ".", "~")) and not Path(model).expanduser().is_dir():
        return f"no model at `{model}`", "the path must be there on every machine with engines"
    try:
        done = subprocess.run(
            [python, "-c", CHECK], env=os.environ | environment, capture_output=True, text=True, timeout=120
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"the pool's `python` cannot be run: {error}", f"`{python}` is to be an interpreter with vLLM and Ray"
    if found["missing"]:
        install = "it needs vllm, ray of this version, and marco-data (pip install --no-deps)"
        return f"the pool's `python` lacks {', '.join(found['missing'])}", install
    if found["ray"] != ray.__version__ or found["python"] != list(sys.version_info[:2]):
        has = f"Python {'.'.join(map(str, found['python']))} and ray {found['ray']}"
        return f"the pool's `python` has {has}, the cluster other ones", f"install ray=={ray.__version__} there"
    return None


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:1] + [line for line in lines[1:] if "Error" in line][-1:])


@dataclass(eq=False)
class _Job:
    request: Request
    answer: asyncio.Future[Completion]
    deaths: int = 0


@dataclass(eq=False)
class _Line:
    """One engine, as one task sees it."""

    actor: Any
    session: str | None = None  # None while there is none to ask
    outstanding: dict[int, _Job] = field(default_factory=dict)
    deaths: int = 0  # in a row, without an answer in between


class RayGenerator:
    """The engines of a pool as one generator, for one task and its event loop."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.versions: set[str] = set()  # of the engines that have answered: `vllm 0.32.0`
        self._client = uuid.uuid4().hex
        # Tasks begin at different engines, so that those with little to ask do not all ask the first.
        turn = int(self._client[:8], 16) % len(actors)
        self._lines = [_Line(actor) for actor in [*actors[turn:], *actors[:turn]]]
        self._waiting: deque[_Job] = deque()
        self._numbers = itertools.count()
        self._work: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._failure: BaseException | None = None

    async def complete(self, request: Request) -> Completion:
        if self._failure is not None:
            raise self._failure
        if not self._work:
            for line in self._lines:
                self._begin(self._listen(line))
        job = _Job(request, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._gather()
        return await job.answer

    async def close(self) -> None:
        for work in self._work:
            work.cancel()
        self._work.clear()
        for line in self._lines:
            if line.session is not None:
                with suppress(RayError):
                    await line.actor.leave.remote(self._client)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _gather(self) -> None:
        if not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._send)

    def _send(self) -> None:
        """Give what waits to the engines, each to the one with the fewest, in batches."""
        self._gathering = False
        open_lines = [line for line in self._lines if line.session is not None]
        batches: dict[int, list[tuple[int, Request]]] = {}
        sizes: dict[int, int] = {}
        while self._waiting and open_lines:
            job = self._waiting.popleft()
            if job.answer.done():  # its task has given up
                continue
            line = min(open_lines, key=lambda line: len(line.outstanding))
            number = next(self._numbers)
            line.outstanding[number] = job
            at = id(line)
            size = sum(len(content) for _, content in job.request.messages)
            if batches.get(at) and sizes[at] + size > BATCH_CHARACTERS:
                self._begin(self._submit(line, batches.pop(at)))
            sizes[at] = size + (sizes[at] if at in batches else 0)
            batches.setdefault(at, []).append((number, job.request))
        for line in open_lines:
            if id(line) in batches:
                self._begin(self._submit(line, batches[id(line)]))

    async def _submit(self, line: _Line, batch: list[tuple[int, Request]]) -> None:
        session = line.session
        try:
            refused = await line.actor.submit.remote(session, self._client, batch)
        except RayError as error:
            refused = _first_line(error)
        if refused is not None and line.session == session:
            self._lost(line, refused)

    async def _listen(self, line: _Line) -> None:
        """Take what one engine has answered, and begin again with the next when it dies."""
        unreachable = 0.0
        while True:
            try:
                if line.session is None:
                    reply = await asyncio.wait_for(line.actor.hello.remote(self._client), START_SECONDS)
                    if not isinstance(reply, str):
                        line.session, version = reply
                        self.versions.add(version)
                        unreachable = 0.0
                        self._gather()
                if line.session is not None:
                    reply = await line.actor.collect.remote(line.session, self._client)
            except (RayError, TimeoutError) as error:
                reply = _first_line(error) or f"no engine within {START_SECONDS:.0f} seconds"
                if line.session is None and isinstance(error, ActorUnavailableError):
                    # Ray is starting its process again.
                    unreachable = unreachable or time.monotonic()
                    if time.monotonic() < unreachable + START_SECONDS:
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
            if isinstance(reply, str):
                self._lost(line, reply)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for number, completion in reply:
                job = line.outstanding.pop(number)
                line.deaths = 0
                if not job.answer.done():
                    job.answer.set_result(completion)

    def _lost(self, line: _Line, words: str) -> None:
        """This engine is gone, or not there yet: what it has not answered is asked again."""
        line.deaths += 1
        line.session = None
        for job in line.outstanding.values():
            job.deaths += 1
            if job.deaths < MOST_DEATHS:
                self._waiting.append(job)
            elif not job.answer.done():
                job.answer.set_exception(_too_many(words))
        line.outstanding.clear()
        if all(line.deaths >= MOST_DEATHS for line in self._lines):
            self._fail(_too_many(words))
        elif self._waiting:
            self._gather()

    def _fail(self, error: BaseException) -> None:
        """Nothing can be answered any more."""
        self._failure = error
        jobs = [*self._waiting, *(job for line in self._lines for job in line.outstanding.values())]
        self._waiting.clear()
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(error)


def _too_many(words: str) -> RetryableError:
    return RetryableError(f"{MOST_DEATHS} engines in a row have died. The last one's last words:\n{words}")


def open_pool(pool: VllmPool, model: str, revision: str, context: int) -> RayGenerator:
    """The pool that the driver has started, from one of its tasks."""
    if not ray.is_initialized():
        raise RecipeError("a pool of kind `vllm` needs Ray", hint="--executor ray")
    try:
        return RayGenerator([ray.get_actor(name) for name in replica_names(pool, model, revision, context)])
    except ValueError:
        raise RecipeError(
            f"no engines of `{model}` were started by this run", hint="a pool of kind `vllm` needs --executor ray"
        ) from None
