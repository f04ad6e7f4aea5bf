"""What a build will take: hours of processors and GPUs, disk, memory of a worker, requests, money.

In: a plan's flow of documents, a probe, what a root holds, estimates of generation, a file of prices. Out: a `Price`,
each figure a range with what it was measured on. Speeds are those of this machine, measured in the probe, or those of
the tasks that this root's builds have timed; none is assumed. Starts nothing.
"""

import math
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from marco_data.dataset import Dataset
from marco_data.generation.estimate import Estimate, Range, add_ranges
from marco_data.mix import Allocation
from marco_data.nodes.duplicates.documents import BASE_MEMORY, DISK_A_DOCUMENT, MEMORY_A_DOCUMENT
from marco_data.plan_flow import BYTES, DEDUP, DOCUMENTS, KEPT, TOKENS, Draws, Flow, SoFar, range_of
from marco_data.prices import Prices
from marco_data.probe import Probe
from marco_data.recipe import Recipe
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer
from marco_data.tokens import token_dtype

HOUR, MILLION, TERA = 3600, 1e6, 1e12

DEDUP_SECONDS = Range(28.3e-6, 14.7e-6)
"""Of the processor, a document: `benchmarks/DEDUP_SCALE.md`, ten million documents; 24.6 to 43 at other sizes."""

SPEED_ERROR, DISK_ERROR = 0.25, 0.10
"""Shares of a figure that its range is wider by, since few documents take other time and room than many: probes of 20
to 200 documents a language were off by 17 % at most in all hours, and by 2 % in all bytes (`benchmarks/PLAN.md`)."""

DEDUP_START = 1.2
"""Seconds of the processor that the sixteen passes take with next to nothing to do: 2.65 for 2,000 documents
(`benchmarks/DEDUP_SCALE.md`) less 1.43 that a process takes to start (`benchmarks/SCALING.md`)."""

MEASURE_MEMORY = ((0.41e9, 1.7), (0.55e9, 3.0))
"""Peak memory of a worker and what a byte of its shard adds, mixed languages and one alone: shards of 16, 64 and 256 MB
took 0.43, 0.52 and 0.84 GB, and 0.52, 0.74 and 1.24 GB (`memory` of `python -m benchmarks.scaling`)."""

SETTLE_A_DOCUMENT = 5
"""Bytes a document of one language (`docs/dedup.md`)."""

SHARD_A_DOCUMENT = 245
"""Bytes a document of one Megatron shard, by the sizes of its arrays: id twice (128 and 89), four numbers (28)."""

INDEX_A_DOCUMENT = 20
"""Of Megatron's `.idx`: a length and two places."""

BLOCK = 4 << 20
"""Bytes that a request for a part of a file asks for."""

FILES_A_SHARD = 8
"""Files that measure, decide, dedup and tokenize write for a shard: each its data and its record."""

DEDUP_FILES = 48
"""Files of a group of `partition` documents in the passes of dedup, records among them."""


@dataclass(frozen=True)
class Line:
    """One figure: seconds of a node, bytes of a folder, of a worker. `basis` says what it was measured on."""

    what: str
    figure: Range
    basis: str
    done: bool = False


@dataclass(frozen=True)
class Price:
    """Sums and what they are made of; `cost` by item is None where its price is not known."""

    seconds: tuple[Line, ...]
    disk: tuple[Line, ...]
    memory: tuple[Line, ...]
    gpu_hours: Range | None
    requests: tuple[Line, ...]
    currency: str | None = None
    cost: Mapping[str, Range | None] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def cpu_hours(self) -> Range:
        return add_ranges(line.figure for line in self.seconds).times(1 / HOUR)

    @property
    def left_cpu_hours(self) -> Range:
        """Of what is not done in this root yet."""
        return add_ranges(line.figure for line in self.seconds if not line.done).times(1 / HOUR)

    @property
    def disk_bytes(self) -> Range:
        return add_ranges(line.figure for line in self.disk)

    @property
    def total(self) -> Range | None:
        known = [r for r in self.cost.values() if r is not None]
        return add_ranges(known) if known else None


@dataclass(frozen=True)
class Ground:
    """All that a price is made from."""

    recipe: Recipe
    dataset: Dataset
    flow: Flow
    probed: Probe | None
    found: SoFar
    timed: Mapping[str, tuple[float, int]]  # processor seconds and tasks of each node, as this root's builds logged
    done: frozenset[str]  # nodes with nothing left to do
    allocation: Allocation
    tokenizer: Tokenizer
    stored: Mapping[str, int]  # bytes of each source
    slices: int
    estimates: Sequence[Estimate] = ()


