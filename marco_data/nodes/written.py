"""What a task of `generate` leaves behind: documents as a reader gives them, dead letters, and counts of requests.

In: what was wanted, and what became of it. Out: tables. A row knows what it was made from, and by which completions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from marco_data.generation.accounting import RequestCount, add_requests
from marco_data.generation.entry import Model
from marco_data.generation.generator import Completion
from marco_data.generation.maker import Made, Seed
from marco_data.records import Record
from marco_data.sources import READ_SCHEMA
from marco_data.tokenizer import Tokenizer

HEAD = 2000
"""Characters of a rejected text that are kept."""

WRITTEN = pa.schema(
    [
        *READ_SCHEMA,
        ("parent_ids", pa.list_(pa.string())),
        ("entry", pa.string()),
        ("maker", pa.string()),
        ("prompt", pa.string()),
        ("model", pa.string()),
        ("seed_language", pa.string()),
        ("ordinal", pa.int32()),
        ("attempt", pa.int32()),
        ("labels", pa.string()),  # JSON
        ("completions", pa.list_(pa.string())),  # their keys in the ledger
    ]
)
REJECTED = pa.schema(
    [
        ("request", pa.string()),
        ("seed_id", pa.string()),
        ("source", pa.string()),
        ("maker", pa.string()),
        ("language", pa.string()),
        ("ordinal", pa.int32()),
        ("attempt", pa.int32()),
        ("prompt", pa.string()),
        ("reason", pa.string()),
        ("measured", pa.float64()),
        ("text", pa.string()),
        ("completions", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Wanted:
    """One document that is asked for. `request` names it, whatever becomes of it."""

    seed: Seed
    language: str
    ordinal: int
    attempt: int
    request: str


@dataclass
class Answered:
    """What became of a wanted document, and by which completions, by their keys."""

    made: Made
    completions: dict[str, Completion]


@dataclass(frozen=True)
class Writer:
    """Who writes: an entry of `generate`, its maker and model, and the source its documents are of."""

    entry: str
    maker: str
    part: str
    model: Model


def documents_of(
    writer: Writer, wanted: Sequence[Wanted], outcomes: Sequence[Answered], tokenizer: Tokenizer
) -> tuple[pa.Table, dict[str, int]]:
    """What was accepted, and its tokens by request."""
    rows: list[dict[str, Any]] = []
    requests: list[str] = []
    for what, outcome in zip(wanted, outcomes, strict=True):
        made = outcome.made
        if made.reason is not None or made.text is None:
            continue
        requests.append(what.request)
        prompts = "+".join(made.prompts)
        # The entry's name, not the maker's: two entries may ask two models the same about one seed.
        parts = [what.seed.id, writer.entry, prompts, what.language, str(what.ordinal)]
        rows.append(
            {
                "id": xxhash.xxh3_128_hexdigest("\0".join(parts).encode()),
                "source": writer.part,
                "url": what.seed.url,
                "licence": what.seed.licence,
                "declared_language": what.language,
                "position": len(rows),
                "text": made.text,
                "parent_ids": [what.seed.id],
                "entry": writer.entry,
                "maker": writer.maker,
                "prompt": prompts,
                "model": f"{writer.model.model}@{writer.model.revision}",
                "seed_language": what.seed.language,
                "ordinal": what.ordinal,
                "attempt": what.attempt,
                "labels": json.dumps(dict(made.labels), sort_keys=True, ensure_ascii=False),
                "completions": sorted(outcome.completions),
            }
        )
    lengths: list[int] = []
    if rows:
        _, offsets = tokenizer.encode_flat([row["text"] for row in rows])
        lengths = np.diff(offsets).tolist()
    return pa.Table.from_pylist(rows, WRITTEN), dict(zip(requests, lengths, strict=True))


def rejected_of(writer: Writer, wanted: Sequence[Wanted], outcomes: Sequence[Answered]) -> pa.Table:
    rows = [
        {
            "request": what.request,
            "seed_id": what.seed.id,
            "source": what.seed.source,
            "maker": writer.maker,
            "language": what.language,
            "ordinal": what.ordinal,
            "attempt": what.attempt,
            "prompt": "+".join(outcome.made.prompts),
            "reason": outcome.made.reason,
            "measured": outcome.made.measured,
            "text": outcome.made.rejected_text[:HEAD],
            "completions": sorted(outcome.completions),
        }
        for what, outcome in zip(wanted, outcomes, strict=True)
        if outcome.made.reason is not None
    ]
    return pa.Table.from_pylist(rows, REJECTED)


def requests_of(
    writer: Writer, wanted: Sequence[Wanted], outcomes: Sequence[Answered], tokens: Mapping[str, int]
) -> tuple[RequestCount, ...]:
    """Requests by language and prompt; a completion that several of them share is the first one's."""
    seen: set[str] = set()
    counts = []
    for what, outcome in zip(wanted, outcomes, strict=True):
        new = [c for key, c in outcome.completions.items() if key not in seen]
        seen |= outcome.completions.keys()
        reason = outcome.made.reason
        counts.append(
            RequestCount(
                maker=writer.maker,
                language=what.language,
                prompt="+".join(outcome.made.prompts),
                model=writer.model.named,
                requested=1,
                accepted=int(reason is None),
                rejected={} if reason is None else {reason: 1},
                accepted_tokens=tokens.get(what.request, 0),
                calls=len(new),
                tokens_in=sum(c.tokens_in for c in new),
                tokens_out=sum(c.tokens_out for c in new),
                gpu_seconds=round(sum(c.gpu_seconds for c in new), 6),
            )
        )
    return add_requests(counts)


def spent(records: Sequence[Record]) -> tuple[RequestCount, ...]:
    """The requests that some records of `generate` count, added up."""
    return add_requests(RequestCount.from_row(row) for record in records for row in record.facts["requests"])
