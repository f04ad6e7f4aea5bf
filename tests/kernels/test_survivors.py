"""The walk over documents by priority, beside a twin that has every answer at hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels import survivors


@settings(deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1))))
def test_jaccards_are_those_of_python_sets(pairs):
    sets = [sorted(s) for pair in pairs for s in pair]
    flat = np.array([x for s in sets for x in s], np.uint32)
    offsets = np.cumsum([0, *map(len, sets)])
    left = np.arange(0, len(sets), 2)
    answers = survivors.jaccards(flat, offsets, left, left + 1)
    assert answers.tolist() == [len(a & b) / len(a | b) for a, b in pairs]


def walk(pairs, state):
    """The twin of `settle`: {document: the earlier one that drops it}, {documents left open}."""
    named, opened = {}, {d for d, s in enumerate(state) if s == survivors.OPEN}
    gone = {d for d, s in enumerate(state) if s == survivors.DROPPED}
    for d in sorted({d for d, _, _ in pairs}):
        opened.discard(d)
        for _, c, more in sorted((p for p in pairs if p[0] == d), key=lambda p: (p[1] is None, p[1] or 0)):
            if c is None:
                if more:
                    opened.add(d)
            elif c in opened:
                opened.add(d)
                break
            elif c not in gone:
                named[d] = c
                gone.add(d)
                break
    return named, opened


@given(st.integers(0, 2**32), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_settling_is_a_walk_by_priority(seed, n):
    rng = np.random.default_rng(seed)
    pairs = {(d, int(rng.integers(d)), False) for d in range(1, n) for _ in range(int(rng.integers(0, 4)))}
    pairs |= {(d, None, bool(rng.random() < 0.5)) for d in range(n) if rng.random() < 0.2}
    ordered = sorted(pairs, key=lambda p: (p[0], p[1] is None, p[1] or 0))
    state = rng.choice(np.array([0, 0, 0, 2], np.uint8), n)
    later = np.array([p[0] for p in ordered], np.int64)
    state[later] = 0
    expected = walk(ordered, state.copy())
    earlier = np.array([-1 if p[1] is None else p[1] for p in ordered], np.int64)
    chosen = np.empty(len(ordered), np.int64)
    dropped = survivors.settle(later, earlier, np.array([p[2] for p in ordered], np.bool_), state, chosen)
    by = chosen[:dropped]
    assert dict(zip(later[by].tolist(), earlier[by].tolist(), strict=True)) == expected[0]
    assert set(np.flatnonzero(state == survivors.OPEN).tolist()) == expected[1]


@given(st.integers(0, 2**32), st.integers(1, 20))
def test_matches_are_equal_hashes(seed, n):
    rng = np.random.default_rng(seed)
    signatures = rng.integers(0, 3, (n, 7), dtype=np.uint32)
    left, right = rng.integers(0, n, (2, 15))
    expected = [int((signatures[a] == signatures[b]).sum()) for a, b in zip(left, right, strict=True)]
    assert survivors.matches(signatures, left, right).tolist() == expected
