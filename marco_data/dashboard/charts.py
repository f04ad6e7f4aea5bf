"""Charts: Vega-Lite specifications of a panel's figures, and their SVG, drawn here so that a page needs no script.

In: rows of plain values, in the order they are drawn. Out: SVG whose colours are the style sheet's variables, which
makes one picture right in light and in dark mode, and whose bars are links. vl-convert draws it in this process: it
asks no network and reads no file. Knows nothing of roots, stages or languages.
"""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import vl_convert

WIDTH = 300
ROW = 17
"""Points of a chart's plot, and of a bar with its gap: text stays legible where a phone halves neither."""

Row = Mapping[str, Any]

COLOURS = [f"var(--series-{number})" for number in range(1, 11)]
_TEXT = "var(--text)"
CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _TEXT,
        "titleColor": _TEXT,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 240,
    },
    "legend": {
        "labelColor": _TEXT,
        "titleColor": _TEXT,
        "labelFontSize": 12,
        "orient": "bottom",
        "columns": 3,
        "labelLimit": 240,
    },
    "text": {"color": _TEXT, "fontSize": 11},
    "range": {"category": COLOURS},
}


def bars(
    rows: Sequence[Row], *, axis: str, log: bool = False, target: bool = False, share: bool = False
) -> dict[str, Any]:
    """A bar a row of {label, value, said, href?, target?}; `said` is written beside it, a tick stands at the target."""
    top = max([*(row["value"] or 0 for row in rows), *(row.get("target") or 0 for row in rows), 1e-12])
    scale: dict[str, Any] = {"domain": [0, top * 1.4], "nice": False}
    if log:
        scale = {"type": "log", "domain": [1, max(top, 2) ** 1.4], "nice": False, "clamp": True}
    floor: dict[str, Any] = {"x2": {"datum": 1}} if log else {}
    order = [row["label"] for row in rows]
    labels = {"field": "label", "type": "nominal", "sort": order, "scale": {"domain": order}, "title": None}
    linked: dict[str, Any] = {"href": {"field": "href"}} if any(row.get("href") for row in rows) else {}
    ticks = {"grid": False, "tickCount": 4, "format": ".0%" if share else "~s"}

    def x(name: str) -> dict[str, Any]:
        return {"field": name, "type": "quantitative", "scale": scale, "title": axis, "axis": ticks}

    shown = [{**row, "value": row["value"] if not log or (row["value"] or 0) >= 1 else None} for row in rows]
    said = {"field": "told", "type": "nominal"}
    bar = {"y": labels, "x": x("value"), "description": said, **floor, **linked}
    end = {"y": labels, "x": x("end"), "text": {"field": "said"}, **linked}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "bar", "color": COLOURS[0], "height": {"band": 0.75}}, "encoding": bar},
        {"mark": {"type": "text", "align": "left", "dx": 4, "baseline": "middle", "aria": False}, "encoding": end},
    ]
    if target:
        tick = {"type": "tick", "color": COLOURS[1], "thickness": 3, "height": {"band": 0.9}, "aria": False}
        layers.append({"mark": tick, "encoding": {"y": labels, "x": x("target")}})
    if linked:  # a bar may be too thin to be hit: the whole row leads where it does
        ends = {"x": {**x("value"), "datum": scale["domain"][1]}, "x2": {"datum": scale["domain"][0]}}
        del ends["x"]["field"]
        layers.append(
            {"mark": {"type": "bar", "opacity": 0, "aria": False}, "encoding": {"y": labels, **ends, **linked}}
        )
    for row in shown:
        row["end"] = max(row["value"] or (1 if log else 0), row.get("target") or 0)
        row["told"] = f"{row['label']}: {row['said']}"
    return _chart(shown, layers, height=max(1, len(rows)) * ROW)


