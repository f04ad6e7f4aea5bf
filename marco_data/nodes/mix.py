"""Choose what a stage takes: tokens available, the recipe's mixture, and where the stage before ended.

In: ids, languages, sources and lengths of all tokenized documents, in blocks. Out: no data, but `facts`: the
allocation, and for each language and part the interval of document hashes that the stage holds. One task that reads
a few bytes a document, never a text or a token.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
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
from marco_data.records import DROPPED, Count, add_counts
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage


@dataclass(frozen=True)
class Block:
    """Documents of one language and source: places in the family's order, tokens, shape [documents] each."""

    language: str
    source: str
    hashes: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Mix(Node):
    """`after` names the stage this one continues: family/stage, `previous` (the nearest below), or `nothing`."""

    name: ClassVar[str] = "mix"
    whole: ClassVar[bool] = True

    family: str
    stage: int
    mixture: Mapping[str, MixturePart]
    budget: int | None
    languages: tuple[str, ...]
    seed: str
    after: str

    def config(self, tools: Tools) -> dict[str, Any]:
        return {
            "mixture": {name: part.model_dump(mode="json") for name, part in sorted(self.mixture.items())},
            "budget": self.budget,
            "languages": list(self.languages),
            "seed": self.seed,
        }

    def tasks(self, context: Context) -> list[Task]:
        files = [record.data[0] for record in context.done["tokenize"]]
        after, starts = self.starts(context.storage)
        reads = {
            "tokens": [file.digest for file in files],
            "starts": [[*key, f"{place:016x}"] for key, place in sorted(starts.items())],
        }
        return [Task(self, f"stage-{self.stage}", reads, (files, after, starts), sum(f.rows for f in files))]

    def starts(self, storage: Storage) -> tuple[str | None, dict[Key, int]]:
        """The stage this one continues, and where it ended, by (language, part)."""
        if self.after == "nothing":
            return None, {}
        if self.after == "previous":
            candidates = [f"{self.family}-{n}" for n in range(self.stage - 1, 0, -1)]
        else:
            candidates = [self.after.replace("/", "-")]
        for name in candidates:
            pointer = storage.read_json(f"stages/{name}.json")
            blend = None if pointer is None else storage.read_json(f"{pointer['stage']}/blend.json")
            if pointer is not None and blend is not None:
                return pointer["stage"], next_starts(blend)
        return None, {}

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        files, after, starts = task.inputs
        parts = parts_by_source(self.mixture)
        finders: dict[Key, IntervalFinder] = {}
        for block in blocks(storage, files, self.seed):
            key = (block.language, parts[block.source])
            finder = finders.setdefault(key, IntervalFinder(starts.get(key, 0)))
            finder.add_block(block.hashes, block.lengths)
        available = {key: finder.tokens for key, finder in finders.items()}
        allocation = allocate(available, self.mixture, self.budget, languages=self.languages)
        targets = {(s.language, s.part): min(s.target, s.available) for s in allocation.shares}
        boundaries = {key: finder.aim(targets.get(key, 0)) for key, finder in finders.items()}
        selected, left = self._second_pass(storage, files, boundaries)
        facts = {
            "after": after,
            "allocation": asdict(allocation),
            "intervals": [
                {"language": key[0], "part": key[1], **_hexed(interval)} for key, interval in sorted(selected.items())
            ],
            "starts": [{"language": k[0], "part": k[1], "place": f"{v:016x}"} for k, v in sorted(starts.items())],
            "sources": self._by_source(storage, files, selected),
        }
        return Outcome(counts=add_counts(left), facts=facts)

    def _second_pass(
        self, storage: Storage, files: list[DataFile], boundaries: Mapping[Key, Boundary]
    ) -> tuple[dict[Key, Interval], list[Count]]:
        """The exact ends, then what lies outside them, counted as it is met."""
        parts = parts_by_source(self.mixture)
        if not all(b.settled for b in boundaries.values()):
            for block in blocks(storage, files, self.seed):
                boundary = boundaries[block.language, parts[block.source]]
                if not boundary.settled:
                    boundary.add_block(block.hashes, block.lengths)
        selected = {key: boundary.interval() for key, boundary in boundaries.items()}
        counts = []
        for block in blocks(storage, files, self.seed):
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
        self, storage: Storage, files: list[DataFile], selected: Mapping[Key, Interval]
    ) -> list[dict[str, Any]]:
        """What is selected, source by source: the sizes that shards are cut by."""
        parts = parts_by_source(self.mixture)
        sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for block in blocks(storage, files, self.seed):
            part = parts[block.source]
            inside = within(block.hashes, selected[block.language, part])
            entry = sums[part, block.language, block.source]
            entry[0] += int(inside.sum())
            entry[1] += int(block.lengths[inside].sum())
        return [
            {"part": p, "language": lang, "source": source, "documents": n, "tokens": tokens}
            for (p, lang, source), (n, tokens) in sorted(sums.items())
            if n
        ]


def _hexed(interval: Interval) -> dict[str, Any]:
    return {**asdict(interval), "lo": f"{interval.lo:016x}", "hi": f"{interval.hi:016x}"}


def intervals_of(facts: Mapping[str, Any]) -> dict[Key, Interval]:
    """The intervals in a mix record's facts, by (language, part)."""
    return {
        (row["language"], row["part"]): Interval(
            int(row["lo"], 16), int(row["hi"], 16), row["documents"], row["tokens"]
        )
        for row in facts["intervals"]
    }


def at_or_after(hashes: npt.NDArray[np.uint64], place: int) -> npt.NDArray[np.bool_]:
    return np.zeros(len(hashes), dtype=bool) if place >= 2**64 else hashes >= np.uint64(place)


def within(hashes: npt.NDArray[np.uint64], interval: Interval) -> npt.NDArray[np.bool_]:
    return at_or_after(hashes, interval.lo) & ~at_or_after(hashes, interval.hi)


def blocks(storage: Storage, files: list[DataFile], seed: str) -> Iterator[Block]:
    """The tokenized documents, a row group (one language) and source at a time."""
    for file in files:
        with storage.parquet(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=["id", "source", "language", "length"])
                yield from _split(table, seed)


def _split(table: pa.Table, seed: str) -> Iterator[Block]:
    for source in sorted(pc.unique(table["source"]).to_pylist()):
        rows = table.filter(pc.equal(table["source"], source))
        for language in sorted(pc.unique(rows["language"]).to_pylist()):
            mine = rows.filter(pc.equal(rows["language"], language))
            yield Block(
                language,
                source,
                selection_hashes(mine["id"].to_pylist(), seed),
                mine["length"].to_numpy().astype(np.int64),
            )
