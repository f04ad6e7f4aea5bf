"""A plan's expectation put together: what flows through the steps, what the mixture makes of it, what it takes.

In: a recipe, its plan, a root, prices. Out: an `Expectation`, as JSON too. Starts nothing; without a tokenizer here, or
with no source in reach, it says so and expects nothing.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from marco_data.alarms import RemovalLimits
from marco_data.dataset import Dataset
from marco_data.generation.accounting import RequestCount
from marco_data.generation.estimate import Estimate, Range
from marco_data.mix import HASH_END, Allocation, Key
from marco_data.nodes.decide import Decide
from marco_data.nodes.measure import Measure
from marco_data.nodes.mix import Mix
from marco_data.nodes.shards import Shards
from marco_data.plan_flow import (
    DEDUP,
    FIGURES,
    KEPT,
    TOKENS,
    Draws,
    Flow,
    SoFar,
    counted,
    foresee,
    range_of,
    so_far,
)
from marco_data.plan_price import GROUPS, Ground, Price, group_of, price_object, price_of_plan, timed_in
from marco_data.plan_short import Short, ShortPart, shortfalls
from marco_data.prices import Prices
from marco_data.probe import Looked, probe, slices_of
from marco_data.recipe import Recipe
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer

NOTHING = SoFar({}, {}, {})


@dataclass(frozen=True)
class Expectation:
    """Of one plan; `notes` are sentences on what it rests on and what it does not know."""

    flow: Flow
    allocation: Allocation
    short: list[Short]
    short_parts: list[ShortPart]
    price: Price
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """What else is known of a plan: estimates of generation, what was asked before, nodes with nothing left to do."""

    estimates: tuple[Estimate, ...] = ()
    measured: tuple[RequestCount, ...] = ()
    done: frozenset[str] = frozenset()


def look(recipe: Recipe, dataset: Dataset, problems: Mapping[str, str], documents: int | None) -> Looked:
    """Probe the sources of a plan; `problems` are those that are known to be out of reach, no `documents`: no probe.

    Raises RecipeError, or what storage raises, where the tokenizer is not here.
    """
    measure, decide = dataset.node("measure"), dataset.node("decide")
    assert isinstance(measure, Measure)
    shards = dataset.node("shards")
    assert isinstance(decide, Decide)
    assert isinstance(shards, Shards)
    tokenizer = Tokenizer.load(recipe.tokenizer.path, recipe.tokenizer.end_of_document)
    if documents is None:
        return Looked(tokenizer)
    return Looked(tokenizer, probe(measure, decide, shards, tokenizer, documents, problems))


def expect(
    recipe: Recipe,
    dataset: Dataset,
    storage: Storage,
    looked: Looked,
    taken: Taken | None = None,
    *,
    prices: Prices | None = None,
    afresh: bool = False,
) -> Expectation:
    """What a build will come to; `afresh` looks at nothing that this root's builds have left."""
    taken = taken or Taken()
    probed = looked.probed
    flow = (
        Flow({})
        if probed is None
        else foresee(probed, recipe.steps.dedup, _most(recipe.limits.removal, recipe.languages))
    )
    unreachable = {} if probed is None else probed.unreachable
    found = NOTHING if afresh else so_far(dataset, storage, unreachable)
    flow = counted(found, flow)
    mix = dataset.node("mix")
    assert isinstance(mix, Mix)
    expected, said = available(recipe, flow, mix, storage, taken.estimates, taken.measured)
    allocation, short, parts = shortfalls(expected, recipe.mixture, recipe.budget, recipe.languages)
    measure = dataset.node("measure")
    assert isinstance(measure, Measure)
    pieces = {name: slices_of(measure, name) for name in measure.sources if name not in unreachable}
    stored = {name: sum(piece.bytes for piece in own) for name, own in pieces.items()}
    slices = sum(map(len, pieces.values()))
    ground = Ground(
        recipe,
        dataset,
        flow,
        probed,
        found,
        timed_in(storage, found, dataset),
        taken.done,
        allocation,
        looked.tokenizer,
        stored,
        slices,
        taken.estimates,
    )
    away = tuple(f"not in this estimate: source `{name}`: {why}" for name, why in sorted(unreachable.items()))
    price = price_of_plan(ground, prices)
    timed = {line.what for line in price.seconds}
    untimed = [g for g in GROUPS if g not in timed and any(group_of(n.kind) == g for n in dataset.nodes)]
    unknown = (f"CPU-hours without those of {', '.join(untimed)}: nothing here has timed them",) if untimed else ()
    return Expectation(flow, allocation, short, parts, price, (*flow.grounds, *said, *unknown, *away))


