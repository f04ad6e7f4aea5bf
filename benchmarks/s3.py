"""What storing on S3 costs a worker: seconds, processor and memory of `marco_data.s3`, beside s3fs as it comes.

In: a folder of a bucket (`--root s3://bucket/folder`), whose server the environment names, and sizes. Out: Markdown on
standard output. Every figure is one process's, which does one thing; ours and theirs take turns. It knows nothing of
the server, and of the network only that both use the same.
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

from marco_data.filesystems import opened, remote_file
from marco_data.storage import Storage
from marco_data.train.batches import READ_AT_ONCE

BLOCK = 1 << 20
SAMPLE = 4 * 4096
"""Bytes of a sample of 4,096 tokens."""
SMALL = b'{"record": 1}\n' * 100
OURS, STOCK = "ours", "s3fs"


@dataclass(frozen=True)
class Sizes:
    megabytes: int
    records: int
    keys: int


@dataclass(frozen=True)
class Spent:
    """By one process for one job, without its start; `grown`: how much more was resident at most than before."""

    seconds: float
    processor: float
    grown: float


def write(root: str, sizes: Sizes, who: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.partial"
        with path.open("wb") as file:
            for _ in range(sizes.megabytes):
                file.write(os.urandom(BLOCK))
        begin()
        if who == OURS:
            Storage(root).commit(path, "ours/shard", ".bin", digest="0" * 16)
        else:
            s3fs.S3FileSystem().put_file(str(path), f"{root.removeprefix('s3://')}/s3fs/shard.bin")


def read(root: str, sizes: Sizes, who: str) -> None:
    place = f"{root}/ours/shard.00000000.bin"
    begin()
    total = 0
    file = opened(place) if who == OURS else s3fs.S3FileSystem().open(place, "rb")
    with file:
        while block := file.read(BLOCK):
            total += len(block)
    assert total == sizes.megabytes * BLOCK, total


def read_samples(root: str, sizes: Sizes, who: str) -> None:
    """As a trainer does: stretches of SAMPLE bytes anywhere in a shard, as many as there are records."""
    place = f"{root}/ours/shard.00000000.bin"
    drawn = random.Random(7)
    starts = [drawn.randrange(sizes.megabytes * BLOCK - SAMPLE) for _ in range(sizes.records)]
    begin()
    if who == OURS:
        file = remote_file(place)
        with ThreadPoolExecutor(READ_AT_ONCE) as threads:
            found = sum(len(data) for data in threads.map(lambda at: file.read(at, at + SAMPLE), starts))
    else:
        ends = [at + SAMPLE for at in starts]
        found = sum(map(len, s3fs.S3FileSystem().cat_ranges([place] * len(starts), starts, ends)))
    assert found == sizes.records * SAMPLE, found


def create_records(root: str, sizes: Sizes, who: str) -> None:
    begin()
    if who == OURS:
        storage = Storage(root)
        for number in range(sizes.records):
            storage.create(f"ours-{os.getpid()}/{number}.json", SMALL)
    else:
        stock = s3fs.S3FileSystem()
        for number in range(sizes.records):
            stock.pipe_file(f"{root}/s3fs-{os.getpid()}/{number}.json", SMALL, mode="create")


def read_records(root: str, sizes: Sizes, who: str) -> None:
    names = [f"many/{number:06}.json" for number in range(sizes.records)]
    begin()
    if who == OURS:
        found = len(Storage(root).read_many(names))
    else:
        found = len(s3fs.S3FileSystem().cat([f"{root}/{name}" for name in names]))
    assert found == sizes.records, found


def list_keys(root: str, sizes: Sizes, who: str) -> None:
    begin()
    if who == OURS:
        found = len(Storage(root).below("many"))
    else:
        found = len(s3fs.S3FileSystem(use_listings_cache=False).find(f"{root}/many", detail=True))
    assert found == sizes.keys, found


JOBS: dict[str, Callable[[str, Sizes, str], None]] = {
    "write one file": write,
    "read it in blocks of 1 MiB": read,
    "read training samples of 16 KB": read_samples,
    "create records, one after the other": create_records,
    "read records, all at once": read_records,
    "list keys": list_keys,
}

_started: list[tuple[float, float, float]] = []


def begin() -> None:
    """What came before was preparation."""
    _started.append((time.perf_counter(), time.process_time(), _most_resident()))


def _most_resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job: str, root: str, sizes: Sizes, who: str) -> Spent:
    """One job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.s3", "--root", root, "--job", job, "--who", who]
    command += [f"--{name}={value}" for name, value in vars(sizes).items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job}, {who}: {done.stderr}")
    return Spent(**json.loads(done.stdout))


