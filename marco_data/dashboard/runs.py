"""What goes on: how far each node of a build is and when it will be through, and the curves of training runs.

In: the log of a run under `runs/`, the nodes of a ledger, and `training/*/metrics.jsonl`. Out: plain rows. A line
that was cut off is passed over. Knows no HTML, and nothing of what the nodes do.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marco_data.storage import Storage

MOST_POINTS = 400
"""Of a curve; a screen shows no more."""
MOST_SEGMENTS = 200
"""Of a run's log, the newest: half an hour of a run that goes on."""
MOST_RUNS = 50
"""The newest, among which a build's is looked for."""


@dataclass
class NodeWork:
    """What a log says of one node: tasks done, the seconds they took, when the first and last was done, and errors."""

    tasks: int = 0
    seconds: float = 0.0
    first: float | None = None
    last: float | None = None
    failed: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Tasks a second of the clock; None where a log has not two times."""
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        return (self.tasks - 1) / (self.last - self.first)


def lines_of(storage: Storage, path: str, folders: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What a segment says of the nodes in `folders`; logs of before the folder was told of have the name alone."""
    for said in storage.read_json_lines(path):
        own = folders.get(str(said.get("node", "")))
        if own is not None and said.get("folder", own) == own:
            yield said


def last_log(storage: Storage, folders: Mapping[str, str]) -> list[str]:
    """The segments of the log of the newest run that did something for the nodes in `folders`.

    Builds of other stages and families may go on in the same root. What two builds share is what comes first, so the
    first segment of a log tells whether there is any; the last one does of a log whose first is of something else.
    """
    runs: dict[str, list[str]] = defaultdict(list)
    for name in sorted(storage.names("runs")):
        if name.endswith(".jsonl"):
            runs[name.rpartition("-")[0]].append(f"runs/{name}")
    for _, segments in sorted(runs.items(), reverse=True)[:MOST_RUNS]:
        if any(True for path in {segments[0], segments[-1]} for _ in lines_of(storage, path, folders)):
            return segments[-MOST_SEGMENTS:]
    return []


def work_of(storage: Storage, folders: Mapping[str, str]) -> dict[str, NodeWork]:
    """{node: what the log of the newest run that was at it says}; `folders` are those of a build's nodes, by name."""
    found: dict[str, NodeWork] = defaultdict(NodeWork)
    for path in last_log(storage, folders):
        for said in lines_of(storage, path, folders):
            work = found[said["node"]]
            work.tasks += 1
            work.seconds += float(said.get("seconds") or 0)
            if said.get("at") is not None:
                work.first = said["at"] if work.first is None else work.first
                work.last = said["at"]
            if said.get("error"):
                work.failed.append(f"{said.get('task')}: {said['error']}")
    return dict(found)


def seconds_left(work: NodeWork | None, tasks: int | None, done: int) -> float | None:
    """Of a node, by its rate so far; None where that is not known."""
    if tasks is None or work is None or work.rate is None or not work.rate:
        return None
    return (tasks - done) / work.rate


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def trainings(storage: Storage) -> list[str]:
    """The names of training runs in a root."""
    return [name for name in storage.names("training") if storage.exists(f"training/{name}/metrics.jsonl")]


def curve(storage: Storage, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(steps, spikes) of a training run, of many lines every nth."""
    lines = list(storage.read_json_lines(f"training/{name}/metrics.jsonl"))
    steps = [line for line in lines if line.get("event") == "step"]
    return thinned(steps), [line for line in lines if line.get("event") == "spike"]


def thinned(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    every = -(-len(steps) // MOST_POINTS) or 1
    return [step for number, step in enumerate(steps) if number % every == 0 or number == len(steps) - 1]


def finite(values: Iterable[Any]) -> list[float]:
    """Numbers; a loss that was none is written as a word, and left out of a curve."""
    return [float(value) for value in values if isinstance(value, int | float)]
