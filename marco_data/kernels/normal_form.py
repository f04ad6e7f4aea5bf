"""The normal form of texts: which are in it already, and what cleaning makes of the others.

In: texts as UTF-8, and `rules()`, made of the definitions of `steps/normalize.py`, which is the specification.
Out: what is to be said against each text (`examine`), the lines that may be mojibake (`bad_lines`) and cleaned
texts (`clean_all`). Nothing is repaired here.

Input must be valid UTF-8.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from marco_data.kernels.automaton import FOUND, automaton
from marco_data.kernels.compiled import borrowing, compiled
from marco_data.kernels.prepare import LONGEST, Bytes, Points, composite_of, decode, encode, nfc, signed
from marco_data.kernels.unicode_tables import LAST, STRIPPED, UNSTABLE, Tables, tables

Offsets = npt.NDArray[np.int64]

UNCLEAN, BAD, DOUBTFUL = 1, 2, 4
"""Bits of a verdict: `clean_all` would change it; a line may be mojibake; empty, too unreadable, or in planes of
Unicode that the tables leave out. None of them: in normal form."""

_CLASS = 0xFF
WHITE, PARTED, JOINED, LINE_END, MOVING, ZERO_WIDTH, REMOVED, UNREADABLE = (1 << i for i in range(8, 16))
_REMARKABLE = LINE_END
"""What has this bit or a higher one needs a look; the bits below are for the character after it to ask."""

_LINE_FEED, _RETURN, _ZERO_WIDTH_SPACE = 0x0A, 0x0D, 0x200B
_MOST_LINE_FEEDS = 3
_TAGS, _TAGS_END = 0xE0000, 0xE1000


class Rules(NamedTuple):
    """What the kernels need to know: arrays over code points and over states."""

    characters: npt.NDArray[np.uint16]  # the class of the automaton, and the bits above
    steps: npt.NDArray[np.uint16]
    start: int
    unicode: Tables


@cache
def rules(
    *, bad: str, line_ends: str, removed: str, parted: str, joined: str, unreadable: Callable[[str], bool]
) -> Rules:
    """The tables of a normal form (0.5 s).

    bad: the expression that finds what may be mojibake in a line
    line_ends, removed: characters; those become line feeds, these go
    parted, joined: insides of a character set of `regex`: after them a zero width space or a joiner may stay
    unreadable: whether a character counts as such
    """
    search, unicode = automaton(bad), tables()
    described = "".join(chr(p) for p in (*range(LAST), *range(_TAGS, _TAGS_END)) if not 0xD800 <= p < 0xE000)
    characters = search.classes.astype(np.uint16)
    for bit, members in (
        (PARTED, regex.findall(f"[{parted}]", described)),
        (JOINED, regex.findall(f"[{joined}]", described)),
        (LINE_END, line_ends),
        (ZERO_WIDTH, "\u200b\u200c\u200d"),
        (REMOVED, removed),
        (UNREADABLE, filter(unreadable, described)),
    ):
        characters[[ord(c) for c in members]] |= np.uint16(bit)
    for bit, flag in ((WHITE, STRIPPED), (MOVING, UNSTABLE)):
        characters[unicode.flags & flag > 0] |= np.uint16(bit)
    for first, end in ((LAST, _TAGS), (_TAGS_END, len(characters))):
        characters[first:end] |= np.uint16(UNREADABLE)
    return Rules(characters, search.steps, search.start, unicode)


@compiled
def _composed(data: Bytes, start: int, stop: int, rules: Rules) -> tuple[bool, int]:
    """Whether NFC leaves the character at `start` and the moving ones after it as they are; where they end."""
    length, at = 0, start
    while at < stop:
        point, end = decode(data, at)
        if length and not rules.characters[point] & MOVING:
            break
        length, at = length + 1, end
    points, composed = np.empty(length, np.int32), np.empty(LONGEST * length, np.int32)
    at = start
    for i in range(length):
        points[i], at = decode(data, at)
    same = nfc(points, length, rules.unicode, composed) == length
    return same and np.array_equal(points, composed[:length]), at


@borrowing
def _last_class(point: int, unicode: Tables) -> int:
    """The combining class of the last character of what a starter decomposes to."""
    place = unicode.decomposed_at[point] if point < LAST else 0
    return signed(unicode.classes[unicode.decomposed[place + unicode.decomposed[place]]]) if place else 0


@borrowing
def _verdict(data: Bytes, start: int, stop: int, rules: Rules, most_unreadable: float) -> int:
    """What is to be said against data[start:stop]."""
    characters, steps, unicode = rules.characters, rules.steps, rules.unicode
    if start == stop:
        return DOUBTFUL
    first, _ = decode(data, start)
    clean = not characters[first] & WHITE
    count, unreadable, line_feeds = 0, 0, 0
    stable, starter, class_before, settled = start, 0, 0, start
    state, info, at = signed(rules.start), 0, start
    while at < stop:
        before, here = info, at
        point, at = decode(data, at)
        count += 1
        info = signed(characters[point])
        state = signed(steps[state + (info & _CLASS)])
        if not info & MOVING:
            stable, starter, class_before = here, point, 0
            if info < _REMARKABLE:
                continue
        elif here >= settled:
            # A mark stays where it is if it is in order, also after the marks that are part of the starter, and
            # composes with nothing. About anything else NFC is asked.
            of_class = signed(unicode.classes[point])
            last = class_before if class_before else _last_class(starter, unicode)
            composes = composite_of(starter, point, unicode.pairs, unicode.composites) >= 0
            if composes or of_class < last or unicode.decomposed_at[point]:
                same, settled = _composed(data, stable, stop, rules)
                clean &= same
            if not of_class:
                starter = point
            class_before = of_class
        if info & LINE_END:
            line_feeds = line_feeds + 1 if before & LINE_END else 1
            idle = before & (WHITE | LINE_END) == WHITE
            clean &= point == _LINE_FEED and not idle and line_feeds <= _MOST_LINE_FEEDS
        elif info & REMOVED:
            clean = False
        elif info & ZERO_WIDTH:
            clean &= before & (PARTED if point == _ZERO_WIDTH_SPACE else JOINED) != 0
        if info & UNREADABLE:
            if LAST <= point < _TAGS or point >= _TAGS_END:
                return DOUBTFUL
            unreadable += 1
    if unreadable / count > most_unreadable:
        return DOUBTFUL
    return (BAD if state == FOUND else 0) | (0 if clean and not info & WHITE else UNCLEAN)


@compiled
def examine(data: Bytes, offsets: Offsets, rules: Rules, most_unreadable: float) -> Bytes:
    """What is to be said against each text, as bits. Text i is data[offsets[i]:offsets[i + 1]]."""
    out = np.empty(len(offsets) - 1, np.uint8)
    for i in range(len(out)):
        out[i] = _verdict(data, offsets[i], offsets[i + 1], rules, most_unreadable)
    return out


@compiled
def bad_lines(data: Bytes, offsets: Offsets, chosen: Offsets, rules: Rules) -> Offsets:
    """The lines that may be mojibake in the texts at the places `chosen`, int64[lines, 3]: text, start and end."""
    lines = len(chosen)
    for i in chosen:
        for at in range(offsets[i], offsets[i + 1]):
            lines += data[at] == _LINE_FEED
    out = np.empty((lines, 3), np.int64)
    n = 0
    for i in chosen:
        start, at, state = offsets[i], offsets[i], signed(rules.start)
        while at < offsets[i + 1]:
            end = at
            point, at = decode(data, at)
            if point != _LINE_FEED:
                state = signed(rules.steps[state + (rules.characters[point] & _CLASS)])
                end = at
            if point == _LINE_FEED or at == offsets[i + 1]:
                if state == FOUND:
                    out[n, 0], out[n, 1], out[n, 2] = i, start, end
                    n += 1
                start, state = at, signed(rules.start)
    return out[:n]


@borrowing
def _kept(data: Bytes, start: int, stop: int, rules: Rules, out: Points) -> tuple[int, bool]:
    """The code points of data[start:stop] that stay, line ends as line feeds: (how many, whether NFC may touch one)."""
    characters = rules.characters
    n, moving, at = 0, 0, start
    before_space, before_joiner = 0, 0
    while at < stop:
        point, at = decode(data, at)
        info = signed(characters[point])
        if info < _REMARKABLE:
            pass
        elif info & LINE_END:
            if point == _RETURN and at < stop and data[at] == _LINE_FEED:
                at += 1
            point = _LINE_FEED
            info = signed(characters[point])
        elif info & REMOVED:
            continue
        elif info & ZERO_WIDTH:
            # Stray spaces go first, stray joiners after them: among each other they count as what they follow.
            if point == _ZERO_WIDTH_SPACE:
                stays = before_space & PARTED
            else:
                stays = before_joiner & JOINED
                before_joiner = info
            before_space = info
            if not stays:
                continue
        before_space, before_joiner = info, info
        moving |= info
        out[n] = point
        n += 1
    return n, moving & MOVING != 0


@borrowing
def _tidied(points: Points, length: int, rules: Rules, out: Bytes, n: int) -> int:
    """Write points[:length] to out[n:] without idle white space; where it ends."""
    characters = rules.characters
    start, line_feeds, idle = n, 0, 0  # since the last character that is not white; `idle` is where the spaces begin
    for i in range(length):
        point = points[i]
        if point == _LINE_FEED:
            line_feeds += 1
            idle = i + 1
        elif not characters[point] & WHITE:
            if idle < i or line_feeds:
                if n > start:
                    for _ in range(min(line_feeds, _MOST_LINE_FEEDS)):
                        out[n] = _LINE_FEED
                        n += 1
                    for j in range(idle, i):
                        n = encode(points[j], out, n)
                line_feeds = 0
            if point < 0x80:
                out[n] = point
                n += 1
            else:
                n = encode(point, out, n)
            idle = i + 1
    return n


@compiled
def clean_all(data: Bytes, offsets: Offsets, chosen: Offsets, rules: Rules) -> tuple[Bytes, Offsets]:
    """`clean` of the texts at the places `chosen`: (bytes, offsets)."""
    longest, total = 0, 0
    for i in chosen:
        longest = max(longest, offsets[i + 1] - offsets[i])
        total += offsets[i + 1] - offsets[i]
    points = np.empty(longest, np.int32)
    out, ends = np.empty(total + 3 * longest, np.uint8), np.zeros(len(chosen) + 1, np.int64)
    n = 0
    for k, i in enumerate(chosen):
        length, moving = _kept(data, offsets[i], offsets[i + 1], rules, points)
        text = points
        if moving:
            text = np.empty(LONGEST * length, np.int32)
            length = nfc(points, length, rules.unicode, text)
        if n + 4 * length > len(out):
            larger = np.empty(2 * (n + 4 * length), np.uint8)
            larger[:n] = out[:n]
            out = larger
        n = _tidied(text, length, rules, out, n)
        ends[k + 1] = n
    return out[:n], ends
