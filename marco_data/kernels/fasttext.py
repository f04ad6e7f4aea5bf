"""What fastText's `predict` does, over a batch of texts: UTF-8 in, each text's likeliest label and probability out.

A text's vector is the mean of the rows of its words and of their character n-grams; a linear layer with a softmax, or
a tree of binary choices (hierarchical softmax), makes labels of it. The file is read by `languages/fasttext_file.py`.
The sums are fastText's in another order (by word, then by text, which is added up in 64 bits), so probabilities agree
to about 1e-4 and labels wherever two are not as good as equal.

Speed comes from `Cache`: what a word adds is computed once and kept, whole and compared byte by byte, so that what is
in the cache never shows in an answer. Memory is the model's and the cache's, whatever the texts are.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.memory import SLACK, add_eight, bring, copy, eight, item, put_eight
from marco_data.kernels.pieces import Pieces
from marco_data.kernels.prepare import LONGEST, Bytes, Points, decode, end_of_head, prepare, signed
from marco_data.kernels.unicode_tables import STRIPPED, Tables

Floats = npt.NDArray[np.float32]

SOFTMAX, HIERARCHICAL = 3, 1  # fastText's numbers of these losses

NO_LABEL = -1
"""The label of a text without a word."""

SAMPLED, SURE, ENOUGH = 1024, 0.7, 3
"""A text of more than SAMPLED bytes is its pieces' language if ENOUGH of them are SURE of it and none of another, see
`identify`. Bytes; a probability; pieces."""

_BELOW, _ABOVE = 0x3C, 0x3E  # < and > mark the ends of a word
_LEAST = 1e-5  # fastText adds it before it takes a logarithm
_NEGLIGIBLE = 20.0  # e^-20 is 2e-9, of a hundred labels 2e-7: nothing beside the rounding, and most labels
_END = np.uint64(0x3E732F3C)  # `</s>`, with which fastText's line ends
_EVERY = np.uint64(0xFFFFFFFFFFFFFFFF)
_LABEL = np.uint64(0x5F6C6562616C5F5F)  # the first eight bytes of `__label__`
_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_LINE = 64  # bytes of memory that come together
_UPPER = 0x7FFFFFFF  # of a hash, so that a slot is not negative
_CACHED = 24  # bytes of the longest word that is kept: three machine words, and 95 % of words in any spaced language


class Model(NamedTuple):
    """A fastText model as arrays."""

    dim: int
    min_n: int
    max_n: int
    bucket: int
    loss: int
    vocabulary: Bytes  # the words' bytes, one after the other
    word_at: npt.NDArray[np.int64]  # [words + 1]
    slots: npt.NDArray[np.int64]  # open addressing by FNV-1a: a word's hash above its number, -1 where empty
    end_of_line: int  # the number of "</s>", -1 where the vocabulary lacks it
    pruned: bool
    kept: npt.NDArray[np.uint64]  # of a pruned model: a bit for each bucket
    kept_before: npt.NDArray[np.int32]  # buckets kept before each 64
    rows: Floats  # [(words + buckets kept) * dim]
    output: Floats  # [labels or inner nodes, dim]
    by_number: Floats  # of a softmax: `output` the other way round
    left: npt.NDArray[np.int32]  # of the tree, [2 * labels - 1], -1 at a leaf
    right: npt.NDArray[np.int32]


Cache = Floats
"""What words add to a text's vector: one place for each word's hash, taken over by the last that wants it.

