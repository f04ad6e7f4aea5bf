"""Documents that a list asks to be taken out: `id`, `source_id` and `url` in, a verdict out. Reads no text.

A list is a text file, one entry a line: a document's id or its source's own, a URL, or a domain, which stands for its
subdomains too. `#` begins a comment where a line or a word begins. What is dropped here is a seed of no model either,
so nothing is generated from it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.errors import RecipeError
from marco_data.languages import Language
from marco_data.page_address import Strings, ascii_host, hosts, url_keys
from marco_data.step import BoundStep, Step, StepOutput, Tools
from marco_data.steps.url_block_list import domains_of

LISTED = "remove/listed"
COPIES = "remove/copy"
"""What dedup says of a document that is like a listed one, where those are to go too."""

CopiesRule = Literal["report", "drop"]
"""What becomes of documents that are like a listed one."""

KINDS = ("id", "url", "domain")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_](?:[\w-]*[^\W_])?\.?")
_SYNTAX = "one entry a line: an id, a URL or a domain; `id:`, `url:` or `domain:` before it says which"


@dataclass(frozen=True)
class Listed:
    """The entries of a list by kind, each with the word of the file it comes from."""

    ids: dict[str, str]
    urls: dict[str, str]
    domains: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """Of what is listed: comments and the order of lines say nothing."""
        kinds = zip(KINDS, (self.ids, self.urls, self.domains), strict=True)
        lines = sorted(f"{kind}:{entry}" for kind, entries in kinds for entry in entries)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def words(self) -> list[str]:
        return list(dict.fromkeys([*self.ids.values(), *self.urls.values(), *self.domains.values()]))

    def finds(self, batch: pa.RecordBatch | pa.Table) -> Strings:
        """Which rows of `id`, `source_id` and `url` are listed."""
        found = pc.or_(_any_of(batch["id"], self.ids), _any_of(batch["source_id"], self.ids))
        if self.urls:
            found = pc.or_(found, _any_of(url_keys(batch["url"]), self.urls))
        if self.domains:
            here = hosts(batch["url"])
            # A corpus has few hosts for its documents: each is asked once.
            listed = {host: host for host in pc.unique(here).to_pylist() if host and self.domain_of(host)}
            found = pc.or_(found, _any_of(here, listed))
        return found

    def domain_of(self, host: str) -> str | None:
        """The listed domain that a host lies in."""
        while host and host not in self.domains:
            host = host.partition(".")[2]
        return host or None

    def words_for(self, names: pa.Table) -> list[set[str]]:
        """The words of the file that each document is listed by, of their `id`, `source_id` and `url`."""
        keys, places = url_keys(names["url"]).to_pylist(), hosts(names["url"]).to_pylist()
        out = []
        for row, key, host in zip(names.to_pylist(), keys, places, strict=True):
            words = {self.ids[name] for name in (row["id"], row["source_id"]) if name in self.ids}
            words |= {self.urls[key]} if key in self.urls else set()
            domain = self.domain_of(host) if host else None
            out.append(words | ({self.domains[domain]} if domain else set()))
        return out


def _any_of(values: Strings, entries: Mapping[str, str]) -> Strings:
    """Which values are entries. The table of entries is there already: made anew for each batch, as Arrow does, a
    million of them would cost more than all else that is decided."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    there = entries.keys() & set(values.to_pylist())
    return pc.is_in(values, pa.array(sorted(there), pa.string()))


class Remove(Step):
    """Drops the documents on the list `file`, a path or URI."""

    version: ClassVar[int] = 3
    reads: ClassVar[tuple[str, ...]] = ("id", "source_id", "url")
    reasons: ClassVar[frozenset[str]] = frozenset({LISTED})

    file: str

    def content(self, tools: Tools) -> dict[str, str]:
        return {"file": read_list(tools.path(self.file)).digest}

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        listed = read_list(tools.path(self.file))

        def judge(batch: pa.RecordBatch) -> StepOutput:
            found = pc.fill_null(listed.finds(batch), False)
            return StepOutput(reason=pc.if_else(found, LISTED, pa.scalar(None, pa.string())))

        return judge


def read_list(path: Path) -> Listed:
    """A list, read once by a process while the file stays as it is. RecipeError names the line of a wrong entry."""
    try:
        stamp = path.stat()
        return _read(path, stamp.st_mtime_ns, stamp.st_size)
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise RecipeError(
            f"cannot read the list of documents to remove `{path}`: {told}", hint=f"`remove:` names a file, {_SYNTAX}"
        ) from None


@lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int) -> Listed:
    listed = Listed({}, {}, {})
    urls: list[tuple[int, str, str]] = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        word = (_COMMENT.sub("", line) if "#" in line else line).strip()
        if not word:
            continue
        kinds, entry = _kinds(word)
        if not entry or ("domain" in kinds and not domains_of(entry)):
            raise _no_entry(path, number, word, kinds[0])
        if "id" in kinds:
            listed.ids.setdefault(entry, word)
        if "domain" in kinds:
            listed.domains.setdefault(ascii_host(domains_of(entry)[0]), word)
        if "url" in kinds:
            urls.append((number, word, entry))
    for (number, word, _), key in zip(urls, url_keys(pa.array([url for *_, url in urls], pa.string())), strict=True):
        if not key.as_py():
            raise _no_entry(path, number, word, "url")
        listed.urls.setdefault(key.as_py(), word)
    return listed


def _no_entry(path: Path, number: int, word: str, kind: str) -> RecipeError:
    return RecipeError(f"{path}:{number}: `{word}` is no {kind}", hint=_SYNTAX)


def _kinds(word: str) -> tuple[tuple[str, ...], str]:
    """What an entry may be: what the word before its colon says, else an id, and what it looks like."""
    kind, colon, entry = word.partition(":")
    if colon and kind in KINDS:
        return (kind,), entry.strip()
    if "://" in word:
        return ("url", "id"), word
    return (("domain", "id") if _DOMAIN.fullmatch(word) else ("id",)), word
