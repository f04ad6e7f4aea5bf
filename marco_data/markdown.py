"""Markdown that shows what it is given and nothing else: tables, code blocks, and text that can start no markup.

In: names, figures and text of anybody's. Out: CommonMark, with tables as GitHub has them. What a user or a document
wrote comes out as that text: no pipe of it ends a cell, no angle bracket opens a tag, no control turns the line round.
Knows nothing of stages.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

MOST = 200  # characters of a cell: a name; what is longer is somebody's text
_WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,]*")
_NAME = re.compile(r"[A-Za-z0-9*<][A-Za-z0-9./@:+*<>,_-]*")
# What reorders or hides the text around it. Joiners stay: Persian and Hindi are not spelled without them.
_UNSEEN = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
_UNSEEN_CATEGORIES = ("Cc", "Cs", "Zl", "Zp", "Co", "Cn")


def text(value: str, most: int = MOST) -> str:
    """Anybody's words on one line, as words: ASCII that could mean something to a reader becomes an entity."""
    shown = "".join(_seen(c) for c in (value[:most] + "…" if len(value) > most else value))
    shown = " ".join(shown.split())
    return "".join(_entity(c, shown[i - 1] if i else "", shown[i + 1 : i + 2]) for i, c in enumerate(shown))


def name(value: str, most: int = MOST) -> str:
    """A name of ours, or of a user's, in a table or a line: as code where nothing in it can end the code."""
    if _WORDS.fullmatch(value) and len(value) <= most:
        return value
    return f"`{value}`" if _NAME.fullmatch(value) and len(value) <= most else text(value, most)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Cells are text, figures or None. Columns of figures stand to the right; without rows, nothing."""
    given = [list(row) for row in rows]
    figures = [all(isinstance(row[i], int | float | None) for row in given) for i in range(len(header))]
    return lines(header, [[cell(value) for value in row] for row in given], figures)


def lines(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> str:
    """A table of cells that are Markdown already."""
    if not rows:
        return ""
    rule = ["---:" if i < len(right) and right[i] else "---" for i in range(len(header))]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows])


def cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return name(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def code(content: str, language: str = "") -> str:
    """A block of code; its fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content.rstrip()}\n{fence}\n"


def as_yaml(values: object) -> str:
    """YAML in the order given, lists of plain values on one line; characters that hide are escaped."""

    def dump(allow_unicode: bool) -> str:
        return str(
            yaml.safe_dump(values, default_flow_style=None, sort_keys=False, allow_unicode=allow_unicode, width=110)
        )

    dumped = dump(True)
    return dump(False) if _UNSEEN.search(dumped) else dumped


def _seen(c: str) -> str:
    if c in "\t\n\r ":
        return " "
    hidden = _UNSEEN.match(c) or unicodedata.category(c) in _UNSEEN_CATEGORIES
    return f"(U+{ord(c):04X})" if hidden else c


def _entity(c: str, before: str, after: str) -> str:
    inside = before.isalnum() and after.isalnum()  # of a word, where none of these begins anything
    ends = before.isalpha() and after in ("", " ")
    plain = not c.isascii() or c.isalnum() or c in " ,;()" or (inside and c in "_-/'") or (ends and c in ".?")
    return c if plain else f"&#{ord(c)};"
