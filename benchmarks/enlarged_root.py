"""A root as a large build would leave it, made from a small build by repeating its rows and multiplying its counts.

In: a root with a built stage, and how often to repeat. Out: a root of its own with everything that the dashboard and
the ledger read: manifests, records, measure shards, verdicts and sidecars, each written by the project's one writer.
What added up in the small build adds up in the large one. It has no shards and no tokens, and of repeated documents
only the first has text: nothing can be trained on it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.record_table import write_records
from marco_data.records import Count, Record, add_counts
from marco_data.stage import Stage, load_stage
from marco_data.storage import DataFile, Storage, canonical_json, write_parquet

WITH_ROWS = ("measure", "measure_generated", "decide", "decide_generated", "dedup")
NAMES = ("id", "row_id", "dup_of", "source_id", "url")
"""Columns that differ in each repetition."""
WITHOUT = ("text", "signature")
SCALED = {"budget", "available", "requested", "shortfall", "spilled", "target", "documents", "tokens", "repeated"}
"""Whole numbers in the facts of a mix that count documents or tokens."""


def enlarge(small: Storage, large: Storage, family: str, stages: Mapping[int, int], times: int) -> int:
    """Write stages {number there: number here}; the documents that were read, over all of them."""
    written: dict[str, str] = {}
    read = 0
    for number, source in stages.items():
        stage = load_stage(small, family, source)
        nodes = {}
        for name, entry in stage.nodes.items():
            manifest = entry["manifest"]
            if manifest not in written:
                records = [_enlarged(small, large, name, r, times) for r in stage.records(small, name)]
                written[manifest] = _write_manifest(large, name, entry, records)
            nodes[name] = entry
        counts = tuple(_scaled(count, times) for count in stage.counts)
        made = replace(
            stage,
            stage=number,
            folder=f"stage-{number}-{stage.folder.rpartition('-')[2]}",
            nodes=nodes,
            counts=counts,
            shards=(),
            mix=scaled_facts(stage.mix, times),
        )
        _point_to(large, made)
        read += made.books.read
    return read


def _scaled(count: Count, times: int) -> Count:
    return replace(count, documents=count.documents * times, bytes=count.bytes * times, tokens=count.tokens * times)


def scaled_facts(facts: Any, times: int, key: str = "") -> Any:
    """The facts of a mix with every number of documents or tokens multiplied."""
    if isinstance(facts, dict):
        return {name: scaled_facts(value, times, name) for name, value in facts.items()}
    if isinstance(facts, list):
        return [scaled_facts(value, times, key) for value in facts]
    return facts * times if key in SCALED and isinstance(facts, int) else facts


def _enlarged(small: Storage, large: Storage, node: str, record: Record, times: int) -> Record:
    data = record.data
    if node in WITH_ROWS or node.startswith("generate_"):
        often = times if node in WITH_ROWS else 1
        # What reads a file names it by its digest: it keeps the one it had.
        data = tuple(replace(_repeated(small, large, file, often), digest=file.digest) for file in record.data)
    counts = add_counts(_scaled(count, times) for count in record.counts)
    return Record(record.folder, record.key, record.reads, data, counts, record.facts)


def _repeated(small: Storage, large: Storage, file: DataFile, times: int) -> DataFile:
    with small.parquet(file.path) as parquet:
        schema = parquet.schema_arrow.remove_metadata()
        tables = [parquet.read_row_group(group) for group in range(parquet.num_row_groups)]
    stem = file.path.rpartition(".")[0].rpartition(".")[0]
    return write_parquet(large, stem, (_times(table, times) for table in tables), schema)


def _times(table: pa.Table, times: int) -> pa.Table:
    """Each row `times` over, one after the other: rows of files with other row groups stay beside each other."""
    rows = table.num_rows
    kept = table.drop_columns([name for name in WITHOUT if name in table.column_names])
    places = np.repeat(np.arange(rows), times)
    out = kept.combine_chunks().take(pa.array(places))
    again = np.tile(np.arange(times), rows)
    suffixes = pa.array(["", *(f"~{number}" for number in range(1, times))]).take(pa.array(again))
    columns = []
    for field in table.schema:
        if field.name in WITHOUT:
            columns.append(table[field.name].combine_chunks().take(pa.array(places, mask=again > 0)))
        elif field.name in NAMES:
            columns.append(pc.binary_join_element_wise(out[field.name], suffixes, "").cast(field.type))
        else:
            columns.append(out[field.name])
    return pa.table(columns, schema=table.schema)


def _write_manifest(large: Storage, name: str, entry: dict[str, Any], records: list[Record]) -> str:
    write_records(large, entry["manifest"], {"node": name, "identity": entry["identity"], "accept": {}}, records)
    return str(entry["manifest"])


def _point_to(large: Storage, stage: Stage) -> None:
    large.replace(f"{stage.folder}/manifest.json", stage.to_json())
    pointer = canonical_json({"stage": stage.folder, "number": stage.stage})
    for name in (f"{stage.family}-{stage.stage}", stage.family):
        large.replace(f"stages/{name}.json", pointer)
