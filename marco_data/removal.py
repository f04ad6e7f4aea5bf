"""What a recipe's `remove` came to: which documents went, which entries name none, and what still holds them.

In: a stage that was built with a list, and the other builds of its root. Out: a `Removal`. A shard of another build
holds a document if its lineage has the id, or the id of what a model made of it; shards that are in this build too
hold none. Ids and names are read, never text. It changes nothing: what other builds wrote stays where it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.errors import RecipeError
from marco_data.generation.ledger import model_folder
from marco_data.nodes.generate import place_name
from marco_data.reach import STAGE, folders_of
from marco_data.records import DROPPED, Record
from marco_data.stage import Stage
from marco_data.steps.remove import COPIES, LISTED, CopiesRule, Listed, Remove
from marco_data.storage import Storage, canonical_json, row_of
from marco_data.why import Answer, Lookup, Place

SHOWN = 10
"""Documents, shards of a build and entries that are printed; a file under `runs/` has all of them."""


@dataclass(frozen=True)
class Copy:
    """A document that is like listed ones: `of` has their ids, `similarity` is that to the most similar.

    `source` is None of one that only an earlier crawl has, which this build goes on from and does not change.
    """

    id: str
    source: str | None
    source_id: str | None
    url: str | None
    of: tuple[str, ...]
    similarity: float

    @property
    def name(self) -> str:
        return self.source_id or self.url or self.id


@dataclass(frozen=True)
class Removal:
    """`copies`: documents that are like removed ones; those of this build are gone too if `copies_are` is `drop`.

    `unmatched` are the entries of the list that name no document of this build. `shards`: by the folder of another
    build, the prefixes of its shards that hold removed documents or what was made of them, and how many. `texts` are
    files of the root that hold text or tokens of a removed document, or of what a model made of it; `ledger` those that
    may hold a prompt with it.
    """

    stage: str
    documents: int
    unmatched: tuple[str, ...]
    copies_are: CopiesRule
    copies_known: bool
    copies: tuple[Copy, ...]
    shards: dict[str, dict[str, int]]
    texts: tuple[str, ...]
    ledger: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"runs/removed/{self.stage}.json"

    def to_object(self) -> dict[str, Any]:
        return asdict(self)


def removal_of(lookup: Lookup, listed: Listed, copies: CopiesRule) -> Removal:
    """What the list has done in a build, and where else in the root its documents are."""
    _require_built_with(lookup.stage, listed)
    removed = dict(_dropped(lookup, LISTED))
    copied = dict(_dropped(lookup, COPIES))
    words = {word for table in removed.values() for found in listed.words_for(table) for word in found}
    gone: dict[str, pa.Table] = dict(removed)
    for path, table in copied.items():
        gone[path] = pa.concat_tables([gone[path], table]) if path in gone else table
    held = Held.of(lookup, gone)
    shards, cut_from = held.shards()
    tokens = {f"{prefix}.bin" for prefixes in shards.values() for prefix in prefixes}
    return Removal(
        stage=lookup.stage.folder,
        documents=sum(table.num_rows for table in removed.values()),
        unmatched=tuple(word for word in listed.words if word not in words),
        copies_are=copies,
        copies_known=copies == "drop" or lookup.stage.recipe["steps"]["dedup"].get("index") is None,
        copies=tuple(_copies(lookup, removed, copied)),
        shards=shards,
        texts=tuple(sorted({*gone, *held.files, *cut_from, *tokens})),
        ledger=tuple(_ledger(lookup, held)),
    )


def _require_built_with(stage: Stage, listed: Listed) -> None:
    """A list that was changed after the build is not what the build says something about."""
    steps = stage.nodes.get("decide", {"identity": {"config": {"steps": []}}})["identity"]["config"]["steps"]
    if [s["content"]["file"] for s in steps if s["step"] == Remove.name()] not in ([listed.digest], []):
        raise RecipeError(
            "the list of documents to remove is another one than this stage was built with",
            hint="build the stage again: only what the list changes is done again",
        )


def _dropped(lookup: Lookup, reason: str) -> Iterator[tuple[str, pa.Table]]:
    """(measure shard; row, id, new id, source, source id, URL, twin and similarity of each document) dropped so.

    Shards without any are not read.
    """
    for number, record in _dropping(lookup, reason):
        file = lookup.measured[number][1]
        said = lookup.storage.read_table(record.data[0].path, ["reason"])["reason"]
        rows = pc.indices_nonzero(pc.fill_null(pc.equal(said, reason), False))
        names = lookup.storage.read_table(file.path, ["id", "source", "source_id", "url"]).take(rows)
        names = names.append_column("row", rows)
        if number < len(lookup.sidecars):
            table = lookup.storage.read_table(lookup.sidecars[number].path, ["id", "dup_of", "jaccard"]).take(rows)
            beside = [table["id"], table["dup_of"], table["jaccard"]]
        else:  # the build ended before dedup
            beside = [names["id"], pa.nulls(len(rows), pa.string()), pa.nulls(len(rows), pa.float32())]
        for name, column in zip(("new_id", "dup_of", "jaccard"), beside, strict=True):
            names = names.append_column(name, column)
        yield file.path, names


def _dropping(lookup: Lookup, reason: str) -> Iterator[tuple[int, Record]]:
    """(number of a measure shard, the record of the verdicts that drop some of it for this reason)."""

    def drops(record: Record) -> bool:
        return any(count.outcome == DROPPED and count.reason == reason for count in record.counts)

    if reason == COPIES:  # dedup says something of every shard or of none
        yield from ((n, r) for n, r in enumerate(lookup.stage.deduplicated(lookup.storage)) if drops(r))
        return
    yield from ((n, r) for n, r in lookup.decided.items() if drops(r))


def _copies(lookup: Lookup, removed: Mapping[str, pa.Table], copied: Mapping[str, pa.Table]) -> Iterator[Copy]:
    """Those that went with removed documents, then those that are there; by id."""
    rows = [row for table in copied.values() for row in table.to_pylist()]
    for row in sorted(rows, key=lambda row: str(row["new_id"])):
        names = (row["source"], row["source_id"], row["url"])
        yield Copy(row["new_id"], *names, (row["dup_of"],), round(row["jaccard"], 4))
    twins: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for table in removed.values():
        for row in table.to_pylist():
            if row["dup_of"] is not None:
                twins[row["dup_of"]].append((row["jaccard"], row["id"]))
    for table in removed.values():
        for id in table["new_id"].to_pylist():
            twins.pop(id, None)
    if not twins:
        return
    found = {id: place for id, place in lookup.places(sorted(twins)) if id in twins}
    for id, listed in sorted(twins.items()):
        said: dict[str, Any] = dict.fromkeys(("source", "source_id", "url"))
        if (place := found.get(id)) is not None:
            said = row_of(lookup.storage, lookup.measured[place.shard][1], place.row, list(said))
        of = tuple(sorted(name for _, name in listed))
        yield Copy(id, said["source"], said["source_id"], said["url"], of, round(max(listed)[0], 4))


@dataclass(frozen=True)
class Held:
    """What the builds of a root have of some documents; `files`: those with what models wrote of them, or with them.

    `digests`: the measure shards of this build that have the documents, or the seeds they were written from. `ids` and
    `prefixes`, by a build's folder: what it calls the documents and what was made of them, and the only shards of it
    that may hold any.
    """

    lookup: Lookup
    others: tuple[Stage, ...]
    digests: frozenset[str]
    ids: dict[str, pa.Array]
    prefixes: dict[str, set[str]]
    files: frozenset[str]

    @staticmethod
    def of(lookup: Lookup, gone: Mapping[str, pa.Table]) -> "Held":
        """`gone`: by measure shard, `row`, `id` and `new_id` of documents."""
        storage, names = lookup.storage, {"id", "new_id"}
        known = {id for table in gone.values() for name in names for id in table[name].to_pylist()}
        written = _written(lookup, gone)
        digests = {file.digest for _, file, _ in lookup.measured if file.path in gone}
        digests |= {record.facts["seeds"] for record in written}
        others = tuple(_others(lookup)) if gone else ()
        ids, prefixes, files = {}, {}, {record.data[0].path for record in written}
        for stage in others:
            theirs = Lookup(stage, storage)
            names_there = known | _renamed(theirs, gone)
            same = _read_the_same(lookup, theirs, gone)
            made = Made.of(stage, storage, names_there, digests if same else None)
            ids[stage.folder] = pa.array(sorted(names_there | made.ids), pa.string())
            prefixes[stage.folder] = {shard["prefix"] for shard in stage.shards}
            if same:
                prefixes[stage.folder] &= set(_cut_from(theirs, digests | made.digests))
            files |= made.files
            if made.digests:  # what models wrote was measured too, and that has its text
                files |= {file.path for _, file, r in theirs.measured if r.reads.get("generated") in made.digests}
        return Held(lookup, others, frozenset(digests), ids, prefixes, frozenset(files))

    def shards(self) -> tuple[dict[str, dict[str, int]], set[str]]:
        """{stage: {prefix: documents}} of the other builds' shards that hold any, and the files they were cut from."""
        ours = {shard["prefix"] for shard in self.lookup.stage.shards}
        out: dict[str, dict[str, int]] = {}
        files: set[str] = set()
        for stage in self.others:
            held: dict[str, int] = {}
            tokenized: set[str] = set()
            for shard in stage.shards:
                if shard["prefix"] in self.prefixes[stage.folder] - ours:
                    lines = self.lookup.storage.read_table(shard["lineage"], ["id", "tokenized"])
                    found = lines.filter(pc.is_in(lines["id"], self.ids[stage.folder]))
                    held[shard["prefix"]] = found.num_rows
                    tokenized |= set(pc.unique(found["tokenized"]).to_pylist())
            if any(held.values()):
                out[stage.folder] = {prefix: n for prefix, n in sorted(held.items()) if n}
                files |= tokenized | set(_read_by(Lookup(stage, self.lookup.storage), tokenized))
        return out, files


