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


def walk(matches, truth, buckets, first, low, threshold, high):
    """The twin of `settle`: {document: the survivor it names}, all others are kept."""
    named = {}
    for d in range(len(matches)):
        for c in sorted({c for bucket in buckets if d in bucket for c in sorted(bucket)[:first] if c < d}):
            estimate = matches[d][c]
            similar = estimate >= high or (estimate > low and truth[d][c] >= threshold)
            if similar and c not in named:
                named[d] = c
                break
    return named


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 5), st.integers(1, 3), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_settling_does_not_depend_on_how_many_questions_are_asked_at_once(seed, m, first, a_document, in_all):
    rng, bands, hashes = np.random.default_rng(seed), 3, 8
    signatures = rng.integers(0, 2, (m, hashes), dtype=np.uint32)
    matches = (signatures[:, None] == signatures[None]).mean(axis=2)
    truth = np.triu(rng.random((m, m)))
    truth += truth.T
    low, threshold, high = 0.3, 0.5, 0.8
    of = rng.integers(0, 4, (m, bands), dtype=np.int32) + np.arange(bands, dtype=np.int32) * 4
    groups = [np.flatnonzero((of == b).any(axis=1)).astype(np.int32) for b in range(4 * bands)]
    starts = np.cumsum([0, *(min(len(g), first) for g in groups)])
    members = np.concatenate([g[:first] for g in groups])
    state, survivor = np.zeros(m, np.int8), np.zeros(m, np.int32)
    jaccard, exact = np.zeros(m), np.zeros(m, np.bool_)
    pairs, counted = np.empty(0, np.int64), np.empty(0)
    for _ in range(m * m + 1):
        questions = survivors.settle(
            np.flatnonzero(state == survivors.OPEN), of, starts, members, signatures,
            np.array([low, threshold, high]), pairs, counted, np.array([a_document, in_all]),
            state, survivor, jaccard, exact,
        )  # fmt: skip
        if not len(questions):
            break
        assert len(questions) <= in_all
        pairs = np.sort(np.append(pairs, questions))
        counted = truth[pairs // m, pairs % m]
    assert (state != survivors.OPEN).all()
    gone = np.flatnonzero(state == survivors.DROPPED)
    buckets = [set(g.tolist()) for g in groups]
    expected = walk(matches, truth, buckets, first, low, threshold, high)
    assert dict(zip(gone.tolist(), survivor[gone].tolist(), strict=True)) == expected
    assert (jaccard[gone] >= threshold).all()
