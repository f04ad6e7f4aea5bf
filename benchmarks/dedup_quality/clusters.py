"""What it costs to compare with the first K of a bucket only: clusters of up to a million, as signatures.

A signature is drawn, not computed: of a set of which a part is shared, each hash is the shared set's with a
probability that depends on how low the shared minimum `u` of that hash is; over all hashes that is the Jaccard
similarity. So the bands whose shared minima are low are hot, as in real text. Estimates decide (`sigmas: 0`): what is
measured is which pairs are compared. A duplicate is left if a document was kept although one of higher priority that
was kept too is at least as similar as the threshold.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.dedup import Documents, DropDuplicates, find_duplicates

HASHES = 112
BLOCK = 1 << 14
EVERY = 1 << 30
"""A K that no bucket reaches."""

Signatures = npt.NDArray[np.uint32]
Draw = Callable[[int, np.random.Generator, int], Signatures]
"""(first document, generator, documents) -> the signatures of that many documents from there on."""


def _own(rng: np.random.Generator, n: int) -> Signatures:
    return rng.integers(0, 1 << 32, (n, HASHES), dtype=np.uint32)


_SHARED = np.random.default_rng(17)
CENTRE: Signatures = _SHARED.integers(0, 1 << 32, HASHES, dtype=np.uint32)
LOW: npt.NDArray[np.float64] = _SHARED.random(HASHES)
"""The shared set's hashes, and the share of all sets whose minimum is above each."""


def around(low: float, high: float, centre_at: int | None) -> Draw:
    """Members alike to one centre by `low` to `high`; the centre itself is the document `centre_at`, if any."""

    def draw(first: int, rng: np.random.Generator, n: int) -> Signatures:
        jaccard = rng.uniform(low, high, (n, 1))
        kept = 2 * jaccard / (1 + jaccard)  # of the centre's shingles; the others are the member's own
        out = np.where(rng.random((n, HASHES)) < kept * LOW ** (1 - kept), CENTRE, _own(rng, n)).astype(np.uint32)
        if centre_at is not None and first <= centre_at < first + n:
            out[centre_at - first] = CENTRE
        return out

    return draw


def templated(share: float, alike: float) -> Draw:
    """Any two documents are alike by `share`, their frame; document 2 i + 1 is 2 i again, alike by `alike`."""

    def draw(first: int, rng: np.random.Generator, n: int) -> Signatures:
        content = (1 / share - 1) / 2  # shingles for each of the frame
        out = np.where(rng.random((n, HASHES)) < LOW**content, CENTRE, _own(rng, n)).astype(np.uint32)
        out[1::2] = np.where(rng.random((n // 2, HASHES)) < alike, out[: n // 2 * 2 : 2], _own(rng, n // 2))
        return out

    return draw


SHAPES: dict[str, tuple[Callable[[int], Draw], bool]] = {
    "versions of one text, 0.95-0.99 to it": (lambda n: around(0.95, 0.99, None), False),
    "versions of one text, 0.90-0.98 to it": (lambda n: around(0.90, 0.98, None), False),
    "versions of one text, 0.80-0.98 to it": (lambda n: around(0.80, 0.98, None), False),
    "loose, 0.80-0.90 to a text that comes first": (lambda n: around(0.80, 0.90, 0), False),
    "loose, 0.80-0.90 to a text that comes last": (lambda n: around(0.80, 0.90, n - 1), False),
    "template, 0.60 alike, every content twice (0.90)": (lambda n: templated(0.60, 0.90), True),
    "template, 0.75 alike, every content twice (0.90)": (lambda n: templated(0.75, 0.90), True),
}
"""Shape: what draws a cluster of so many documents, and whether its duplicates are the documents 2 i and 2 i + 1."""

MOST_WITHOUT_LIMIT = 10_000
"""Documents of the largest cluster that is also judged without a limit to a bucket: that takes n squared."""


OTHER_LIMITS, AT = (16, 256, 1024), 100_000
"""Other K, and the documents of the clusters that are judged with them."""


class Left(NamedTuple):
    """One cluster, judged."""

    shape: str
    documents: int
    first: int
    kept: int
    left: float  # kept although a duplicate, of all documents
    seconds: float  # of one core


def measure_all(largest: int) -> tuple[list[Left], int]:
    """Clusters of 100, 1,000 and so on, and the peak memory, in bytes, of the process of its own that they are in."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_all, (largest,))


def _measure_all(largest: int) -> tuple[list[Left], int]:
    out = []
    n = 100
    while n <= largest:
        limits = (64, *((EVERY,) if n <= MOST_WITHOUT_LIMIT else ()), *(OTHER_LIMITS if n == AT else ()))
        out += [measure(shape, n, first) for shape in SHAPES for first in limits]
        n *= 10
    return out, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(shape: str, n: int, first: int) -> Left:
    """A cluster of n documents through `find_duplicates` with that K."""
    make, pairs = SHAPES[shape]
    draw = make(n)

    def blocks() -> Iterator[Signatures]:
        for at in range(0, n, BLOCK):
            yield draw(at, np.random.default_rng([23, at]), min(BLOCK, n - at))

    start = time.process_time()
    rule = DropDuplicates(first=first, sigmas=0.0)
    verdicts = find_duplicates(_documents(n), rule, blocks, _never)
    seconds = time.process_time() - start
    kept = np.flatnonzero(verdicts.dup_of < 0)
    if pairs:
        left = np.intersect1d(kept[kept % 2 == 0] + 1, kept).size / n
    else:
        left = _still_alike(kept, blocks, rule.threshold) / n
    return Left(shape, n, first, len(kept), float(left), seconds)


def _documents(n: int) -> Documents:
    ids = np.stack([np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64)], axis=1)
    none = np.broadcast_to(np.bool_(False), (n,))
    return Documents(np.broadcast_to(np.int32(0), (n,)), none, none, ids, ids)


def _never(indices: npt.NDArray[np.int64]) -> list[Signatures]:
    raise AssertionError("estimates decide: no shingles are asked for")


SOME = 300


def _still_alike(kept: npt.NDArray[np.int64], blocks: Callable[[], Iterator[Signatures]], threshold: float) -> float:
    """How many of `kept` are alike to one of `kept` before them; of more than SOME a sample is asked."""
    some = np.sort(np.random.default_rng(29).choice(kept, min(SOME, len(kept)), replace=False))
    asked = np.concatenate([_rows(block, at, some) for at, block in _numbered(blocks)])
    alike = np.zeros(len(some), np.bool_)
    for at, block in _numbered(blocks):
        inside = kept[(kept >= at) & (kept < at + len(block))]
        rows = block[inside - at]
        for i in np.flatnonzero(~alike):
            before = rows[: np.searchsorted(inside, some[i])]
            alike[i] = len(before) > 0 and ((before == asked[i]).mean(axis=1) >= threshold).any()
    return float(alike.mean() * len(kept))


def _numbered(blocks: Callable[[], Iterator[Signatures]]) -> Iterator[tuple[int, Signatures]]:
    at = 0
    for block in blocks():
        yield at, block
        at += len(block)


def _rows(block: Signatures, at: int, wanted: npt.NDArray[np.int64]) -> Signatures:
    return block[wanted[(wanted >= at) & (wanted < at + len(block))] - at]
