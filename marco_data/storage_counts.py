"""What this process has asked of remote storage: requests by their kind, and tries again by their cause.

In: `marco_data.s3` adds to it. Out: sums that a run writes under `runs/` and that tests hold it to. Knows of no request
that another library makes (a hub's, a model's).
"""

import os
import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class StorageCounts:
    """Sums, of one process where it is named; only the one thread of it that talks to storage adds to them."""

    requests: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    process: str = ""

    def copy(self) -> "StorageCounts":
        return StorageCounts(Counter(self.requests), Counter(self.retries))

    def since(self, before: "StorageCounts") -> "StorageCounts":
        """What came after `before` was copied, in this process."""
        process = f"{socket.gethostname()}-{os.getpid()}"
        now = self.copy()  # at once: the thread of storage may add a kind while they are gone through
        return StorageCounts(now.requests - before.requests, now.retries - before.retries, process)

    def add(self, other: "StorageCounts") -> None:
        self.requests += other.requests
        self.retries += other.retries

    def to_object(self) -> Mapping[str, Mapping[str, int]]:
        return {"requests": dict(sorted(self.requests.items())), "retries": dict(sorted(self.retries.items()))}


COUNTS = StorageCounts()
