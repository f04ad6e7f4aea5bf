"""The page: what was planted, ours by size and by node, how it grows, the peers, a cluster. All figures are measured.

In: a `Measured`. Out: Markdown. Says nothing of time and host.
"""

import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.contest import version_here
from benchmarks.dedup_scale.corpus import FILE_DOCUMENTS, Made, short
from benchmarks.dedup_scale.nodes import Times
from benchmarks.dedup_scale.peers import Limits, PeerTimes
from benchmarks.dedup_scale.planted import IN_CLUSTERS, KINDS, ORIGINAL, cluster_sizes
from benchmarks.dedup_scale.projection import CORES, GIGABYTES_A_SECOND, project
from benchmarks.dedup_scale.truth import Found
from benchmarks.report import processor

MEMORY_GOAL = 2e9
PROJECTED = 5e9
MACHINES = (10, 100, 1000)
PACKAGES = ("numpy", "numba", "pyarrow", "marco-data")


@dataclass(frozen=True)
class Ours:
    """One corpus: how it was made, dedup's times (all repeats), its verdicts beside the truth."""

    made: Made
    goes: Sequence[Times]
    found: Found

    @property
    def times(self) -> Times:
        """The go with the median of processor seconds."""
        return sorted(self.goes, key=lambda go: go.processor_seconds)[len(self.goes) // 2]


@dataclass(frozen=True)
class Measured:
    """All of a run. `start`: goes over a corpus so small that starting is all it takes. `load`: before and after."""

    command: str
    workers: int
    start: Sequence[Times]
    ours: Sequence[Ours]
    peers: Sequence[PeerTimes]
    limits: Limits
    load: tuple[tuple[float, float, float], tuple[float, float, float]]


def report(run: Measured) -> str:
    """The whole file."""
    began, ended = (", ".join(f"{value:.1f}" for value in load) for load in run.load)
    parts = [
        ["# Deduplication at scale: the last run", ""],
        [
            f"Made by `{run.command}`. Machine: {processor()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}; load (1, 5, 15 minutes) {began} when it began, {ended} when it ended.",
            "",
        ],
        _corpora(run),
        _ours(run),
        _growth(run),
        _nodes(run),
        _verdicts(run),
        _peers(run),
        _cluster(run),
        [f"Versions: {_versions(run)}.", ""],
    ]
    return "\n".join(line for part in parts for line in part)


def _corpora(run: Measured) -> list[str]:
    rows = []
    for one in run.ours:
        made, sizes = one.made, cluster_sizes(one.made.documents)
        rows.append(
            [
                short(made.documents),
                f"{made.text_bytes / 1e9:.3g} GB",
                f"{len(sizes):,}",
                f"{sizes.max():,}",
                f"{made.text_seconds:.3g} s",
                f"{made.measure_processor_seconds:.3g} s",
                f"{made.measure_bytes / 1e9:.3g} GB",
            ]
        )
    head = ["documents", "text", "clusters", "largest", "making the texts", "measure and decide, processor", "shards"]
    return [
        "## The documents",
        "",
        f"Words drawn from prose in four languages, 0.5 KB a document; {IN_CLUSTERS * 100:.0f} % of the documents "
        "are in clusters, whose sizes follow a power law from 2 to a hundredth of the corpus. Members differ from "
        "their cluster's text by words exchanged where each changes a known number of shingles, so that similarities "
        "are exact. By Jaccard similarity to it: near ones 0.90-0.98, and so 0.81 at least to one another; `edge` "
        "0.85-0.90, and whether one goes depends on which came first; `loose` 0.60-0.75, and they have to stay. A "
        f"tenth are exact copies. They are Parquet files of {FILE_DOCUMENTS:,} documents, measured and decided by the "
        "plan that `marco-data build-stage` runs; dedup begins there.",
        "",
        *_table(head, rows),
        "",
    ]


def _ours(run: Measured) -> list[str]:
    rows = []
    for name, times in [("start-up", _median(run.start)), *((short(o.made.documents), o.times) for o in run.ours)]:
        rows.append(
            [
                name if name != "start-up" else f"start-up ({short(times.documents)})",
                f"{times.seconds:.3g} s",
                f"{times.processor_seconds:.3g} s",
                f"{times.processor_seconds / times.documents * 1e6:.3g} µs",
                _size(times.largest),
                _size(times.own),
                _size(times.together),
                _size(times.disk),
                _size(times.written),
            ]
        )
    least = min((o.times.largest for o in run.ours), default=0)
    most = max((o.times.largest for o in run.ours), default=0)
    head = [
        "documents",
        "wall",
        "processor",
        "a document",
        "largest process",
        "its own",
        "together",
        "left on disk",
        "written",
    ]
    return [
        "## Ours: the dedup nodes alone",
        "",
        f"From the verdicts of the limits to those of dedup, {run.workers} workers, a new process each time; of "
        "several goes the one with the median of processor time. Memory is the most that was resident: of the largest "
        "process (VmHWM), of it without the pages of files that it has mapped, and of all together, where memory that "
        "they share counts in each. `Written` is all that was handed to the system.",
        "",
        *_table(head, rows),
        "",
        f"Goal: under {_size(MEMORY_GOAL)} for the largest process. It held {_size(least)} at the fewest documents and "
        f"{_size(most)} at the most: {'met' if most < MEMORY_GOAL else 'not met'}.",
        "",
    ]


def growth(run: Measured, small: Ours, large: Ours) -> tuple[float, float]:
    """T(large) / (how many times the documents x T(small)), start-up taken off: of the wall and of the processor.

    Not a number where the small one took no longer than starting.
    """
    start, times = _median(run.start), large.made.documents / small.made.documents
    walls = [t.seconds - start.seconds for t in (small.times, large.times)]
    busy = [t.processor_seconds - start.processor_seconds for t in (small.times, large.times)]
    wall, processor = (after / (times * before) if before > 0 else math.nan for before, after in (walls, busy))
    return wall, processor


def _growth(run: Measured) -> list[str]:
    rows, small = [], run.ours[0]
    for large in run.ours[1:]:
        wall, busy = growth(run, small, large)
        times = large.made.documents / small.made.documents
        allowed = math.log(large.made.documents) / math.log(small.made.documents)
        what = f"T({short(large.made.documents)}) / ({times:g} x T({short(small.made.documents)}))"
        within = "cannot be told" if math.isnan(busy) else "yes" if busy <= allowed else "no"
        rows.append([what, f"{wall:.2f}", f"{busy:.2f}", f"{allowed:.2f}", within])
    if not rows:
        return []
    return [
        "## Growth",
        "",
        "Start-up taken off: from each time that of the smallest corpus above is subtracted. n log n allows the ratio "
        "of the logarithms, 1.4 from 1e5 to 1e7. Processor time is what is judged: wall time is the machine's.",
        "",
        *_table(["", "wall", "processor", "n log n", "within"], rows),
        "",
    ]


def _nodes(run: Measured) -> list[str]:
    names = [node.name for node in run.ours[-1].times.nodes]
    rows = []
    for place, name in enumerate(names):
        row = [f"`{name}`"]
        for one in run.ours:
            node = one.times.nodes[place]
            a_document = node.processor_seconds / one.made.documents
            row.append(
                f"{node.tasks}; {node.seconds:.3g} s; {a_document * 1e6:.2g} µs; "
                f"{node.bytes / one.made.documents:.3g} B; {_size(node.peak)}"
            )
        rows.append(row)
    return [
        "By node: tasks; wall; processor time a document; bytes a document; the most memory of all processes together.",
        "",
        *_table(["", *(short(one.made.documents) for one in run.ours)], rows),
        "",
    ]


def _verdicts(run: Measured) -> list[str]:
    rows = [[short(o.made.documents), *_truth(o.found)] for o in run.ours]
    return [
        "Verdicts beside what was planted:",
        "",
        *_table(["documents", *TRUTH], rows),
        "",
        f"To be dropped: of each cluster's {KINDS[ORIGINAL]}, copies and near ones all but one. Loose ones are dropped "
        "rightly where the lot has given two of them the same new words, which it does to a few.",
        "",
    ]


TRUTH = ("dropped", "to be dropped", "found of these", "edge dropped", "loose dropped", "alone dropped")


def _truth(found: Found) -> list[str]:
    return [
        f"{found.dropped:,}",
        f"{found.duplicates:,}",
        f"{found.recall:.3%}",
        _part(found.edge_dropped, found.edge),
        _part(found.loose_dropped, found.loose),
        _part(found.alone_dropped, found.alone),
    ]


def _peers(run: Measured) -> list[str]:
    if not run.peers:
        return []
    rows = []
    for size in dict.fromkeys(peer.documents for peer in run.peers):
        ours = next(o for o in run.ours if o.made.documents == size)
        times = ours.times
        cells = [short(size), "marco-data", f"{ours.made.measure_seconds:.3g} s (the whole measure pass)"]
        cells += [f"{times.seconds:.3g} s"]
        cells += [f"{ours.made.measure_processor_seconds + times.processor_seconds:.3g} s"]
        cells += [_size(times.largest), _size(times.together), _size(times.written), *_truth(ours.found)]
        rows.append(cells)
        rows += [_peer(peer) for peer in run.peers if peer.documents == size]
    head = ["documents", "who", "signatures, wall", "from there to what stays, wall", "processor, all of it"]
    return [
        "## Peers, on the same texts",
        "",
        "Each reads the Parquet files and writes what it keeps, as it comes: 112 hashes of five words, two processes "
        "where it can use them. datatrove: four stages, 14 x 8, spaCy's English words; text-dedup: its minhash "
        "command, which chooses its bands for 0.8; rensa: a library, signatures in memory in one process, looked up as "
        "its manual has it. datatrove and text-dedup join whatever shares a band; rensa believes its estimate; ours "
        "verifies each pair. Before signatures ours also cleans, identifies languages and measures quality. A peer is "
        f"ended when it holds {_size(run.limits.bytes)} or after {run.limits.seconds / 60:.0f} minutes.",
        "",
        *_table([*head, "largest process", "together", "written", *TRUTH], rows),
        "",
    ]


def _peer(peer: PeerTimes) -> list[str]:
    memory = [_size(peer.largest), _size(peer.together), _size(peer.written)]
    if peer.found is None:
        cells = [peer.failed, "", f"{peer.processor_seconds:.3g} s", *memory, *("" for _ in TRUTH)]
    else:
        cells = [f"{peer.signing:.3g} s", f"{peer.finding:.3g} s", f"{peer.processor_seconds:.3g} s", *memory]
        cells += _truth(peer.found)
    return [short(peer.documents), peer.name, *cells]


def _cluster(run: Measured) -> list[str]:
    measured = [one.times for one in run.ours]
    if len(measured) < 2:  # which nodes spread could not be told
        return []
    largest = measured[-1]
    head = ["", "core hours", "disk", *(f"{machines:,} machines" for machines in MACHINES)]
    shares = [project(measured, PROJECTED, machines) for machines in MACHINES]
    rows = []
    for at, share in enumerate(shares[0]):
        cells = [f"`{share.name}`", f"{share.processor_seconds / 3600:,.1f}", _size(share.bytes)]
        rows.append(cells + [_hours(column[at].hours + column[at].moving_hours) for column in shares])
    total = [sum(s.hours + s.moving_hours for s in column) for column in shares]
    rows.append(
        [
            "all",
            f"{sum(s.processor_seconds for s in shares[0]) / 3600:,.1f}",
            _size(sum(s.bytes for s in shares[0])),
            *map(_hours, total),
        ]
    )
    narrow = [f"`{s.name}` ({s.cores})" for s in shares[1] if not s.spreads]
    peaks = ", ".join(f"{_size(t.largest)} at {short(t.documents)}" for t in measured)
    together = largest.largest * CORES
    return [
        f"## {short(int(PROJECTED))} documents on a cluster",
        "",
        f"Arithmetic from the run over {short(largest.documents)}, machines of {CORES} cores. Assumed: a core does "
        "what a core did here; a node's processor time grows as n log n (what was measured is above); a node that had "
        "more tasks for more documents keeps all cores busy, "
        + (f"and one that had not is done on as many cores as it had tasks: {', '.join(narrow)}; " if narrow else "")
        + "bytes grow with the documents; each byte left by a node is written over the network once and read once, at "
        f"{GIGABYTES_A_SECOND:g} GB/s a machine, while no core computes; nothing fails; documents are as alike as "
        "these. Longer documents cost the same but for pairs in doubt, whose text is read. The signatures are there: "
        "they belong to the measure pass.",
        "",
        *_table(head, rows),
        "",
        f"Memory: the largest process held {peaks}. If it is the partition and not the corpus that bounds it, which is "
        f"what these figures have to show, a machine with a process on each core needs {_size(together)}.",
        "",
    ]


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _median(goes: Sequence[Times]) -> Times:
    return sorted(goes, key=lambda go: go.processor_seconds)[len(goes) // 2]


def _part(some: int, of: int) -> str:
    return f"{some:,} of {of:,} ({some / max(1, of):.2%})"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _size(size: float) -> str:
    """Three digits, decimal units."""
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= of:
            return f"{size / of:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def _versions(run: Measured) -> str:
    known = [f"{package} {version_here(package)}" for package in PACKAGES]
    return ", ".join(
        [*known, *dict.fromkeys(f"{peer.name.split()[0].strip(',')} {peer.version}" for peer in run.peers)]
    )
