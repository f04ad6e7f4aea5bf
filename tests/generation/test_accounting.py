"""The books of generation: every wanted document is in them once, and nothing unknown is written as nothing."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.generation.accounting import (
    Price,
    RequestCount,
    add_requests,
    cost_of,
    requests_by,
    requests_object,
    requests_table,
    unbalanced_requests,
)

QWEN = "Qwen/Qwen3-30B-A3B-Instruct-2507@0123abcd"


def row(accepted=0, rejected=None, **more):
    rejected = rejected or {}
    fields = {"maker": "qa", "language": "ko", "prompt": "diverse_qa@1", "model": QWEN, **more}
    return RequestCount(requested=accepted + sum(rejected.values()), accepted=accepted, rejected=rejected, **fields)


numbers = st.integers(0, 1000)
rows = st.lists(
    st.builds(
        row,
        accepted=numbers,
        rejected=st.dictionaries(st.sampled_from(["truncated", "refusal", "not_recorded"]), numbers),
        maker=st.sampled_from(["rephrase", "qa"]),
        language=st.sampled_from(["ko", "th"]),
        accepted_tokens=numbers,
        tokens_out=numbers,
        gpu_seconds=st.floats(0, 1e6),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(rows, st.randoms())
def test_sums_do_not_depend_on_the_order_of_adding(counts, random):
    shuffled = list(counts)
    random.shuffle(shuffled)
    assert add_requests(shuffled) == add_requests(counts)


@settings(deadline=None)
@given(rows)
def test_every_sum_of_the_object_is_a_sum_over_the_rows(counts):
    sums = requests_object(counts)
    assert set(sums) == {count.maker for count in counts}
    for maker, entry in sums.items():
        own = [count for count in counts if count.maker == maker]
        assert entry["requested"] == sum(count.requested for count in own)
        assert entry["requested"] == entry["accepted"] + sum(entry["rejected"].values())
        assert 0 not in entry["rejected"].values()


@settings(deadline=None)
@given(rows)
def test_rows_survive_a_record(counts):
    assert [RequestCount.from_row(json.loads(json.dumps(count.to_row()))) for count in counts] == counts


@settings(deadline=None)
@given(rows, st.integers(1, 9))
def test_books_that_lose_a_document_are_found(counts, lost):
    assert unbalanced_requests(counts) == ()
    short = replace(row(accepted=9, language="sw"), accepted=9 - lost)
    assert [(found.language, found.unexplained) for found in unbalanced_requests([*counts, short])] == [("sw", lost)]


def test_what_the_requests_object_looks_like():
    counts = [
        row(accepted=3, rejected={"truncated": 1, "refusal": 2}),
        row(accepted=1, rejected={"truncated": 4}, language="th"),
        row(accepted=5, maker="stem"),
    ]
    assert requests_object(counts) == {
        "qa": {"requested": 11, "accepted": 4, "rejected": {"refusal": 2, "truncated": 5}},
        "stem": {"requested": 5, "accepted": 5, "rejected": {}},
    }


def test_generated_is_what_a_model_wrote_something_for():
    count = row(accepted=3, rejected={"not_recorded": 4, "prompt_too_long": 1, "refused_by_server": 2, "truncated": 5})
    assert (count.requested, count.generated) == (15, 8)


BY_TOKENS, BY_HOURS = Price(input=0.5, output=2.0), Price(gpu_hour=3.0)


@pytest.mark.parametrize(
    ("prices", "gpu_seconds", "cost"),
    [
        ({QWEN: BY_TOKENS}, 0.0, 0.5 * 3 + 2.0),
        ({QWEN.rpartition("@")[0]: BY_TOKENS}, 0.0, 0.5 * 3 + 2.0),
        ({QWEN: BY_HOURS}, 7200.0, 6.0),
        ({QWEN: Price(input=0.5, output=2.0, gpu_hour=3.0)}, 7200.0, 3.5),
        ({QWEN: Price(input=0.5)}, 7200.0, None),  # half a price is none
        ({QWEN: BY_HOURS}, 0.0, None),  # answers without an engine's time: not for nothing, unknown
        ({}, 7200.0, None),
        ({"another": BY_HOURS}, 7200.0, None),
    ],
)
def test_cost_is_by_tokens_or_by_hours_or_unknown(prices, gpu_seconds, cost):
    assert cost_of(row(tokens_in=3_000_000, tokens_out=1_000_000, gpu_seconds=gpu_seconds), prices) == cost


def test_rows_by_language_and_prompt_say_speed_and_cost_or_that_they_are_unknown():
    timed = row(accepted=2, tokens_out=9000, gpu_seconds=3.0, accepted_tokens=700)
    untimed = row(accepted=1, prompt="diverse_qa@2", tokens_out=100)
    by = requests_by([untimed, timed], {QWEN: BY_HOURS})
    assert [(r["prompt"], r["tokens_a_second"], r["cost"]) for r in by] == [
        ("diverse_qa@1", 3000.0, 0.0025),
        ("diverse_qa@2", None, None),
    ]
    assert by[0]["accepted_tokens"] == 700


def test_the_table_has_a_line_for_each_row_and_leaves_a_sum_it_does_not_know_empty():
    known = row(accepted=3, rejected={"refusal": 1, "truncated": 2}, tokens_out=10_800, gpu_seconds=3600.0)
    unknown = row(accepted=1, maker="rephrase", tokens_out=100)
    header, lines = requests_table([known, unknown], {QWEN: BY_HOURS})
    cells = [dict(zip(header, line, strict=True)) for line in lines]
    assert [cell["maker"] for cell in cells] == ["qa", "rephrase", "all"]
    assert [cell["cost $"] for cell in cells] == ["3.00", "", ""]
    assert [cell["tokens/s"] for cell in cells] == ["3", "", ""]
    assert [cell["rejected"] for cell in cells] == ["truncated 2, refusal 1", "", "truncated 2, refusal 1"]
    assert [cell["%"] for cell in cells] == ["50.0%", "100.0%", "57.1%"]
