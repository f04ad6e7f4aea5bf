"""Who stays among documents that share buckets: the loops of `dedup`.

Documents are numbered by priority, 0 first. `settle` walks them in that order and keeps each one that is not
verified similar to a kept one before it. Where a signature leaves doubt it asks for the pair's shingles to be
compared and leaves the document open; the caller counts (`jaccards`), adds the answers and walks again.
The outcome is that of one walk with every answer at hand, however the questions were spread over walks.

Cost of a walk: at most bands x first signature comparisons for each open document (15 ns each).
"""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import compiled

OPEN, KEPT, DROPPED = np.int8(0), np.int8(1), np.int8(2)


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
def _candidates(
    d: int,
    buckets: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
    state: npt.NDArray[np.int8],
    out: npt.NDArray[np.int32],
) -> int:
    """Write the members before d of its buckets that are not dropped to `out`, ascending; their number."""
    n = 0
    for band in range(buckets.shape[1]):
        bucket = buckets[d, band]
        if bucket < 0:
            continue
        for p in range(starts[bucket], starts[bucket + 1]):
            c = members[p]
            if c >= d:
                break
            if state[c] != DROPPED:
                out[n] = c
                n += 1
    out[:n].sort()
    distinct = 0
    for i in range(n):
        if i == 0 or out[i] != out[i - 1]:
            out[distinct] = out[i]
            distinct += 1
    return distinct


@compiled
def _matches(a: npt.NDArray[np.uint32], b: npt.NDArray[np.uint32]) -> int:
    n = 0
    for k in range(len(a)):
        n += a[k] == b[k]
    return n


@compiled
def settle(
    opened: npt.NDArray[np.int64],
    buckets: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    members: npt.NDArray[np.int32],
    signatures: npt.NDArray[np.uint32],
    bounds: npt.NDArray[np.float64],
    pairs: npt.NDArray[np.int64],
    counted: npt.NDArray[np.float64],
    limits: npt.NDArray[np.int64],
    state: npt.NDArray[np.int8],
    survivor: npt.NDArray[np.int32],
    jaccard: npt.NDArray[np.float64],
    exact: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """One walk over the `opened` documents, ascending; returns the pairs it asks for, as later * m + earlier.

    buckets int32[m, bands]: a document's bucket in each band, -1 where it is alone; members[starts[b]:starts[b+1]]:
    the first of bucket b, ascending. bounds: (low, threshold, high) in Jaccard; estimates <= low are unlike,
    >= high alike, between them `counted` decides, the answers for `pairs` (ascending). limits: (questions a
    document, questions in all). state, survivor, jaccard and exact, of length m, are written.
    """
    low, threshold, high = bounds
    m, hashes = signatures.shape
    questions = np.empty(limits[1], np.int64)
    asked = 0
    width = 0
    for b in range(len(starts) - 1):
        width = max(width, starts[b + 1] - starts[b])
    scratch = np.empty(width * buckets.shape[1], np.int32)
    for d in opened:
        n = _candidates(d, buckets, starts, members, state, scratch)
        waiting, mine = False, 0
        for i in range(n):
            c = scratch[i]
            similarity, sure = _matches(signatures[d], signatures[c]) / hashes, False
            if similarity < high:
                if similarity <= low:
                    continue
                at = np.searchsorted(pairs, d * m + c)
                if at == len(pairs) or pairs[at] != d * m + c:
                    waiting = True
                    if mine == limits[0] or asked == limits[1]:
                        break
                    questions[asked] = d * m + c
                    asked, mine = asked + 1, mine + 1
                    continue
                similarity, sure = counted[at], True
                if similarity < threshold:
                    continue
            if state[c] == OPEN:
                waiting = True
                continue
            if not waiting:
                state[d], survivor[d], jaccard[d], exact[d] = DROPPED, c, similarity, sure
            break  # whatever comes after this one can neither drop d nor be named by it
        else:
            if not waiting:
                state[d] = KEPT
    return questions[:asked]
