"""Mixing: every token is accounted for, and a stage's documents follow from hashes and targets alone."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marco_data.errors import RecipeError
from marco_data.mix import (
    HASH_END,
    Allocation,
    Interval,
    IntervalFinder,
    MixturePart,
    allocate,
    largest_remainder,
    parse_tokens,
    select_interval,
    selection_hashes,
    unimax,
)

B = 10**9

# Table: percent of a stage's tokens by part, and of its multilingual part by language, as the charts have them.
PARTS = {
    "nemotron_high": (20.54, 3.33, None, None),
    "nemotron_high_synthetic": (19.5, 23.33, 14.3, 4.77),
    "code": (3.42, 2.28, 1.22, 0.41),
    "stem": (12.32, 20.94, 11.22, 3.74),
    "wiki": (0.27, 0.18, 0.10, 0.03),
    "math": (10.79, 6.07, 3.25, 1.08),
    "academic": (0.41, 0.27, 0.15, 0.05),
    "synthetic": (1.8, 12.93, 6.93, 2.31),
    "instruction": (1.0, 0.67, 0.36, 0.12),
    "multilingual": (30.01, 30.0, 62.5, 87.5),
}
BUDGETS = {1: 2400 * B, 2: 1700 * B, 3: 500 * B, 4: 500 * B}
STAGE_3_LANGUAGES = (
    {"zho_Hans": 11.7, "arb_Arab": 2.8, "vie_Latn": 0.6}
    | dict.fromkeys(["pol_Latn", "jpn_Jpan", "nld_Latn", "tha_Thai", "rus_Cyrl", "kor_Hang"], 3.2)
    | dict.fromkeys(["por_Latn", "deu_Latn", "ita_Latn", "spa_Latn", "fra_Latn"], 1.7)
    | dict.fromkeys(["ukr_Cyrl", "ind_Latn", "heb_Hebr", "npi_Deva", "ben_Beng"], 1.5)
    | dict.fromkeys(["ron_Latn", "ces_Latn", "ell_Grek", "azj_Latn", "zsm_Latn"], 1.5)
    | {"hun_Latn": 1.3, "urd_Arab": 1.2, "kaz_Cyrl": 1.2, "tur_Latn": 1.2}
)
STAGE_3_NEW = {
    "ben_Beng",
    "ces_Latn",
    "urd_Arab",
    "kaz_Cyrl",
    "ell_Grek",
    "ron_Latn",
    "hun_Latn",
    "npi_Deva",
    "azj_Latn",
}
MARCO_TO_STAGE_2 = sorted(STAGE_3_LANGUAGES.keys() - STAGE_3_NEW)


def part(weight: float = 1, **fields: object) -> MixturePart:
    return MixturePart(weight=weight, **fields)


def marco(stage: int) -> dict[str, MixturePart]:
    mixture = {name: part(shares[stage - 1]) for name, shares in PARTS.items() if shares[stage - 1]}
    languages = {1: None, 2: None, 3: STAGE_3_LANGUAGES, 4: dict.fromkeys(STAGE_3_LANGUAGES, 3.2)}[stage]
    return mixture | {"multilingual": part(PARTS["multilingual"][stage - 1], languages=languages)}


# Twelve languages from which cases draw, so that codes are real ones.
CODES = sorted(STAGE_3_LANGUAGES)[:12]
SHARES = st.floats(0.01, 100, allow_nan=False)
LANGUAGES = st.none() | st.dictionaries(st.sampled_from(CODES), SHARES, min_size=1)
MIXTURE_PARTS = st.builds(
    MixturePart,
    weight=SHARES,
    languages=LANGUAGES,
    spill=st.sampled_from(["unimax", "none"]),
    max_epochs=st.sampled_from([1.0, 1.5, 2.0, 4.0]) | st.floats(1, 8),
)
MIXTURES = st.dictionaries(st.sampled_from(["web", "code", "stem", "qa"]), MIXTURE_PARTS, min_size=1)
BUDGET = st.integers(0, 10**13)


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[tuple[str, str], int], dict[str, MixturePart], int]:
    mixture = draw(MIXTURES)
    keys = st.tuples(st.sampled_from(CODES), st.sampled_from(sorted(mixture)))
    sizes = st.integers(0, 50) | st.integers(0, 10**13)
    return draw(st.dictionaries(keys, sizes)), mixture, draw(st.integers(0, 200) | BUDGET)


def targets(allocation: Allocation) -> dict[tuple[str, str], int]:
    return {key: share.target for key, share in allocation.by_key().items()}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("500B", 500 * B),
        ("1.5T", 1500 * B),
        ("10M", 10**7),
        ("2.5k", 2500),
        (" 1_000 ", 1000),
        (7, 7),
        (5e9, 5 * B),
        ("1e3", 1000),
    ],
)
def test_token_counts_are_read_as_people_write_them(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "B", "10X", "-1B", "0", "1.5", "0.0001K", "ten", "nan", "infB", "1 0", True])
def test_what_is_no_token_count_is_refused(text):
    with pytest.raises(RecipeError, match="is not a number of tokens"):
        parse_tokens(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": 0},
        {"weight": -1},
        {"weight": float("nan")},
        {"weight": 1, "languages": {}},
        {"weight": 1, "languages": {"ben_Beng": 0}},
        {"weight": 1, "languages": {"bn": 1, "ben_Beng": 2}},
        {"weight": 1, "max_epochs": 0.5},
        {"weight": 1, "sources": []},
        {"weight": 1, "wieght": 2},
    ],
)
def test_a_part_that_means_nothing_is_refused(fields):
    with pytest.raises(ValidationError):
        MixturePart(**fields)


def test_languages_of_a_part_may_be_written_short():
    assert part(languages={"bn": 1.5, "zh": 11.7}).languages == {"ben_Beng": 1.5, "zho_Hans": 11.7}


@given(
    st.integers(0, 10**15),
    st.dictionaries(st.text(max_size=3), st.fractions(min_value=Fraction(1, 99)), min_size=1),
)
def test_largest_remainder_sums_exactly_and_is_off_by_less_than_one(total, weights):
    parts = largest_remainder(total, weights)
    whole = sum(weights.values())
    assert sum(parts.values()) == total
    assert all(abs(parts[name] - total * weight / whole) < 1 for name, weight in weights.items())


@given(BUDGET, st.dictionaries(st.text(max_size=3), st.integers(0, 10**12)))
def test_unimax_spends_what_it_can_and_levels_what_is_not_capped(budget, caps):
    given_ = unimax(budget, caps)
    assert sum(given_.values()) == min(budget, sum(caps.values()))
    assert all(0 <= given_[name] <= cap for name, cap in caps.items())
    open_ = [given_[name] for name, cap in caps.items() if given_[name] < cap]
    level = min(open_, default=0)
    assert all(tokens - level <= 1 for tokens in open_)
    assert not open_ or all(tokens <= level + 1 for tokens in given_.values())


def test_unimax_is_the_rule_of_the_paper():
    assert unimax(100, {"en": 1000, "bn": 10, "ne": 5, "zh": 1000}) == {"ne": 5, "bn": 10, "en": 42, "zh": 43}


@given(cases())
def test_every_token_asked_for_is_given_or_missed(case):
    available, mixture, budget = case
    allocation = allocate(available, mixture, budget)
    assert sum(p.requested for p in allocation.parts) == budget
    assert sum(s.target for s in allocation.shares) <= budget
    for total in allocation.parts:
        shares = [s for s in allocation.shares if s.part == total.part]
        assert total.target == sum(s.target for s in shares)
        assert total.shortfall == total.requested - total.target >= 0
        if sum(s.requested for s in shares):
            assert total.requested == sum(s.requested for s in shares)
            assert total.shortfall == sum(s.shortfall for s in shares) - sum(s.spilled for s in shares)
    for share in allocation.shares:
        epochs = Fraction(repr(mixture[share.part].max_epochs))
        assert share.available == available.get((share.language, share.part), 0)
        assert 0 <= share.target == share.requested - share.shortfall + share.spilled
        assert share.target <= share.available * epochs
        assert share.shortfall == 0 or share.spilled == 0
        assert 1 <= share.epochs <= max(1, mixture[share.part].max_epochs)
    assert sum(s.weight for s in allocation.shares) == pytest.approx(1 if any(targets(allocation).values()) else 0)
    assert set(available) <= set(targets(allocation))


@given(cases())
def test_a_part_falls_short_only_when_its_languages_are_used_up(case):
    available, mixture, budget = case
    allocation = allocate(available, mixture, budget)
    for total in allocation.parts:
        wanted = mixture[total.part]
        shares = [s for s in allocation.shares if s.part == total.part and (s.requested or wanted.languages is None)]
        listed = wanted.languages is not None and wanted.spill == "none"
        if total.shortfall and not listed:
            assert all(s.target == int(s.available * Fraction(repr(wanted.max_epochs))) for s in shares)


@given(cases(), st.data())
def test_more_data_never_means_fewer_tokens(case, data):
    available, mixture, budget = case
    if not available:
        return
    key = data.draw(st.sampled_from(sorted(available)))
    more = available | {key: available[key] + data.draw(st.integers(1, 1000) | st.integers(1, 10**13))}
    before, after = allocate(available, mixture, budget), allocate(more, mixture, budget)
    assert targets(after)[key] >= targets(before)[key]
    for old, new in zip(before.parts, after.parts, strict=True):
        assert new.target >= old.target
        assert new == old or old.part == key[1] or new.target == old.target


@given(cases(), st.randoms())
def test_the_order_of_parts_and_languages_does_not_matter(case, random):
    available, mixture, budget = case

    def shuffled(mapping):
        return dict(random.sample(sorted(mapping.items()), len(mapping)))

    other = {
        name: wanted.model_copy(update={"languages": wanted.languages and shuffled(wanted.languages)})
        for name, wanted in sorted(mixture.items(), reverse=True)
    }
    assert allocate(shuffled(available), other, budget) == allocate(available, mixture, budget)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_the_scale_of_weights_does_not_matter(stage):
    available = {("eng_Latn", name): 3 * B for name in marco(stage)}
    per_mille = {name: part(float(f"{wanted.weight}e1")) for name, wanted in marco(stage).items()}
    percent = {name: part(wanted.weight) for name, wanted in marco(stage).items()}
    assert allocate(available, per_mille, 12_345_678_901) == allocate(available, percent, 12_345_678_901)


@given(cases())
def test_without_a_budget_every_listed_document_is_taken_once(case):
    available, mixture, _ = case
    allocation = allocate(available, mixture, None)
    for share in allocation.shares:
        listed = mixture[share.part].languages is None or share.language in mixture[share.part].languages
        assert share.target == share.requested == (share.available if listed else 0)
        assert share.epochs == 1
    assert all(total.shortfall == 0 for total in allocation.parts)


def test_a_language_that_is_not_listed_gets_nothing_and_is_shown():
    mixture = {"web": part(languages={"ben_Beng": 1})}
    allocation = allocate({("ben_Beng", "web"): 10, ("zho_Hans", "web"): 1000}, mixture, 30)
    assert targets(allocation) == {("ben_Beng", "web"): 30, ("zho_Hans", "web"): 0}
    assert allocation.by_key()["zho_Hans", "web"].available == 1000


def test_surplus_stays_in_its_part_and_goes_to_those_with_room():
    mixture = {
        "web": part(3, languages={"ben_Beng": 2, "zho_Hans": 1, "npi_Deva": 1}, max_epochs=2),
        "code": part(1, max_epochs=1),
    }
    available = {
        ("ben_Beng", "web"): 20,
        ("zho_Hans", "web"): 1000,
        ("npi_Deva", "web"): 40,
        ("eng_Latn", "code"): 70,
    }
    allocation = allocate(available, mixture, 400)
    shares = {key: (s.requested, s.target, s.shortfall, s.spilled) for key, s in allocation.by_key().items()}
    assert shares == {
        ("ben_Beng", "web"): (150, 40, 110, 0),
        ("npi_Deva", "web"): (75, 80, 0, 5),
        ("zho_Hans", "web"): (75, 180, 0, 105),
        ("eng_Latn", "code"): (100, 70, 30, 0),
    }
    assert {total.part: total.shortfall for total in allocation.parts} == {"web": 0, "code": 30}
    assert allocation.by_key()["ben_Beng", "web"].epochs == 2
    kept = {name: wanted.model_copy(update={"spill": "none"}) for name, wanted in mixture.items()}
    unspilled = allocate(available, kept, 400)
    assert targets(unspilled) == targets(allocation) | {("npi_Deva", "web"): 75, ("zho_Hans", "web"): 75}
    assert {total.part: total.shortfall for total in unspilled.parts} == {"web": 110, "code": 30}


def test_languages_that_are_not_built_leave_the_shares_to_the_others():
    mixture = {"web": part(languages={"ben_Beng": 1, "zho_Hans": 3})}
    available = {("ben_Beng", "web"): 1000, ("zho_Hans", "web"): 1000}
    allocation = allocate(available, mixture, 100, languages=["ben_Beng"])
    assert targets(allocation) == {("ben_Beng", "web"): 100}


def test_a_part_without_any_data_is_a_shortfall():
    allocation = allocate({("eng_Latn", "code"): 500}, {"code": part(1), "math": part(3)}, 400)
    assert [(p.part, p.requested, p.target, p.shortfall) for p in allocation.parts] == [
        ("code", 100, 100, 0),
        ("math", 300, 0, 300),
    ]


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_marcos_mixtures_are_met_where_there_is_enough(stage):
    mixture, budget = marco(stage), BUDGETS[stage]
    languages = MARCO_TO_STAGE_2 if stage < 3 else list(STAGE_3_LANGUAGES)
    available = {("eng_Latn", name): 3000 * B for name in mixture if name != "multilingual"}
    available |= {(code, "multilingual"): 600 * B for code in languages}
    allocation = allocate(available, mixture, budget)
    whole = sum(wanted.weight for wanted in mixture.values())
    assert sum(targets(allocation).values()) == budget
    for total in allocation.parts:
        assert total.weight == pytest.approx(mixture[total.part].weight / whole, abs=1 / budget)
        assert total.shortfall == 0
    assert {s.epochs for s in allocation.shares} == {1}


def test_stage_3_gives_each_language_its_share_and_small_ones_four_epochs():
    billions = {"npi_Deva": 1.6, "kaz_Cyrl": 0.9, "urd_Arab": 2.7, "zho_Hans": 500}
    available = {("eng_Latn", name): 100 * B for name in marco(3) if name != "multilingual"} | {
        (code, "multilingual"): int(billions.get(code, 50) * B) for code in STAGE_3_LANGUAGES
    }
    allocation = allocate(available, marco(3), BUDGETS[3])
    shares = {s.language: s for s in allocation.shares if s.part == "multilingual"}
    total = next(p for p in allocation.parts if p.part == "multilingual")
    unit = total.requested / sum(STAGE_3_LANGUAGES.values())
    assert shares["zho_Hans"].requested == pytest.approx(11.7 * unit, abs=1)
    assert shares["npi_Deva"].target == int(6.4 * B)
    assert shares["npi_Deva"].epochs == shares["kaz_Cyrl"].epochs == 4
    assert shares["urd_Arab"].shortfall == 0
    assert 2 < shares["urd_Arab"].epochs < 4
    assert shares["npi_Deva"].shortfall + shares["kaz_Cyrl"].shortfall == sum(s.spilled for s in shares.values()) > 0
    assert (total.shortfall, total.target) == (0, total.requested)


def test_stage_4_is_level_with_caps_for_small_pools():
    mixture = marco(4) | {"multilingual": part(87.5)}
    small = {"arb_Arab": 14.5, "azj_Latn": 13.5, "npi_Deva": 13, "kor_Hang": 8}
    available = {("eng_Latn", name): 100 * B for name in mixture if name != "multilingual"} | {
        (code, "multilingual"): int(small.get(code, 400) * B / 4) for code in STAGE_3_LANGUAGES
    }
    shares = {s.language: s.target for s in allocate(available, mixture, BUDGETS[4]).shares if s.language != "eng_Latn"}
    level = {tokens for code, tokens in shares.items() if code not in small}
    assert {code: shares[code] for code in small} == {code: int(size * B) for code, size in small.items()}
    assert max(level) - min(level) <= 1
    assert min(level) > 14.5 * B


# Selection

HASHES = st.lists(
    st.tuples(st.integers(0, 2**64 - 1) | st.integers(2**62, 2**62 + 5) | st.integers(0, 9), st.integers(1, 50)),
    max_size=40,
)


def blocks(documents: list[tuple[int, int]], size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    hashes = np.array([h for h, _ in documents], dtype=np.uint64)
    tokens = np.array([t for _, t in documents], dtype=np.int64)
    return [(hashes[i : i + size], tokens[i : i + size]) for i in range(0, len(documents), size)]


def by_sorting(documents: list[tuple[int, int]], start: int, target: int) -> Interval:
    """The same answer from all documents in order; those of one hash stand or fall together."""
    taken: list[int] = []
    for place in sorted({h for h, _ in documents if h >= start}):
        group = [t for h, t in documents if h == place]
        if sum(taken) + sum(group) > target:
            return Interval(start, place, len(taken), sum(taken))
        taken += group
    return Interval(start, HASH_END, len(taken), sum(taken))


def by_blocks(documents: list[tuple[int, int]], start: int, target: int, size: int) -> Interval:
    finders = [IntervalFinder(start), IntervalFinder(start)]
    for i, (hashes, tokens) in enumerate(blocks(documents, size)):
        finders[i % 2].add_block(hashes, tokens)
    finders[0].merge(finders[1])
    boundary = finders[0].aim(target)
    if not boundary.settled:
        for hashes, tokens in reversed(blocks(documents, size)):
            boundary.add_block(hashes, tokens)
    return boundary.interval()


@given(HASHES, st.integers(0, 2**64) | st.just(0), st.integers(0, 1500), st.integers(1, 10))
def test_two_passes_over_blocks_equal_sorting_everything(documents, start, target, size):
    assert by_blocks(documents, start, target, size) == by_sorting(documents, start, target)


@given(HASHES, st.lists(st.integers(0, 300), min_size=2, max_size=5))
def test_stages_that_follow_each_other_share_no_document(documents, stage_targets):
    (hashes, tokens) = blocks(documents, 1000)[0] if documents else blocks([(0, 1)], 1)[0]
    start, seen = 0, np.zeros(len(hashes), dtype=int)
    for target in stage_targets:
        interval = select_interval(hashes, tokens, start, target)
        inside = np.array([interval.lo <= int(h) < interval.hi for h in hashes])
        assert (int(inside.sum()), int(tokens[inside].sum())) == (interval.documents, interval.tokens)
        assert interval.tokens <= target or interval.hi == HASH_END
        seen += inside
        start = interval.hi
    assert seen.max(initial=0) <= 1


@given(HASHES, st.integers(0, 1000), st.integers(0, 1000))
def test_a_smaller_target_selects_the_beginning_of_a_larger_one(documents, one, other):
    low, high = sorted((one, other))
    small, large = by_sorting(documents, 0, low), by_blocks(documents, 0, high, 7)
    assert small.hi <= large.hi
    assert small.documents <= large.documents


def test_a_changed_language_share_moves_only_the_boundaries_of_its_part():
    rng = np.random.default_rng(3)
    keys = [(code, name) for code in CODES[:3] for name in ("web", "qa")]
    documents = {key: (rng.integers(0, 2**64, 3000, dtype=np.uint64), rng.integers(1, 900, 3000)) for key in keys}
    available = {key: int(tokens.sum()) for key, (_, tokens) in documents.items()}

    def boundaries(share: float) -> dict[tuple[str, str], int]:
        shares = dict.fromkeys(CODES[:3], 1.0)
        mixture = {"web": part(1, languages=shares | {CODES[0]: share}), "qa": part(1, languages=shares)}
        wanted = targets(allocate(available, mixture, 2_000_000))
        return {key: select_interval(*documents[key], 0, wanted[key]).hi for key in keys}

    before, after = boundaries(1.0), boundaries(1.5)
    assert {key for key in keys if before[key] != after[key]} == {key for key in keys if key[1] == "web"}
    assert after[CODES[0], "web"] > before[CODES[0], "web"]
    assert after[CODES[1], "web"] < before[CODES[1], "web"]


def test_a_large_selection_comes_within_one_document_of_its_target():
    rng = np.random.default_rng(4)
    hashes, tokens = rng.integers(0, 2**64, 200_000, dtype=np.uint64), rng.integers(1, 2000, 200_000)
    interval = select_interval(hashes, tokens, 2**60, 50_000_000)
    assert 50_000_000 - 2000 < interval.tokens <= 50_000_000


def test_selection_hashes_are_frozen_and_depend_on_the_family():
    ids = ["00" * 16, "ff" * 16]
    assert selection_hashes(ids, "sample").tolist() == [17441742467404339053, 7751225284482385411]
    assert selection_hashes(ids, "marco-mini").tolist() != selection_hashes(ids, "sample").tolist()
    assert selection_hashes([], "sample").dtype == np.uint64
