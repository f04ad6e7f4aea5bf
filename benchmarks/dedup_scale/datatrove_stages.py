"""`python -m benchmarks.dedup_scale.datatrove_stages TEXTS OUT WORKERS`: datatrove's four MinHash stages as they come.

Its defaults: English words by spaCy, shingles of five, 14 x 8 hashes of 64 bits. Prints the seconds of each stage.
What is kept lies in OUT/kept as Parquet.
"""

import json
import sys
import time
from pathlib import Path

import xxhash
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def hashed(text: str) -> int:
    """datatrove 0.10's own passes the text unencoded, which xxhash 4 no longer takes."""
    return xxhash.xxh64_intdigest(text.encode())


class Signature(MinhashDedupSignature):  # type: ignore[misc]  # of no type that a checker sees
    def __init__(self, folder: str, config: MinhashConfig) -> None:
        super().__init__(folder, config)
        self._hash_func = hashed


def main(texts: str, out: str, workers: str) -> None:
    config, number = MinhashConfig(), int(workers)
    parts = {name: f"{out}/{name}" for name in ("signatures", "buckets", "clusters", "kept")}
    stages = {
        "signatures": ([ParquetReader(texts), Signature(parts["signatures"], config)], number),
        "buckets": ([MinhashDedupBuckets(parts["signatures"], parts["buckets"], config=config)], config.num_buckets),
        "clusters": ([MinhashDedupCluster(parts["buckets"], parts["clusters"], config=config)], 1),
        "filter": ([ParquetReader(texts), MinhashDedupFilter(parts["clusters"]), ParquetWriter(parts["kept"])], number),
    }
    seconds = {}
    for name, (pipeline, tasks) in stages.items():
        start = time.monotonic()
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=number, logging_dir=str(Path(out) / "logs" / name), skip_completed=False
        ).run()
        seconds[name] = time.monotonic() - start
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
