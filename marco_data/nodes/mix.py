"""Choose what a stage takes: tokens available, the recipe's mixture, and where the stage before ended.

In: ids, languages, sources and lengths of all tokenized documents, in blocks; where a recipe repeats documents by the
size of their cluster (`rehydrate`), those sizes too. Out: no data, but `facts`: the allocation, and for each language
and part the interval of document hashes that the stage holds. One task that reads a few bytes a document, never a text
or a token.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.blend import next_starts
from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.mix import (
    Boundary,
    Interval,
    IntervalFinder,
    Key,
    MixturePart,
    allocate,
    parts_by_source,
    selection_hashes,
)
from marco_data.nodes.cluster_sizes import table_of
from marco_data.records import DROPPED, Count, add_counts
from marco_data.rehydrate import Rehydrate, Sizes, rehydration_weights
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage


@dataclass(frozen=True)
class Block:
    """Documents of one language and source: places in the family's order, tokens, and how often each is seen in a
    round, shape [documents] each."""

    language: str
    source: str
    hashes: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int64]
    repeats: npt.NDArray[np.int64]

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """The tokens that a round sees of each document."""
        return self.lengths * self.repeats


@dataclass(frozen=True)
class Repeats:
    """How often a round sees each document: weights by language and cluster size, sizes in duplicate sidecars.

    `sidecars` are by the path of the tokenized file whose rows they are about; without any, all is seen once.
    """

    weights: Mapping[str, Sequence[Sizes]] = field(default_factory=dict)
    sidecars: Mapping[str, DataFile] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What the repeats of any document are a function of, beside its file's sidecar."""
        return {code: [[s.first, s.weight] for s in sizes] for code, sizes in sorted(self.weights.items())}

    def only(self, language: str, files: Sequence[DataFile]) -> "Repeats":
        """What of this a task needs that reads some files for one language."""
        weights = {language: self.weights[language]} if language in self.weights else {}
        return Repeats(weights, {file.path: self.sidecars[file.path] for file in files} if weights else {})

    def sizes(self, storage: Storage, path: str) -> npt.NDArray[np.int64] | None:
        """The cluster size of each row of the measure shard that a tokenized file was made from."""
        if not self.weights:
            return None
        column = storage.read_table(self.sidecars[path].path, ["cluster_size"])["cluster_size"]
        return np.asarray(pc.fill_null(column, 1).to_numpy(), np.int64)

    def of(self, language: str, sizes: npt.NDArray[np.int64] | None, rows: pa.Table) -> npt.NDArray[np.int64]:
        """How often each of `rows`, of one language, is seen."""
        known = self.weights.get(language)
        if sizes is None or not known:
            return np.ones(rows.num_rows, np.int64)
        at = np.searchsorted([s.first for s in known], sizes[rows["row"].to_numpy()], side="right")
        seen: npt.NDArray[np.int64] = np.array([1, *(s.weight for s in known)], np.int64)[at]
        return seen


ONCE = Repeats()


def repeats_of(context: Context, rehydrate: Rehydrate | None) -> Repeats:
    """What a recipe's `rehydrate` makes of the clusters of this run."""
    if rehydrate is None:
        return ONCE
    table = table_of(record.facts for record in context.done["cluster_sizes"])
    pairs = zip(context.done["tokenize"], context.done["dedup"], strict=True)
    sidecars = {tokens.data[0].path: sidecar.data[0] for tokens, sidecar in pairs}
    return Repeats(rehydration_weights(table, rehydrate), sidecars)


def build_before(storage: Storage, family: str, stage: int, after: str) -> tuple[str, dict[str, Any]] | None:
    """The folder and the blend of the build that a stage goes on after, as a `Mix` understands `after`."""
    if after == "nothing":
        return None
    earlier = [f"{family}-{n}" for n in range(stage - 1, 0, -1)] if after == "previous" else [after.replace("/", "-")]
    for name in earlier:
        pointer = storage.read_json(f"stages/{name}.whole.json")
        blend = None if pointer is None else storage.read_json(f"{pointer['stage']}/blend.json")
        if pointer is not None and blend is not None:
            return pointer["stage"], blend
    return None


