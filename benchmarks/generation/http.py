"""The HTTP path beside a client of twenty lines: `python -m benchmarks.generation.http`.

In: one fake server in a process of its own, that answers every call after a fixed delay. Out: seconds and processor
seconds of both clients on the same prompts, in interleaved pairs. Only the generator is measured, no ledger.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from marco_data.generation.endpoint import Endpoint
from marco_data.generation.generator import Request, Sampling
from marco_data.generation.pools import EndpointPool

SERVER = Path(__file__).parents[2] / "tests" / "generation" / "fake_server.py"
SAMPLING = Sampling(temperature=0.5, top_p=0.9, max_tokens=1024)

Client = Callable[[str, list[str], int], Coroutine[Any, Any, list[str]]]


async def bare(url: str, prompts: list[str], concurrency: int) -> list[str]:
    """What anybody would write: no retries, no time-out, no look at what comes back."""
    turns = asyncio.Semaphore(concurrency)

    async def ask(session: aiohttp.ClientSession, prompt: str) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "temperature": 0.5, "top_p": 0.9}
        async with turns, session.post(f"{url}/chat/completions", json=body | {"max_tokens": 1024}) as reply:
            answer: str = (await reply.json())["choices"][0]["message"]["content"]
            return answer

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return list(await asyncio.gather(*(ask(session, prompt) for prompt in prompts)))


async def ours(url: str, prompts: list[str], concurrency: int) -> list[str]:
    endpoint = Endpoint(EndpointPool(kind="endpoint", url=url, concurrency=concurrency), "m")
    requests = [Request((("user", prompt),), SAMPLING) for prompt in prompts]
    try:
        return [done.text for done in await asyncio.gather(*map(endpoint.complete, requests))]
    finally:
        await endpoint.close()


@dataclass(frozen=True)
class Go:
    """One client's way through all prompts."""

    seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class Compared:
    """Pairs of goes on the same prompts: ours, bare."""

    requests: int
    pairs: tuple[tuple[Go, Go], ...]

    @property
    def ratios(self) -> list[float]:
        """Completions a second, ours relative to the bare client's, of each pair."""
        return [theirs.seconds / our.seconds for our, theirs in self.pairs]

    def figures(self) -> dict[str, float]:
        our, theirs = ([pair[i] for pair in self.pairs] for i in (0, 1))
        median = statistics.median

        def processor(goes: list[Go]) -> float:
            return round(median(go.processor_seconds for go in goes) / self.requests * 1000, 3)

        return {
            "pairs": len(self.pairs),
            "ours_per_second": round(self.requests / median(go.seconds for go in our), 1),
            "bare_per_second": round(self.requests / median(go.seconds for go in theirs), 1),
            "ratio_median": round(median(self.ratios), 3),
            "ratio_lowest": round(min(self.ratios), 3),
            "ratio_highest": round(max(self.ratios), 3),
            "ours_processor_seconds_per_1000": processor(our),
            "bare_processor_seconds_per_1000": processor(theirs),
        }


def compare(
    *, pairs: int = 7, requests: int = 2000, concurrency: int = 64, delay: float = 0.2, words: int = 300
) -> Compared:
    """Who goes first changes from pair to pair; one unmeasured pair goes before."""
    text = "one of the documents that a model is asked about. " * (words // 9)
    with serving(delay, words) as url:
        held = []
        for number in range(-1, pairs):
            prompts = [f"{number} {i} {text}" for i in range(requests if number >= 0 else concurrency)]
            order = (ours, bare) if number % 2 else (bare, ours)
            goes = {client: _go(client, url, prompts, concurrency) for client in order}
            held.append((goes[ours], goes[bare]))
    return Compared(requests, tuple(held[1:]))


def _go(client: Client, url: str, prompts: list[str], concurrency: int) -> Go:
    wall, processor = time.perf_counter(), time.process_time()
    answers = asyncio.run(client(url, prompts, concurrency))
    done = Go(time.perf_counter() - wall, time.process_time() - processor)
    assert len(answers) == len(prompts)
    assert all(answers)
    return done


@contextmanager
def serving(delay: float, words: int) -> Iterator[str]:
    """The address of a fake server that runs as long as this does."""
    command = [sys.executable, str(SERVER), "--delay", str(delay), "--words", str(words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.communicate()


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.generation.http", description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="goes of each client (7)")
    parser.add_argument("--requests", type=int, default=2000, help="of one go (2000)")
    parser.add_argument("--concurrency", type=int, default=64, help="under way at once (64)")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that the server takes for an answer (0.2)")
    parser.add_argument("--words", type=int, default=300, help="of a prompt and of an answer (300)")
    print(json.dumps(compare(**vars(parser.parse_args())).figures(), indent=2))


if __name__ == "__main__":
    main()
