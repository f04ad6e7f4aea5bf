"""One engine of a pool as an actor: requests of many tasks in, to each task its own completions out.

In: how to build an engine; then batches of numbered requests from clients. Out: what has ended for a client since it
last asked. Runs in the engine's process; Ray makes an actor of the class, which does not know it. A client is known
for one session, the life of one engine: whoever was not answered in it asks again in the next, and no request of an
old session is ever begun in a new one.
"""

import asyncio
import importlib
import os
import secrets
import stat
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from marco_data.cluster.metrics import EngineMeter
from marco_data.generation.generator import Completion, Request

ENGINE = "marco_data.generation.vllm_engine:VllmEngine"

POLL_SECONDS = 10.0
"""How long a client's call waits for news; then it is answered with none."""

LINGER_SECONDS = 0.003
"""How long what has ended waits for more that ends, so that one reply carries both."""

ABSENT_SECONDS = 300.0
"""After so long without a call a client is dead, and what it asked is not worth answering."""

REPLY_CHARACTERS = 25_000
"""Of one reply. Ray carries up to 100 KB in the reply itself and puts more into the object store."""

LAST_LINES, LAST_BYTES = 12, 8192
MARKS = (":job_id:", ":actor_name:", ":task_name:")


@dataclass
class _Client:
    numbers: dict[int, int] = field(default_factory=dict)  # the engine's number of a request: the client's
    ended: deque[tuple[int, Completion]] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    seen: float = field(default_factory=time.monotonic)


class Replica:
    """What a pool is made of. Every answer that is a `str` says why there is no engine for the caller."""

    def __init__(self, engine: str, settings: Mapping[str, Any]) -> None:
        """`engine` is `module:Class`, imported here and nowhere else, and `settings` are its arguments."""
        self._session = secrets.token_hex(8)
        self._clients: dict[str, _Client] = {}
        self._owners: dict[int, _Client] = {}
        self._count = 0
        self._words: str | None = None
        self._meter = EngineMeter(str(settings["model"]))
        self._engine: Future[Any] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._build, args=(engine, settings), daemon=True, name="building").start()

    def _build(self, engine: str, settings: Mapping[str, Any]) -> None:
        module, _, name = engine.partition(":")
        try:
            self._engine.set_result(getattr(importlib.import_module(module), name)(**settings))
        except BaseException as error:
            traceback.print_exc()
            self._die(f"{type(error).__name__}: {error}")
            self._engine.set_result(None)

    async def ready(self) -> dict[str, Any] | str:
        """Which engine this is, version and process, once it can answer."""
        engine = await asyncio.shield(asyncio.wrap_future(self._engine))
        if self._loop is None and engine is not None:
            self._loop = asyncio.get_running_loop()
            engine.serve(self._ended, self._die)
            self._sweeping = asyncio.create_task(self._sweep())
        if self._words is not None:
            return self._words
        return {"engine": engine.version, "process": os.getpid()}

    async def hello(self, client: str) -> tuple[str, str] | str:
        """Begin to serve this client, anew if it was known: the session, and which engine this is."""
        ready = await self.ready()
        if isinstance(ready, str):
            return ready
        await self.leave(client)
        self._clients[client] = _Client()
        return self._session, ready["engine"]

    async def submit(self, session: str, client: str, batch: Sequence[tuple[int, Request]]) -> str | None:
        """Begin these requests. Their completions are told to `collect`."""
        known = self._clients.get(client)
        if session != self._session or known is None or self._words is not None:
            return self._words or "another engine has taken this one's place"
        known.seen = time.monotonic()
        engine = self._engine.result()
        for number, request in batch:
            self._count += 1
            known.numbers[self._count] = number
            self._owners[self._count] = known
            engine.ask(self._count, request)
        return None

    async def collect(self, session: str, client: str) -> list[tuple[int, Completion]] | str:
        """What has ended since the last call, at least one completion if one ends within POLL_SECONDS."""
        known = self._clients.get(client)
        if session != self._session or known is None or self._words is not None:
            return self._words or "another engine has taken this one's place"
        known.calls += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(known.news.wait(), POLL_SECONDS)
            if known.ended:
                await asyncio.sleep(LINGER_SECONDS)
            reply: list[tuple[int, Completion]] = []
            size = 0
            while known.ended and (not reply or size + len(known.ended[0][1].text) <= REPLY_CHARACTERS):
                reply.append(known.ended.popleft())
                size += len(reply[-1][1].text)
            if not known.ended:
                known.news.clear()
            if not reply and self._words is not None:
                known.news.set()  # for whoever calls next
                return self._words
            return reply
        finally:
            known.calls -= 1
            known.seen = time.monotonic()

    async def leave(self, client: str) -> None:
        """This client wants no more answers: what it asked is stopped."""
        known = self._clients.pop(client, None)
        if known is not None and known.numbers:
            for number in known.numbers:
                del self._owners[number]
            self._engine.result().drop(list(known.numbers))

    async def steps(self, since: float) -> list[tuple[float, int, int]]:
        """What the engine has noted: (moment, requests that ran, that waited) after each of its steps."""
        steps: list[tuple[float, int, int]] = self._engine.result().steps(since)
        return steps

    def _ended(self, done: list[tuple[int, Completion]]) -> None:
        """Called in the engine's thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._deliver, done)

    def _deliver(self, done: list[tuple[int, Completion]]) -> None:
        self._meter.ended(completion for _, completion in done)
        for number, completion in done:
            client = self._owners.pop(number, None)
            if client is not None:  # else it has left
                client.ended.append((client.numbers.pop(number), completion))
                client.news.set()

    def _die(self, error: str) -> None:
        """The engine is gone, and this process with it, once all who wait have heard why; Ray starts another."""
        if self._words is not None:
            return
        self._words = "\n".join(line for line in (last_lines(), error) if line)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)
        timer = threading.Timer(1.0, os._exit, args=(1,))
        timer.daemon = True
        timer.start()

    def _wake(self) -> None:
        for client in self._clients.values():
            client.news.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._meter.ended()
            long_ago = time.monotonic() - ABSENT_SECONDS
            for name, client in list(self._clients.items()):
                if client.calls == 0 and client.seen < long_ago:
                    await self.leave(name)


def last_lines() -> str:
    """The end of what this process and the engine's own have written, where Ray lets them write into files."""
    said = []
    for stream in (1, 2):
        if not stat.S_ISREG(os.fstat(stream).st_mode):
            continue
        with open(f"/proc/self/fd/{stream}", "rb") as log:  # noqa: PTH123 - opens the file, not this end of it
            log.seek(max(0, os.fstat(stream).st_size - LAST_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
        # Ray's marks of who writes are no words of the engine's.
        said += [line.rstrip() for line in lines if line.strip() and not line.startswith(MARKS)][-LAST_LINES:]
    return "\n".join(said)
