"""The dedup nodes alone, in a process of their own: from verdicts of the limits to those of dedup.

`python -m benchmarks.dedup_scale.nodes FOLDER DOCUMENTS SEED WORKERS` runs them over a corpus that is measured, where
nothing of dedup is, and prints what each took as JSON. `timed` starts that process and watches it.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.dedup_scale.corpus import BEFORE, Corpus, corpus
from benchmarks.dedup_scale.watch import Watch, processor_seconds
from marco_data.dataset import Node
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.storage import Storage

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mark:
    """The clocks when a node began, of the wall (monotonic) and of the processor, all processes together."""

    name: str
    tasks: int
    wall: float
    processor: float


@dataclass(frozen=True)
class NodeTimes:
    """What a node took, the planning of the one after it included. `peak`: of all processes together."""

    name: str
    tasks: int
    seconds: float
    processor_seconds: float
    peak: int
    bytes: int


@dataclass(frozen=True)
class Times:
    """What dedup took. `process_seconds` has starting Python and reading the plan too.

    Memory in bytes: `largest` of one process, `own` without pages of files, `together` of all at once, memory they
    share counted in each. `disk`: what lies there afterwards; `written`: all that was handed to the system.
    """

    documents: int
    seconds: float
    processor_seconds: float
    process_seconds: float
    largest: int
    own: int
    together: int
    disk: int
    written: int
    nodes: Sequence[NodeTimes]


class Marks(Silent):
    """Notes when each node begins. `decide` is there already: that it has been looked for is where dedup begins."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def node(self, node: Node, tasks: int, pending: int) -> None:
        there = not self.marks  # all before dedup is, nothing of dedup
        assert pending == (0 if there else tasks), f"{pending} of {tasks} tasks of `{node.name}` are to be done"
        if self.marks or node.name == BEFORE:
            self.mark(node.name, tasks)

    def mark(self, name: str, tasks: int = 0) -> None:
        self.marks.append(Mark(name, tasks, time.monotonic(), processor_seconds()))


def main(folder: str, documents: str, seed: str, workers: str) -> None:
    one, marks = corpus(Path(folder), int(documents), int(seed)), Marks()
    executor = LocalExecutor(int(workers))
    try:
        result = run(one.dataset(), Storage(str(one.root)), executor, marks)
        marks.mark("end")
    finally:
        executor.close()
    assert result.complete, result.failures
    print(json.dumps([asdict(mark) for mark in marks.marks]))


def timed(folder: Path, one: Corpus, workers: int) -> Times:
    """Remove what dedup has left in the root, and run it anew."""
    forget(one)
    before = size_of(one.root)
    command = [sys.executable, "-m", "benchmarks.dedup_scale.nodes"]
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, str(folder), str(one.documents), str(one.seed), str(workers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with Watch(process.pid) as watch:
        answer, _ = process.communicate()
    end = time.monotonic()
    if process.returncode:
        raise RuntimeError(f"the dedup nodes ended with status {process.returncode}")
    decided, *marks = [Mark(**mark) for mark in json.loads(answer)]
    marks[0] = Mark(marks[0].name, marks[0].tasks, decided.wall, decided.processor)
    folders = {node.name: node.folder for node in one.dataset().nodes}
    nodes = [
        NodeTimes(
            began.name,
            began.tasks,
            ended.wall - began.wall,
            ended.processor - began.processor,
            max((s.together for s in watch.samples if began.wall <= s.at <= ended.wall), default=0),
            size_of(one.root / folders[began.name]),
        )
        for began, ended in pairwise(marks)
    ]
    return Times(
        documents=one.documents,
        seconds=marks[-1].wall - decided.wall,
        processor_seconds=marks[-1].processor - decided.processor,
        process_seconds=end - start,
        largest=watch.peak,
        own=watch.own,
        together=watch.together,
        disk=size_of(one.root) - before,
        written=watch.written,
        nodes=nodes,
    )


def forget(one: Corpus) -> None:
    """Remove all but the passes before dedup from the root."""
    nodes = one.dataset().nodes
    names = [node.name for node in nodes]
    keep = {node.folder for node in nodes[: names.index(BEFORE) + 1]}
    for path in one.root.iterdir():
        if path.name not in keep:
            shutil.rmtree(path)


def size_of(folder: Path) -> int:
    """Bytes of the files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main(*sys.argv[1:])
