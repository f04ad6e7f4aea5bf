"""A stage that was built: its manifest, its books, and where to find it again.

In: the records of a run. Out: `stage-<n>-<digest>/` with `manifest.json`, `blend.json`, `blend.txt` and `CARD.md`, and
a pointer `stages/<family>-<n>.json` to the newest build. A run that could not finish leaves a manifest and a card too,
which say so: what was read, what failed, and that the books do not balance.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from marco_data import card
from marco_data.alarms import Alarm
from marco_data.blend import BlendHeader, BlendShard, blend_json, blend_text
from marco_data.catalog import INPUT
from marco_data.dataset import Context, Dataset
from marco_data.errors import RecipeError
from marco_data.execute import Failure, Run
from marco_data.generation.accounting import RequestCount, unbalanced_requests
from marco_data.hub import commits
from marco_data.mix import Allocation, PartTotal, Share
from marco_data.nodes.generate import Generate, price_of
from marco_data.nodes.measure import Measure
from marco_data.nodes.mix import intervals_of
from marco_data.nodes.tokenize import Tokenize
from marco_data.nodes.written import spent
from marco_data.recipe import Recipe
from marco_data.record_table import records_of, sums_of
from marco_data.records import (
    DROPPED,
    FAILED,
    GENERATED,
    KEPT,
    READ,
    REPLACED,
    Count,
    Record,
    add_counts,
    read_in_blocks,
)
from marco_data.run_state import end_state
from marco_data.step import Tools, fingerprint
from marco_data.storage import Storage, canonical_json
from marco_data.tokenizer import Tokenizer

SOURCES_OF_COUNTS = {
    "measure": (READ,),
    "measure_generated": (GENERATED,),
    "decide": (FAILED, DROPPED),
    "decide_generated": (FAILED, DROPPED),
    "dedup": (DROPPED,),
    "replace": (REPLACED,),
    "mix": (DROPPED,),
    "shards": (KEPT,),
}
"""Which node each side of the books is taken from: the two sides never come from the same addition."""


@dataclass(frozen=True)
class Books:
    """Where every document went: read + generated = kept + replaced + dropped + failed."""

    read: int
    generated: int
    kept: int
    replaced: int
    dropped: Mapping[str, int]
    failed: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        gone = self.kept + self.replaced + sum(self.dropped.values()) + sum(self.failed.values())
        return self.read + self.generated == gone


def books(counts: Iterable[Count]) -> Books:
    sums: dict[str, int] = defaultdict(int)
    reasons: dict[str, dict[str, int]] = {DROPPED: defaultdict(int), FAILED: defaultdict(int)}
    for count in counts:
        sums[count.outcome] += count.documents
        if count.outcome in reasons:
            reasons[count.outcome][count.reason] += count.documents
    return Books(
        read=sums[READ],
        generated=sums[GENERATED],
        kept=sums[KEPT],
        replaced=sums[REPLACED],
        dropped=dict(sorted(reasons[DROPPED].items())),
        failed=dict(sorted(reasons[FAILED].items())),
    )


def unbalanced(counts: Iterable[Count]) -> list[tuple[str, str, Books]]:
    """(source, language, books) wherever a single source and language does not add up."""
    groups: dict[tuple[str, str], list[Count]] = defaultdict(list)
    for count in counts:
        groups[count.source, count.language].append(count)
    return [(*key, b) for key, group in sorted(groups.items()) if not (b := books(group)).balanced]


def counts_of_books(counts: Mapping[str, Iterable[Count]]) -> tuple[Count, ...]:
    """What the books are made of, from the counts of each node."""
    return add_counts(
        count
        for node, outcomes in SOURCES_OF_COUNTS.items()
        for count in counts.get(node, ())
        if count.outcome in outcomes
    )


@dataclass(frozen=True)
class Stage:
    """The manifest of one build of a stage."""

    family: str
    stage: int
    folder: str
    complete: bool
    recipe: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    counts: tuple[Count, ...]
    shards: Sequence[dict[str, Any]] = ()
    mix: dict[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    waived: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    files: dict[str, dict[str, int]] = field(default_factory=dict)
    benchmarks: dict[str, dict[str, int]] = field(default_factory=dict)
    requests: Sequence[dict[str, Any]] = ()
    ended: dict[str, dict[str, str]] = field(default_factory=dict)
    prices: dict[str, dict[str, float | None]] = field(default_factory=dict)
    sample: float = 1.0
    read_at: dict[str, list[str]] = field(default_factory=dict)  # source -> repositories of a hub at their commits

    @property
    def whole(self) -> bool:
        """Whether a next stage may go on after it: all of the recipe's own sources, not a trial of some."""
        return self.complete and self.sample >= 1 and INPUT not in self.recipe["mixture"]

    @property
    def books(self) -> Books:
        return books(self.counts)

    @property
    def balanced(self) -> bool:
        return (
            self.complete
            and not self.waived
            and not unbalanced(self.counts)
            and not unbalanced_requests(self.wanted)
            and sum(row.accepted for row in self.wanted) == self.books.generated
        )

    @property
    def wanted(self) -> list[RequestCount]:
        """What was asked of models, by maker, language, prompt and model."""
        return [RequestCount.from_row(row) for row in self.requests]

    @property
    def starts_over(self) -> bool:
        """Whether it should have gone on where an earlier stage ended, and there was none."""
        return self.stage > 1 and self.recipe["after"] != "nothing" and self.mix.get("after") is None

    def to_object(self) -> dict[str, Any]:
        """What the manifest holds."""
        return {**asdict(self), "balanced": self.balanced}

    def to_json(self) -> bytes:
        return canonical_json(self.to_object())

    def records(self, storage: Storage, node: str) -> Sequence[Record]:
        """The records of one node of this build."""
        entry = self.nodes.get(node, {"manifest": None, "records": []})
        if entry["manifest"] is not None:
            return records_of(storage, entry["manifest"]) or []
        return [Record.from_json(data) for data in read_in_blocks(storage, entry["records"])]

    def everywhere(self, storage: Storage, kind: str) -> list[Record]:
        """The records of a kind of node over what was read, then over what was generated."""
        return [*self.records(storage, kind), *self.records(storage, f"{kind}_generated")]

    def deduplicated(self, storage: Storage) -> Sequence[Record]:
        """The records of the last dedup that was done: before anything is generated there is one over what was read."""
        return self.records(storage, "dedup") or self.records(storage, "dedup_seeds")

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "Stage":
        return Stage(
            family=raw["family"],
            stage=raw["stage"],
            folder=raw["folder"],
            complete=raw["complete"],
            recipe=raw["recipe"],
            nodes=raw["nodes"],
            counts=tuple(Count(**c) for c in raw["counts"]),
            shards=tuple(raw["shards"]),
            mix=raw["mix"],
            failures=tuple(Failure(**f) for f in raw["failures"]),
            waived=tuple(raw["waived"]),
            alarms=tuple(Alarm(**a) for a in raw["alarms"]),
            files=raw["files"],
            benchmarks=raw["benchmarks"],
            requests=tuple(raw.get("requests", ())),  # manifests of before there were any
            ended=raw.get("ended", {}),
            prices=raw.get("prices", {}),
            sample=raw.get("sample", 1.0),
            read_at=raw.get("read_at", {}),
        )


