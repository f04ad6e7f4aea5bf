"""The pool of engines: every request is answered by its own completion, once, whatever dies meanwhile."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_engine import FakeEngine, answer
from roots import environment

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.errors import RecipeError, RetryableError
from marco_data.generation.generator import Completion, Request, Sampling
from marco_data.generation.pools import VllmPool
from marco_data.generation.ray_pool import BATCH_CHARACTERS, MOST_DEATHS, RayGenerator, open_pool, start_pool
from marco_data.generation.replica import Replica
from marco_data.ray_executor import RayExecutor
from marco_data.step import Tools
from marco_data.storage import Storage

FAKE = "fake_engine:FakeEngine"
REVISION = "0" * 40


def request(text: str) -> Request:
    return Request((("user", text),), Sampling(max_tokens=8))


class Here:
    """A replica in this process that is called as an actor is, and can be killed as one."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: Counter[str] = Counter()
        self.largest = 0
        self._pending: set[asyncio.Future[Any]] = set()
        self.replica = self.start()

    def start(self) -> Replica:
        return Replica(FAKE, {"model": "any", "max_num_seqs": 8, "options": self.options})

    def kill(self) -> None:
        """The process ends: who waits for an answer gets Ray's error, and another takes its place."""
        self.engine.end()
        self.replica = self.start()
        for call in self._pending:
            call.cancel()

    @property
    def engine(self) -> FakeEngine:
        return self.replica._engine.result()

    def __getattr__(self, name: str) -> "Here.Method":
        return Here.Method(self, name)

    @dataclass
    class Method:
        here: "Here"
        name: str

        def remote(self, *arguments: Any) -> Awaitable[Any]:
            return self.here.call(self.name, arguments)

    async def call(self, name: str, arguments: Sequence[Any]) -> Any:
        from ray.exceptions import ActorUnavailableError

        self.calls[name] += 1
        if name == "submit":
            self.largest = max(self.largest, sum(len(r.messages[0][1]) for _, r in arguments[2]))
        work = asyncio.ensure_future(getattr(self.replica, name)(*arguments))
        self._pending.add(work)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                raise ActorUnavailableError("the actor is restarting", b"0" * 16) from None
            raise
        finally:
            self._pending.discard(work)


def ask(
    actors: Sequence[Here], texts: Sequence[str], meanwhile: Callable[[], Awaitable[None]] | None = None
) -> list[Completion | BaseException]:
    """Every text asked at once of one generator; what came of each, in order."""

    async def go() -> list[Completion | BaseException]:
        generator = RayGenerator(actors)
        asked = asyncio.gather(*(generator.complete(request(text)) for text in texts), return_exceptions=True)
        if meanwhile is not None:
            await meanwhile()
        try:
            return await asyncio.wait_for(asked, 30)
        finally:
            await generator.close()
            for actor in actors:
                actor.engine.end()

    return asyncio.run(go())


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def begun(actors: Sequence[Here]) -> Counter[str]:
    return Counter(text for actor in actors for text in actor.engine.begun)


def test_a_thousand_requests_of_three_engines_are_each_answered_by_their_own_completion():
    actors = [Here(), Here(), Here()]
    assert ask(actors, texts(1000)) == [answer(request(text)) for text in texts(1000)]
    assert begun(actors) == Counter(texts(1000))
    assert min(len(actor.engine.begun) for actor in actors) > 250


def test_requests_and_completions_travel_together():
    actor = Here(seconds=0.002)
    ask([actor], texts(1000))
    assert actor.calls["submit"] < 20
    assert actor.calls["collect"] < 200


def test_a_batch_is_small_enough_to_travel_in_the_call_itself():
    actor = Here()
    long = [f"{number} " + "long " * 1000 for number in range(40)]
    assert ask([actor], long) == [answer(request(text)) for text in long]
    assert 5_000 < actor.largest <= BATCH_CHARACTERS


def test_the_engine_that_has_least_to_do_is_asked():
    slow, fast = Here(seconds=0.4), Here(seconds=0.002)

    async def go() -> None:
        generator = RayGenerator([slow, fast])
        waiting = {asyncio.ensure_future(generator.complete(request(text))) for text in texts(16)}
        rest = iter(texts(300)[16:])
        while waiting:  # as many more as have ended, so that both have work all the time
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            waiting |= {
                asyncio.ensure_future(generator.complete(request(text))) for text in itertools.islice(rest, len(ended))
            }
        await generator.close()
        slow.engine.end()
        fast.engine.end()

    asyncio.run(go())
    assert len(slow.engine.begun) < len(fast.engine.begun) / 2


