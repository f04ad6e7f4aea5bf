"""Two kinds of picture as plain SVG: curves with their spread, and groups of bars from 0 with theirs. Knows no data.

Written by hand because that is all there is to draw, and because the same figures then give the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666")
"""Told apart by those who see fewer colours, too (Okabe and Ito)."""
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 210, 50, 50


@dataclass(frozen=True)
class Spread:
    """A figure of several seeds."""

    middle: float
    least: float
    most: float


@dataclass(frozen=True)
class Curve:
    """`points`: (x, figure), from left to right."""

    name: str
    points: Sequence[tuple[float, Spread]]


@dataclass(frozen=True)
class Bars:
    """A figure for each group; None where there is none."""

    name: str
    heights: Sequence[Spread | None]


def curves(title: str, x_name: str, y_name: str, found: Sequence[Curve]) -> str:
    """A line for each curve through its middles, with a band from its least to its most."""
    spreads = [spread for curve in found for _, spread in curve.points]
    low, high = _widened(min(s.least for s in spreads), max(s.most for s in spreads))
    right = max(x for curve in found for x, _ in curve.points) or 1.0
    out = _frame(title, x_name, y_name, low, high)

    def x_of(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / right

    for value in _ticks(0.0, right):
        out.append(_text(x_of(value), HEIGHT - BOTTOM + 18, f"{value:g}", anchor="middle"))
    for number, curve in enumerate(found):
        colour = COLOURS[number % len(COLOURS)]
        above = [f"{x_of(x):.1f},{_y(s.most, low, high):.1f}" for x, s in curve.points]
        below = [f"{x_of(x):.1f},{_y(s.least, low, high):.1f}" for x, s in reversed(curve.points)]
        out.append(f'<polygon points="{" ".join(above + below)}" fill="{colour}" opacity="0.2"/>')
        line = " ".join(f"{x_of(x):.1f},{_y(s.middle, low, high):.1f}" for x, s in curve.points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(_key(number, curve.name))
    return "\n".join([*out, "</svg>"]) + "\n"


def bars(title: str, y_name: str, groups: Sequence[str], found: Sequence[Bars]) -> str:
    """A group of bars for each name, up or down from 0, with a line from least to most."""
    spreads = [s for one in found for s in one.heights if s is not None]
    low, high = _widened(min(0.0, *(s.least for s in spreads)), max(0.0, *(s.most for s in spreads)))
    out = _frame(title, "", y_name, low, high)
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    width = room * 0.8 / len(found)
    for at, group in enumerate(groups):
        out.append(_text(LEFT + room * (at + 0.5), HEIGHT - BOTTOM + 18, group, anchor="middle"))
    for number, one in enumerate(found):
        colour = COLOURS[number % len(COLOURS)]
        out.append(_key(number, one.name))
        for at, spread in enumerate(one.heights):
            if spread is None:
                continue
            x = LEFT + room * (at + 0.1) + width * number
            y, end = sorted((_y(spread.middle, low, high), _y(0.0, low, high)))
            tall = end - y
            out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.9:.1f}" height="{tall:.1f}" fill="{colour}"/>')
            middle, ends = x + width * 0.45, (_y(spread.most, low, high), _y(spread.least, low, high))
            out.append(_line(middle, ends[0], middle, ends[1], "#000000"))
    zero = _y(0.0, low, high)
    out.append(_line(LEFT, zero, WIDTH - RIGHT, zero, "#000000"))
    return "\n".join([*out, "</svg>"]) + "\n"


def _widened(low: float, high: float) -> tuple[float, float]:
    more = (high - low) * 0.05 or 1.0
    return low - more, high + more


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers between the two."""
    rough = (high - low) / 8
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(times for times in (1, 2, 5, 10) if times * size >= rough)
    return [round(step * n, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)


def _frame(title: str, x_name: str, y_name: str, low: float, high: float) -> list[str]:
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 22, title, size=14),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name, anchor="middle"),
        _text(8, TOP - 6, y_name, size=10),
    ]
    for value in _ticks(low, high):
        y = _y(value, low, high)
        out += [_line(LEFT, y, WIDTH - RIGHT, y, "#dddddd"), _text(LEFT - 6, y + 4, f"{value:g}", anchor="end")]
    return out


def _key(number: int, name: str) -> str:
    y = TOP + 10 + 20 * number
    colour = COLOURS[number % len(COLOURS)]
    square = f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 10}" width="12" height="12" fill="{colour}"/>'
    return square + _text(WIDTH - RIGHT + 32, y, name)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
