"""How fast leaks are looked for, beside a twin in Python: `python -m benchmarks.leaks --index FILE --file TEXT`.

In: an index (`marco-data index-benchmarks`), documents as zstd-packed JSON lines with `text`. Out: MB/s of UTF-8 of
one core, the median of `--runs` runs of process time, of the step and of a twin that keeps windows in a dictionary and
looks each window of a document up; the process's peak memory.
"""

import argparse
import resource
import statistics
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import regex

from benchmarks.language_id import documents as rows
from benchmarks.stopwatch import seconds
from marco_data.benchmark_index import Index, load
from marco_data.step import Tools
from marco_data.steps.find_leaks import FindLeaks

_WORDS = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*|[\p{L}\p{M}]+|\p{N}+"
)
BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.leaks", description="Leaks, beside a twin in Python.")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--file", type=Path, nargs="+", required=True)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    documents = [row["text"] for file in arguments.file for row in rows(file)]
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    index = load(arguments.index)
    step = FindLeaks(index=str(arguments.index), declared=index.header["declared"]).bind(None, Tools())
    batches = [
        pa.record_batch({"text": pa.array(documents[i : i + BATCH], pa.string())})
        for i in range(0, len(documents), BATCH)
    ]
    hits = sum(len(row) for batch in batches for row in step(batch).columns["leaks"].to_pylist())
    ours = statistics.median(seconds(lambda: [step(batch) for batch in batches]) for _ in range(arguments.runs))
    known = windows_of(index)
    twin = seconds(lambda: [sum(1 for window in windows(text) if window in known) for text in documents])
    print(f"{len(documents)} documents, {megabytes:.1f} MB, {len(known)} windows, {hits} hits")
    print(f"step: {megabytes / ours:.1f} MB/s  twin: {megabytes / twin:.1f} MB/s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB, the index mapped in it")


def windows_of(index: Index) -> set[int]:
    """As many keys as the index has: a twin that looks up needs no more."""
    return set(index.arrays["keys"].tolist())


def windows(text: str) -> Iterator[int]:
    """The hash of every eight words of a text."""
    words = [word.casefold() for word in _WORDS.findall(text)]
    return (hash(tuple(words[i : i + 8])) for i in range(len(words) - 7))


if __name__ == "__main__":
    main()
