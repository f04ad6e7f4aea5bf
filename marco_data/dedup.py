"""Duplicates, found and shown: which documents say the same thing, and which one of them stays.

In: columns of the documents of one language (priority, text hash), their MinHash signatures block by block, and
on demand the shingles of the few whose signatures leave doubt. Out: `Verdicts`, aligned with the documents.

1. `resolve_ids`, over all languages: the same id with the same bytes again is dropped (`dedup/same_id`); the same
   id with other bytes is another document and both get a new id.
2. `find_duplicates`, per language: documents with the same text hash keep the one of highest priority
   (`dedup/exact`). The signatures of the others are cut into bands; documents that share a band share a bucket,
   and each is compared with the bucket's `first` 64 by priority. It is dropped (`dedup/near`) only if
   verified similar to a *kept* one, which it names; there are no connected components, so A~B~C does not drop C.

Priority is (run, web before generated, quality high before low, id), so the answer does not depend on the order
of rows or shards. This module does not know text, storage, shards' names or ray.
"""

import binascii
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray as Array
from pydantic import BaseModel, ConfigDict, Field

from marco_data.errors import RecipeError

KEPT, SAME_ID, EXACT, NEAR = range(4)
REASONS = (None, "dedup/same_id", "dedup/exact", "dedup/near")
"""What a reason code stands for."""

NAME = r"^[a-z0-9][a-z0-9._-]*$"

PROPOSED = 0.97
"""A pair at the threshold has to share a bucket with at least this probability."""

Signatures = Callable[[], Iterator[Array[np.uint32]]]
"""Called twice; yields the signatures of all documents in their order, in blocks uint32[any, hashes]."""

Shingles = Callable[[Array[np.int64]], list[Array[np.uint32]]]
"""For document indices (ascending), the sorted distinct shingle hashes of each. Called with at most
2 x PAIRS_AT_ONCE documents at a time."""

PAIRS_AT_ONCE = 1 << 15
FIRST_QUESTIONS = 8
QUESTIONS_A_ROUND = 1 << 20
"""Bounds memory: 8 MB of pairs a round, and for counting them the shingles of at most 65,536 documents."""


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

    `over: all` also looks at what the limits have dropped: it changes no verdict, and `cluster_size` then counts them.
    `partition` documents are what a task sorts at once: it bounds memory and changes no verdict. `index` is a name for what
    this build leaves to later ones, `earlier` the name of what an earlier one has left: its documents come first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1

    threshold: float = Field(0.80, gt=0, lt=1)
    hashes: int = Field(112, ge=1)
    first: int = Field(64, ge=1)
    sigmas: float = Field(3.0, ge=0)
    over: Literal["passed", "all"] = "passed"
    partition: int = Field(500_000, ge=1)
    index: str | None = Field(None, pattern=NAME)
    earlier: str | None = Field(None, pattern=NAME)

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


@dataclass(frozen=True)
class Documents:
    """Columns of n documents of one language, in any order; their ids are distinct (see `resolve_ids`).

    A constant column may be a broadcast scalar (`np.broadcast_to`), which takes no memory.
    """

    run: Array[np.int32]  # number of the run that brought the document; earlier runs win
    generated: Array[np.bool_]
    low_quality: Array[np.bool_]  # quality_tier == "low"
    id: Array[np.uint64]  # [n, 2], see `keys_of`
    text_hash: Array[np.uint64]  # [n, 2]

    def __len__(self) -> int:
        return len(self.id)

    def by_priority(self) -> Array[np.int64]:
        """Indices of the documents, the one every other has to yield to first."""
        return np.lexsort((self.id[:, 1], self.id[:, 0], self.low_quality, self.generated, self.run))