def _written(lookup: Lookup, gone: Mapping[str, pa.Table]) -> list[Record]:
    """The records of what models wrote for this build, where some of the documents are that."""
    reads = [record.reads.get("generated") for _, file, record in lookup.measured if file.path in gone]
    wanted = {digest for digest in reads if digest is not None}
    return [record for record in lookup.generation.records if record.data[0].digest in wanted] if wanted else []


def _read_the_same(lookup: Lookup, theirs: Lookup, gone: Mapping[str, pa.Table]) -> bool:
    """Whether the documents can be in no other measure shards of another build than in those that both builds have.

    A measure pass with other settings, or of files that have changed since, has its own shards of the same documents.
    """
    there = theirs.stage.nodes.get("measure")  # a build may have ended before it
    if there is None or there["folder"] != lookup.stage.nodes["measure"]["folder"]:
        return False
    ours = {file.path for _, file, _ in lookup.measured}
    sources = {record.facts["source"] for _, file, record in lookup.measured if file.path in gone}
    return all(file.path in ours or record.facts["source"] not in sources for _, file, record in theirs.measured)


def _cut_from(there: Lookup, digests: set[str]) -> Iterator[str]:
    """The prefixes of a build's shards that were made from measure shards or generated files of these digests."""
    tokenized = there.stage.records(there.storage, "tokenize")
    tokens = {
        record.data[0].digest
        for (_, file, measured), record in zip(there.measured, tokenized, strict=False)
        if file.digest in digests or measured.reads.get("generated") in digests
    }
    for record in there.stage.records(there.storage, "shards"):
        if not tokens.isdisjoint(record.reads["tokens"]):
            yield from (shard["prefix"] for shard in record.facts["shards"])