@dataclass(frozen=True, kw_only=True)
class Mix(Node):
    """`after` names the stage this one continues: family/stage, `previous` (the nearest below), or `nothing`."""

    kind: ClassVar[str] = "mix"
    whole: ClassVar[bool] = True

    family: str
    stage: int
    mixture: Mapping[str, MixturePart]
    budget: int | None
    languages: tuple[str, ...]
    seed: str
    after: str
    rehydrate: Rehydrate | None = None

    def config(self, tools: Tools) -> dict[str, Any]:
        return {
            "mixture": {name: part.model_dump(mode="json") for name, part in sorted(self.mixture.items())},
            "budget": self.budget,
            "languages": list(self.languages),
            "seed": self.seed,
            **({"rehydrate": self.rehydrate.model_dump()} if self.rehydrate else {}),
        }

    def tasks(self, context: Context) -> list[Task]:
        files = [record.data[0] for record in context.done["tokenize"]]
        after, starts = self.starts(context.storage)
        reads = {
            "tokens": [file.digest for file in files],
            "starts": [[*key, f"{place:016x}"] for key, place in sorted(starts.items())],
        }
        repeats = repeats_of(context, self.rehydrate)
        if self.rehydrate:
            sidecars = [repeats.sidecars[file.path].digest for file in files]
            reads |= {"weights": repeats.identity, "sidecars": sidecars}
        inputs = (files, after, starts, repeats)
        return [Task(self, f"stage-{self.stage}", reads, inputs, sum(f.rows for f in files))]

    def starts(self, storage: Storage) -> tuple[str | None, dict[Key, int]]:
        """The stage this one continues, and where it ended, by (language, part)."""
        found = build_before(storage, self.family, self.stage, self.after)
        return (None, {}) if found is None else (found[0], next_starts(found[1]))

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        files, after, starts, repeats = task.inputs
        parts = parts_by_source(self.mixture)
        finders: dict[Key, IntervalFinder] = {}
        for block in blocks(storage, files, self.seed, repeats):
            key = (block.language, parts[block.source])
            finder = finders.setdefault(key, IntervalFinder(starts.get(key, 0)))
            finder.add_block(block.hashes, block.seen)
        available = {key: finder.tokens for key, finder in finders.items()}
        allocation = allocate(available, self.mixture, self.budget, languages=self.languages)
        targets = {(s.language, s.part): min(s.target, s.available) for s in allocation.shares}
        boundaries = {key: finder.aim(targets.get(key, 0)) for key, finder in finders.items()}
        selected, left = self._second_pass(storage, files, boundaries, repeats)
        sources = self._by_source(storage, files, selected, repeats)
        selected = _told_apart(selected, sources)
        facts = {
            "after": after,
            "allocation": asdict(allocation),
            "intervals": [
                {"language": key[0], "part": key[1], **_hexed(interval)} for key, interval in sorted(selected.items())
            ],
            "starts": [{"language": k[0], "part": k[1], "place": f"{v:016x}"} for k, v in sorted(starts.items())],
            "sources": sources,
            **(
                {"weights": {code: [asdict(s) for s in w] for code, w in repeats.weights.items()}}
                if repeats.weights
                else {}
            ),
        }
        return Outcome(counts=add_counts(left), facts=facts)

    def _second_pass(
        self, storage: Storage, files: list[DataFile], boundaries: Mapping[Key, Boundary], repeats: Repeats
    ) -> tuple[dict[Key, Interval], list[Count]]:
        """The exact ends, then what lies outside them, counted as it is met."""
        parts = parts_by_source(self.mixture)
        if not all(b.settled for b in boundaries.values()):
            for block in blocks(storage, files, self.seed, repeats):
                boundary = boundaries[block.language, parts[block.source]]
                if not boundary.settled:
                    boundary.add_block(block.hashes, block.seen)
        selected = {key: boundary.interval() for key, boundary in boundaries.items()}
        counts = []
        for block in blocks(storage, files, self.seed, repeats):
            part = parts[block.source]
            interval = selected[block.language, part]
            for reason, mask in (
                ("mix/in_earlier_stage", ~at_or_after(block.hashes, interval.lo)),
                ("mix/not_selected", at_or_after(block.hashes, interval.hi)),
            ):
                if mask.any():
                    counts.append(
                        Count(
                            DROPPED,
                            block.source,
                            block.language,
                            reason,
                            documents=int(mask.sum()),
                            tokens=int(block.lengths[mask].sum()),
                        )
                    )
        return selected, counts

    def _by_source(
        self, storage: Storage, files: list[DataFile], selected: Mapping[Key, Interval], repeats: Repeats
    ) -> list[dict[str, Any]]:
        """What is selected, source by source and by how often it is seen: the sizes that shards are cut by."""
        parts = parts_by_source(self.mixture)
        sums: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0, 0])
        for block in blocks(storage, files, self.seed, repeats):
            part = parts[block.source]
            inside = within(block.hashes, selected[block.language, part])
            for times in np.unique(block.repeats[inside]):
                chosen = inside & (block.repeats == times)
                entry = sums[part, block.language, block.source, int(times)]
                entry[0] += int(chosen.sum())
                entry[1] += int(block.lengths[chosen].sum())
        return [
            {"part": p, "language": lang, "source": source, "documents": n, "tokens": tokens, "repeats": times}
            for (p, lang, source, times), (n, tokens) in sorted(sums.items())
        ]


