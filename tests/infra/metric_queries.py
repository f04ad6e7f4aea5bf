"""The queries of the shipped Grafana dashboard, taken apart: which series each one asks for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "infra" / "metrics" / "dashboard.json"


@dataclass(frozen=True)
class Selector:
    """A metric and what its labels have to match: (label, operator, value)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]

    def takes(self, labels: dict[str, str]) -> bool:
        def matched(label: str, operator: str, value: str) -> bool:
            is_like = re.fullmatch(value, labels.get(label, "")) if "~" in operator else labels.get(label, "") == value
            return bool(is_like) != operator.startswith("!")

        return all(matched(*matcher) for matcher in self.matchers)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """As Prometheus gets them, with all stages chosen."""
    written = [target["expr"] for panel in panels() for target in panel["targets"]]
    known = {"$__rate_interval": "1m", "$__range": "6h", "$stage": ".*"}
    for name, value in known.items():
        written = [expr.replace(name, value) for expr in written]
    return written


def parsed(expr: str) -> Any:
    return pytest.importorskip("promql_parser").parse(expr)


def selectors(expr: str) -> list[Selector]:
    return list(_selectors(parsed(expr)))


def _selectors(node: Any) -> Iterator[Selector]:
    if type(node).__name__ == "VectorSelector":
        operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
        given = [(m.name, operators[str(m.op).rpartition(".")[2]], m.value) for m in node.matchers.matchers]
        yield Selector(node.name, tuple(given))
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from _selectors(inner)
    for inner in getattr(node, "args", ()):
        yield from _selectors(inner)


def groupings(node: Any) -> Iterator[str]:
    """The labels that aggregations of a query keep."""
    modifier = getattr(node, "modifier", None)
    if type(node).__name__ == "AggregateExpr" and modifier is not None:
        yield from modifier.labels
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from groupings(inner)
    for inner in getattr(node, "args", ()):
        yield from groupings(inner)
