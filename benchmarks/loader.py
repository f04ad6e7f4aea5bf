"""`python -m benchmarks.loader`: tokens a second that the trainer's loader gives on one core.

In: sizes of made shards (random ids, in a temporary folder). Out: a table: the time to check and plan a stage, then
tokens a second of whole batches in both orders, beside `CONSUMED`, 20,000 a second: what the arithmetic of a model of
0.9 billion active parameters allows on half a large GPU at a quarter of its peak. Shards lie in the page cache here:
a disk or a network file system is not measured.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from marco_data.tokens import ShardWriter, token_dtype
from marco_data.train.batches import Batch, Batches
from marco_data.train.blend import load_blend
from marco_data.train.order import MEGATRON, STABLE, Plan, plan_stages

CONSUMED = 20_000
VOCABULARY, END = 151_936, 151_643
SEQUENCE, BATCH = 4096, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=300)
    parser.add_argument("--megabytes", type=int, default=4, help="of a shard")
    parser.add_argument("--seconds", type=float, default=5.0, help="of reading, for each order")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = write_stage(Path(folder), arguments.shards, arguments.megabytes)
        start = time.perf_counter()
        blend = load_blend(path)
        print(
            f"{arguments.shards} shards, {blend.drawn:,} tokens drawn; checked in {time.perf_counter() - start:.2f} s"
        )
        print("order      plan s   tokens/s   x 20,000   us a sample")
        for order in (STABLE, MEGATRON):
            start = time.perf_counter()
            plan = plan_stages([blend], sequence=SEQUENCE, order=order)
            planned = time.perf_counter() - start
            speed = max(read(plan, arguments.seconds / 3) for _ in range(3))
            print(f"{order:<10} {planned:6.2f} {speed:10,.0f} {speed / CONSUMED:10.0f} {SEQUENCE / speed * 1e6:13.1f}")


def read(plan: Plan, seconds: float) -> float:
    """Tokens a second of whole batches, tokens, documents and sources."""
    tokens, start = 0, time.perf_counter()
    for batch in _endless(plan):
        tokens += batch.tokens.shape[0] * SEQUENCE
        if time.perf_counter() - start > seconds:
            break
    return tokens / (time.perf_counter() - start)


def _endless(plan: Plan) -> Iterator[Batch]:
    while True:
        yield from Batches(plan, batch=BATCH)


def write_stage(folder: Path, shards: int, megabytes: int) -> Path:
    """Documents of 600 tokens on average, every fifth shard seen 1.7 times; the path of the blend."""
    random, rows = np.random.default_rng(1), []
    for number in range(shards):
        prefix = folder / f"shard-{number:05d}"
        with Path(f"{prefix}.bin").open("wb") as bin_file, Path(f"{prefix}.idx").open("wb") as idx_file:
            writer = ShardWriter(bin_file, idx_file, token_dtype(VOCABULARY))
            while writer.tokens < megabytes * 250_000:
                document = random.integers(0, END, int(random.integers(20, 1180)), np.uint32)
                document[-1] = END
                writer.append(document)
            size = writer.finish()
        names = {"part": "web", "language": f"l{number % 64}", "source": f"s{number % 7}"}
        epochs = 1.7 if number % 5 == 0 else 1.0
        rows.append(
            {"prefix": prefix.name, **names, "documents": size.documents, "tokens": size.tokens, "epochs": epochs}
        )
    tokenizer = {"hash": "made", "end_of_document": "<|endoftext|>", "id": END, "vocab_size": VOCABULARY}
    path = folder / "blend.json"
    path.write_text(json.dumps({"family": "made", "stage": 1, "tokenizer": tokenizer, "entries": rows}))
    return path


if __name__ == "__main__":
    main()