def test_a_killed_engine_costs_what_it_had_under_way_and_nothing_else():
    doomed, other = Here(seconds=0.03), Here(seconds=0.03)

    async def kill() -> None:
        await asyncio.sleep(0.2)
        before.extend(doomed.engine.begun)
        doomed.kill()

    before: list[str] = []
    assert ask([doomed, other], texts(400), kill) == [answer(request(text)) for text in texts(400)]
    assert before
    twice = [text for text, times in (begun([doomed, other]) + Counter(before)).items() if times > 1]
    assert 1 <= len(twice) <= 16  # eight were running, and up to eight more had ended but not been told
    assert set(twice) <= set(before)


def test_an_engine_that_comes_back_is_asked_again():
    only = Here(seconds=0.03)

    async def kill() -> None:
        await asyncio.sleep(0.2)
        only.kill()

    assert ask([only], texts(100), kill) == [answer(request(text)) for text in texts(100)]
    assert only.calls["hello"] == 2


def test_what_was_sent_to_an_engine_is_not_begun_by_its_successor():
    actor = Here()

    async def go() -> None:
        hello = await actor.hello.remote("me")
        actor.kill()
        assert (await actor.hello.remote("me"))[0] != hello[0]
        assert "taken" in await actor.submit.remote(hello[0], "me", [(1, request("old"))])
        assert actor.engine.begun == []

    asyncio.run(go())


def test_engines_that_die_one_after_another_are_told_with_the_last_words():
    actor = Here(seconds=5)

    async def kill() -> None:
        for times in range(MOST_DEATHS):
            while actor.calls["submit"] <= times:
                await asyncio.sleep(0.02)
            actor.kill()

    results = ask([actor], texts(8), kill)
    assert {type(result) for result in results} == {RetryableError}
    assert "the actor is restarting" in str(results[0])


def test_a_client_that_leaves_stops_what_it_asked():
    actor = Here(seconds=0.05)

    async def go() -> None:
        generator = RayGenerator([actor])
        asked = [asyncio.ensure_future(generator.complete(request(text))) for text in texts(100)]
        await asked[0]
        await generator.close()
        await asyncio.sleep(0.1)
        assert len(actor.engine.dropped) >= 80
        actor.engine.end()
        for one in asked:
            one.cancel()

    asyncio.run(go())


