"""Documents to read: those of a language, source and verdict, and everything that is known of one.

In: verdicts and sidecars of a build, through `Lookup`. Out: places of documents in an order that is the same
everywhere, and for one of them its answer, its text's beginning, its twin and where it lies in a shard. Text is read
of what is shown. Knows no HTML.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from marco_data.evidence import Pair, pairs
from marco_data.nodes.decide import PASSED
from marco_data.records import DROPPED, FAILED, KEPT, REPLACED
from marco_data.storage import row_of
from marco_data.why import Answer, Lookup, Place, inert

PAGE = 20
LISTED = 240
"""Characters of each text in a list."""
SHOWN = 20_000
"""Characters of a text that are shown; how long it is, is said."""


@dataclass(frozen=True)
class Filter:
    """What a list holds; "" is any. `verdict` is kept, dropped, failed or replaced; a reason may be a step's name."""

    language: str = ""
    source: str = ""
    part: str = ""
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Listed:
    """A document in a list."""

    place: Place
    answer: Answer
    beginning: str
    characters: int


@dataclass(frozen=True)
class Opened:
    """A document on a page of its own. `text` is its beginning, None where it is not stored."""

    answer: Answer
    text: str | None
    characters: int
    pair: Pair | None
    shard: str
    number: int | None


def listed(lookup: Lookup, wanted: Filter, skip: int = 0, most: int = PAGE) -> list[Listed]:
    """At most `most` documents, after the first `skip`."""
    out: list[Listed] = []
    for number, place in enumerate(places(lookup, wanted)):
        if number >= skip:
            text, length = text_of(lookup, place, LISTED)
            out.append(Listed(place, lookup.answer(place, name_twin=False), text or "", length))
        if len(out) == most:
            break
    return out


def places(lookup: Lookup, wanted: Filter) -> Iterator[Place]:
    """The documents a filter lets through, a shard at a time, in the order of the shards' names' hashes."""
    records = lookup.decided
    order = sorted(records, key=lambda n: xxhash.xxh3_64_intdigest(records[n].key.encode()))
    for number in order:  # every shard's record is at hand, so one without such a document costs nothing
        if not _may_have(lookup, number, wanted):
            continue
        columns = ["id", "source", "language", "failed", "reason"]
        table = lookup.storage.read_table(records[number].data[0].path, columns)
        table = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
        sidecar = None
        if number < len(lookup.sidecars):
            sidecar = lookup.storage.read_table(lookup.sidecars[number].path, ["id", "reason"])
            reason = pc.coalesce(table["reason"], sidecar["reason"])
            table = table.set_column(0, "id", sidecar["id"]).set_column(4, "reason", reason)
        table = table.append_column("replaced", _replaced(lookup, number, table.num_rows))
        for name, value in (("language", wanted.language), ("source", wanted.source)):
            if value:
                table = table.filter(pc.equal(table[name], value))
        if wanted.part:
            sources = [source for source, part in lookup.part_of.items() if part == wanted.part]
            table = table.filter(pc.is_in(table["source"], pa.array(sources, pa.string())))
        for row, verdict, why in _judged(lookup, table.filter(_may_be(table, wanted))):
            if wanted.verdict in ("", verdict) and (not wanted.reason or f"{why}/".startswith(f"{wanted.reason}/")):
                yield Place(number, row)


def _may_have(lookup: Lookup, number: int, wanted: Filter) -> bool:
    """Whether a shard may have a document that a filter lets through; its records say so without its data.

    What `decide` and dedup dropped is counted by reason. The mix and rewritings take from what `decide` let pass.
    """
    counts = [
        c
        for record in (lookup.decided[number], *lookup.deduplicated[number : number + 1])
        for c in record.counts
        if c.documents and wanted.language in ("", c.language) and wanted.source in ("", c.source)
    ]
    passed = any(c.outcome == PASSED for c in counts)
    gone = [c.reason for c in counts if c.outcome in (DROPPED, FAILED) and wanted.verdict in ("", c.outcome)]
    if wanted.reason:
        by_mix = passed and f"{wanted.reason}/".startswith("mix/")
        return by_mix or any(f"{reason}/".startswith(f"{wanted.reason}/") for reason in gone)
    if wanted.verdict == REPLACED:
        return number in lookup.replaced
    if wanted.verdict == KEPT:
        return passed
    return bool(gone) or (passed and wanted.verdict in ("", DROPPED))


