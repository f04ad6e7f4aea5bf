"""Write what the mix has chosen: Megatron shards by part, language and source, documents in hash order.

In: tokenized shards and the mix's intervals. Out: for each (part, language, source) one or more
`<part>/<language>/<source>-<group>.<hash>.bin` / `.idx` with a `.lineage.parquet` beside them: one row a document, in
the shard's order, that says where it came from. A tokenized file belongs to a group by the hash of its name, so that
a new input file rewrites one group. Documents that a round sees more than once (`rehydrate`) have shards of their own,
`<source>.x<repeats>-...`, which hold each of them once: how often they are drawn is the blend's matter. Memory holds
lengths and places, the tokens go through a scratch file.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.mix import Interval, selection_hashes
from marco_data.nodes.mix import Mix, Repeats, intervals_of, repeats_of, within
from marco_data.nodes.tokenize import Tokenize
from marco_data.records import KEPT, Count, Record
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage, write_parquet
from marco_data.tokenizer import Tokenizer
from marco_data.tokens import ShardWriter, token_dtype

LINEAGE = pa.schema(
    [
        ("id", pa.string()),
        ("tokenized", pa.string()),  # the tokenized file
        ("row", pa.int32()),  # in the measure shard that file was made from
        ("length", pa.int32()),  # tokens, the end-of-document token included
    ]
)


@dataclass(frozen=True, kw_only=True)
class Shards(Node):
    kind: ClassVar[str] = "shards"
    whole: ClassVar[bool] = True

    tokenize: Tokenize = field(compare=False)
    mix: Mix = field(compare=False)
    shard_tokens: int

    def config(self, tools: Tools) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenize.config(tools),
            "seed": self.mix.seed,
            "shard_tokens": self.shard_tokens,
        }

    def tasks(self, context: Context) -> list[Task]:
        facts = context.done["mix"][0].facts
        intervals = intervals_of(facts)
        by_place: dict[tuple[str, str], list[Record]] = defaultdict(list)
        repeats = repeats_of(context, self.mix.rehydrate)
        for record in context.done["tokenize"]:
            for place in dict.fromkeys((c.language, c.source) for c in record.counts):
                by_place[place].append(record)
        tasks = []
        for row in facts["sources"]:
            part, language, source = row["part"], row["language"], row["source"]
            groups = 1 << max(0, (row["tokens"] - 1) // self.shard_tokens).bit_length()
            grouped: dict[int, list[Record]] = defaultdict(list)
            for record in by_place[language, source]:
                grouped[_group(record, groups)].append(record)
            for group, members in sorted(grouped.items()):
                interval = intervals[language, part]
                reads = {
                    "tokens": [r.data[0].digest for r in members],
                    "place": [part, language, source, group],
                    "interval": [f"{interval.lo:016x}", f"{interval.hi:016x}"],
                }
                times, files = row["repeats"], [r.data[0] for r in members]
                if self.mix.rehydrate:
                    sidecars = [repeats.sidecars[file.path].digest for file in files]
                    reads |= {"repeats": times, "weights": repeats.identity.get(language, []), "sidecars": sidecars}
                inputs = (part, language, source, group, files, interval, times, repeats.only(language, files))
                name = f"{part}-{language}-{source}{_repeated(times)}-{group:03d}"
                tasks.append(Task(self, name, reads, inputs, 4 * row["tokens"] // groups))
        return tasks

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        part, language, source, group, files, interval, times, repeats = task.inputs
        stem = f"{self.folder}/{part}/{language}/{source}{_repeated(times)}-{group:03d}"
        wanted = Wanted(language, source, interval, times, repeats)
        written = self.write(storage, files, wanted, stem, tools)
        if written is None:
            return Outcome(facts={"shards": []})
        data, total = written
        prefix = data[0].path.removesuffix(".bin")
        shard = {
            "prefix": prefix,
            "part": part,
            "language": language,
            "source": source,
            "lineage": data[2].path,
            "repeats": times,
            **total,
        }
        count = Count(
            KEPT,
            source,
            language,
            part=part,
            documents=total["documents"],
            bytes=total["bytes"],
            tokens=total["tokens"],
        )
        return Outcome(data, (count,), {"shards": [shard]})

    def write(
        self, storage: Storage, files: list[DataFile], wanted: "Wanted", stem: str, tools: Tools
    ) -> tuple[tuple[DataFile, DataFile, DataFile], dict[str, int]] | None:
        """One shard: `.bin`, `.idx` and lineage, and its documents, bytes and tokens; None where it would be empty."""
        tokenizer = Tokenizer.load(tools.path(self.tokenize.tokenizer), self.tokenize.end_of_document)
        with storage.scratch() as folder:
            gathered = _gather(storage, files, wanted, self.mix.seed, folder / "tokens.partial")
            if gathered.documents == 0:
                return None
            with (
                (folder / "bin.partial").open("wb") as bin_file,
                (folder / "idx.partial").open("wb") as idx_file,
            ):
                writer = ShardWriter(bin_file, idx_file, token_dtype(tokenizer.vocab_size))
                for document in gathered.in_order():
                    writer.append(document)
                writer.finish()
            tokens = storage.commit(folder / "bin.partial", stem, ".bin")
            index = storage.commit(folder / "idx.partial", stem, ".idx", digest=tokens.digest)
        prefix = tokens.path.removesuffix(".bin")
        lineage = write_parquet(storage, f"{prefix}.lineage", [gathered.lineage()], LINEAGE)
        total = {
            "documents": gathered.documents,
            "bytes": gathered.bytes,
            "tokens": int(gathered.lengths.sum()),
        }
        return (tokens, index, lineage), total


def _repeated(times: int) -> str:
    """What tells shards of repeated documents apart; no source has a point in its name."""
    return f".x{times}" if times > 1 else ""


@dataclass(frozen=True)
class Wanted:
    """The documents of a shard."""

    language: str
    source: str
    interval: Interval
    times: int
    repeats: Repeats


def _group(record: Record, groups: int) -> int:
    """Which group a tokenized file belongs to; the name says which input it came from, not what it holds."""
    name = record.key.rpartition(".")[0]
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % groups


@dataclass(frozen=True)
class Gathered:
    """A shard's documents as they were met; `in_order` gives them by place in the family's order."""

    scratch: Path
    ids: pa.Array
    files: pa.Array
    rows: np.ndarray
    lengths: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    bytes: int

    @property
    def documents(self) -> int:
        return len(self.order)

    def in_order(self) -> Iterator[np.ndarray]:
        tokens = np.memmap(self.scratch, dtype=np.uint32, mode="r")
        for i in self.order:
            yield tokens[self.offsets[i] : self.offsets[i] + self.lengths[i]]

    def lineage(self) -> pa.Table:
        table = pa.table(
            {"id": self.ids, "tokenized": self.files, "row": self.rows, "length": self.lengths},
            schema=LINEAGE,
        )
        return table.take(pa.array(self.order))


def _gather(
    storage: Storage,
    files: list[DataFile],
    wanted: Wanted,
    seed: str,
    scratch: Path,
) -> Gathered:
    """Copy the selected documents' tokens to the scratch file, a row group at a time, and note where each lies."""
    ids, names, rows, lengths, places, size = [], [], [], [], [], 0
    with scratch.open("wb") as out:
        for file in files:
            sizes = wanted.repeats.sizes(storage, file.path)
            with storage.parquet(file.path) as parquet:
                for group in range(parquet.num_row_groups):
                    if not _has_language(parquet, group, wanted.language):
                        continue
                    table = parquet.read_row_group(group)
                    table = table.filter(
                        pc.and_(pc.equal(table["language"], wanted.language), pc.equal(table["source"], wanted.source))
                    )
                    hashes = selection_hashes(table["id"].to_pylist(), seed)
                    seen = wanted.repeats.of(wanted.language, sizes, table) == wanted.times
                    inside = within(hashes, wanted.interval) & seen
                    chosen = table.filter(pa.array(inside)).combine_chunks()
                    out.write(pc.list_flatten(chosen["tokens"]).to_numpy().astype(np.uint32).tobytes())
                    ids += chosen["id"].to_pylist()
                    names += [file.path] * chosen.num_rows
                    rows.append(chosen["row"].to_numpy())
                    lengths.append(chosen["length"].to_numpy())
                    places.append(hashes[inside])
                    size += pc.sum(chosen["bytes"]).as_py() or 0
    all_lengths = np.concatenate(lengths) if lengths else np.empty(0, np.int32)
    all_places = np.concatenate(places) if places else np.empty(0, np.uint64)
    all_rows = np.concatenate(rows) if rows else np.empty(0, np.int32)
    offsets = np.concatenate([[0], np.cumsum(all_lengths, dtype=np.int64)])[:-1]
    # Ties of 64-bit hashes are broken by id, so that the order does not depend on the files' order.
    order = np.lexsort((np.array(ids, dtype="U32"), all_places))
    return Gathered(
        scratch,
        pa.array(ids, pa.string()),
        pa.array(names, pa.string()),
        all_rows,
        all_lengths,
        offsets,
        order,
        size,
    )


def _has_language(parquet: Any, group: int, language: str) -> bool:
    """By the row group's statistics: a row group holds one language."""
    column = parquet.schema_arrow.get_field_index("language")
    statistics = parquet.metadata.row_group(group).column(column).statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= language <= statistics.max
