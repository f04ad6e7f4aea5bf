"""The index of benchmark items: one file that decontamination searches documents by.

In: items (`benchmark_items`) and, to know what is common, a sample of ordinary text. Out: a file of arrays that is
mapped into memory, so that the workers of a machine share it; the same items and sample give the same bytes.

A window of `window` words (or as many characters as weigh the same) of an item is evidence unless it is common: found
in more than MOST_TEXTS items of the index, or in `common` or more documents of the sample that do not hold the whole
item. What lies in no window that is evidence does not count. An item shorter than a window is looked for as a whole;
one of fewer than SHORTEST words never.

Size: about 24 bytes a word of the items, all of it mapped, none of it private to a worker. Building holds five times
that; a sample costs four bytes a window beside it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from marco_data.benchmark_items import Item
from marco_data.errors import RecipeError
from marco_data.steps.normalize import normalize
from marco_data.words import Texts, texts_of

MAGIC = b"marco-data benchmark index 1\n"
WORD = 6
"""The weight of a word; `kernels.leaks` has those of characters."""
SHORTEST = 5
"""Words of the shortest item that is looked for. Answers and headings are shorter, and are in every text."""
MOST_TEXTS = 5
"""Different items that may share a window. More share a template; fewer are versions of one item."""
WHOLE = 0.9
"""Share of an item that a document of the sample must hold to be a copy of it, and no sign that it is common."""
_ALIGNED = 64
_WEIGHT, _NUMBER, _COUNTED = 15, 16, 32


class IndexMissing(RecipeError):
    """The index a recipe names is not there."""


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

    @cached_property
    def called(self) -> dict[int, list[dict[str, Any]]]:
        """What each text is called: several names where benchmarks share it."""
        out: dict[int, list[dict[str, Any]]] = {}
        for row in self.names.to_pylist():
            out.setdefault(row.pop("text"), []).append(row)
        return out

    @cached_property
    def grams(self) -> Any:
        from marco_data.kernels.leaks import Grams  # numba takes 0.6 s to import: not for a plan

        return Grams(*(np.asarray(self.arrays[name]) for name in Grams._fields))

    @property
    def weights(self) -> npt.NDArray[np.int32]:
        """Of the windows that are looked up: those of items, and those that short items begin with."""
        return np.array([WORD * self.header["window"], WORD * SHORTEST], np.int32)

    def find(self, texts: Texts, floor: float) -> Iterator[tuple[int, Hit]]:
        """(document, hit) of every item of which a document holds at least the share `floor`, in their order."""
        from marco_data.kernels import leaks

        units = leaks.find_units(texts.data, texts.offsets, leaks.character_kinds())
        runs = leaks.find_runs(units, self.grams, self.weights)
        for document, text, group in grouped(runs):
            found = self.judge(text, group)
            if found.share < floor:
                continue
            first = units.first[document]
            begin, end = texts.offsets[document : document + 2]
            utf8 = texts.data[begin:end]
            start = _characters(utf8[: units.starts[first + found.start]])
            length = _characters(utf8[units.starts[first + found.start] : units.ends[first + found.end - 1]])
            for name in self.called[text]:
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
        counted = np.where(kinds & _COUNTED, kinds & _WEIGHT, 0).astype(np.int64)
        sums = np.concatenate([[0], np.cumsum(counted)])
        short = bool(not counted.any())  # an item that is looked for as a whole: of that, runs are whole
        sums = np.concatenate([[0], np.cumsum((kinds & _WEIGHT).astype(np.int64) if short else counted)])
        weights = sums[runs[:, 0] + runs[:, 2]] - sums[runs[:, 0]]
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


def build(
    items: Iterable[Item], declared: str, *, window: int = 8, sample: Iterable[Sequence[str]] = (), common: int = 3
) -> Index:
    """The index of `items`; `declared` names the list of benchmarks it was made from.

    `sample` are batches of ordinary documents, each read once.
    """
    from marco_data.kernels import leaks

    rows: list[Item] = []
    facts: dict[str, dict[str, int]] = {}
    for item in items:
        fact = facts.setdefault(item.benchmark, {"texts": 0, "broken": 0, "too_short": 0, "common": 0})
        fact["texts" if item.text is not None else "broken"] += 1
        rows += [item] if item.text is not None else []
    texts = texts_of(pa.array([normalize(row.text or "") for row in rows], pa.large_string()))
    units = leaks.find_units(texts.data, texts.offsets, leaks.character_kinds())
    group_of, chosen = _distinct(units)
    first = np.concatenate([[0], np.cumsum([units.first[i + 1] - units.first[i] for i in chosen])]).astype(np.int64)
    keys = _join([units.keys[units.first[i] : units.first[i + 1]] for i in chosen], np.uint64)
    kinds = _join([units.kinds[units.first[i] : units.first[i + 1]] for i in chosen], np.uint8)
    places = _places(keys, kinds, first, window)
    index = _assembled(places, keys, kinds, first, window)
    counts, documents = _count_in_sample(index, sample)
    keep = (_texts_per_key(index) <= MOST_TEXTS) & (counts < common)
    index = _assembled(places[np.isin(places["key"], index.grams.keys[keep])], keys, kinds, first, window)
    table = _named(rows, group_of)
    _state_what_is_not_sought(facts, index, rows, group_of)
    arrays = {**index.arrays, "names": _ipc(table)}
    header = {
        "declared": declared,
        "window": window,
        "common": common,
        "sample_documents": documents,
        "benchmarks": dict(sorted(facts.items())),
    }
    return Index({**header, "digest": _digest(header, arrays)}, arrays)


def _distinct(units: Any) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Texts of equal units are one: (number of each text among the distinct, a row of each)."""
    known: dict[bytes, int] = {}
    chosen: list[int] = []
    numbers = np.full(len(units.first) - 1, -1, np.int64)
    for i in range(len(numbers)):
        kinds = units.kinds[units.first[i] : units.first[i + 1]]
        if int((kinds & _WEIGHT).sum()) < WORD * SHORTEST:
            continue
        key = units.keys[units.first[i] : units.first[i + 1]].tobytes()
        if key not in known:
            known[key] = len(chosen)
            chosen.append(i)
        numbers[i] = known[key]
    return numbers, chosen


