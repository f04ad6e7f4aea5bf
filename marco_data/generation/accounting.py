"""The books of generation: what was asked for, what became of it, what it cost.

In: the rows that each generate task leaves in its record, one for a maker, language, prompt and model. Out: their
sums, the `requests` and `requests_by` of `stats --json`, and tables of strings. A request here is one wanted document,
however many calls it took; every one is accepted or rejected with a reason. Knows no file, no pool and no terminal.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from marco_data.generation.generator import NOT_RECORDED, REFUSED_BY_SERVER, TOO_LONG

UNANSWERED = (NOT_RECORDED, TOO_LONG, REFUSED_BY_SERVER)
"""Reasons of a document for which no model wrote a word."""

MILLION, HOUR = 1_000_000, 3600


@dataclass(frozen=True)
class RequestCount:
    """Wanted documents of one maker, language, prompt and model: how many, what became of them, what they cost.

    `prompt` joins the prompts' names by `+`, `model` is `name@revision`, cut to eight digits. Tokens in and out and
    `gpu_seconds` are the model's, whenever the answers were made; `accepted_tokens` the training tokenizer's.
    """

    maker: str
    language: str
    prompt: str
    model: str
    requested: int = 0
    accepted: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    accepted_tokens: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    gpu_seconds: float = 0.0

    @property
    def group(self) -> tuple[str, str, str, str]:
        return (self.maker, self.language, self.prompt, self.model)

    @property
    def generated(self) -> int:
        """Documents for which a model wrote something, accepted or not."""
        return self.requested - sum(self.rejected.get(reason, 0) for reason in UNANSWERED)

    @property
    def unexplained(self) -> int:
        """Documents neither accepted nor rejected with a reason; anything but 0 is an error of the books."""
        return self.requested - self.accepted - sum(self.rejected.values())

    @property
    def tokens_a_second(self) -> float | None:
        """Written tokens for each second of one GPU; None where no engine gave its time."""
        return self.tokens_out / self.gpu_seconds if self.gpu_seconds else None

    def to_row(self) -> dict[str, Any]:
        """What a record's `facts["requests"]` holds of it, as plain JSON."""
        return asdict(self)

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> "RequestCount":
        return RequestCount(**row)


@dataclass(frozen=True)
class Price:
    """What a model costs: US dollars for a million tokens in and out, or for a GPU-hour. None: unknown."""

    input: float | None = None
    output: float | None = None
    gpu_hour: float | None = None

    def cost(self, *, tokens_in: float, tokens_out: float, gpu_seconds: float) -> float | None:
        """Dollars, by tokens where both prices are known, else by GPU-hours; None where neither is known.

        A GPU-hour's price says nothing of answers that came without an engine's time.
        """
        if self.input is not None and self.output is not None:
            return (tokens_in * self.input + tokens_out * self.output) / MILLION
        if self.gpu_hour is not None and (gpu_seconds or not tokens_out):
            return gpu_seconds * self.gpu_hour / HOUR
        return None


Prices = Mapping[str, Price]
"""By the model's name, with or without `@revision`."""


def cost_of(row: RequestCount, prices: Prices) -> float | None:
    """Dollars that the answers in this row cost; None where its model has no price."""
    price = prices.get(row.model) or prices.get(row.model.rpartition("@")[0])
    if price is None:
        return None
    return price.cost(tokens_in=row.tokens_in, tokens_out=row.tokens_out, gpu_seconds=row.gpu_seconds)


