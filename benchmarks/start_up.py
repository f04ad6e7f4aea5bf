"""What starting costs: a process from nothing until it has written its first document.

`python -m benchmarks.start_up FILE` is that process: it imports what a worker imports and measures one small shard.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

GOES = 5


@dataclass(frozen=True)
class StartUp:
    """One process, by the clock on the wall and by its own."""

    wall_seconds: float
    processor_seconds: float


def start_up() -> tuple[StartUp, StartUp]:
    """A process that has to compile the kernels (and Python's byte code), and the quickest of a few after it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "first.jsonl"
        file.write_text(json.dumps({"text": "The first document of a process. " * 20}))
        compiling, *others = [_process(file) for _ in range(1 + GOES)]
    return compiling, min(others, key=lambda one: one.processor_seconds)


def _process(file: Path) -> StartUp:
    kept = {"NUMBA_CACHE_DIR": str(file.parent / "kernels"), "PYTHONPYCACHEPREFIX": str(file.parent / "byte-code")}
    environment = os.environ | kept | {"PYTHONDONTWRITEBYTECODE": ""}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.start_up", str(file)], check=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return StartUp(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main(file: str) -> None:
    from marco_data.languages import LANGUAGES
    from marco_data.nodes.measure import Measure
    from marco_data.sources import Source, list_files, split
    from marco_data.step import Tools
    from marco_data.steps.identify_language import IdentifyLanguage
    from marco_data.steps.measure_quality import MeasureQuality
    from marco_data.steps.normalize import Normalize
    from marco_data.steps.sign import Sign
    from marco_data.storage import Storage

    source = Source(paths=(file,))
    node = Measure(
        sources={"web": source},
        steps=(Normalize(), IdentifyLanguage(), MeasureQuality(), Sign()),
        languages=tuple(LANGUAGES),
        shard_bytes=1 << 20,
        max_document_bytes=1 << 20,
        floor=0.2,
        keep_dropped=0.0,
    )
    (part,) = split(list_files("web", source), node.shard_bytes)
    with tempfile.TemporaryDirectory() as folder:
        node.measure("web", source, part, "shard", Storage(folder), Tools())


if __name__ == "__main__":
    main(*sys.argv[1:])
