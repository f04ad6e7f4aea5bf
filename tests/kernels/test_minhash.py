"""Each kernel beside its twin in plain Python; datasketch and xxhash are the oracles."""

import numpy as np
import xxhash
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels import minhash

HASHES = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50)


def signature(hashes: list[int], factors: list[int], summands: list[int]) -> list[int]:
    """The twin of `signatures`."""

    def mixed(h: int) -> int:
        h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
        h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        return h ^ h >> 16

    return [min((a * mixed(h) + b) & 0xFFFFFFFF for h in hashes) for a, b in zip(factors, summands, strict=True)]


def band_keys(signatures: list[list[int]], bands: int, rows: int) -> list[list[int]]:
    """The twin of `band_keys`."""

    def key(hashes: list[int]) -> int:
        out = 0xCBF29CE484222325
        for h in hashes:
            out = (out ^ h) * 0x100000001B3 % 2**64
        return (out ^ out >> 32) * 0x9E3779B185EBCA87 % 2**64

    return [[key(s[b * rows : (b + 1) * rows]) for s in signatures] for b in range(bands)]


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 40))
def test_xxh64_is_xxhash(data, start):
    start = min(start, len(data))
    assert int(minhash.xxh64(np.frombuffer(data, np.uint8), start, len(data))) == xxhash.xxh64_intdigest(data[start:])


@settings(max_examples=50, deadline=None)
@given(HASHES)
def test_signatures_equal_their_twin_and_datasketch(hashes):
    factors, summands = minhash.permutations(112)
    oracle = MinHash(112, permutations=(factors, summands), hashfunc=int, scheme="affine32")
    oracle.update_batch(hashes)
    bounds = np.array([0, 0, len(hashes)])
    nothing, ours = minhash.signatures(np.array(hashes, np.uint32), bounds, factors, summands)
    assert (nothing == 2**32 - 1).all()
    assert ours.dtype == oracle.hashvalues.dtype
    assert ours.tolist() == oracle.hashvalues.tolist()
    assert ours.tolist() == signature(hashes, factors.tolist(), summands.tolist())


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=12, max_size=12), max_size=5))
def test_band_keys_equal_their_twin(signatures):
    array = np.array(signatures, np.uint32).reshape(-1, 12)
    assert minhash.band_keys(array, 3, 4).tolist() == band_keys(signatures, 3, 4)


def test_permutations_are_a_prefix_of_longer_ones_and_reversible():
    factors, summands = minhash.permutations(112)
    assert (factors % 2 == 1).all()
    assert len(set(zip(factors.tolist(), summands.tolist(), strict=True))) == 112
    assert minhash.permutations(16)[0].tolist() == factors[:16].tolist()
    # Frozen, other permutations make every stored signature useless: SplitMix64's first number is published.
    assert int(summands[0]) << 32 | int(factors[0]) == 0xE220A8397B1DCDAF


def test_estimates_are_unbiased_with_binomial_deviation():
    rng, (factors, summands) = np.random.default_rng(5), minhash.permutations(112)
    for shared, alone in ((100, 50), (160, 20)):
        estimates = []
        for _ in range(1000):
            hashes = rng.integers(0, 2**32, shared + 2 * alone, dtype=np.uint32)
            both = np.concatenate((hashes[: shared + alone], hashes[alone:]))
            bounds = np.array([0, shared + alone, len(both)])
            left, right = minhash.signatures(both, bounds, factors, summands)
            estimates.append((left == right).mean())
        jaccard = shared / (shared + 2 * alone)
        deviation = np.sqrt(jaccard * (1 - jaccard) / 112)
        assert abs(np.mean(estimates) - jaccard) < 4 * deviation / np.sqrt(1000)
        assert 0.9 < np.std(estimates) / deviation < 1.1