A place is _HEADER numbers, whose bits are the word's bytes, filled up with zeros, which no word holds, and how many
rows were summed; and the sum, filled up to a multiple of eight. So a word is one place of memory. The last place is
for words that are not kept.
"""

_HEADER, _COUNT = 8, 6
_KEY = 3  # times eight bytes
_AT_ONCE = 32  # words whose places are asked for together


@compiled
def width_of(dim: int) -> int:
    """The numbers of a place of the cache."""
    return _HEADER + (dim + 7) // 8 * 8


def new_cache(dim: int, most_bytes: int = 32 << 20) -> Cache:
    """An empty cache of about `most_bytes`, a power of two of places and the one for words that are not kept."""
    width = width_of(dim)
    places = 1 << max(0, (most_bytes // (4 * width)).bit_length() - 1)
    room = np.zeros((places + 1) * width + _LINE // 4, np.float32)
    start = -room.ctypes.data % _LINE // 4
    return room[start : start + (places + 1) * width]


Spans = npt.NDArray[np.int64]


class Room(NamedTuple):
    """What reading a text needs: made once, for the longest of a batch."""

    points: Points
    composed: Points
    line: Bytes
    marked: Bytes  # a word between its marks
    found: npt.NDArray[np.int32]  # rows of a word that are still to be added
    keys: npt.NDArray[np.uint64]  # the next words of a text as the cache knows them
    spans: Spans  # their places in the cache, and where they begin and end


@compiled
def _room(longest: int, prepared: bool, max_n: int) -> Room:
    """For texts of up to `longest` bytes; what stays untouched costs nothing."""
    points: Points = np.empty(2 * longest + 2 if prepared else 0, np.int32)
    composed: Points = np.empty(LONGEST * len(points), np.int32)
    line = np.empty(4 * len(composed), np.uint8)
    marked = np.empty(max(len(line), longest) + 2 + SLACK, np.uint8)
    found, keys, spans = (
        np.empty(256 + max_n, np.int32),
        np.empty((_AT_ONCE, _KEY), np.uint64),
        np.empty((_AT_ONCE, 3), np.int64),
    )
    return Room(points, composed, line, marked, found, keys, spans)


@inlined
def _hashed(h: np.uint32, byte: np.uint8) -> np.uint32:
    """A step of fastText's FNV-1a."""
    return np.uint32(np.uint32(h ^ np.uint32(np.int8(byte))) * np.uint32(16777619))


@inlined
def hash_of(data: Bytes, start: int, stop: int) -> np.uint32:
    """fastText's FNV-1a, which takes bytes for signed."""
    h = np.uint32(2166136261)
    for i in range(start, stop):
        h = _hashed(h, item(data, i))
    return h


@compiled
def slots_of(vocabulary: Bytes, word_at: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """The open-addressed table of a vocabulary; `size` is a power of two above its length."""
    slots = np.full(size, np.int64(-1), np.int64)
    for word in range(len(word_at) - 1):
        h = signed(hash_of(vocabulary, word_at[word], word_at[word + 1]))
        slot = h & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = (h & _UPPER) << 32 | word
    return slots


@inlined
def _word_number(
    text: Bytes, start: int, stop: int, vocabulary: Bytes, word_at: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]
) -> int:
    h, size = signed(hash_of(text, start, stop)), len(slots)
    slot = h & (size - 1)
    found = item(slots, slot)
    while found >= 0:
        word = found & 0xFFFFFFFF
        at = item(word_at, word)
        if found >> 32 == h & _UPPER and item(word_at, word + 1) - at == stop - start:
            i = 0
            while i < stop - start and item(vocabulary, at + i) == item(text, start + i):
                i += 1
            if i == stop - start:
                return signed(word)
        slot = (slot + 1) & (size - 1)
        found = item(slots, slot)
    return -1


