"""Make an index of benchmark items: items and a sample of ordinary text in, an index out.

A window of `window` words (or as many characters as weigh the same) of an item is evidence unless it is common: found
in more than MOST_TEXTS items of the index, or in `common` or more documents of the sample that do not hold the whole
item. What lies in no window that is evidence does not count. An item shorter than a window is looked for as a whole;
one of fewer than SHORTEST words never. The same items and sample give the same bytes.

An index has about 45 bytes a word of the items, all of it mapped, none of it private to a worker. Building it holds
several times that; a sample adds four bytes a window, and is read once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marco_data.benchmark_index import (
    COUNTED,
    NUMBER,
    SHORTEST,
    WEIGHT,
    WORD,
    Found,
    Index,
    digest_of,
    grouped,
    write,
)
from marco_data.benchmark_items import Item, read_items
from marco_data.recipe import DecontaminateSection
from marco_data.sources import Fields, Source, list_files, read_slice, split
from marco_data.steps.normalize import normalize
from marco_data.words import texts_of

MOST_TEXTS = 5
"""Different items that may share a window. More share a template; fewer are versions of one item."""
WHOLE = 0.9
"""Share of an item that a document of the sample must hold to be a copy of it, and no sign that it is common.

Of items shorter than two windows every sight counts: they may be things that people say."""
_SLICE_BYTES = 64 << 20


def make_index(
    sought: DecontaminateSection, out: str | None, sample: Sequence[str], fields: Mapping[str, str]
) -> dict[str, Any]:
    """Read, build, write; what was made. `sample` are paths, `fields` where their rows have what."""
    place = out or sought.index
    index = build(
        read_items(sought.benchmarks),
        sought.declared,
        window=sought.window,
        sample=sample_of(sample, fields),
        common=sought.common,
    )
    write(index, place)
    return {"index": place, **index.header}


def sample_of(paths: Sequence[str], fields: Mapping[str, str]) -> Iterator[list[str]]:
    """The texts of a sample, by batches: any files that a source may have."""
    if not paths:
        return
    source = Source(paths=tuple(paths), fields=Fields(**fields))
    for piece in split(list_files("sample", source), _SLICE_BYTES):
        for batch in read_slice(piece, "sample", source):
            yield [text for text in batch.column("text").to_pylist() if text]


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
    return Index({**header, "digest": digest_of(header, arrays)}, arrays)


def _distinct(units: Any) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Texts of equal units are one: (number of each text among the distinct, a row of each)."""
    known: dict[bytes, int] = {}
    chosen: list[int] = []
    numbers = np.full(len(units.first) - 1, -1, np.int64)
    for i in range(len(numbers)):
        kinds = units.kinds[units.first[i] : units.first[i + 1]]
        if int((kinds & WEIGHT).sum()) < WORD * SHORTEST:
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
    bits = max(1, len(keys).bit_length())
    directory = np.searchsorted(keys >> np.uint64(64 - bits), np.arange((1 << bits) + 1, dtype=np.uint64))
    marks = np.zeros(len(units) + 1, np.int64)
    heavy = np.concatenate([[0], np.cumsum(kinds & WEIGHT, dtype=np.int64)])
    is_long = np.diff(heavy[first]) >= WORD * window
    evidence = places[is_long[places["text"]]]
    np.add.at(marks, evidence["unit"], 1)
    np.add.at(marks, evidence["unit"] + evidence["size"], -1)
    counted = np.where(np.cumsum(marks[:-1]) > 0, np.uint8(COUNTED), np.uint8(0))
    arrays = {
        "keys": keys,
        "directory": directory.astype(np.uint32),
        "postings": np.append(starts, len(places)).astype(np.int64),
        "place_text": np.ascontiguousarray(places["text"]),
        "place_unit": np.ascontiguousarray(places["unit"]),
        "units": units,
        "kinds": (kinds & np.uint8(WEIGHT | NUMBER)) | counted,
        "first": first,
    }
    return Index({"window": window}, arrays)


def _texts_per_key(index: Index) -> npt.NDArray[np.int64]:
    """In how many texts each window is; those that begin short texts are none of anything but themselves."""
    grams = index.grams
    key_of = np.repeat(np.arange(len(grams.keys)), np.diff(grams.postings))
    evidence = (grams.kinds[grams.place_unit] & COUNTED) > 0
    pairs = np.unique(np.stack([key_of, grams.place_text], axis=1)[evidence], axis=0)
    return np.asarray(np.bincount(pairs[:, 0], minlength=len(grams.keys)), np.int64)


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
            copies = [t for t, f in held.items() if f.share >= WHOLE and f.words >= 2 * index.header["window"]]
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
    present: npt.NDArray[np.int64] = at[index.grams.keys[at] == keys].astype(np.int64)
    if not copies:
        return present
    postings, place_text = index.grams.postings, index.grams.place_text
    copied = [bool(np.isin(place_text[postings[k] : postings[k + 1]], copies).any()) for k in present]
    own: npt.NDArray[np.int64] = present[~np.array(copied, bool)]
    return own


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