def _most(limits: RemovalLimits | None, languages: Sequence[str]) -> dict[str, float]:
    """The share of duplicates above which the recipe stops a build."""
    if limits is None:
        return {}
    found = {code: limits.limit("dedup/near", "", code) for code in languages}
    return {code: limit for code, limit in found.items() if limit}


def available(
    recipe: Recipe,
    flow: Flow,
    mix: Mix,
    storage: Storage,
    estimates: Sequence[Estimate],
    measured: Sequence[RequestCount],
) -> tuple[dict[Key, tuple[int, int, int]], list[str]]:
    """Tokens that the mixture may take, (expected, least, most), from where the stage before ended."""
    sums: dict[Key, Draws] = {}
    for (source, language, outcome), draws in flow.cells.items():
        if outcome == KEPT and source in recipe.part_of:
            key = (language, recipe.part_of[source])
            sums[key] = sums[key] + draws if key in sums else draws
    after, starts = mix.starts(storage)
    out: dict[Key, tuple[int, int, int]] = {}
    for key, draws in sums.items():
        left = 1 - starts.get(key, 0) / HASH_END
        out[key] = _three(range_of(draws, TOKENS).times(left))
    said = [f"tokens that `{after}` took of the same documents are not this stage's"] if after else []
    written: dict[Key, list[tuple[int, int, int]]] = defaultdict(list)
    for one in estimates:
        tokens, why = _accepted(one, measured)
        said.append(why)
        key = (one.language, recipe.part_of[recipe.generate[one.entry].make.part])
        written[key].append(_three(tokens))
    for key, figures in written.items():
        own = out.get(key, (0, 0, 0))
        out[key] = tuple(sum(f) for f in zip(own, *figures, strict=True))  # type: ignore[assignment]
    if recipe.rehydrate is not None:
        said.append("documents that `rehydrate` repeats are counted once")
    return out, list(dict.fromkeys(said))


def _accepted(one: Estimate, measured: Sequence[RequestCount]) -> tuple[Range, str]:
    """Tokens that generation adds: as many of a request as were accepted before, else at most what is written."""
    rows = [r for r in measured if (r.maker, r.language, r.model) == (one.maker, one.language, one.model)]
    asked = sum(row.requested for row in rows)
    if asked:
        tokens = sum(row.accepted_tokens for row in rows) / asked
        return Range(one.requests * tokens), "generated text: accepted tokens of a request as in this root's last build"
    most = (
        (one.tokens_out.high or one.tokens_out.expected)
        if one.tokens_out.spread is not None
        else one.tokens_out.expected
    )
    return Range(most / 2, most / 2), "generated text: half of what is written is taken to be accepted, or all, or none"


def _three(figure: Range) -> tuple[int, int, int]:
    low = figure.expected if figure.low is None else figure.low
    high = figure.expected if figure.high is None else figure.high
    return int(figure.expected), int(low), int(high)


# JSON


def expectation_object(one: Expectation) -> dict[str, Any]:
    """Plain JSON: figures by step and language, totals, shares of the mixture, shortfalls, price."""
    flow = one.flow
    return {
        "languages": {code: steps_object(flow, language=code) for code in flow.languages},
        "sources": {name: steps_object(flow, source=name) for name in sorted({cell[0] for cell in flow.cells})},
        "total": steps_object(flow),
        "drawn": {f"{s.part}/{s.language}": asdict(s) | {"epochs": s.epochs} for s in one.allocation.shares},
        "short": [asdict(short) for short in one.short],
        "short_parts": [asdict(part) for part in one.short_parts],
        "price": price_object(one.price),
        "notes": list(one.notes),
    }


def steps_object(flow: Flow, language: str = "", source: str = "") -> dict[str, dict[str, Any]]:
    """{step: {documents, bytes, tokens}}: what is read, what each step drops, what is kept."""
    rows = {"collected": flow.total(language=language, source=source)}
    for outcome in flow.outcomes:
        rows[outcome] = flow.total(outcomes=(outcome,), language=language, source=source)
    return {
        name: {figure: range_of(draws, n).to_json() for n, figure in enumerate(FIGURES)}
        for name, draws in rows.items()
        if draws[0].any() or name in ("collected", KEPT, DEDUP)
    }
