"""Rounds of topping up: in order, enough and not much more, within limits, and for ever the same."""

from dataclasses import replace
from fractions import Fraction

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.generation.rounds import (
    GROWTH,
    LAST,
    MAX_COST,
    MAX_GPU_HOURS,
    NO_YIELD,
    NO_YIELD_AFTER,
    PILOT,
    SEEDS,
    SPACE,
    TARGET,
    Demand,
    Interval,
    Result,
    SpendingLimits,
    next_round,
)

NO_LIMITS = SpendingLimits()


def place(name):
    return xxhash.xxh3_64_intdigest(name.encode()) >> 32


class World:
    """Seeds at their places; asking about one gives `tokens(language, place)`, for `cost` dollars and a GPU-second."""

    def __init__(self, supplies, tokens, cost=0.01):
        self.places = {language: sorted(place(f"{language}{n}") for n in range(k)) for language, k in supplies.items()}
        self.tokens = tokens
        self.cost = cost

    def ask(self, language, interval):
        asked = [at for at in self.places[language] if at in interval]
        accepted = sum(self.tokens(language, at) for at in asked)
        return Result(interval, len(asked), accepted, gpu_seconds=1.0 * len(asked), cost=self.cost * len(asked))

    def run(self, demands, limits=NO_LIMITS, finished=()):
        """All rounds until everything has ended."""
        finished = list(finished)
        while (following := next_round(demands, finished, limits)).intervals:
            assert following.number == len(finished) + 1
            assert len(finished) < 3 * LAST
            finished.append({key: self.ask(key, interval) for key, interval in following.intervals.items()})
        return finished, following.ended

    def demands(self, target=None, share=Fraction(1)):
        return {language: Demand(len(places), target, share) for language, places in self.places.items()}


def total(finished, field, language=None):
    return sum(getattr(r, field) for results in finished for k, r in results.items() if language in (None, k))


def yields(salt, share, tokens):
    """A seed gives `tokens` or nothing, decided by its place."""
    return lambda language, at: tokens * (place(f"{salt} {language} {at}") < share * SPACE)


worlds = st.builds(
    lambda supplies, salt, share, tokens: World(supplies, yields(salt, share, tokens)),
    st.dictionaries(st.sampled_from(["ko", "th", "sw"]), st.integers(0, 3000), min_size=1),
    st.integers(),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.integers(1, 3000),
)


@settings(max_examples=150, deadline=None)
@given(worlds, st.none() | st.integers(1, 200_000), st.sampled_from([Fraction(1), Fraction(1, 3)]))
def test_a_language_ends_in_few_rounds_that_follow_on_each_other_with_its_target_or_without_seeds(world, target, share):
    finished, ended = world.run(world.demands(target, share))
    assert len(finished) <= LAST
    assert set(ended) == set(world.places)
    for language, reason in ended.items():
        intervals = [results[language].interval for results in finished if language in results]
        assert [i.lo for i in intervals] == [0, *(i.hi for i in intervals)][: len(intervals)]
        tokens, requested = (total(finished, field, language) for field in ("accepted_tokens", "requested"))
        if reason == TARGET:
            assert tokens >= target
        elif reason == SEEDS:
            assert requested == sum(at < int(SPACE * share) for at in world.places[language])
            assert target is None or tokens < target
        else:
            assert (reason, tokens) == (NO_YIELD, 0)
            assert requested >= NO_YIELD_AFTER


@settings(max_examples=100, deadline=None)
@given(worlds, st.integers(1, 100_000), st.integers(1, 100_000))
def test_a_higher_target_adds_rounds_and_changes_none(world, target, more):
    finished, _ = world.run(world.demands(target))
    again, _ = world.run(world.demands(target + more), finished=finished)
    assert again[: len(finished)] == finished
    fresh, _ = world.run(world.demands(target))
    assert fresh == finished  # and nothing but the inputs decides


@settings(max_examples=100, deadline=None)
@given(worlds, st.integers(1, 100_000), st.integers(1, 100_000), st.integers(0, 4))
def test_for_the_same_past_a_higher_target_asks_no_less(world, target, more, rounds):
    finished = world.run(world.demands(target))[0][:rounds]
    low, high = (next_round(world.demands(t), finished, NO_LIMITS) for t in (target, target + more))
    for language, interval in low.intervals.items():
        assert high.intervals[language].lo == interval.lo
        assert high.intervals[language].hi >= interval.hi


@settings(max_examples=100, deadline=None)
@given(worlds, st.none() | st.integers(1, 200_000), st.floats(0, 30), st.floats(0, 2))
def test_limits_stop_in_few_rounds_and_are_kept_once_a_pilot_has_measured(world, target, dollars, hours):
    finished, ended = world.run(world.demands(target), SpendingLimits(max_cost=dollars, max_gpu_hours=hours))
    assert len(finished) <= LAST
    pilots = sum(min(PILOT * 2, len(places)) for places in world.places.values())  # of 64 wanted, by chance more
    # Intervals hold more or fewer seeds than wanted: by chance, and less so the more they hold.
    assert total(finished, "cost") <= max(dollars * 1.15, pilots * world.cost * 1.15)
    assert total(finished, "gpu_seconds") <= max(hours * 3600 * 1.15, pilots * 1.15)
    for reason in ended.values():
        if reason == MAX_COST:
            assert total(finished, "cost") >= dollars * 0.8
        if reason == MAX_GPU_HOURS:
            assert total(finished, "gpu_seconds") >= hours * 3600 * 0.8


def test_the_pilot_measures_and_the_second_round_is_sized_by_it():
    world = World({"ko": 20_000}, yields("", 0.25, 100))
    finished, ended = world.run(world.demands(target=100_000))
    assert ended == {"ko": TARGET}
    assert 40 < finished[0]["ko"].requested < 90
    assert len(finished) <= 3
    assert 100_000 <= total(finished, "accepted_tokens") < 125_000