def stacked(rows: Sequence[Row], *, axis: str, kinds: Sequence[str]) -> dict[str, Any]:
    """A bar a label, in pieces: rows of {label, kind, value, href?}; `kinds` orders colours and pieces."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    order = {kind: number for number, kind in enumerate(kinds)}
    data = [{**row, "order": order[row["kind"]], "told": _told(row)} for row in rows]
    linked: dict[str, Any] = {"href": {"field": "href"}} if any(row.get("href") for row in rows) else {}
    encoding: dict[str, Any] = {
        "y": {"field": "label", "type": "nominal", "sort": labels, "title": None},
        "x": {"field": "value", "type": "quantitative", "title": axis, "axis": {"grid": False, "tickCount": 4}},
        "color": {"field": "kind", "type": "nominal", "sort": list(kinds), "scale": {"domain": list(kinds)}},
        "order": {"field": "order", "type": "quantitative"},
        "description": {"field": "told", "type": "nominal"},
        **linked,
    }
    encoding["x"]["axis"]["format"] = "~s"
    encoding["color"]["title"] = None
    return _chart(data, [{"mark": {"type": "bar", "height": {"band": 0.75}}, "encoding": encoding}], len(labels) * ROW)


def _told(row: Row) -> str:
    return f"{row['label']}, {row['kind']}: {row['value']:,}"


def histogram(
    rows: Sequence[Row], *, axis: str, limit: float | None = None, side: str = "", kept: Sequence[Row] = ()
) -> dict[str, Any]:
    """Bars of {lo, hi, documents}; a line stands at the limit; a curve of {at, kept} says what moving it would keep."""
    data = [{**row, "told": f"{row['lo']:.4g} to {row['hi']:.4g}: {row['documents']:,} documents"} for row in rows]
    x = {"field": "lo", "type": "quantitative", "title": axis, "axis": {"grid": False, "tickCount": 5}}
    encoding = {
        "x": x,
        "x2": {"field": "hi"},
        "y": {"field": "documents", "type": "quantitative", "title": "documents", "axis": {"tickCount": 4}},
        "y2": {"datum": 0},
        "description": {"field": "told", "type": "nominal"},
    }
    layers: list[dict[str, Any]] = [{"mark": {"type": "bar", "color": COLOURS[0]}, "encoding": encoding}]
    if kept:
        share = {"field": "kept", "type": "quantitative", "scale": {"domain": [0, 1]}, "title": "kept, limit here"}
        share["axis"] = {"format": "%", "grid": False, "tickCount": 4, "titleColor": COLOURS[2]}
        curve = {"x": {"field": "at", "type": "quantitative"}, "y": share}
        line = {"type": "line", "color": COLOURS[2], "strokeWidth": 2, "aria": False}
        layers.append({"data": {"values": list(kept)}, "mark": line, "encoding": curve})
    if limit is not None:
        place = {"x": {"datum": limit}}
        rule = {"type": "rule", "color": COLOURS[1], "strokeWidth": 3, "strokeDash": [6, 3], "aria": False}
        word = {"type": "text", "text": f"limit, {side}", "align": "left", "dx": 4, "dy": 6, "color": COLOURS[1]}
        layers += [
            {"data": {"values": [{}]}, "mark": rule, "encoding": place},
            {"data": {"values": [{}]}, "mark": {**word, "aria": False}, "encoding": {**place, "y": {"value": 0}}},
        ]
    return {**_chart(data, layers, 200), "resolve": {"scale": {"y": "independent"}}}


def lines(rows: Sequence[Row], *, x: str, y: str, log: bool = False) -> dict[str, Any]:
    """Curves of {at, value, kind}."""
    several = len({row["kind"] for row in rows}) > 1
    encoding: dict[str, Any] = {
        "x": {"field": "at", "type": "quantitative", "title": x, "axis": {"tickCount": 5, "format": "~s"}},
        "y": {"field": "value", "type": "quantitative", "title": y, "scale": {"zero": False}},
        "color": {"field": "kind", "type": "nominal", "title": None} if several else {"value": COLOURS[0]},
    }
    if log:
        encoding["y"]["scale"] = {"type": "log"}
    return _chart(list(rows), [{"mark": {"type": "line", "strokeWidth": 2}, "encoding": encoding}], 200)


def grid(rows: Sequence[Row], *, x: str, y: str) -> dict[str, Any]:
    """A cell for each {across, down, strength, said, href?}; the stronger, the darker, and its figure is in it."""
    across = list(dict.fromkeys(row["across"] for row in rows))
    down = list(dict.fromkeys(row["down"] for row in rows))
    data = [{**row, "told": f"{row['down']}, {row['across']}: {row['said']}"} for row in rows]
    place: dict[str, Any] = {
        "x": {"field": "across", "type": "nominal", "sort": across, "title": x, "axis": {"orient": "top"}},
        "y": {"field": "down", "type": "nominal", "sort": down, "title": y},
    }
    linked: dict[str, Any] = {"href": {"field": "href"}} if any(row.get("href") for row in rows) else {}
    dark = {"domain": [0, 1], "range": [0.03, 0.6]}
    strength = {"field": "strength", "type": "quantitative", "legend": None, "scale": dark}
    said = {"description": {"field": "told", "type": "nominal"}}
    cell = {"mark": {"type": "rect", "color": COLOURS[0]}, "encoding": {**place, **said, **linked, "opacity": strength}}
    word = {"mark": {"type": "text", "aria": False}, "encoding": {**place, **linked, "text": {"field": "said"}}}
    return {**_chart(data, [cell, word], len(down) * ROW), "width": max(60 * len(across), 60)}


_HERE = "http://here.invalid"
"""Vega puts the host of its own examples before an address without one; this one is taken away again."""


def _chart(data: Sequence[Row], layers: list[dict[str, Any]], height: int) -> dict[str, Any]:
    schema = "https://vega.github.io/schema/vega-lite/v5.json"  # a name; nothing is asked of that host
    return {
        "$schema": schema,
        "width": WIDTH,
        "height": height,
        "data": {"values": [{**row, "href": _HERE + row["href"]} if row.get("href") else row for row in data]},
        "layer": layers,
        "config": CONFIG,
    }


def svg(spec: Mapping[str, Any], title: str, *, links: bool = True) -> str:
    """The picture of a specification. Without `links` its bars lead nowhere."""
    drawn = _drawn(json.dumps(spec, ensure_ascii=False)).replace(f'xlink:href="{_HERE}/', 'href="/')
    if not links:
        drawn = re.sub(r"<a [^>]*>|</a>", "", drawn)
    # The table beside a chart has the same links: a keyboard need not pass through all of them twice.
    drawn = drawn.replace("<a ", '<a tabindex="-1" ')
    name = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return drawn.replace("<svg ", f'<svg role="graphics-document" aria-label="{name}" ', 1)


def warm() -> None:
    """Start the drawing machine, half a second's work, before anyone waits for it."""
    threading.Thread(
        target=lambda: svg(bars([{"label": "", "value": 1, "said": ""}], axis=""), ""), daemon=True
    ).start()


@lru_cache(maxsize=512)
def _drawn(spec: str) -> str:
    return str(vl_convert.vegalite_to_svg(json.loads(spec), allowed_base_urls=[]))
