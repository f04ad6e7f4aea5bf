"""Who stays among documents that may be alike: comparing pairs, and the walk over documents by priority.

Documents are numbered by priority, and an earlier one is always settled before a later one is asked about it, so one
walk over the pairs sorted by the later document settles all whose earlier ones are known.
"""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import compiled

KEPT, OPEN, DROPPED = np.uint8(0), np.uint8(1), np.uint8(2)


@compiled
def jaccards(
    shingles: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.int64],
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """|A and B| / |A or B| of pairs of ascending sets, float64[pairs]; set i is shingles[offsets[i]:offsets[i+1]]."""
    out = np.empty(len(left), np.float64)
    for p in range(len(left)):
        i, j = offsets[left[p]], offsets[right[p]]
        i_end, j_end = offsets[left[p] + 1], offsets[right[p] + 1]
        total, shared = i_end - i + j_end - j, 0
        while i < i_end and j < j_end:
            a, b = shingles[i], shingles[j]
            shared += a == b
            i += a <= b
            j += b <= a
        out[p] = shared / (total - shared)
    return out


@compiled
def matches(
    signatures: npt.NDArray[np.uint32], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How many hashes the signatures uint32[n, hashes] of each pair share."""
    out = np.empty(len(left), np.int64)
    for p in range(len(left)):
        a, b = signatures[left[p]], signatures[right[p]]
        n = 0
        for k in range(len(a)):
            n += a[k] == b[k]
        out[p] = n
    return out


@compiled
def settle(
    later: npt.NDArray[np.int64],
    earlier: npt.NDArray[np.int64],
    more: npt.NDArray[np.bool_],
    state: npt.NDArray[np.uint8],
    chosen: npt.NDArray[np.int64],
) -> int:
    """Walk documents by priority; returns how many are dropped, with the index of the pair that did it in `chosen`.

    Pairs are sorted by (later, earlier), all of a document together; `earlier` is -1 for a record that ends a
    document's, where `more` says that it may have earlier ones beside these. state[d]: OPEN, KEPT or DROPPED.
    A document is dropped by the first earlier one that is kept; it is open if one that is open comes before such a one,
    or if there may be more.
    """
    n, at = 0, 0
    while at < len(later):
        d, found, end = later[at], KEPT, at
        while end < len(later) and later[end] == d:
            if found == KEPT:
                c = earlier[end]
                if c < 0:
                    if more[end]:
                        found = OPEN
                elif state[c] == OPEN:
                    found = OPEN
                elif state[c] == KEPT:
                    found = DROPPED
                    chosen[n] = end
                    n += 1
            end += 1
        state[d] = found
        at = end
    return n
