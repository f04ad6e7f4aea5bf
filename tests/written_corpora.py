"""Measured and judged documents made on the spot, so that dedup alone can be run on thousands of corpora."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import xxhash

from benchmarks import dedup_alone
from marco_data.dataset import Dataset
from marco_data.dedup import REASONS, DropDuplicates
from marco_data.execute import Executor, Run
from marco_data.languages import LANGUAGES
from marco_data.step import Tools
from marco_data.steps.remove import COPIES, LISTED, CopiesRule
from marco_data.steps.sign import Sign
from marco_data.words import texts_of

SIGN = Sign()


@dataclass(frozen=True)
class Written:
    """One document as a measure shard and its verdict have it."""

    id: str
    text: str
    language: str
    low: bool = False
    reason: str | None = None


def measured(shard: Sequence[Written]) -> pa.Table:
    """The columns of a measure shard that dedup reads."""
    columns: dict[str, list[Any]] = defaultdict(list)
    for document in shard:
        signed = SIGN.bind(LANGUAGES[document.language], Tools())(pa.record_batch({"text": [document.text]}))
        for name, column in signed.columns.items():
            columns[name] += column.to_pylist()
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), *SIGN.adds])
    return pa.table({"id": [d.id for d in shard], "text": [d.text for d in shard], **columns}, schema=schema)


def given(shard: Sequence[Written]) -> pa.Table:
    """A shard as dedup takes it."""
    table = measured(shard)
    for name, values in {
        "language": pa.array([d.language for d in shard], pa.string()),
        "low": pa.array([d.low for d in shard]),
        "reason": pa.array([d.reason for d in shard], pa.string()),
    }.items():
        table = table.append_column(name, values)
    return table


def plan(shards: Sequence[Sequence[Written]], rule: DropDuplicates) -> Dataset:
    return dedup_alone.plan([given(shard) for shard in shards], rule, SIGN)


def deduplicated(
    root: Any,
    shards: Sequence[Sequence[Written]],
    rule: DropDuplicates,
    executor: Executor | None = None,
    copies: CopiesRule = "report",
) -> tuple[list[list[dict[str, Any]]], Run]:
    """The rows of each shard's sidecar, and the run."""
    tables, result = dedup_alone.deduplicated(str(root), [given(s) for s in shards], rule, SIGN, executor, copies)
    return [table.to_pylist() for table in tables], result


def specified(
    shards: Sequence[Sequence[Written]], rule: DropDuplicates, runs: Sequence[int] = (), copies: CopiesRule = "report"
) -> list[list[dict[str, Any]]]:
    """The same from the rule as it is written down, in plain Python; `runs`: which run brought each shard."""
    run = dict(enumerate(runs)) if runs else dict.fromkeys(range(len(shards)), 0)
    tables = [measured(shard).to_pylist() for shard in shards]
    out = [[_untold(d) for d in shard] for shard in shards]
    places = [(s, r) for s, shard in enumerate(shards) for r in range(len(shard)) if shards[s][r].reason is None]
    stays = _with_ids(places, shards, tables, out, run)
    cut = {LISTED} if copies == "drop" or not runs else set()
    cut |= {d.reason for shard in shards for d in shard if d.reason} if rule.over == "all" else set()
    looked_at = stays + [
        (s, r) for s, shard in enumerate(shards) for r in range(len(shard)) if shards[s][r].reason in cut
    ]  # fmt: skip
    first = {(s, r) for s, r in looked_at if shards[s][r].reason == LISTED and copies == "drop"}
    for language in {shards[s][r].language for s, r in looked_at}:
        mine = [(s, r) for s, r in looked_at if shards[s][r].language == language]
        mine.sort(key=lambda p: (run[p[0]], p not in first, *_priority(p, run[p[0]], shards, tables, out)))
        _judge(mine, shards, tables, out, rule, first, run)
    return out


def _priority(place: tuple[int, int], run: int, shards: Any, tables: Any, out: Any) -> tuple[Any, ...]:
    (s, r), document = place, shards[place[0]][place[1]]
    cut = document.reason is not None
    return run, cut, document.low and not cut, out[s][r]["id"], tables[s][r]["text_hash"], place


