"""Where a document went and why, where a token came from, and what could not be read: answers from a built stage.

In: a stage's records and sidecars. Out: one `Answer` a document found by id, source id, URL or position in a shard.
Ids are looked for column by column; text is read only by `find`.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.errors import RecipeError
from marco_data.filesystems import local_copy, remote_file
from marco_data.mix import Interval, MixturePart, parts_by_source, selection_hashes
from marco_data.nodes.decide import measured_shards
from marco_data.nodes.mix import at_or_after, intervals_of
from marco_data.records import DROPPED, FAILED, KEPT, REPLACED, Record
from marco_data.sources.stream import HEAD_BYTES
from marco_data.stage import Stage
from marco_data.steps.decontaminate import Decontaminate
from marco_data.steps.remove import COPIES
from marco_data.storage import DataFile, Storage, row_of
from marco_data.tokens import Shard
from marco_data.why_generated import Generation

WANTED = [
    "id",
    "source",
    "source_id",
    "url",
    "licence",
    "declared_language",
    "position",
    "failed",
    "lid_language",
    "lid_score",
    "lid_shares",
    "text_bytes",
]


UNDECIDED: dict[str, Any] = {"failed": "undecided", "reason": None, "measured": None, "quality_tier": None}
"""The verdict on a document whose shard `decide` failed for."""


@dataclass(frozen=True)
class Answer:
    """A document's verdict, with what it was measured by, a duplicate's surviving twin, and leaked items.

    A leak has benchmark, item, language and field, its share and words, and `start`, `end` and `text` in the document.
    `origin` says of a generated document what it was made from, and how; `made` of a seed what became of each document
    that was wanted of it.
    """

    id: str
    source: str
    source_id: str | None
    url: str | None
    licence: str | None
    language: str | None
    language_score: float | None
    language_shares: dict[str, float]
    file: str
    position: int
    verdict: str
    reason: str | None
    measured: float | None
    quality_tier: str | None
    duplicate_of: str | None
    similarity: float | None
    cluster_size: int | None
    part: str | None
    leaks: list[dict[str, Any]]
    replaced_by: str | None
    origin: dict[str, Any] | None
    made: list[dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """A row of a measure shard."""

    shard: int
    row: int


@dataclass(frozen=True)
class Lookup:
    """The files of one built stage, joined by shard and row."""

    stage: Stage
    storage: Storage

    @cached_property
    def measured(self) -> list[tuple[str, DataFile, Record]]:
        records = self.stage.everywhere(self.storage, "measure")
        return [(name, file, record) for record in records for name, file in measured_shards([record])]

    @cached_property
    def decided(self) -> dict[int, Record]:
        """The record of the verdicts by the number of a measured shard; none of one that `decide` failed for."""
        found = {record.reads["measure"]: record for record in self.stage.everywhere(self.storage, "decide")}
        return {n: found[file.digest] for n, (_, file, _) in enumerate(self.measured) if file.digest in found}

    @cached_property
    def deduplicated(self) -> list[Record]:
        """By the number of a measured shard. Until the last dedup is done those over what was read, which come first:
        generated shards have none then.
        """
        return list(self.stage.deduplicated(self.storage))

    @cached_property
    def sidecars(self) -> list[DataFile]:
        return [r.data[0] for r in self.deduplicated]

    def sidecar_row(self, place: Place, columns: list[str] | None = None) -> dict[str, Any]:
        """What dedup says of a document; empty where it has not come to its shard."""
        if place.shard >= len(self.sidecars):
            return {}
        return row_of(self.storage, self.sidecars[place.shard], place.row, columns)

    @cached_property
    def replaced(self) -> dict[int, DataFile]:
        """By the number of a shard: the sidecar that says which of its documents a rewriting has replaced."""
        numbers = {r.facts["shard"]: i for i, r in enumerate(self.deduplicated)}
        return {numbers[r.facts["shard"]]: r.data[0] for r in self.stage.records(self.storage, "replace")}

    @cached_property
    def intervals(self) -> dict[tuple[str, str], Interval]:
        return intervals_of(self.stage.mix) if self.stage.mix else {}

    @cached_property
    def part_of(self) -> dict[str, str]:
        mixture = self.stage.recipe["mixture"]
        return parts_by_source({name: MixturePart.model_validate(part) for name, part in mixture.items()})

    def places(self, terms: Sequence[str]) -> Iterator[tuple[str, Place]]:
        """(term, place) of every document whose id, source id or URL is one of the terms."""
        wanted = pa.array(list(terms), pa.string())
        for number, (_, file, _) in enumerate(self.measured):
            table = self.storage.read_table(file.path, ["id", "source_id", "url"])
            if number < len(self.sidecars):
                table = table.append_column("new_id", self.storage.read_table(self.sidecars[number].path, ["id"])["id"])
            seen: set[int] = set()
            for column in table.column_names:
                for row in pc.indices_nonzero(pc.is_in(table[column], wanted)).to_pylist():
                    if row not in seen:
                        seen.add(row)
                        yield table[column][row].as_py(), Place(number, row)

    def meant(self, terms: Sequence[str]) -> Iterator[tuple[str, Place]]:
        """(term, place) of every document that is meant by one of the terms: a name of it, or PREFIX:TOKEN."""
        names = []
        for term in terms:
            prefix, colon, token = term.rpartition(":")
            if colon and token.isdigit() and self.shard(prefix) is not None:
                yield term, self.position(prefix, int(token))
            else:
                names.append(term)
        if names:
            yield from self.places(names)

    @cached_property
    def _shards(self) -> dict[str, dict[str, Any]]:
        return {shard["prefix"]: shard for shard in self.stage.shards}

    def shard(self, prefix: str) -> dict[str, Any] | None:
        """The shard of a prefix: as `stats` or `blend.json` has it, relative to the root, or by another path."""
        relative = prefix.removeprefix(self.storage.root.rstrip("/") + "/")
        if relative.removeprefix("../") in self._shards:
            return self._shards[relative.removeprefix("../")]
        if "://" not in self.storage.root:
            relative = os.path.relpath(prefix, self.storage.root)
        return self._shards.get(relative)

    def _opened(self, prefix: str) -> Shard:
        """Of a shard on a remote root the index alone is fetched, once per process: no token is looked at."""
        if "://" not in self.storage.root:
            return Shard(Path(self.storage.root) / prefix)
        uri = self.storage.uri(prefix)
        return Shard(uri, index=local_copy(f"{uri}.idx"), elsewhere=remote_file(f"{uri}.bin"))

    def position(self, prefix: str, token: int) -> Place:
        """The document that holds a token of a shard."""
        shard = self.shard(prefix)
        if shard is None:
            raise RecipeError(f"no shard `{prefix}` in this stage", hint="`marco-data stats N --json` lists its shards")
        reader = self._opened(shard["prefix"])
        if not 0 <= token < reader.tokens:
            raise RecipeError(f"`{prefix}` has {reader.tokens:,} tokens; there is none at {token:,}")
        document = reader.position(token)
        line = self.storage.read_table(shard["lineage"]).slice(document, 1).to_pylist()[0]
        # By order, not by name: where a changed step gave the same bytes again, the record of the tokenized file
        # is an older one, and names the measure shard of then.
        tokenized = [r.data[0].path for r in self.stage.records(self.storage, "tokenize")]
        return Place(tokenized.index(line["tokenized"]), line["row"])

    def id_of(self, place: Place) -> str:
        """A document's id in this build. Raises IndexError where the shard has no such row."""
        renamed = self.sidecar_row(place, ["id"]).get("id")
        return str(renamed or row_of(self.storage, self.measured[place.shard][1], place.row, ["id"])["id"])

    def answer(self, place: Place, *, name_twin: bool = True) -> Answer:
        """`name_twin=False`: `duplicate_of` is our id of the twin. Its name is looked for in shard after shard."""
        _, file, record = self.measured[place.shard]
        row = row_of(self.storage, file, place.row, WANTED)
        decided = self.decided.get(place.shard)
        verdict = UNDECIDED if decided is None else row_of(self.storage, decided.data[0], place.row)
        twin = self.sidecar_row(place)
        stays = twin.get("dup_of")
        replaced_by = None
        if place.shard in self.replaced:
            replaced_by = row_of(self.storage, self.replaced[place.shard], place.row)["replaced_by"]
        state, reason = self._state(verdict, twin) if replaced_by is None else (REPLACED, None)
        generated = record.reads.get("generated")
        similarity = None if twin.get("jaccard") is None else round(twin["jaccard"], 4)
        return Answer(
            id=twin.get("id") or row["id"],
            source=row["source"],
            source_id=row["source_id"],
            url=row["url"],
            licence=row["licence"],
            language=row["lid_language"],
            language_score=row["lid_score"],
            language_shares={entry["language"]: entry["share"] for entry in row["lid_shares"] or ()},
            file=", ".join(record.facts["files"][:3]),
            position=row["position"],
            verdict=state,
            reason=reason,
            measured=similarity if reason and reason.startswith(("dedup/", COPIES)) else verdict["measured"],
            quality_tier=verdict["quality_tier"],
            duplicate_of=self.name_of(stays) if stays and name_twin else stays or None,
            similarity=similarity,
            cluster_size=twin.get("cluster_size"),
            part=self.part_of.get(row["source"]),
            leaks=self._leaks(file, place.row) if str(reason).startswith(f"{Decontaminate.name()}/") else [],
            replaced_by=replaced_by,
            origin=self.generation.origin(generated, row["position"]) if generated else None,
            made=self.generation.made_of(file.digest, twin.get("id") or row["id"]),
        )

    @cached_property
    def generation(self) -> Generation:
        return Generation(self.stage, self.storage)

    def _leaks(self, file: DataFile, row: int) -> list[dict[str, Any]]:
        """What a document was dropped for, with the text that is at the place."""
        limits = Decontaminate.model_validate(self.stage.recipe["steps"]["decontaminate"]["limits"])
        found = row_of(self.storage, file, row, ["leaks", "text"])
        return [
            {**hit, "text": found["text"] and found["text"][hit["start"] : hit["end"]]}
            for hit in found["leaks"]
            if limits.reason(hit) is not None
        ]

    def _state(self, verdict: dict[str, Any], twin: dict[str, Any]) -> tuple[str, str | None]:
        if verdict["failed"] is not None:
            return FAILED, verdict["failed"]
        reason = verdict["reason"] or twin.get("reason")
        if reason is None and self.intervals:
            reason = self.left_out([(twin["id"], verdict["language"], verdict["source"])])[0]
        return (KEPT, None) if reason is None else (DROPPED, reason)

    def left_out(self, passed: Sequence[tuple[str, str, str]]) -> list[str | None]:
        """Why the mix took none of these (id, language, source) that every limit has let through; None: it took it."""
        hashes = selection_hashes([id for id, _, _ in passed], self._seed())
        out: list[str | None] = []
        for number, (_, language, source) in enumerate(passed):
            interval, place = self.intervals[language, self.part_of[source]], hashes[number : number + 1]
            early = not at_or_after(place, interval.lo)[0]
            late = at_or_after(place, interval.hi)[0]
            out.append("mix/in_earlier_stage" if early else "mix/not_selected" if late else None)
        return out

    def _seed(self) -> str:
        return str(self.stage.recipe["seed"] or self.stage.recipe["family"])

    def name_of(self, id: str) -> str:
        """The twin as its source calls it, else its URL, else our id."""
        for _, place in self.places([id]):
            row = row_of(self.storage, self.measured[place.shard][1], place.row, ["source_id", "url"])
            return str(row["source_id"] or row["url"] or id)
        return id

    def failures(self) -> Iterator[dict[str, Any]]:
        """Every row that could not be judged: where it was, why, and its first bytes as inert text."""
        columns = ["id", "source", "source_id", "url", "position", "head", "text"]
        # Of the verdicts, not of what was read: a step that looks at columns may fail on a row too.
        for number, (_, file, record) in enumerate(self.measured):
            verdict = self.decided.get(number)
            if verdict is None or not any(c.outcome == FAILED for c in verdict.counts):
                continue
            reasons = self.storage.read_table(verdict.data[0].path, ["failed"])["failed"]
            with self.storage.parquet(file.path) as parquet:
                start = 0
                for group in range(parquet.num_row_groups):
                    failed = reasons.slice(start, parquet.metadata.row_group(group).num_rows)
                    start += len(failed)
                    if failed.null_count == len(failed):
                        continue
                    table = parquet.read_row_group(group, columns=columns).append_column("failed", failed)
                    for row in table.filter(pc.is_valid(failed)).to_pylist():
                        # A row that was read and that a step could not judge has its text, and no raw bytes.
                        head, text = row.pop("head"), row.pop("text")
                        head = head or (text or "").encode()[:HEAD_BYTES]
                        yield {**row, "files": record.facts["files"][:3], "first_bytes": inert(head)}

    def find(self, text: str) -> Iterator[tuple[Place, str]]:
        """Kept documents that contain `text`, with the words around it."""
        for number, (_, file, _) in enumerate(self.measured):
            with self.storage.parquet(file.path) as parquet:
                start = 0
                for group in range(parquet.num_row_groups):
                    column = parquet.read_row_group(group, columns=["text"])["text"]
                    hits = pc.indices_nonzero(pc.fill_null(pc.match_substring(column, text), False))
                    for row in hits.to_pylist():
                        found = column[row].as_py()
                        at = found.index(text)
                        yield Place(number, start + row), found[max(0, at - 60) : at + len(text) + 60]
                    start += len(column)


def inert(data: bytes) -> str:
    """Bytes as text that a terminal or a page cannot be moved by: everything but plain letters is escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(text: str) -> str:
    """What others wrote, for a terminal: controls and what turns a line round are escaped, letters of all scripts stay.

    Line feeds and tabs stay too, and joiners, without which Persian and Hindi are not spelled.
    """
    return _MOVES.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


_MOVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
