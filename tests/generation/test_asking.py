"""`marco_data.generation.asking`: nothing is asked twice, nothing answered is lost, one failure is one failure."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError, RetryableError, ShardError
from marco_data.generation.asking import Asking, Crashed, Spent, all_of
from marco_data.generation.generator import ERROR, LENGTH, STOP, Completion, Generator, Request, Sampling
from marco_data.generation.ledger import Ledger
from marco_data.generation.recorded import Recorded, write_recorded
from marco_data.storage import Storage

MODEL, REVISION = "org/model", "f" * 40


def request(number: int) -> Request:
    return Request((("user", f"question {number}"),), Sampling(), prompt="ask@1")


def key(number: int) -> bytes:
    return bytes.fromhex(request(number).key(MODEL, REVISION))


class Scripted:
    """Answers by a function of the question's number; notes what it was asked, and how many ran at once."""

    def __init__(self, answer: Callable[[int], Awaitable[Completion]]) -> None:
        self.answer = answer
        self.asked: list[int] = []
        self.cancelled: list[int] = []
        self.running = self.most = 0

    async def complete(self, request: Request) -> Completion:
        number = int(request.messages[0][1].split()[1])
        self.asked.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.answer(number)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1

    async def close(self) -> None: ...


def said(number: int) -> Completion:
    return Completion(f"answer {number}", STOP, 10, number, number / 10)


async def at_once(number: int) -> Completion:
    await asyncio.sleep(0)
    return said(number)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture
def ledger(storage: Storage) -> Iterator[Ledger]:
    ledger = Ledger(storage, MODEL, REVISION, "place")
    yield ledger
    ledger.close()


def asking(
    ledger: Ledger, generator: Generator | None = None, recorded: Recorded | None = None, in_flight: int = 8
) -> Asking:
    return Asking(ledger, MODEL, REVISION, recorded, generator, in_flight)


def kept(storage: Storage, numbers: list[int]) -> dict[int, Completion]:
    """What somebody else finds in the ledger now."""
    ledger = Ledger(storage, MODEL, REVISION, "place")
    found = ledger.find(map(key, numbers))
    ledger.close()
    return {n: found[key(n)] for n in numbers if key(n) in found}


def recorded(path: Path, numbers: list[int]) -> Recorded:
    rows = [
        {
            "key": key(n).hex(),
            "prompt": "ask@1",
            "text": f"recorded {n}",
            "finish_reason": STOP,
            "tokens_in": 1,
            "tokens_out": 2,
        }
        for n in numbers
    ]
    write_recorded(path, rows)
    return Recorded([path])


async def everything(makes: list[Coroutine[Any, Any, Any]], most: int = 16) -> list[Any]:
    return [outcome async for outcome in all_of(makes, most)]


# Where an answer comes from


def test_an_answer_comes_from_the_ledger_else_from_what_is_recorded_else_from_the_generator(
    ledger: Ledger, storage: Storage, tmp_path: Path
):
    ledger.append(key(1), request(1), said(1))
    ledger.finish([key(1)])
    generator = Scripted(at_once)
    ask = asking(ledger, generator, recorded(tmp_path / "r.jsonl", [1, 2]))
    texts = [c.text for c in asyncio.run(everything([ask(request(n)) for n in (1, 2, 3)]))]
    assert texts == ["answer 1", "recorded 2", "answer 3"]
    assert generator.asked == [3]
    spent = ask.spent
    assert (spent.calls, spent.from_ledger, spent.from_recorded, spent.generated, spent.not_answered) == (3, 1, 1, 1, 0)
    assert (spent.tokens_in, spent.tokens_out, spent.gpu_seconds) == (21, 6, 0.4)
    assert spent.paid_now == Spent(calls=1, generated=1, tokens_in=10, tokens_out=3, gpu_microseconds=300_000)
    # What was recorded elsewhere is in the ledger from now on: the root needs no other file.
    assert ledger.finish(ask.used).rows == 3
    assert [c.text for c in kept(storage, [1, 2, 3]).values()] == texts


def test_without_a_generator_what_nobody_recorded_is_not_recorded(ledger: Ledger, storage: Storage):
    ask = asking(ledger)
    (completion,) = asyncio.run(everything([ask(request(1))]))
    assert completion == Completion("", ERROR, error="not_recorded")
    assert (ask.used, ask.spent.calls, ask.spent.not_answered) == ([], 1, 1)
    assert kept(storage, [1]) == {}


def test_equal_requests_are_asked_once_at_the_same_time_and_later(ledger: Ledger):
    generator = Scripted(at_once)
    ask = asking(ledger, generator)

    async def twice() -> list[Completion]:
        together = await everything([ask(request(n % 3)) for n in range(30)])
        return [*together, await ask(request(2))]

    completions = asyncio.run(twice())
    assert completions == [said(n % 3) for n in (*range(30), 2)]
    assert sorted(generator.asked) == [0, 1, 2]
    assert (ask.spent.calls, ask.spent.generated, sorted(ask.used)) == (3, 3, sorted(map(key, range(3))))


