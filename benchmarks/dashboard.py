"""`python -m benchmarks.dashboard`: how long a reader waits for the dashboard, in a real Chromium.

Builds stages 3 and 4 of the sample, makes a root of a million documents of them (`enlarged_root`), starts the command
`marco-data dashboard` on each, and asks Chromium when it first painted. Each page is opened twice: by its first reader,
for whom nothing is kept yet, and again. Writes `benchmarks/DASHBOARD.md`. Three minutes.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest import version_here
from benchmarks.enlarged_root import enlarge
from marco_data.stage import load_stage
from marco_data.storage import Storage

PAGES = ("tokens", "stages", "funnel", "quality", "identification", "duplicates", "generated", "progress", "documents")
PAINTED = """() => new Promise(done => {
  const seen = performance.getEntriesByName("first-contentful-paint")[0];
  if (seen) return done(seen.startTime);
  new PerformanceObserver(list => done(list.getEntries()[0].startTime)).observe({type: "paint", buffered: true});
})"""
"""Milliseconds from asking for a page until its first text or picture is on the screen."""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
COMMAND = (sys.executable, "-c", "from marco_data.cli import main; main()")
DOCUMENTS = 1_000_000
GOALS = {"sample": 2.0, "million": 4.0}


@dataclass(frozen=True)
class Seen:
    """A page of a root: seconds until it was painted first, by the first reader and again, and its size."""

    root: str
    page: str
    first: float
    again: float
    kilobytes: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("DASHBOARD.md"))
    parser.add_argument("--roots", type=Path, help="Where the two roots lie; they are made there if they do not.")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        roots, said = make_roots(arguments.roots or Path(folder))
        seen = [one for name, root in roots.items() for one in look(name, root)]
        report = export_seconds(roots["sample"], Path(folder) / "report.html")
    arguments.out.write_text(told(seen, said, report, (before, os.getloadavg()[0])), "utf-8")
    print(arguments.out)


def make_roots(folder: Path) -> tuple[dict[str, str], str]:
    """The sample's root and a large one; how many documents they hold."""
    sample, million = folder / "sample", folder / "million"
    for stage in ("3", "4"):
        words = ("build-stage", stage, "--executor", "local", "--root", str(sample))
        if not (sample / "stages" / f"sample-{stage}.json").exists():
            subprocess.run([*COMMAND, *words], check=True, capture_output=True)
    small = load_stage(Storage(str(sample)), "sample", 4).books.read
    if not (million / "stages" / "sample-4.json").exists():
        stages = {1: 3, 2: 3, 3: 3, 4: 4}
        enlarge(Storage(str(sample)), Storage(str(million)), "sample", stages, -(-DOCUMENTS // small))
    large = load_stage(Storage(str(million)), "sample", 4).books.read
    there = f"Stage 4 of `sample` has read {small:,} documents, that of `million` {large:,}; `million` has four stages"
    return {"sample": str(sample), "million": str(million)}, there


@contextmanager
def served(root: str) -> Iterator[str]:
    """The command in a process of its own, as a user starts it; its address."""
    words = [*COMMAND, "dashboard", "--root", root, "--stage", "4", "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = re.search(r"http://\S+:\d+", process.stderr.readline())
            assert address is not None
            yield address[0]
        finally:
            process.terminate()


def chromium_path() -> str | None:
    """Where Chromium is on this machine, None where it is not."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def look(name: str, root: str) -> list[Seen]:
    from playwright.sync_api import sync_playwright

    out = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        shutil.rmtree(Path(root) / "runs" / "dashboard", ignore_errors=True)
        with served(root) as address:
            for page in PAGES:
                first, size = painted(browser, f"{address}/{page}")
                again, _ = painted(browser, f"{address}/{page}")
                out.append(Seen(name, page, first, again, size // 1000))
        browser.close()
    return out


def painted(browser: Any, address: str) -> tuple[float, int]:
    """Seconds from asking until the first paint, and the bytes of the page."""
    context = browser.new_context()
    page = context.new_page()
    size = len(page.goto(address).body())
    page.screenshot()  # a browser that nobody looks at may not paint
    seconds = page.evaluate(PAINTED) / 1000
    context.close()
    return float(seconds), size


def export_seconds(root: str, to: Path) -> tuple[float, int]:
    started = time.monotonic()
    words = ("dashboard", "--root", root, "--stage", "4", "--export", str(to))
    subprocess.run([*COMMAND, *words], check=True, capture_output=True)
    return time.monotonic() - started, to.stat().st_size


def told(seen: list[Seen], said: str, report: tuple[float, int], load: tuple[float, float]) -> str:
    lines = [
        "# How long a reader waits for the dashboard",
        "",
        "`python -m benchmarks.dashboard`; seconds from asking for a page until Chromium has painted its first",
        "content. Charts and tables are in the page's HTML, and no script draws them. `first`: nothing is kept under",
        "`runs/` and no chart was drawn before; `tokens` is the first page that a server, just started, is asked for.",
        "`again`: the same page after that.",
        "",
        f"{said}. The larger root is the smaller one's rows repeated (`benchmarks/enlarged_root.py`).",
        "",
        "| root | page | first, s | again, s | goal, s | page, KB |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one.root} | {one.page} | {one.first:.2f} | {one.again:.2f} | {GOALS[one.root]:g} | {one.kilobytes} |"
            for one in seen
        ),
        "",
        f"`--export` of stage 4 of the sample, quality of all its languages included: {report[0]:.1f} s, "
        f"{report[1] / 1e6:.1f} MB.",
        "",
        f"{os.cpu_count()} cores, load average {load[0]:.1f} at the start and {load[1]:.1f} at the end; Python "
        f"{platform.python_version()}, starlette {version_here('starlette')}, "
        f"vl-convert-python {version_here('vl-convert-python')}, playwright {version_here('playwright')}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
