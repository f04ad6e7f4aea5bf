"""Orders to try again: what they name, and that they touch nothing else."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.generation.retries import (
    FOLDER,
    Order,
    attempts_among,
    attempts_digest,
    give_order,
    load_attempts,
    make_order,
)
from marco_data.storage import Storage, write_parquet

SCHEMA = pa.schema(
    [
        ("request", pa.string()),
        ("language", pa.string()),
        ("reason", pa.string()),
        ("attempt", pa.int32()),
        ("text", pa.string()),
    ]
)


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


def dead_letters(storage, name, *rows):
    columns = zip(*((*row, "what was written") for row in rows), strict=True)
    table = pa.table([list(column) for column in columns], schema=SCHEMA)
    return write_parquet(storage, name, [table], SCHEMA).path


@pytest.fixture
def rejected(storage):
    first = [("a", "ko", "refusal", 0), ("b", "th", "refusal", 0), ("c", "ko", "truncated", 0)]
    second = [("d", "ko", "refusal", 2), ("e", "ko", "not_recorded", 0)]
    return {
        "rephrase": [dead_letters(storage, "one", *first), dead_letters(storage, "two", *second)],
        "qa": [dead_letters(storage, "three", ("f", "ko", "refusal", 0))],
    }


def test_an_order_names_the_attempt_after_the_one_that_failed(storage, rejected):
    order = make_order(storage, rejected, reasons=["refusal"], languages=["ko"])
    assert order.entries == {"rephrase": {"a": 1, "d": 3}, "qa": {"f": 1}}
    assert order.requests == 3
    assert make_order(storage, rejected, reasons=["refusal"]).entries["rephrase"] == {"a": 1, "b": 1, "d": 3}


def test_the_same_order_twice_is_one_file_and_another_after_another_failure(storage, rejected):
    order = make_order(storage, rejected, reasons=["refusal"], languages=["th"])
    assert give_order(storage, order)
    assert not give_order(storage, make_order(storage, rejected, reasons=["refusal"], languages=["th"]))
    assert load_attempts(storage) == {"b": 1}
    again = {"rephrase": [dead_letters(storage, "four", ("b", "th", "refusal", 1))]}
    assert give_order(storage, make_order(storage, again, reasons=["refusal"], languages=["th"]))
    assert len(storage.names(FOLDER)) == 2
    assert load_attempts(storage) == {"b": 2}


attempts_of = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9))


@settings(deadline=None)  # it writes files
@given(st.lists(attempts_of, max_size=5))
def test_of_several_orders_the_highest_attempt_counts(tmp_path_factory, orders):
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    for attempts in orders:
        give_order(storage, Order(reasons=("refusal",), languages=(), entries={"qa": attempts}))
    highest = {}
    for attempts in orders:
        highest |= {request: max(n, highest.get(request, 0)) for request, n in attempts.items()}
    assert load_attempts(storage) == highest


@given(attempts_of, attempts_of, st.sets(st.sampled_from("abcdef")))
def test_a_shard_gets_a_new_digest_only_from_orders_that_concern_it(before, after, shard):
    old, new = (attempts_among(attempts, sorted(shard)) for attempts in (before, after))
    assert (attempts_digest(old) == attempts_digest(new)) == (old == new)
    assert bool(attempts_digest(new)) == any(request in after for request in shard)


def test_a_root_without_orders_tries_nothing_again(storage):
    assert load_attempts(storage) == {}
    assert attempts_digest({}) == ""


@pytest.mark.parametrize(
    ("reasons", "languages", "message"),
    [
        (["refusals"], None, "nothing was rejected as `refusals`\n\nhint: did you mean `refusal`?"),
        (["refusal", "repetition"], None, "rejected in all languages: not_recorded 1, refusal 4, truncated 1"),
        (["truncated"], ["th"], "nothing was rejected as `truncated` in th"),
        (["not_recorded"], None, "--pools"),
        (["prompt_too_long"], None, "`context`"),
    ],
)
def test_an_order_that_would_do_nothing_says_what_would(storage, rejected, reasons, languages, message):
    with pytest.raises(RecipeError) as error:
        make_order(storage, rejected, reasons=reasons, languages=languages)
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b'{"entries": {"qa": {"a": 0}}, "reasons": [], "languages": []}'])
def test_a_file_that_is_no_order_is_named(storage, content):
    storage.create(f"{FOLDER}/mine.json", content)
    with pytest.raises(RecipeError, match=r"retries/mine\.json"):
        load_attempts(storage)


def test_no_file_of_dead_letters_is_no_order(storage):
    with pytest.raises(RecipeError, match="rejected in all languages: none"):
        make_order(storage, {}, reasons=["refusal"])