def finish(recipe: Recipe, dataset: Dataset, run: Run, storage: Storage) -> Stage:
    """Write the manifest of what a run came to, and point to it."""
    counts = counts_of_books({name: sums_of(records) for name, records in run.records.items()})
    nodes = {
        node.name: {
            "folder": node.folder,
            "identity": node.identity,
            "tasks": len(run.records[node.name]),
            "manifest": run.manifests.get(node.name),
            "records": [] if node.name in run.manifests else [r.path for r in run.records[node.name]],
        }
        for node in dataset.nodes
        if node.name in run.records
    }
    shards = [shard for record in run.records.get("shards", []) for shard in record.facts["shards"]]
    mix = run.records["mix"][0].facts if run.records.get("mix") else {}
    waived = sorted([*run.waived, *(alarm.name for alarm in run.alarms if alarm.waived)])
    writers = [n for n in dataset.nodes if isinstance(n, Generate) and n.name in run.records]
    context = Context(storage, Tools(), run.records)
    digest = fingerprint([recipe.family, recipe.stage, nodes, waived, run.complete, mix.get("after")])
    folder = f"stage-{recipe.stage}-{digest}"
    stage = Stage(
        family=recipe.family,
        stage=recipe.stage,
        folder=folder,
        complete=run.complete,
        recipe=recipe.recorded,
        nodes=nodes,
        counts=counts,
        shards=tuple(sorted(shards, key=lambda s: str(s["prefix"]))),
        mix=mix,
        failures=tuple(sorted(run.failures, key=lambda f: (f.node, f.shard))),
        waived=tuple(sorted(run.waived)),
        alarms=tuple(run.alarms),
        files=_files(run),
        benchmarks=_benchmarks(recipe, run),
        requests=tuple(row.to_row() for row in spent([r for node in writers for r in run.records[node.name]])),
        ended={node.scope: node.planned(context)[1] for node in writers},
        prices={node.model.named: asdict(price_of(node.pool)) for node in writers if node.pool is not None},
        sample=min([node.sample for node in dataset.nodes if isinstance(node, Measure)], default=1.0),
        read_at=_read_at(dataset),
    )
    blend = _write_blend(stage, dataset, storage) if stage.complete else None
    storage.replace(f"{folder}/manifest.json", stage.to_json())
    storage.replace(f"{folder}/{card.NAME}", card.card(stage.to_object(), blend).encode())
    pointer = canonical_json({"stage": folder, "number": recipe.stage})
    number = f"{recipe.family}-{recipe.stage}"
    # The next stage goes on after the last whole build of the recipe's own sources, whatever was tried since.
    whole = [f"{number}.whole"] if stage.whole else []
    for name in (f"{number}.{recipe.digest}", number, recipe.family, *whole):
        storage.replace(f"stages/{name}.json", pointer)
    end_state(storage, recipe, folder)
    return stage


