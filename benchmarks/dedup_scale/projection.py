"""What a corpus of billions would cost on a cluster, from what each node took of a corpus that was measured.

A node's processor seconds grow as n log n from the largest corpus measured. Its tasks are spread over all cores if it
had more of them for more documents; else over as many cores as it had tasks. Bytes grow with the documents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.dedup_scale.nodes import Times

CORES = 64
GIGABYTES_A_SECOND = 1.0
"""Of the network or disk of each machine, in use: a quarter of what 25 Gbit/s gives."""


@dataclass(frozen=True)
class Share:
    """One node over `documents`: hours on `machines` machines, computing, and moving its bytes twice (out, and in)."""

    name: str
    processor_seconds: float
    bytes: float
    spreads: bool
    cores: int
    hours: float
    moving_hours: float


def project(measured: Sequence[Times], documents: float, machines: int) -> list[Share]:
    """Each node of the largest run in `measured`; the smallest says whether its tasks grow with the documents."""
    small, large = min(measured, key=lambda t: t.documents), max(measured, key=lambda t: t.documents)
    tasks = {node.name: node.tasks for node in small.nodes}
    growth = documents / large.documents * math.log(documents) / math.log(large.documents)
    shares = []
    for node in large.nodes:
        spreads = node.tasks > tasks[node.name]
        cores = machines * CORES if spreads else min(max(1, node.tasks), machines * CORES)
        seconds, size = node.processor_seconds * growth, node.bytes * documents / large.documents
        moving = 2 * size / (min(machines, cores) * GIGABYTES_A_SECOND * 1e9)
        shares.append(Share(node.name, seconds, size, spreads, cores, seconds / cores / 3600, moving / 3600))
    return shares
