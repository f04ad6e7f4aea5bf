"""A panel: one question's answer as a table, a chart and CSV; the only thing that pages are made of.

In: rows of plain values. Out: the same rows as cells for a person, as CSV for a program. Knows no HTML and no root.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Form = Literal["text", "count", "share", "number"]

SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


@dataclass(frozen=True)
class Link:
    """A value that leads to another page."""

    value: Any
    href: str


@dataclass(frozen=True)
class Column:
    """`form` says how a value is written for a person; CSV has it as it is."""

    name: str
    form: Form = "count"

    def shown(self, value: Any) -> str:
        if value is None or value == "":
            return ""
        if self.form == "text" or isinstance(value, str):
            return str(value)
        if self.form == "share":
            return f"{value:.1%}"
        return f"{value:,}" if self.form == "count" and isinstance(value, int) else number(value)


@dataclass(frozen=True)
class Choice:
    """A row of links of which one is taken: a way to sort, a scale, a language."""

    name: str
    taken: str
    options: Sequence[tuple[str, str, str]]  # value, label, href


@dataclass(frozen=True)
class Panel:
    """`name` is its anchor and the name of its CSV; `chart` a Vega-Lite specification of the same figures."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    chart: dict[str, Any] | None = None
    choices: Sequence[Choice] = field(default=())
    empty: str = "Nothing to show."

    def cells(self) -> list[list[tuple[str, str | None, bool]]]:
        """(text, address, whether a number) of every cell."""
        return [
            [
                (column.shown(plain(value)), getattr(value, "href", None), column.form != "text")
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]

    def to_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        for row in self.rows:
            writer.writerow([_harmless(plain(value)) for value in row])
        return out.getvalue()


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Link) else value


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def number(value: float) -> str:
    """Three digits that matter, without an exponent: 0.0123, 4.56, 1,234."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    for digits in range(1, 7):
        if abs(value) >= 10 ** (2 - digits):
            return f"{value:.{digits}f}"
    return f"{value:.2g}"


def short(value: float) -> str:
    """A count beside a bar: 950, 12.3 K, 4.56 M."""
    for size, suffix in SUFFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g} {suffix}"
    return f"{value:,.0f}"
