"""The arithmetic of the ledger, for counts of any shape: rows add up, and so do their sums."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.ledger_rows import ANY, ASSUMED, Amount, LedgerRow, Material, fertilities, rows_of, sum_rows
from marco_data.mix import MixturePart, allocate
from marco_data.nodes.tokenize import TOKENIZED
from marco_data.published_mixture import published
from marco_data.recipe import load_recipe
from marco_data.records import DROPPED, FAILED, GENERATED, KEPT, READ, REPLACED, Count
from marco_data.stage_ledger import StageLedger

LANGUAGES = ("eng_Latn", "rus_Cyrl", "srp_Cyrl")
SOURCES = {"crawl": "web", "books": "books", "letters": "books", "rewritten": "synthetic"}
MIXTURE: dict[str, Any] = {
    "web": {"weight": 3, "sources": ["crawl"]},
    "books": {"weight": 1, "sources": ["books", "letters"], "languages": {"eng_Latn": 2, "srp_Cyrl": 1}},
    "synthetic": {"weight": 1, "sources": ["rewritten"]},
}
STEPS = {"url_block_list": None, "decontaminate": {"index": "x"}, "extra": [{"step": "mine:DropMarked"}]}
EARLY = ("read/no_text", "normalize/empty", "select_language/low_score", "quality/too_few_words", "drop_marked/marked")
EARLY += ("decontaminate/leak", "dedup/exact", "dedup/near")

amounts = st.tuples(st.integers(0, 50), st.integers(0, 5000))
flows = st.fixed_dictionaries(
    {
        "early": st.dictionaries(st.sampled_from(EARLY), amounts, max_size=4),
        "failed": st.dictionaries(st.sampled_from(["read/invalid_json", "quality/crashed"]), amounts, max_size=2),
        "replaced": amounts,
        "undecided": amounts,
        "mixed": st.dictionaries(st.sampled_from(["mix/in_earlier_stage", "mix/not_selected"]), amounts, max_size=2),
        "unplaced": amounts,
        "kept": amounts,
        "fertility": st.integers(1, 9),
    }
)
stages = st.dictionaries(st.tuples(st.sampled_from(LANGUAGES), st.sampled_from(sorted(SOURCES))), flows, max_size=12)


def counts_of(stage: Mapping[tuple[str, str], Mapping[str, Any]]) -> tuple[list[Count], list[Count]]:
    """What nodes would count of such flows; tokens where a node knows them."""
    counts, tokenized = [], []
    for (language, source), flow in stage.items():
        where = (source, language)
        tokens = flow["fertility"]
        late = [*flow["mixed"].values(), flow["unplaced"], flow["kept"]]
        every = [*flow["early"].values(), *flow["failed"].values(), flow["replaced"], flow["undecided"], *late]
        entered = (sum(n for n, _ in every), sum(size for _, size in every))
        came = GENERATED if SOURCES[source] == "synthetic" else READ
        counts.append(Count(came, *where, documents=entered[0], bytes=entered[1]))
        counts += [Count(DROPPED, *where, reason, documents=n, bytes=b) for reason, (n, b) in flow["early"].items()]
        counts += [Count(FAILED, *where, reason, documents=n, bytes=b) for reason, (n, b) in flow["failed"].items()]
        counts.append(Count(REPLACED, *where, documents=flow["replaced"][0], bytes=flow["replaced"][1]))
        counts += [Count(DROPPED, *where, r, documents=n, tokens=b * tokens) for r, (n, b) in flow["mixed"].items()]
        n, size = flow["kept"]
        counts.append(Count(KEPT, *where, "", SOURCES[source], n, size, size * tokens))
        n, size = sum(n for n, _ in late), sum(b for _, b in late)
        tokenized.append(Count(TOKENIZED, *where, documents=n, bytes=size, tokens=size * tokens))
    return counts, tokenized


def material(stage: Mapping[tuple[str, str], Mapping[str, Any]], budget: int | None = 100_000) -> Material:
    recipe = {"mixture": MIXTURE, "budget": budget, "languages": list(LANGUAGES), "steps": STEPS}
    counts, tokenized = counts_of(stage)
    return Material(recipe, counts, tokenized, (), {})


@settings(max_examples=200, deadline=None)
@given(stages)
def test_a_row_adds_up_whatever_was_dropped_where(stage: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    given = material(stage)
    rows = rows_of(given)
    for row in rows:
        out = row.gone + row.replaced + row.pending
        assert row.documents_read + row.documents_synthesized == out.documents + row.documents_written
        assert row.bytes_read + row.bytes_synthesized == out.bytes + row.bytes_written
        assert row.collected + row.synthesized == out.tokens + row.written
        assert row.after["mix"] == row.pending.tokens + row.written
        assert min(row.pending.documents, row.pending.bytes, row.pending.tokens) >= 0
        assert list(row.after) == list(given.steps)
        flow = stage.get((row.language, row.source))
        if flow is not None:
            assert row.pending.documents == flow["undecided"][0] + flow["unplaced"][0]
            assert (row.bytes_written, row.written) == (flow["kept"][1], flow["kept"][1] * flow["fertility"])
    # Either way of adding gives the same.
    whole = sum_rows(rows, {})
    for axis in ("language", "part", "source"):
        groups = {getattr(row, axis) for row in rows}
        sums = [sum_rows([row for row in rows if getattr(row, axis) == name], {axis: name}) for name in groups]
        again = sum_rows(sums, {})
        assert (again.collected, again.pending, again.dropped) == (whole.collected, whole.pending, whole.dropped)
        assert (again.wanted, again.shortfall, again.after) == (whole.wanted, whole.shortfall, whole.after)
        assert again.estimated == whole.estimated


@settings(max_examples=100, deadline=None)
@given(stages, st.integers(1, 10**7))
def test_what_is_wanted_is_the_budget_and_short_what_no_text_can_fill(
    stage: Mapping[tuple[str, str], Mapping[str, Any]], budget: int
) -> None:
    rows = rows_of(material(stage, budget))
    assert sum(row.wanted or 0 for row in rows) == budget
    available: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.language != ANY:
            available[row.language, row.part] = available.get((row.language, row.part), 0) + row.available
    parts = {name: MixturePart.model_validate(part) for name, part in MIXTURE.items()}
    expected = {(s.language, s.part): s for s in allocate(available, parts, budget, languages=LANGUAGES).shares}
    for key, share in expected.items():
        mine = [row for row in rows if (row.language, row.part) == key]
        assert sum(row.wanted or 0 for row in mine) == share.requested
        assert sum(row.shortfall for row in mine) == share.shortfall
    for row in rows:
        if row.language == ANY:
            assert row.wanted == row.shortfall > 0


def test_without_a_budget_nothing_is_wanted_and_nothing_short() -> None:
    flow = {"early": {}, "failed": {}, "mixed": {}, "replaced": (0, 0), "undecided": (0, 0), "unplaced": (0, 0)}
    rows = rows_of(material({("eng_Latn", "crawl"): {**flow, "kept": (3, 900), "fertility": 1}}, None))
    assert [(row.wanted, row.shortfall, row.written) for row in rows if row.source == "crawl"] == [(None, 0, 900)]


def test_a_part_that_nothing_was_read_for_has_a_row_and_falls_short() -> None:
    rows = {(row.language, row.part): row for row in rows_of(material({}))}
    assert {key: (row.wanted, row.shortfall) for key, row in rows.items()} == {
        (ANY, "web"): (60_000, 60_000),
        (ANY, "synthetic"): (20_000, 20_000),
        ("eng_Latn", "books"): (13_333, 13_333),
        ("srp_Cyrl", "books"): (6_667, 6_667),
    }


def test_steps_are_in_the_order_in_which_they_drop() -> None:
    order = ("read", "normalize", "select_language", "quality", "drop_marked", "decontaminate", "dedup", "mix")
    assert material({}).steps == order
    replaced = {("eng_Latn", "crawl"): {"early": {}, "failed": {}, "mixed": {}, "replaced": (1, 9)}}
    rest = {"undecided": (0, 0), "unplaced": (0, 0), "kept": (0, 0), "fertility": 1}
    found = material({key: {**flow, **rest} for key, flow in replaced.items()}).steps
    assert found == (*order[:-1], "replace", "mix")


def test_a_fertility_is_that_of_the_nearest_text_there_is() -> None:
    def tokenized(language: str, size: int, tokens: int) -> Count:
        return Count(TOKENIZED, "crawl", language, documents=1, bytes=size, tokens=tokens)

    own = [tokenized("rus_Cyrl", 100, 20), tokenized("eng_Latn", 300, 100)]
    codes = ("rus_Cyrl", "eng_Latn", "srp_Cyrl", "tha_Thai", "deu_Latn", "und")
    found = fertilities(own, [tokenized("tha_Thai", 10, 1), tokenized("rus_Cyrl", 10, 9)], codes)
    told = {code: (f.basis, f.bytes, f.tokens_per_byte) for code, f in found.items()}
    assert told == {
        "rus_Cyrl": ("language", 100, 0.2),
        "eng_Latn": ("language", 300, 1 / 3),
        "srp_Cyrl": ("script", 100, 0.2),
        "deu_Latn": ("script", 300, 1 / 3),
        "tha_Thai": ("earlier build", 10, 0.1),
        "und": ("all", 400, 0.3),
    }
    before = fertilities([], [tokenized("tha_Thai", 10, 1)], ["ell_Grek"])["ell_Grek"]
    assert (before.basis, before.tokens_per_byte) == ("earlier build, all", 0.1)
    nothing = fertilities([], [], ["ell_Grek"])["ell_Grek"]
    assert (nothing.basis, nothing.bytes, nothing.tokens_per_byte) == ("assumed", 0, ASSUMED)


@settings(max_examples=50, deadline=None)
@given(stages)
def test_csv_has_every_figure_of_every_row(stage: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    given = material(stage)
    rows = tuple(rows_of(given))
    ledger = StageLedger("f", 3, None, "", True, False, True, 9, given.steps, rows, given.fertility, ())
    read = list(csv.DictReader(io.StringIO(ledger.to_csv())))
    assert len(read) == len(rows)
    for line, row in zip(read, rows, strict=True):
        assert (line["language"], line["part"], line["source"]) == (row.language, row.part, row.source)
        assert int(line["collected"]) == row.collected
        assert {step: int(line[f"after {step}"]) for step in given.steps} == row.after
        for reason, amount in row.dropped.items():
            units = ("documents", "bytes", "tokens")
            assert Amount(*(int(line[f"dropped {reason} {unit}"]) for unit in units)) == amount
    (line,) = csv.DictReader(io.StringIO(ledger.to_csv("part"))) if len(ledger.total("part")) == 1 else [{}]
    assert "language" not in line


def test_an_empty_ledger_has_a_sum_and_a_header() -> None:
    ledger = StageLedger("f", 3, None, "", False, True, False, None, ("mix",), (), {}, ())
    assert ledger.total() == [LedgerRow()]
    assert ledger.total("language") == []
    assert ledger.to_csv().splitlines()[0].startswith("language,part,source,wanted,documents_read")


# The published mixture


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_what_is_published_is_what_the_marco_mini_recipes_ask_for(stage: int) -> None:
    recipe = load_recipe(Path(__file__).parents[1] / "recipes" / "marco-mini" / f"stage{stage}.yaml")
    known = published(stage)
    assert sum(category.share for category in known.categories) == pytest.approx(1, abs=0.002)
    weights = {part: settings.weight for part, settings in recipe.mixture.items()}
    for category in known.categories:
        asked = sum(weights.pop(part, 0) for part in category.parts)
        assert asked == pytest.approx(100 * category.share, abs=1e-6), category.name
    assert weights == {}
    assert set(known.languages) == set(recipe.languages) - {"eng_Latn"}
    sums = {1: 30.0, 2: 31.3, 3: 62.7, 4: 87.4}  # as the charts round
    assert 100 * sum(known.languages.values()) == pytest.approx(sums[stage], abs=0.11)


def test_of_a_stage_that_was_not_published_nothing_is_said() -> None:
    assert (published(5).categories, published(5).languages) == ((), {})
