"""SCALE.md: what was measured, what was counted, the arithmetic over both. Says nothing that is not in its input."""

from collections.abc import Iterable, Sequence
from math import ceil, log2
from typing import Any

from benchmarks.scale.driver import Measured
from benchmarks.scale.model import (
    ASSUMED,
    HOUR,
    MEASURED,
    PRICES,
    Work,
    cost,
    gpu_hours,
    machines_one_driver_feeds,
    marco_mini,
    spells,
    work_of,
)
from benchmarks.scale.storage_bill import Asked, Line, Sizes, bill
from marco_data.nodes.duplicates.layout import LINE
from marco_data.nodes.duplicates.settle import LINES_SORTED
from marco_data.run_files import BLOCK_BYTES

SAYS = {
    "alone": "driver alone: plan, send, books, run log, manifests of four passes; workers that take no time",
    "again": "the same run again: all is there",
    "committed": "one pass in one process, each record committed to the disk",
    "ray": "one pass on Ray, two workers: the driver's part",
    "resumed": "one pass of which half the records are there and no manifest",
    "planned": "what a plan asks of two passes that are done: tasks, their digest, all records",
    "logged": "the run log alone",
    "listed": "the records that one manifest lists, all read",
    "stats": "`stats 3` of a finished root, the whole process",
    "ledger": "`ledger 3` of a finished root, the whole process",
}
GOAL_MEMORY, GOAL_SECONDS = 4e9, 30.0
LAKE = Work(100e12, 1e6)
MACHINES = (10, 100, 1000)
PARTITION = 10_000_000
BLOCKS = LINES_SORTED * LINE.itemsize / BLOCK_BYTES
OPEN_A_FILE = 2 + 2 * (1 + ceil(log2(BLOCKS)))
"""Requests that a task of `lines` makes of a whole file of lines: its header, the lines, and two searches by halves."""