def price_of_plan(ground: Ground, prices: Prices | None) -> Price:
    """Everything together."""
    seconds = tuple(_seconds(ground))
    disk = tuple(_disk(ground))
    hours = [e.gpu_hours for e in ground.estimates]
    known = [h for h in hours if h is not None]
    gpu_hours = add_ranges(known) if known and len(known) == len(hours) else Range(0.0) if not hours else None
    price = Price(seconds, disk, tuple(_memory(ground)), gpu_hours, tuple(_requests(ground, disk)))
    return price if prices is None else _priced(price, prices, ground)


def machine() -> str:
    """This machine's processor, as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        named = []
    return f"{named[0] if named else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def timings(storage: Storage) -> dict[str, dict[str, float]]:
    """{node: {task: seconds of the processor}} of all builds that this root's run logs tell of."""
    out: dict[str, dict[str, float]] = defaultdict(dict)
    for name in sorted(storage.names("runs")):
        for row in storage.read_json_lines(f"runs/{name}") if name.endswith(".jsonl") else ():
            if row["error"] is None and "processor" in row:
                out[row["node"]].setdefault(row["task"], row["processor"])
    return out


def timed_in(storage: Storage, found: SoFar, dataset: Dataset) -> dict[str, tuple[float, int]]:
    """Seconds and tasks of those nodes of which all records of this root were timed when they were made.

    Equal work of two scopes is done once: it is counted where the plan has it first.
    """
    logs = timings(storage) if found.records else {}
    out: dict[str, tuple[float, int]] = {}
    counted: set[tuple[str, str]] = set()
    for node in dataset.nodes:
        if node.name not in found.records:
            continue
        alike = [times for name, times in logs.items() if name == node.kind or name.startswith(f"{node.kind}_")]
        own = {record.key for record in found.records[node.name]}
        known = {key: times[key] for times in alike for key in own & times.keys()}
        if len(known) == len(own):
            fresh = [seconds for key, seconds in known.items() if (node.kind, key) not in counted]
            out[node.name] = (sum(fresh), len(fresh))
        counted |= {(node.kind, key) for key in own}
    return out


def bytes_of(found: SoFar, nodes: Sequence[str]) -> int:
    """Of all files that records of these nodes name; two scopes may share some."""
    return sum({file.path: file.bytes for node in nodes for r in found.records[node] for file in r.data}.values())


# Processors


DEDUP_BASIS = "1.2 s and 28 (14 to 43) microseconds a document, benchmarks/DEDUP_SCALE.md"
GROUPS = ("measure", "decide", "dedup", "generation", "tokenize", "shards")
_GROUP = {"measure": "measure", "decide": "decide", "tokenize": "tokenize", "mix": "shards", "shards": "shards"}
_GROUP |= dict.fromkeys(("seeds", "generate", "replace", "cluster_sizes"), "generation")


def group_of(kind: str) -> str:
    """Under which line a kind of node is told; what is not named belongs to dedup, which has sixteen."""
    return _GROUP.get(kind, "dedup")


def _seconds(ground: Ground) -> list[Line]:
    foretold = _foretold(ground)
    share = ground.found.share
    lines = []
    for group in GROUPS:
        nodes = [node.name for node in ground.dataset.nodes if group_of(node.kind) == group]
        done = bool(nodes) and ground.done.issuperset(nodes)
        if nodes and share and ground.timed.keys() >= set(nodes):
            seconds = sum(ground.timed[node][0] for node in nodes)
            tasks = sum(ground.timed[node][1] for node in nodes)
            figure = Range(seconds / share, 0.0 if share == 1 else None)
            lines.append(Line(group, figure, f"{tasks:,} tasks timed in this root", done))
        elif group in foretold:
            lines.append(Line(group, *foretold[group], done))
    return lines


def _foretold(ground: Ground) -> dict[str, tuple[Range, str]]:
    """Seconds by the speeds of the probe; a document of dedup by a benchmark, since a few hundred say nothing of it."""
    flow, probed = ground.flow, ground.probed
    everything, kept = flow.total(), flow.total(outcomes=(KEPT,))
    passes = sum(node.kind == "dedup" for node in ground.dataset.nodes)
    passed = range_of(flow.total(outcomes=(DEDUP, KEPT))[:, DOCUMENTS] * passes)
    each = DEDUP_SECONDS
    seconds = Range(
        DEDUP_START * passes + passed.expected * each.expected,
        (passed.spread or 0) * each.expected + passed.expected * (each.spread or 0),
    )
    out = {"dedup": (seconds, DEDUP_BASIS)}
    if probed is None or not probed.rows.num_rows:
        return out
    here = f"measured in the probe: {machine()}"
    speed, calls = probed.measured.seconds, _calls(ground, probed)
    steps = range_of(speed("measure").of(calls["files"], calls["measure"], everything[:, BYTES]))
    read = sum(probed.read_seconds.values())
    wider = 1 + read / max(steps.expected, 1e-9)
    return out | {
        name: (_wider(figure, SPEED_ERROR), here)
        for name, figure in (
            ("measure", Range(steps.expected + read, (steps.spread or 0.0) * wider)),
            ("decide", range_of(speed("decide").of(calls["files"], calls["measure"], everything[:, DOCUMENTS]))),
            ("tokenize", range_of(speed("tokenize").of(calls["files"], calls["measure"], kept[:, BYTES]))),
            ("shards", range_of(speed("shards").of(calls["shards"], calls["shards"], _drawn(ground, kept)[:, TOKENS]))),
        )
    }


