"""The blend: what a trainer draws from a stage's token shards, and with what weight.

In: an allocation, the intervals it led to and the shards that hold them. Out: the content of `blend.json` and
of Megatron's blend text file. Knows names and counts only; paths are relative to the blend's own folder, so
that a root can be moved and compared.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from marco_data.errors import RecipeError, ShardError
from marco_data.mix import Allocation, Interval, Key, PartTotal, Share

MAX_PREFIXES = 30_000  # Megatron numbers the datasets of a blend in int16


@dataclass(frozen=True)
class BlendShard:
    """One finished shard; `prefix` is relative to the folder of `blend.json`.

    It holds each document once; a round over its language and part sees it `repeats` times.
    """

    prefix: str
    part: str
    language: str
    source: str
    documents: int
    tokens: int
    repeats: int = 1


@dataclass(frozen=True)
class BlendHeader:
    """Whose blend it is; `tokenizer` is `Tokenizer.identity()`, `waivers` what was left out knowingly."""

    family: str
    stage: int
    fingerprint: str
    tokenizer: Mapping[str, Any]
    waivers: Sequence[str] = ()


def blend_json(
    header: BlendHeader,
    allocation: Allocation,
    intervals: Mapping[Key, Interval],
    shards: Sequence[BlendShard],
    *,
    starts: Mapping[Key, int],
) -> dict[str, Any]:
    """The content of `blend.json`: what a trainer draws, what was asked for, and where the next stage starts.

    `tokens` are in the shards, once; `drawn` is what the stage sees of them, in `epochs` rounds: those of its language
    and part, times the `repeats` of the shard. A part's
    shortfall here is requested - drawn, so it includes what was left because the next document did not fit.
    `starts` are where this stage started, `ends` where the next one of its branch does. Raises ShardError if
    the shards do not hold what was selected, RecipeError for more shards than Megatron can number.
    """
    _check_shards(intervals, shards)
    drawn = drawn_of(allocation, intervals)
    total = sum(drawn.values())
    return {
        "family": header.family,
        "stage": header.stage,
        "fingerprint": header.fingerprint,
        "budget": allocation.budget,
        "tokens": sum(interval.tokens for interval in intervals.values()),
        "drawn": total,
        "tokenizer": dict(header.tokenizer),
        "entries": _entries(intervals, shards, drawn, total),
        "parts": [_part_row(part, drawn, total) for part in allocation.parts],
        "shares": [_share_row(share, intervals, drawn, total) for share in allocation.shares],
        "starts": _hex(starts),
        "ends": _hex({**starts, **{key: interval.hi for key, interval in intervals.items()}}),
        "waivers": list(header.waivers),
    }


def drawn_of(allocation: Allocation, intervals: Mapping[Key, Interval]) -> dict[Key, int]:
    """The tokens that a stage sees of each language and part: its target where all is taken, else what fits in it."""
    drawn = {}
    for share in allocation.shares:
        key = (share.language, share.part)
        taken = intervals[key].seen if key in intervals else 0
        drawn[key] = share.target if share.target > share.available else taken
    return drawn


def _check_shards(intervals: Mapping[Key, Interval], shards: Sequence[BlendShard]) -> None:
    if len(shards) >= MAX_PREFIXES:
        raise RecipeError(
            f"the blend would have {len(shards)} prefixes; Megatron numbers fewer than {MAX_PREFIXES}",
            hint="make the token shards larger",
        )
    spaced = [shard.prefix for shard in shards if any(c.isspace() for c in shard.prefix)]
    if spaced:
        raise RecipeError(f"Megatron's blend file cannot name `{spaced[0]}`", hint="use names without spaces")
    held: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0])
    for shard in shards:
        sums = held[shard.language, shard.part]
        sums[0] += shard.documents
        sums[1] += shard.tokens
        sums[2] += shard.tokens * shard.repeats
    selected = {key: [i.documents, i.tokens, i.seen] for key, i in intervals.items() if i.documents}
    for key in sorted(held.keys() | selected.keys()):
        if held.get(key) != selected.get(key):
            raise ShardError(
                f"the shards of {key[0]} in `{key[1]}` hold {held.get(key, [0, 0, 0])} documents, tokens and tokens of "
                f"a round, {selected.get(key, [0, 0, 0])} were selected"
            )


def _entries(
    intervals: Mapping[Key, Interval], shards: Sequence[BlendShard], drawn: Mapping[Key, int], total: int
) -> list[dict[str, Any]]:
    rows = []
    for shard in sorted(shards, key=lambda s: s.prefix):
        key = (shard.language, shard.part)
        epochs = Fraction(drawn[key], intervals[key].seen) * shard.repeats
        rows.append({**vars(shard), "weight": float(shard.tokens * epochs / total), "epochs": float(epochs)})
    return rows


def _part_row(part: PartTotal, drawn: Mapping[Key, int], total: int) -> dict[str, Any]:
    got = sum(tokens for (_, name), tokens in drawn.items() if name == part.part)
    return {
        "part": part.part,
        "requested_weight": part.requested_weight,
        "weight": got / total if total else 0.0,
        "requested": part.requested,
        "drawn": got,
        "shortfall": part.requested - got,
    }


def _share_row(share: Share, intervals: Mapping[Key, Interval], drawn: Mapping[Key, int], total: int) -> dict[str, Any]:
    key = (share.language, share.part)
    interval = intervals.get(key, Interval(0, 0, 0, 0))
    return {
        **vars(share),
        "documents": interval.documents,
        "tokens": interval.tokens,
        "drawn": drawn[key],
        "epochs": drawn[key] / interval.tokens if interval.tokens else 0.0,
        "weight": drawn[key] / total if total else 0.0,
    }


def _hex(places: Mapping[Key, int]) -> dict[str, dict[str, str]]:
    """By part and language; as text, because JSON readers round integers beyond 2^53."""
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for (language, part), place in sorted(places.items(), key=lambda item: (item[0][1], item[0][0])):
        rows[part][language] = f"{place:016x}"
    return dict(rows)


def next_starts(blend: Mapping[str, Any]) -> dict[Key, int]:
    """Where the next stage of the same branch starts, by (language, part); what is not in it starts at 0."""
    return {
        (language, part): int(place, 16) for part, places in blend["ends"].items() for language, place in places.items()
    }


def blend_text(blend: Mapping[str, Any]) -> str:
    """Megatron's blend file: `weight prefix` pairs on one line, prefixes relative to the file's folder."""
    return " ".join(f"{entry['weight']!r} {entry['prefix']}" for entry in blend["entries"]) + "\n"
