"""A storage that ends its process at one write, before or after it: what is committed when, is known by its name.

In: a root and the point to die at. Out: the writes that results are made of, in order, for who wants to die at each.
A real `Storage` in all else. What lies under `runs/` decides nothing and is not counted.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marco_data.storage import DataFile, Storage

DIED = 66
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Write:
    """A write of a result. `kind`: data, record, table (a manifest's records), manifest, stage, or pointer."""

    kind: str
    path: str  # of data without the digest that its name gets

    @property
    def node(self) -> str:
        """The kind of node whose folder it goes to; `stage` and `stages` are the end of a build."""
        folder = self.path.partition("/")[0]
        return "stage" if folder.startswith("stage-") else folder.rpartition("-")[0] or folder


@dataclass(frozen=True)
class Point:
    """A moment: before a write, or when it is stored and nobody has been told yet."""

    write: Write
    when: str

    def __str__(self) -> str:
        return f"{self.when} the {self.write.kind} of {self.write.node}"


@dataclass(frozen=True)
class FatalStorage(Storage):
    """Ends the process at `dies_at`, as a kill does: nothing is cleaned up. `writes` are those that were begun."""

    dies_at: Point | None = None
    writes: list[Write] = field(default_factory=list, compare=False)

    def commit(self, finished: Path, stem: str, suffix: str, **how: Any) -> DataFile:
        kind = "table" if Path(stem).name.startswith("records-") else "data"
        with self._maybe_fatal(kind, f"{stem}{suffix}"):
            return super().commit(finished, stem, suffix, **how)

    def create(self, path: str, data: bytes) -> bool:
        kind = "manifest" if Path(path).name.startswith("manifest-") else "record"
        with self._maybe_fatal(kind, path):
            return super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        with self._maybe_fatal("pointer" if path.startswith("stages/") else "stage", path):
            super().replace(path, data)

    @contextmanager
    def _maybe_fatal(self, kind: str, path: str) -> Iterator[None]:
        write = Write(kind, path)
        if path.startswith("runs/"):
            yield
            return
        self.writes.append(write)
        if self.dies_at == Point(write, BEFORE):
            os._exit(DIED)
        yield
        if self.dies_at == Point(write, AFTER):
            os._exit(DIED)
