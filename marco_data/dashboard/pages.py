"""The pages that are sums: tokens, stages, mixture, funnel, fertility, one language.

In: a `View`. Out: panels. Every figure is one of the ledger's; what is done here is choosing, sorting and naming. The
pages that look at documents' columns, at models' answers and at runs are in `pages_spread` and `pages_runs`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from marco_data.dashboard import charts
from marco_data.dashboard.data import Root, View, tiers, traits
from marco_data.dashboard.panel import Choice, Column, Link, Panel, number, short
from marco_data.ledger_rows import Amount, LedgerRow

SORTS = ("shortfall", "tokens", "tier", "family", "script", "region", "name", "code")
UNITS = ("tokens", "documents", "bytes")
SCALES = ("linear", "log")


@dataclass(frozen=True)
class Select:
    """A field of a page's form: one of `options`, (value, label); "" is all."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    taken: str


Make = Callable[[Root, View], list[Panel]]
Fields = Callable[[View], list[Select]]


@dataclass(frozen=True)
class Page:
    """`panels` make it; `fields` are its form."""

    title: str
    panels: Make
    fields: Fields = lambda view: []


def one_of(view: View, name: str, allowed: Sequence[str]) -> str:
    """A parameter's value if it is one of those allowed, else the first of them."""
    return view.asked(name) if view.asked(name) in allowed else allowed[0]


def choice(view: View, page: str, name: str, label: str, allowed: Sequence[str]) -> Choice:
    options = [(value, value, view.here(page, **{name: value})) for value in allowed]
    return Choice(label, one_of(view, name, allowed), options)


def language_link(view: View, code: str) -> Link:
    return Link(code, view.url("language", language=code))


def select(view: View, name: str, label: str, values: Sequence[str]) -> Select:
    options = [("", "all"), *((value, value) for value in values)]
    return Select(name, label, options, view.asked(name))


def rows_of(view: View, **by: str) -> list[LedgerRow]:
    """The ledger's rows of a language, part or source; "" is any."""
    rows = view.ledger.rows if view.ledger else ()
    return [row for row in rows if all(not value or getattr(row, axis) == value for axis, value in by.items())]


def summed(view: View, rows: Sequence[LedgerRow], *by: Any) -> list[LedgerRow]:
    """Some of the ledger's rows, summed as the ledger sums."""
    return replace(view.ledger, rows=tuple(rows)).total(*by) if view.ledger else []


def languages_in(view: View) -> list[str]:
    return sorted({row.language for row in rows_of(view)})


def sources_in(view: View) -> list[str]:
    return sorted({row.source for row in rows_of(view) if row.source})


# Tokens


def tokens_fields(view: View) -> list[Select]:
    codes = [row.language for row in view.languages]
    known = [traits(code) for code in codes]
    return [
        select(view, "part", "Part", sorted({row.part for row in rows_of(view) if row.part})),
        *(
            select(view, name, label, sorted({t[place] for t in known if t[place]}))
            for place, (name, label) in enumerate((("script", "Script"), ("branch", "Family"), ("region", "Region")), 1)
        ),
    ]


def tokens(root: Root, view: View) -> list[Panel]:
    rows = summed(view, rows_of(view, part=view.asked("part")), "language")
    for place, name in enumerate(("script", "branch", "region"), 1):
        rows = [row for row in rows if view.asked(name) in ("", traits(row.language)[place])]
    tier = tiers(view.languages)
    sort, scale = one_of(view, "sort", SORTS), one_of(view, "scale", SCALES)
    keys: dict[str, Callable[[LedgerRow], Any]] = {
        "shortfall": lambda row: -row.shortfall,
        "tokens": lambda row: -reached(view, row),
        "tier": lambda row: tier[row.language],
        "name": lambda row: traits(row.language)[0],
        "script": lambda row: traits(row.language)[1],
        "family": lambda row: traits(row.language)[2],
        "region": lambda row: traits(row.language)[3],
        "code": lambda row: row.language,
    }
    rows = sorted(rows, key=lambda row: (keys[sort](row), row.language))
    drawn = [
        {
            "label": row.language,
            "value": reached(view, row),
            "target": row.wanted,
            "said": f"{short(reached(view, row))} of {short(row.wanted)}" if row.wanted else short(reached(view, row)),
            "href": view.url("language", language=row.language),
        }
        for row in rows
    ]
    columns = [
        *(Column(name, "text") for name in ("language", "name")),
        Column("tier"),
        *(Column(name, "text") for name in ("script", "family", "region")),
        *(Column(name) for name in ("wanted", "collected", "synthesized", "available", "written", "drawn")),
        Column("epochs", "number"),
        Column("shortfall"),
        Column("filled", "share"),
        Column("estimated", "text"),
    ]
    table = []
    for row in rows:
        name, script, branch, region = traits(row.language)
        filled = None if not row.wanted else 1 - row.shortfall / row.wanted
        table.append(
            [
                *(language_link(view, row.language), name, tier[row.language], script, branch, region, row.wanted),
                *(row.collected, row.synthesized, row.available, row.written, row.drawn, row.epochs or None),
                *(row.shortfall, filled, " ".join(sorted(row.estimated))),
            ]
        )
    choices = [choice(view, "tokens", "sort", "Sort by", SORTS), choice(view, "tokens", "scale", "Scale", SCALES)]
    what = "drawn in training" if view.ledger and view.ledger.complete else "left so far, most of them estimated"
    return [
        Panel(
            "tokens",
            "Tokens per language against target",
            columns,
            table,
            f"A bar is the tokens {what}; a tick is what the recipe wants. Languages that it wants equally much of are "
            "of one tier. `estimated` names the columns that rest on bytes times the language's fertility; the "
            "others are the tokenizer's own counts.",
            charts.bars(drawn, axis="tokens", log=scale == "log", target=True) if drawn else None,
            choices,
            "The recipe and the root have no language that fits.",
        )
    ]


