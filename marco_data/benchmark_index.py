"""The index of benchmark items: one file that documents are searched by.

In: the file that `benchmark_build` makes, mapped into memory, so that the workers of a machine share it; and texts.
Out: the items that each text holds, wholly or in part.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from marco_data.errors import RecipeError
from marco_data.filesystems import filesystem_of
from marco_data.words import Texts

MAGIC = b"marco-data benchmark index 1\n"
WORD = 6
"""The weight of a word; `kernels.leaks` has those of characters."""
NUMERAL = 2
"""The weight of a number: of two runs of an item, the one with its numbers is the longer."""
SHORTEST = 5
"""Words of the shortest item that is looked for. Answers and headings are shorter, and are in every text."""
_ALIGNED = 64
WEIGHT, NUMBER, COUNTED = 15, 16, 32


class IndexMissing(RecipeError):
    """The index a recipe names is not there, or not of the benchmarks it names."""


class Hit(NamedTuple):
    """An item that is, wholly or in part, in a document; places are characters of the document."""

    benchmark: str
    item: str
    language: str
    field: str
    share: float
    words: float
    longest: float
    whole: bool
    same_numbers: int
    other_numbers: int
    start: int
    end: int


@dataclass(frozen=True)
class Index:
    """An index in memory: `header` says of what, `arrays` are what kernels search."""

    header: dict[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]

    @property
    def digest(self) -> str:
        return str(self.header["digest"])

    @cached_property
    def names(self) -> pa.Table:
        """Benchmark, item, language and field of every text, in the order of texts."""
        return pa.ipc.open_file(pa.py_buffer(np.asarray(self.arrays["names"]))).read_all()

    def called(self, text: int) -> list[dict[str, Any]]:
        """What a text is called: several names where benchmarks share it."""
        first, last = np.searchsorted(self.names["text"].to_numpy(), [text, text + 1])
        return list(self.names.slice(first, last - first).drop_columns("text").to_pylist())

    @cached_property
    def grams(self) -> Any:
        from marco_data.kernels.leaks import Grams  # numba takes 0.6 s to import: not for a plan

        return Grams(*(np.asarray(self.arrays[name]) for name in Grams._fields))

    @property
    def weights(self) -> npt.NDArray[np.int32]:
        """Of the windows that are looked up: those of items, and those that short items begin with."""
        return np.array([WORD * self.header["window"], WORD * SHORTEST], np.int32)

    def find(self, texts: Texts, share: float, stretch: float) -> Iterator[tuple[int, Hit]]:
        """(document, hit) of every item of which a document holds such a share, or so many words in a row."""
        from marco_data.kernels import leaks

        units = leaks.find_units(texts.data, texts.offsets, leaks.character_kinds())
        runs = leaks.find_runs(units, self.grams, self.weights)
        for document, text, group in grouped(runs):
            found = self.judge(text, group)
            if found.share < share and found.longest < stretch:
                continue
            first = units.first[document]
            begin, end = texts.offsets[document : document + 2]
            utf8 = texts.data[begin:end]
            start = _characters(utf8[: units.starts[first + found.start]])
            length = _characters(utf8[units.starts[first + found.start] : units.ends[first + found.end - 1]])
            for name in self.called(text):
                yield (
                    document,
                    Hit(
                        **name,
                        share=found.share,
                        words=found.words,
                        longest=found.longest,
                        whole=found.whole,
                        same_numbers=found.same_numbers,
                        other_numbers=found.other_numbers,
                        start=start,
                        end=start + length,
                    ),
                )

    def judge(self, text: int, runs: npt.NDArray[np.int32]) -> "Found":
        """How much of a text its runs in one document come to: the longest, and those about it.

        `runs` is int32[n, 5]: place in the text, place in the document, length, same and other numbers.
        """
        first, stop = self.grams.first[text : text + 2]
        kinds = np.asarray(self.grams.kinds[first:stop])
        counted = np.where(kinds & COUNTED, kinds & WEIGHT, 0).astype(np.int64)
        sums = np.concatenate([[0], np.cumsum(counted)])
        short = bool(not counted.any())  # an item that is looked for as a whole: of that, runs are whole
        sums = np.concatenate([[0], np.cumsum((kinds & WEIGHT).astype(np.int64) if short else counted)])
        weights = sums[runs[:, 0] + runs[:, 2]] - sums[runs[:, 0]] - NUMERAL * runs[:, 4]
        best = int(np.argmax(weights))
        longest = runs[best]
        # Parts of one copy lie about as far apart as in the item; a page may put something between its lines.
        near = abs((runs[:, 1] - runs[:, 0]) - (longest[1] - longest[0])) <= len(kinds) + 50
        about = _apart(runs[near], weights[near])
        held = np.zeros(len(kinds) + 1, np.int32)
        np.add.at(held, about[:, 0], 1)
        np.add.at(held, about[:, 0] + about[:, 2], -1)
        total = int(sums[-1])
        each = np.diff(sums)
        covered = int(each[np.cumsum(held[:-1]) > 0].sum())
        return Found(
            share=round(covered / total, 4),
            words=round(covered / WORD, 1),
            longest=round(int(weights[best]) / WORD, 1),
            whole=bool((np.cumsum(held[:-1]) > 0).all()),
            short=short,
            same_numbers=int(about[:, 3].sum()),
            other_numbers=int(about[:, 4].sum()),
            start=int(about[:, 1].min()),
            end=int((about[:, 1] + about[:, 2]).max()),
        )


def _apart(runs: npt.NDArray[np.int32], weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """The heaviest runs that each add a place in the text: what comes again and again counts once."""
    runs = runs[np.argsort(-weights, kind="stable")]
    _, firsts = np.unique(runs[:, [0, 2]], axis=0, return_index=True)
    seen: set[int] = set()
    chosen = []
    for i in np.sort(firsts).tolist():
        places = range(runs[i, 0], runs[i, 0] + runs[i, 2])
        if not seen.issuperset(places):
            seen.update(places)
            chosen.append(i)
    return runs[chosen]


class Found(NamedTuple):
    """What `Index.judge` says; places are units of the document."""

    share: float
    words: float
    longest: float
    whole: bool
    short: bool
    same_numbers: int
    other_numbers: int
    start: int
    end: int


def grouped(runs: Any) -> Iterator[tuple[int, int, npt.NDArray[np.int32]]]:
    """(document, text, its runs) in the order of documents and of where the first run begins."""
    if len(runs.document) == 0:
        return
    order = np.lexsort((runs.start, runs.text, runs.document))
    document, text = runs.document[order], runs.text[order]
    rest = np.stack([runs.at, runs.start, runs.length, runs.same_numbers, runs.other_numbers], axis=1)[order]
    cuts = np.flatnonzero((np.diff(document) != 0) | (np.diff(text) != 0)) + 1
    starts = np.concatenate([[0], cuts])
    for a, group in zip(starts, np.split(rest, cuts), strict=True):
        yield int(document[a]), int(text[a]), group


def _characters(utf8: npt.NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(utf8 & 0xC0 != 0x80))


def digest_of(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    hashed = xxhash.xxh3_128(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        hashed.update(f"{name} {array.dtype.str} {len(array)}".encode())
        hashed.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hashed.hexdigest()


def write(index: Index, place: str) -> None:
    """The file, whole or not at all; `place` is a path or any fsspec URL."""
    described, end = {}, 0
    for name, array in sorted(index.arrays.items()):
        described[name] = [array.dtype.str, len(array), end]
        end += -(-array.nbytes // _ALIGNED) * _ALIGNED
    head = json.dumps({**index.header, "arrays": described}, sort_keys=True).encode()
    head = MAGIC + head + b" " * (-(len(MAGIC) + len(head) + 1) % _ALIGNED) + b"\n"
    fs, path = filesystem_of(place, "cannot write")
    try:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        with fs.open(path + ".partial", "wb") as out:
            out.write(head)
            for _, array in sorted(index.arrays.items()):
                out.write(np.ascontiguousarray(array).view(np.uint8).data)
                out.write(b"\0" * (-array.nbytes % _ALIGNED))
        fs.mv(path + ".partial", path)
    except OSError as error:
        raise RecipeError(
            f"cannot write `{place}`: {error}", hint="`--out` says where else; the recipe's `index` too"
        ) from None


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """What an index says of itself, and where its arrays begin."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise RecipeError(f"`{path}` is no index of benchmarks", hint="`marco-data index-benchmarks` makes one")
            line = file.readline()
    except FileNotFoundError:
        raise IndexMissing(
            f"the index of benchmarks `{path}` is not there",
            hint="`marco-data index-benchmarks` with this recipe makes it",
        ) from None
    try:
        return json.loads(line), len(MAGIC) + len(line)
    except ValueError:
        raise _damaged(path) from None


def load(path: Path) -> Index:
    """The index at a path, mapped, after its bytes were checked."""
    header, start = read_header(path)
    data = np.memmap(path, np.uint8, mode="r")
    arrays = {}
    try:
        for name, (kind, n, place) in header.pop("arrays").items():
            size = np.dtype(kind).itemsize * n
            arrays[name] = data[start + place : start + place + size].view(kind)
        digest = header.pop("digest")
    except (KeyError, TypeError, ValueError):
        raise _damaged(path) from None
    if digest_of(header, arrays) != digest:
        raise _damaged(path)
    return Index({**header, "digest": digest}, arrays)


def _damaged(path: Path) -> RecipeError:
    return RecipeError(
        f"the index of benchmarks `{path}` is damaged", hint="make it again: `marco-data index-benchmarks`"
    )
