"""The pages that look at documents' columns and at models' answers: quality, identification, duplicates, generated.

In: a `View` and what `distributions` works out of it. Out: panels. Where a large build was sampled, the panel says
how much of it was looked at.
"""

from typing import Any

from marco_data.dashboard import charts, distributions
from marco_data.dashboard.data import Root, View
from marco_data.dashboard.pages import Select, language_link, languages_in, select, sources_in
from marco_data.dashboard.panel import Choice, Column, Link, Panel, short
from marco_data.generation.accounting import requests_by

REJECTED_SHOWN = 40
REJECTED_CHARACTERS = 400
NOT_YET = "No step has decided on any document yet."
HIGHEST_PAIRS = 200


def share_looked_at(found: dict[str, Any]) -> str:
    """What a sample is of; nothing where everything was looked at."""
    if not found["of"] or found["documents"] >= found["of"]:
        return f"All {found['of']:,} documents."
    return f"A sample: {found['documents']:,} of {found['of']:,} documents, whole shards in an order by hash."


def quality_fields(view: View) -> list[Select]:
    codes = languages_in(view)
    taken = view.asked("language") or default_language(view)
    return [
        Select("language", "Language", [(code, code) for code in codes], taken),
        select(view, "source", "Source", sources_in(view)),
    ]


def default_language(view: View) -> str:
    """The language that was read most."""
    rows = [row for row in view.languages if row.language]
    return max(rows, key=lambda row: (row.bytes_read, row.language)).language if rows else ""


def quality(root: Root, view: View) -> list[Panel]:
    language = view.asked("language") or default_language(view)
    source = view.asked("source") or None
    columns = [Column("limit", "text"), Column("stands at", "number"), Column("median", "number")]
    columns += [Column(name, "share") for name in ("beyond it", "beyond it alone")]
    title = f"Quality limits of {language}"
    if view.lookup is None:
        return [Panel("quality", title, columns, [], empty=NOT_YET)]
    found = distributions.quality(view.lookup, language, source)
    metrics = found["metrics"]
    if not metrics:
        why = "This source is exempt from the limits." if found["exempt"] else "No document has figures and limits."
        return [Panel("quality", title, columns, [], empty=why)]
    most = max(metrics, key=lambda rule: (metrics[rule]["beyond"], rule))
    rule = view.asked("metric") if view.asked("metric") in metrics else most
    table = [
        [Link(name, view.here("quality", metric=name)), one["limit"], one["median"], one["beyond"], one["only"]]
        for name, one in metrics.items()
    ]
    one = metrics[rule]
    side = "at most" if rule.startswith("max_") else "at least"
    bins = [{"lo": lo, "hi": hi, "documents": n} for lo, hi, n in one["bins"]]
    kept = [{"at": at, "kept": share} for at, share in one["kept"]]
    options = [(name, name, view.here("quality", metric=name)) for name in metrics]
    moves = [Column("limit times", "number"), Column("stands at", "number"), Column("kept by all limits", "share")]
    drawn = charts.histogram(
        bins, axis=rule.split("_", 1)[1].replace("_", " "), limit=one["limit"], side=side, kept=kept
    )
    looked = share_looked_at(found)
    return [
        Panel(
            "metric",
            f"{rule} of {language}" + (f" in {source}" if source else ""),
            [Column("from", "number"), Column("to", "number"), Column("documents")],
            one["bins"],
            f"{looked} {found['judged']:,} of them have figures that count. The dashed line is the limit, {side} "
            f"{one['limit']:g}. The curve is the share of documents that all limits together would keep if this one "
            "stood there. Figures beyond the last bar are counted in it.",
            drawn,
            [Choice("Limit", rule, options)],
        ),
        Panel(
            "moved",
            "What moving it would keep",
            moves,
            one["moves"],
            "Of the documents with figures; the other limits stay where they are.",
        ),
        Panel("quality", title, columns, table, "A document beyond several limits is dropped for the first of them."),
    ]


def identification_fields(view: View) -> list[Select]:
    return [select(view, "language", "Language", languages_in(view))]


