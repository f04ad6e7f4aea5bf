"""Where a text is cut into pieces, each long enough to tell its language: UTF-8 in, places and letters out.

A piece begins where the one before it ends, or further on: the caller says how many pieces are enough, and of a text
that has more the first is cut at its beginning, the others no earlier than their even share of the way. So the work on
a document has a bound, and a short one is read whole. `languages/shares.py` says what is made of pieces.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import borrowing, compiled
from marco_data.kernels.prepare import Bytes, decode, end_of_head
from marco_data.kernels.unicode_tables import LETTER_OR_MARK, WHITE, Tables

Numbers = npt.NDArray[np.int64]

LEAST, ENOUGH, MOST, MOST_BYTES = 60, 80, 100, 240
"""A piece ends with a line or a sentence at a size of LEAST, with a word at ENOUGH, anywhere at MOST or after so many
bytes. Its size is its letters and marks, those of Chinese, Japanese and Korean (from EAST on) threefold: so much more
is said by each."""

EAST = 0x2E80

SENTENCE_ENDS = ".!?\u0589\u06d4\u0964\u1362\u104b\u17d4\u3002\uff01\uff1f\uff0e"
"""Full stops, exclamation and question marks of our languages' scripts."""

_ENDS = tuple(map(ord, SENTENCE_ENDS))
_NEAR = 32  # bytes in which a piece that is not the first looks for the end of a word


class Pieces(NamedTuple):
    """A row a piece: data[start:stop] of text number `text`."""

    text: Numbers
    start: Numbers
    stop: Numbers
    size: Numbers
    stands_for: Numbers  # letters up to where the next piece begins, had all of it as many as the piece


@borrowing
def _place(data: Bytes, at: int, stop: int) -> int:
    """The first place from `at` on where a piece may begin: white space that is near, else a character."""
    for place in range(at, min(at + _NEAR, stop)):
        if data[place] <= 0x20:
            return place
    while at < stop and data[at] & 0xC0 == 0x80:
        at += 1
    return at


@borrowing
def _end(data: Bytes, at: int, stop: int, tables: Tables) -> tuple[int, int, int]:
    """(where the piece that begins at `at` ends, its letters, its size)."""
    flags = tables.flags
    letters, size, longest = 0, 0, at + MOST_BYTES
    while at < stop and at < longest and size < MOST:
        point, at = decode(data, at)
        if flags[point] & LETTER_OR_MARK:
            letters += 1
            size += 3 if point >= EAST else 1
        elif size >= LEAST and (point == 0x0A or point in _ENDS or (size >= ENOUGH and flags[point] & WHITE)):
            break
    return at, letters, size


@compiled
def cut(data: Bytes, offsets: Numbers, characters: int, most: int, tables: Tables) -> Pieces:
    """At most `most` pieces of the first `characters` characters of each text, in order.

    Text i is data[offsets[i]:offsets[i + 1]]. What has no letter is no piece; what is smaller than LEAST is joined to
    the piece that it follows without a gap.
    """
    room = most * (len(offsets) - 1)
    text, start, stop = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    sizes, stands_for = np.empty(room, np.int64), np.empty(room, np.int64)
    n = 0
    for i in range(len(offsets) - 1):
        first, at, last = n, offsets[i], end_of_head(data, offsets[i], offsets[i + 1], characters)
        for piece in range(most):
            if at >= last:
                break
            end, letters, size = _end(data, at, last, tables)
            then = offsets[i] + (last - offsets[i]) * (piece + 1) // most
            then = end if then <= end else _place(data, then, last)
            if letters:
                if size >= LEAST or n == first or stop[n - 1] != at:
                    text[n], start[n], sizes[n], stands_for[n] = i, at, 0, 0
                    n += 1
                stop[n - 1] = end
                sizes[n - 1] += size
                stands_for[n - 1] += letters * (then - at) // (end - at)
            at = then
    return Pieces(text[:n], start[:n], stop[:n], sizes[:n], stands_for[:n])
