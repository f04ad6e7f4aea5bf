"""Pairs of documents that share a bucket, from band keys sorted by (key, rank).

A bucket may go over many chunks of the sorted sequence: `head` (its first members) and `carried` (its key, how many
members so far) pass from call to call.
"""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import compiled, inlined

Ranks = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

MORE, BEYOND = np.uint8(1), np.uint8(2)


@compiled
def band_keys(
    signatures: npt.NDArray[np.uint32], scopes: npt.NDArray[np.uint16], band: int, rows: int, shift: int
) -> Ranks:
    """The key of one band of each signature uint32[n, hashes]: the band's number in the highest bits, then a hash.

    FNV-1a over the language's number and the band's hashes, finished as MurmurHash3 does, without its last `shift`
    bits.
    """
    out = np.empty(len(signatures), np.uint64)
    for i in range(len(signatures)):
        key = (np.uint64(0xCBF29CE484222325) ^ np.uint64(scopes[i])) * np.uint64(0x100000001B3)
        for k in range(band * rows, (band + 1) * rows):
            key = (key ^ np.uint64(signatures[i, k])) * np.uint64(0x100000001B3)
        key = (key ^ (key >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        key = (key ^ (key >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        key ^= key >> np.uint64(33)
        out[i] = (key >> np.uint64(shift)) | (np.uint64(band) << np.uint64(64 - shift) if shift else np.uint64(0))
    return out


@compiled
def first_pairs(
    keys: Ranks, ranks: Ranks, head: Ranks, carried: Ranks, first: int, asked: int, known: npt.NDArray[np.int64]
) -> tuple[Ranks, Ranks, Bits, Ranks, Ranks]:
    """(later, earlier, flags) of each member with the `asked` first of its bucket; (keys, ranks) of larger buckets.

    The last pair of a member whose bucket has more members before it, among the `first`, is flagged MORE; a member that
    is not among the first itself has its pairs flagged BEYOND. Members whose number is below known[language] are of an
    earlier run: they are never the later ones.
    """
    mask = np.uint64((1 << 48) - 1)
    n = len(keys)
    later, earlier = np.empty(n * asked, np.uint64), np.empty(n * asked, np.uint64)
    flags = np.empty(n * asked, np.uint8)
    # A bucket's first are written with the first member that has more before it: as many as came before, of earlier
    # runs or of this chunk, or those carried from the chunks before.
    rest_keys, rest_ranks = np.empty(2 * n + len(head), np.uint64), np.empty(2 * n + len(head), np.uint64)
    pairs, rest = 0, 0
    for i in range(n):
        if keys[i] != carried[0]:
            carried[0], carried[1], carried[2] = keys[i], np.uint64(0), np.uint64(0)
        before = int(np.int64(carried[1]))
        new = np.int64(ranks[i] & mask) >= known[np.int64(ranks[i] >> np.uint64(48))]
        for k in range(min(before, asked) if new else 0):
            later[pairs], earlier[pairs], flags[pairs] = ranks[i], head[k], np.uint8(0)
            if before >= first:
                flags[pairs] |= BEYOND
            if k == asked - 1 and min(before, first) > asked:
                flags[pairs] |= MORE
            pairs += 1
        if before > asked and new and carried[2] == 0:
            carried[2] = np.uint64(1)
            for k in range(min(before, len(head))):
                rest_keys[rest], rest_ranks[rest] = keys[i], head[k]
                rest += 1
        if before > asked and new:
            rest_keys[rest], rest_ranks[rest] = keys[i], ranks[i]
            rest += 1
        if before < len(head):
            head[before] = ranks[i]
        carried[1] = np.uint64(before + 1)
    return later[:pairs], earlier[:pairs], flags[:pairs], rest_keys[:rest], rest_ranks[:rest]


@inlined
def _bit(bits: Bits, at: int) -> bool:
    return bool((bits[at >> 3] >> np.uint8(at & 7)) & np.uint8(1))


@compiled
def open_pairs(
    keys: Ranks,
    ranks: Ranks,
    head: Ranks,
    carried: Ranks,
    first: int,
    bases: npt.NDArray[np.int64],
    open: Bits,
    gone: Bits,
) -> tuple[Ranks, Ranks]:
    """(later, earlier) of each open member with the `first` of its bucket that are not gone.

    bases[s] + number is the bit in `open` and `gone` of the document of that number of language s.
    """
    mask = np.uint64((1 << 48) - 1)
    count = 0
    for fill in range(2):
        if fill:
            later, earlier = np.empty(count, np.uint64), np.empty(count, np.uint64)
        else:
            later, earlier = np.empty(0, np.uint64), np.empty(0, np.uint64)
        pairs = 0
        own, key, seen = head.copy(), carried[0], int(np.int64(carried[1]))
        for i in range(len(keys)):
            if keys[i] != key:
                key, seen = keys[i], 0
            if seen and _bit(open, bases[np.int64(ranks[i] >> np.uint64(48))] + np.int64(ranks[i] & mask)):
                for k in range(min(seen, first)):
                    c = own[k]
                    if not _bit(gone, bases[np.int64(c >> np.uint64(48))] + np.int64(c & mask)):
                        if fill:
                            later[pairs], earlier[pairs] = ranks[i], c
                        pairs += 1
            if seen < len(own):
                own[seen] = ranks[i]
            seen += 1
        count = pairs
    head[:] = own
    carried[0], carried[1] = key, np.uint64(seen)
    return later, earlier
