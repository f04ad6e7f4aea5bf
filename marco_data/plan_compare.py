"""What a plan expected beside what happened, so that the error of the estimate is a figure itself.

In: the expectation that a probe gives as if nothing were built, and what this root's records hold of the same plan.
Out: `Compared` lines by step and language, and those totals that are off by more than is allowed. Reads no text but the
probe's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from marco_data.dataset import Dataset
from marco_data.errors import RecipeError
from marco_data.generation.estimate import Range
from marco_data.plan_expect import Expectation
from marco_data.plan_flow import FIGURES, KEPT, Flow, SoFar, counted, range_of
from marco_data.plan_price import GROUPS, bytes_of, group_of

ALLOWED = 0.2
"""Of what happened: totals that are off by more make `plan --compare` exit 1."""

ALL, COLLECTED, DRAWN, PROCESSOR, DISK = "all", "collected", "drawn", "cpu", "disk"
JUDGED = ((COLLECTED, ALL), (KEPT, ALL), (DRAWN, ALL), (PROCESSOR, ALL), (DISK, ALL))
"""Steps whose totals are judged; what single steps drop may be a handful of documents."""


LEAST = {PROCESSOR: 30, DISK: 50e6}
"""Seconds and bytes below which a build is mostly what starting its sixteen passes of dedup takes: not judged."""


@dataclass(frozen=True)
class Compared:
    """`step` of one `language`, `all` of them, or of a group of nodes (`cpu`, `disk`); `figure` says of what.

    Not `promised` is what a plan cannot know: how much of what models will write is accepted.
    """

    step: str
    language: str
    figure: str
    expected: Range
    happened: float
    promised: bool = True

    @property
    def error(self) -> float | None:
        """Of what happened, above it where positive; None where nothing did."""
        return (self.expected.expected - self.happened) / self.happened if self.happened else None

    @property
    def within(self) -> bool:
        return self.error is not None and abs(self.error) <= ALLOWED

    @property
    def judged(self) -> bool:
        return self.promised and (self.step, self.language) in JUDGED and self.happened >= LEAST.get(self.step, 0)


def compare(
    expected: Expectation, found: SoFar, timed: dict[str, tuple[float, int]], dataset: Dataset
) -> list[Compared]:
    """Every step, language and figure; RecipeError where the plan has not been built here."""
    if "mix" not in found.records or "shards" not in found.records:
        raise RecipeError(
            "there is nothing to compare with: this plan is not built in this root", hint="marco-data build-stage first"
        )
    generates = any(node.kind == "generate" for node in dataset.nodes)
    happened = counted(found, Flow({}))
    lines: list[Compared] = []
    for language in ("", *sorted({*expected.flow.languages, *happened.languages})):
        steps: list[tuple[str, list[str] | None]] = [(COLLECTED, None)]
        steps += [(name, [name]) for name in dict.fromkeys([*expected.flow.outcomes, *happened.outcomes])]
        for step, outcomes in steps:
            foretold = expected.flow.total(outcomes=outcomes, language=language)
            real = happened.total(outcomes=outcomes, language=language)
            for n, figure in enumerate(FIGURES):
                if foretold[0, n] or real[0, n]:
                    lines.append(Compared(step, language or ALL, figure, range_of(foretold, n), float(real[0, n])))
    lines += _drawn(expected, found, promised=not generates)
    return lines + _spent(expected, found, timed, dataset)


def _drawn(expected: Expectation, found: SoFar, *, promised: bool) -> list[Compared]:
    real: dict[str, int] = {}
    for share in found.records["mix"][0].facts["allocation"]["shares"]:
        real[share["language"]] = real.get(share["language"], 0) + share["target"]
    foretold: dict[str, int] = {}
    for own in expected.allocation.shares:
        foretold[own.language] = foretold.get(own.language, 0) + own.target
    rows = [(ALL, sum(foretold.values()), sum(real.values()))]
    rows += [(code, foretold.get(code, 0), real.get(code, 0)) for code in sorted({*foretold, *real})]
    return [Compared(DRAWN, code, "tokens", Range(float(a), None), float(b), promised) for code, a, b in rows if a or b]


def _spent(
    expected: Expectation, found: SoFar, timed: dict[str, tuple[float, int]], dataset: Dataset
) -> list[Compared]:
    """Processors and disk by group of nodes; processors only where every task was timed in this root."""
    nodes = {group: [n.name for n in dataset.nodes if group_of(n.kind) == group] for group in GROUPS}
    size = {group: float(bytes_of(found, own)) for group, own in nodes.items()}
    price = expected.price
    lines = [Compared(DISK, line.what, "bytes", line.figure, size[line.what]) for line in price.disk if size[line.what]]
    lines.append(Compared(DISK, ALL, "bytes", price.disk_bytes, sum(size.values())))
    if all(node in timed for own in nodes.values() for node in own):
        seconds = {group: sum(timed[node][0] for node in own) for group, own in nodes.items()}
        lines += [
            Compared(PROCESSOR, line.what, "seconds", line.figure, seconds[line.what])
            for line in price.seconds
            if seconds[line.what]
        ]
        whole = sum(
            seconds[line.what] for line in price.seconds
        )  # generation waits for models; its own work is not told
        lines.append(Compared(PROCESSOR, ALL, "seconds", price.cpu_hours.times(3600), whole))
    return lines


def off(lines: Sequence[Compared]) -> list[Compared]:
    """The totals that are judged and off by more than is allowed."""
    return [line for line in lines if line.judged and not line.within]


def compared_object(lines: Sequence[Compared]) -> dict[str, Any]:
    """Plain JSON."""
    return {
        "allowed": ALLOWED,
        "compared": [
            {**asdict(line), "expected": line.expected.to_json(), "error": line.error, "judged": line.judged}
            for line in lines
        ],
        "off": [f"{line.step} {line.figure}" for line in off(lines)],
    }
