"""Shortfalls and their remedies: applied to the mixture, each makes the shortfall go away."""

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from marco_data.mix import MixturePart, allocate
from marco_data.plan_short import LEAST, shortfalls

CODES = ("eng_Latn", "swh_Latn", "tha_Thai", "khm_Khmr")
PARTS = ("books", "web")


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, MixturePart]:
    return {
        name: MixturePart(
            weight=draw(st.integers(1, 50)),
            languages=draw(
                st.one_of(st.none(), st.dictionaries(st.sampled_from(CODES), st.integers(1, 30).map(float), min_size=1))
            ),
            spill=draw(st.sampled_from(["unimax", "none"])),
            max_epochs=draw(st.sampled_from([1.0, 1.5, 4.0])),
        )
        for name in PARTS
    }


AVAILABLE = st.dictionaries(
    st.tuples(st.sampled_from(CODES), st.sampled_from(PARTS)), st.integers(0, 10**9), min_size=1
)
BUDGETS = st.integers(10**4, 10**11)


def exact(available: dict[tuple[str, str], int]) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {key: (n, n, n) for key, n in available.items()}


@settings(max_examples=200, deadline=None)
@given(AVAILABLE, mixtures(), BUDGETS)
def test_every_remedy_fills_the_share_it_is_for(
    available: dict[tuple[str, str], int], mixture: dict[str, MixturePart], budget: int
):
    _, short, parts = shortfalls(exact(available), mixture, budget, CODES)
    for one in short:
        key, part = (one.language, one.part), mixture[one.part]
        assert allocate(available, mixture, budget, languages=CODES).by_key()[key].shortfall == one.shortfall
        if one.epochs is not None:
            longer = {**mixture, one.part: part.model_copy(update={"max_epochs": one.epochs})}
            assert allocate(available, longer, budget, languages=CODES).by_key()[key].shortfall == 0
        if part.languages is not None:  # UniMax gives what is new to all
            written = {**available, key: available.get(key, 0) + one.synthesis}
            assert allocate(written, mixture, budget, languages=CODES).by_key()[key].shortfall == 0
        if one.weight is not None and part.languages is not None:
            lower = part.model_copy(update={"languages": {**part.languages, one.language: one.weight}})
            assert one.weight < part.languages[one.language]
            changed = {**mixture, one.part: lower}
            assert allocate(available, changed, budget, languages=CODES).by_key()[key].shortfall == 0
    for row in parts:
        if row.weight is not None:
            assert row.weight < mixture[row.part].weight
            changed = {**mixture, row.part: mixture[row.part].model_copy(update={"weight": row.weight})}
            after = next(p for p in allocate(available, changed, budget, languages=CODES).parts if p.part == row.part)
            assert after.shortfall <= LEAST * after.requested


# Most drawn mixtures have a part that lists no languages, and some seeds draw fifty of them first.
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(AVAILABLE, mixtures(), BUDGETS, st.integers(2, 5))
def test_more_tokens_never_leave_a_listed_language_shorter(
    available: dict[tuple[str, str], int], mixture: dict[str, MixturePart], budget: int, times: int
):
    assume(all(part.languages is not None for part in mixture.values()))
    before = allocate(available, mixture, budget, languages=CODES).by_key()
    after = allocate({key: n * times for key, n in available.items()}, mixture, budget, languages=CODES).by_key()
    assert all(after[key].shortfall <= share.shortfall for key, share in before.items())


@settings(max_examples=100, deadline=None)
@given(AVAILABLE, mixtures(), BUDGETS)
def test_the_least_there_may_be_leaves_the_most_missing(
    available: dict[tuple[str, str], int], mixture: dict[str, MixturePart], budget: int
):
    ranged = {key: (n, n // 2, 2 * n) for key, n in available.items()}
    _, short, _ = shortfalls(ranged, mixture, budget, CODES)
    assert all(one.low <= one.shortfall <= one.high for one in short)


def test_nothing_is_short_without_a_budget():
    mixture = {"web": MixturePart(weight=1)}
    allocation, short, parts = shortfalls({("eng_Latn", "web"): (5, 4, 6)}, mixture, None, CODES)
    assert (allocation.shares[0].target, short, parts) == (5, [], [])


def test_a_language_that_has_nothing_can_only_be_written():
    mixture = {"web": MixturePart(weight=1, languages={"eng_Latn": 1, "khm_Khmr": 1}, max_epochs=2)}
    _, short, _ = shortfalls({("eng_Latn", "web"): (1000, 1000, 1000)}, mixture, 1000, CODES)
    (one,) = short
    assert (one.language, one.epochs, one.weight, one.synthesis) == ("khm_Khmr", None, None, 251)