@inlined
def _bits(x: np.uint64) -> int:
    x -= (x >> np.uint64(1)) & np.uint64(0x5555555555555555)
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return signed((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inlined
def _add_rows(found: npt.NDArray[np.int32], count: int, rows: Floats, dim: int, cache: Cache, to: int) -> None:
    """cache[to : to + dim] += rows of the input matrix, one after the other."""
    for i in range(count):
        at = signed(item(found, i)) * dim
        for k in range(0, dim - 7, 8):
            add_eight(cache, to + k, rows, at + k)
        for k in range(dim // 8 * 8, dim):
            cache[to + k] += rows[at + k]


@borrowing
def _add_word(text: Bytes, start: int, stop: int, model: Model, room: Room, cache: Cache, to: int) -> int:
    """cache[to : to + dim] = the rows of text[start:stop], a word, and of its n-grams; how many they were."""
    dim, min_n, max_n, bucket, pruned = model.dim, model.min_n, model.max_n, np.uint32(model.bucket), model.pruned
    kept, kept_before, rows = model.kept, model.kept_before, model.rows
    marked, found = room.marked, room.found
    words = len(model.word_at) - 1
    cache[to : to + dim] = np.float32(0)
    count = n = 0
    word = _word_number(text, start, stop, model.vocabulary, model.word_at, model.slots)
    if word >= 0:
        found[0], n = word, 1
    marked[0] = _BELOW
    end = copy(text, start, stop, marked, 1)
    marked[end] = _ABOVE
    end += 1
    for first in range(end):
        if item(marked, first) & 0xC0 == 0x80:
            continue
        if n + max_n > len(found):
            _add_rows(found, n, rows, dim, cache, to)
            count, n = count + n, 0
        h, at, characters = np.uint32(2166136261), first, 0
        while at < end and characters < max_n:
            h = _hashed(h, item(marked, at))
            at += 1
            while at < end and item(marked, at) & 0xC0 == 0x80:
                h = _hashed(h, item(marked, at))
                at += 1
            characters += 1
            if characters < min_n or (characters == 1 and (first == 0 or at == end)):
                continue
            row = signed(h % bucket)
            if pruned:
                there, bit = item(kept, row >> 6), np.uint64(row & 63)
                if not (there >> bit) & np.uint64(1):
                    continue
                row = signed(item(kept_before, row >> 6)) + _bits(there & ((np.uint64(1) << bit) - np.uint64(1)))
            found[n] = words + row
            n += 1
    _add_rows(found, n, rows, dim, cache, to)
    return count + n


@borrowing
def _packed(text: Bytes, start: int, stop: int) -> np.uint64:
    """At most eight bytes in one number."""
    packed = np.uint64(0)
    for i in range(start, stop):
        packed |= np.uint64(text[i]) << np.uint64(8 * (i - start))
    return packed


@borrowing
def _is_label(text: Bytes, start: int, stop: int) -> bool:
    """Whether a word begins like a label, `__label__`: fastText does not read such words."""
    return (
        text[start] == 0x5F
        and stop - start >= 9
        and _packed(text, start, start + 8) == _LABEL
        and text[start + 8] == 0x5F
    )


@inlined
def _parts_words(byte: np.uint8) -> bool:
    return bool(byte <= 0x20 and (byte == 0x20 or 9 <= byte <= 13 or byte == 0))


@inlined
def _key(text: Bytes, at: int, end: int) -> np.uint64:
    """At most eight bytes from `at` on, those behind `end` left out."""
    size = min(max(end - at, 0), 8)
    if at + 8 > len(text):
        return _packed(text, at, at + size)
    return np.uint64(0) if size == 0 else eight(text, at) & (_EVERY >> np.uint64(64 - 8 * size))


@borrowing
def _add_text(
    text: Bytes, start: int, stop: int, model: Model, room: Room, cache: Cache, total: npt.NDArray[np.float64]
) -> int:
    """total += the rows of the words of text[start:stop]; how many they were."""
    width = width_of(model.dim)
    keys, spans = room.keys, room.spans
    count, n = 0, len(spans)
    while n == len(spans):
        n, start = _find_places(text, start, stop, width, cache, keys, spans)
        for i in range(n):
            place, at, end = item(spans[i], 0), item(spans[i], 1), item(spans[i], 2)
            kept = place < len(cache) - width
            if not kept or not _holds(cache, place, keys[i]):
                if _is_label(text, at, end):
                    continue
                cache[place + _COUNT] = _add_word(text, at, end, model, room, cache, place + _HEADER)
                if kept:
                    for k in range(_KEY):
                        put_eight(cache, place + 2 * k, keys[i, k])
            count += signed(cache[place + _COUNT])
            for k in range(0, width - _HEADER, 8):
                add_eight(total, k, cache, place + _HEADER + k)
    return count


@borrowing
def _find_places(
    text: Bytes, at: int, stop: int, width: int, cache: Cache, keys: npt.NDArray[np.uint64], spans: Spans
) -> tuple[int, int]:
    """Where the next words of text[at:stop] are kept: (how many, where the last ends); fewer than there is room for at
    the end of the text. Asks for what is kept of each before anybody waits for it."""
    places = len(cache) // width - 1
    n = 0
    while n < len(spans):
        while at < stop and _parts_words(item(text, at)):
            at += 1
        end = at
        while end < stop and not _parts_words(item(text, end)):
            end += 1
        a, b, c = _key(text, at, end), _key(text, at + 8, end), _key(text, at + 16, end)
        if end == at or (end - at == 4 and a == _END):
            break
        mixed = (a * _P1) ^ (b * _P2) ^ (c * _P3)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * _P1
        place = (signed(mixed >> np.uint64(40)) & (places - 1) if end - at <= _CACHED else places) * width
        for k in range(0, width, _LINE // 4):
            bring(cache, place + k)
        keys[n, 0], keys[n, 1], keys[n, 2] = a, b, c
        spans[n, 0], spans[n, 1], spans[n, 2] = place, at, end
        n, at = n + 1, end
    return n, at


@inlined
def _holds(cache: Cache, place: int, key: npt.NDArray[np.uint64]) -> bool:
    return bool(
        eight(cache, place) == key[0] and eight(cache, place + 2) == key[1] and eight(cache, place + 4) == key[2]
    )


@borrowing
def _dot(output: Floats, row: int, mean: npt.NDArray[np.float64]) -> float:
    x = 0.0
    for k in range(len(mean)):
        x += mean[k] * np.float64(output[row, k])
    return x


@borrowing
def _best_of_softmax(model: Model, mean: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> tuple[int, float]:
    by_number = model.by_number
    labels = by_number.shape[1]
    scores[:labels] = 0.0
    for k in range(len(mean)):  # labels inside, so that the compiler may add several at once
        x = mean[k]
        for label in range(labels):
            scores[label] += x * np.float64(by_number[k, label])
    best = 0
    for label in range(labels):
        if scores[label] > scores[best]:
            best = label
    total, least = 0.0, scores[best] - _NEGLIGIBLE
    for label in range(labels):
        if scores[label] > least:
            total += np.exp(scores[label] - scores[best])
    return best, 1.0 / total + _LEAST


@compiled
def _best_of_tree(model: Model, mean: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> tuple[int, float]:
    """The leaf of greatest probability. Branches no better than the best leaf so far are not entered."""
    output, left, right_of = model.output, model.left, model.right
    labels = (len(left) + 1) // 2
    nodes = np.empty(len(left), np.int64)
    nodes[0], scores[0], n = len(left) - 1, 0.0, 1
    best, best_score = NO_LABEL, -np.inf
    while n:
        n -= 1
        node, score = nodes[n], scores[n]
        if score < best_score:
            continue
        if left[node] < 0:
            best, best_score = node, score
            continue
        right = 1.0 / (1.0 + np.exp(-_dot(output, node - labels, mean)))
        nodes[n], scores[n] = right_of[node], score + np.log(right + _LEAST)
        nodes[n + 1], scores[n + 1] = left[node], score + np.log(1.0 - right + _LEAST)
        n += 2
    return best, np.exp(best_score)


@borrowing
def _trimmed(data: Bytes, start: int, stop: int, tables: Tables) -> tuple[int, int]:
    """data[start:stop] without white space at its ends, as `str.strip` has it."""
    while start < stop:
        point, after = decode(data, start)
        if not tables.flags[point] & STRIPPED:
            break
        start = after
    while start < stop:
        last = stop - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        point, _ = decode(data, last)
        if not tables.flags[point] & STRIPPED:
            break
        stop = last
    return start, stop


@compiled
def _best(
    total: npt.NDArray[np.float64], count: int, model: Model, scores: npt.NDArray[np.float64]
) -> tuple[int, float]:
    """(label, probability) of `count` rows that sum to `total`, and of the end of the line, which every text has."""
    dim, rows, end_of_line = model.dim, model.rows, model.end_of_line
    count += end_of_line >= 0
    if count == 0:
        return NO_LABEL, 0.0
    mean = np.empty(dim, np.float64)
    for k in range(dim):
        mean[k] = (total[k] + (np.float64(rows[end_of_line * dim + k]) if end_of_line >= 0 else 0.0)) / count
    if model.loss == SOFTMAX:
        return _best_of_softmax(model, mean, scores)
    return _best_of_tree(model, mean, scores)


@borrowing
def _read(
    data: Bytes,
    start: int,
    stop: int,
    prepared: bool,
    model: Model,
    tables: Tables,
    cache: Cache,
    room: Room,
    total: npt.NDArray[np.float64],
) -> int:
    """total += the rows of data[start:stop], read through the normaliser or as it is; -1 where nothing is to read."""
    if prepared:
        length = prepare(data, start, stop, tables, room.points, room.composed, room.line)
        return _add_text(room.line, 0, length, model, room, cache, total) if length else -1
    start, stop = _trimmed(data, start, stop, tables)
    return _add_text(data, start, stop, model, room, cache, total) if stop > start else -1


@compiled
def identify(
    data: Bytes,
    offsets: npt.NDArray[np.int64],
    characters: int,
    pieces: Pieces,
    prepared: bool,
    model: Model,
    tables: Tables,
    cache: Cache,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """(label, probability) of the first `characters` characters of each text, and of each piece of it.

    Text i is data[offsets[i]:offsets[i + 1]]; (NO_LABEL, 0) for one without a word. `prepared`: read through
    `kernels/prepare.py`; else as it is, one line. `pieces`: of the texts, in their order, any number of each. Where a
    text of more than SAMPLED bytes has ENOUGH pieces that are SURE of a label, none that is of another, and all of
    them together are SURE of it too, that is the answer, with the probability of all together; else it is read whole.
    """
    n, m = len(offsets) - 1, len(pieces.text)
    labels, probabilities = np.full(n, np.int32(NO_LABEL), np.int32), np.zeros(n, np.float64)
    of_pieces, sureties = np.full(m, np.int32(NO_LABEL), np.int32), np.zeros(m, np.float64)
    sums = width_of(model.dim) - _HEADER
    part, total = np.empty(sums, np.float64), np.empty(sums, np.float64)
    scores = np.empty(max(len(model.output), len(model.left)) + 1, np.float64)
    longest = 0
    for i in range(n):
        longest = max(longest, min(offsets[i + 1] - offsets[i], 4 * characters))
    room = _room(longest, prepared, model.max_n)
    text_of, start_of, stop_of = pieces.text, pieces.start, pieces.stop
    p = 0
    for i in range(n):
        start, stop = offsets[i], end_of_head(data, offsets[i], offsets[i + 1], characters)
        total[:], rows, agreed, sure = 0.0, 0, NO_LABEL, 0
        while p < m and text_of[p] == i:
            part[:] = 0.0
            count = _read(data, start_of[p], stop_of[p], prepared, model, tables, cache, room, part)
            if count >= 0:
                label, probability = _best(part, count, model, scores)
                of_pieces[p], sureties[p] = label, min(probability, 1.0)
                if probability >= SURE:
                    sure = sure + 1 if sure == 0 or label == agreed else -m  # which is never ENOUGH again
                    agreed = label
                rows += count
                total += part
            p += 1
        if sure >= ENOUGH and stop - start > SAMPLED:
            label, probability = _best(total, rows, model, scores)
            if label == agreed and probability >= SURE:
                labels[i], probabilities[i] = label, min(probability, 1.0)
                continue
        total[:] = 0.0
        rows = _read(data, start, stop, prepared, model, tables, cache, room, total)
        if rows >= 0:
            label, probability = _best(total, rows, model, scores)
            labels[i], probabilities[i] = label, min(probability, 1.0)
    return labels, probabilities, of_pieces, sureties