def pool(**values: Any) -> VllmPool:
    here = str(Path(__file__).parent)
    return VllmPool.model_validate(
        {"kind": "vllm", "gpus": 0, "max_num_seqs": 8, "environment": {"PYTHONPATH": here}, **values}
    )


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    """One Ray of two CPUs for all tests here, in a home of its own (a short one: it holds sockets)."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment(home).items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]]))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        import ray

        seats = {"seat": 2}
        ray.init("local", num_cpus=2, resources=seats, include_dashboard=False, log_to_driver=False, logging_level=40)
        yield ray
        ray.shutdown()


@dataclass(frozen=True, kw_only=True)
class Asks(Node):
    """A node whose every task asks the pool a hundred times, once four of them have begun, and no fifth."""

    kind: ClassVar[str] = "asks"
    cpus: ClassVar[float] = 0.25
    pools: Any = None
    marks: Path

    def config(self, tools: Tools) -> dict[str, Any]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        return [Task(self, f"task-{number}", {"number": number}, None) for number in range(6)]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        (self.marks / f"begun-{task.name}").touch()
        until = time.monotonic() + 120
        while len(list(self.marks.glob("begun-*"))) < 4:
            assert time.monotonic() < until, "the others do not run beside this one"
            time.sleep(0.05)
        under_way = len(list(self.marks.glob("begun-*"))) - len(list(self.marks.glob("ended-*")))

        async def go() -> list[Completion]:
            generator = open_pool(*self.pools["one"])
            asked = [f"{task.key} {number}" for number in range(100)]
            out = await asyncio.gather(*(generator.complete(request(text)) for text in asked))
            await generator.close()
            assert out == [answer(request(text)) for text in asked]
            assert generator.versions == {"fake 1"}
            return out

        facts = {"answered": len(asyncio.run(go())), "under_way": under_way}
        (self.marks / f"ended-{task.name}").touch()
        return Outcome(facts=facts)


@pytest.mark.slow
def test_tasks_on_other_workers_are_answered_while_an_engine_is_killed(ray, tmp_path):
    journal = tmp_path / "journal"
    two = pool(replicas=2, engine={"seconds": 0.2, "journal": str(journal)})
    node = Asks(pools={"one": (two, "any", REVISION, 512)}, marks=tmp_path)
    executor = RayExecutor(engine=FAKE)
    done, killed = [], None
    storage = Storage(str(tmp_path / "root"))
    for end in executor.run(node.tasks(Context(storage, Tools(), {})), storage):
        done.append(end)
        if killed is None:
            killed = int(journal.read_text().split()[0])
            os.kill(killed, signal.SIGKILL)
    asked = [line.split(" ", 1) for line in journal.read_text().splitlines()]
    assert [end.error for end in done] == [None] * 6
    assert sorted(end.task.name for end in done) == [f"task-{number}" for number in range(6)]
    assert {end.record.facts["answered"] for end in done} == {100}
    assert max(end.record.facts["under_way"] for end in done) == 4  # two engines, two shards for each, on two CPUs
    assert len({text for _, text in asked}) == 600
    assert 600 < len(asked) <= 600 + 16
    executor.close()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{process}").exists() for process, _ in asked) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{process}").exists() for process, _ in asked)


@pytest.mark.slow
def test_a_request_that_kills_every_engine_is_told_with_the_engines_last_words(ray):
    engines = start_pool(pool(), "any", REVISION, 512, engine=FAKE)
    try:
        with pytest.raises(RetryableError, match=r"3 engines in a row .*\nError: it could not digest this"):
            asyncio.run(open_pool(pool(), "any", REVISION, 512).complete(request("it dies")))
    finally:
        engines.close()


def test_work_begins_with_enough_engines_and_never_waits_for_the_last(ray):
    of_three = pool(replicas={"min": 1, "max": 3}, resources={"seat": 1})  # there are two seats
    said: list[str] = []
    engines = start_pool(of_three, "any", REVISION, 512, engine=FAKE, say=said.append)
    try:

        async def go() -> list[Completion]:
            generator = open_pool(of_three, "any", REVISION, 512)
            out = await asyncio.gather(*(generator.complete(request(text)) for text in texts(100)))
            await generator.close()
            return out

        assert asyncio.run(go()) == [answer(request(text)) for text in texts(100)]
        until = time.monotonic() + 60
        while engines.up() < 2:
            assert time.monotonic() < until, "the second engine never joined"
            time.sleep(0.1)
        assert ray.available_resources().get("seat", 0) == 0
        assert len(said) == 1
        assert "of 3; the others join as there is room for them" in said[0]
    finally:
        engines.close()
    until = time.monotonic() + 60
    while ray.available_resources().get("seat", 0) < 2:
        assert time.monotonic() < until, "an engine that was closed, or never began, holds its seat"
        time.sleep(0.1)


def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(ray):
    started = time.monotonic()
    with pytest.raises(RecipeError, match="this engine has no wheels"):
        start_pool(pool(replicas=2), "broken", REVISION, 512, engine=FAKE)
    assert time.monotonic() - started < 20
    with pytest.raises(RecipeError, match="no engines of `broken` were started"):
        open_pool(pool(replicas=2), "broken", REVISION, 512)


def test_more_than_the_machines_have_is_told_at_once(ray):
    with pytest.raises(RecipeError, match="2 engines of 4 GPUs each"):
        start_pool(pool(replicas=2, gpus=4), "any", REVISION, 512, engine=FAKE)
    with pytest.raises(RecipeError, match=r"1 engines of 3 `seat` each, .* have \[2\.0\] `seat`"):
        start_pool(pool(resources={"seat": 3}), "any", REVISION, 512, engine=FAKE)


def test_a_python_that_is_not_there_is_told_at_once(ray, tmp_path):
    with pytest.raises(RecipeError, match="cannot be run"):
        start_pool(pool(python=str(tmp_path / "python")), "any", REVISION, 512, engine=FAKE)


def test_a_python_without_the_engine_is_told_at_once(ray):
    with pytest.raises(RecipeError, match="lacks vllm"):
        start_pool(pool(python=sys.executable), "any", REVISION, 512, engine=FAKE)


def test_without_ray_a_pool_of_engines_is_refused_with_the_remedy():
    code = (
        "from marco_data.generation.pools import VllmPool; from marco_data.generation.ray_pool import open_pool;"
        "open_pool(VllmPool(kind='vllm'), 'any', '0' * 40, 512)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs Ray" in done.stderr
    assert "--executor ray" in done.stderr
