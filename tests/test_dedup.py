"""The rule of dedup: how signatures are cut into bands, and what a key is."""

import numpy as np
import pyarrow as pa
import pytest
from datasketch.lsh import _false_negative_probability
from hypothesis import given
from hypothesis import strategies as st

from marco_data.dedup import Banding, bands_and_rows, hex_of, keys_of
from marco_data.errors import RecipeError


def test_the_usual_setting_is_sixteen_bands_of_seven_rows():
    banding = bands_and_rows(0.80, 112)
    assert (banding.bands, banding.rows) == (16, 7)
    assert banding.probability(0.8) == pytest.approx(0.977, abs=5e-4)
    assert Banding(0.8, 14, 8).probability(0.8) == pytest.approx(0.924, abs=5e-4)
    assert banding.knee == pytest.approx(0.673, abs=5e-4)
    assert "16 bands x 7 rows" in str(banding)
    assert "0.80" in str(banding)
    assert "0.67" in str(banding)
    assert "0.977" in str(banding)


@given(st.floats(0.3, 0.99), st.integers(60, 400))
def test_bands_have_as_many_rows_as_still_find_a_pair_at_the_threshold(threshold, hashes):
    banding = bands_and_rows(threshold, hashes)
    assert banding.bands * banding.rows <= hashes
    assert banding.probability(threshold) >= 0.97
    for rows in range(banding.rows + 1, hashes + 1):
        assert Banding(threshold, hashes // rows, rows).probability(threshold) < 0.97


@pytest.mark.parametrize(("bands", "rows"), [(16, 7), (14, 8), (9, 13), (1, 4)])
def test_the_curve_is_that_of_datasketch(bands, rows):
    banding = Banding(0.8, bands, rows)
    steps = np.linspace(0.8, 1.0, 4001)
    missed = np.trapezoid([1 - banding.probability(s) for s in steps], steps)
    assert missed == pytest.approx(_false_negative_probability(0.8, bands, rows), abs=1e-7)


def test_too_few_hashes_are_an_error_that_says_how_many_suffice():
    with pytest.raises(RecipeError, match="give at least 12 hashes"):
        bands_and_rows(0.26, 8)
    assert bands_and_rows(0.26, 12).rows == 1


HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(st.lists(HEX), st.integers(0, 3))
def test_keys_keep_strings_and_their_order(strings, skip):
    column = pa.array(strings, pa.string())[skip:]
    keys = keys_of(column)
    assert keys.dtype == np.uint64
    assert hex_of(keys).equals(column)
    assert keys_of(pa.chunked_array([column, column], pa.string())).tolist() == keys.tolist() * 2
    assert [strings[skip:][i] for i in np.lexsort((keys[:, 1], keys[:, 0]))] == sorted(strings[skip:])


@pytest.mark.parametrize("bad", [["ab"], [None], ["g" * 32], ["0" * 32, None]])
def test_what_is_not_a_key_is_refused(bad):
    with pytest.raises(ValueError, match="hex"):
        keys_of(pa.array(bad, pa.string()))