def _untold(document: Written) -> dict[str, Any]:
    empty = dict.fromkeys(("reason", "dup_of", "jaccard", "jaccard_exact", "cluster_size"))
    return {"row_id": document.id, "id": document.id, **empty, "kept": document.reason is None}


def _with_ids(
    places: list[tuple[int, int]], shards: Any, tables: Any, out: Any, run: dict[int, int]
) -> list[tuple[int, int]]:
    """Gives new ids and drops the same id with the same text; what is left."""
    first: dict[tuple[str, str], tuple[int, int]] = {}
    texts: dict[str, dict[str, int]] = defaultdict(dict)
    for s, r in places:
        texts[shards[s][r].id].setdefault(tables[s][r]["text_hash"], run[s])
    keeps = {}
    for id, of in texts.items():
        earliest = [text for text, number in of.items() if number == min(of.values())]
        keeps[id] = earliest[0] if len(earliest) == 1 else None
    stays = []
    for s, r in places:
        id, text = shards[s][r].id, tables[s][r]["text_hash"]
        if text != keeps[id]:
            out[s][r]["id"] = xxhash.xxh3_128_hexdigest(bytes.fromhex(id + text))
        if (id, text) in first:
            told = {"reason": REASONS[1], "dup_of": out[s][r]["id"], "jaccard": 1.0, "jaccard_exact": True}
            out[s][r] |= {**told, "kept": False}
        else:
            first[id, text] = (s, r)
            stays.append((s, r))
    return stays


def _judge(
    mine: list[tuple[int, int]], shards: Any, tables: Any, out: Any, rule: DropDuplicates, first: Any, run: Any
) -> None:
    """The verdicts on documents of one language, which come by priority."""
    banding, margin = rule.banding, rule.sigmas * (rule.threshold * (1 - rule.threshold) / rule.hashes) ** 0.5
    texts: dict[str, tuple[int, int]] = {}
    buckets: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    found: dict[tuple[int, int], tuple[str, tuple[int, int], float, bool]] = {}
    for number, p in enumerate(mine):
        row = tables[p[0]][p[1]]
        original = texts.setdefault(row["text_hash"], p)
        if original != p:
            _, survivor, jaccard, counted = found.get(original, (None, original, 1.0, True))
            found[p] = (REASONS[3 if original in found else 2], survivor, jaccard, counted)
            continue
        signature = row["signature"]
        keys = [(b, *signature[b * banding.rows : (b + 1) * banding.rows]) for b in range(banding.bands)]
        met = {q for key in keys for q in buckets[key][: rule.first]}
        for key in keys:
            buckets[key].append(p)
        for q in () if p in first else sorted(met - found.keys(), key=mine[:number].index):
            equal = sum(a == b for a, b in zip(signature, tables[q[0]][q[1]]["signature"], strict=True))
            similarity, counted = equal / rule.hashes, False
            if rule.threshold - margin < similarity < rule.threshold + margin:
                a, b = (shingles_of(shards[x[0]][x[1]]) for x in (p, q))
                similarity, counted = len(a & b) / len(a | b), True
            if similarity >= rule.threshold:
                found[p] = (REASONS[3], q, similarity, counted)
                break
    size = Counter(survivor for _, survivor, _, _ in found.values())
    for p in mine:
        here = out[p[0]][p[1]]
        reason, survivor, jaccard, counted = found.get(p, (None, p, None, False))
        if size[survivor]:
            here |= {"cluster_size": 1 + size[survivor], "jaccard_exact": counted}
        if survivor in first and run[survivor[0]] == run[p[0]] and survivor != p:
            reason = COPIES
        if reason and shards[p[0]][p[1]].reason == LISTED:
            here |= {"dup_of": out[survivor[0]][survivor[1]]["id"], "jaccard": jaccard}
        if reason and shards[p[0]][p[1]].reason is None:
            here |= {"reason": reason, "dup_of": out[survivor[0]][survivor[1]]["id"], "jaccard": jaccard, "kept": False}


def shingles_of(document: Written) -> set[int]:
    found, _ = SIGN.shingler(LANGUAGES[document.language])(texts_of(pa.array([document.text])))
    return set(found.tolist())