def _read_by(there: Lookup, tokenized: set[str]) -> Iterator[str]:
    """The measure shards whose texts are in these tokenized files."""
    records = there.stage.records(there.storage, "tokenize")
    for (_, file, _), record in zip(there.measured, records, strict=False):
        if record.data[0].path in tokenized:
            yield file.path


def shards_with(lookup: Lookup, place: Place, answer: Answer) -> dict[str, dict[str, int]]:
    """By stage, the shards of other builds that hold one document, or what was made of it."""
    file = lookup.measured[place.shard][1]
    id = row_of(lookup.storage, file, place.row, ["id"])["id"]
    one = pa.table({"row": pa.array([place.row], pa.uint64()), "id": [id], "new_id": [answer.id]})
    return Held.of(lookup, {file.path: one}).shards()[0]


def _renamed(lookup: Lookup, gone: Mapping[str, pa.Table]) -> set[str]:
    """What another build calls the same rows, where two documents of one id got ids of their own."""
    sidecars = zip(lookup.measured, lookup.sidecars, strict=False)
    return {
        id
        for (_, file, _), sidecar in sidecars
        if file.path in gone
        for id in lookup.storage.read_table(sidecar.path, ["id"])["id"].take(gone[file.path]["row"]).to_pylist()
    }


def _others(lookup: Lookup) -> list[Stage]:
    """All other builds in the root: of this stage, earlier ones, other recipes.

    A build of the same recipe from sources that grew has taken over the pointer to the one before, which may have been
    trained on.
    """
    folders = [name for name in folders_of(lookup.storage) if STAGE.fullmatch(name) and name != lookup.stage.folder]
    manifests = [lookup.storage.read_json(f"{folder}/manifest.json") for folder in folders]
    return [Stage.from_json(raw) for raw in manifests if raw is not None]