def test_a_language_that_nothing_is_accepted_of_is_given_up_and_the_others_go_on():
    world = World({"ko": 5000, "sw": 5000}, lambda language, at: 50 * (language == "ko"))
    finished, ended = world.run(world.demands(target=100_000))
    assert ended == {"ko": TARGET, "sw": NO_YIELD}
    assert NO_YIELD_AFTER <= total(finished, "requested", "sw") < 2 * NO_YIELD_AFTER


def test_a_raised_limit_goes_on_where_the_old_one_stopped():
    world = World({"ko": 5000}, yields("", 0.5, 100))
    finished, ended = world.run(world.demands(), SpendingLimits(max_cost=10))
    assert ended == {"ko": MAX_COST}
    again, ended = world.run(world.demands(), NO_LIMITS, finished)
    assert again[: len(finished)] == finished
    assert ended == {"ko": SEEDS}
    assert total(again, "requested") == 5000


def test_a_limit_of_nothing_asks_nothing():
    world = World({"ko": 5000}, yields("", 0.5, 100))
    assert world.run(world.demands(1000), SpendingLimits(max_gpu_hours=0)) == ([], {"ko": MAX_GPU_HOURS})


def test_all_seeds_once_is_one_round_without_a_pilot():
    world = World({"ko": 5000, "th": 300}, yields("", 0.5, 100))
    first = next_round(world.demands(), [], NO_LIMITS)
    assert first.intervals == {"ko": Interval(0, SPACE), "th": Interval(0, SPACE)}


def test_cost_that_nobody_knows_cannot_be_limited():
    demands = {"ko": Demand(5000, 10_000)}
    pilot = {"ko": Result(Interval(0, 10), 64, 50, cost=None)}
    with pytest.raises(RecipeError, match="have no price"):
        next_round(demands, [pilot], SpendingLimits(max_cost=1))
    assert next_round(demands, [pilot], SpendingLimits(max_gpu_hours=1)).intervals


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_a_limit_is_an_amount(amount):
    with pytest.raises(RecipeError, match="--max-gpu-hours"):
        SpendingLimits(max_gpu_hours=amount)


def test_a_language_added_later_starts_with_a_pilot_of_its_own():
    world = World({"ko": 5000, "th": 5000}, yields("", 0.5, 100))
    demands = world.demands(50_000)
    finished, _ = world.run({"ko": demands["ko"]})
    again, ended = world.run(demands, finished=finished)
    assert again[: len(finished)] == finished
    assert ended == {"ko": TARGET, "th": TARGET}
    assert total(again[: len(finished) + 1], "requested", "th") < 120


def test_the_pilot_is_the_same_whatever_is_wanted():
    world = World({"ko": 50_000}, yields("", 0.5, 100))
    wanted = [world.demands(target) for target in (1, 10_000, 10**9)]
    limits = [NO_LIMITS, SpendingLimits(max_cost=1), SpendingLimits(max_gpu_hours=1000)]
    assert len({next_round(demands, [], limit).intervals["ko"] for demands in wanted for limit in limits}) == 1


def test_no_round_jumps_far_beyond_what_was_measured():
    world = World({"ko": 50_000}, yields("", 0.5, 100))
    finished, _ = world.run(world.demands(10**9))
    asked = [results["ko"].requested for results in finished]
    assert len(asked) > 2
    for number in range(1, len(asked)):
        assert asked[number] <= sum(asked[:number]) * GROWTH * 1.1


def test_the_last_round_takes_all_that_is_left():
    demand = Demand(5000, 10**9)
    finished = [{"ko": Result(Interval(n * 1000, n * 1000 + 1000), 10, 1)} for n in range(LAST - 1)]
    assert next_round({"ko": demand}, finished, NO_LIMITS).intervals["ko"].hi == SPACE
    assert next_round({"ko": demand}, finished[:-1], NO_LIMITS).intervals["ko"].hi < SPACE


def test_a_pilot_is_as_large_of_a_share_of_the_seeds():
    world = World({"ko": 20_000}, yields("", 0.5, 100))
    pilot = next_round(world.demands(10**6, Fraction(1, 4)), [], NO_LIMITS).intervals["ko"]
    assert 40 < world.ask("ko", pilot).requested < 90


def test_what_is_hardly_anything_of_a_limit_is_not_spent():
    spent = {"ko": Result(Interval(0, 1000), 100, 100, cost=9.81)}
    demand = {"ko": Demand(5000, 10**6)}
    assert next_round(demand, [spent], SpendingLimits(max_cost=10)).ended == {"ko": MAX_COST}
    assert next_round(demand, [spent], SpendingLimits(max_cost=11)).intervals


def test_a_pilot_fits_in_what_is_left_where_other_languages_have_shown_what_it_costs():
    spent = {"ko": Result(Interval(0, 1000), 100, 10**6, cost=10.0)}
    demands = {"ko": Demand(5000, 10**6), "th": Demand(5000, 10**6)}
    following = next_round(demands, [spent], SpendingLimits(max_cost=11))
    assert following.ended == {"ko": TARGET}
    seeds = following.intervals["th"].hi * 5000 / SPACE
    assert 8 < seeds < 10  # at 0.10 dollars each, 9 and a margin are a dollar


def test_a_gap_between_rounds_is_an_error_of_the_caller():
    demand = Demand(5000, 10_000)
    result = Result(Interval(0, 10), 64, 50)
    with pytest.raises(AssertionError):
        next_round({"ko": demand}, [{"ko": replace(result, interval=Interval(5, 10))}], NO_LIMITS)
