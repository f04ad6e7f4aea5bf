"""Verdicts beside what was planted: which duplicates went, and what went though it is none.

In: for each planted document whether it was dropped, from our sidecars (`dropped_by_us`) or from a peer's output. Out:
`Found`. Of a cluster's original, copies and near ones, any two of which have a Jaccard similarity of 0.81 at least,
one is to stay: each that stays beside it was missed. A document taken for one of a fifth language has not been
compared, and counts as one that stays; of a million there are a few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray as Array

from benchmarks.dedup_scale.corpus import LAST, Corpus
from benchmarks.dedup_scale.planted import ALONE, COPY, EDGE, LOOSE, NEAR, ORIGINAL, Planted
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.nodes.decide import measured_shards
from marco_data.storage import Storage


@dataclass(frozen=True)
class Found:
    """Documents: to be dropped, missed of them, dropped though loose or alone, and of all."""

    duplicates: int
    missed: int
    edge: int
    edge_dropped: int
    loose: int
    loose_dropped: int
    alone: int
    alone_dropped: int
    documents: int
    dropped: int

    @property
    def recall(self) -> float:
        return 1 - self.missed / max(1, self.duplicates)


def found(planted: Planted, dropped: Array[np.bool_]) -> Found:
    alike = (planted.kind == ORIGINAL) | (planted.kind == COPY) | (planted.kind == NEAR)
    clusters = int(planted.cluster.max(initial=-1)) + 1
    members = np.bincount(planted.cluster[alike], minlength=clusters)
    left = np.bincount(planted.cluster[alike & ~dropped], minlength=clusters)

    def count(kind: int) -> tuple[int, int]:
        of = planted.kind == kind
        return int(of.sum()), int((of & dropped).sum())

    return Found(
        int((members - 1).sum()),
        int(np.maximum(left - 1, 0).sum()),
        *count(EDGE),
        *count(LOOSE),
        *count(ALONE),
        len(planted),
        int(dropped.sum()),
    )


def from_kept(documents: int, kept: Sequence[pa.Array] | pa.ChunkedArray) -> Array[np.bool_]:
    """Dropped is what is not among the ids that a peer has kept."""
    dropped = np.ones(documents, np.bool_)
    for ids in kept:
        dropped[ids.cast(pa.int64()).to_numpy()] = False
    return dropped


def dropped_by_us(one: Corpus) -> Array[np.bool_]:
    """Of a corpus whose dedup is done; nothing is run. Every document has to have its row, under its own id."""
    storage = Storage(str(one.root))
    result = run(one.dataset(), storage, LocalExecutor(), Silent())
    assert not any(result.ran.values()), result.ran
    dropped = np.zeros(one.documents, np.bool_)
    seen = np.zeros(one.documents, np.bool_)
    sidecars = [file for record in result.records[LAST] for file in record.data]
    for (_, shard), sidecar in zip(measured_shards(result.records["measure"]), sidecars, strict=True):
        rows = storage.read_table(shard.path, ["id", "source_id"])
        verdicts = storage.read_table(sidecar.path, ["row_id", "reason", "kept"])
        assert rows["id"].equals(verdicts["row_id"]), f"{sidecar.path} is not aligned with {shard.path}"
        number = rows["source_id"].cast(pa.int64()).to_numpy()
        dropped[number] = pc.is_valid(verdicts["reason"]).to_numpy()
        seen[number] = True
    assert seen.all(), f"{int((~seen).sum())} documents have no verdict"
    return dropped
