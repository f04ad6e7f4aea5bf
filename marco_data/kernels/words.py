"""Where the words of many texts begin and end, by the word boundaries of Unicode (UAX #29) as ICU applies them.

In: the UTF-8 bytes of the texts of a batch, one after the other, and the table of `characters`. Out: the first
byte and the end of each word, white space left out, in order, and what its characters are, for those who look at
words later; and the stretches of lines that hold a character of a dictionary script, which are left to ICU. A line
end always parts words, so the lines beside them are settled.

The specification is `marco_data.words.split_words`. This module does not know languages.
"""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.characters import (
    ALPHABETIC,
    ALPHANUMERIC,
    BLANK,
    CLASS,
    DICTIONARY,
    DIGIT,
    DOUBLE_QUOTE,
    FLAG,
    FOLDED,
    HANGUL,
    HEBREW,
    JOINER,
    LETTER,
    LINE_END,
    MARK,
    MID_BOTH,
    MID_LETTER,
    MID_NUMBER,
    OTHER,
    PICTURE,
    SINGLE_QUOTE,
    Table,
    before,
    code_point,
    width,
)
from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.memory import Bytes, int64, item

Offsets = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Seen = npt.NDArray[np.uint16]  # of a word: the bits that any of its characters has in the table, class aside

NEWLINE = 0x0A
ZERO_WIDTH_JOINER = 0x200D

# What a word has been seen to end in: a class, or one of two states behind a quote or a stop inside a word.
SURE = 15  # what comes is part of the word: it was looked at before
QUOTED = 16  # behind a Hebrew letter and its quote, which belongs to it whatever comes
# What RULES answers beside the state behind the next character.
BREAK, IF_LETTER, IF_HEBREW, IF_DIGIT = range(32, 36)


def _rules() -> npt.NDArray[np.uint8]:
    """[state * 16 + class of the next character] -> the state behind it, or BREAK, or what must come next to join."""
    rules = np.full((QUOTED + 1, CLASS + 1), BREAK, np.uint8)
    everything, letters = range(CLASS + 1), (LETTER, HEBREW)
    for state in range(QUOTED + 1):
        rules[state, MARK] = state  # WB4
    rules[LINE_END, MARK] = BREAK  # WB3a
    rules[HANGUL, MARK] = OTHER  # of two syllables, that touch each other only
    rules[HANGUL, HANGUL] = HANGUL
    rules[SURE] = everything
    rules[SURE, MARK] = SURE
    for state in (*letters, DIGIT, JOINER):
        for following in (*letters, DIGIT, JOINER):
            rules[state, following] = following  # WB5, WB8, WB9, WB10, WB13a, WB13b
    for state in letters:
        rules[state, [MID_LETTER, MID_BOTH, SINGLE_QUOTE]] = IF_LETTER  # WB6, WB7
    rules[HEBREW, SINGLE_QUOTE] = QUOTED  # WB7a
    rules[QUOTED, letters] = letters
    rules[HEBREW, DOUBLE_QUOTE] = IF_HEBREW  # WB7b, WB7c
    rules[DIGIT, [MID_NUMBER, MID_BOTH, SINGLE_QUOTE]] = IF_DIGIT  # WB11, WB12
    rules[FLAG, FLAG] = OTHER  # WB15, WB16: the third begins another pair
    return rules.ravel()


RULES = _rules()

NOT_PLAIN, PLAIN_WORD, PLAIN_MIDDLE, PLAIN_MARK, PLAIN_SPACE, PLAIN_LINE_END = range(6)
PLAIN_KIND = 7


def _plain() -> Seen:
    """[byte] -> what it is among ASCII: part of a word, a mark that may stand inside one, another, or a space.

    With ALPHABETIC, ALPHANUMERIC and FOLDED, as the table has them.
    """
    plain = np.full(256, NOT_PLAIN, np.uint16)
    plain[:128] = [PLAIN_WORD if chr(c).isalnum() or chr(c) == "_" else PLAIN_MARK for c in range(128)]
    plain[[ord(c) for c in "'.,:;"]] = PLAIN_MIDDLE
    plain[[c for c in range(128) if chr(c).isspace()]] = PLAIN_SPACE
    plain[NEWLINE] = PLAIN_LINE_END
    plain[[c for c in range(128) if chr(c).isalpha()]] |= np.uint16(ALPHABETIC)
    plain[[c for c in range(128) if chr(c).isalnum()]] |= np.uint16(ALPHANUMERIC)
    plain[[c for c in range(128) if chr(c).isupper()]] |= np.uint16(FOLDED)
    return plain