def _read_at(dataset: Dataset) -> dict[str, list[str]]:
    """The commits at which the files of sources on a hub were listed."""
    listed = [named for node in dataset.nodes if isinstance(node, Measure) for named in node.known_files.items()]
    found = {name: commits({file.uri for file in files}) for name, files in sorted(listed)}
    return {name: places for name, places in found.items() if places}


def _files(run: Run) -> dict[str, dict[str, int]]:
    """{source: {files, broken}}: broken files hold a break that ended their reading, or could not be opened."""
    broken_reasons = {"read/truncated", "read/corrupt", "read/unreadable", "read/expands_too_much"}
    files: dict[str, set[str]] = defaultdict(set)
    broken: dict[str, set[str]] = defaultdict(set)
    measured = run.records.get("measure", [])

    def breaks(counts: Iterable[Count]) -> int:
        return sum(c.documents for c in counts if c.outcome == FAILED and c.reason in broken_reasons)

    any_broken = breaks(sums_of(measured))  # else nobody parses the counts of a million records
    for record in measured:
        source, names = record.facts["source"], record.facts["files"]
        files[source].update(names)
        if any_broken:  # of a run of text files as many as broke; which ones is not asked
            broken[source].update(names[: breaks(record.counts)])
    for failure in run.failures:
        if failure.node == "measure":
            files[failure.source].add(failure.file)
            broken[failure.source].add(failure.file)
    return {source: {"files": len(names), "broken": len(broken[source])} for source, names in sorted(files.items())}


def _benchmarks(recipe: Recipe, run: Run) -> dict[str, dict[str, int]]:
    """{benchmark: {items, documents}}: items found, and documents dropped for them; one may be dropped for several."""
    if recipe.steps.decontaminate is None:
        return {}
    items: dict[str, set[tuple[str, ...]]] = {name: set() for name in sorted(recipe.steps.decontaminate.benchmarks)}
    documents = dict.fromkeys(items, 0)
    for record in [*run.records.get("decide", []), *run.records.get("decide_generated", [])]:
        for name, found in record.facts["leaks"].items():
            items[name].update(map(tuple, found["items"]))
            documents[name] += found["documents"]
    return {name: {"items": len(found), "documents": documents[name]} for name, found in items.items()}


def _write_blend(stage: Stage, dataset: Dataset, storage: Storage) -> dict[str, Any]:
    """Write `blend.json`, which is returned, and Megatron's `blend.txt`; their paths are relative to their folder."""
    tokenize = dataset.node("tokenize")
    assert isinstance(tokenize, Tokenize)
    tokenizer = Tokenizer.load(Tools().path(tokenize.tokenizer), tokenize.end_of_document)
    allocation = allocation_of(stage.mix)
    shards = [BlendShard(f"../{s['prefix']}", *(s[k] for k in _BLEND_KEYS)) for s in stage.shards]
    fingerprint = stage.folder.rpartition("-")[2]
    waived = (*stage.waived, *(alarm.name for alarm in stage.alarms))
    header = BlendHeader(stage.family, stage.stage, fingerprint, tokenizer.identity(), waived)
    starts = {(s["language"], s["part"]): int(s["place"], 16) for s in stage.mix["starts"]}
    blend = blend_json(header, allocation, intervals_of(stage.mix), shards, starts=starts)
    storage.replace(f"{stage.folder}/blend.json", canonical_json(blend))
    storage.replace(f"{stage.folder}/blend.txt", blend_text(blend).encode())
    return blend


def allocation_of(mix: Mapping[str, Any]) -> Allocation:
    """The allocation in the facts of a mix record."""
    raw = mix["allocation"]
    return Allocation(
        raw["budget"], tuple(Share(**s) for s in raw["shares"]), tuple(PartTotal(**p) for p in raw["parts"])
    )


_BLEND_KEYS = ("part", "language", "source", "documents", "tokens", "repeats")


def load_stage(storage: Storage, family: str, stage: int | None, recipe: Recipe | None = None) -> Stage:
    """The newest build of a stage (None: of the family's newest), or that of exactly one recipe.

    Raises RecipeError, with the way to make one, where there is none.
    """
    found = find_stage(storage, family, stage, recipe)
    if found is None:
        have = sorted({n.split(".")[0] for n in storage.names("stages") if n.count("-") or n.count(".") > 1})
        what = f"stage {stage} of `{family}`" if stage else f"`{family}`"
        raise RecipeError(
            f"{what} has not been built in `{storage.root}`"
            + (" from this recipe" if recipe else "")
            + (f"; built here: {', '.join(have)}" if have else ""),
            hint=f"marco-data build-stage {stage or 3} {'--recipe FILE' if recipe else f'--family {family}'} "
            f"--root {shlex.quote(storage.root)}",
        )
    return found


def find_stage(storage: Storage, family: str, stage: int | None, recipe: Recipe | None = None) -> Stage | None:
    name = family if stage is None else f"{family}-{stage}"
    pointer = storage.read_json(f"stages/{name}{f'.{recipe.digest}' if recipe else ''}.json")
    if pointer is None:
        return None
    raw = storage.read(f"{pointer['stage']}/manifest.json")
    return None if raw is None else Stage.from_json(json.loads(raw))
