"""A process of its own that asks through a ledger, to be killed: `ledger_writer.py ROOT PLACE NAME REQUESTS NOTES`.

It answers its own requests, a random half millisecond each, and notes in the file NOTES what it asks and what it has
been answered, each line one write(), so that a kill loses none of it. NAME shows in the answers. With a sixth argument
no file may grow beyond so many bytes, as on a full disk.
"""

import asyncio
import os
import random
import resource
import sys

from marco_data.generation.asking import Asking, all_of
from marco_data.generation.generator import STOP, Completion, Request, Sampling
from marco_data.generation.ledger import Ledger
from marco_data.storage import Storage

MODEL, REVISION = "org/model", "f" * 40


def request(number: int) -> Request:
    return Request((("user", f"question {number}"),), Sampling(), prompt="ask@1")


class Answers:
    """A generator; it notes what it is asked before it answers."""

    def __init__(self, name: str, notes: int) -> None:
        self.name, self.notes = name, notes

    async def complete(self, request: Request) -> Completion:
        asked = request.messages[0][1]
        os.write(self.notes, f"asked {asked}\n".encode())
        await asyncio.sleep(random.random() / 1000)
        return Completion(f"{self.name} answers {asked}\n" + "é" * (len(asked) * 37 % 500), STOP, 3, 40, 0.25)

    async def close(self) -> None: ...


async def work(root: str, place: str, name: str, requests: int, notes: int) -> None:
    ledger = Ledger(Storage(root), MODEL, REVISION, place)
    asking = Asking(ledger, MODEL, REVISION, None, Answers(name, notes), 8)

    async def make(number: int) -> None:
        await asking(request(number))
        os.write(notes, f"answered question {number}\n".encode())

    try:
        async for _ in all_of((make(i) for i in range(requests)), 16):
            pass
    except OSError as error:
        os.write(notes, f"stopped {error.errno}\n".encode())
        sys.exit(3)
    print(ledger.finish(asking.used).digest)


def main(root: str, place: str, name: str, requests: str, notes: str, limit: str = "") -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    asyncio.run(work(root, place, name, int(requests), descriptor))


if __name__ == "__main__":
    main(*sys.argv[1:])
