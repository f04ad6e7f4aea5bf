"""What an earlier listing found out about files elsewhere, kept in the root: digests, and the row groups of Parquet.

Finding it out anew costs two to four requests a file at each start of a build, also one that only goes on: for 100,000
files ten minutes. A digest counts for as long as the file's size and its ETag (or blob id) stay, row groups as long as
the digest does; files whose listing names neither are looked at again. Deleting it costs that time and nothing else.

In: a root and a source. Out: the mapping that `list_files` and `split` take as their cache. Knows no recipe.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import zstandard

from marco_data.sources.source import Source
from marco_data.step import fingerprint
from marco_data.storage import Storage

FOLDER = "runs/sources"
UNUSED = 200_000
"""Entries, of 200 bytes, that may be of files that are gone, or of languages that this build does not take."""


class Found(dict[str, Any]):
    """What is known, and which of it somebody has asked for or told since it was loaded."""

    def __init__(self, known: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(known)
        self.used: set[str] = set()
        self.new = False

    def __getitem__(self, key: str) -> Any:
        self.used.add(key)
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.used.add(key)
        self.new = True
        super().__setitem__(key, value)


def load(storage: Storage, source: Source) -> Found:
    """What is kept of a source; nothing where that cannot be read."""
    try:
        data = storage.read(_name(source))
        return Found(json.loads(zstandard.ZstdDecompressor().decompress(data))) if data else Found()
    except (OSError, ValueError, TypeError, zstandard.ZstdError):  # cut off, or another's: it is found out again
        return Found()


def save(storage: Storage, source: Source, found: Found) -> None:
    """Keep what is known, if there is more of it; without what was not asked for, once that is too much."""
    if not found.new:
        return
    kept = dict(found) if len(found) - len(found.used) <= UNUSED else {key: found[key] for key in found.used}
    data = json.dumps(kept, ensure_ascii=False, sort_keys=True).encode()
    # A flipped bit would be another identity of a file: the checksum makes it one that is found out again.
    storage.replace(_name(source), zstandard.ZstdCompressor(write_checksum=True).compress(data))


def _name(source: Source) -> str:
    return f"{FOLDER}/{fingerprint(sorted(source.paths))}.json.zst"