def _wider(figure: Range, share: float) -> Range:
    return Range(figure.expected, None if figure.spread is None else figure.spread + share * figure.expected)


def _calls(ground: Ground, probed: Probe) -> dict[str, float]:
    """How often work is begun: for each language of each slice, by those that were looked at, and for each shard."""
    found = set(zip(probed.rows["slice"].to_pylist(), probed.rows["language"].to_pylist(), strict=True))
    of_slice = Counter(number for number, _ in found)
    languages: dict[str, list[int]] = defaultdict(list)
    for number, seen in enumerate(probed.slices):
        languages[seen.source].append(max(1, of_slice[number]))
    each = {name: sum(numbers) / len(numbers) for name, numbers in languages.items()}
    kept = {(source, code) for source, code, outcome in ground.flow.cells if outcome == KEPT}
    tokens = ground.flow.total(outcomes=(KEPT,))[0, TOKENS]
    return {
        "files": max(float(ground.slices), ground.flow.total()[0, BYTES] / ground.recipe.shards.bytes),
        "measure": sum(each.get(name, 1.0) * number for name, number in probed.numbers.items()),
        "shards": len(kept) + tokens / ground.recipe.shards.tokens,
    }


# Disk, memory, requests


def _disk(ground: Ground) -> list[Line]:
    """By folder, as records of this root tell, else as the probe's own files are for what they hold."""
    flow, probed, share = ground.flow, ground.probed, ground.found.share
    everything, kept = flow.total(), flow.total(outcomes=(KEPT,))
    passes = sum(node.kind == "dedup" for node in ground.dataset.nodes)
    passed = flow.total(outcomes=(DEDUP, KEPT))[:, DOCUMENTS]
    rule = ground.recipe.steps.dedup
    each = DISK_A_DOCUMENT + 4 * rule.hashes
    foretold = {"dedup": (range_of(passed * each * passes), f"{each:,} bytes a document, docs/dedup.md")}
    if probed is not None and probed.read:
        size, calls = probed.measured.bytes, _calls(ground, probed)
        here = "files of the probe"
        foretold |= {
            name: (_wider(range_of(size(name).of(calls["files"], calls["measure"], of)), DISK_ERROR), here)
            for name, of in (
                ("measure", everything[:, BYTES]),
                ("decide", everything[:, DOCUMENTS]),
                ("tokenize", kept[:, BYTES]),
            )
        }
        written = ground.estimates
        if written:
            foretold["generation"] = (add_ranges(e.completion_bytes for e in written), "estimate of the completions")
        drawn = _drawn(ground, kept)
        lineage = size("lineage").of(calls["shards"], calls["shards"], drawn[:, DOCUMENTS])
        wide = token_dtype(ground.tokenizer.vocab_size).itemsize
        foretold["shards"] = (
            range_of(drawn[:, TOKENS] * wide + drawn[:, DOCUMENTS] * INDEX_A_DOCUMENT + lineage),
            f"{wide} bytes a token; lineage by the probe's",
        )
    lines = []
    for group in GROUPS:
        nodes = [node.name for node in ground.dataset.nodes if group_of(node.kind) == group]
        done = bool(nodes) and ground.done.issuperset(nodes)
        if nodes and share and ground.found.records.keys() >= set(nodes):
            held = bytes_of(ground.found, nodes)
            lines.append(Line(group, Range(held / share, 0.0 if share == 1 else None), "records of this root", done))
        elif group in foretold:
            lines.append(Line(group, *foretold[group], done))
    return lines


def _drawn(ground: Ground, kept: Draws) -> Draws:
    """What of the kept documents the mixture takes, each counted once."""
    taken = sum(min(share.target, share.available) for share in ground.allocation.shares)
    drawn: Draws = kept * (taken / max(1.0, kept[0, TOKENS]))
    return drawn


