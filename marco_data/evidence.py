"""What was dropped, for a person to look at: pairs of duplicates, other dropped documents, and the figures over all.

In: a built (or stopped) stage's verdicts and sidecars, through `Lookup`. Out: a few sampled documents with their
texts' beginnings, and for each language the similarities of its duplicates and the sizes of its clusters. Sidecars are
read a shard at a time, columns only; text is read of the few that are shown. A sample is the documents whose ids'
hashes come first, so it is the same wherever it is drawn.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from marco_data.dedup import REASONS
from marco_data.records import DROPPED, Record
from marco_data.steps.remove import LISTED
from marco_data.storage import row_of
from marco_data.why import Answer, Lookup, Place

ENOUGH = 100
"""Shards are looked into until they hold so many times the documents that are asked for: a sample of a hundred thousand
shards opens a few."""

BEGINNING = 600
CONTEXT = 100
"""Characters of a text that are shown, and before the first difference where two begin alike."""

SIMILARITY_BINS = 20
_SAME_ID = REASONS[1]


@dataclass(frozen=True)
class Wanted:
    """Documents dropped by a step or for a reason (`quality`, `dedup/near`), of a language and source; None: any."""

    step: str
    language: str | None = None
    source: str | None = None

    def drops(self, record: Record) -> int:
        """How many of them a record counts."""
        return sum(
            count.documents
            for count in record.counts
            if count.outcome == DROPPED
            and self.language in (None, count.language)
            and self.source in (None, count.source)
            and f"{count.reason}/".startswith(f"{self.step}/")
        )

    def here(self, verdicts: pa.Table) -> pa.Array:
        """Which documents are of the language and source, dropped or not."""
        found = pa.repeat(True, verdicts.num_rows)
        for column, value in (("source", self.source), ("language", self.language)):
            if value is not None:
                found = pc.and_(found, pc.equal(verdicts[column], value))
        return found

    def mask(self, verdicts: pa.Table, reason: pa.ChunkedArray) -> pa.ChunkedArray:
        for_this = pc.or_(pc.equal(reason, self.step), pc.starts_with(reason, f"{self.step}/"))
        return pc.and_(self.here(verdicts), pc.fill_null(for_this, False))


@dataclass(frozen=True)
class Shown:
    """A document to look at. `text` is its beginning, None where it is not stored; `bytes` the size of all of it."""

    id: str
    source: str
    name: str
    language: str | None
    bytes: int
    text: str | None


@dataclass(frozen=True)
class Dropped:
    """A document that a limit dropped, with the figure that was compared."""

    reason: str
    measured: float | None
    document: Shown


@dataclass(frozen=True)
class Pair:
    """A dropped duplicate and the document that stays instead.

    `counted` says whether `similarity` was counted on shingles (or the texts are equal) or estimated from signatures.
    `kept` has neither source nor text where it is not of this build but of an earlier one that it continues. Where the
    texts begin alike, `differ_at` is the character of the dropped one at which they part, and the two
    `around` what is there.
    """

    reason: str
    similarity: float
    counted: bool
    cluster_size: int | None
    dropped: Shown
    kept: Shown
    differ_at: int | None = None
    around: tuple[str, str] | None = None


def sample(lookup: Lookup, wanted: Wanted, size: int, seed: int = 0) -> list[Place]:
    """The places of at most `size` dropped documents."""
    duplicates = wanted.step.partition("/")[0] == "dedup"
    stage, storage = lookup.stage, lookup.storage
    records = dict(enumerate(stage.deduplicated(storage))) if duplicates else lookup.decided
    drops = {number: n for number, record in records.items() if (n := wanted.drops(record))}
    found: list[tuple[int, int, int]] = []
    seen = 0
    for number in sorted(drops, key=lambda number: _hash(records[number].key, seed)):
        if seen >= ENOUGH * size:
            break
        seen += drops[number]
        table = lookup.storage.read_table(lookup.decided[number].data[0].path, ["id", "source", "language", "reason"])
        reason = table["reason"]
        if duplicates:
            reason = lookup.storage.read_table(lookup.sidecars[number].path, ["reason"])["reason"]
        rows = pc.indices_nonzero(wanted.mask(table, reason))
        ids = table["id"].take(rows).to_pylist()
        found += [(_hash(id, seed), number, row) for id, row in zip(ids, rows.to_pylist(), strict=True)]
        found = heapq.nsmallest(size, found)
    return [Place(number, row) for _, number, row in found]


def _hash(name: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(name.encode(), seed)


def dropped(lookup: Lookup, wanted: Wanted, size: int, seed: int = 0) -> list[Dropped]:
    """Documents that a limit dropped."""
    out = []
    for place in sample(lookup, wanted, size, seed):
        verdict = row_of(lookup.storage, lookup.decided[place.shard].data[0], place.row, ["reason", "measured"])
        document, text = _shown(lookup, place)
        out.append(Dropped(verdict["reason"], verdict["measured"], _beginning(document, text)))
    return out


def pairs(lookup: Lookup, places: Sequence[Place]) -> Iterator[Pair]:
    """The duplicates among the documents at `places`, each with its surviving twin."""
    for _, pair in _paired(lookup, places):
        yield pair


def explained(lookup: Lookup, places: Sequence[Place]) -> Iterator[tuple[Answer, Pair | None]]:
    """What is known of each document, with its surviving twin; the twins of all of them are looked for together."""
    twins = dict(_paired(lookup, places))
    for place in places:
        answer, pair = lookup.answer(place, name_twin=False), twins.get(place)
        if answer.duplicate_of is not None:
            known = pair is not None and pair.kept.id == answer.duplicate_of
            name = pair.kept.name if pair and known else lookup.name_of(answer.duplicate_of)
            answer = replace(answer, duplicate_of=name)
        yield answer, pair


def _paired(lookup: Lookup, places: Iterable[Place]) -> Iterator[tuple[Place, Pair]]:
    # A stage may have stopped before duplicates were looked for, there or everywhere: then there is no row.
    rows = {place: row for place in places if (row := _sidecar_row(lookup, place)).get("dup_of") is not None}
    asked = {row["dup_of"] for row in rows.values()}
    survivors = _survivors(lookup, asked)
    # The first document of a repeated id may be a duplicate itself, of another one.
    for place, row in rows.items():
        first = survivors.get(row["dup_of"])
        named = None if first is None else _sidecar_row(lookup, first)
        if named is not None and named["dup_of"] is not None:
            rows[place] = {**named, "id": row["id"], "reason": row["reason"]}
    survivors |= _survivors(lookup, {row["dup_of"] for row in rows.values()} - asked)
    for place, row in rows.items():
        gone, text = _shown(lookup, place, row["id"])
        stays, twin = Shown(row["dup_of"], "", row["dup_of"], gone.language, 0, None), ""
        if row["dup_of"] in survivors:
            stays, twin = _shown(lookup, survivors[row["dup_of"]], row["dup_of"])
        at = _first_difference(text, twin)
        start = at - CONTEXT
        apart = start > BEGINNING - 2 * CONTEXT and text != twin
        pair = Pair(
            reason=row["reason"] or LISTED,  # of what limits have dropped only a removed document has a twin
            similarity=round(row["jaccard"], 4),
            counted=row["jaccard_exact"],
            cluster_size=row["cluster_size"],
            dropped=_beginning(gone, text),
            kept=_beginning(stays, twin),
            differ_at=at if apart else None,
            around=(text[start : start + BEGINNING], twin[start : start + BEGINNING]) if apart else None,
        )
        yield place, pair


def _sidecar_row(lookup: Lookup, place: Place) -> dict[str, Any]:
    columns = ["id", "reason", "dup_of", "jaccard", "jaccard_exact", "cluster_size"]
    return lookup.sidecar_row(place, columns)


def _survivors(lookup: Lookup, ids: set[str]) -> dict[str, Place]:
    """Where the documents are that duplicates name: by the id of this run, and not the later ones of a repeated id."""
    wanted, found = pa.array(sorted(ids), pa.string()), dict[str, Place]()
    for number, sidecar in enumerate(lookup.sidecars):
        if len(found) == len(ids):
            break
        table = lookup.storage.read_table(sidecar.path, ["id", "reason"])
        again = pc.fill_null(pc.equal(table["reason"], _SAME_ID), False)
        for row in pc.indices_nonzero(pc.and_not(pc.is_in(table["id"], wanted), again)).to_pylist():
            found[table["id"][row].as_py()] = Place(number, row)
    return found


def _shown(lookup: Lookup, place: Place, id: str | None = None) -> tuple[Shown, str]:
    """A document, by the id that this run has given it, and its whole text: empty where it is not stored."""
    _, file, _ = lookup.measured[place.shard]
    columns = ["id", "source", "source_id", "url", "lid_language", "text_bytes", "text"]
    row = row_of(lookup.storage, file, place.row, columns)
    own = id or row["id"]
    name = row["source_id"] or row["url"] or own
    shown = Shown(own, row["source"], name, row["lid_language"], row["text_bytes"] or 0, row["text"])
    return shown, row["text"] or ""


def _beginning(document: Shown, text: str) -> Shown:
    kept = None if document.text is None else text[:BEGINNING]
    return Shown(document.id, document.source, document.name, document.language, document.bytes, kept)


def _first_difference(one: str, other: str) -> int:
    """The length of what both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