def report(rows: Sequence[Measured], asked: Sequence[Asked], made_on: str) -> str:
    rate = tasks_a_second(rows)
    return "\n".join(
        [
            "# A million shards: the last run",
            "",
            f"Made by `python -m benchmarks.scale`. Machine: {made_on}.",
            "Others used the machine, so seconds of the processor are told and judged; the clock's are beside them.",
            "",
            "## The driver",
            "",
            "Tasks that do nothing, through the real `execute.run`; a record has a file and four counts for each of",
            "its languages. Memory is the most that the process held.",
            "",
            *_table(
                ["", "shards", "languages", "tasks", "processor, s", "clock, s", "a task, µs", "memory, MB"],
                (_measured(row) for row in rows),
            ),
            "",
            *_driver(rows),
            "",
            *_passes(rate),
            "",
            *_bill(asked),
            "",
            *_recipe(rate),
            "",
            "## Where the figures come from",
            "",
            *_table(
                ["figure", "value", "stands in"],
                ([name, f"{f.value:.4g}", f"`{f.file}`: `{f.words.strip('| ')}`"] for name, f in MEASURED.items()),
            ),
            "",
            "Assumed, since nobody measured it here: "
            + "; ".join(f"{name} {value:g}" for name, value in ASSUMED.items())
            + ".",
            "Prices, USD, inputs all of them (S3 Standard, us-east-1, November 2026; cores and GPUs as in "
            "`infra/prices.yaml`): " + "; ".join(f"{name} {value:g}" for name, value in PRICES.items()) + ".",
            "",
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines]


def _measured(row: Measured) -> list[str]:
    each = 1e6 * row.processor / row.tasks
    numbers = [f"{row.shards:,}", str(row.languages), f"{row.tasks:,}", f"{row.processor:,.1f}", f"{row.wall:,.0f}"]
    return [SAYS[row.what], *numbers, f"{each:,.0f}", f"{row.memory / 1e6:,.0f}"]


def largest(rows: Sequence[Measured], what: str, languages: int = 1) -> Measured:
    return max((r for r in rows if r.what == what and r.languages == languages), key=lambda row: row.shards)


def tasks_a_second(rows: Sequence[Measured]) -> float:
    """What one driver can send and take back: its own work and Ray's part, which is known or was measured with it."""
    if any(row.what == "ray" for row in rows):
        return largest(rows, "ray").a_second
    return 1 / (1 / largest(rows, "alone").a_second + MEASURED["Ray's part of a task"].value)


def _driver(rows: Sequence[Measured]) -> list[str]:
    most = largest(rows, "alone")
    there = {row.what for row in rows}
    seconds = [largest(rows, what) for what in ("stats", "ledger", "listed", "planned") if what in there]
    met = "met" if most.memory < GOAL_MEMORY else "missed"
    lines = [
        f"The driver of {most.shards:,} shards held, over {most.tasks / most.shards:.1f} passes, "
        f"{most.memory / 1e9:.2f} GB (goal: under {GOAL_MEMORY / 1e9:g} GB: {met}).",
        *(
            f"`{row.what}` of {row.shards:,} shards took {row.processor:.1f} s of the processor (goal: under "
            f"{GOAL_SECONDS:g} s: {'met' if row.processor < GOAL_SECONDS else 'missed'})."
            for row in seconds
        ),
    ]
    return lines


def _passes(rate: float) -> list[str]:
    feeds = machines_one_driver_feeds(LAKE, rate)
    rows = []
    for machines in MACHINES:
        each = spells(LAKE, machines, rate)
        rows.append(
            [
                f"{machines:,}",
                *(f"{s.cores:,.0f} / {s.driver:,.0f}" for s in each),
                f"{sum(s.seconds for s in each) / HOUR:.2f} h",
            ]
        )
    names = [s.node for s in spells(LAKE, 1, rate)]
    first = min(feeds, key=lambda node: feeds[node])
    return [
        "## 100 TB of text, 1,000,000 shards",
        "",
        f"{LAKE.documents:.3g} documents, {sum(LAKE.core_seconds().values()) / HOUR:,.0f} core hours. Seconds that the "
        f"cores need / that one driver needs to hand the tasks out, at {rate:,.0f} tasks a second; a pass takes the "
        "longer of the two.",
        "",
        *_table(["machines of 64 cores", *names, "all passes"], rows),
        "",
        "Machines that one driver keeps busy: "
        + ", ".join(f"{node} {machines:,.0f}" for node, machines in feeds.items())
        + f". The first pass in which machines wait for the driver is `{first}`. Larger shards move it: a shard of "
        "400 MB takes four times as long and costs the driver the same.",
        "",
        f"At 1,000 machines `measure` would read {LAKE.read_bytes / spells(LAKE, 1000, rate)[0].seconds / 1e9:,.0f} "
        "GB/s of text: what storage and network give is likely to be less, and nobody measured it here.",
    ]


def dedup_lines(work: Work) -> tuple[float, float, float]:
    """(groups, files of lines, requests) of the pass that brings the lines of each group together: each group looks
    into every file, since an id's lines lie by its hash."""
    groups = max(1.0, work.documents / PARTITION)
    files = groups + ASSUMED["share of documents with a line"] * work.documents / LINES_SORTED
    return groups, files, groups * files * OPEN_A_FILE


def _bill(asked: Sequence[Asked]) -> list[str]:
    one, many = asked
    text = LAKE.read_bytes / LAKE.shards
    sizes = {
        languages: Sizes(
            int(LAKE.shards),
            languages,
            read={"measure": text, "decide": text / 20, "dedup": text / 50, "tokenize": text / 2},
            written={"measure": text / 2, "decide": 1e6, "dedup": 2e6, "tokenize": text / 4},
        )
        for languages in (1, 64)
    }
    rows = []
    for languages, size in sizes.items():
        lines: list[Line] = bill(one, many, size)
        for line in [*lines, Line("all four", sum(i.writes for i in lines), sum(i.reads for i in lines))]:
            money = line.writes * PRICES["write"] + line.reads * PRICES["read"]
            each = [f"{line.writes / 1e6:.1f}", f"{line.reads / 1e6:.1f}", f"{money:,.0f}"]
            rows.append([line.node, str(languages), *each])
    groups, files, requests = dedup_lines(LAKE)
    counted = [
        [node, *(f"{n:.1f}" for n in (*one.a_task(node), *many.a_task(node)))]
        for node in ("measure", "decide", "dedup", "tokenize")
    ]
    return [
        "## Requests to object storage",
        "",
        "Counted in real builds of stage 3 against an S3 server (moto), for one task of a node; tiny shards.",
        "",
        *_table(
            [
                "node",
                *(
                    f"{kind}, {a.languages} language{'s' * (a.languages > 1)}"
                    for a in asked
                    for kind in ("writes", "reads")
                ),
            ],
            counted,
        ),
        "",
        "Of 1,000,000 shards, in millions: those, on a line through the two, and what grows with bytes (a request for "
        "each 4 MiB that is read, a part for each 16 MiB that is written).",
        "",
        *_table(["node", "languages of a shard", "writes, M", "reads, M", "USD"], rows),
        "",
        f"Processors cost {cost(LAKE.core_seconds()):,.0f} USD beside it. Not in the table: the passes of dedup that "
        f"exchange keys between groups. With `partition: {PARTITION:,}` there are {groups:,.0f} groups, so a pass "
        f"makes {groups**2 / 1e6:,.0f} M reads of a range. The largest is `lines`, where each group looks into "
        f"{files:,.0f} files, {OPEN_A_FILE} requests a file: {requests / 1e6:,.0f} M requests, "
        f"{requests * PRICES['read']:,.0f} USD, {files * OPEN_A_FILE * ASSUMED['seconds a request'] / 60:,.0f} minutes "
        f"a task, of which {groups:,.0f} go on side by side. Were there no such pass, each of "
        f"{LAKE.shards:,.0f} shards would look into as many files: {requests * LAKE.shards / groups:.2g} requests, "
        f"{requests * LAKE.shards / groups * PRICES['read']:,.0f} USD.",
    ]


def _recipe(rate: float) -> list[str]:
    rows, total = [], 0.0
    for stage in marco_mini():
        work = work_of(stage.budget - stage.generated)
        seconds, gpus = work.core_seconds(), gpu_hours(stage.generated)
        money = cost(seconds, gpus)
        total += money
        hours = sum(s.seconds for s in spells(work, 100, rate)) / HOUR
        rows.append(
            [
                str(stage.number),
                f"{stage.budget / 1e12:.1f}T",
                f"{work.read_bytes / 1e12:.1f} TB",
                f"{work.shards:,.0f}",
                f"{sum(seconds.values()) / HOUR:,.0f}",
                f"{hours:.1f}",
                f"{sum(work.disk_bytes().values()) / 1e12:.1f} TB",
                f"{gpus:,.0f}",
                f"{money:,.0f}",
            ]
        )
    head = ["stage", "tokens", "text read", "shards", "core hours", "hours on 100 machines", "disk", "GPU hours", "USD"]
    return [
        "## The whole of Marco-Mini",
        "",
        "Budgets and targets of generation are read from `recipes/marco-mini`. Each stage is reckoned as if it "
        "shared nothing with the others and each token were drawn once, which is the most it can take: stages share "
        "the passes over the sources they have in common.",
        "",
        *_table(head, rows),
        "",
        f"{total:,.0f} USD in all, storage not counted. The hours of GPUs are those of an assumed speed: no GPU was "
        "measured.",
    ]