def _told_apart(found: Mapping[Key, Interval], sources: Sequence[Mapping[str, Any]]) -> dict[Key, Interval]:
    """Intervals whose tokens are those of a round, as tokens that are held and tokens that are repeated."""
    held: Counter[Key] = Counter()
    for row in sources:
        held[row["language"], row["part"]] += row["tokens"]
    return {
        key: replace(interval, tokens=held[key], repeated=interval.tokens - held[key])
        for key, interval in found.items()
    }


def _hexed(interval: Interval) -> dict[str, Any]:
    return {**asdict(interval), "lo": f"{interval.lo:016x}", "hi": f"{interval.hi:016x}"}


def intervals_of(facts: Mapping[str, Any]) -> dict[Key, Interval]:
    """The intervals in a mix record's facts, by (language, part)."""
    return {
        (row["language"], row["part"]): Interval(
            int(row["lo"], 16), int(row["hi"], 16), row["documents"], row["tokens"], row["repeated"]
        )
        for row in facts["intervals"]
    }


def at_or_after(hashes: npt.NDArray[np.uint64], place: int) -> npt.NDArray[np.bool_]:
    return np.zeros(len(hashes), dtype=bool) if place >= 2**64 else hashes >= np.uint64(place)


def within(hashes: npt.NDArray[np.uint64], interval: Interval) -> npt.NDArray[np.bool_]:
    return at_or_after(hashes, interval.lo) & ~at_or_after(hashes, interval.hi)


def blocks(storage: Storage, files: list[DataFile], seed: str, repeats: Repeats = ONCE) -> Iterator[Block]:
    """The tokenized documents, a row group (one language) and source at a time."""
    for file in files:
        sizes = repeats.sizes(storage, file.path)
        with storage.parquet(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=["id", "source", "language", "length", "row"])
                yield from _split(table, seed, sizes, repeats)


def _split(table: pa.Table, seed: str, sizes: npt.NDArray[np.int64] | None, repeats: Repeats) -> Iterator[Block]:
    for source in sorted(pc.unique(table["source"]).to_pylist()):
        rows = table.filter(pc.equal(table["source"], source))
        for language in sorted(pc.unique(rows["language"]).to_pylist()):
            mine = rows.filter(pc.equal(rows["language"], language))
            yield Block(
                language,
                source,
                selection_hashes(mine["id"].to_pylist(), seed),
                mine["length"].to_numpy().astype(np.int64),
                repeats.of(language, sizes, mine),
            )
