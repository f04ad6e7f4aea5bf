"""The quality figures of many texts at once: texts and where their words are in, a row of figures a text out.

In: the UTF-8 bytes of a batch's texts, their words (`kernels.words`), the table of `characters` and the stop words.
Out: float64[texts, 22], unrounded, in the order of `marco_data.quality_metrics`, which is the specification: every
figure is exactly its own, for what is equal by its hash is compared before it counts as equal.

The words of a text are copied beside each other, without what lay between them: a word is read eight bytes at a time
then, and a duplicate n-gram, which is equal wherever its spaces are, is equal bytes. An n-gram that occurs twice
begins with a shorter one that does, and so with equal bytes: most are never looked up.

Linear in the text: each text's tables are as large as its words or lines ask for, and are cleared for it.
"""

from typing import NamedTuple

import numpy as np

from marco_data.kernels.characters import ALPHABETIC, SYMBOL, Table, code_point, width
from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.lines import (
    Figures,
    Wide,
    count,
    count_characters,
    count_ellipses,
    line_room,
    measure_line_marks,
    measure_lines,
    ratio,
)
from marco_data.kernels.memory import SLACK, Bytes, copy, eight, int64, item, same_word, slots_for
from marco_data.kernels.words import NEWLINE, Offsets, Places, Seen

METRICS = 22
_LEAST_TOP, _MOST_TOP, _LEAST_DUPLICATE, _MOST_DUPLICATE = 2, 4, 5, 10
_BASE = np.uint64(0x9E3779B185EBCA87)
_LOW = np.uint64(0x0101010101010101)
_HASH = 0x23
_MOST_PREFIX = 64  # bytes
_LONGER = 7  # words, from which on an n-gram is asked for a prefix half as long again
_MARKS = 4  # for each slot of a table, so eight or more for each place: few are kept by chance


class StopWords(NamedTuple):
    """Words as the kernel looks them up: utf8[starts[i]:ends[i]], and a table of them."""

    slots: Places  # open addressing: 0, or 1 + the number of a word
    starts: Places
    ends: Places
    utf8: Bytes


class Room(NamedTuple):
    """What one text needs beside its words: made once, for the largest text of a batch."""

    joined: Bytes  # the words, one after the other
    begins: Places  # of each word, in `joined`
    behind: Places  # of each word: the characters of all words before it
    ids: Places  # of each word: the number of the distinct word
    grams: Places  # of each word: the number of the n-gram that begins with it, -1 for one that occurs once
    places: Places  # of words whose n-grams may occur twice
    pending: Wide  # of each place: the key of what begins there
    slots: Places  # open addressing: 0, or 1 + the number of an entry
    keys: Wide  # of each entry
    first: Places  # of each entry: the word it was met at first
    counts: Places  # of each entry
    lengths: Places  # of each distinct word: its characters
    symbols: Bytes  # of each distinct word: whether it is of symbols only
    marks: Bytes  # how many places have a prefix of this hash: 0, 1 or more


def stop_word_set(words: list[bytes]) -> StopWords:
    """`words` as the kernel wants them."""
    ends = np.cumsum([len(word) for word in words], dtype=np.int32)
    starts = np.array([0, *ends[:-1]], np.int32)[: len(words)]
    utf8 = np.frombuffer(b"".join(words) + bytes(SLACK), np.uint8)
    return StopWords(_stop_word_slots(utf8, starts, ends), starts, ends, utf8)


