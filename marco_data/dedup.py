"""What a duplicate is: the rule, its numbers, and the keys of documents. `nodes.duplicates` carries it out.

1. The same id with the same bytes again is dropped (`dedup/same_id`); the same id with other bytes is another document
   and both get a new id.
2. In one language, of documents with the same text the one of highest priority stays (`dedup/exact`). The signatures of
   the others are cut into bands; documents that share a band share a bucket, and each is compared with the bucket's
   `first` 64 by priority. It is dropped (`dedup/near`) only if verified similar to a *kept* one, the first such by
   priority, which it names; there are no connected components, so A~B~C does not drop C.

Priority is (run, web before generated, quality high before low, id), so the answer does not depend on the order
of rows or shards.
"""

import binascii
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray as Array
from pydantic import BaseModel, ConfigDict, Field, model_validator

from marco_data.errors import RecipeError

KEPT, SAME_ID, EXACT, NEAR, COPIED = range(5)
REASONS = (None, "dedup/same_id", "dedup/exact", "dedup/near")
"""What a reason code stands for; COPIED is a copy of what a recipe's `remove` lists, `remove/copy`."""

NAME = r"^[a-z0-9][a-z0-9._-]*$"

PROPOSED = 0.97
"""A pair at the threshold has to share a bucket with at least this probability."""


@dataclass(frozen=True)
class Banding:
    """How signatures are cut into `bands` of `rows` hashes; two documents meet if one whole band is equal."""

    threshold: float
    bands: int
    rows: int

    def probability(self, jaccard: float) -> float:
        """That a pair of this similarity meets in at least one bucket."""
        return float(1.0 - (1.0 - jaccard**self.rows) ** self.bands)

    @property
    def knee(self) -> float:
        """The similarity at which the curve rises most steeply."""
        return float((1.0 / self.bands) ** (1.0 / self.rows))

    def __str__(self) -> str:
        proposed = self.probability(self.threshold)
        return (
            f"{self.bands} bands x {self.rows} rows: verified threshold {self.threshold:.2f}, "
            f"LSH knee {self.knee:.2f}, a pair at the threshold is proposed with probability {proposed:.3f}"
        )


class DropDuplicates(BaseModel):
    """What decides whether two documents are duplicates; its fields and `version` are identity.

    `hashes` is the length of the signatures, `first` how many of a bucket's first documents a later one is
    compared with. A signature's estimate decides alone where it is `sigmas` standard deviations away from
    `threshold`; nearer than that the shingles are compared.

    `over: all` also looks at what the limits have dropped: it changes no verdict, and `cluster_size` then counts
    them. `partition` documents are what a task sorts at once: it bounds memory and changes no verdict. `index` is a
    name for what this build leaves to later ones, `earlier` the name of what an earlier one has left: its documents
    come first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1

    threshold: float = Field(0.80, gt=0, lt=1)
    hashes: int = Field(112, ge=1)
    first: int = Field(64, ge=1)
    sigmas: float = Field(3.0, ge=0, allow_inf_nan=False)
    over: Literal["passed", "all"] = "passed"
    partition: int = Field(500_000, ge=1)
    index: str | None = Field(None, pattern=NAME)
    earlier: str | None = Field(None, pattern=NAME)

    @model_validator(mode="after")
    def _indexes_hold_what_passed(self) -> "DropDuplicates":
        # What an earlier run's limits dropped would come before what this one's let through.
        if self.over == "all" and (self.index or self.earlier):
            raise ValueError("`over: all` cannot be had with `index` or `earlier`: leave one of them out")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What two runs must have in common for one to go on from the other."""
        return {"version": self.version, **self.model_dump(exclude={"over", "partition", "index", "earlier"})}

    @property
    def banding(self) -> Banding:
        return bands_and_rows(self.threshold, self.hashes)


def bands_and_rows(threshold: float, hashes: int) -> Banding:
    """Of all bands x rows within `hashes`, the most selective that still finds pairs at the threshold.

    More rows a band mean fewer pairs met by chance. Raises RecipeError if no split reaches `PROPOSED`.
    """
    for rows in range(hashes, 0, -1):
        banding = Banding(threshold, hashes // rows, rows)
        if banding.probability(threshold) >= PROPOSED:
            return banding
    raise RecipeError(
        f"dedup: {hashes} hashes cannot find pairs of similarity {threshold} with probability {PROPOSED}",
        hint=f"give at least {math.ceil(math.log(1 - PROPOSED) / math.log(1 - threshold))} hashes (112 is usual)",
    )


def keys_of(column: pa.Array | pa.ChunkedArray) -> Array[np.uint64]:
    """uint64[n, 2] of a string column of 32 hex digits each (ids, text hashes), no nulls; order is kept.

    Raises ValueError where a value is not 32 hex digits.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    raw = bytearray()
    for chunk in chunks:
        if chunk.null_count or pc.all(pc.equal(pc.binary_length(chunk), 32)).as_py() is False:
            raise ValueError("a key is not 32 hex digits")
        if len(chunk):
            start = 32 * chunk.offset
            raw += binascii.unhexlify(chunk.buffers()[2][start : start + 32 * len(chunk)])
    return np.frombuffer(raw, ">u8").astype(np.uint64).reshape(-1, 2)


def hex_of(keys: Array[np.uint64]) -> pa.StringArray:
    """The inverse of `keys_of`, for at most 67 million keys at once (2 GiB of digits)."""
    digits = binascii.hexlify(keys.astype(">u8").tobytes())
    offsets = np.arange(0, len(digits) + 32, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(offsets), pa.py_buffer(digits))
