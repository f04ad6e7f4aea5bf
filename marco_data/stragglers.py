"""Which tasks took far longer than others of their step do, and why; and those that were sent again.

In: the lines that a run's log has of its tasks. Out: for each step its usual time, and its slow tasks with a cause: a
larger input, a slow machine, waiting for engines or storage, text that is heavy for the processor, workers that died.
Knows no plan, reads no record, and decides nothing: a cause is what the figures of the log fit best.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from marco_data.storage import Storage

TIMES = 3.0
"""A task is slow that takes so many times what is usual of its step."""

LEAST_SECONDS = 5.0
"""And so much longer: what takes a moment may take three."""

SLOWER = 1.5
"""A machine is slow that takes so many times what others take for a byte, in the middle of at least MACHINE_TASKS."""

MACHINE_TASKS = 3

MOST = 100
"""Slow tasks of a step that are kept with their cause; further ones are counted."""

WORKER, INPUT, MACHINE, ENGINES, STORAGE, WAITING, TEXT = (
    "worker died",
    "larger input",
    "slow machine",
    "engines",
    "storage",
    "waiting",
    "heavy text",
)


class Spread:
    """How figures lie, in classes of 2 %: the middle of a million of them in a few hundred numbers, in any order."""

    BASE = math.log(1.02)

    def __init__(self, classes: Mapping[int, int] | None = None) -> None:
        self.classes = Counter(classes or {})

    def add(self, figure: float) -> None:
        self.classes[round(math.log(max(figure, 1e-15)) / self.BASE)] += 1

    def __sub__(self, other: "Spread") -> "Spread":
        return Spread(self.classes - other.classes)

    @property
    def number(self) -> int:
        return self.classes.total()

    @property
    def middle(self) -> float | None:
        """The lower median; None of nothing."""
        before = 0
        for at in sorted(self.classes):
            before += self.classes[at]
            if 2 * before >= self.number:
                return math.exp(at * self.BASE)
        return None

    def above(self, figure: float) -> int:
        return sum(n for at, n in self.classes.items() if math.exp(at * self.BASE) > figure)


@dataclass(frozen=True)
class Slow:
    """One task. `usual` are the seconds of most of its step, `why` is a sentence with the figures of the cause."""

    node: str
    task: str
    seconds: float
    usual: float
    cause: str
    why: str
    host: str
    bytes: int
    processor: float
    retries: Mapping[str, int]
    lost: Mapping[str, int]


@dataclass(frozen=True)
class SlowStep:
    """A step's tasks: how many, the usual seconds, how many were slow or sent again, and the worst of these."""

    node: str
    tasks: int
    usual: float
    slow: int
    sent_again: int
    worst: tuple[Slow, ...]

    def causes(self) -> Counter[str]:
        return Counter(task.cause for task in self.worst)


Line = Mapping[str, Any]


@dataclass
class _Step:
    seconds: Spread = field(default_factory=Spread)
    bytes: Spread = field(default_factory=Spread)
    a_byte: Spread = field(default_factory=Spread)  # seconds
    of_host: dict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    longest: list[tuple[float, int, Line]] = field(default_factory=list)
    resent: list[tuple[float, int, Line]] = field(default_factory=list)
    sent_again: int = 0


