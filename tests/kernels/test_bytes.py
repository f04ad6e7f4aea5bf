"""Reading and copying without questions, beside Python's slices."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels import memory
from marco_data.kernels.compiled import compiled


@compiled
def read(data, at):
    return memory.item(data, at), memory.eight(data, at)


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=40), st.data())
def test_reading_is_indexing(data, draw):
    at = draw.draw(st.integers(0, len(data) - 8))
    assert read(np.frombuffer(data, np.uint8), at) == (data[at], int.from_bytes(data[at : at + 8], "little"))


@settings(deadline=None)
@given(st.binary(max_size=40), st.data())
def test_a_copy_is_a_slice_and_touches_no_more_than_the_slack(data, draw):
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    target = np.full(5 + end - start + memory.SLACK + 3, 7, np.uint8)
    assert memory.copy(np.frombuffer(data, np.uint8), start, end, target, 5) == 5 + end - start
    assert target[5 : 5 + end - start].tobytes() == data[start:end]
    assert (target[:5] == 7).all()
    assert (target[-3:] == 7).all()


@settings(deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=3), st.booleans())
def test_same_is_equality(left, right, between, alike):
    right = left if alike else right[: len(left)].ljust(len(left))
    data = np.frombuffer(left + between + right, np.uint8)
    assert memory.same(data, 0, len(left) + len(between), len(left)) == (left == right)
