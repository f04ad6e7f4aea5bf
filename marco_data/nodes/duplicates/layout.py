"""What the nodes of dedup hand to each other: records of run files, places, ranks and priorities.

A *place* is a document's group of shards and its number in it (32 bits each). A *scope* is a language's number: its
place in the table of languages. A *rank* is the scope (16 bits) and how many documents of that language come before it
by priority (48 bits); only documents that are the first with their text have one. A *priority* is the run (16 bits) and
the class (8 bits): web before generated, within each the quality tiers high and low; then what a limit has dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from marco_data.records import Record
from marco_data.run_files import RunFile, Table
from marco_data.step import fingerprint
from marco_data.storage import DataFile, Storage

SCOPE_SHIFT = 48
PLACE_SHIFT = 32
CLASSES = 6
TAKEN_OUT = 6
"""The class of what a recipe's `remove` lists, where its copies are to go too: none of them comes before it."""

DOCUMENT = np.dtype([("id", "<u8", (2,)), ("scope", "<u2"), ("class", "u1"), ("shard", "<u4"), ("row", "<u4")])
"""In order of place: where a document lies, and its id as its source gave it."""

IDENTIFIER = np.dtype(
    [
        ("id", "<u8"),
        ("id_low", "<u8"),
        ("text", "<u8"),
        ("text_low", "<u8"),
        ("place", "<u8"),
        ("scope", "<u2"),
        ("priority", "<u4"),
    ]
)
TEXT = np.dtype(
    [
        ("text", "<u8"),
        ("text_low", "<u8"),
        ("scope", "<u2"),
        ("priority", "<u4"),
        ("id", "<u8"),
        ("id_low", "<u8"),
        ("place", "<u8"),
        ("gone", "u1"),
    ]
)
TEXT_ORDER = ("text", "text_low", "scope", "priority", "id", "id_low", "place", "gone")
"""A document among those of its text; `gone` takes back the same record without it."""

DISTINCT = np.dtype(
    [("key", "<u8"), ("id", "<u8"), ("id_low", "<u8"), ("text", "<u8"), ("copy", "u1"), ("place", "<u8")]
)
DISTINCT_ORDER = ("key", "id", "id_low", "text", "copy", "place")
"""The first document of each text, and after it its copies: `key` begins with language, run and class."""

AGAIN = np.dtype([("original", "<u8"), ("place", "<u8")])
"""A copy of a document of an earlier run, by the place of that one."""

RANKED = np.dtype([("id", "<u8", (2,)), ("place", "<u8")])
"""In order of rank, of one language at a time."""

PLACED = np.dtype([("place", "<u8"), ("rank", "<u8")])
COPY = np.dtype([("rank", "<u8"), ("place", "<u8")])
BAND = np.dtype([("key", "<u8"), ("rank", "<u8")])
PAIR = np.dtype([("later", "<u8"), ("earlier", "<u8"), ("flags", "u1")])
"""Two documents that share a bucket."""

MORE, BEYOND = 1, 2
"""Flags of a pair: its bucket has earlier members after this one; the later one is not among the bucket's first."""

FOUND = np.dtype([("later", "<u8"), ("earlier", "<u8"), ("jaccard", "<f8"), ("how", "u1")])
DOUBTFUL, ESTIMATED, COUNTED = range(3)
"""How a pair was judged alike; a doubtful one is yet to be counted."""

END = (1 << 64) - 1
"""The `earlier` of a record that ends a document's: `how` holds MORE where it has earlier ones that were not looked at,
and BEYOND where the first of its buckets do not reach to it."""

REQUEST = np.dtype([("place", "<u8")])
SET = np.dtype([("place", "<u8"), ("start", "<u8"), ("length", "<u4")])
HASH = np.dtype([("hash", "<u4")])
"""Sets of shingles, flat, and where that of each place begins."""

STATE = np.dtype([("open", "u1"), ("gone", "u1")])
"""Of eight documents in order of rank, a bit each."""

DROPPED_BY = np.dtype([("rank", "<u8"), ("survivor", "<u8"), ("jaccard", "<f8"), ("counted", "u1")])
LINE = np.dtype(
    [
        ("place", "<u8"),
        ("reason", "u1"),
        ("id", "<u8", (2,)),
        ("twin", "<u8", (2,)),
        ("jaccard", "<f4"),
        ("counted", "u1"),
        ("size", "<i4"),
    ]
)
"""What is said of one document: a reason (0: none), its id where it is new, the id of the kept one it is like."""


@dataclass(frozen=True)
class Group:
    """Documents of some consecutive shards, as `documents` listed them."""

    number: int
    run: int
    documents: DataFile
    signatures: DataFile
    shards: tuple[DataFile, ...]
    rows: tuple[int, ...]  # documents listed of each shard

    @property
    def first_place(self) -> int:
        return self.number << PLACE_SHIFT


def priority_of(run: int, document_class: npt.NDArray[np.integer[Any]], first: bool = False) -> npt.NDArray[np.uint32]:
    """`first`: class TAKEN_OUT comes before all others of its run."""
    order = document_class.astype(np.uint32)
    if first:
        order = np.where(order == TAKEN_OUT, 0, order + 1).astype(np.uint32)
    return (np.uint32(run) << np.uint32(8)) | order


def rank_of(scope: int, number: int) -> int:
    return scope << SCOPE_SHIFT | number


def opened(storage: Storage, files: Iterable[DataFile]) -> list[RunFile]:
    return [RunFile(storage, file) for file in files]


def nth(records: Sequence[Record], n: int) -> list[DataFile]:
    """The n-th file of each record."""
    return [record.data[n] for record in records]


def digests(files: Iterable[DataFile]) -> str:
    """One name for the content of all files: of thousands, each of thousands of tasks would repeat the list."""
    return fingerprint([file.digest for file in files])


def table(dtype: np.dtype[Any], rows: int, **columns: Any) -> Table:
    """Records made of columns."""
    out = np.zeros(rows, dtype)
    for name, values in columns.items():
        out[name] = values
    return out


@dataclass(frozen=True)
class Ranked:
    """Ids and places by rank, over the files of all tasks of `ranks`."""

    spans: list[tuple[int, int, RunFile, int]]  # first rank, documents, file, where they begin in it

    @staticmethod
    def of(storage: Storage, records: Sequence[Any]) -> "Ranked":
        """From (spans, file) of each task."""
        out = []
        for spans, file in records:
            at, run = 0, RunFile(storage, file)
            for first, n in spans:
                out.append((first, n, run, at))
                at += n
        return Ranked(sorted(out, key=lambda span: span[0]))

    def take(self, ranks: npt.NDArray[np.uint64]) -> Table:
        """RANKED of ascending ranks, repeated ones too."""
        parts = []
        for first, n, file, at in self.spans:
            a, b = np.searchsorted(ranks, np.array([first, first + n], np.uint64))
            if b > a:
                parts.append(file.take((ranks[a:b] - np.uint64(first)).astype(np.int64) + at))
        return np.concatenate(parts) if parts else np.empty(0, RANKED)
