"""Where texts of an index come back in documents: units of text and their hashes in, runs of equal units out.

A unit is a word (a run of letters or of digits), or in a script written without spaces one character with its marks;
case, width, punctuation and space are gone, digits are those of ASCII, and a comma or stop between two digits is no
unit's end. So what was punctuated, spaced or broken into lines anew has the same units, and no language need be known.

A unit has a weight, six for a word and less for a number, and a window is the shortest stretch of units from a given
one on that weighs enough: n words, or more characters. Windows find; unit by unit comparison decides how far two texts
are the same. A number in the place of another number does not end a run, and is counted.
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from marco_data.kernels.characters import code_point, width
from marco_data.kernels.compiled import borrowing, compiled
from marco_data.kernels.memory import Bytes

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Units = npt.NDArray[np.uint8]

WORD, CHARACTER, SYLLABLE, NUMERAL = 6, 3, 2, 2
"""Weights: a word of English is about two characters of Chinese, three syllables (letters with their marks) of Thai;
rows of numbers are alike by chance."""
WEIGHT, NUMBER, COUNTED = 15, 16, 32
"""Of a unit's byte: its weight; whether it is a number; in an index, whether it counts as evidence."""

MOST_RUNS = 1 << 16
"""Runs of one document: enough for a whole benchmark, a bound for rows of numbers that are alike everywhere."""

_LETTER, _DIGIT, _MARK, _DROPPED, _STOP = 1, 2, 3, 4, 5  # CHARACTER and SYLLABLE are shifted beside them
_KIND, _HEAVY = 21, 24  # bits: where the kind begins, and the weight of one that is a unit of its own
_CODE = (1 << _KIND) - 1
_BASE = np.uint64(0x9E3779B97F4A7C15)
_HAN_KANA = regex.compile(r"[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}]")
_UNSPACED = regex.compile(r"[\p{LB=SA}\p{Script=Tibetan}]")
# Vowel points and the stretch of Arabic and Hebrew, which one copy has and another has not; what is not seen.
_NOT_WRITTEN = regex.compile(r"[\u0591-\u05c7\u0640\u064b-\u065f\u0670\u00ad\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]")
_BETWEEN_DIGITS = ".,'\u2019\u066b\u066c"


@cache
def character_kinds() -> npt.NDArray[np.uint32]:
    """For each code point: what it is folded to (21 bits), its kind, and its weight where it is a unit of its own."""
    table = np.zeros(0x110000, np.uint32)
    for point in (*range(0xD800), *range(0xE000, 0x34000)):
        written = chr(point)
        category = unicodedata.category(written)
        if category[0] not in "LMN" and written not in _BETWEEN_DIGITS and not _NOT_WRITTEN.match(written):
            continue
        table[point] = _described(written, category)
    return table


def _described(written: str, category: str) -> int:
    if _NOT_WRITTEN.match(written):
        return _DROPPED << _KIND
    if written in _BETWEEN_DIGITS:
        return _STOP << _KIND
    if category[0] == "M":
        return _MARK << _KIND | ord(written)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", written).casefold())[:1] or written
    digit = unicodedata.digit(folded, None)
    if digit is not None:
        return _DIGIT << _KIND | ord(str(digit))
    heavy = CHARACTER if _HAN_KANA.match(folded) else SYLLABLE if _UNSPACED.match(folded) else 0
    kind = _DIGIT if unicodedata.category(folded)[0] == "N" and not heavy else _LETTER
    return heavy << _HEAVY | kind << _KIND | ord(folded)


class UnitsOf(NamedTuple):
    """The units of texts: hash, first byte, end, weight and NUMBER; those of text i are first[i] to first[i + 1]."""

    keys: Keys
    starts: Places
    ends: Places
    kinds: Units
    first: Offsets


class Grams(NamedTuple):
    """What `find_runs` looks windows up in: arrays of an index, see `marco_data.benchmark_index`."""

    keys: Keys  # of windows, ascending
    directory: npt.NDArray[np.uint32]  # by the upper bits of a key: where in `keys` those begin
    postings: Offsets  # window k is at the places postings[k]:postings[k + 1]
    place_text: Places
    place_unit: Offsets  # in `units`
    units: Keys  # of all texts
    kinds: Units
    first: Offsets  # of each text in `units`


