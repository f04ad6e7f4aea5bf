"""The shingles of many texts at once: texts and where their words are in, the distinct hashes of each text out.

A shingle is `size` consecutive words of a text, case folded, one space between them, or `size` consecutive
characters, case folded, white space and the space of no width left out; its hash is the low half of XXH64 of its
UTF-8, seed 0. Words without a letter or digit are left out; a text without any other is measured by its characters. A
text with fewer units than `size` has one shingle, all of it: two short documents are alike only if they are equal.

The specification is the twin in the tests, four lines of Python for each unit.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.characters import (
    ALPHANUMERIC,
    FOLDED,
    SPACE,
    ZERO_WIDTH_SPACE,
    Folding,
    Table,
    code_point,
    width,
)
from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.memory import SLACK, Bytes, copy, int64, item, slots_for
from marco_data.kernels.minhash import Hashes, xxh64
from marco_data.kernels.words import Offsets, Places, Seen

_MOST_GROWTH = 3  # U+0390 is two bytes and folds to six; nothing grows more
_SPACE = 0x20


class Room(NamedTuple):
    """What one text needs: made once, for the longest text of a batch."""

    folded: npt.NDArray[np.uint8]
    units: npt.NDArray[np.int64]  # where each unit of `folded` begins
    slots: Places  # open addressing: 0, or 1 + the place of a hash


@compiled
def word_shingles(
    data: Bytes,
    offsets: Offsets,
    starts: Places,
    ends: Places,
    seen: Seen,
    first: Offsets,
    table: Table,
    folding: Folding,
    size: int,
) -> tuple[Hashes, Offsets]:
    """(hashes, bounds): the distinct hashes of text i are hashes[bounds[i]:bounds[i + 1]], in order of their place."""
    out, bounds, room = _rooms(offsets)
    n = 0
    for i in range(len(offsets) - 1):
        a, b = first[i], first[i + 1]
        units = _fold_words(data, starts[a:b], ends[a:b], seen[a:b], table, folding, room)
        gap = 1
        if units == 0:
            gap, units = 0, _fold_characters(data, offsets[i], offsets[i + 1], table, folding, room)
        n = _distinct(room, units, size, gap, out, n)
        bounds[i + 1] = n
    return out[:n], bounds


@compiled
def character_shingles(
    data: Bytes, offsets: Offsets, table: Table, folding: Folding, size: int
) -> tuple[Hashes, Offsets]:
    """As `word_shingles`, of characters."""
    out, bounds, room = _rooms(offsets)
    n = 0
    for i in range(len(offsets) - 1):
        units = _fold_characters(data, offsets[i], offsets[i + 1], table, folding, room)
        n = _distinct(room, units, size, 0, out, n)
        bounds[i + 1] = n
    return out[:n], bounds


@compiled
def _rooms(offsets: Offsets) -> tuple[Hashes, Offsets, Room]:
    texts = len(offsets) - 1
    longest = 0
    for i in range(texts):
        longest = max(longest, offsets[i + 1] - offsets[i])
    # No more shingles than characters, of which folding makes up to three; what stays untouched costs nothing.
    characters = _MOST_GROWTH * longest + 1
    room = Room(
        np.empty(2 * characters + SLACK, np.uint8),
        np.empty(characters + 1, np.int64),
        np.zeros(slots_for(characters), np.int32),
    )
    out = np.empty(_MOST_GROWTH * (offsets[-1] - offsets[0]) + texts, np.uint32)
    return out, np.zeros(texts + 1, np.int64), room


@borrowing
def _fold_words(
    data: Bytes, starts: Places, ends: Places, seen: Seen, table: Table, folding: Folding, room: Room
) -> int:
    """The words that count, folded, a space behind each; how many they are."""
    folded, begins = room.folded, room.units
    to = units = 0
    for k in range(len(starts)):
        if not seen[k] & ALPHANUMERIC:
            continue
        begins[units] = to
        units += 1
        at, end = int64(starts[k]), int64(ends[k])
        if seen[k] & FOLDED:
            while at < end and item(data, at) < 0x80:
                folded[to] = _lower(item(data, at))
                at, to = at + 1, to + 1
            if at < end:
                to = _fold(data, at, end, table, folding, folded, to)
        else:
            to = copy(data, at, end, folded, to)
        folded[to] = _SPACE
        to += 1
    begins[units] = to
    return units


@borrowing
def _fold_characters(data: Bytes, at: int, stop: int, table: Table, folding: Folding, room: Room) -> int:
    """The text folded, without white space and the space of no width; how many characters that makes."""
    folded, begins = room.folded, room.units
    to = units = 0
    while at < stop:
        c = code_point(data, at)
        entry, size = item(table, c), width(item(data, at))
        if not entry & (SPACE | FOLDED) and c != ZERO_WIDTH_SPACE:
            begins[units] = to
            units += 1
            to = copy(data, at, at + size, folded, to)
        elif entry & FOLDED:
            begin, to = to, _fold(data, at, at + size, table, folding, folded, to)
            units = _find_units(folded, begin, to, begins, units)
        at += size
    begins[units] = to
    return units


@inlined
def _lower(byte: int) -> int:
    return byte + 0x20 * (0x41 <= byte <= 0x5A)


@borrowing
def _find_units(folded: Bytes, begin: int, end: int, begins: Offsets, units: int) -> int:
    """Appends where each character of folded[begin:end] begins: a letter may fold to three."""
    for k in range(begin, end):
        if folded[k] & 0xC0 != 0x80:
            begins[units] = k
            units += 1
    return units


@borrowing
def _fold(data: Bytes, at: int, end: int, table: Table, folding: Folding, folded: Bytes, to: int) -> int:
    """Writes the characters of data[at:end], folded, to folded[to:]; behind them."""
    while at < end:
        c, size = code_point(data, at), width(item(data, at))
        if item(table, c) & FOLDED:
            place = item(folding.place, c)
            to = copy(folding.utf8, item(folding.starts, place), item(folding.starts, place + 1), folded, to)
        else:
            to = copy(data, at, at + size, folded, to)
        at += size
    return to


@borrowing
def _distinct(room: Room, units: int, size: int, gap: int, out: Hashes, n: int) -> int:
    """Appends the hashes not seen before of all windows of `size` units to out[:n]; `gap` bytes end each unit."""
    windows = max(1, units - size + 1)
    mask = slots_for(windows) - 1
    folded, begins, slots, first = room.folded, room.units, room.slots, n
    slots[: mask + 1] = 0
    for i in range(windows):
        end = item(begins, min(i + size, units)) - (gap if units else 0)
        h = np.uint32(xxh64(folded, item(begins, i), end))
        slot = np.int64(h) & mask
        while item(slots, slot) and item(out, first + item(slots, slot) - 1) != h:
            slot = (slot + 1) & mask
        if not item(slots, slot):
            out[n] = h
            n += 1
            slots[slot] = n - first
    return n
