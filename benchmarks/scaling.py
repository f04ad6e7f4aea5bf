"""`python -m benchmarks.scaling`: the measure pass as a whole, and on more than one worker.

Prints one table: speed of the pass on one core, two workers against one, Ray against local workers, peak memory of a
worker, start-up. About ten minutes. Shards are JSONL files of mixed languages. Seconds are of the wall clock where
nothing else is said, turn about, so they mean something on a quiet machine only; its load is printed. Workers have
done a small shard before they are timed: what starting costs is a line of its own.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from marco_data.dataset import Dataset
from marco_data.execute import Executor, LocalExecutor, Silent, run
from marco_data.languages import LANGUAGES
from marco_data.nodes.measure import Measure
from marco_data.ray_executor import RayExecutor
from marco_data.sources import Source
from marco_data.steps.identify_language import IdentifyLanguage
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.normalize import Normalize
from marco_data.steps.sign import Sign
from marco_data.storage import Storage

MIB = 1 << 20


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    what: str
    figure: str
    goal: str = ""


def main() -> None:
    arguments = _arguments()
    if arguments.worker:
        measure([arguments.worker], LocalExecutor())
        print(json.dumps({"peak_bytes": _peak_bytes()}))
        return
    with tempfile.TemporaryDirectory(prefix="marco-data-scaling-") as name:
        folder = Path(name)
        load = os.getloadavg()
        lines = [
            *scaling(folder, arguments.shards, arguments.megabytes, arguments.repeats),
            *memory(folder, arguments.memory),
            start_up(folder),
        ]
    print(f"{os.cpu_count()} cores; load before: {load[0]:.1f}, after: {os.getloadavg()[0]:.1f}\n")
    print("| | | goal |\n|---|---|---|")
    for line in lines:
        print(f"| {line.what} | {line.figure} | {line.goal} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description="The pass on one worker and more.")
    parser.add_argument("--shards", type=int, default=4, help="shards of the runs that are timed (4)")
    parser.add_argument("--megabytes", type=float, default=64, help="text of each of these (64)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median counts (3)")
    parser.add_argument("--memory", type=float, default=256, help="text of the shard whose memory is measured (256)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(files: Sequence[Path], executor: Executor) -> float:
    """Run the measure pass over the files, each one shard, into a new root; seconds of the wall clock."""
    with tempfile.TemporaryDirectory(dir=files[0].parent) as root:
        start = time.perf_counter()
        node = Measure(
            sources={"web": Source(paths=tuple(map(str, files)))},
            steps=(Normalize(), IdentifyLanguage(), MeasureQuality(), Sign()),
            languages=tuple(LANGUAGES),
            shard_bytes=1 << 30,
            max_document_bytes=16 * MIB,
            floor=0.2,
            keep_dropped=0.0,
        )
        result = run(Dataset((node,)), Storage(root), executor, Silent())
        assert result.complete, result.failures
        assert sum(file.rows for record in result.records["measure"] for file in record.data)
        return time.perf_counter() - start


@dataclass
class Times:
    """Seconds of one executor: from nothing to its first small shards, then of each round, and of the processor."""

    first: float = 0.0
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def scaling(folder: Path, shards: int, megabytes: float, repeats: int) -> list[Line]:
    """Speed of one core, of two workers, and of two under Ray."""
    files = [_text(folder / f"shard-{i}.jsonl", megabytes) for i in range(shards)]
    small = [_text(folder / f"small-{i}.jsonl", 0.5) for i in range(4)]
    total = sum(file.stat().st_size for file in files) / 1e6
    one, two, ray = times(files, small, [LocalExecutor(), LocalExecutor(2), RayExecutor(workers=2)], repeats)
    faster = _ratios(one.wall, two.wall)
    slower = [100 * (ratio - 1) for ratio in _ratios(ray.wall, two.wall)]
    speed = [total / seconds for seconds in one.processor]
    first = ", ".join(f"{each.first:.3g} s" for each in (one, two, ray))
    return [
        Line(
            f"the pass, JSONL to shard, {shards} shards of {megabytes:g} MB, one core", f"{_spread(speed)} MB/s", "20"
        ),
        Line("1 worker", f"{_spread(one.wall)} s"),
        Line("2 workers", f"{_spread(two.wall)} s"),
        Line("1 worker takes, to 2", f"{_spread(faster)} times", "1.8"),
        Line("2 workers under Ray", f"{_spread(ray.wall)} s"),
        Line("Ray takes longer than 2 workers without it", f"{_spread(slower)} %", "10"),
        Line("starting, and the first 4 shards of 0.5 MB: 1 worker, 2, 2 under Ray", first),
    ]


def times(files: list[Path], small: list[Path], executors: Sequence[Executor], repeats: int) -> list[Times]:
    """Each executor's times over `files`, turn about, after it has done `small`."""
    out = [Times() for _ in executors]
    try:
        for one, executor in zip(out, executors, strict=True):
            one.first = measure(small, executor)
        for _ in range(repeats):
            for one, executor in zip(out, executors, strict=True):
                before = time.process_time()
                one.wall.append(measure(files, executor))
                one.processor.append(time.process_time() - before)
    finally:
        for executor in executors:
            executor.close()
    return out


def memory(folder: Path, megabytes: float) -> list[Line]:
    """Peak memory of a worker over one large shard: mixed languages, and one language alone."""
    lines = []
    for what, language in (("mixed languages", None), ("English alone", "eng_Latn")):
        file = _text(folder / "large.jsonl", megabytes, language)
        answer = subprocess.run(_worker(file), check=True, stdout=subprocess.PIPE).stdout
        peak = json.loads(answer)["peak_bytes"]
        lines.append(Line(f"peak memory of a worker, {megabytes:g} MB shard, {what}", f"{peak / 1e9:.2f} GB", "1.5"))
        file.unlink()
    return lines


def start_up(folder: Path) -> Line:
    """A process until its first document is written, kernels and Python's byte code there already."""
    file = folder / "first.jsonl"
    file.write_text(json.dumps({"text": "The first document of a process. " * 20}))
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "byte-code"), "PYTHONDONTWRITEBYTECODE": ""}
    walls, processors = [], []
    for _ in range(6):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(_worker(file), check=True, stdout=subprocess.PIPE, env=environment)
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    figure = f"{_spread(walls[1:])} s; {_spread(processors[1:])} s of the processor"
    return Line("a process until its first document is written, wall clock", figure, "2")


def _text(file: Path, megabytes: float, language: str | None = None) -> Path:
    """A JSONL file of so much text."""
    from benchmarks.corpus import rounds
    from benchmarks.files import write_rows

    (texts,) = rounds(1, int(megabytes * 1e6), language=language)
    shutil.move(write_rows(texts), file)
    return file


def _worker(file: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.scaling", "--worker", str(file)]


def _peak_bytes() -> int:
    """Of this process alone; getrusage would tell that of the process that started it, where it was larger."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(row.split()[1] for row in status.splitlines() if row.startswith("VmHWM")))


def _ratios(some: list[float], others: list[float]) -> list[float]:
    return [a / b for a, b in zip(some, others, strict=True)]


def _spread(values: Sequence[float]) -> str:
    """Median, least and most, to three digits."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


if __name__ == "__main__":
    main()