def _may_be(table: pa.Table, wanted: Filter) -> pa.ChunkedArray:
    """Rows that a filter may let through, before anything is asked of each: most are not looked at one by one."""
    told = pc.coalesce(table["failed"], table["reason"])
    if wanted.reason:
        by_mix = f"{wanted.reason}/".startswith("mix/")
        known = pc.or_(pc.equal(told, wanted.reason), pc.starts_with(told, f"{wanted.reason}/"))
        return pc.fill_null(known, by_mix)
    if wanted.verdict == FAILED:
        return pc.is_valid(table["failed"])
    if wanted.verdict == REPLACED:
        return pc.is_valid(table["replaced"])
    return pc.is_null(told) if wanted.verdict == KEPT else pc.fill_null(pc.is_valid(table["id"]), True)


def _replaced(lookup: Lookup, number: int, rows: int) -> pa.ChunkedArray:
    file = lookup.replaced.get(number)
    if file is None:
        return pa.chunked_array([pa.nulls(rows, pa.string())])
    return lookup.storage.read_table(file.path, ["replaced_by"])["replaced_by"]


def _judged(lookup: Lookup, table: pa.Table) -> Iterator[tuple[int, str, str]]:
    """(row, verdict, reason) of rows."""
    for batch in table.to_batches(max_chunksize=4096):
        rows = batch.to_pylist()
        passed = [row for row in rows if row["failed"] is row["replaced"] is row["reason"] is None]
        named = [(row["id"], row["language"], row["source"]) for row in passed]
        left = lookup.left_out(named) if lookup.intervals else [None] * len(passed)
        why = {row["row"]: reason for row, reason in zip(passed, left, strict=True)}
        for row in rows:
            reason = row["reason"] or why.get(row["row"])
            if row["failed"] is not None:
                yield row["row"], FAILED, row["failed"]
            elif row["replaced"] is not None:
                yield row["row"], REPLACED, ""
            else:
                yield row["row"], KEPT if reason is None else DROPPED, reason or ""


def text_of(lookup: Lookup, place: Place, most: int) -> tuple[str | None, int]:
    """The beginning of a document's text, or of the bytes that could not be read as one, and how long all of it is."""
    row = row_of(lookup.storage, lookup.measured[place.shard][1], place.row, ["text", "head"])
    if row["text"] is None:
        return (inert(row["head"]) if row["head"] else None), 0
    return row["text"][:most], len(row["text"])


def opened(lookup: Lookup, place: Place) -> Opened:
    answer = lookup.answer(place, name_twin=False)
    text, characters = text_of(lookup, place, SHOWN)
    twins = list(pairs(lookup, [place]))
    shard, at = in_shard(lookup, place, answer) if answer.verdict == KEPT else ("", None)
    return Opened(answer, text, characters, twins[0] if twins else None, shard, at)


def in_shard(lookup: Lookup, place: Place, answer: Answer) -> tuple[str, int | None]:
    """The prefix of the shard a kept document is in, and its number there; ("", None) where none is written yet."""
    tokenized = lookup.stage.records(lookup.storage, "tokenize")
    if place.shard >= len(tokenized):
        return "", None
    file = tokenized[place.shard].data[0].path
    for shard in lookup.stage.shards:
        if (shard["language"], shard["part"], shard["source"]) != (answer.language, answer.part, answer.source):
            continue
        lineage = lookup.storage.read_table(shard["lineage"], ["tokenized", "row"])
        here = pc.and_(pc.equal(lineage["tokenized"], file), pc.equal(lineage["row"], place.row))
        found = pc.index(here, pa.scalar(True)).as_py()
        if found >= 0:
            return str(shard["prefix"]), found
    return "", None


def found(lookup: Lookup, terms: list[str], most: int = PAGE) -> list[tuple[str, Place]]:
    """Documents by id, source id, URL, or PREFIX:TOKEN."""
    out = []
    for term, place in lookup.meant(terms):
        out.append((term, place))
        if len(out) == most:
            break
    return out


def detail(answer: Answer) -> list[tuple[str, Any]]:
    """What is known of a document, as (name, value), without what is unknown."""
    told: list[tuple[str, Any]] = [
        ("verdict", answer.verdict),
        ("reason", answer.reason),
        ("measured", answer.measured),
        ("language", answer.language),
        ("language score", answer.language_score),
        ("quality tier", answer.quality_tier),
        ("similarity", answer.similarity),
        ("cluster size", answer.cluster_size),
        ("source", answer.source),
        ("part", answer.part),
        ("id", answer.id),
        ("id in its source", answer.source_id),
        ("URL", answer.url),
        ("licence", answer.licence),
        ("file", answer.file),
        ("position in it", answer.position),
    ]
    return [(name, value) for name, value in told if value not in (None, "")]
