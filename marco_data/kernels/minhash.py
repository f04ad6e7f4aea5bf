"""MinHash: sets of 32-bit hashes in, their signatures out, and the keys of the signatures' bands; and XXH64.

The permutations are datasketch 2's default
("affine32"): h is mixed by MurmurHash3's finalizer, then a * h + b modulo 2^32 with odd a. The older
(a * h + b) mod (2^61 - 1), cut to 32 bits, is kept there for old sketches only: it lets different hashes collide,
and took 14.4 ms where this one takes 0.9 for 112 permutations of 100,000 hashes. Over 3,000 random pairs of sets
of 500, estimates were unbiased (0.000 and -0.001 at Jaccard 0.5 and 0.8) with binomial deviation (0.046, 0.038).

This module does not know what was hashed.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import compiled, inlined
from marco_data.kernels.memory import Bytes, eight, item

Hashes = npt.NDArray[np.uint32]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


@cache
def permutations(hashes: int) -> tuple[Hashes, Hashes]:
    """The factors (odd) and summands of `hashes` permutations: SplitMix64 from 0, its low and high halves.

    A formula and not a generator's seed, so that they are the same with every version of numpy.
    """
    state = np.arange(1, hashes + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state.astype(np.uint32) | np.uint32(1), (state >> np.uint64(32)).astype(np.uint32)


@inlined
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@inlined
def xxh64(data: Bytes, start: int, stop: int) -> np.uint64:
    """XXH64 of data[start:stop], seed 0, as its specification has it."""
    at = start
    if stop - start >= 32:
        v1, v2, v3, v4 = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while at + 32 <= stop:
            v1 = _rotate(v1 + eight(data, at) * _P2, 31) * _P1
            v2 = _rotate(v2 + eight(data, at + 8) * _P2, 31) * _P1
            v3 = _rotate(v3 + eight(data, at + 16) * _P2, 31) * _P1
            v4 = _rotate(v4 + eight(data, at + 24) * _P2, 31) * _P1
            at += 32
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        for v in (v1, v2, v3, v4):
            h = (h ^ (_rotate(v * _P2, 31) * _P1)) * _P1 + _P4
    else:
        h = _P5
    h += np.uint64(stop - start)
    while at + 8 <= stop:
        h = _rotate(h ^ (_rotate(eight(data, at) * _P2, 31) * _P1), 27) * _P1 + _P4
        at += 8
    return _finish(h, _last(data, start, at, stop), stop - at)


@inlined
def _last(data: Bytes, start: int, at: int, stop: int) -> np.uint64:
    """The bytes data[at:stop], fewer than eight, as one number."""
    if stop - start >= 8:
        whole: np.uint64 = eight(data, stop - 8) >> np.uint64(8) >> np.uint64(8 * (7 - stop + at))
        return whole
    last = np.uint64(0)
    for k in range(stop - at):
        last |= np.uint64(item(data, at + k)) << np.uint64(8 * k)
    return last


@inlined
def _finish(h: np.uint64, last: np.uint64, left: int) -> np.uint64:
    """`h` with the last `left` bytes. Their number is anyone's guess, so all steps are taken and those due are kept."""
    four = _rotate(h ^ ((last & np.uint64(0xFFFFFFFF)) * _P1), 23) * _P2 + _P3
    h, last = (four, last >> np.uint64(32)) if left & 4 else (h, last)
    for k in range(3):
        one = _rotate(h ^ ((last & np.uint64(0xFF)) * _P5), 11) * _P1
        h = one if k < left & 3 else h
        last >>= np.uint64(8)
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@compiled
def signatures(shingles: Hashes, first: npt.NDArray[np.int64], factors: Hashes, summands: Hashes) -> Hashes:
    """For each set shingles[first[i]:first[i + 1]] and each permutation the least permuted hash, uint32[sets, n]."""
    out = np.full((len(first) - 1, len(factors)), np.uint32(0xFFFFFFFF), np.uint32)
    for i in range(len(first) - 1):
        row = out[i]
        for h in shingles[first[i] : first[i + 1]]:
            h = np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
            h = np.uint32(np.uint32(h) ^ (np.uint32(h) >> np.uint32(13))) * np.uint32(0xC2B2AE35)
            mixed = np.uint32(np.uint32(h) ^ (np.uint32(h) >> np.uint32(16)))
            for k in range(len(factors)):
                value = np.uint32(factors[k] * mixed + summands[k])
                row[k] = min(row[k], value)
    return out


@compiled
def band_keys(signatures: Hashes, bands: int, rows: int) -> npt.NDArray[np.uint64]:
    """For uint32[n, hashes] the key of each band, uint64[bands, n]: FNV-1a over the band's hashes, then mixed."""
    out = np.empty((bands, len(signatures)), np.uint64)
    for i in range(len(signatures)):
        for band in range(bands):
            key = np.uint64(0xCBF29CE484222325)
            for k in range(band * rows, (band + 1) * rows):
                key = (key ^ np.uint64(signatures[i, k])) * np.uint64(0x100000001B3)
            out[band, i] = (key ^ (key >> np.uint64(32))) * _P1
    return out
