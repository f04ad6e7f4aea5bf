"""How figures of documents are spread: quality metrics beside their limits, language scores, duplicates, rejected text.

In: columns of measure shards and sidecars, through `Lookup`. Out: plain JSON, which is kept under `runs/`, so that it
is worked out once for a build. Of a large build some shards are read, those whose names' hashes come first, and how
many of how many documents that were is part of the answer. Text is read of rejected answers alone.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from marco_data.evidence import Survey, Wanted, survey
from marco_data.records import Record
from marco_data.step import fingerprint
from marco_data.steps.apply_limits import RULES
from marco_data.storage import canonical_json
from marco_data.why import Lookup

ENOUGH_DOCUMENTS = 50_000
"""A quantile of 50,000 documents is right to half a percentage point; a shard of as many rows is read in a fifth of a
second."""
ENOUGH_ROWS = 1_000_000
"""Of columns of a few bytes: scores and sidecars."""

BINS = 30
SCORE_BINS = 20
MOVES = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
"""A limit times these: what would be kept with it."""

Floats = npt.NDArray[np.float64]


def kept_under_runs(lookup: Lookup, name: str, make: Callable[[], Any], *asked: Any) -> Any:
    """`make()`, or what an earlier call for the same build and question has left; a root that is read-only has none."""
    storage = lookup.storage
    # By what was read, not by the stage's name: a build under way has none yet.
    read = [[node, entry["manifest"], entry["records"]] for node, entry in sorted(lookup.stage.nodes.items())]
    path = f"runs/dashboard/{name}-{fingerprint([VERSION, read, *asked])}.json"
    with suppress(OSError, ValueError):
        found = storage.read_json(path)
        if found is not None:
            return found
    made = json.loads(canonical_json(make()))
    with suppress(OSError):
        storage.replace(path, canonical_json(made))
    return made


VERSION = 2
"""Of what is kept: a change of what is worked out counts one up."""


def shards_in_order(lookup: Lookup, count: Callable[[Record], int]) -> tuple[list[int], int]:
    """The numbers of the shards whose records count something, in an order that is the same everywhere; and the sum."""
    counted = {id(record): count(record) for _, _, record in lookup.measured}
    total = sum(counted.values())
    numbers = [n for n, (_, _, record) in enumerate(lookup.measured) if counted[id(record)]]
    return sorted(numbers, key=lambda n: xxhash.xxh3_64_intdigest(lookup.measured[n][0].encode())), total


def documents_of(language: str | None = None, source: str | None = None) -> Callable[[Record], int]:
    """How many documents of a language and source a measure record counts."""

    def count(record: Record) -> int:
        return sum(
            c.documents
            for c in record.counts
            if c.outcome in ("read", "generated") and language in (None, c.language) and source in (None, c.source)
        )

    return count


def rows_of(lookup: Lookup, number: int, columns: Sequence[str], language: str | None) -> Iterator[pa.Table]:
    """The rows of a measure shard, of one language: its row groups hold one language each."""
    with lookup.storage.parquet(lookup.measured[number][1].path) as parquet:
        names = parquet.schema_arrow.names
        place = names.index("lid_language") if "lid_language" in names else -1
        for group in range(parquet.num_row_groups):
            known = parquet.metadata.row_group(group).column(place).statistics if language else None
            if known is not None and known.has_min_max and not known.min <= language <= known.max:
                continue
            table = parquet.read_row_group(group, columns=[c for c in columns if c in names])
            yield table if language is None else table.filter(pc.equal(table["lid_language"], language))


def step_config(lookup: Lookup, name: str) -> dict[str, Any]:
    """What a step of `decide` was built with; empty where the build has no such step."""
    steps = lookup.stage.nodes.get("decide", {"identity": {"config": {"steps": []}}})["identity"]["config"]["steps"]
    return next((dict(step["config"]) for step in steps if step["step"] == name), {})


def quality(lookup: Lookup, language: str, source: str | None) -> dict[str, Any]:
    """Each metric of a language that has a limit: how it is spread, and what other limits would keep."""

    def make() -> dict[str, Any]:
        config = step_config(lookup, "quality")
        limits = {k: v for k, v in config.get("limits", {}).get(language, {}).items() if v is not None}
        rules = [(limit, limits[limit]) for limit, _ in RULES if limit in limits]
        columns = ["source", "lid_language", "quality_words", *(f"quality_{r.split('_', 1)[1]}" for r, _ in rules)]
        numbers, total = shards_in_order(lookup, documents_of(language, source))
        tables, seen, exempt = [], 0, config.get("exempt", [])
        for number in numbers:
            if seen >= ENOUGH_DOCUMENTS:
                break
            for table in rows_of(lookup, number, list(dict.fromkeys(columns)), language):
                seen += table.num_rows if source is None else pc.sum(pc.equal(table["source"], source)).as_py() or 0
                if "quality_words" not in table.column_names:
                    continue
                wanted = pc.and_(
                    pc.is_valid(table["quality_words"]),
                    pc.invert(pc.is_in(table["source"], pa.array(exempt, pa.string())))
                    if source is None
                    else pc.equal(table["source"], source),
                )
                tables.append(table.filter(wanted))
        rows = sum(table.num_rows for table in tables)
        told = {"documents": seen, "of": total, "judged": rows, "exempt": source in exempt}
        if not rows or not rules:
            return {**told, "metrics": {}}
        table = pa.concat_tables(tables)
        values = {r: _floats(table[f"quality_{r.split('_', 1)[1]}"]) for r, _ in rules}
        broken = {r: _beyond(r, values[r], limit) for r, limit in rules}
        all_broken = sum(broken.values(), np.zeros(rows, np.int64))
        metrics = {
            r: _spread(r, values[r], limit, all_broken - broken[r] == 0, broken[r].astype(bool)) for r, limit in rules
        }
        return {**told, "metrics": metrics}

    return dict(kept_under_runs(lookup, "quality", make, language, source))


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.fill_null(pc.cast(column, pa.float64()), 0.0).to_numpy(), np.float64)


def _beyond(rule: str, values: Floats, limit: float) -> npt.NDArray[np.int64]:
    return (values > limit if rule.startswith("max_") else values < limit).astype(np.int64)


def _spread(
    rule: str, values: Floats, limit: float, others: npt.NDArray[np.bool_], broken: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """`others`: which documents all the other limits keep."""
    middle, high = (float(q) for q in np.quantile(values, (0.5, 0.995)))
    low, top = float(values.min()), max(high, min(limit * 1.25, high * 4 + 1))
    top = top if top > low else low + 1
    edges = np.linspace(low, top, BINS + 1)
    counts, _ = np.histogram(np.clip(values, low, top), edges)
    places = sorted({*(float(e) for e in edges), limit}) if low <= limit <= top else [float(e) for e in edges]

    def kept(at: float) -> float:
        return float(np.mean(others & (_beyond(rule, values, at) == 0)))

    return {
        "limit": limit,
        "median": middle,
        "beyond": float(broken.mean()),
        "only": float((broken & others).mean()),
        "bins": [[float(a), float(b), int(n)] for a, b, n in zip(edges, edges[1:], counts, strict=False)],
        "kept": [[at, kept(at)] for at in places],
        "moves": [[move, limit * move, kept(limit * move)] for move in MOVES],
    }


def identification(lookup: Lookup) -> dict[str, Any]:
    """Scores of the language model by the language it found, and what sources had called those documents."""

    def make() -> dict[str, Any]:
        numbers, total = shards_in_order(lookup, documents_of())
        scores: dict[str, Any] = defaultdict(lambda: np.zeros(SCORE_BINS, np.int64))
        pairs: Counter[tuple[str, str]] = Counter()
        seen = 0
        for number in numbers:
            if seen >= ENOUGH_ROWS:
                break
            for table in rows_of(lookup, number, ["lid_language", "lid_score", "declared_language"], None):
                seen += table.num_rows
                if "lid_score" not in table.column_names:
                    continue
                known = table.filter(pc.is_valid(table["lid_language"]))
                place = pc.min_element_wise(pc.floor(pc.multiply(known["lid_score"], SCORE_BINS)), SCORE_BINS - 1)
                known = known.append_column("bin", pc.cast(pc.fill_null(place, 0), pa.int64()))
                for row in known.group_by(["lid_language", "bin"]).aggregate([([], "count_all")]).to_pylist():
                    scores[row["lid_language"]][row["bin"]] += row["count_all"]
                told = known.filter(pc.is_valid(known["declared_language"]))
                keys = ["declared_language", "lid_language"]
                for row in told.group_by(keys).aggregate([([], "count_all")]).to_pylist():
                    pairs[row["declared_language"], row["lid_language"]] += row["count_all"]
        return {
            "documents": seen,
            "of": total,
            "scores": {code: bins.tolist() for code, bins in sorted(scores.items())},
            "declared": [[*pair, n] for pair, n in sorted(pairs.items())],
        }

    return dict(kept_under_runs(lookup, "identification", make))


def duplicates(lookup: Lookup) -> dict[str, Any]:
    """Duplicates by language: reasons, similarities, clusters; with how many of how many documents were looked at."""

    def make() -> dict[str, Any]:
        numbers, total = shards_in_order(lookup, documents_of())
        taken, seen = [], 0
        for number in numbers:
            if seen >= ENOUGH_ROWS:
                break
            if number >= len(lookup.sidecars):  # generated, and the last dedup is still to come
                continue
            taken.append(number)
            seen += lookup.sidecars[number].rows
        found: dict[str, Survey] = survey(lookup, Wanted("dedup"), taken) if lookup.sidecars else {}
        return {"documents": seen, "of": total, "languages": {code: one.to_json() for code, one in found.items()}}

    return dict(kept_under_runs(lookup, "duplicates", make))


REJECTED = ["request", "seed_id", "source", "maker", "language", "prompt", "reason", "measured", "text"]


def rejected(lookup: Lookup, wanted: dict[str, str], most: int) -> list[dict[str, Any]]:
    """Answers of models that were rejected, with the reason; `wanted` fixes maker, language, prompt or reason."""
    out: list[dict[str, Any]] = []
    for record in lookup.generation.records:
        if len(out) >= most:
            break
        table = lookup.storage.read_table(record.data[1].path, REJECTED)
        for name, value in wanted.items():
            table = table.filter(pc.fill_null(pc.equal(table[name], value), False))
        out += table.slice(0, most - len(out)).to_pylist()
    return out