def reached(view: View, row: LedgerRow) -> int:
    """What a language has: drawn where the stage is complete, else what no step has taken away so far."""
    if view.ledger and view.ledger.complete:
        return row.drawn
    return max(0, row.collected + row.synthesized - row.gone.tokens - row.replaced.tokens)


# Stages


def stages(root: Root, view: View) -> list[Panel]:
    views = {stage: root.view({"family": view.family, "stage": str(stage)}) for stage in view.builds[view.family]}
    found = {stage: {row.language: row for row in v.languages} for stage, v in views.items() if v.ledger}
    codes = sorted({code for rows in found.values() for code in rows})
    drawn = {
        (code, stage): reached(views[stage], rows[code])
        for stage, rows in found.items()
        for code in codes
        if code in rows
    }
    cells = _cells(
        {(code, f"stage {stage}"): value for (code, stage), value in drawn.items()},
        codes,
        [f"stage {stage}" for stage in found],
        lambda code, across: view.url("language", language=code, stage=across.removeprefix("stage ")),
    )
    table = [[language_link(view, code), *(drawn.get((code, stage)) for stage in found)] for code in codes]
    short_ones = [
        [language_link(view, code), *(rows[code].shortfall if code in rows else None for rows in found.values())]
        for code in codes
    ]
    names = [Column("language", "text"), *(Column(f"stage {stage}") for stage in found)]
    parts = summed(view, rows_of(view), "language", "part")
    across = sorted({row.part for row in parts if row.part})
    by_part = {(row.language, row.part): reached(view, row) for row in parts}
    down = sorted({row.language for row in parts})
    part_cells = _cells(
        by_part, down, across, lambda code, part: view.url("documents", language=code, part=part, verdict="kept")
    )
    return [
        Panel(
            "stages",
            "Tokens by stage",
            names,
            table,
            "The darker, the more tokens, on a logarithmic scale. A build under way has what is left so far.",
            charts.grid(cells, x="", y="") if cells else None,
        ),
        Panel("shortfalls", "Short by stage", names, short_ones, "Tokens that the text there is cannot fill."),
        Panel(
            "parts",
            f"Tokens by part, stage {view.stage}",
            [Column("language", "text"), *(Column(part) for part in across)],
            [[language_link(view, code), *(by_part.get((code, part)) for part in across)] for code in down],
            "",
            charts.grid(part_cells, x="", y="") if part_cells else None,
        ),
    ]


def _cells(
    values: dict[tuple[str, str], int], down: Sequence[str], across: Sequence[str], href: Callable[[str, str], str]
) -> list[dict[str, Any]]:
    top = max((len(str(value)) + value / 10 ** len(str(value)) for value in values.values()), default=1)
    return [
        {
            "across": over,
            "down": name,
            "strength": (len(str(value)) + value / 10 ** len(str(value))) / top if value else 0,
            "said": short(value) if value else "0",
            "href": href(name, over),
        }
        for name in down
        for over in across
        if (value := values.get((name, over))) is not None
    ]


# Mixture


