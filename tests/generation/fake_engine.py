"""An engine that turns the prompt round, and dies or refuses to start when told to: for the pool's logic."""

import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marco_data.generation.generator import STOP, Completion, Request


class FakeEngine:
    """Runs `max_num_seqs` requests at once, each for `seconds` (of `options`).

    `journal` names a file that gets a line for every request begun. A request that contains `dies` ends the engine.
    """

    def __init__(
        self, model: str, max_num_seqs: int = 8, options: Mapping[str, Any] | None = None, **_others: Any
    ) -> None:
        if model == "broken":
            raise RuntimeError("this engine has no wheels")
        self.most = max_num_seqs
        self.options = dict(options or {})
        self.begun: list[str] = []
        self.dropped: set[int] = set()
        self._arrivals: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        self._telling = threading.Lock()
        self._ended = False

    def serve(self, ended: Any, died: Any) -> None:
        threading.Thread(target=self._serve, args=(ended, died), daemon=True).start()

    def ask(self, number: int, request: Request) -> None:
        self._arrivals.put((number, request))

    def drop(self, numbers: list[int]) -> None:
        self.dropped |= set(numbers)

    def end(self) -> None:
        """What the end of its process does to an engine: it tells nobody anything any more."""
        with self._telling:
            self._ended = True

    version = "fake 1"

    def _serve(self, ended: Any, died: Any) -> None:
        while True:
            running = [self._arrivals.get()]
            while len(running) < self.most and not self._arrivals.empty():
                running.append(self._arrivals.get())
            for _, request in running:
                text = request.messages[0][1]
                self.begun.append(text)
                if "journal" in self.options:
                    with Path(self.options["journal"]).open("a") as journal:
                        journal.write(f"{os.getpid()} {text}\n")
                if "dies" in text:
                    died("Error: it could not digest this")
                    return
            time.sleep(self.options.get("seconds", 0.005))
            with self._telling:
                if self._ended:
                    return
                ended([(number, answer(request)) for number, request in running if number not in self.dropped])


def answer(request: Request) -> Completion:
    text = request.messages[0][1]
    return Completion(text[::-1], STOP, tokens_in=len(text), tokens_out=len(text))