PLAIN = _plain()


@compiled
def find_words(data: Bytes, offsets: Offsets, table: Table) -> tuple[Places, Places, Seen, Places]:
    """(starts, ends, seen, left): the words of the texts data[offsets[i]:offsets[i + 1]], and what is left to ICU.

    `left` is int32[m, 2]: stretches of whole lines of one text, in which no words were looked for.
    """
    n = offsets[-1] - offsets[0]  # pages that stay untouched cost nothing
    starts, ends, seen = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.uint16)
    left = np.empty((16, 2), np.int32)
    words = stretches = 0
    for i in range(len(offsets) - 1):
        at, stop = offsets[i], offsets[i + 1]
        joins = False
        while at < stop:
            end, found = _words_of_line(data, at, stop, table, starts, ends, seen, words)
            if end >= 0:
                at, words, joins = end, found, False
                continue
            end = _next_line(data, at, stop)
            if not joins:
                if stretches == len(left):
                    left = np.concatenate((left, np.empty_like(left)))
                left[stretches, 0] = at
                stretches += 1
            left[stretches - 1, 1] = end
            at, joins = end, True
    return starts[:words], ends[:words], seen[:words], left[:stretches]


@borrowing
def _words_of_line(
    data: Bytes, at: int, stop: int, table: Table, starts: Places, ends: Places, seen: Seen, words: int
) -> tuple[int, int]:
    """(where the next line begins, words so far); (-1, _) where the line holds a character of a dictionary script.

    What is ASCII and stands beside ASCII needs few rules, and is most of most texts.
    """
    while at < stop:
        bits = int64(item(PLAIN, item(data, at)))
        kind, end = bits & PLAIN_KIND, at + 1
        if kind == PLAIN_WORD:
            while end < stop:
                following = int64(item(PLAIN, item(data, end)))
                if following & PLAIN_KIND != PLAIN_WORD:
                    break
                bits |= following
                end += 1
        if kind != NOT_PLAIN and _is_end(data, end, stop, kind, table):
            if kind == PLAIN_LINE_END:
                return end, words
            starts[words], ends[words], seen[words] = at, end, bits & ~PLAIN_KIND
            words += kind != PLAIN_SPACE  # what is not counted is written over
            at = end
            continue
        end, bits = _segment(data, at, stop, table)
        if end < 0:
            return -1, words
        if item(data, at) == NEWLINE:
            return end, words
        first, last = trimmed(data, at, end, table) if bits & BLANK else (at, end)
        if first < last:
            starts[words], ends[words], seen[words] = first, last, bits & ~CLASS
            words += 1
        at = end
    return stop, words


@inlined
def _is_end(data: Bytes, end: int, stop: int, kind: int, table: Table) -> bool:
    """Whether a segment of ASCII of one kind ends at `end` for certain."""
    if end == stop:
        return True
    following = item(PLAIN, item(data, end)) & PLAIN_KIND
    if following == NOT_PLAIN:
        return kind != PLAIN_WORD and bool(item(table, code_point(data, end)) & CLASS != MARK)
    if kind != PLAIN_WORD or following != PLAIN_MIDDLE:
        return True
    if end + 1 == stop:
        return True
    behind = item(PLAIN, item(data, end + 1)) & PLAIN_KIND
    return bool(behind != PLAIN_WORD and behind != NOT_PLAIN)


@borrowing
def _next_line(data: Bytes, at: int, stop: int) -> int:
    while at < stop and item(data, at) != NEWLINE:
        at += 1
    return min(at + 1, stop)