class Stragglers:
    """Takes a log line by line, and keeps of a step some hundred numbers and its longest tasks."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = defaultdict(_Step)
        self._numbers = count()

    def add(self, line: Line) -> None:
        step, seconds = self._steps[line["node"]], float(line["seconds"])
        lost = sum((line.get("lost") or {}).values())
        if lost:
            step.sent_again += 1
            _keep(step.resent, (lost, next(self._numbers), line))
        if line["error"] is not None:  # how long a failure took says nothing
            return
        step.seconds.add(seconds)
        if size := line.get("bytes"):
            step.bytes.add(size)
            step.a_byte.add(seconds / size)
            step.of_host[line["host"]].add(seconds / size)
        _keep(step.longest, (seconds, next(self._numbers), line))

    def found(self) -> list[SlowStep]:
        """Of all steps that have any, those with the most slow tasks first."""
        steps = [_judged(name, step) for name, step in self._steps.items()]
        return sorted(
            (step for step in steps if step.worst), key=lambda step: (-step.slow, -step.sent_again, step.node)
        )


def read_stragglers(storage: Storage, folders: Mapping[str, str]) -> list[SlowStep]:
    """Of all runs whose logs a root has; `folders` are those of the nodes that are asked about, by their names."""
    found = Stragglers()
    for name in sorted(storage.names("runs")):
        if name.endswith(".jsonl"):
            for line in storage.read_json_lines(f"runs/{name}"):
                own = folders.get(line["node"])
                # Logs of before the folder was told of have the name alone.
                if own is not None and line.get("folder", own) == own:
                    found.add(line)
    return found.found()


def slow_object(steps: Iterable[SlowStep]) -> dict[str, Any]:
    """Plain JSON."""
    return {"times": TIMES, "least_seconds": LEAST_SECONDS, "steps": [asdict(step) for step in steps]}


def _keep(kept: list[tuple[float, int, Line]], one: tuple[float, int, Line]) -> None:
    heapq.heappush(kept, one)
    if len(kept) > MOST:
        heapq.heappop(kept)


def _judged(name: str, step: _Step) -> SlowStep:
    usual = step.seconds.middle or 0.0
    limit = max(TIMES * usual, usual + LEAST_SECONDS)
    lines = {number: line for _, number, line in step.resent}
    resent = {line["task"] for line in lines.values()}
    lines |= {number: line for seconds, number, line in step.longest if seconds > limit and line["task"] not in resent}
    worst = sorted(lines.values(), key=lambda line: (-line["seconds"], line["task"]))[:MOST]
    return SlowStep(
        name,
        step.seconds.number,
        round(usual, 3),
        step.seconds.above(limit),
        step.sent_again,
        tuple(_cause(name, line, usual, step) for line in worst),
    )


def _cause(name: str, line: Line, usual: float, step: _Step) -> Slow:
    cause, why = _why(name, line, step)
    return Slow(
        name,
        line["task"],
        line["seconds"],
        round(usual, 3),
        cause,
        why,
        line["host"],
        line.get("bytes", 0),
        line.get("processor", 0.0),
        dict(line.get("storage_retries") or {}),
        dict(line.get("lost") or {}),
    )


def _why(name: str, line: Line, step: _Step) -> tuple[str, str]:
    seconds, size, processor = line["seconds"], line.get("bytes", 0), line.get("processor", 0.0)
    if lost := line.get("lost"):
        told = ", ".join(f"{what} {n}" for what, n in sorted(lost.items()))
        return WORKER, f"what ran it died {sum(lost.values())} times ({told}), and it was sent again"
    a_byte, usual_bytes = step.a_byte.middle, step.bytes.middle
    if a_byte and usual_bytes and size and seconds <= TIMES * a_byte * size:
        return INPUT, f"reads {size / 1e6:,.1f} MB, {size / usual_bytes:,.1f} times the usual"
    own = step.of_host.get(line["host"], Spread())
    others = (step.a_byte - own).middle
    if others and own.number >= MACHINE_TASKS and (mine := own.middle or 0.0) >= SLOWER * others:
        return MACHINE, f"{line['host']} takes {mine / others:.1f} times as long for a byte as the others"
    waited = seconds - processor
    if 2 * waited > seconds:
        said = f"waited {waited:,.0f} of {seconds:,.0f} seconds"
        if retries := line.get("storage_retries"):
            told = ", ".join(f"{what} {n}" for what, n in sorted(retries.items()))
            return STORAGE, f"{said}, with {sum(retries.values())} requests to storage tried again ({told})"
        if name.startswith("generate"):
            return ENGINES, f"{said} for what models answer"
        return WAITING, f"{said}: for storage, or for a processor that had too much to do"
    if a_byte and size:
        return TEXT, f"{size / seconds / 1e6:,.3g} MB a second of its text, where {1 / a_byte / 1e6:,.3g} is usual"
    return TEXT, f"{processor:,.0f} seconds of the processor"
