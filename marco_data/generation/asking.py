"""Between a maker and a generator: nothing is asked twice, and nothing that was answered is lost.

In: requests, as makers have them. Out: completions, from the ledger, else from recorded answers, else from the
generator, whose answer is in the ledger before anyone sees it. Knows no makers. `all_of` runs many makers' coroutines
at once, a bounded number of them.
"""

import asyncio
import traceback
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from marco_data.errors import MarcoError, RetryableError, ShardError
from marco_data.generation.generator import ERROR, NOT_RECORDED, Completion, Generator, Request
from marco_data.generation.ledger import Ledger
from marco_data.generation.recorded import Recorded
from marco_data.redact import redacted
from marco_data.storage import DISK_FULL

GENERATED, FROM_LEDGER, FROM_RECORDED, NOT_ANSWERED = "generated", "from_ledger", "from_recorded", "not_answered"
WAITING = 8  # outcomes that may wait for one before them, in windows

T = TypeVar("T")


@dataclass
class Spent:
    """What different requests came to: equal ones count once, and how many ran at once does not show.

    calls = generated + from_ledger + from_recorded + not_answered. Tokens and seconds are what the answers cost
    whenever that was; `paid_now` is the same of those that were generated now.
    """

    calls: int = 0
    generated: int = 0
    from_ledger: int = 0
    from_recorded: int = 0
    not_answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    gpu_microseconds: int = 0  # whole ones: a sum of them does not depend on the order
    paid_now: "Spent | None" = None

    @property
    def gpu_seconds(self) -> float:
        return self.gpu_microseconds / 1e6

    def add(self, completion: Completion, origin: str) -> None:
        self.calls += 1
        setattr(self, origin, getattr(self, origin) + 1)
        self.tokens_in += completion.tokens_in
        self.tokens_out += completion.tokens_out
        self.gpu_microseconds += round(completion.gpu_seconds * 1e6)
        if origin == GENERATED and self.paid_now is not None:
            self.paid_now.add(completion, origin)


def nothing_spent() -> Spent:
    return Spent(paid_now=Spent())


@dataclass
class _Call:
    """One request that is being answered, and how many wait for it."""

    task: "asyncio.Task[tuple[Completion, str]]"
    waiting: int = 0


