"""`python -m benchmarks.dedup_scale.rensa_lookup TEXTS OUT`: rensa as its manual has it, in one process.

Signatures of five words between spaces; each document is looked up among those kept before it, and kept unless it is
like one by its estimate. Prints the seconds of both; what is kept is OUT/kept/kept.parquet.
"""

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

from benchmarks.peers import HASHES
from benchmarks.peers.minhash import ALIKE, shingles
from marco_data.dedup import DropDuplicates

BATCH = 10_000


def main(texts: str, out: str) -> None:
    start = time.monotonic()
    ids, signatures = [], []
    for file in sorted(Path(texts).glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH):
            ids += batch["id"].to_pylist()
            signatures += RMinHash.from_token_sets([shingles(text) for text in batch["text"].to_pylist()], HASHES, 1)
    signed = time.monotonic()
    index = RMinHashLSH(threshold=ALIKE, num_perm=HASHES, num_bands=DropDuplicates().banding.bands)
    kept = []
    for number, signature in enumerate(signatures):
        if not any(signature.jaccard(signatures[other]) >= ALIKE for other in index.query(signature)):
            index.insert(number, signature)
            kept.append(ids[number])
    (Path(out) / "kept").mkdir()
    pq.write_table(pa.table({"id": kept}), Path(out) / "kept" / "kept.parquet")
    print(json.dumps({"signatures": signed - start, "lookup": time.monotonic() - signed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