def test_a_request_that_cannot_be_answered_is_asked_once_a_task_and_never_kept(ledger: Ledger, storage: Storage):
    async def refused(number: int) -> Completion:
        return Completion("", ERROR, error="refused_by_server")

    generator = Scripted(refused)
    for tasks in (1, 2):
        ask = asking(ledger, generator)
        assert {c.error for c in asyncio.run(everything([ask(request(1)), ask(request(1))]))} == {"refused_by_server"}
        assert (len(generator.asked), ask.spent.calls, ask.used) == (tasks, 1, [])
    assert kept(storage, [1]) == {}


def test_a_completion_cut_at_its_length_is_kept(ledger: Ledger, storage: Storage):
    async def cut(number: int) -> Completion:
        return Completion("cut", LENGTH, 1, 2)

    ask = asking(ledger, Scripted(cut))
    asyncio.run(everything([ask(request(1))]))
    assert kept(storage, [1]) == {1: Completion("cut", LENGTH, 1, 2)}


def test_an_answer_is_in_the_ledger_before_anyone_has_it(ledger: Ledger, storage: Storage):
    ask = asking(ledger, Scripted(at_once))

    async def make(number: int) -> None:
        completion = await ask(request(number))
        assert kept(storage, [number]) == {number: completion}

    assert asyncio.run(everything([make(n) for n in range(20)])) == [None] * 20


def test_no_more_than_so_many_calls_are_outstanding_and_no_fewer_while_there_is_work(ledger: Ledger):
    told = [asyncio.Event() for _ in range(60)]

    async def when_told(number: int) -> Completion:
        await told[number].wait()
        return said(number)

    generator = Scripted(when_told)
    ask = asking(ledger, generator, in_flight=5)
    running: list[int] = []

    async def task() -> None:
        work = asyncio.ensure_future(everything([ask(request(n)) for n in range(60)], most=10))
        for number in range(60):
            for _ in range(20):  # turns of the loop, more than it takes to begin the next call
                await asyncio.sleep(0)
            running.append(generator.running)
            told[generator.asked[number]].set()
        await work

    asyncio.run(task())
    assert running == [5] * 56 + [4, 3, 2, 1]
    assert generator.most == 5


def test_a_completion_whose_bytes_are_damaged_is_asked_again(ledger: Ledger, storage: Storage):
    ledger.append(key(1), request(1), said(1))
    file = ledger.finish([key(1)])
    path = Path(storage.root, file.path)
    path.write_bytes(path.read_bytes()[:-9])
    generator = Scripted(at_once)
    ask = asking(ledger, generator)
    assert asyncio.run(everything([ask(request(1))])) == [said(1)]
    assert generator.asked == [1]
    assert ledger.finish(ask.used) == file


# What it cost


@given(
    delays=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    in_flight=st.integers(1, 12),
    most=st.integers(1, 12),
    known=st.sets(st.integers(0, 5)),
)
@settings(max_examples=30, deadline=None)
def test_what_was_spent_and_the_committed_bytes_depend_on_neither_time_nor_width(
    delays: list[int], in_flight: int, most: int, known: set[int]
):
    digest, spent = spend(delays, in_flight, most, known)
    assert (spent.from_ledger, spent.generated) == (len(known), 6 - len(known))
    assert (spent.calls, spent.tokens_in, spent.tokens_out, spent.gpu_seconds) == (6, 60, 15, 5.6)
    assert digest == spend([0] * 6, 1, 1, set())[0]


def spend(delays: list[int], in_flight: int, most: int, known: set[int]) -> tuple[str, Spent]:
    """Six requests, each asked twice; `known` ones are in the ledger before. The committed file's digest."""

    async def late(number: int) -> Completion:
        for _ in range(delays[number]):
            await asyncio.sleep(0)
        return Completion(f"answer {number}", STOP, 10, number, 0.1 + number / 3)

    ledger = Ledger(Storage("memory://spent"), MODEL, REVISION, "place")
    for n in known:
        ledger.append(key(n), request(n), asyncio.run(late(n)))
    ask = asking(ledger, Scripted(late), in_flight=in_flight)
    asyncio.run(everything([ask(request(n % 6)) for n in range(12)], most))
    digest = ledger.finish(ask.used).digest
    fsspec.filesystem("memory").store.clear()
    return digest, ask.spent