@borrowing
def _segment(data: Bytes, at: int, stop: int, table: Table) -> tuple[int, int]:
    """(where the segment that begins at `at` ends, what it holds); (-1, _) where it meets a dictionary script."""
    last = code_point(data, at)
    bits = int64(item(table, last))
    state = bits & CLASS
    at += width(item(data, at))
    if state == DICTIONARY:
        return -1, bits
    while at < stop:
        c = code_point(data, at)
        entry = int64(item(table, c))
        following = entry & CLASS
        if state == LETTER and following in (LETTER, MARK):  # most of most words
            bits |= entry
            last = c
            at += width(item(data, at))
            continue
        if last == ZERO_WIDTH_JOINER and entry & PICTURE:  # WB3c
            state = following
        else:
            rule = int64(item(RULES, state << 4 | following))
            if rule > BREAK:
                behind = _class_behind(data, at, stop, table)
                letter = behind == HEBREW or (behind == LETTER and rule == IF_LETTER)
                digit = behind == DIGIT
                rule = np.int64(SURE if (digit if rule == IF_DIGIT else letter) else BREAK)
            if rule == BREAK:
                return (-1 if following == DICTIONARY else at), bits
            state = rule
        bits |= entry
        last = c
        at += width(item(data, at))
    return stop, bits


@borrowing
def _class_behind(data: Bytes, at: int, stop: int, table: Table) -> np.int64:
    """The class of the character after the one at `at` and its marks; OTHER at the end."""
    at += width(item(data, at))
    while at < stop:
        kind: np.int64 = int64(item(table, code_point(data, at)) & CLASS)
        if kind != MARK:
            return kind
        at += width(item(data, at))
    return np.int64(OTHER)


@borrowing
def trimmed(data: Bytes, start: int, end: int, table: Table) -> tuple[int, int]:
    """(start, end) of data[start:end] without the white space around it."""
    while start < end and item(table, code_point(data, start)) & BLANK:
        start += width(item(data, start))
    while start < end:
        last = before(data, end)
        if not item(table, code_point(data, last)) & BLANK:
            break
        end = last
    return start, end


_SEPARATOR = 0x2028  # a segment of its own beside whatever; a line feed would join a return
_ZERO_WIDTH_SPACE = 0x200B


@compiled
def utf16_of(data: Bytes, stretches: Places) -> npt.NDArray[np.uint16]:
    """The texts data[start:stop] of each of stretches[n, 2] as ICU reads them, U+2028 behind each.

    ICU breaks at a zero width space (Khmer, Burmese and Thai use it between words) but would return it.
    """
    out = np.empty(np.sum(stretches[:, 1] - stretches[:, 0]) + len(stretches), np.uint16)
    n = 0
    for i in range(len(stretches)):
        n = _to_utf16(data, stretches[i, 0], stretches[i, 1], out, n)
        out[n] = _SEPARATOR
        n += 1
    return out[:n]


@borrowing
def _to_utf16(data: Bytes, at: int, stop: int, out: npt.NDArray[np.uint16], n: int) -> int:
    while at < stop:
        c = code_point(data, at)
        at += width(item(data, at))
        if c >= 0x10000:
            out[n] = 0xD800 + ((c - 0x10000) >> 10)
            n += 1
            c = 0xDC00 + ((c - 0x10000) & 0x3FF)
        out[n] = 0x20 if c == _ZERO_WIDTH_SPACE else c
        n += 1
    return n


@compiled
def trim_segments(data: Bytes, stretches: Places, segment_ends: Places, table: Table) -> tuple[Places, Places, Seen]:
    """(starts, ends, seen) of the words of stretches[n, 2], by where the segments of `utf16_of` end."""
    starts, ends = np.empty(len(segment_ends), np.int32), np.empty(len(segment_ends), np.int32)
    seen = np.empty(len(segment_ends), np.uint16)
    words = segment = units = 0
    for i in range(len(stretches)):
        at, stop = stretches[i]
        while at < stop:
            end, bits = at, np.int64(0)
            while units < segment_ends[segment]:
                bits |= int64(item(table, code_point(data, end)))
                size = width(item(data, end))
                end += size
                units += 2 if size == 4 else 1
            first, last = trimmed(data, at, end, table) if bits & BLANK else (at, end)
            if first < last:
                starts[words], ends[words], seen[words] = first, last, bits & ~CLASS
                words += 1
            at = end
            segment += 1
        segment += 1  # the separator
        units += 1
    return starts[:words], ends[:words], seen[:words]
