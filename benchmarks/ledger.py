"""The ledger of large roots: how long it takes to read, and how much memory.

    python -m benchmarks.ledger [--shards 5000x64 --shards 1000000x1] [--scratch FOLDER] [--out benchmarks/LEDGER.md]

Each reading is a process of its own: `read_ledger` alone, and the whole process with Python's start and the imports, by
the wall clock and by processor time, which is what is judged where others use the machine too. Roots are made by
`benchmarks.ledger_roots`. Knows nothing of what the figures of the ledger are, but that they add up.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dedup_scale.watch import peak_bytes
from benchmarks.ledger_roots import Root
from benchmarks.report import processor
from marco_data.stage_ledger import read_ledger
from marco_data.storage import Storage

GOALS = {5_000: 2.0, 1_000_000: 30.0}
"""Seconds for a root of so many shards."""


@dataclass(frozen=True)
class Reading:
    """One process that read a ledger."""

    what: str
    shards: int
    languages: int
    seconds: float
    processor: float
    process_seconds: float
    process_processor: float
    memory: int
    rows: int
    documents: int


def main() -> None:
    arguments = _arguments()
    if arguments.read:
        print(json.dumps(_read(arguments.read)))
        return
    load = os.getloadavg()
    readings: list[Reading] = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        for given in arguments.shards or ["5000x64", "1000000x1"]:
            shards, languages = (int(number) for number in given.split("x"))
            readings += measure(Path(scratch) / given, shards, languages)
            shutil.rmtree(Path(scratch) / given)
    text = report(readings, load)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, "utf-8")


def measure(folder: Path, shards: int, languages: int) -> list[Reading]:
    """A finished root; one that is being built, at the first look, at the second, and after a hundredth more."""
    started = time.monotonic()
    done, begun = Root(f"{folder}/finished", shards, languages), Root(f"{folder}/killed", shards, languages)
    done.finished()
    readings = [_reading("finished", done)]
    begun.killed()
    _say(f"{shards} x {languages}: roots made in {time.monotonic() - started:.0f} s")
    readings.append(_reading("being built, first look", begun))
    readings.append(_reading("being built, second look", begun))
    records = list(Path(begun.storage.root, begun.dataset.node("decide").folder).glob("*.json"))
    more = max(1, shards // 100)
    again = sorted(records)[-more:]
    held = {path: path.read_bytes() for path in again}
    for path in again:
        path.unlink()
    _reading("", begun)  # what was kept covers records that are gone: everything is summed again
    for path, data in held.items():
        path.write_bytes(data)
    readings.append(_reading("being built, a hundredth more", begun))
    return readings


def _reading(what: str, root: Root) -> Reading:
    started = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.ledger", "--read", root.storage.root]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    whole = time.monotonic() - started
    reading = Reading(what, root.shards, root.languages, process_seconds=whole, **said)
    _say(f"  {what}: {reading.seconds:.2f} s, {reading.memory / 1e6:.0f} MB")
    return reading


def _read(root: str) -> dict[str, float | int]:
    started, spent = time.perf_counter(), time.process_time()
    ledger = read_ledger(Storage(root), "sample", 3)
    times = {"seconds": time.perf_counter() - started, "processor": time.process_time() - spent}
    (total,) = ledger.total()
    out = total.gone + total.pending
    assert total.documents_read == out.documents + total.documents_written > 0
    assert total.collected == out.tokens + total.written
    memory = peak_bytes(os.getpid())  # getrusage would tell that of the process this one was forked from
    sums = {"rows": len(ledger.rows), "documents": total.documents_read}
    return {**times, "process_processor": time.process_time(), "memory": memory, **sums}


def report(readings: Sequence[Reading], load: tuple[float, float, float]) -> str:
    began, ended = (", ".join(f"{value:.1f}" for value in each) for each in (load, os.getloadavg()))
    lines = [
        "# The ledger of large roots: the last run",
        "",
        f"Made by `python -m benchmarks.ledger`. Machine: {processor()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; load (1, 5, 15 minutes) {began} when it began, {ended} when it ended.",
        "",
        "A shard is a task of each node that judges documents; every record of `decide` has four counts for each",
        "of its languages. A finished root has the manifests of its nodes and of its stage, and as many token",
        "shards, up to 20,000. Of the root that is being built, `decide` lacks one record and has no manifest: all",
        "its records are files of their own, and read at the first look; later looks read what came since, here a",
        "hundredth of them. Seconds by the wall clock and, in brackets, of the processor: of `read_ledger`, and of",
        "the whole process. With a load above the number of cores the wall clock measures the others too, so the",
        "processor's are judged. Memory is the most that was resident.",
        "",
        "| root | shards | languages of each | rows | documents | read_ledger, s | process, s | memory, MB | goal, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in readings:
        goal = GOALS.get(r.shards)
        met = "" if goal is None else f"{goal:g}: {'met' if r.process_processor < goal else 'missed'}"
        times = ((r.seconds, r.processor), (r.process_seconds, r.process_processor))
        cells = [r.what, f"{r.shards:,}", f"{r.languages}", f"{r.rows:,}", f"{r.documents:,}"]
        cells += [f"{wall:.2f} ({processor:.2f})" for wall, processor in times]
        lines.append(f"| {' | '.join([*cells, f'{r.memory / 1e6:,.0f}', met])} |")
    return "\n".join([*lines, ""])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", action="append", help="SHARDSxLANGUAGES (repeatable)")
    parser.add_argument("--scratch", type=Path, help="where the roots are made; default: the usual place")
    parser.add_argument("--out", type=Path, help="write the table there too")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
