"""HTML of pages, documents, messages and the exported report: templates, filled.

In: panels and what `documents` found. Out: HTML. The templates escape everything; what documents hold passes
`text.shown` too. Charts are SVG in the page itself.
"""

import base64
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from marco_data.dashboard import charts, documents
from marco_data.dashboard.data import Root, View, html_language, traits
from marco_data.dashboard.pages import Page, language_link, languages_in, select, sources_in
from marco_data.dashboard.panel import Panel, short
from marco_data.dashboard.text import shown
from marco_data.why import Place

VERDICTS = ("kept", "dropped", "failed", "replaced")
PAGE_GROUPS = (
    ("What there is", ("tokens", "stages", "mixture", "language", "fertility")),
    ("What went, and why", ("funnel", "quality", "identification", "duplicates", "generated", "documents")),
    ("What goes on", ("progress", "training")),
)


@cache
def templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("marco_data.dashboard")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"shown": shown, "short": short, "html_language": html_language}
    made.globals |= {"svg": picture, "csv_data": csv_data, "groups": PAGE_GROUPS}
    return made


def picture(panel: Panel, *, links: bool) -> Markup:
    return Markup(charts.svg(panel.chart, panel.title, links=links) if panel.chart else "")


def csv_data(panel: Panel) -> str:
    """A panel's CSV as an address that holds it."""
    return "data:text/csv;base64," + base64.b64encode(panel.to_csv().encode()).decode()


def filled(template: str, view: View, **values: Any) -> str:
    ledger = view.ledger
    total = ledger.total()[0] if ledger else None
    return templates().get_template(template).render(view=view, ledger=ledger, total=total, **values)


def page(view: View, name: str, pages: Mapping[str, Page], root: Root) -> str:
    entry = pages[name]
    panels = entry.panels(root, view)
    return filled(
        "page.html", view, title=entry.title, name=name, pages=pages, panels=panels, fields=entry.fields(view)
    )


def message(view: View, title: str, what: str, hint: str = "") -> str:
    return filled("message.html", view, title=title, name="", pages={}, what=what, hint=hint)


def listed(view: View, pages: Mapping[str, Page], wanted: documents.Filter, skip: int) -> str:
    assert view.lookup is not None
    found = documents.listed(view.lookup, wanted, skip, documents.PAGE + 1)
    fields = [
        select(view, "language", "Language", languages_in(view)),
        select(view, "source", "Source", sources_in(view)),
        select(view, "verdict", "Verdict", VERDICTS),
        select(view, "reason", "Reason", reasons_in(view)),
    ]
    more = len(found) > documents.PAGE
    return filled(
        "documents.html",
        view,
        title="Documents",
        name="documents",
        pages=pages,
        found=found[: documents.PAGE],
        fields=fields,
        before=view.here("documents", skip=max(0, skip - documents.PAGE) or None) if skip else None,
        after=view.here("documents", skip=skip + documents.PAGE) if more else None,
        first=skip + 1,
    )


def reasons_in(view: View) -> list[str]:
    """Every reason in the ledger, and the steps they are of."""
    total = view.ledger.total()[0] if view.ledger else None
    found = {*total.dropped, *total.failed} if total else set()
    return sorted(found | {reason.partition("/")[0] for reason in found})


def document(view: View, pages: Mapping[str, Page], term: str) -> tuple[str, int]:
    """A document's page, or what a search came to; and the status."""
    lookup = view.lookup
    assert lookup is not None
    if not term:
        text = filled("document.html", view, title="Find a document", name="search", pages=pages, term="", opened=None)
        return text, 200
    places = hinted(view, term) or [place for _, place in documents.found(lookup, [term])]
    if not places:
        text = filled("document.html", view, title="Not found", name="search", pages=pages, term=term, opened=None)
        return text, 404
    opened = documents.opened(lookup, places[0])
    others = [lookup.answer(place, name_twin=False) for place in places[1:]]
    named = opened.answer.source_id or opened.answer.url or opened.answer.id
    return (
        filled(
            "document.html",
            view,
            title=named,
            name="search",
            pages=pages,
            term=term,
            opened=opened,
            others=others,
            details=documents.detail(opened.answer),
            language=language_link(view, opened.answer.language or "und"),
            language_name=traits(opened.answer.language or "und")[0],
        ),
        200,
    )


def hinted(view: View, term: str) -> list[Place]:
    """The place that an address from a list names, if the document there has the id: no column is searched."""
    number, _, row = view.asked("at").partition(".")
    lookup = view.lookup
    if lookup is None or not (number.isdecimal() and row.isdecimal()) or int(number) >= len(lookup.measured):
        return []
    place = Place(int(number), int(row))
    try:
        return [place] if lookup.id_of(place) == term else []
    except IndexError:
        return []


def report(sections: Mapping[str, list[tuple[str, list[Panel]]]], view: View) -> str:
    """One file that needs no other: {section: [(title, panels)]}."""
    style = resources.files("marco_data.dashboard").joinpath("style.css").read_text("utf-8")
    return filled("export.html", view, title="Report", name="", pages={}, sections=sections, style=Markup(style))