@dataclass
class Survey:
    """Duplicates of one language: documents by reason, near ones by similarity, clusters by size.

    `counted` and `estimated` are documents by twentieths of similarity, 20 being 1.0. A cluster is a document that
    stays with those that name it; `clusters` has how many there are, `members` how many documents they hold, by the
    largest power of ten below the size: 0 for 2 documents, 1 for 3 to 10, 2 for 11 to 100.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    counted: Counter[int] = field(default_factory=Counter)
    estimated: Counter[int] = field(default_factory=Counter)
    clusters: Counter[int] = field(default_factory=Counter)
    members: Counter[int] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        return {
            "dropped": dict(sorted(self.reasons.items())),
            "similarity": {
                kind: {similarity_label(b): n for b, n in sorted(bins.items())}
                for kind, bins in (("counted", self.counted), ("estimated", self.estimated))
            },
            "clusters": {
                size_label(b): {"clusters": n, "documents": self.members[b]} for b, n in sorted(self.clusters.items())
            },
        }


def similarity_label(part: int) -> str:
    return "1.00" if part == SIMILARITY_BINS else f"{part / SIMILARITY_BINS:.2f}-{(part + 1) / SIMILARITY_BINS:.2f}"


def size_label(power: int) -> str:
    return "2" if power == 0 else f"{3 if power == 1 else 10 ** (power - 1) + 1:,}-{10**power:,}"


def survey(lookup: Lookup, wanted: Wanted, shards: Sequence[int] | None = None) -> dict[str, Survey]:
    """Figures over all duplicates that are wanted, by language; clusters by the language and source of what stays.

    With `shards`, over those of these numbers.
    """
    out: dict[str, Survey] = defaultdict(Survey)
    columns = ["reason", "jaccard", "jaccard_exact", "cluster_size", "kept"]
    for number in range(len(lookup.sidecars)) if shards is None else shards:
        file, sidecar = lookup.decided[number].data[0], lookup.sidecars[number]
        verdicts = lookup.storage.read_table(file.path, ["source", "language"])
        table = lookup.storage.read_table(sidecar.path, columns).append_column("language", verdicts["language"])
        _add_dropped(out, table.filter(wanted.mask(verdicts, table["reason"])))
        large = pc.and_(table["kept"], pc.fill_null(pc.greater(table["cluster_size"], 1), False))
        _add_clusters(out, table.filter(pc.and_(wanted.here(verdicts), large)))
    return dict(sorted(out.items()))


def _add_dropped(out: dict[str, Survey], gone: pa.Table) -> None:
    for row in gone.group_by(["language", "reason"]).aggregate([("kept", "count")]).to_pylist():
        out[row["language"]].reasons[row["reason"]] += row["kept_count"]
    near = gone.filter(pc.equal(gone["reason"], REASONS[-1]))
    similarity = np.round(near["jaccard"].to_numpy().astype(np.float64), 4)
    bins = pa.array(np.floor(similarity * SIMILARITY_BINS + 1e-9).astype(np.int64))
    near = near.append_column("bin", bins)
    for row in near.group_by(["language", "jaccard_exact", "bin"]).aggregate([("kept", "count")]).to_pylist():
        entry = out[row["language"]]
        (entry.counted if row["jaccard_exact"] else entry.estimated)[row["bin"]] += row["kept_count"]


def _add_clusters(out: dict[str, Survey], survivors: pa.Table) -> None:
    for row in survivors.group_by(["language", "cluster_size"]).aggregate([("kept", "count")]).to_pylist():
        size, n = row["cluster_size"], row["kept_count"]
        power = 0 if size == 2 else len(str(size - 1))
        out[row["language"]].clusters[power] += n
        out[row["language"]].members[power] += n * size


def surveyed(found: Iterable[Survey]) -> Survey:
    """All languages together."""
    total = Survey()
    for one in found:
        for name, counter in vars(one).items():
            getattr(total, name).update(counter)
    return total
