"""The rule that turns a limit on one kind of words into a limit on another, on tables one can follow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.languages.match_limits import agreement, beyond, matched

THEIRS = np.array([0.90, 0.70, 0.80, 0.85])
OURS = np.array([0.86, 0.60, 0.76, 0.82])  # of the same documents


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        (0.80, 0.76),  # a document's own figure becomes its other one
        (0.75, 0.68),  # half way between two stays half way
        (0.65, 0.55),  # nothing is below it: it keeps its distance from the lowest
        (0.95, 0.91),  # and from the highest
    ],
)
def test_a_limit_stands_where_it_stood_among_the_others(limit: float, value: float):
    assert matched(limit, THEIRS, OURS) == pytest.approx(value)


def test_the_order_of_documents_does_not_matter_for_the_value_but_does_for_agreement():
    assert matched(0.8, THEIRS, OURS[::-1]) == matched(0.8, THEIRS, OURS)
    assert agreement("min", 0.8, THEIRS, 0.76, OURS) == 1.0
    assert agreement("min", 0.8, THEIRS, 0.76, OURS[::-1]) == 0.5
    assert agreement("min", 0.8, THEIRS, 0.80, OURS) == 0.75
    assert agreement("min", 0.8, THEIRS, None, OURS) == 0.75


def test_a_figure_at_its_limit_is_within_it_on_both_sides():
    at = np.array([0.1, 0.2, 0.3])
    assert beyond("min", 0.2, at).tolist() == [True, False, False]
    assert beyond("max", 0.2, at).tolist() == [False, False, True]
    assert not beyond("max", None, at).any()


@given(
    st.lists(
        st.tuples(st.integers(0, 10**4), st.integers(0, 10**4)),
        min_size=2,
        max_size=60,
        unique_by=(lambda p: p[0], lambda p: p[1]),
    ),
    st.floats(-10, 10_010),
)
def test_as_many_are_dropped_by_the_matched_limit(pairs: list[tuple[int, int]], limit: float):
    theirs, ours = np.array(pairs, np.float64).T
    limit = np.floor(limit) + 0.5
    value = matched(limit, theirs, ours)
    for side in ("min", "max"):
        assert beyond(side, value, ours).sum() == beyond(side, limit, theirs).sum()