def _places(
    keys: npt.NDArray[np.uint64], kinds: npt.NDArray[np.uint8], first: npt.NDArray[np.int64], window: int
) -> npt.NDArray[Any]:
    """Every window of every text: key, text, first unit, units; of a short text the one it begins with."""
    from marco_data.kernels import leaks

    kind = np.dtype([("key", np.uint64), ("text", np.int32), ("unit", np.int64), ("size", np.int32)])
    pieces = []
    for text in range(len(first) - 1):
        a, b = int(first[text]), int(first[text + 1])
        sizes = leaks.window_ends(kinds, a, b, WORD * window)
        if len(sizes) and sizes[0] == 0:
            sizes = leaks.window_ends(kinds, a, b, WORD * SHORTEST)
            sizes[1:] = 0
        n = int(np.count_nonzero(sizes))
        piece = np.empty(n, kind)
        piece["key"] = leaks.window_keys(keys, a, sizes)[:n]
        piece["text"], piece["unit"], piece["size"] = text, np.arange(a, a + n), sizes[:n]
        pieces.append(piece)
    places = np.concatenate(pieces) if pieces else np.empty(0, kind)
    return places[np.lexsort((places["unit"], places["key"]))]


def _assembled(
    places: npt.NDArray[Any],
    units: npt.NDArray[np.uint64],
    kinds: npt.NDArray[np.uint8],
    first: npt.NDArray[np.int64],
    window: int,
) -> Index:
    """What is searched, of the windows given; the units that they hold count."""
    keys, starts = np.unique(places["key"], return_index=True)
    bits = max(1, int(len(keys)).bit_length())
    directory = np.searchsorted(keys >> np.uint64(64 - bits), np.arange((1 << bits) + 1, dtype=np.uint64))
    marks = np.zeros(len(units) + 1, np.int64)
    is_long = np.add.reduceat(kinds & _WEIGHT, first[:-1], dtype=np.int64) >= WORD * window if len(kinds) else []
    evidence = places[np.asarray(is_long, bool)[places["text"]]] if len(places) else places
    np.add.at(marks, evidence["unit"], 1)
    np.add.at(marks, evidence["unit"] + evidence["size"], -1)
    counted = np.where(np.cumsum(marks[:-1]) > 0, np.uint8(_COUNTED), np.uint8(0))
    arrays = {
        "keys": keys,
        "directory": directory.astype(np.uint32),
        "postings": np.append(starts, len(places)).astype(np.int64),
        "place_text": np.ascontiguousarray(places["text"]),
        "place_unit": np.ascontiguousarray(places["unit"]),
        "units": units,
        "kinds": (kinds & np.uint8(_WEIGHT | _NUMBER)) | counted,
        "first": first,
    }
    return Index({"window": window}, arrays)


def _texts_per_key(index: Index) -> npt.NDArray[np.int64]:
    """In how many texts each window is; those that begin short texts are none of anything but themselves."""
    grams = index.grams
    key_of = np.repeat(np.arange(len(grams.keys)), np.diff(grams.postings))
    evidence = (grams.kinds[grams.place_unit] & _COUNTED) > 0
    pairs = np.unique(np.stack([key_of, grams.place_text], axis=1)[evidence], axis=0)
    return np.bincount(pairs[:, 0], minlength=len(grams.keys))


