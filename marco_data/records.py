"""What is known of the work that was done, without reading any text.

A `Record` says of one task what it read, which files it wrote and how many documents went where; creating its
JSON file is the commit. A manifest sums the records of one node for one set of inputs and is written last.
`Count`s are what every table, page and alarm is a sum over.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from marco_data.errors import ShardError
from marco_data.storage import DataFile, Storage, canonical_json

READ, KEPT, DROPPED, FAILED, REPLACED, GENERATED = (
    "read",
    "kept",
    "dropped",
    "failed",
    "replaced",
    "generated",
)


@dataclass(frozen=True, order=True)
class Count:
    """Documents (and their text bytes and tokens, where known) of one source and language with one outcome."""

    outcome: str
    source: str
    language: str
    reason: str = ""
    part: str = ""
    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    @property
    def group(self) -> tuple[str, str, str, str, str]:
        return (self.outcome, self.source, self.language, self.reason, self.part)


@dataclass(frozen=True)
class Record:
    """One committed task of a node.

    `folder`/`key`.json is its file. `reads` is exactly what the key is the digest of; `facts` holds what later
    nodes need to know without opening `data`.
    """

    folder: str
    key: str
    reads: dict[str, Any]
    data: tuple[DataFile, ...] = ()
    counts: tuple[Count, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.key}.json"

    def to_json(self) -> bytes:
        return canonical_json(asdict(self))

    @staticmethod
    def from_json(data: bytes | str | dict[str, Any]) -> "Record":
        raw = data if isinstance(data, dict) else json.loads(data)
        return Record(
            folder=raw["folder"],
            key=raw["key"],
            reads=raw["reads"],
            data=tuple(DataFile(**d) for d in raw["data"]),
            counts=tuple(Count(**c) for c in raw["counts"]),
            facts=raw["facts"],
        )


def load_record(storage: Storage, folder: str, key: str) -> Record | None:
    data = storage.read(f"{folder}/{key}.json")
    return None if data is None else Record.from_json(data)


FOUND_AT_ONCE = 2_000


def read_in_blocks(storage: Storage, paths: Sequence[str]) -> Iterator[bytes]:
    """The bytes of those of `paths` that are there, in their order: elsewhere one by one they are a request each."""
    for start in range(0, len(paths), FOUND_AT_ONCE):
        yield from storage.read_many(paths[start : start + FOUND_AT_ONCE])


def found_records(storage: Storage, folder: str, keys: Sequence[str]) -> Iterator[Record]:
    """Those of the records of `keys` that are committed, in their order: one listing, then many at a time."""
    names = set(storage.names(folder))
    paths = [f"{folder}/{key}.json" for key in keys if f"{key}.json" in names]
    del names
    yield from map(Record.from_json, read_in_blocks(storage, paths))


def commit_record(storage: Storage, record: Record, *, first_stands: bool = False) -> Record:
    """Create the record's file. Where another attempt was first, its record is the one that counts.

    Raises ShardError if the two wrote other bytes: something outside the identity shapes the output. Where that is
    known (a model's answers), `first_stands`.
    """
    if storage.create(record.path, record.to_json()):
        return record
    first = load_record(storage, record.folder, record.key)
    assert first is not None
    if not first_stands and [file.digest for file in first.data] != [file.digest for file in record.data]:
        raise ShardError(
            f"two attempts at `{record.path}` wrote different bytes; the first one's stand",
            hint="are all workers' packages and machines alike?",
        )
    return first


def add_counts(counts: Iterable[Count]) -> tuple[Count, ...]:
    """Sum counts of the same group; sorted, so that the result does not depend on the order of adding."""
    sums: dict[tuple[str, str, str, str, str], list[int]] = {}
    for count in counts:
        entry = sums.setdefault(count.group, [0, 0, 0])
        entry[0] += count.documents
        entry[1] += count.bytes
        entry[2] += count.tokens
    return tuple(
        Count(outcome, source, language, reason, part, documents=n, bytes=size, tokens=tokens)
        for (outcome, source, language, reason, part), (n, size, tokens) in sorted(sums.items())
    )