class Runs(NamedTuple):
    """Stretches of equal units, places counted from the document's and the text's own beginning."""

    document: Places
    text: Places
    at: Places  # in the text
    start: Places  # in the document
    length: Places
    same_numbers: Places
    other_numbers: Places


@borrowing
def mixed(h: np.uint64) -> np.uint64:
    h ^= h >> np.uint64(30)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@compiled
def find_units(data: Bytes, offsets: Offsets, table: npt.NDArray[np.uint32]) -> UnitsOf:
    """The units of the texts data[offsets[i]:offsets[i + 1]]; bytes are counted from each text's beginning."""
    most = offsets[-1] - offsets[0]
    keys, kinds = np.empty(most, np.uint64), np.empty(most, np.uint8)
    starts, ends = np.empty(most, np.int32), np.empty(most, np.int32)
    first = np.zeros(len(offsets), np.int64)
    n = 0
    for i in range(len(offsets) - 1):
        at, stop, zero = offsets[i], offsets[i + 1], offsets[i]
        last = np.int64(0)  # the kind of the unit that is open, 0 for none
        h = np.uint64(0)
        while at < stop:
            entry = np.int64(table[code_point(data, at)])
            behind = at + width(data[at])
            kind = (entry >> _KIND) & 7
            if kind == _DROPPED:
                at = behind
                continue
            if kind == _STOP and last == _DIGIT and behind < stop:
                following = np.int64(table[code_point(data, behind)])
                if (following >> _KIND) & 7 == _DIGIT:
                    at = behind
                    continue
            if kind in (_LETTER, _DIGIT):
                heavy = entry >> _HEAVY
                if heavy or kind != last:
                    if last:
                        keys[n - 1] = mixed(h)
                    h = np.uint64(0x51ED270B)
                    starts[n] = at - zero
                    kinds[n] = heavy if heavy else WORD if kind == _LETTER else NUMERAL | NUMBER
                    n += 1
                last = np.int64(8) if heavy else kind
                h = (h ^ np.uint64(entry & _CODE)) * _BASE
                h ^= h >> np.uint64(29)
                ends[n - 1] = behind - zero
            elif kind == _MARK and last:
                h = (h ^ np.uint64(entry & _CODE)) * _BASE
                h ^= h >> np.uint64(29)
                ends[n - 1] = behind - zero
            elif last:
                keys[n - 1] = mixed(h)
                last = np.int64(0)
            at = behind
        if last:
            keys[n - 1] = mixed(h)
        first[i + 1] = n
    return UnitsOf(keys[:n], starts[:n], ends[:n], kinds[:n], first)


@compiled
def window_ends(kinds: Units, a: int, b: int, weight: int) -> Places:
    """For each unit of a:b how many units the window has that begins with it; 0 where the text ends too soon."""
    sizes = np.zeros(b - a, np.int32)
    j, sum = a, 0
    for i in range(a, b):
        while j < b and sum < weight:
            sum += kinds[j] & WEIGHT
            j += 1
        if sum < weight:
            break
        sizes[i - a] = j - i
        sum -= kinds[i] & WEIGHT
    return sizes


@compiled
def window_keys(keys: Keys, a: int, sizes: Places) -> Keys:
    """The hash of each window of keys[a:]; of one that is no window it means nothing."""
    out = np.zeros(len(sizes), np.uint64)
    powers = np.ones(4 * WORD * WORD, np.uint64)  # no window has more units: at most weight / SYLLABLE
    for i in range(1, len(powers)):
        powers[i] = powers[i - 1] * _BASE
    h = np.uint64(0)
    end = a
    for i in range(len(sizes)):
        if sizes[i] == 0:
            break
        while end < a + i + sizes[i]:
            h = h * _BASE + keys[end]
            end += 1
        out[i] = mixed(h)
        h -= keys[a + i] * powers[sizes[i] - 1]
    return out


