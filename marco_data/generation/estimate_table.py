"""Estimates as people and scripts read them: plain JSON, and tables of strings.

In: `Estimate`s. Out: rows, their sums by maker, and the sentences that say what they rest on. Prints nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from marco_data.generation.accounting import Cells
from marco_data.generation.estimate import Estimate, Range, add_ranges


def estimates_object(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Plain JSON of the estimates and of their sums by maker."""
    rows = [
        {
            **asdict(one),
            **{name: None if r is None else r.to_json() for name, r in _ranges(one).items()},
            "measured_on": list(one.measured_on),
        }
        for one in estimates
    ]
    return {
        "estimates": rows,
        "makers": {
            maker: {
                "requests": sum(one.requests for one in own),
                **{name: None if r is None else r.to_json() for name, r in _sums(own).items()},
            }
            for maker, own in _by_maker(estimates).items()
        },
    }


RANGES = ("calls", "tokens_in", "tokens_out", "most_tokens_out", "completion_bytes", "gpu_hours", "cost")


def _ranges(one: Estimate) -> dict[str, Range | None]:
    return {name: getattr(one, name) for name in RANGES}


def _sums(estimates: Sequence[Estimate]) -> dict[str, Range | None]:
    """None where one of them is not known."""
    out: dict[str, Range | None] = {}
    for name in RANGES:
        terms = [_ranges(one)[name] for one in estimates]
        known = [term for term in terms if term is not None]
        out[name] = add_ranges(known) if len(known) == len(terms) else None
    return out


def _by_maker(estimates: Iterable[Estimate]) -> dict[str, list[Estimate]]:
    makers: dict[str, list[Estimate]] = defaultdict(list)
    for one in estimates:
        makers[one.maker].append(one)
    return {maker: makers[maker] for maker in sorted(makers)}


def estimates_table(estimates: Sequence[Estimate]) -> tuple[Cells, list[Cells], list[str]]:
    """The header, a line for each entry and language and one for each maker's sum, and what it was measured on.

    What most of them rest on comes first.
    """
    header: Cells = ("entry", "language", "requests", "calls", "tokens in", "tokens out", "at most", "GPU-hours")
    header += ("cost $", "completions, bytes")
    lines = [
        _line(one.entry, one.language, one.requests, _ranges(one))
        for one in sorted(estimates, key=lambda one: (one.maker, one.entry, one.language))
    ]
    for maker, own in _by_maker(estimates).items():
        if len(own) > 1:
            lines.append(_line(maker, "all", sum(one.requests for one in own), _sums(own)))
    grounds: dict[str, list[str]] = defaultdict(list)
    for one in estimates:
        for sentence in one.measured_on:
            grounds[sentence].append(f"{one.entry}/{one.language}")
    notes = [
        sentence if len(who) == len(estimates) else f"{sentence} ({', '.join(who[:6])}{', ...' * (len(who) > 6)})"
        for sentence, who in sorted(grounds.items(), key=lambda item: -len(item[1]))
    ]
    return header, lines, notes


def _line(entry: str, language: str, requests: int, ranges: Mapping[str, Range | None]) -> Cells:
    most = ranges["most_tokens_out"]
    return (
        entry,
        language,
        f"{requests:,}",
        told(ranges["calls"]),
        told(ranges["tokens_in"]),
        told(ranges["tokens_out"]),
        "" if most is None else short(most.expected),
        told(ranges["gpu_hours"]),
        told(ranges["cost"]),
        told(ranges["completion_bytes"]),
    )


def told(figure: Range | None) -> str:
    """`1.25M (1.1M to 1.4M)`; empty where it is not known, `?` where its range is not."""
    if figure is None:
        return ""
    if figure.low is None or figure.high is None:
        return f"{short(figure.expected)} (?)"
    if short(figure.low) == short(figure.high):
        return short(figure.expected)
    return f"{short(figure.expected)} ({short(figure.low)} to {short(figure.high)})"


def short(number: float) -> str:
    """Three digits and K, M, B or T for a thousand to a trillion."""
    for unit in ("", "K", "M", "B"):
        if abs(number) < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.3g}T"
