"""Results as Markdown: a table of contests, a profile, the machine and the versions. Says nothing of time and host."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Result, spread, version_here
from benchmarks.profile import Line
from benchmarks.start_up import StartUp

PACKAGES = ("numpy", "numba", "pyarrow", "icu4py", "fastokens", "spacy", "marco-data")

NOTES = """\
Each contestant has run before the first round, so compiling and loading are not in the figures. A slow peer gets only
the first documents of a round, as many MB as `text` says. What differs in the work:

- `datatrove, our words` gets its words from ICU, as ours does, which is faster than any tokenizer of its own;
  `its own words` is datatrove as it comes. Its limits are set so that no document leaves the chain.
- The whole pass: read JSONL, repair, identify the language, Gopher repetition, Gopher and FineWeb quality, sign,
  write Parquet. datatrove's language filter has our model in place of lid.176. Ours also cleans and hashes the text,
  tells its script and writes every figure; the chain ends at verdicts.
- `fastText` reads what ours reads, the first 20,000 characters; preparing it in Python is in the first figure and not
  in the second. Ours has forgotten every word when a round begins.
- NeMo Curator: its filters that are Gopher's, fed by `str.split`, whose words carry their punctuation. Installed
  without its dependency torch, which they do not import. Its fuzzy deduplication imports cudf, so it needs a GPU.
- Data-Juicer: eight filters on words, lines and characters, `str.split` too; less than ours measures.
- No document is twice in a round, but rounds of 48 MB share documents, and English is 6 MB in all.
- Who splits at spaces or punctuation finds no words in languages without spaces: English only.
- `find duplicates` begins at signatures in memory. Ours compares every pair in doubt by its shingles; the others trust
  their estimates. text-dedup and Data-Juicer do it only inside a command over a data set.
"""


@dataclass(frozen=True)
class Run:
    """How the figures were made. `load`: the machine's when the command began and when it ended."""

    command: str
    data: str
    load: tuple[tuple[float, float, float], tuple[float, float, float]]


def report(results: Sequence[Result], lines: Sequence[Line], start_up: tuple[StartUp, StartUp] | None, run: Run) -> str:
    """The whole file."""
    began, ended = (", ".join(f"{value:.1f}" for value in load) for load in run.load)
    return "\n".join(
        [
            "# Benchmarks: the last run",
            "",
            f"Made by `{run.command}`. Text: {run.data}.",
            f"Machine: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; load (1, 5, 15 "
            f"minutes) {began} when it began, {ended} when it ended.",
            "Pinned to one core and timed by processor time; what says `all cores` by the wall clock.",
            "",
            "Median over the rounds with the least and the most; contestants take turns within each round, on the same "
            "documents. The ratio is ours to the peer's in the same round. MB are 10^6 bytes of UTF-8 text.",
            "",
            *_contests(results),
            "",
            NOTES,
            *_profile(lines, start_up),
            f"Versions: {_versions(results)}.",
            "",
        ]
    )


def _contests(results: Sequence[Result]) -> list[str]:
    rows = ["| part | contestant | text, MB | unit | speed | ours is faster |", "|---|---|---|---|---|---|"]
    part = ""
    for result in results:
        shown = "" if result.part == part else result.part
        part = result.part
        first = result.name == "marco-data"
        if result.failed:
            rows.append(f"| {shown} | {result.name} | | | did not run: {result.failed.replace('|', '/')} | |")
            continue
        ratio = "" if first else f"{spread(result.ratios)} times" if result.ratios else ""
        text = f"{result.megabytes:.3g}"
        rows.append(f"| {shown} | {result.name} | {text} | {result.unit} | {spread(result.speeds)} | {ratio} |")
    return rows


def _profile(lines: Sequence[Line], start_up: tuple[StartUp, StartUp] | None) -> list[str]:
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
        compiling, second = (
            f"{one.wall_seconds:.1f} s ({one.processor_seconds:.1f} s of processor time)" for one in start_up
        )
        rows += [
            "",
            f"Start-up, until a process has written its first document: {second}. The very first process compiles",
            f"the kernels, which are kept for the others: {compiling}.",
            "",
        ]
    return rows


def _versions(results: Sequence[Result]) -> str:
    versions = {name: version_here(name) for name in PACKAGES}
    versions |= {result.package: result.version for result in results}
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if version)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