class Asking:
    """An `Ask`. Equal requests in flight share one call; at most `in_flight` calls of the generator are outstanding.

    `used` has the keys of all completions that were given out, in the order of their first request, for
    `Ledger.finish`. A call that nobody waits for any more is cancelled.
    """

    def __init__(
        self,
        ledger: Ledger,
        model: str,
        revision: str,
        recorded: Recorded | None,
        generator: Generator | None,
        in_flight: int,
    ) -> None:
        self.ledger, self.model, self.revision = ledger, model, revision
        self.recorded, self.generator = recorded, generator
        self.spent = nothing_spent()
        self._free = asyncio.Semaphore(in_flight)
        self._calls: dict[bytes, _Call] = {}
        self._origins: dict[bytes, str] = {}  # of every request that was answered
        self._errors: dict[bytes, Completion] = {}
        self._wanted: dict[bytes, asyncio.Future[Completion | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    @property
    def used(self) -> list[bytes]:
        return [key for key, origin in self._origins.items() if origin != NOT_ANSWERED]

    async def __call__(self, request: Request) -> Completion:
        completion, _, _ = await self.ask(request)
        return completion

    def counting(self) -> "Counting":
        """An `Ask` of the same that counts what is asked through it by itself: one language's requests, say."""
        return Counting(self)

    async def ask(self, request: Request) -> tuple[Completion, str, bytes]:
        """The completion, where it came from when it was first asked for here, and the request's key."""
        key = bytes.fromhex(request.key(self.model, self.revision))
        if key in self._errors:
            return self._errors[key], NOT_ANSWERED, key
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.ensure_future(self._answer(key, request)))
        call.waiting += 1
        try:
            completion, origin = await asyncio.shield(call.task)
        finally:
            call.waiting -= 1
            if not call.waiting:
                self._calls.pop(key, None)
                await _gone(call.task)
        if key not in self._origins:
            self._origins[key] = origin
            self.spent.add(completion, origin)
            if origin == NOT_ANSWERED:
                self._errors[key] = completion
        return completion, self._origins[key], key

    async def _answer(self, key: bytes, request: Request) -> tuple[Completion, str]:
        try:
            if key in self.ledger and (found := await self._look_up(key)) is not None:
                return found, FROM_LEDGER
            if self.recorded is not None and (found := self.recorded.get(key)) is not None:
                return self.ledger.append(key, request, found), FROM_RECORDED
            if self.generator is None:
                return Completion("", ERROR, error=NOT_RECORDED), NOT_ANSWERED
            async with self._free:
                completion = await self._generate(request)
            if completion.finish_reason == ERROR:
                return completion, NOT_ANSWERED
            return self.ledger.append(key, request, completion), GENERATED
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise RetryableError(f"the ledger `{self.ledger.folder}` cannot be used: {error}") from error

    async def _generate(self, request: Request) -> Completion:
        assert self.generator is not None
        try:
            return await self.generator.complete(request)
        except MarcoError:
            raise
        except Exception as error:  # a bug of the generator's is no fault of the seed that met it
            raise ShardError(f"the generator of `{self.model}` failed: {type(error).__name__}: {error}") from error

    async def _look_up(self, key: bytes) -> Completion | None:
        """What the ledger has. Requests that wait at the same time are read together, in a thread."""
        answer = self._wanted[key] = asyncio.get_running_loop().create_future()
        if self._reader is None:
            self._reader = asyncio.ensure_future(self._read())
        found: Completion | None = await answer
        return found

    async def _read(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever asks in this turn of the loop comes along
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                try:
                    found = await asyncio.to_thread(self.ledger.find, list(wanted))
                except Exception as error:
                    for answer in wanted.values():
                        if not answer.done():
                            answer.set_exception(error)
                else:
                    for key, answer in wanted.items():
                        if not answer.done():
                            answer.set_result(found.get(key))
        finally:
            self._reader = None


class Counting:
    """An `Ask` with a `Spent` of its own: its different requests, whoever else asked them too."""

    def __init__(self, asking: Asking) -> None:
        self.spent = nothing_spent()
        self._asking = asking
        self._counted: set[bytes] = set()

    async def __call__(self, request: Request) -> Completion:
        completion, origin, key = await self._asking.ask(request)
        if key not in self._counted:
            self._counted.add(key)
            self.spent.add(completion, origin)
        return completion


async def _gone(task: "asyncio.Task[Any]") -> None:
    """Wait until the task has ended, cancelled where it had not."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # seen: nobody has to be told that nobody asked


@dataclass(frozen=True)
class Crashed:
    """A coroutine's own bug: what it raised, and where."""

    error: str
    trace: str = field(compare=False, default="")


async def all_of(makes: Iterable[Coroutine[Any, Any, T]], most: int) -> AsyncIterator[T | Crashed]:
    """What the coroutines come to, in their order; `most` of them run at once, and memory is bounded.

    An exception that is not one of ours is that coroutine's own: it is given back as `Crashed`. A MarcoError and a full
    disk are raised, after all others have been cancelled and have ended. `makes` is read as there is room.
    """
    rest = iter(makes)
    waiting: deque[asyncio.Task[T | Crashed]] = deque()  # in order; the first is the next to be given back
    running = 0
    stopped: BaseException | None = None
    changed = asyncio.Event()

    def over(make: Coroutine[Any, Any, T], task: "asyncio.Task[T | Crashed]") -> None:
        nonlocal running, stopped
        make.close()  # a task that was cancelled before its first step never touched it
        running -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            stopped = stopped or error
        changed.set()

    try:
        more = True
        while True:
            while more and running < most and len(waiting) < WAITING * most:
                make = next(rest, None)
                if make is None:
                    more = False
                else:
                    task = asyncio.ensure_future(_outcome(make))
                    task.add_done_callback(partial(over, make))
                    waiting.append(task)
                    running += 1
            if stopped is not None:
                raise stopped
            if not waiting:
                return
            if waiting[0].done():
                yield waiting.popleft().result()
            else:
                changed.clear()
                await changed.wait()
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)


async def _outcome(make: Coroutine[Any, Any, T]) -> T | Crashed:
    try:
        return await make
    except MarcoError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        return Crashed(redacted(f"{type(error).__name__}: {error}"), redacted(traceback.format_exc()))
