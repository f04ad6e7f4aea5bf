"""How a run is shown while it goes on: bars on a terminal, plain lines in a log, always on stderr."""

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from marco_data.dataset import Node
from marco_data.execute import Done

LINE_SECONDS = 10.0


class Bars:
    """A bar a node with rate and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>12}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task: TaskID | None = None
        self.started = 0.0
        self.count = 0

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bars.stop()

    def node(self, node: Node, tasks: int, pending: int) -> None:
        self.started, self.count = time.monotonic(), 0
        rate = "nothing to do" if pending == 0 else ""
        self.task = self.bars.add_task(node.name, total=tasks, completed=tasks - pending, rate=rate)

    def done(self, done: Done) -> None:
        assert self.task is not None
        self.count += 1
        rate = self.count / max(time.monotonic() - self.started, 1e-9)
        self.bars.update(self.task, advance=1, rate=f"{rate:.1f} /s")
        if done.error is not None:
            self.say(f"failed: {done.task.key}: {done.error}")

    def say(self, message: str) -> None:
        self.bars.console.print(escape(message), highlight=False)


class Lines:
    """One line at a node's start and end and every ten seconds between, with rate and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.name, self.pending, self.count = "", 0, 0
        self.started = self.said = 0.0

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: Any) -> None: ...

    def node(self, node: Node, tasks: int, pending: int) -> None:
        self.name, self.pending, self.count = node.name, pending, 0
        self.started = self.said = time.monotonic()
        todo = f"{pending} to do" if pending else "nothing to do"
        self.say(f"{node.name}: {tasks} tasks, {todo}")

    def done(self, done: Done) -> None:
        self.count += 1
        now = time.monotonic()
        if done.error is not None:
            self.say(f"failed: {done.task.key}: {done.error}")
        if self.count == self.pending or now - self.said > LINE_SECONDS:
            self.said = now
            rate = self.count / max(now - self.started, 1e-9)
            left = (self.pending - self.count) / rate
            self.say(f"{self.name}: {self.count} of {self.pending} done, {rate:.1f} /s, {left:.0f} s left")

    def say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)


def show_progress(console: Console) -> Bars | Lines:
    return Bars(console) if console.is_terminal else Lines(console)