def _count_in_sample(index: Index, sample: Iterable[Sequence[str]]) -> tuple[npt.NDArray[np.int32], int]:
    """In how many documents each window is, copies of the items it is from left out; and how many documents.

    A short item's window counts where the whole item is.
    """
    from marco_data.kernels import leaks

    counts = np.zeros(len(index.grams.keys), np.int32)
    key_of_text = np.zeros(len(index.grams.first), np.int64)  # of a short text the only one
    key_of_text[index.grams.place_text] = np.repeat(np.arange(len(counts)), np.diff(index.grams.postings))
    documents = 0
    for batch in sample:
        documents += len(batch)
        texts = texts_of(pa.array([normalize(text) for text in batch], pa.large_string()))
        units = leaks.find_units(texts.data, texts.offsets, leaks.character_kinds())
        found: dict[int, dict[int, Found]] = {}
        for document, text, group in grouped(leaks.find_runs(units, index.grams, index.weights)):
            found.setdefault(document, {})[text] = index.judge(text, group)
        for document, held in found.items():
            copies = [text for text, f in held.items() if f.share >= WHOLE and not f.short]
            present = _windows_in(index, units, document, copies)
            short = [key_of_text[text] for text, f in held.items() if f.short]
            counts[np.union1d(present, np.array(short, np.int64))] += 1
    return counts, documents


def _windows_in(index: Index, units: Any, document: int, copies: list[int]) -> npt.NDArray[np.int64]:
    """The windows of the index that a document has, those of items left out that it is a copy of."""
    from marco_data.kernels import leaks

    a, b = int(units.first[document]), int(units.first[document + 1])
    sizes = leaks.window_ends(units.kinds, a, b, int(index.weights[0]))
    keys = np.unique(leaks.window_keys(units.keys, a, sizes)[sizes > 0])
    at = np.minimum(np.searchsorted(index.grams.keys, keys), len(index.grams.keys) - 1)
    present = at[index.grams.keys[at] == keys].astype(np.int64)
    if not copies:
        return present
    postings, place_text = index.grams.postings, index.grams.place_text
    copied = [bool(np.isin(place_text[postings[k] : postings[k + 1]], copies).any()) for k in present]
    return present[~np.array(copied, bool)]


def _named(rows: list[Item], group_of: npt.NDArray[np.int64]) -> pa.Table:
    sought = [(int(text), *row[:4]) for text, row in zip(group_of, rows, strict=True) if text >= 0]
    columns = list(zip(*sorted(set(sought)), strict=True)) or [(), (), (), (), ()]
    names = ["text", "benchmark", "item", "language", "field"]
    kinds = [pa.int32(), *[pa.string()] * 4]
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def _state_what_is_not_sought(
    facts: dict[str, dict[str, int]], index: Index, rows: list[Item], group_of: npt.NDArray[np.int64]
) -> None:
    sought = set(np.asarray(index.grams.place_text).tolist())
    for text, row in zip(group_of.tolist(), rows, strict=True):
        facts[row.benchmark]["too_short"] += text < 0
        facts[row.benchmark]["common"] += text >= 0 and text not in sought


def _join(arrays: list[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, kind)


def _ipc(table: pa.Table) -> npt.NDArray[np.uint8]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return np.frombuffer(sink.getvalue(), np.uint8)


def _digest(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    hashed = xxhash.xxh3_128(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        hashed.update(f"{name} {array.dtype.str} {len(array)}".encode())
        hashed.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hashed.hexdigest()


def write(index: Index, path: Path) -> None:
    """The file, whole or not at all."""
    described, place = {}, 0
    for name, array in sorted(index.arrays.items()):
        described[name] = [array.dtype.str, len(array), place]
        place += -(-array.nbytes // _ALIGNED) * _ALIGNED
    head = json.dumps({**index.header, "arrays": described}, sort_keys=True).encode() + b"\n"
    head = MAGIC + head[:-1] + b" " * (-(len(MAGIC) + len(head)) % _ALIGNED) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as out:
        out.write(head)
        for _, array in sorted(index.arrays.items()):
            out.write(np.ascontiguousarray(array).data)
            out.write(b"\0" * (-array.nbytes % _ALIGNED))
    partial.replace(path)


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
    return json.loads(line), len(MAGIC) + len(line)


def load(path: Path) -> Index:
    """The index at a path, mapped, after its bytes were checked."""
    header, start = read_header(path)
    described = header.pop("arrays")
    data = np.memmap(path, np.uint8, mode="r")
    arrays = {}
    for name, (kind, n, place) in described.items():
        size = np.dtype(kind).itemsize * n
        arrays[name] = data[start + place : start + place + size].view(kind)
    digest = header.pop("digest")
    if _digest(header, arrays) != digest:
        raise RecipeError(
            f"the index of benchmarks `{path}` is damaged", hint="make it again: `marco-data index-benchmarks`"
        )
    return Index({**header, "digest": digest}, arrays)