def _memory(ground: Ground) -> list[Line]:
    """Of the hungriest worker of each kind."""
    recipe, flow = ground.recipe, ground.flow
    rule, shard = recipe.steps.dedup, recipe.shards
    low, high = (start + each * shard.bytes for start, each in MEASURE_MEMORY)
    passed = range_of(flow.total(outcomes=(DEDUP, KEPT))).expected
    at_once = min(passed, rule.partition)
    largest = max(
        (flow.total(outcomes=(DEDUP, KEPT), language=code)[0, DOCUMENTS] for code in flow.languages), default=0
    )
    kept = flow.total(outcomes=(KEPT,))[0]
    documents = min(kept[DOCUMENTS], shard.tokens * kept[DOCUMENTS] / max(1.0, kept[TOKENS]))
    return [
        Line(
            "measure",
            Range((low + high) / 2, (high - low) / 2),
            f"shards of {shard.bytes / 2**20:,.0f} MiB, benchmarks/SCALING.md; one language takes most",
        ),
        Line(
            "dedup",
            Range(BASE_MEMORY + MEMORY_A_DOCUMENT * at_once),
            f"{at_once:,.0f} documents at once, docs/dedup.md",
        ),
        Line(
            "settle",
            Range(BASE_MEMORY + SETTLE_A_DOCUMENT * largest),
            f"{largest:,.0f} documents of the largest language, docs/dedup.md",
        ),
        Line(
            "shards",
            Range(BASE_MEMORY + SHARD_A_DOCUMENT * documents),
            f"{documents:,.0f} documents of a shard, by the sizes of its arrays",
        ),
    ]


def _requests(ground: Ground, disk: Sequence[Line]) -> list[Line]:
    """Files that are written, and stretches that are read: by count of what the plan makes, with no range."""
    size = ground.flow.total()[0, BYTES]
    shards = max(ground.slices, math.ceil(size / ground.recipe.shards.bytes))
    groups = math.ceil(ground.flow.total(outcomes=(DEDUP, KEPT))[0, DOCUMENTS] / ground.recipe.steps.dedup.partition)
    passes = sum(node.kind == "dedup" for node in ground.dataset.nodes)
    kept = sum(min(share.target, share.available) for share in ground.allocation.shares)
    made = max(kept / ground.recipe.shards.tokens, len([s for s in ground.allocation.shares if s.target]))
    written = FILES_A_SHARD * shards + DEDUP_FILES * groups * passes + 4 * made
    blocks = (sum(ground.stored.values()) + 2 * sum(line.figure.expected for line in disk)) / BLOCK
    basis = "files that the plan makes, and a request for each 4 MiB that is read"
    return [
        Line("write", Range(float(written), None), basis),
        Line("read", Range(float(3 * ground.slices + 3 * written + blocks), None), basis),
    ]


# Money


def _priced(price: Price, prices: Prices, ground: Ground) -> Price:
    cost: dict[str, Range | None] = {}
    unknown = []

    def item(name: str, figure: Range | None, unit: float | None, key: str) -> None:
        if figure is not None and figure.expected == 0:
            return
        cost[name] = None if figure is None or unit is None else figure.times(unit)
        if cost[name] is None:
            unknown.append(f"{name} (no `{key}`)" if figure is not None else f"{name} (no rate of its models is known)")

    item("processors", price.cpu_hours, prices.cpu_core_hour, "cpu_core_hour")
    item("disk", price.disk_bytes.times(prices.months / TERA), prices.disk_tb_month, "disk_tb_month")
    for line, unit in zip(price.requests, (prices.write_requests_million, prices.read_requests_million), strict=True):
        item(f"{line.what} requests", line.figure.times(1 / MILLION), unit, f"{line.what}_requests_million")
    item("egress", Range(sum(ground.stored.values()) / TERA), prices.egress_tb, "egress_tb")
    stated = [e for e in ground.estimates if e.cost is not None]
    if stated:
        cost["generation, by --pools"] = add_ranges(e.cost for e in stated if e.cost is not None)
    rest = [e.gpu_hours for e in ground.estimates if e.cost is None]
    if rest:
        known = [hours for hours in rest if hours is not None]
        item("GPUs", add_ranges(known) if len(known) == len(rest) else None, prices.gpu_hour, "gpu_hour")
    return replace(price, currency=prices.currency, cost=cost, unknown=tuple(unknown))


def price_object(price: Price) -> dict[str, Any]:
    """Plain JSON of a price."""

    def lines(rows: Sequence[Line]) -> list[dict[str, Any]]:
        return [{**asdict(row), "figure": row.figure.to_json()} for row in rows]

    return {
        "cpu_hours": price.cpu_hours.to_json(),
        "left_cpu_hours": price.left_cpu_hours.to_json(),
        "cpu_seconds": lines(price.seconds),
        "gpu_hours": None if price.gpu_hours is None else price.gpu_hours.to_json(),
        "disk_bytes": price.disk_bytes.to_json(),
        "disk": lines(price.disk),
        "memory": lines(price.memory),
        "requests": lines(price.requests),
        "currency": price.currency,
        "cost": {name: None if figure is None else figure.to_json() for name, figure in price.cost.items()},
        "total": None if price.total is None else price.total.to_json(),
        "not_priced": list(price.unknown),
    }
