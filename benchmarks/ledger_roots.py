"""Roots of many shards for the ledger's benchmark, written by the project's own writers; no document is in them.

In: how many shards (tasks of each node that judges documents), and of how many languages each is. Out: a root as a
build leaves it, with manifests of nodes and of the stage; or as a build that was killed leaves it, when all but the
last of `decide`'s records were committed. Counts are those of some filters; they add up.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.scale.nothing import Repeated, own_columns
from marco_data.catalog import Choice, resolve
from marco_data.dataset import Dataset, Node, Task
from marco_data.execute import Run, manifest_name, write_manifest
from marco_data.mix import HASH_END, Interval, Key, allocate
from marco_data.nodes.tokenize import TOKENIZED
from marco_data.recipe import Recipe
from marco_data.record_table import records_of
from marco_data.records import DROPPED, KEPT, READ, Count, Record, commit_record
from marco_data.run_state import Announced
from marco_data.stage import finish
from marco_data.storage import Storage

JUDGED = ("measure", "decide", "dedup", "tokenize")
REASONS = ("select_language/low_score", "quality/too_few_words", "quality/too_much_of_one_2_gram")
BYTES, FERTILITY = 3000, 700  # of a document: bytes, tokens
OUTPUT_SHARDS = 20_000
"""Of a stage, at most; Megatron numbers fewer than 30,000."""


class Root:
    """The sample's stage 3 over as many shards as are asked for, of `languages` languages each."""

    def __init__(self, folder: str, shards: int, languages: int) -> None:
        self.storage = Storage(folder)
        self.recipe: Recipe = resolve(Choice(3))
        self.dataset: Dataset = self.recipe.pipeline_function()(self.recipe)
        self.shards, self.languages = shards, languages
        self.sources = sorted(self.recipe.used_sources)
        self._known: dict[tuple[str, int], tuple[Count, ...]] = {}
        self._facts: dict[tuple[str, str], dict[str, Any]] = {}

    def finished(self) -> None:
        """A build that is through."""
        run = Run()
        each = list(self._tasks(self.dataset.nodes[0]))  # of all nodes that judge: their keys are made once
        own = own_columns(each)
        for node in self.dataset.nodes:
            tasks = each if node.kind in JUDGED else []
            records: Sequence[Record]
            if node.kind in ("mix", "shards"):
                records = self._mix(node) if node.kind == "mix" else self._output(node, run.records["mix"][0])
                tasks = [Task(node, record.facts["name"], record.reads, None) for record in records]
            else:
                pattern = [self._record(node, task, i) for i, task in enumerate(tasks[: 64 * len(self.sources)])]
                records = Repeated(node.folder, own, pattern) if tasks else []
            manifest = manifest_name(node, tasks)
            write_manifest(self.storage, node, tasks, records)
            run.records[node.name], run.manifests[node.name] = records_of(self.storage, manifest) or [], manifest
        finish(self.recipe, self.dataset, run, self.storage)

    def killed(self) -> None:
        """A build that ended before the last record of `decide`."""
        announced = Announced.of(self.recipe, self.dataset.nodes, self.storage)
        measure, decide = self.dataset.node("measure"), self.dataset.node("decide")
        tasks = list(self._tasks(measure))
        records = [self._record(measure, task, i) for i, task in enumerate(tasks)]
        write_manifest(self.storage, measure, tasks, records)
        announced.node(measure, tasks, there=False)
        announced.node(decide, list(self._tasks(decide)), there=False)
        self.commit(range(self.shards - 1))

    def commit(self, numbers: Sequence[int]) -> None:
        """The records of some tasks of `decide`."""
        decide = self.dataset.node("decide")
        for number in numbers:
            commit_record(self.storage, self._record(decide, self._task(decide, number), number))

    def _tasks(self, node: Node) -> Iterator[Task]:
        return (self._task(node, number) for number in range(self.shards))

    def _task(self, node: Node, number: int) -> Task:
        return Task(node, f"crawl-{number // 1000:04d}-{number:07d}-jsonl", {"slice": number}, None)

    def _record(self, node: Node, task: Task, number: int) -> Record:
        source = self.sources[number % len(self.sources)]
        facts = self._facts.setdefault((node.kind, source), _facts(node.kind, source))
        return Record(node.folder, task.key, dict(task.reads), counts=self._counts(node.kind, number), facts=facts)

    def _counts(self, kind: str, number: int) -> tuple[Count, ...]:
        """Of 100 documents of a language: 3 to 9 are dropped for each reason, 11 as duplicates."""
        at = number % (64 * len(self.sources))
        if (kind, at) not in self._known:
            source, codes = self.sources[number % len(self.sources)], self.recipe.languages
            mine = [codes[(number + i) % len(codes)] for i in range(self.languages)]
            self._known[kind, at] = tuple(count for code in mine for count in _counts(kind, source, code))
        return self._known[kind, at]

    def _kept(self) -> dict[tuple[str, str], int]:
        """Documents that are tokenized, by language and source."""
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for number in range(self.shards):
            for count in self._counts("tokenize", number):
                sums[count.language, count.source] += count.documents
        return sums

    def _mix(self, node: Node) -> list[Record]:
        kept, part_of = self._kept(), self.recipe.part_of
        available: dict[Key, int] = defaultdict(int)
        documents: dict[Key, int] = defaultdict(int)
        for (language, source), n in kept.items():
            available[language, part_of[source]] += n * FERTILITY
            documents[language, part_of[source]] += n
        allocation = allocate(available, self.recipe.mixture, 2 * sum(available.values()))
        intervals = {key: Interval(0, HASH_END, n, n * FERTILITY) for key, n in documents.items()}
        facts = {
            "name": "stage-3",
            "after": None,
            "allocation": asdict(allocation),
            "intervals": [
                {**asdict(i), "language": key[0], "part": key[1], "lo": f"{i.lo:016x}", "hi": f"{i.hi:016x}"}
                for key, i in sorted(intervals.items())
            ],
            "starts": [],
            "sources": [
                {"language": c, "source": s, "part": part_of[s], "documents": n, "tokens": n * FERTILITY, "repeats": 1}
                for (c, s), n in sorted(kept.items())
            ],
        }
        reads = {"shards": self.shards}
        return [Record(node.folder, Task(node, "stage-3", reads, None).key, reads, facts=facts)]

    def _output(self, node: Node, mix: Record) -> list[Record]:
        """Token shards, as many as there are shards that were read, up to OUTPUT_SHARDS."""
        rows = mix.facts["sources"]
        each = max(1, min(self.shards, OUTPUT_SHARDS) // len(rows))
        records = []
        for row in rows:
            left = row["documents"]
            for group in range(each):
                n = left if group == each - 1 else row["documents"] // each
                left -= n
                name = f"{row['part']}-{row['language']}-{row['source']}-{group:03d}"
                sizes = {"documents": n, "bytes": n * BYTES, "tokens": n * FERTILITY}
                count = Count(KEPT, row["source"], row["language"], part=row["part"], **sizes)
                prefix = f"{node.folder}/{row['part']}/{row['language']}/{row['source']}-{group:03d}"
                where = {key: row[key] for key in ("part", "language", "source")}
                lineage = f"{prefix}.lineage.parquet"
                shard = {"prefix": prefix, "lineage": lineage, "repeats": 1, **where, **sizes}
                facts = {"name": name, "shards": [shard]}
                key = Task(node, name, {"name": name}, None).key
                records.append(Record(node.folder, key, {"name": name}, counts=(count,), facts=facts))
        return records


def _facts(kind: str, source: str) -> dict[str, Any]:
    if kind == "measure":
        return {"source": source, "files": [f"{source}/0001.jsonl"]}
    return {"shard": "measure/0001.parquet", "leaks": {}} if kind == "decide" else {}


def _counts(kind: str, source: str, code: str) -> list[Count]:
    where = (source, code)
    if kind == "measure":
        return [Count(READ, *where, documents=100, bytes=100 * BYTES)]
    dropped = [3 * (1 + i) for i in range(len(REASONS))]
    if kind == "decide":
        gone = [Count(DROPPED, *where, r, documents=n, bytes=n * BYTES) for r, n in zip(REASONS, dropped, strict=True)]
        left = 100 - sum(dropped)
        return [*gone, Count("passed", *where, documents=left, bytes=left * BYTES)]
    if kind == "dedup":
        return [Count(DROPPED, *where, "dedup/near", documents=11, bytes=11 * BYTES)]
    left = 100 - sum(dropped) - 11
    return [Count(TOKENIZED, *where, documents=left, bytes=left * BYTES, tokens=left * FERTILITY)]
