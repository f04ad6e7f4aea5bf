"""Tokenize what every verdict has kept: one task a measure shard.

In: a measure shard's text, its verdict sidecars. Out: a Parquet file with a row for each kept document, in shard
order, a row group per language: `row` (in the measure shard), `id`, `source`, `language`, `bytes` (of text), `length`
(tokens with the end-of-document token) and `tokens`. A verdict that changes a shard's kept rows re-tokenizes
that shard alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.errors import ShardError
from marco_data.nodes.decide import measured_shards
from marco_data.nodes.generated import final_sidecars
from marco_data.records import Count, add_counts
from marco_data.step import Tools, package_versions
from marco_data.storage import DataFile, Storage, write_parquet
from marco_data.tokenizer import Tokenizer

TOKENIZED = "tokenized"
TOKENS = pa.schema(
    [
        ("row", pa.int32()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("bytes", pa.int64()),
        ("length", pa.int32()),
        ("tokens", pa.list_(pa.uint32())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Tokenize(Node):
    kind: ClassVar[str] = "tokenize"

    tokenizer: str
    end_of_document: str

    def config(self, tools: Tools) -> dict[str, Any]:
        tokenizer = Tokenizer.load(tools.path(self.tokenizer), self.end_of_document)
        return {
            "tokenizer": tokenizer.digest,
            "end_of_document": self.end_of_document,
            "packages": package_versions(("tokenizers",), tools.accept),
        }

    def tasks(self, context: Context) -> list[Task]:
        shards = measured_shards(context.everywhere("measure"))
        sidecars = final_sidecars(context)
        if len(shards) != len(sidecars):
            raise ShardError(f"{len(shards)} measure shards, but {len(sidecars)} dedup sidecars")
        return [
            Task(
                self,
                name,
                {"measure": file.digest, "kept": sidecar.facts["kept"]},
                (file, sidecar.data[0]),
                file.bytes,
            )
            for (name, file), sidecar in zip(shards, sidecars, strict=True)
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        file, sidecar = task.inputs
        tokenizer = Tokenizer.load(tools.path(self.tokenizer), self.end_of_document)
        counts: list[Count] = []

        def groups() -> Iterator[pa.Table]:
            for table in self._kept_groups(storage, file, sidecar):
                made = tokenized(table, tokenizer)
                counts.extend(_counted(made))
                yield made

        data = write_parquet(storage, f"{self.folder}/{task.key}", groups(), TOKENS)
        return Outcome((data,), add_counts(counts), {"shard": file.path, "verdicts": sidecar.path})

    def _kept_groups(self, storage: Storage, file: DataFile, sidecar: DataFile) -> Iterator[pa.Table]:
        """Row group by row group: `row`, `id`, `source`, `language`, `text` of the rows that are kept."""
        verdicts = storage.read_table(sidecar.path, ["row_id", "id", "kept"])
        with storage.parquet(file.path) as parquet:
            if verdicts.num_rows != parquet.metadata.num_rows:
                raise ShardError(
                    f"`{sidecar.path}` has {verdicts.num_rows} rows for the {parquet.metadata.num_rows} of "
                    f"`{file.path}`"
                )
            start = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                here = verdicts.slice(start, rows)
                if pc.any(here["kept"]).as_py():
                    table = parquet.read_row_group(group, columns=["id", "source", "lid_language", "text"])
                    if not table["id"].combine_chunks().equals(here["row_id"].combine_chunks()):
                        raise ShardError(f"`{sidecar.path}` and `{file.path}` name other documents")
                    table = table.append_column("row", pa.array(np.arange(start, start + rows, dtype=np.int32)))
                    table = table.set_column(table.schema.get_field_index("id"), "id", here["id"])
                    yield table.filter(here["kept"]).rename_columns({"lid_language": "language"})
                start += rows


def tokenized(table: pa.Table, tokenizer: Tokenizer) -> pa.Table:
    """TOKENS of rows with `row`, `id`, `source`, `language` and `text`."""
    if table["text"].null_count:
        raise ShardError("the text of a kept document was not stored; the language threshold is below the floor")
    ids, offsets = tokenizer.encode_flat(table["text"].to_pylist())
    return pa.table(
        {
            "row": table["row"],
            "id": table["id"],
            "source": table["source"],
            "language": table["language"],
            "bytes": pc.binary_length(table["text"]).cast(pa.int64()),
            "length": np.diff(offsets).astype(np.int32),
            "tokens": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(ids)),
        },
        schema=TOKENS,
    )


def _counted(table: pa.Table) -> list[Count]:
    grouped = table.group_by(["source", "language"]).aggregate([("id", "count"), ("bytes", "sum"), ("length", "sum")])
    return [
        Count(
            TOKENIZED,
            row["source"],
            row["language"],
            documents=row["id_count"],
            bytes=row["bytes_sum"],
            tokens=row["length_sum"],
        )
        for row in grouped.to_pylist()
    ]
