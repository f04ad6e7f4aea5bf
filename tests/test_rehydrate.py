"""Rehydration weights against tables worked out by hand, and properties that hold for any table."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.nodes.cluster_sizes import judges, table_of, tally
from marco_data.rehydrate import Rehydrate, Sizes, add_tallies, rehydration_weights, weight_of

ALONE = 1


def weights(tally: dict[int, tuple[int, int]], most: int, documents: int = ALONE) -> dict[int, int]:
    found = rehydration_weights({"swh_Latn": tally}, Rehydrate(max=most, documents=documents))["swh_Latn"]
    return {size: weight_of(found, size) for size in tally}


def test_a_table_of_one_size_by_hand():
    assert weights({1: (100, 40)}, 10) == {1: 1}


def test_two_sizes_by_hand():
    # The whole: 60 of 200, 0.3. Size 1 at 0.5: 1. Size 2 at 0.1, the least: 10. Both see both: the mean is 5.5, 6.
    assert weights({1: (100, 50), 2: (100, 10)}, 10) == {1: 6, 2: 6}


def test_seven_sizes_by_hand():
    # 100 each; dropped 60, 50, 40, 30, 20, 10, 0: the whole is 210 of 700, 0.3.
    # Raw, max 7: 1 + 6 x (0.3 - rate) / 0.3: 1, 1, 1, 1, 3, 5, 7.
    # Means of five: (1+1+1)/3, (1+1+1+1)/4, 7/5 = 1.4, 11/5 = 2.2, 17/5 = 3.4, (1+3+5+7)/4 = 4, (3+5+7)/3 = 5.
    tally = {size: (100, 70 - 10 * size) for size in range(1, 8)}
    assert weights(tally, 7) == {1: 1, 2: 1, 3: 1, 4: 2, 5: 3, 6: 4, 7: 5}


def test_sizes_of_many_documents_count_for_more_in_the_whole():
    # The whole: 910 of 1000 of size 1 and 0 of 10: 0.901; size 2 is the least: 4; means of both: 2.5, which is 3.
    assert weights({1: (1000, 910), 2: (10, 0)}, 4) == {1: 3, 2: 3}


def test_a_half_is_rounded_up():
    # Raw 1 and 2, mean 1.5.
    assert weights({1: (10, 9), 2: (10, 1)}, 2) == {1: 2, 2: 2}


def test_rates_that_are_alike_repeat_nothing():
    assert weights({1: (100, 30), 2: (50, 15), 9: (10, 3)}, 10) == {1: 1, 2: 1, 9: 1}


def test_sizes_with_few_documents_are_taken_together():
    found = rehydration_weights(
        {"swh_Latn": {1: (500, 100), 2: (60, 6), 3: (40, 2), 5: (90, 1), 8: (20, 0), 90: (10, 9)}},
        Rehydrate(max=3, documents=100),
    )["swh_Latn"]
    told = [(s.first, s.last, s.documents, s.dropped) for s in found]
    assert told == [(1, 1, 500, 100), (2, 3, 100, 8), (5, 90, 120, 10)], "90 alone has too few"


def test_a_size_that_was_not_seen_has_the_weight_of_the_nearest_below():
    sizes = (Sizes(1, 1, 9, 9, 1), Sizes(3, 8, 9, 1, 4), Sizes(20, 20, 9, 0, 7))
    assert [weight_of(sizes, size) for size in (1, 2, 3, 8, 12, 20, 500)] == [1, 1, 4, 4, 4, 7, 7]
    assert weight_of((), 5) == 1


TALLIES = st.dictionaries(
    st.integers(1, 200),
    st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    min_size=1,
    max_size=40,
)


@given(TALLIES, st.integers(1, 12), st.integers(1, 60))
def test_weights_lie_between_one_and_the_most_and_every_document_is_counted_once(tally, most, documents):
    sizes = rehydration_weights({"x": tally}, Rehydrate(max=most, documents=documents))["x"]
    assert all(1 <= s.weight <= most for s in sizes)
    assert sum(s.documents for s in sizes) == sum(n for n, _ in tally.values())
    assert sum(s.dropped for s in sizes) == sum(gone for _, gone in tally.values())
    ends = [end for s in sizes for end in (s.first, s.last)]
    assert ends == sorted(ends)
    assert len(sizes) == 1 or all(s.documents >= documents for s in sizes)


@given(TALLIES, st.integers(1, 12), st.integers(2, 9))
def test_weights_depend_on_shares_and_not_on_how_much_there_is(tally, most, times):
    more = {size: (n * times, gone * times) for size, (n, gone) in tally.items()}
    assert weights(tally, most) == weights(more, most)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b"]), TALLIES), max_size=5), st.randoms())
def test_tables_add_up_in_any_order(tables, order):
    total = add_tallies(tables)
    shuffled = list(tables)
    order.shuffle(shuffled)
    assert add_tallies(shuffled) == total
    whole = sum(n for table in tables for tally in table.values() for n, _ in tally.values())
    assert sum(n for tally in total.values() for n, _ in tally.values()) == whole


@pytest.mark.parametrize("most", [0, -1, 101])
def test_a_number_of_repetitions_that_makes_no_sense_is_refused(most: int):
    with pytest.raises(ValueError, match="max"):
        Rehydrate(max=most)


def test_documents_are_tallied_by_what_judged_them_and_how_many_they_were():
    rows = [
        # language, failed, reason, cluster_size
        ("swh_Latn", None, None, None),
        ("swh_Latn", None, None, 3),
        ("swh_Latn", None, "quality/too_few_words", 3),
        ("swh_Latn", None, "my_step/x", 3),
        ("swh_Latn", None, "quality_of_mine/x", 3),  # not a step that is named
        ("swh_Latn", None, "select_language/low_score", 3),
        ("swh_Latn", "read/truncated", None, None),
        ("zul_Latn", None, "quality/too_few_words", None),
    ]
    language, failed, reason, size = map(list, zip(*rows, strict=True))
    verdicts = pa.table(
        {"language": language, "failed": pa.array(failed, pa.string()), "reason": pa.array(reason, pa.string())}
    )
    sidecar = pa.table({"cluster_size": pa.array(size, pa.int32())})
    found = tally(verdicts, sidecar, ("quality", "my_step"))
    assert found == {"swh_Latn": {1: (1, 0), 3: (3, 2)}, "zul_Latn": {1: (1, 1)}}
    facts = {"sizes": {code: [[s, *n] for s, n in sizes.items()] for code, sizes in found.items()}}
    assert table_of([facts, facts]) == {"swh_Latn": {1: (2, 0), 3: (6, 4)}, "zul_Latn": {1: (2, 2)}}


def test_the_steps_that_judge_are_those_after_the_language_is_known():
    names = ["url_block_list", "select_language", "quality", "my_step"]
    assert judges(names) == ("quality", "my_step")