@dataclass(frozen=True)
class Verdicts:
    """What became of each of n documents; arrays are aligned with `Documents`.

    `dup_of` is the index of a *kept* document, -1 where the document itself is kept. `jaccard` is the similarity
    to it (NaN where kept), counted on shingles where `jaccard_exact`, else estimated from the signatures.
    `cluster_size` is 1 + the number of documents that name the same survivor: 1 for a document without
    duplicates, and the survivor's figure for each that names it. An exact copy of a document that is a near
    duplicate itself names that one's survivor, as `dedup/near`.
    """

    reason: Array[np.uint8]  # an index into REASONS
    dup_of: Array[np.int64]
    jaccard: Array[np.float32]
    jaccard_exact: Array[np.bool_]
    cluster_size: Array[np.int32]
    not_compared: int  # kept documents that share a bucket with more than `first` earlier ones
    pairs_counted: int  # pairs whose shingles were compared


@dataclass(frozen=True)
class Ids:
    """What `resolve_ids` found for each of n documents of all languages."""

    id: Array[np.uint64]  # [n, 2]: as given, or new where the id stood for several texts
    dup_of: Array[np.int64]  # the first document with the same id and text; -1: none before it
    renamed: int  # documents that got a new id


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


def resolve_ids(id: Array[np.uint64], text_hash: Array[np.uint64], shard: Array[np.int32], row: Array[np.int32]) -> Ids:
    """Make ids stand for one text each; `shard` and `row` say which of two equal documents came first.

    All languages together, so that an id never means two documents anywhere in a run.
    """
    new, dup_of = id.copy(), np.full(len(id), -1, np.int64)
    some = _shared(id)
    order = np.lexsort((row[some], shard[some], text_hash[some, 1], text_hash[some, 0], id[some, 1], id[some, 0]))
    some = some[order]
    new_id = _starts(id[some])
    new_text = new_id | _starts(text_hash[some])
    first = some[new_text][np.cumsum(new_text) - 1]
    dup_of[some] = np.where(first == some, -1, first)

    id_group = np.cumsum(new_id) - 1
    texts = np.bincount(id_group[new_text], minlength=int(new_id.sum()))
    several = texts[id_group] > 1
    for i in some[several & new_text]:
        both = id[i].astype(">u8").tobytes() + text_hash[i].astype(">u8").tobytes()
        new[i] = np.frombuffer(xxhash.xxh3_128_digest(both), ">u8")
    new[some] = new[first]
    return Ids(new, dup_of, int((several & new_text).sum()))


def _shared(id: Array[np.uint64]) -> Array[np.int64]:
    """Indices of the rows whose id may not be theirs alone (equal first halves)."""
    order = np.argsort(id[:, 0], kind="stable")
    equal = ~_starts(id[order, :1])
    equal[:-1] |= equal[1:]
    return order[equal]