@compiled
def _stop_word_slots(utf8: Bytes, starts: Places, ends: Places) -> Places:
    slots = np.zeros(4 * slots_for(len(starts)), np.int32)  # most words are none: an empty slot says so at once
    for i in range(len(starts)):
        slot = _slot(hash_of(utf8, starts[i], ends[i]), len(slots) - 1)
        while slots[slot]:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = i + 1
    return slots


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
    longest = most_words = most_lines = 0
    for i in range(texts):
        longest = max(longest, offsets[i + 1] - offsets[i])
        most_words = max(most_words, first[i + 1] - first[i])
        most_lines = max(most_lines, 1 + count(data, offsets[i], offsets[i + 1], NEWLINE))
    lines, room = line_room(most_lines), _room(longest, most_words)
    for i in range(texts):
        start, stop = offsets[i], offsets[i + 1]
        characters = count_characters(data, start, stop)
        new_lines = count(data, start, stop, NEWLINE)
        row = out[i]
        measure_lines(data, start, stop, characters, new_lines, short_line, table, lines, row)
        measure_line_marks(data, start, stop, table, row)
        a, b = first[i], first[i + 1]
        _join(data, starts[a:b], ends[a:b], room)
        _measure_words(seen[a:b], table, stop_words, room, row)
        _measure_top_grams(b - a, characters, room, row)
        _measure_duplicate_grams(b - a, characters, room, row)
        row[13] = ratio(new_lines, b - a)
        row[16] = ratio(count(data, start, stop, _HASH), b - a)
        row[17] = ratio(count_ellipses(data, start, stop), b - a)
    return out


@compiled
def _room(longest: int, n: int) -> Room:
    return Room(
        np.zeros(longest + 2 * _MOST_PREFIX + SLACK, np.uint8),
        np.empty(n + 1, np.int32),
        np.empty(n + 1, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.uint64),
        np.zeros(slots_for(n), np.int32),
        np.empty(n, np.uint64),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
        np.empty(n, np.uint8),
        np.empty(_MARKS * slots_for(n), np.uint8),
    )


@inlined
def hash_of(data: Bytes, start: int, end: int) -> np.uint64:
    """A hash of data[start:end], at least a byte; SLACK bytes behind it must exist."""
    h: np.uint64 = np.uint64(end - start)
    while end - start > 8:
        h = (h ^ eight(data, start)) * _BASE
        h ^= h >> np.uint64(32)
        start += 8
    h = (h ^ eight(data, start) << np.uint64(64 - 8 * (end - start))) * _BASE
    hashed: np.uint64 = h ^ h >> np.uint64(32)
    return hashed


@inlined
def _slot(key: np.uint64, mask: int) -> int:
    slot: int = int64((key * _BASE) >> np.uint64(32)) & mask
    return slot


@borrowing
def _join(data: Bytes, starts: Places, ends: Places, room: Room) -> None:
    """Copies the words beside each other."""
    joined, begins = room.joined, room.begins
    to = 0
    for i in range(len(starts)):
        begins[i] = to
        to = copy(data, int64(starts[i]), int64(ends[i]), joined, to)
    begins[len(starts)] = to


@borrowing
def _measure_words(seen: Seen, table: Table, stop_words: StopWords, room: Room, row: Figures) -> None:
    """words, word_length, alphabetic_words, stop_words; numbers and counts the distinct words for the n-grams."""
    ids, behind, words = room.ids, room.behind, len(seen)
    distinct = _number_words(words, room)
    _describe(distinct, table, room)
    symbols = symbol_characters = alphabetic = characters = 0
    for i in range(words):
        behind[i] = characters
        size, symbol = int64(item(room.lengths, ids[i])), int64(item(room.symbols, ids[i]))
        characters += size
        symbols += symbol
        symbol_characters += size * symbol
        alphabetic += (item(seen, i) & ALPHABETIC) != 0
    behind[words] = characters
    real = words - symbols
    row[14], row[15] = real, ratio(characters - symbol_characters, real)
    row[20], row[21] = ratio(alphabetic, words), _count_stop_words(distinct, stop_words, room)