def identification(root: Root, view: View) -> list[Panel]:
    columns = [Column(name, "number") for name in ("from", "to")]
    if view.lookup is None:
        return [Panel("scores", "How sure the language model was", columns, [], empty=NOT_YET)]
    found = distributions.identification(view.lookup)
    language = view.asked("language")
    bins = [0] * distributions.SCORE_BINS
    for code, counts in found["scores"].items():
        if language in ("", code):
            bins = [a + b for a, b in zip(bins, counts, strict=True)]
    step = 1 / distributions.SCORE_BINS
    rows = [[n * step, (n + 1) * step, count] for n, count in enumerate(bins)]
    limit = distributions.step_config(view.lookup, "select_language").get("thresholds", {}).get(language)
    drawn = [{"lo": lo, "hi": hi, "documents": n} for lo, hi, n in rows]
    looked = share_looked_at(found)
    weak = [[language_link(view, code), sum(counts), *_sureness(counts)] for code, counts in found["scores"].items()]
    totals: dict[str, int] = {}
    for told, _, n in found["declared"]:
        totals[told] = totals.get(told, 0) + n
    pairs = [(told, heard, n) for told, heard, n in found["declared"] if language in ("", told, heard)]
    pairs = sorted(pairs, key=lambda pair: (pair[0] == pair[1], -pair[2], pair[:2]))
    confusions = [
        [told, heard, Link(n, view.url("documents", language=heard)), n / totals[told]] for told, heard, n in pairs
    ]
    wrong = [pair for pair in pairs if pair[0] != pair[1]][:40]
    cells = [
        {"label": f"{told} → {heard}", "value": n, "said": f"{short(n)}, {n / totals[told]:.1%}",
         "href": view.url("documents", language=heard)}
        for told, heard, n in wrong
    ]  # fmt: skip
    return [
        Panel(
            "scores",
            "How sure the language model was" + (f" of {language}" if language else ""),
            [*columns, Column("documents")],
            rows,
            f"{looked} The score of the language it found."
            + (f" Below {limit:g} a document is dropped." if limit is not None else ""),
            charts.histogram(drawn, axis="score", limit=limit, side="at least") if sum(bins) else None,
        ),
        Panel(
            "confusions",
            "Where the source says otherwise",
            [Column("declared", "text"), Column("found", "text"), Column("documents"), Column("of declared", "share")],
            confusions[:HIGHEST_PAIRS],
            "Languages that sources state for their documents, beside those that were found. The chart has the pairs "
            "that differ. A source that states none is not in it.",
            charts.bars(cells, axis="documents") if cells else None,
            empty="No source states a language.",
        ),
        Panel(
            "sureness",
            "By language",
            [
                Column("found", "text"),
                Column("documents"),
                Column("mean score", "number"),
                Column("below 0.5", "share"),
            ],
            weak,
        ),
    ]


