"""Results as Markdown: a table of contests, a profile, the machine and the versions. Says nothing of time and host."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import Result, spread
from benchmarks.profile import Line

PACKAGES = ("numpy", "numba", "pyarrow", "icu4py", "fastokens", "spacy")


def report(results: Sequence[Result], lines: Sequence[Line], start_up: float | None, *, command: str, data: str) -> str:
    """The whole file."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return "\n".join(
        [
            "# Benchmarks: the last run",
            "",
            f"Made by `{command}`. Text: {data}.",
            f"Machine: {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; load when it ended: "
            f"{load}. Pinned to one core and timed by processor time; what says `all cores` by the wall clock.",
            "",
            "Median over the rounds with the least and the most; contestants take turns within each round, on the same "
            "documents. The ratio is ours to the peer's in the same round. MB are 10^6 bytes of UTF-8 text.",
            "",
            *_contests(results),
            "",
            "datatrove with our words gets its words from ICU, as ours does, which is faster than any tokenizer of its",
            "own; `its own words` is datatrove as it comes. Its limits are set so that no document leaves the chain.",
            "text-dedup 0.4.0 is not in the table: it wants pyspark, urllib3 1.26 and rich 13, which no environment",
            "with the others can have.",
            "",
            *_profile(lines, start_up),
            "",
            f"Versions: {_versions(results)}.",
            "",
        ]
    )


def _contests(results: Sequence[Result]) -> list[str]:
    rows = ["| part | contestant | unit | speed | ours is faster |", "|---|---|---|---|---|"]
    part = ""
    for result in results:
        shown = "" if result.part == part else result.part
        part = result.part
        first = result.name == "marco-data"
        if result.failed:
            rows.append(f"| {shown} | {result.name} | | did not run: {result.failed} | |")
            continue
        ratio = "" if first else f"{spread(result.ratios)} times" if result.ratios else ""
        rows.append(f"| {shown} | {result.name} | {result.unit} | {spread(result.speeds)} | {ratio} |")
    return rows


def _profile(lines: Sequence[Line], start_up: float | None) -> list[str]:
    if not lines:
        return []
    rows = [
        "## Where the whole pass spends its time",
        "",
        "| | ms for each MB of text | MB/s | share |",
        "|---|---|---|---|",
    ]
    for line in lines:
        share = "" if line.share is None else f"{line.share:.0%}"
        speed = f"{1 / line.seconds:,.3g}" if line.seconds > 0 else ""
        rows.append(f"| {line.what} | {line.seconds * 1e3:.3g} | {speed} | {share} |")
    if start_up is not None:
        rows += [
            "",
            f"Start-up where the kernels are compiled already, until the first document is written: "
            f"{start_up:.1f} s of processor time.",
        ]
    return rows


def _versions(results: Sequence[Result]) -> str:
    names = sorted({*PACKAGES, *(result.package for result in results)})
    return ", ".join(f"{name} {version}" for name in names if (version := _version(name)))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
