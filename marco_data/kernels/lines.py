"""The figures of the lines of a text, and the counts of its bytes: see `kernels.quality`, which asks for them.

In: the UTF-8 bytes of a text and the table of `characters`. Out: the figures in their places of a row. What most
texts have none of (line ends other than line feeds, ellipses) is looked for with loops that LLVM turns into vectors,
and looked at only where there is one.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.characters import SPACE, TERMINAL, Table, before, code_point, width
from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.memory import Bytes, eight, int64, item, same, slots_for
from marco_data.kernels.minhash import xxh64
from marco_data.kernels.words import NEWLINE, Places

Figures = npt.NDArray[np.float64]
Wide = npt.NDArray[np.uint64]

_FULL_STOP, _DASH, _RETURN, _TAB = 0x2E, 0x2D, 0x0D, 0x09
_ONES, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_NEWLINES = _ONES * np.uint64(NEWLINE)


class LineRoom(NamedTuple):
    """The distinct lines of one text: made once, for the text of the batch that has most."""

    slots: Places  # open addressing: 0, or 1 + the number of an entry
    keys: Wide  # of each entry
    first: Places  # of each entry: where it was met first
    sizes: Places  # of each entry


@compiled
def line_room(n: int) -> LineRoom:
    return LineRoom(
        np.zeros(slots_for(n), np.int32), np.empty(n, np.uint64), np.empty(n, np.int32), np.empty(n, np.int32)
    )


@inlined
def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@inlined
def _tops(tops: np.uint64) -> int:
    """How many of the highest bits of eight bytes are set; the others are not."""
    n: int = int64((tops >> np.uint64(7)) * _ONES >> np.uint64(56))
    return n


@borrowing
def count(data: Bytes, start: int, stop: int, byte: int) -> int:
    every = _ONES * np.uint64(byte)
    n = 0
    for i in range(start, stop - 7, 8):
        x = eight(data, i) ^ every
        n += _tops(~(((x & ~_TOPS) + ~_TOPS) | x) & _TOPS)  # of the bytes that are zero
    for i in range(stop - (stop - start) % 8, stop):
        n += item(data, i) == byte
    return n


@borrowing
def count_characters(data: Bytes, start: int, stop: int) -> int:
    """The bytes but those that continue a character."""
    n = stop - start
    for i in range(start, stop - 7, 8):
        x = eight(data, i)
        n -= _tops(x & ~(x << np.uint64(1)) & _TOPS)
    for i in range(stop - (stop - start) % 8, stop):
        n -= item(data, i) & 0xC0 == 0x80
    return n


@borrowing
def count_ellipses(data: Bytes, start: int, stop: int) -> int:
    """How often `...` (not overlapping) or `…` occurs; nearly always never, which is soon told."""
    ones = threes = False
    for i in range(start, stop - 2):
        a, b, c = item(data, i), item(data, i + 1), item(data, i + 2)
        ones |= _is_ellipsis(a, b, c)
        threes |= (a == _FULL_STOP) & (b == _FULL_STOP) & (c == _FULL_STOP)
    n = _triples(data, start, stop) if threes else 0
    if ones:
        for i in range(start, stop - 2):
            n += _is_ellipsis(item(data, i), item(data, i + 1), item(data, i + 2))
    return n


@inlined
def _is_ellipsis(a: int, b: int, c: int) -> bool:
    return (a == 0xE2) & (b == 0x80) & (c == 0xA6)


@borrowing
def _triples(data: Bytes, start: int, stop: int) -> int:
    n = stops = 0
    for i in range(start, stop):
        stops = stops + 1 if item(data, i) == _FULL_STOP else 0
        if stops == 3:
            n, stops = n + 1, 0
    return n


@borrowing
def measure_lines(
    data: Bytes,
    start: int,
    stop: int,
    characters: int,
    new_lines: int,
    short_line: int,
    table: Table,
    room: LineRoom,
    row: Figures,
) -> None:
    """duplicate_lines, line_punctuation, short_lines, duplicate_line_characters: of lines parted by line feeds.

    The first counts what lies between runs of line feeds, so an empty line only at either end of the text; the
    others count the lines that are not blank.
    """
    mask = slots_for(new_lines + 1) - 1
    room.slots[: mask + 1] = 0
    parts = repeated = entries = full = ended = short = repeated_characters = 0
    at = start
    while at < stop:
        end = _line_end(data, at, stop)
        if end > at:
            parts += 1
            known, entries = _find_line(data, at, end, mask, entries, room)
            repeated += known
            if not _is_blank(data, at, end, table):
                size = count_characters(data, at, end)
                full += 1
                short += size <= short_line
                ended += (item(table, code_point(data, before(data, end))) & TERMINAL) != 0
                repeated_characters += size * known
        at = end + 1
    if stop > start:
        edges = (1 if item(data, start) == NEWLINE else 0) + (1 if item(data, stop - 1) == NEWLINE else 0)
        row[0] = ratio(repeated + (edges == 2), parts + edges)
    row[10], row[11] = ratio(ended, full), ratio(short, full)
    row[12] = ratio(repeated_characters, characters - new_lines)


@borrowing
def _find_line(data: Bytes, at: int, end: int, mask: int, entries: int, room: LineRoom) -> tuple[int, int]:
    """(1 if this line was met before, distinct lines with it)."""
    key = xxh64(data, at, end)
    slot = np.int64(key & np.uint64(mask))
    while room.slots[slot]:
        entry = room.slots[slot] - 1
        if room.keys[entry] == key and room.sizes[entry] == end - at and same(data, room.first[entry], at, end - at):
            return 1, entries
        slot = (slot + 1) & mask
    room.slots[slot] = entries + 1
    room.keys[entries], room.first[entries], room.sizes[entries] = key, at, end - at
    return 0, entries + 1


@borrowing
def _is_blank(data: Bytes, at: int, end: int, table: Table) -> bool:
    while at < end:
        if not item(table, code_point(data, at)) & SPACE:
            return False
        at += width(item(data, at))
    return True


@borrowing
def measure_line_marks(data: Bytes, start: int, stop: int, table: Table, row: Figures) -> None:
    """bullet_lines, ellipsis_lines: of the lines of `str.splitlines`."""
    lines = bullets = ellipses = 0
    plain = not _has_other_breaks(data, start, stop)
    at = start
    while at < stop:
        end, size = (_line_end(data, at, stop), 1) if plain else _any_line_end(data, at, stop)
        lines += 1
        bullets += _begins_with_bullet(data, at, end, table)
        ellipses += _ends_with_ellipsis(data, at, end, table)
        at = end + size
    row[18], row[19] = ratio(bullets, lines), ratio(ellipses, lines)


@inlined
def _line_end(data: Bytes, at: int, stop: int) -> int:
    """Where the first line feed of data[at:stop] is; `stop` without one."""
    while at + 8 <= stop:
        x = eight(data, at) ^ _NEWLINES
        if (x - _ONES) & ~x & _TOPS:  # one of the eight is zero
            break
        at += 8
    while at < stop and item(data, at) != NEWLINE:
        at += 1
    return at


@borrowing
def _has_other_breaks(data: Bytes, start: int, stop: int) -> bool:
    """Whether there may be a line break that is not a line feed."""
    found = False
    for i in range(start, stop):
        byte = item(data, i)
        found |= (byte < 0x20) & (byte != NEWLINE) & (byte != _TAB)
    for i in range(start, stop - 1):
        byte, following = item(data, i), item(data, i + 1)
        found |= ((byte == 0xC2) & (following == 0x85)) | ((byte == 0x80) & ((following == 0xA8) | (following == 0xA9)))
    return found


@borrowing
def _any_line_end(data: Bytes, at: int, stop: int) -> tuple[int, int]:
    """(where the line that begins at `at` ends, the bytes of its line break): as `str.splitlines` has it."""
    while at < stop:
        if item(data, at) < 0x20 or item(data, at) == 0xC2 or item(data, at) == 0xE2:
            size = _line_break(data, at, stop)
            if size:
                return at, size
        at += 1
    return stop, 1


@borrowing
def _line_break(data: Bytes, at: int, stop: int) -> int:
    """The bytes of the line break at `at`, 0 if there is none."""
    byte = item(data, at)
    if byte < 0x20:
        if byte == _RETURN:
            return 2 if at + 1 < stop and item(data, at + 1) == NEWLINE else 1
        return 1 if NEWLINE <= byte < _RETURN or 0x1C <= byte <= 0x1E else 0
    if byte == 0xC2:
        return 2 if item(data, at + 1) == 0x85 else 0
    if byte == 0xE2 and item(data, at + 1) == 0x80 and (item(data, at + 2) == 0xA8 or item(data, at + 2) == 0xA9):
        return 3
    return 0


@borrowing
def _begins_with_bullet(data: Bytes, at: int, end: int, table: Table) -> bool:
    while at < end and item(table, code_point(data, at)) & SPACE:
        at += width(item(data, at))
    return at < end and (item(data, at) == _DASH or code_point(data, at) == 0x2022)


@borrowing
def _ends_with_ellipsis(data: Bytes, at: int, end: int, table: Table) -> bool:
    while at < end:
        last = before(data, end)
        if not item(table, code_point(data, last)) & SPACE:
            if item(data, last) == _FULL_STOP:
                return bool(end - at >= 3 and item(data, end - 2) == _FULL_STOP and item(data, end - 3) == _FULL_STOP)
            return bool(code_point(data, last) == 0x2026)
        end = last
    return False
