"""What a long list of documents to remove costs a worker: reading it once, and each batch of documents.

In: a number of entries, a third each of ids, URLs and domains, made on the spot. Out: a line with the processor seconds
to read the list, the memory it takes, and the processor time for a document. It does not know how a list is fetched.

    python -m benchmarks.remove_list --entries 1000000
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from marco_data.steps.remove import read_list

ROWS = 10_000
KIB = 1024


def write_list(path: Path, entries: int) -> None:
    kinds = ("{:032x}\n", "https://site{}.example/page/{}\n", "host{}.example\n")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(kinds[i % 3].format(i, i) for i in range(entries))


def documents() -> pa.RecordBatch:
    """A batch of none that is listed: pages of three thousand sites."""
    columns = {
        "id": [f"f{i:031x}" for i in range(ROWS)],
        "source_id": [f"<urn:uuid:{i:032x}>" for i in range(ROWS)],
        "url": [f"https://www.w{i % 3_000}.example/a/b/{i}?x=1" for i in range(ROWS)],
    }
    return pa.RecordBatch.from_pydict(columns)


def measured(entries: int) -> dict[str, float]:
    batch = documents()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "remove.txt"
        write_list(path, entries)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        listed = read_list(path)
        read = time.process_time() - start
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / KIB
        times = []
        for _ in range(5):
            start = time.process_time()
            found = listed.finds(batch)
            times.append(time.process_time() - start)
            assert not any(found.to_pylist())
    return {"seconds": read, "MiB": memory, "microseconds": sorted(times)[2] / ROWS * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries = parser.parse_args().entries
    figures = measured(entries)
    print(
        f"{entries:,} entries: {figures['seconds']:.1f} s to read once by a process, {figures['MiB']:.0f} MiB, "
        f"{figures['microseconds']:.1f} microseconds a document"
    )


if __name__ == "__main__":
    main()
