"""Cluster sizes: how many documents of each size limits judged, and how many they dropped; a task a shard.

In: verdicts and duplicate sidecars, columns only. Out: no data, but `facts`: `sizes`, by language and cluster size. The
sizes of dropped documents are known where dedup looked at them too (`steps.dedup.over: all`); those that a text step
dropped have no signature, and those of another language were not judged: neither is counted.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.rehydrate import Tally, add_tallies
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage

JUDGES_AFTER = "select_language"


def judges(names: Sequence[str]) -> tuple[str, ...]:
    """Of the names of the steps that decide, those of steps that drop documents of languages the recipe wants."""
    return tuple(names[names.index(JUDGES_AFTER) + 1 :]) if JUDGES_AFTER in names else tuple(names)


def tally(verdicts: pa.Table, sidecar: pa.Table, steps: Collection[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """{language: {cluster size: (documents, dropped)}} of one shard: what passed, and what `steps` dropped."""
    step = pc.list_element(pc.split_pattern(pc.fill_null(verdicts["reason"], "/"), "/", max_splits=1), 0)
    known = pc.is_in(step, pa.array(["", *steps], pa.string()))
    table = pa.table(
        {
            "language": verdicts["language"],
            "size": pc.fill_null(sidecar["cluster_size"], 1),
            "dropped": pc.is_valid(verdicts["reason"]),
        }
    ).filter(pc.and_(pc.is_null(verdicts["failed"]), known))
    documents: dict[str, Counter[int]] = defaultdict(Counter)
    dropped: dict[str, Counter[int]] = defaultdict(Counter)
    for row in table.group_by(["language", "size", "dropped"]).aggregate([([], "count_all")]).to_pylist():
        documents[row["language"]][row["size"]] += row["count_all"]
        dropped[row["language"]][row["size"]] += row["count_all"] * row["dropped"]
    return {
        language: {size: (n, dropped[language][size]) for size, n in sizes.items()}
        for language, sizes in documents.items()
    }


def tally_files(
    storage: Storage, pairs: Iterable[tuple[DataFile, DataFile]], steps: Collection[str]
) -> dict[str, dict[int, tuple[int, int]]]:
    """The sum over (verdicts, sidecar) of many shards, one at a time."""
    total: dict[str, dict[int, tuple[int, int]]] = {}
    for verdicts, sidecar in pairs:
        columns = storage.read_table(verdicts.path, ["language", "failed", "reason"])
        total = add_tallies([total, tally(columns, storage.read_table(sidecar.path, ["cluster_size"]), steps)])
    return total


@dataclass(frozen=True, kw_only=True)
class ClusterSizes(Node):
    kind: ClassVar[str] = "cluster_sizes"

    steps: tuple[str, ...]

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"steps": list(self.steps)}

    def tasks(self, context: Context) -> list[Task]:
        shards = zip(context.everywhere("decide"), context.done["dedup"], strict=True)
        return [
            Task(
                self,
                sidecar.facts["shard"].rpartition("/")[2].removesuffix(".parquet"),
                {"verdicts": verdicts.data[0].digest, "sidecar": sidecar.data[0].digest},
                (verdicts.data[0], sidecar.data[0]),
                8 * sidecar.data[0].rows,
            )
            for verdicts, sidecar in shards
        ]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        sizes = tally_files(storage, [task.inputs], self.steps)
        return Outcome(facts={"sizes": {code: [[s, *n] for s, n in found.items()] for code, found in sizes.items()}})


def table_of(facts: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, tuple[int, int]]]:
    """The sum over the facts of all tasks."""
    tables: list[Mapping[str, Tally]] = [
        {code: {size: (n, gone) for size, n, gone in sizes} for code, sizes in fact["sizes"].items()} for fact in facts
    ]
    return add_tallies(tables)
