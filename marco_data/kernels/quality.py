"""The quality figures of many texts at once: texts and where their words are in, a row of figures a text out.

In: the UTF-8 bytes of a batch's texts, the places of their words (`kernels.words`), the table of `characters` and
the stop words. Out: float64[texts, 22], unrounded, in the order of `marco_data.quality_metrics`, which is the
specification: every figure is exactly its own, for what is equal by its hash is compared before it counts as equal.

Linear in the text: each text's tables are as large as its words or lines ask for, and are cleared for it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.characters import ALPHABETIC, SPACE, SYMBOL, TERMINAL, Table, before, code_point, width
from marco_data.kernels.compiled import compiled
from marco_data.kernels.memory import Bytes
from marco_data.kernels.minhash import xxh64
from marco_data.kernels.words import NEWLINE, Offsets, Places, Seen

Figures = npt.NDArray[np.float64]
Wide = npt.NDArray[np.uint64]

METRICS = 22
_LEAST_TOP, _MOST_TOP, _LEAST_DUPLICATE, _MOST_DUPLICATE = 2, 4, 5, 10
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xC2B2AE3D27D4EB4F)
_IS_ALPHABETIC, _IS_SYMBOL = 1, 2
_HASH, _FULL_STOP, _DASH, _RETURN = 0x23, 0x2E, 0x2D, 0x0D


class StopWords(NamedTuple):
    """Words as the kernel looks them up: `hashes` ascend, and utf8[starts[i]:ends[i]] is the word of each."""

    hashes: Wide
    starts: Places
    ends: Places
    utf8: Bytes


class Room(NamedTuple):
    """What one text needs beside its words: made once, for the largest text of a batch."""

    slots: Places  # open addressing: 0, or 1 + the number of an entry
    keys: Wide  # of each entry
    first: Places  # of each entry: where it was met first
    counts: Places  # of each entry
    ids: Places  # of each word: the number of the distinct word
    grams: Places  # of each word: the number of the distinct n-gram that begins with it
    hashes: Wide  # of each word: of the characters of the n-gram that begins with it
    behind: Places  # of each word: the characters of all words before it
    word_hashes: Wide  # of each distinct word
    powers: Wide  # of each distinct word: _BASE to the power of its bytes
    lengths: Places  # of each distinct word: its characters
    kinds: Bytes  # of each distinct word


def stop_word_set(words: list[bytes]) -> StopWords:
    """`words` as the kernel wants them."""
    utf8 = np.frombuffer(b"".join(words), np.uint8)
    ends = np.cumsum([len(word) for word in words], dtype=np.int32)
    starts = np.array([0, *ends[:-1]], np.int32)[: len(words)]
    hashes = np.array([hash_and_power(utf8, a, b)[0] for a, b in zip(starts, ends, strict=True)], np.uint64)
    order = np.argsort(hashes)
    return StopWords(hashes[order], starts[order], ends[order], utf8)


@compiled
def measure(
    data: Bytes,
    offsets: Offsets,
    starts: Places,
    ends: Places,
    seen: Seen,
    first: Offsets,
    table: Table,
    stop_words: StopWords,
    short_line: int,
) -> Figures:
    """The figures of the texts data[offsets[i]:offsets[i + 1]], whose words are the first[i]-th to first[i + 1]-th.

    `short_line` is the length of a short line in characters.
    """
    texts = len(offsets) - 1
    out = np.zeros((texts, METRICS), np.float64)
    largest = 0
    for i in range(texts):
        lines = 1 + _count(data, offsets[i], offsets[i + 1], NEWLINE)
        largest = max(largest, lines, first[i + 1] - first[i])
    room = _room(largest)
    for i in range(texts):
        start, stop = offsets[i], offsets[i + 1]
        characters = _characters(data, start, stop)
        new_lines = _count(data, start, stop, NEWLINE)
        row = out[i]
        _measure_lines(data, start, stop, characters, new_lines, short_line, table, room, row)
        _measure_line_marks(data, start, stop, table, row)
        a, b = starts[first[i] : first[i + 1]], ends[first[i] : first[i + 1]]
        _measure_words(data, a, b, table, stop_words, room, row)
        _measure_top_grams(len(a), characters, room, row)
        _measure_duplicate_grams(data, a, b, characters, room, row)
        row[13] = _ratio(new_lines, len(a))
        row[16] = _ratio(_count(data, start, stop, _HASH), len(a))
        row[17] = _ratio(_ellipses(data, start, stop), len(a))
    return out


@compiled
def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@compiled
def _room(n: int) -> Room:
    return Room(
        np.zeros(_slots(n), np.int32),
        np.empty(n, np.uint64),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.uint64),
        np.empty(n + 1, np.int32),
        np.empty(n, np.uint64),
        np.empty(n, np.uint64),
        np.empty(n, np.int32),
        np.empty(n, np.uint8),
    )


@compiled
def _slots(n: int) -> int:
    """The slots that n entries ask for: a power of two, at most half of them taken."""
    slots = 8
    while slots < 2 * n:
        slots *= 2
    return slots


@compiled
def _count(data: Bytes, start: int, stop: int, byte: int) -> int:
    n = 0
    for i in range(start, stop):
        n += data[i] == byte
    return n


@compiled
def _characters(data: Bytes, start: int, stop: int) -> int:
    n = 0
    for i in range(start, stop):
        n += data[i] & 0xC0 != 0x80
    return n


@compiled
def _same(data: Bytes, a: int, b: int, size: int) -> bool:
    i = 0
    while i < size and data[a + i] == data[b + i]:
        i += 1
    return i == size


@compiled
def hash_and_power(data: Bytes, start: int, stop: int) -> tuple[np.uint64, np.uint64]:
    """(hash, power) of data[start:stop]; that of two stretches, joined, is hash * power of the second + its hash."""
    h, power = np.uint64(0), np.uint64(1)
    for i in range(start, stop):
        h = h * _BASE + np.uint64(data[i]) + np.uint64(1)
        power *= _BASE
    return h, power


@compiled
def _ellipses(data: Bytes, start: int, stop: int) -> int:
    """How often `...` (not overlapping) or `…` occurs."""
    n = stops = 0
    for i in range(start, stop):
        if data[i] == _FULL_STOP:
            stops += 1
            if stops == 3:
                n, stops = n + 1, 0
        else:
            stops = 0
            n += data[i] == 0xA6 and i - start >= 2 and data[i - 1] == 0x80 and data[i - 2] == 0xE2
    return n


@compiled
def _measure_lines(
    data: Bytes,
    start: int,
    stop: int,
    characters: int,
    new_lines: int,
    short_line: int,
    table: Table,
    room: Room,
    row: Figures,
) -> None:
    """duplicate_lines, line_punctuation, short_lines, duplicate_line_characters: of lines parted by line feeds.

    The first counts what lies between runs of line feeds, so an empty line only at either end of the text; the
    others count the lines that are not blank.
    """
    mask = _slots(new_lines + 1) - 1
    room.slots[: mask + 1] = 0
    parts = repeated = entries = full = ended = short = repeated_characters = 0
    at = start
    while at < stop:
        end = at
        while end < stop and data[end] != NEWLINE:
            end += 1
        if end > at:
            parts += 1
            known, entries = _find_line(data, at, end, mask, entries, room)
            repeated += known
            if not _is_blank(data, at, end, table):
                size = _characters(data, at, end)
                full += 1
                short += size <= short_line
                ended += (table[code_point(data, before(data, end))] & TERMINAL) != 0
                repeated_characters += size * known
        at = end + 1
    if stop > start:
        edges = (1 if data[start] == NEWLINE else 0) + (1 if data[stop - 1] == NEWLINE else 0)
        row[0] = _ratio(repeated + (edges == 2), parts + edges)
    row[10], row[11] = _ratio(ended, full), _ratio(short, full)
    row[12] = _ratio(repeated_characters, characters - new_lines)


@compiled
def _find_line(data: Bytes, at: int, end: int, mask: int, entries: int, room: Room) -> tuple[int, int]:
    """(1 if this line was met before, distinct lines with it)."""
    key = xxh64(data, at, end)
    slot = np.int64(key & np.uint64(mask))
    while room.slots[slot]:
        entry = room.slots[slot] - 1
        if room.keys[entry] == key and room.counts[entry] == end - at and _same(data, room.first[entry], at, end - at):
            return 1, entries
        slot = (slot + 1) & mask
    room.slots[slot] = entries + 1
    room.keys[entries], room.first[entries], room.counts[entries] = key, at, end - at
    return 0, entries + 1


@compiled
def _is_blank(data: Bytes, at: int, end: int, table: Table) -> bool:
    while at < end:
        if not table[code_point(data, at)] & SPACE:
            return False
        at += width(data[at])
    return True


@compiled
def _measure_line_marks(data: Bytes, start: int, stop: int, table: Table, row: Figures) -> None:
    """bullet_lines, ellipsis_lines: of the lines of `str.splitlines`."""
    lines = bullets = ellipses = 0
    at = start
    while at < stop:
        end = at
        size = 0
        while end < stop:
            if data[end] < 0x20 or data[end] == 0xC2 or data[end] == 0xE2:  # with one of these a line break begins
                size = _line_break(data, end, stop)
                if size:
                    break
            end += 1
        lines += 1
        bullets += _begins_with_bullet(data, at, end, table)
        ellipses += _ends_with_ellipsis(data, at, end, table)
        at = end + max(size, 1)
    row[18], row[19] = _ratio(bullets, lines), _ratio(ellipses, lines)


@compiled
def _line_break(data: Bytes, at: int, stop: int) -> int:
    """The bytes of the line break at `at`, 0 if there is none."""
    byte = data[at]
    if byte < 0x20:
        if byte == _RETURN:
            return 2 if at + 1 < stop and data[at + 1] == NEWLINE else 1
        return 1 if NEWLINE <= byte < _RETURN or 0x1C <= byte <= 0x1E else 0
    if byte == 0xC2:
        return 2 if data[at + 1] == 0x85 else 0
    if byte == 0xE2 and data[at + 1] == 0x80 and (data[at + 2] == 0xA8 or data[at + 2] == 0xA9):
        return 3
    return 0


@compiled
def _begins_with_bullet(data: Bytes, at: int, end: int, table: Table) -> bool:
    while at < end and table[code_point(data, at)] & SPACE:
        at += width(data[at])
    return at < end and (data[at] == _DASH or code_point(data, at) == 0x2022)


@compiled
def _ends_with_ellipsis(data: Bytes, at: int, end: int, table: Table) -> bool:
    while at < end:
        last = before(data, end)
        if not table[code_point(data, last)] & SPACE:
            if data[last] == _FULL_STOP:
                return bool(end - at >= 3 and data[end - 2] == _FULL_STOP and data[end - 3] == _FULL_STOP)
            return bool(code_point(data, last) == 0x2026)
        end = last
    return False


@compiled
def _measure_words(
    data: Bytes, starts: Places, ends: Places, table: Table, stop_words: StopWords, room: Room, row: Figures
) -> None:
    """words, word_length, alphabetic_words, stop_words; numbers the distinct words for the n-grams to come."""
    mask = _slots(len(starts)) - 1
    room.slots[: mask + 1] = 0
    real = real_characters = alphabetic = stopping = distinct = characters = 0
    for i in range(len(starts)):
        at, end = starts[i], ends[i]
        h, power = hash_and_power(data, at, end)
        slot = np.int64((h * _SPREAD) >> np.uint64(32)) & mask
        entry = room.slots[slot] - 1
        while entry >= 0:
            met, size = room.first[entry], room.counts[entry]
            if room.word_hashes[entry] == h and size == end - at and _same(data, met, at, size):
                break
            slot = (slot + 1) & mask
            entry = room.slots[slot] - 1
        if entry < 0:
            entry, distinct = distinct, distinct + 1
            room.slots[slot] = distinct
            room.word_hashes[entry], room.powers[entry] = h, power
            room.first[entry], room.counts[entry] = at, end - at
            room.lengths[entry], room.kinds[entry] = _describe(data, at, end, table)
            stopping += _is_stop_word(data, at, end, h, stop_words)
        room.ids[i], room.grams[i], room.hashes[i] = entry, entry, h
        room.behind[i] = characters
        size, kind = room.lengths[entry], room.kinds[entry]
        characters += size
        alphabetic += kind & _IS_ALPHABETIC
        if not kind & _IS_SYMBOL:
            real += 1
            real_characters += size
    room.behind[len(starts)] = characters
    row[14], row[15] = real, _ratio(real_characters, real)
    row[20], row[21] = _ratio(alphabetic, len(starts)), stopping


@compiled
def _describe(data: Bytes, at: int, end: int, table: Table) -> tuple[int, int]:
    """(characters, kind) of a word."""
    size, some, every = 0, np.int64(0), np.int64(0xFFFF)
    while at < end:
        entry = np.int64(table[code_point(data, at)])
        some |= entry
        every &= entry
        size += 1
        at += width(data[at])
    return size, _IS_ALPHABETIC * ((some & ALPHABETIC) != 0) + _IS_SYMBOL * ((every & SYMBOL) != 0)


@compiled
def _is_stop_word(data: Bytes, at: int, end: int, h: np.uint64, words: StopWords) -> bool:
    i = np.searchsorted(words.hashes, h)
    while i < len(words.hashes) and words.hashes[i] == h:
        if words.ends[i] - words.starts[i] == end - at:
            same = True
            for k in range(end - at):
                same &= words.utf8[words.starts[i] + k] == data[at + k]
            if same:
                return True
        i += 1
    return False


@compiled
def _measure_top_grams(words: int, characters: int, room: Room, row: Figures) -> None:
    """top_n_gram: an n-gram is the (n-1)-gram that begins it and a last word, so a pair of numbers."""
    mask = _slots(words) - 1
    for n in range(_LEAST_TOP, min(_MOST_TOP, words) + 1):
        room.slots[: mask + 1] = 0
        distinct = most = 0
        for i in range(words - n + 1):
            key = np.uint64(room.grams[i]) << np.uint64(32) | np.uint64(room.ids[i + n - 1])
            slot = np.int64((key * _BASE) >> np.uint64(32)) & mask
            entry = room.slots[slot] - 1
            while entry >= 0 and room.keys[entry] != key:
                slot = (slot + 1) & mask
                entry = room.slots[slot] - 1
            if entry < 0:
                entry, distinct = distinct, distinct + 1
                room.slots[slot] = distinct
                room.keys[entry], room.first[entry], room.counts[entry] = key, i, 0
            room.counts[entry] += 1
            room.grams[i] = entry
        for entry in range(1, distinct):
            if room.counts[entry] > room.counts[most]:
                most = entry
        at = room.first[most]
        size = room.behind[at + n] - room.behind[at] + n - 1
        row[n - 1] = _ratio(size * room.counts[most], characters)


@compiled
def _measure_duplicate_grams(
    data: Bytes, starts: Places, ends: Places, characters: int, room: Room, row: Figures
) -> None:
    """duplicate_n_grams: equal are n-grams whose words have the same characters, wherever the spaces are."""
    words = len(starts)
    mask = _slots(words) - 1
    hashes, ids, slots = room.hashes, room.ids, room.slots
    for n in range(2, min(_MOST_DUPLICATE, words) + 1):
        for i in range(words - n + 1):
            last = ids[i + n - 1]
            hashes[i] = hashes[i] * room.powers[last] + room.word_hashes[last]
        if n < _LEAST_DUPLICATE:
            continue
        slots[: mask + 1] = 0
        repeated = i = 0
        while i + n <= words:
            key = hashes[i]
            slot = np.int64((key * _SPREAD) >> np.uint64(32)) & mask
            seen = slots[slot] - 1
            while seen >= 0 and not (hashes[seen] == key and _same_gram(data, starts, ends, ids, seen, i, n)):
                slot = (slot + 1) & mask
                seen = slots[slot] - 1
            if seen >= 0:
                repeated += room.behind[i + n] - room.behind[i]
                i += n
            else:
                slots[slot] = i + 1
                i += 1
        row[n - 1] = _ratio(repeated, characters)


@compiled
def _same_gram(data: Bytes, starts: Places, ends: Places, ids: Places, a: int, b: int, n: int) -> bool:
    """Whether the n words from the a-th have the same characters as those from the b-th."""
    k = 0
    while k < n and ids[a + k] == ids[b + k]:
        k += 1
    if k == n:
        return True
    left, right = a + k, b + k
    x, y = starts[left], starts[right]
    while True:
        if data[x] != data[y]:
            return False
        x, y = x + 1, y + 1
        if x == ends[left]:
            left += 1
            x = starts[left] if left < a + n else -1
        if y == ends[right]:
            right += 1
            y = starts[right] if right < b + n else -1
        if x < 0 or y < 0:
            return bool(x == y)