def _starts(keys: Array[np.uint64]) -> Array[np.bool_]:
    """Of sorted rows [n, columns], whether each differs from the one before it (the first does)."""
    out: Array[np.bool_] = np.ones(len(keys), np.bool_)
    out[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return out


def find_duplicates(
    documents: Documents, config: DropDuplicates, signatures: Signatures, shingles: Shingles
) -> Verdicts:
    """The verdict on every document of one language.

    Memory: 185 bytes a document, and 620 more for each that shares a bucket with another (112 hashes).
    """
    order = documents.by_priority()
    twin = _same_text(documents.text_hash, order)
    distinct = order[twin[order] == order]
    near = _near(distinct, len(documents), config, signatures, shingles)

    dup_of = np.full(len(documents), -1, np.int64)
    jaccard = np.full(len(documents), np.nan, np.float32)
    exact = np.zeros(len(documents), np.bool_)
    dup_of[near.dropped], jaccard[near.dropped], exact[near.dropped] = near.survivor, near.jaccard, near.exact
    reason = np.where(dup_of >= 0, NEAR, KEPT).astype(np.uint8)

    copies = np.flatnonzero(twin != np.arange(len(documents)))
    original = twin[copies]
    kept = dup_of[original] < 0
    reason[copies] = np.where(kept, EXACT, NEAR)
    dup_of[copies] = np.where(kept, original, dup_of[original])
    jaccard[copies] = np.where(kept, 1.0, jaccard[original])
    exact[copies] = kept | exact[original]

    survivor = np.where(dup_of < 0, np.arange(len(documents)), dup_of)
    size = np.bincount(survivor, minlength=len(documents))[survivor].astype(np.int32)
    return Verdicts(reason, dup_of, jaccard, exact, size, near.not_compared, near.pairs_counted)


def _same_text(text_hash: Array[np.uint64], order: Array[np.int64]) -> Array[np.int64]:
    """For each document the first by priority with its text: itself, if there is none before it."""
    grouped = order[np.lexsort((text_hash[order, 1], text_hash[order, 0]))]
    starts = _starts(text_hash[grouped])
    twin = np.empty(len(order), np.int64)
    twin[grouped] = grouped[starts][np.cumsum(starts) - 1]
    return twin


@dataclass(frozen=True)
class _Near:
    dropped: Array[np.int64]  # indices of documents
    survivor: Array[np.int64]  # the kept document each of them names
    jaccard: Array[np.float64]
    exact: Array[np.bool_]
    not_compared: int
    pairs_counted: int


def _near(
    distinct: Array[np.int64], n: int, config: DropDuplicates, signatures: Signatures, shingles: Shingles
) -> _Near:
    """Near duplicates among `distinct`, indices by priority into n documents."""
    from marco_data.kernels import survivors  # numba takes 0.6 s to import: not for a plan

    buckets = _buckets(_band_keys(distinct, n, config, signatures), config.first)
    involved = distinct[buckets.documents]
    m = len(involved)
    rows = _signatures_of(involved, n, config.hashes, signatures)
    state, survivor = np.zeros(m, np.int8), np.zeros(m, np.int32)
    jaccard, exact = np.zeros(m), np.zeros(m, np.bool_)
    pairs, counted = np.empty(0, np.int64), np.empty(0)
    margin = config.sigmas * math.sqrt(config.threshold * (1 - config.threshold) / config.hashes)
    bounds = np.array([config.threshold - margin, config.threshold, config.threshold + margin])
    # Few questions a document at first, since most are settled by their first candidates; twice as many each
    # round, so that the rounds, each of which reads text, grow with the logarithm of the candidates.
    a_document = FIRST_QUESTIONS
    while True:
        opened = np.flatnonzero(state == survivors.OPEN)
        limits = np.array([a_document, min(a_document * len(opened), QUESTIONS_A_ROUND)])
        questions = survivors.settle(
            opened, buckets.of, buckets.starts, buckets.members, rows, bounds, pairs, counted, limits,
            state, survivor, jaccard, exact,
        )  # fmt: skip
        if not len(questions):
            break
        pairs, counted = np.append(pairs, questions), np.append(counted, _count(questions, involved, shingles))
        order = np.argsort(pairs)
        pairs, counted = pairs[order], counted[order]
        a_document *= 2
    gone = np.flatnonzero(state == survivors.DROPPED)
    beyond = buckets.beyond() & (state == survivors.KEPT)
    return _Near(involved[gone], involved[survivor[gone]], jaccard[gone], exact[gone], int(beyond.sum()), len(pairs))


def _blocks(signatures: Signatures, n: int, hashes: int) -> Iterator[tuple[int, Array[np.uint32]]]:
    at = 0
    for block in signatures():
        assert block.shape[1] == hashes, f"signatures of {block.shape[1]} hashes, {hashes} configured"
        yield at, block
        at += len(block)
    assert at == n, f"{at} signatures of {n} documents"


def _band_keys(distinct: Array[np.int64], n: int, config: DropDuplicates, signatures: Signatures) -> Array[np.uint64]:
    """uint64[bands, len(distinct)]: the band keys of the distinct documents, by priority."""
    from marco_data.kernels import minhash

    banding = config.banding
    place = np.full(n, -1, np.int32)
    place[distinct] = np.arange(len(distinct))
    keys = np.empty((banding.bands, len(distinct)), np.uint64)
    for at, block in _blocks(signatures, n, config.hashes):
        to = place[at : at + len(block)]
        keys[:, to[to >= 0]] = minhash.band_keys(block[to >= 0], banding.bands, banding.rows)
    return keys


def _signatures_of(indices: Array[np.int64], n: int, hashes: int, signatures: Signatures) -> Array[np.uint32]:
    """uint32[len(indices), hashes], gathered in one pass."""
    out = np.empty((len(indices), hashes), np.uint32)
    place = np.full(n, -1, np.int32)
    place[indices] = np.arange(len(indices))
    for at, block in _blocks(signatures, n, hashes):
        to = place[at : at + len(block)]
        out[to[to >= 0]] = block[to >= 0]
    return out


@dataclass(frozen=True)
class _Buckets:
    """Buckets of at least two documents; m of them are in one, numbered by priority."""

    documents: Array[np.int64]  # [m]: ascending positions in the order of priority
    of: Array[np.int32]  # [m, bands]: the bucket in each band, -1: alone
    starts: Array[np.int64]  # [buckets + 1]
    members: Array[np.int32]  # members[starts[b]:starts[b + 1]]: the first of bucket b

    def beyond(self) -> Array[np.bool_]:
        """Whether each comes after the first of one of its buckets, and so was not compared with all of it."""
        out = np.zeros(len(self.of), np.bool_)
        for band in self.of.T:
            inside = np.flatnonzero(band >= 0)
            out[inside] |= self.members[self.starts[band[inside] + 1] - 1] < inside
        return out


def _buckets(keys: Array[np.uint64], first: int) -> _Buckets:
    """Group documents (columns of `keys`, by priority) that share a key in a band (row), one band at a time."""
    shared = np.zeros(keys.shape[1], np.bool_)
    grouped = []
    for band in keys:
        order = np.argsort(band, kind="stable").astype(np.int32)
        starts = _starts(band[order, None])
        alone = starts & np.append(starts[1:], True)
        grouped.append((order[~alone], starts[~alone]))
        shared[order[~alone]] = True
    documents = np.flatnonzero(shared)
    number = np.cumsum(shared, dtype=np.int32) - 1
    of = np.full((len(documents), len(keys)), -1, np.int32)
    sizes, members, buckets = [np.zeros(1, np.int64)], [np.empty(0, np.int32)], 0
    for band, (order, starts) in enumerate(grouped):
        inside = number[order]
        bucket = np.cumsum(starts) - 1
        of[inside, band] = bucket + buckets
        size = np.bincount(bucket) if len(bucket) else np.empty(0, np.int64)
        rank = np.arange(len(inside)) - np.flatnonzero(starts)[bucket]
        members.append(inside[rank < first])
        sizes.append(np.minimum(size, first))
        buckets += len(size)
    return _Buckets(documents, of, np.cumsum(np.concatenate(sizes)), np.concatenate(members).astype(np.int32))


def _count(questions: Array[np.int64], involved: Array[np.int64], shingles: Shingles) -> Array[np.float64]:
    """The Jaccard similarity of each pair (later * m + earlier) on shingles."""
    from marco_data.kernels import survivors

    out = []
    for at in range(0, len(questions), PAIRS_AT_ONCE):
        later, earlier = np.divmod(questions[at : at + PAIRS_AT_ONCE], len(involved))
        indices, ends = np.unique(involved[np.concatenate([later, earlier])], return_inverse=True)
        sets = shingles(indices)
        offsets = np.cumsum([0, *map(len, sets)])
        out.append(survivors.jaccards(np.concatenate(sets), offsets, ends[: len(later)], ends[len(later) :]))
    return np.concatenate(out)