def mixture(root: Root, view: View) -> list[Panel]:
    rows = view.ledger.mixture if view.ledger else ()
    titles = {"part": "Parts", "category": "Beside Marco-MoE's published mixture", "language": "Languages"}
    columns = [Column("name", "text"), *(Column(name, "share") for name in ("asked", "realised", "published"))]
    panels = []
    for kind, title in titles.items():
        own = [row for row in rows if row.kind == kind]
        other = "published" if kind == "category" else "asked"
        drawn = [
            {
                "label": row.name,
                "value": row.realised or 0,
                "target": getattr(row, other),
                "said": _said_share(row.realised, getattr(row, other)),
                "href": view.url("language", language=row.name) if kind == "language" else None,
            }
            for row in own
        ]
        table = [
            [language_link(view, row.name) if kind == "language" else row.name, row.asked, row.realised, row.published]
            for row in own
        ]
        note = f"A bar is the share that came out, a tick the one that was {other}."
        chart = charts.bars(drawn, axis="share of the stage", target=True, share=True) if drawn else None
        panels.append(Panel(f"mixture-{kind}", title, columns, table, note, chart))
    return panels


def _said_share(realised: float | None, other: float | None) -> str:
    shown = "–" if realised is None else f"{realised:.1%}"
    return shown if other is None else f"{shown} of {other:.1%}"


# Funnel


def funnel_fields(view: View) -> list[Select]:
    return [
        select(view, "language", "Language", languages_in(view)),
        select(view, "source", "Source", sources_in(view)),
    ]


def funnel(root: Root, view: View) -> list[Panel]:
    return _funnel(view, "funnel", view.asked("language"), view.asked("source"))


def _funnel(view: View, page: str, language: str, source: str) -> list[Panel]:
    rows = rows_of(view, language=language, source=source)
    unit = one_of(view, "unit", UNITS)
    units = choice(view, page, "unit", "Count", UNITS)
    panels = [_steps(view, rows), _reasons(view, rows, unit, units, language, source)]
    if not language:
        panels.append(_outcomes(view, summed(view, rows, "language"), "language", unit, units, source))
    if not source:
        panels.append(_outcomes(view, summed(view, rows, "source"), "source", unit, units, language))
    return panels


def _steps(view: View, rows: Sequence[LedgerRow]) -> Panel:
    total = summed(view, rows)[0] if view.ledger else LedgerRow()
    lines = [("read", total.collected), ("written by models", total.synthesized)]
    lines += [(f"after {step}", total.after[step]) for step in (view.ledger.steps if view.ledger else ())
              if step in total.after]  # fmt: skip
    lines += [("in the shards", total.written), ("drawn in training", total.drawn)]
    first = total.collected + total.synthesized
    drawn = [{"label": name, "value": value, "said": short(value)} for name, value in lines]
    table = [[name, value, value / first if first else None] for name, value in lines]
    return Panel(
        "steps",
        "From read to written",
        [Column("step", "text"), Column("tokens"), Column("share", "share")],
        table,
        "Tokens left after each step. Until text is tokenized they are its bytes times the language's fertility.",
        charts.bars(drawn, axis="tokens") if first else None,
        empty="Nothing was read.",
    )


def _reasons(view: View, rows: Sequence[LedgerRow], unit: str, units: Choice, language: str, source: str) -> Panel:
    total = summed(view, rows)[0] if view.ledger else LedgerRow()
    amounts = [(reason, "dropped", amount) for reason, amount in total.dropped.items()]
    amounts += [(reason, "failed", amount) for reason, amount in total.failed.items()]
    amounts = sorted(amounts, key=lambda entry: (-getattr(entry[2], unit), entry[0]))

    def address(reason: str, verdict: str) -> str:
        return view.url("documents", language=language, source=source, verdict=verdict, reason=reason)

    drawn = [
        {
            "label": reason,
            "value": getattr(amount, unit),
            "said": short(getattr(amount, unit)),
            "href": address(reason, verdict),
        }
        for reason, verdict, amount in amounts
    ]
    table = [
        [Link(reason, address(reason, verdict)), verdict, amount.documents, amount.bytes, amount.tokens]
        for reason, verdict, amount in amounts
    ]
    columns = [Column("reason", "text"), Column("verdict", "text"), *map(Column, ("documents", "bytes", "tokens"))]
    note = "Click a reason to read the documents. Tokens of what was dropped before it was tokenized are estimates."
    chart = charts.bars(drawn, axis=unit) if drawn else None
    return Panel("reasons", "Why documents went", columns, table, note, chart, [units], "Nothing was dropped.")


VERDICTS = {"written": "kept", "replaced": "replaced", "failed": "failed", "open": ""}