def test_parts_of_a_task_count_their_own_requests_and_the_whole_each_once(ledger: Ledger):
    ask = asking(ledger, Scripted(at_once))
    korean, thai = ask.counting(), ask.counting()
    asked = [korean(request(1)), korean(request(2)), thai(request(2)), thai(request(2)), thai(request(3))]
    asyncio.run(everything(asked))
    assert [s.spent.calls for s in (ask, korean, thai)] == [3, 2, 2]
    assert [s.spent.tokens_out for s in (ask, korean, thai)] == [6, 3, 5]
    assert [s.spent.gpu_seconds for s in (korean, thai)] == [0.3, 0.5]


# Failures


@pytest.mark.parametrize("error", [RetryableError("the server is gone"), RecipeError("wrong key")])
def test_what_fails_every_request_stops_the_rest_and_keeps_what_was_answered(
    error: Exception, ledger: Ledger, storage: Storage
):
    async def fails(number: int) -> Completion:
        if number == 10:
            await asyncio.sleep(0.01)
            raise error
        if number > 10:
            await asyncio.sleep(60)
        return said(number)

    generator = Scripted(fails)
    ask = asking(ledger, generator)

    async def task() -> int:
        with pytest.raises(type(error), match=str(error)):
            await everything([ask(request(n)) for n in range(40)])
        return len(asyncio.all_tasks())

    assert asyncio.run(task()) == 1
    assert sorted(generator.cancelled) == [n for n in sorted(generator.asked) if n > 10]
    assert generator.running == 0
    assert kept(storage, list(range(40))) == {n: said(n) for n in range(10)}


def test_a_bug_of_the_generators_is_no_seeds_fault(ledger: Ledger):
    async def buggy(number: int) -> Completion:
        raise KeyError("choices")

    ask = asking(ledger, Scripted(buggy))
    with pytest.raises(ShardError, match="the generator of `org/model` failed: KeyError: 'choices'"):
        asyncio.run(everything([ask(request(1))]))


def test_a_call_is_cancelled_when_the_last_who_waits_for_it_is_gone(ledger: Ledger):
    answered = asyncio.Event()

    async def when_told(number: int) -> Completion:
        await answered.wait()
        return said(number)

    generator = Scripted(when_told)
    ask = asking(ledger, generator)

    async def task() -> None:
        first, second, alone = (asyncio.ensure_future(ask(request(n))) for n in (1, 1, 2))
        while len(generator.asked) < 2:
            await asyncio.sleep(0)
        first.cancel()
        alone.cancel()
        await asyncio.wait([first, alone])
        assert generator.cancelled == [2]
        answered.set()
        assert await second == said(1)
        assert await ask(request(2)) == said(2)  # a new call, not the cancelled one
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(task())
    assert generator.asked == [1, 2, 2]
    assert ask.used == [key(1), key(2)]


# Many at once


def test_outcomes_come_in_order_and_a_bug_of_one_is_its_own():
    async def make(number: int) -> int:
        await asyncio.sleep(0.001 * (number * 7 % 5))
        if number % 10 == 3:
            raise KeyError(number)
        return number

    outcomes = asyncio.run(everything([make(n) for n in range(50)], most=6))
    assert outcomes == [Crashed(f"KeyError: {n}") if n % 10 == 3 else n for n in range(50)]
    assert "raise KeyError(number)" in outcomes[3].trace


def test_a_full_disk_is_nobodys_own_bug():
    async def make() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        asyncio.run(everything([make()]))


@given(st.lists(st.integers(1, 4), max_size=60), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_so_many_run_at_once_and_a_bounded_number_exists_at_all(delays: list[int], most: int):
    running = existing = most_running = most_existing = 0

    async def make(number: int) -> int:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        for _ in range(delays[number] ** 3):
            await asyncio.sleep(0)
        running -= 1
        return number

    def makes() -> Iterator[Coroutine[Any, Any, int]]:
        nonlocal existing, most_existing
        for number in range(len(delays)):
            existing += 1
            most_existing = max(most_existing, existing)
            yield make(number)

    async def task() -> list[int | Crashed]:
        nonlocal existing
        out = []
        async for outcome in all_of(makes(), most):
            existing -= 1
            out.append(outcome)
        return out

    assert asyncio.run(task()) == list(range(len(delays)))
    assert most_running == min(most, len(delays))
    assert most_existing <= 8 * most


def test_whoever_stops_reading_leaves_nothing_running():
    ended: list[int] = []

    async def make(number: int) -> int:
        try:
            await asyncio.sleep(60 * (number > 3))
            return number
        finally:
            ended.append(number)

    async def task() -> int:
        outcomes = all_of((make(n) for n in range(100)), 8)
        async for outcome in outcomes:
            if outcome == 2:
                await outcomes.aclose()
                break
        return len(asyncio.all_tasks())

    assert asyncio.run(task()) == 1
    assert len(ended) >= 8
