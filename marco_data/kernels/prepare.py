"""The normaliser of our language model as a kernel: UTF-8 in, `languages/prepare.py` of it out, as UTF-8.

`prepare` there is the specification; this is the same function, at the speed of the rest of a pass. Three sweeps
over one document's code points: decode, drop what is invisible and lower the case; compose to NFC (only around
characters that NFC may touch); leave out addresses and what is no letter, and encode.

Input must be valid UTF-8, which Arrow strings are.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import borrowing, compiled
from marco_data.kernels.unicode_tables import INVISIBLE, LAST, LETTER_OR_MARK, UNSTABLE, WHITE, Tables

Bytes = npt.NDArray[np.uint8]
Points = npt.NDArray[np.int32]

signed = cast(Callable[[Any], int], np.int64)
"""A number as a signed one of 64 bits, which numba must be told and a type checker takes for an int."""

_DOTTED_CAPITAL_I, _DOT_ABOVE = 0x130, 0x307
_NONE = -1

LONGEST = 4  # code points of the longest canonical decomposition; twice the lower case of one is less


@borrowing
def decode(data: Bytes, at: int) -> tuple[int, int]:
    """(the code point that starts at `at`, where the next one starts)."""
    b = signed(data[at])
    if b < 0x80:
        return b, at + 1
    if b < 0xE0:
        return (b & 0x1F) << 6 | (signed(data[at + 1]) & 0x3F), at + 2
    if b < 0xF0:
        return (b & 0x0F) << 12 | (signed(data[at + 1]) & 0x3F) << 6 | (signed(data[at + 2]) & 0x3F), at + 3
    middle = (signed(data[at + 1]) & 0x3F) << 12 | (signed(data[at + 2]) & 0x3F) << 6
    return (b & 0x07) << 18 | middle | (signed(data[at + 3]) & 0x3F), at + 4


@borrowing
def end_of_head(data: Bytes, start: int, stop: int, characters: int) -> int:
    """Where the first `characters` characters of data[start:stop] end."""
    if stop - start <= characters:
        return stop
    seen = 0
    for at in range(start, stop):
        if data[at] & 0xC0 != 0x80:
            if seen == characters:
                return at
            seen += 1
    return stop


@borrowing
def _lowered(data: Bytes, start: int, stop: int, tables: Tables, out: Points) -> tuple[int, bool]:
    """Code points of data[start:stop] without invisible ones, in lower case: (how many, whether NFC may touch one)."""
    flags, lower = tables.flags, tables.lower
    n, unstable, at = 0, np.uint8(0), start
    while at < stop:
        if data[at] < 0x80:
            out[n] = lower[data[at]]
            n, at = n + 1, at + 1
            continue
        point, at = decode(data, at)
        if flags[point] & INVISIBLE:
            continue
        if point == _DOTTED_CAPITAL_I:
            out[n], out[n + 1] = 0x69, _DOT_ABOVE
            n, unstable = n + 2, np.uint8(UNSTABLE)
            continue
        if point < LAST:
            point = signed(lower[point])
        unstable |= flags[point]
        out[n] = point
        n += 1
    return n, unstable & UNSTABLE != 0


@borrowing
def composite_of(first: int, second: int, pairs: npt.NDArray[np.int64], composites: Points) -> int:
    """The character that the two compose to, -1 for none."""
    if 0x1100 <= first <= 0x1112 and 0x1161 <= second <= 0x1175:
        return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28
    if 0xAC00 <= first <= 0xD7A3 and 0x11A8 <= second <= 0x11C2 and (first - 0xAC00) % 28 == 0:
        return first + second - 0x11A7
    key = first << 21 | second
    slot = (first * 37 + second * 101) % len(pairs)
    while pairs[slot] != _NONE:
        if pairs[slot] == key:
            return signed(composites[slot])
        slot = (slot + 1) % len(pairs)
    return _NONE


@borrowing
def _class(point: int, classes: Bytes) -> int:
    return signed(classes[point]) if point < LAST else 0


@compiled
def _ordered(points: Points, start: int, stop: int, classes: Bytes) -> None:
    """Sort each run of marks in points[start:stop] by class, equals in their order."""
    at = start
    while at < stop:
        if _class(points[at], classes) == 0:
            at += 1
            continue
        end = at
        while end < stop and _class(points[end], classes):
            end += 1
        if end - at > 32:  # no language stacks so many; a text that does must not cost its square
            run = points[at:end].copy()
            keys = np.empty(len(run), np.int64)
            for i in range(len(run)):
                keys[i] = _class(run[i], classes)
            points[at:end] = run[np.argsort(keys, kind="mergesort")]
        else:
            for i in range(at + 1, end):
                point, j = points[i], i
                while j > at and _class(points[j - 1], classes) > _class(point, classes):
                    points[j] = points[j - 1]
                    j -= 1
                points[j] = point
        at = end


@borrowing
def _composed(points: Points, start: int, stop: int, tables: Tables) -> int:
    """Compose points[start:stop], decomposed and ordered, in place: where they end now."""
    classes, pairs, composites = tables.classes, tables.pairs, tables.composites
    starter, last, n = _NONE, 0, start
    for at in range(start, stop):
        point = signed(points[at])
        of_class = _class(point, classes)
        if starter >= 0 and (n - 1 == starter or last < of_class):
            composite = composite_of(signed(points[starter]), point, pairs, composites)
            if composite != _NONE:
                points[starter] = composite
                continue
        if of_class == 0:
            starter = n
        last = of_class
        points[n] = point
        n += 1
    return n


@borrowing
def nfc(points: Points, length: int, tables: Tables, out: Points) -> int:
    """NFC of points[:length] into `out`; how many. A stretch is a stable character and the unstable ones after it."""
    flags, decomposed_at, decomposed = tables.flags, tables.decomposed_at, tables.decomposed
    n, at = 0, 0
    while at < length:
        end = at + 1
        while end < length and flags[points[end]] & UNSTABLE:
            end += 1
        if end == at + 1 and not flags[points[at]] & UNSTABLE:
            out[n] = points[at]
            n, at = n + 1, end
            continue
        start = n
        for i in range(at, end):
            point = points[i]
            place = decomposed_at[point] if point < LAST else 0
            if place == 0:
                out[n] = point
                n += 1
            else:
                for k in range(decomposed[place]):
                    out[n] = decomposed[place + 1 + k]
                    n += 1
        _ordered(out, start, n, tables.classes)
        n = _composed(out, start, n, tables)
        at = end
    return n


@borrowing
def _address(points: Points, at: int, length: int) -> int:
    """Where the `http://`, `https://`, `www.` or `@` that starts at `at` ends; -1 where none starts."""
    first = points[at]
    if first == 0x40:
        return at + 1
    if first == 0x77 and at + 4 <= length and points[at + 1] == 0x77 and points[at + 2] == 0x77:
        return at + 4 if points[at + 3] == 0x2E else _NONE
    if first != 0x68 or at + 7 > length or points[at + 1] != 0x74 or points[at + 2] != 0x74 or points[at + 3] != 0x70:
        return _NONE
    i = at + 5 if points[at + 4] == 0x73 else at + 4
    if i + 3 <= length and points[i] == 0x3A and points[i + 1] == 0x2F and points[i + 2] == 0x2F:
        return i + 3
    return _NONE


@borrowing
def encode(point: int, out: Bytes, n: int) -> int:
    """Write a code point as UTF-8 at out[n:]; where it ends."""
    if point < 0x80:
        out[n] = point
        return n + 1
    if point < 0x800:
        out[n], out[n + 1] = 0xC0 | point >> 6, 0x80 | point & 0x3F
        return n + 2
    if point < 0x10000:
        out[n], out[n + 1], out[n + 2] = 0xE0 | point >> 12, 0x80 | point >> 6 & 0x3F, 0x80 | point & 0x3F
        return n + 3
    out[n], out[n + 1] = 0xF0 | point >> 18, 0x80 | point >> 12 & 0x3F
    out[n + 2], out[n + 3] = 0x80 | point >> 6 & 0x3F, 0x80 | point & 0x3F
    return n + 4


@borrowing
def _letters(points: Points, length: int, tables: Tables, out: Bytes) -> int:
    """Letters and marks of points[:length], every run of anything else and every address one space: bytes of `out`."""
    flags = tables.flags
    n, at, space = 0, 0, False
    while at < length:
        point = signed(points[at])
        if point == 0x40 or point == 0x68 or point == 0x77:
            end = _address(points, at, length)
            # The address is its opening and at least one character more.
            if end != _NONE and end < length and not flags[points[end]] & WHITE:
                while end < length and not flags[points[end]] & WHITE:
                    end += 1
                at, space = end, True
                continue
        at += 1
        if flags[point] & LETTER_OR_MARK:
            if space and n:
                out[n] = 0x20
                n += 1
            space = False
            n = encode(point, out, n)
        else:
            space = True
    return n


@borrowing
def prepare(data: Bytes, start: int, stop: int, tables: Tables, points: Points, composed: Points, out: Bytes) -> int:
    """`languages.prepare.prepare` of data[start:stop] into `out`; how many bytes.

    `points` and `composed` are for this function's use, int32[2 * bytes] and [LONGEST * 2 * bytes] at least; `out`
    needs 4 bytes for each code point of `composed`.
    """
    n, unstable = _lowered(data, start, stop, tables, points)
    if unstable:
        n = nfc(points, n, tables, composed)
        return _letters(composed, n, tables, out)
    return _letters(points, n, tables, out)


@compiled
def prepare_all(data: Bytes, offsets: npt.NDArray[np.int64], tables: Tables) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Each text of `data` prepared: (bytes, offsets). Text i is data[offsets[i]:offsets[i + 1]]."""
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    points, composed = np.empty(2 * longest + 2, np.int32), np.empty(2 * LONGEST * longest + 2, np.int32)
    scratch = np.empty(4 * len(composed), np.uint8)
    out = np.empty(2 * len(data) + 16, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    n = 0
    for i in range(len(offsets) - 1):
        length = prepare(data, offsets[i], offsets[i + 1], tables, points, composed, scratch)
        if n + length > len(out):
            larger = np.empty(2 * (n + length), np.uint8)
            larger[:n] = out[:n]
            out = larger
        out[n : n + length] = scratch[:length]
        n += length
        ends[i + 1] = n
    return out[:n], ends