def _outcomes(view: View, rows: Sequence[LedgerRow], axis: str, unit: str, units: Choice, other: str) -> Panel:
    """Where everything went, by language or source."""
    fixed = "source" if axis == "language" else "language"
    found = {reason.partition("/")[0] for row in rows for reason in row.dropped}
    steps = [step for step in (view.ledger.steps if view.ledger else ()) if step in found]
    kinds = ["written", *steps, *sorted(found - {*steps}), "replaced", "failed", "open"]
    sums = [_pieces(row, kinds, unit) for row in rows]
    kinds = [kind for kind in kinds if any(pieces[kind] for pieces in sums)]
    table, drawn = [], []
    for row, pieces in zip(rows, sums, strict=True):
        name = getattr(row, axis)
        addresses = {
            kind: view.url(
                "documents",
                **{axis: name, fixed: other},
                verdict=VERDICTS.get(kind, "dropped"),
                reason=None if kind in VERDICTS else kind,
            )
            for kind in kinds
        }
        shown = language_link(view, name) if axis == "language" else Link(name, view.here("funnel", source=name))
        table.append([shown, *(Link(pieces[kind], addresses[kind]) if pieces[kind] else 0 for kind in kinds)])
        drawn += [{"label": name, "kind": k, "value": pieces[k], "href": addresses[k]} for k in kinds if pieces[k]]
    note = "What is `open` no step has decided on yet. Click a piece of a bar to read its documents."
    chart = charts.stacked(drawn, axis=unit, kinds=kinds) if drawn else None
    columns = [Column(axis, "text"), *(Column(kind) for kind in kinds)]
    return Panel(f"outcomes-{axis}", f"Where documents went, by {axis}", columns, table, note, chart, [units])


def _pieces(row: LedgerRow, kinds: Sequence[str], unit: str) -> dict[str, int]:
    sums = dict.fromkeys(kinds, 0)
    sums["written"] = getattr(Amount(row.documents_written, row.bytes_written, row.written), unit)
    sums["replaced"], sums["open"] = getattr(row.replaced, unit), getattr(row.pending, unit)
    sums["failed"] = sum(getattr(amount, unit) for amount in row.failed.values())
    for reason, amount in row.dropped.items():
        sums[reason.partition("/")[0]] += getattr(amount, unit)
    return sums


# Fertility


def fertility(root: Root, view: View) -> list[Panel]:
    found = view.ledger.fertility if view.ledger else {}
    ordered = sorted(found.items(), key=lambda entry: (-entry[1].tokens_per_byte, entry[0]))
    drawn = [
        {
            "label": code,
            "value": one.tokens_per_byte,
            "said": number(one.tokens_per_byte),
            "href": view.url("language", language=code),
        }
        for code, one in ordered
    ]
    table = [
        [language_link(view, code), traits(code)[0], one.tokens_per_byte, 1 / one.tokens_per_byte, one.bytes, one.basis]
        for code, one in ordered
    ]
    columns = [Column("language", "text"), Column("name", "text"), Column("tokens per byte", "number")]
    columns += [Column("bytes per token", "number"), Column("bytes measured"), Column("basis", "text")]
    note = (
        "Measured on all text of the language that was tokenized. Where there is none, `basis` says what stands in: "
        "its script's, that of all text, an earlier build's, or four bytes a token assumed."
    )
    chart = charts.bars(drawn, axis="tokens per byte") if drawn else None
    return [Panel("fertility", "Tokens per byte of text", columns, table, note, chart)]


# One language


def language_fields(view: View) -> list[Select]:
    codes = languages_in(view)
    if not codes:  # a build without a budget that has read nothing yet
        return []
    return [Select("language", "Language", [(code, code) for code in codes], view.asked("language") or codes[0])]


def language(root: Root, view: View) -> list[Panel]:
    code = view.asked("language") or (languages_in(view) or ["eng_Latn"])[0]
    rows = rows_of(view, language=code)
    names = ("part", "source", "wanted", "collected", "synthesized", "available", "written", "drawn")
    columns = [Column(name, "text" if name in ("part", "source") else "count") for name in names]
    columns += [Column("epochs", "number"), Column("shortfall"), Column("read", "text")]
    table = [
        [
            *(getattr(row, name) for name in names),
            row.epochs or None,
            row.shortfall,
            Link("documents", view.url("documents", language=code, source=row.source)),
        ]
        for row in rows
    ]
    title = f"{traits(code)[0]} ({code}), part by part"
    return [Panel("ledger", title, columns, table, ""), *_funnel(view, "language", code, "")]
