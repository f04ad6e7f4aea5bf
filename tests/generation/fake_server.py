"""A server that speaks the OpenAI chat protocol around a plain function, on a real socket, and fails as it is told.

    with FakeServer(lambda body: "an answer") as server: ask(server.url)

`fault(number, body)` may answer the number-th call (from 0) with a `Reply` of its own. `most` calls run at once, the
next are answered with 429. `stop()` and `start()` are a server that dies and comes back on the same port. As a
command it serves answers of a fixed length, for benchmarks: `python fake_server.py --delay 0.05 --words 100`.
"""

import argparse
import asyncio
import json
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

Answer = Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Reply:
    """What goes out. The connection is closed after `cut` bytes of it; a `delay` comes before the first.

    `raw` goes out instead of all that, and is the last of its connection.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    delay: float = 0.0
    raw: bytes | None = None

    @property
    def sent(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} Said", "Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body


Fault = Callable[[int, dict[str, Any]], Reply | None]


def answered(text: str | None, finish_reason: str | None = "stop", *, tokens: tuple[int, int] | None = (7, 3)) -> Reply:
    """A chat completion."""
    body: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason},
        ],
    }
    if tokens is not None:
        body["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return Reply(body=json.dumps(body).encode())


def refused(status: int, message: str = "no", *, retry_after: str | None = None) -> Reply:
    """An error as servers write it."""
    headers = () if retry_after is None else (("Retry-After", retry_after),)
    return Reply(status, json.dumps({"error": {"message": message, "code": status}}).encode(), headers)


GARBAGE = Reply(body=b"<html>\x00\xff a page of a proxy</html>")
HUNG_UP = Reply(cut=0)
CUT_SHORT = Reply(body=answered("half of this").body, cut=150)


@dataclass
class Seen:
    """A call as it came."""

    target: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class FakeServer:
    answer: Answer
    fault: Fault = lambda number, body: None
    key: str | None = None
    most: int = 1 << 30
    delay: float = 0.0
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    too_many: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> list[str]:
        """The last message of each call, in the order of their arrival."""
        return [seen.body["messages"][-1]["content"] for seen in self.seen]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(listening),))
        self._thread.start()

    def stop(self) -> None:
        """Die: what is under way is cut off."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self, listening: socket.socket) -> None:
        tasks: set[asyncio.Task[None]] = set()
        writers: list[asyncio.StreamWriter] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, sock=listening)
        await self._over.wait()
        server.close()
        await asyncio.sleep(0.02)  # what was accepted a moment ago gets its transport
        left = set(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()  # also of tasks that had not begun, and never come to their own end
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in turns of their own

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (seen := await _read(reader)) is not None:
                reply = await self._reply(seen)
                await asyncio.sleep(reply.delay)
                writer.write(reply.sent[: reply.cut])
                await writer.drain()
                if reply.cut is not None or reply.raw is not None:
                    return
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _reply(self, seen: Seen) -> Reply:
        if not seen.target.endswith("/chat/completions"):
            return refused(404, "Not Found")
        number = len(self.seen)
        self.seen.append(seen)
        if self.key is not None and seen.headers.get("authorization") != f"Bearer {self.key}":
            return refused(401, f"Incorrect API key provided: {seen.headers.get('authorization')}")
        if self.running >= self.most:
            self.too_many += 1
            return refused(429, "too many requests")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay)
            return self.fault(number, seen.body) or answered(self.answer(seen.body))
        finally:
            self.running -= 1


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    """The next call of a connection; None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except asyncio.IncompleteReadError:
        return None
    return Seen(head[0].split(" ")[1], headers, json.loads(body or b"{}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--words", type=int, default=100, help="words of each answer")
    arguments = parser.parse_args()
    text = "word " * arguments.words
    with FakeServer(lambda body: text, delay=arguments.delay) as server:
        print(server.url, flush=True)
        sys.stdin.read()  # until whoever started it lets go


if __name__ == "__main__":
    main()