def _sureness(counts: list[int]) -> tuple[float, float]:
    """(mean score, share of scores below one half) of a histogram of scores."""
    total = sum(counts) or 1
    mean = sum((n + 0.5) / len(counts) * count for n, count in enumerate(counts)) / total
    return mean, sum(counts[: len(counts) // 2]) / total


def duplicates(root: Root, view: View) -> list[Panel]:
    columns = [Column("documents in a cluster", "text"), Column("clusters"), Column("documents")]
    if view.lookup is None or not view.lookup.sidecars:
        return [Panel("clusters", "Cluster sizes", columns, [], empty="Duplicates were not looked for yet.")]
    found = distributions.duplicates(view.lookup)
    language = view.asked("language")
    ones = [one for code, one in found["languages"].items() if language in ("", code)]
    sizes: dict[str, list[int]] = {}
    similar: dict[str, list[int]] = {}
    for one in ones:
        for label, cluster in one["clusters"].items():
            known = sizes.setdefault(label, [0, 0])
            known[0] += cluster["clusters"]
            known[1] += cluster["documents"]
        for place, kind in enumerate(("counted", "estimated")):
            for label, n in one["similarity"][kind].items():
                similar.setdefault(label, [0, 0])[place] += n
    ordered = sorted(sizes.items(), key=lambda entry: int(entry[0].partition("-")[0].replace(",", "")))
    drawn = [{"label": label, "value": n, "said": short(n)} for label, (n, _) in ordered]
    pieces = [
        {"label": label, "kind": kind, "value": n}
        for label, counts in sorted(similar.items())
        for kind, n in zip(("counted", "estimated"), counts, strict=True)
        if n
    ]
    by_language = [
        [language_link(view, code)]
        + [
            Link(one["dropped"].get(reason, 0), view.url("documents", language=code, verdict="dropped", reason=reason))
            for reason in REASONS
        ]
        + [sum(c["clusters"] for c in one["clusters"].values())]
        for code, one in found["languages"].items()
    ]
    return [
        Panel(
            "clusters",
            "Cluster sizes" + (f" of {language}" if language else ""),
            columns,
            [[label, *counts] for label, counts in ordered],
            f"{share_looked_at(found)} A cluster is a document that stays, with those that were dropped for it.",
            charts.bars(drawn, axis="clusters", log=True) if drawn else None,
            empty="No clusters.",
        ),
        Panel(
            "similarity",
            "How alike near duplicates are",
            [Column("similarity", "text"), Column("counted"), Column("estimated")],
            [[label, *counts] for label, counts in sorted(similar.items())],
            "Of a dropped document and the one that stays: counted on shingles, or estimated from signatures where "
            "that is sure enough.",
            charts.stacked(pieces, axis="documents", kinds=("counted", "estimated")) if pieces else None,
            empty="No near duplicates.",
        ),
        Panel(
            "duplicates",
            "By language",
            [Column("language", "text"), *(Column(reason) for reason in REASONS), Column("clusters")],
            by_language,
        ),
    ]


REASONS = ("dedup/near", "dedup/exact", "dedup/same_id")


def generated_fields(view: View) -> list[Select]:
    rows = view.built.wanted if view.built else []
    return [
        select(view, name, label, sorted({str(getattr(row, name)) for row in rows}))
        for name, label in (("maker", "Maker"), ("language", "Language"), ("prompt", "Prompt"), ("model", "Model"))
    ]


def generated(root: Root, view: View) -> list[Panel]:
    names = ("maker", "language", "prompt", "model")
    asked = {name: view.asked(name) for name in names}
    rows = [
        row
        for row in (requests_by(view.built.wanted) if view.built else [])
        if all(value in ("", row[name]) for name, value in asked.items())
    ]
    figures = ("requested", "accepted", "accepted_tokens", "calls", "tokens_in", "tokens_out")
    columns = [Column(name, "text") for name in names] + [Column(name) for name in figures]
    columns += [Column("accepted of requested", "share"), Column("rejected", "text")]
    table = [
        [
            *(row[name] for name in (*names, *figures)),
            row["accepted"] / row["requested"] if row["requested"] else None,
            ", ".join(f"{reason} {n:,}" for reason, n in sorted(row["rejected"].items(), key=lambda e: -e[1])),
        ]
        for row in rows
    ]
    panels = []
    for name in ("maker", "prompt", "model"):
        sums: dict[str, list[int]] = {}
        for row in rows:
            own = sums.setdefault(str(row[name]), [0, 0])
            own[0] += row["requested"]
            own[1] += row["accepted"]
        drawn = [
            {"label": value, "value": yes, "target": n, "said": f"{short(yes)} of {short(n)}, {yes / n:.0%}",
             "href": view.here("generated", **{name: value})}
            for value, (n, yes) in sorted(sums.items()) if n
        ]  # fmt: skip
        shown = [
            [Link(v, view.here("generated", **{name: v})), n, yes, yes / n] for v, (n, yes) in sorted(sums.items()) if n
        ]
        kinds = [Column(name, "text"), Column("requested"), Column("accepted"), Column("share", "share")]
        chart = charts.bars(drawn, axis="documents", target=True) if drawn else None
        note = "A bar is what was accepted, a tick what was asked for."
        panels.append(Panel(f"by-{name}", f"Accepted by {name}", kinds, shown, note, chart, empty=NO_MODEL))
    panels.append(Panel("requests", "Requests", columns, table, empty=NO_MODEL))
    panels.append(_rejected(view, asked))
    return panels


NO_MODEL = "This stage asked no model, or has not come to it yet."


def _rejected(view: View, asked: dict[str, str]) -> Panel:
    wanted = {name: value for name, value in asked.items() if value and name != "model"}
    wanted |= {"reason": view.asked("reason")} if view.asked("reason") else {}
    rows = distributions.rejected(view.lookup, wanted, REJECTED_SHOWN) if view.lookup else []
    table = [
        [
            row["maker"],
            row["language"],
            row["prompt"],
            Link(row["reason"], view.here("generated", reason=row["reason"])),
            row["measured"],
            Link("seed", view.url("document", id=row["seed_id"])),
            (row["text"] or "")[:REJECTED_CHARACTERS],
        ]
        for row in rows
    ]
    texts = [Column(name, "text") for name in ("maker", "language", "prompt", "reason")]
    columns = [*texts, Column("measured", "number"), Column("seed", "text"), Column("text", "text")]
    note = f"At most {REJECTED_SHOWN}, each text's first {REJECTED_CHARACTERS} characters."
    return Panel("rejected", "Rejected answers", columns, table, note, empty="No answer was rejected.")