def prepare(root: str, sizes: Sizes) -> None:
    """The keys that are listed, of which the first are the records that are read."""
    stock = s3fs.S3FileSystem()
    names = [f"{root}/many/{number:06}.json" for number in range(sizes.keys)]
    for start in range(0, len(names), 5_000):
        stock.pipe(dict.fromkeys(names[start : start + 5_000], SMALL))


def table(root: str, sizes: Sizes, rounds: int) -> list[str]:
    rows = [
        "| | ours: s | processor, s | memory, MB more | s3fs: s | processor, s | memory, MB more | ratio of seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for job in JOBS:
        spent: dict[str, list[Spent]] = {OURS: [], STOCK: []}
        for turn in range(rounds):
            for who in (OURS, STOCK) if turn % 2 == 0 or job == "write one file" else (STOCK, OURS):
                spent[who].append(measure(job, root, sizes, who))
        cells: list[str] = []
        for who in (OURS, STOCK):
            for figure in ("seconds", "processor", "grown"):
                cells.append(f"{statistics.median(getattr(each, figure) for each in spent[who]):.3g}")
        ratio = statistics.median(o.seconds / s.seconds for o, s in zip(spent[OURS], spent[STOCK], strict=True))
        rows.append(f"| {job} | {' | '.join(cells)} | {ratio:.2f} |")
    return rows


def report(root: str, sizes: Sizes, rounds: int, server: str, *, prepared: bool) -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    if not prepared:
        prepare(root, sizes)
    rows = table(root, sizes, rounds)
    after = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    command = " ".join(["python -m benchmarks.s3", *(f"--{k} {v}" for k, v in vars(sizes).items())])
    command += " --prepared" * prepared
    return "\n".join(
        [
            "# S3: the last run",
            "",
            f"Made by `{command} --rounds {rounds} --root s3://...`. Server: {server}. {os.cpu_count()} cores, Python "
            f"{platform.python_version()}; load (1, 5, 15 minutes) {load} when it began, {after} when it ended.",
            "",
            f"A file of {sizes.megabytes:,} MiB; {sizes.records:,} records of {len(SMALL):,} bytes; "
            f"{sizes.keys:,} keys. Medians of {rounds} rounds, in which both take turns; each figure is of one "
            "process. Ratio: ours to theirs, below 1 is faster.",
            "",
            *rows,
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", default="not named")
    parser.add_argument("--prepared", action="store_true", help="the keys to list are there from an earlier run")
    parser.add_argument("--job", choices=JOBS)
    parser.add_argument("--who", choices=(OURS, STOCK))
    given: Any = parser.parse_args(arguments)
    sizes = Sizes(given.megabytes, given.records, given.keys)
    if given.job is None:
        print(report(given.root, sizes, given.rounds, given.server, prepared=given.prepared), end="")
        return
    JOBS[given.job](given.root, sizes, given.who)
    seconds, processor, before = _started[-1]
    spent = Spent(time.perf_counter() - seconds, time.process_time() - processor, _most_resident() - before)
    print(json.dumps(vars(spent)))


if __name__ == "__main__":
    main()