@borrowing
def _number_words(words: int, room: Room) -> int:
    """Numbers the distinct words in the order of their first places, and counts each; how many they are."""
    joined, begins, ids = room.joined, room.begins, room.ids
    slots, keys, first, counts = room.slots, room.keys, room.first, room.counts
    mask = slots_for(words) - 1
    slots[: mask + 1] = 0
    distinct = 0
    for i in range(words):
        at, end = int64(item(begins, i)), int64(item(begins, i + 1))
        key = hash_of(joined, at, end)
        slot = _slot(key, mask)
        entry = int64(item(slots, slot)) - 1
        while entry >= 0:
            if item(keys, entry) == key:
                met = int64(item(first, entry))
                size = item(begins, met + 1) - item(begins, met)
                if size == end - at and same_word(joined, item(begins, met), at, size):
                    break
            slot = (slot + 1) & mask
            entry = int64(item(slots, slot)) - 1
        if entry < 0:
            entry, distinct = distinct, distinct + 1
            slots[slot] = distinct
            keys[entry], first[entry], counts[entry] = key, i, 0
        ids[i] = entry
        counts[entry] += 1
    return distinct


@borrowing
def _describe(distinct: int, table: Table, room: Room) -> None:
    """The characters of each distinct word, and whether all of them are symbols."""
    joined, begins, first, lengths, symbols = room.joined, room.begins, room.first, room.lengths, room.symbols
    for entry in range(distinct):
        at, end = int64(item(begins, first[entry])), int64(item(begins, first[entry] + 1))
        lengths[entry] = _characters(joined, at, end)
        while at < end and item(table, code_point(joined, at)) & SYMBOL:
            at += width(item(joined, at))
        symbols[entry] = at == end


@inlined
def _characters(joined: Bytes, at: int, end: int) -> int:
    """The characters of a word: its bytes but those that continue a character, of eight at a time."""
    n = end - at
    while at < end:
        x = eight(joined, at) << np.uint64(8 * max(0, 8 - end + at))
        n -= int64(((x >> np.uint64(7)) & ~(x >> np.uint64(6)) & _LOW) * _LOW >> np.uint64(56))
        at += 8
    return n


@borrowing
def _count_stop_words(distinct: int, words: StopWords, room: Room) -> int:
    joined, begins, first, keys = room.joined, room.begins, room.first, room.keys
    slots, starts, ends, utf8 = words.slots, words.starts, words.ends, words.utf8
    mask = len(slots) - 1
    found = 0
    for entry in range(distinct):
        at, end = int64(item(begins, first[entry])), int64(item(begins, first[entry] + 1))
        slot = _slot(item(keys, entry), mask)
        while item(slots, slot):
            i = int64(item(slots, slot)) - 1
            if item(ends, i) - item(starts, i) == end - at:
                k = 0
                while k < end - at and item(utf8, starts[i] + k) == item(joined, at + k):
                    k += 1
                found += k == end - at
            slot = (slot + 1) & mask
    return found


@borrowing
def _measure_top_grams(words: int, characters: int, room: Room, row: Figures) -> None:
    """top_n_gram: an n-gram is the (n-1)-gram that begins it and a last word, so a pair of numbers.

    One that occurs twice begins and ends with an (n-1)-gram that does. Without any, the first one is the commonest.
    """
    ids, grams, behind = room.ids, room.grams, room.behind
    places, pending, slots, keys = room.places, room.pending, room.slots, room.keys
    first, counts = room.first, room.counts
    for i in range(words):
        grams[i] = ids[i] if item(counts, ids[i]) > 1 else -1
    for n in range(_LEAST_TOP, min(_MOST_TOP, words) + 1):
        found = 0
        for i in range(words - n + 1):
            places[found] = i
            pending[found] = np.uint64(grams[i]) << np.uint64(32) | np.uint64(ids[i + n - 1])
            found += (grams[i] >= 0) & (grams[i + 1] >= 0)
        mask = slots_for(found) - 1
        slots[: mask + 1] = 0
        grams[:words] = -1
        distinct = most = 0
        for k in range(found):
            key = item(pending, k)
            slot = _slot(key, mask)
            entry = int64(item(slots, slot)) - 1
            while entry >= 0 and item(keys, entry) != key:
                slot = (slot + 1) & mask
                entry = int64(item(slots, slot)) - 1
            if entry < 0:
                entry, distinct = distinct, distinct + 1
                slots[slot] = distinct
                keys[entry], first[entry], counts[entry] = key, places[k], 0
            counts[entry] += 1
            grams[places[k]] = entry
        for k in range(found):
            entry = int64(grams[places[k]])
            grams[places[k]] = entry if item(counts, entry) > 1 else -1
        for entry in range(1, distinct):
            if counts[entry] > counts[most]:
                most = entry
        repeats = distinct > 0 and counts[most] > 1
        at, copies = (first[most], counts[most]) if repeats else (0, 1)
        row[n - 1] = ratio((behind[at + n] - behind[at] + n - 1) * copies, characters)