def add_requests(rows: Iterable[RequestCount]) -> tuple[RequestCount, ...]:
    """Sum rows of the same group; sorted, so that the result does not depend on the order of adding."""
    groups: dict[tuple[str, str, str, str], list[RequestCount]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return tuple(_sum(groups[group], *group) for group in sorted(groups))


def _sum(rows: Sequence[RequestCount], maker: str, language: str, prompt: str, model: str) -> RequestCount:
    return RequestCount(
        maker=maker,
        language=language,
        prompt=prompt,
        model=model,
        requested=sum(row.requested for row in rows),
        accepted=sum(row.accepted for row in rows),
        rejected=_reasons(rows),
        accepted_tokens=sum(row.accepted_tokens for row in rows),
        calls=sum(row.calls for row in rows),
        tokens_in=sum(row.tokens_in for row in rows),
        tokens_out=sum(row.tokens_out for row in rows),
        gpu_seconds=math.fsum(row.gpu_seconds for row in rows),  # fsum: no order of adding shows in the last digit
    )


def _reasons(rows: Iterable[RequestCount]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        for reason, number in row.rejected.items():
            sums[reason] += number
    return {reason: sums[reason] for reason in sorted(sums) if sums[reason]}


def unbalanced_requests(rows: Iterable[RequestCount]) -> tuple[RequestCount, ...]:
    """The sums whose `requested` is not `accepted` plus everything rejected; empty where the books are right."""
    return tuple(row for row in add_requests(rows) if row.unexplained)


def requests_object(rows: Iterable[RequestCount]) -> dict[str, dict[str, Any]]:
    """`requests` of `stats --json`: {maker: {requested, accepted, rejected {reason: n}}}, makers that were asked."""
    makers: dict[str, list[RequestCount]] = defaultdict(list)
    for row in rows:
        makers[row.maker].append(row)
    return {
        maker: {
            "requested": sum(row.requested for row in makers[maker]),
            "accepted": sum(row.accepted for row in makers[maker]),
            "rejected": _reasons(makers[maker]),
        }
        for maker in sorted(makers)
    }


def requests_by(rows: Iterable[RequestCount], prices: Prices | None = None) -> list[dict[str, Any]]:
    """`requests_by` of `stats --json`: a row for each maker, language, prompt and model.

    `tokens_a_second` and `cost` are None where seconds or a price are unknown: 0 would be a claim.
    """
    return [
        {
            **row.to_row(),
            "generated": row.generated,
            "tokens_a_second": row.tokens_a_second,
            "cost": cost_of(row, prices or {}),
        }
        for row in add_requests(rows)
    ]


Cells = tuple[str, ...]
"""One line of a table."""


def requests_table(rows: Iterable[RequestCount], prices: Prices | None = None) -> tuple[Cells, list[Cells]]:
    """The header and the lines of the requests' table, a line for each maker, language, prompt and model.

    The last line is the sum. A cost or a speed is empty where it is unknown for any part of its line.
    """
    header: Cells = ("maker", "language", "prompt", "model", "requested", "generated", "accepted", "%", "tokens")
    header += ("tokens in", "tokens out", "tokens/s", "GPU-hours", "cost $", "rejected")
    sums = add_requests(rows)
    costs = [cost_of(row, prices or {}) for row in sums]
    lines = [_line(row, row.tokens_a_second, cost) for row, cost in zip(sums, costs, strict=True)]
    if len(sums) > 1:
        whole = _sum(sums, "all", "", "", "")
        known = [cost for cost in costs if cost is not None]
        timed = all(row.gpu_seconds or not row.tokens_out for row in sums)
        cost = math.fsum(known) if len(known) == len(costs) else None
        lines.append(_line(whole, whole.tokens_a_second if timed else None, cost))
    return header, lines


def _line(row: RequestCount, speed: float | None, cost: float | None) -> Cells:
    reasons = sorted(row.rejected.items(), key=lambda item: (-item[1], item[0]))
    return (
        row.maker,
        row.language,
        row.prompt,
        row.model,
        f"{row.requested:,}",
        f"{row.generated:,}",
        f"{row.accepted:,}",
        f"{row.accepted / row.requested:.1%}" if row.requested else "",
        f"{row.accepted_tokens:,}",
        f"{row.tokens_in:,}",
        f"{row.tokens_out:,}",
        "" if speed is None else f"{speed:,.0f}",
        f"{row.gpu_seconds / HOUR:,.2f}" if row.gpu_seconds else "",
        "" if cost is None else f"{cost:,.2f}",
        ", ".join(f"{reason} {number:,}" for reason, number in reasons),
    )