@dataclass(frozen=True)
class Made:
    """What models made of documents in a build: ids, the digests of files that have any, and all files with its text.

    Answers that were rejected count among the latter.
    """

    ids: set[str]
    digests: set[str]
    files: set[str]

    @staticmethod
    def of(stage: Stage, storage: Storage, seeds: set[str], shards: set[str] | None) -> "Made":
        """`shards`: the digests of the measure shards that have the seeds; None where they are not known."""
        parents, found = pa.array(sorted(seeds), pa.string()), Made(set(), set(), set())
        for name in stage.nodes:
            for record in stage.records(storage, name) if name.startswith("generate_") else ():
                if shards is not None and record.facts["seeds"] not in shards:
                    continue
                documents, rejected = record.data[:2]
                table = storage.read_table(documents.path, ["id", "parent_ids"])
                flat = pc.is_in(pc.list_flatten(table["parent_ids"]), parents)
                rows = pc.list_parent_indices(table["parent_ids"]).filter(flat)
                if len(rows) or pc.any(pc.is_in(table["id"], parents)).as_py():
                    found.ids.update(table["id"].take(rows.unique()).to_pylist())
                    found.digests.add(documents.digest)
                    found.files.add(documents.path)
                if pc.any(pc.is_in(storage.read_table(rejected.path, ["seed_id"])["seed_id"], parents)).as_py():
                    found.files.add(rejected.path)
        return found


def _ledger(lookup: Lookup, held: Held) -> Iterator[str]:
    """Files of completions for documents of the same source files, by any model that a build here has asked."""
    models = {
        (model["model"], model["revision"])
        for stage in (lookup.stage, *held.others)
        for model in stage.recipe.get("generators", {}).values()
    }
    files = {(r.facts["source"], *r.facts["files"]) for _, f, r in lookup.measured if f.digest in held.digests}
    for folder in sorted(f"{model_folder(*model)}/{place_name(file)}" for model in models for file in files):
        for entry in lookup.storage.below(folder):
            yield entry.path


def tell_removal(removal: Removal, named: str, storage: Storage, say: Callable[[str], None]) -> None:
    """What a person should know of it in a few lines, and all of it in a file that decides nothing."""
    storage.replace(removal.path, canonical_json(removal.to_object()))
    say(f"removed: {removal.documents:,} documents that `{named}` names; {storage.uri(removal.path)} has all of this")
    _tell_copies(removal, say)
    if removal.unmatched:
        say(f"  warning: {len(removal.unmatched):,} entries name no document of this stage:")
        _tell_some([f"`{word}`" for word in removal.unmatched], say)
    for folder, shards in removal.shards.items():
        say(f"  {folder} holds {sum(shards.values()):,} of them, or of what was made of them:")
        _tell_some([f"{prefix} ({n:,})" for prefix, n in shards.items()], say)
    if removal.shards:
        say("  what was trained on those has seen them; those files stay until they are deleted")
    if removal.texts:
        say(f"  {len(removal.texts):,} files of this root hold their text, {len(removal.ledger):,} of its ledger may")


def _tell_copies(removal: Removal, say: Callable[[str], None]) -> None:
    if not removal.copies_known:
        say("  note: documents like them were not looked for, because of `dedup: index`; `copies: drop` takes them out")
    here = [_described(copy) for copy in removal.copies if copy.source is not None]
    earlier = [_described(copy) for copy in removal.copies if copy.source is None]
    n = len(here)
    if here and removal.copies_are == "drop":
        say(f"  {n:,} documents that are like them went too:")
    elif here:
        say(f"  warning: {n:,} documents that are like them are not listed and stay; `copies: drop` takes them out:")
    _tell_some(here, say)
    if earlier:
        say(f"  warning: {len(earlier):,} documents of earlier crawls are like them; nothing is changed there:")
    _tell_some(earlier, say)


def _described(copy: Copy) -> str:
    return f"{copy.name} ({copy.source or 'an earlier crawl'}, {copy.similarity:.3f} to {copy.of[0]})"


def _tell_some(lines: list[str], say: Callable[[str], None]) -> None:
    for line in lines[:SHOWN]:
        say(f"    {line}")
    if len(lines) > SHOWN:
        say(f"    ... and {len(lines) - SHOWN:,} more")