@borrowing
def _bits(entries: int) -> int:
    """A directory has two to the power of this entries, and one for its end."""
    bits = 0
    while (1 << bits) < entries - 1:
        bits += 1
    return bits


@compiled
def find_runs(units: UnitsOf, grams: Grams, weights: Places) -> Runs:
    """Every longest run of equal units around a window that document and index share.

    A document's first MOST_RUNS are given. `weights` are those of the two kinds of windows. The second, smaller one
    begins texts that have no window of the first kind: of those only the whole counts.
    """
    rows = np.empty((64, 7), np.int32)
    n = 0
    shift = np.uint64(64 - _bits(len(grams.directory)))
    for d in range(len(units.first) - 1):
        a, b = units.first[d], units.first[d + 1]
        begin = n
        for whole in range(2):
            sizes = window_ends(units.kinds, a, b, weights[whole])
            keys = window_keys(units.keys, a, sizes)
            for i in range(b - a):
                if sizes[i] == 0 or n - begin >= MOST_RUNS:
                    break
                key = keys[i]
                bucket = np.int64(key >> shift)
                k, last = np.int64(grams.directory[bucket]), np.int64(grams.directory[bucket + 1])
                while k < last and grams.keys[k] != key:
                    k += 1
                if k == last:
                    continue
                for p in range(grams.postings[k], grams.postings[k + 1]):
                    text, place = grams.place_text[p], grams.place_unit[p]
                    at = place - grams.first[text]
                    if _is_known(rows, begin, n, text, at, i):
                        continue
                    if n == len(rows):
                        rows = np.concatenate((rows, np.empty_like(rows)))
                    rows[n, 0], rows[n, 1] = d, text
                    _extend(units, a, b, grams, a + i, place, sizes[i], rows[n])
                    if whole and (rows[n, 6] or rows[n, 4] < grams.first[text + 1] - grams.first[text]):
                        continue
                    n += rows[n, 4] > 0
    out = rows[:n]
    return Runs(out[:, 0], out[:, 1], out[:, 2], out[:, 3], out[:, 4], out[:, 5], out[:, 6])


@borrowing
def _is_known(rows: npt.NDArray[np.int32], begin: int, n: int, text: int, at: int, i: int) -> bool:
    """Whether one of the latest runs of this document already holds this place of this text.

    Sixty-four are looked at: windows that are in more than a few texts are not in an index.
    """
    for r in range(n - 1, max(begin, n - 64) - 1, -1):
        if rows[r, 1] == text and rows[r, 3] - rows[r, 2] == i - at and rows[r, 3] <= i < rows[r, 3] + rows[r, 4]:
            return True
    return False


@borrowing
def _extend(
    units: UnitsOf, a: int, b: int, grams: Grams, here: int, there: int, size: int, row: npt.NDArray[np.int32]
) -> None:
    """Writes the longest run around `size` equal units at `here` and `there`; none where their hash was a chance."""
    start, stop = grams.first[row[1]], grams.first[row[1] + 1]
    row[4] = 0
    for i in range(size):
        if there + i >= stop or units.keys[here + i] != grams.units[there + i]:
            return
    same = other = 0
    i = 0
    low, high = 0, size
    while here + i > a and there + i > start:
        i -= 1
        if units.keys[here + i] == grams.units[there + i]:
            low = i
        elif units.kinds[here + i] & grams.kinds[there + i] & NUMBER:
            other += 1
        else:
            break
    i = size
    while here + i < b and there + i < stop:
        if units.keys[here + i] == grams.units[there + i]:
            high = i + 1
        elif units.kinds[here + i] & grams.kinds[there + i] & NUMBER:
            other += 1
        else:
            break
        i += 1
    for i in range(low, high):
        same += (grams.kinds[there + i] & NUMBER > 0) & (units.keys[here + i] == grams.units[there + i])
    row[2], row[3], row[4] = there + low - start, here + low - a, high - low
    row[5], row[6] = same, other