@borrowing
def _measure_duplicate_grams(words: int, characters: int, room: Room, row: Figures) -> None:
    """duplicate_n_grams: equal are n-grams whose words have the same characters, wherever the spaces are."""
    joined, begins, behind, places = room.joined, room.begins, room.behind, room.places
    slots, keys = room.slots, room.keys
    prefix = _prefix(words, room)
    found = _repeated_places(prefix, words, room)
    for n in range(_LEAST_DUPLICATE, min(_MOST_DUPLICATE, words) + 1):
        if n == _LONGER:
            found = _keep_alike(prefix // 16 * 24, n, words, found, room)
        mask = slots_for(found) - 1
        slots[: mask + 1] = 0
        repeated = following = 0
        for k in range(found):
            i = int64(item(places, k))
            if i < following or i + n > words:
                continue
            at, end = int64(item(begins, i)), int64(item(begins, i + n))
            key = hash_of(joined, at, end)
            slot = _slot(key, mask)
            met = int64(item(slots, slot)) - 1
            while met >= 0:
                if item(keys, met) == key:
                    a = int64(item(begins, item(places, met)))
                    b = int64(item(begins, item(places, met) + n))
                    if b - a == end - at and same_word(joined, a, at, end - at):
                        break
                slot = (slot + 1) & mask
                met = int64(item(slots, slot)) - 1
            if met >= 0:
                repeated += behind[i + n] - behind[i]
                following = i + n
            else:
                slots[slot], keys[k] = k + 1, key
        row[n - 1] = ratio(repeated, characters)


@borrowing
def _prefix(words: int, room: Room) -> int:
    """The bytes of three and a half words of this text, a multiple of eight: two equal n-grams begin with them, as far
    as the shorter of two reaches."""
    average: int = 8 * int64((7 * room.begins[words] + 8 * words) // (16 * max(1, words)))
    return min(_MOST_PREFIX, max(16, average))


@borrowing
def _repeated_places(prefix: int, words: int, room: Room) -> int:
    """Fills `places` with all that begin the same five or more words as another, and few others; how many."""
    found = max(0, words - _LEAST_DUPLICATE + 1)
    for i in range(found):
        room.places[i] = i
    found = _keep_alike(prefix // 16 * 8, _LEAST_DUPLICATE, words, found, room)
    return _keep_alike(prefix, _LEAST_DUPLICATE, words, found, room)


@borrowing
def _keep_alike(prefix: int, least: int, words: int, found: int, room: Room) -> int:
    """Keeps the places of n-grams of at least `least` words whose first `prefix` bytes may be another's too, or that
    may be of fewer bytes."""
    joined, begins, places, marks, hashes = room.joined, room.begins, room.places, room.marks, room.pending
    mask = _MARKS * slots_for(found) - 1
    marks[: mask + 1] = 0
    for k in range(found):
        at = int64(item(begins, item(places, k)))
        h = np.uint64(0)
        for shift in range(0, prefix, 8):
            h = (h ^ eight(joined, at + shift)) * _BASE
            h ^= h >> np.uint64(32)
        hashes[k] = h & np.uint64(mask)
        marks[hashes[k]] += item(marks, hashes[k]) < 2
    kept = 0
    for k in range(found):
        i = int64(item(places, k))
        places[kept] = i
        shorter = item(begins, min(i + least, words)) - item(begins, i) < prefix
        kept += shorter | (item(marks, hashes[k]) > 1)
    return kept
