"""What each code point is, as arrays a kernel can index.

In: the word break classes of ICU (`word_classes.csv`, written by `marco_data.word_classes`) and what this Python
says of each character (`str.isspace`, `isalpha`, `isalnum`, `casefold`), which is asked once a process, in about
0.1 s, so that no file of it can be older than the Python. Out: one uint16 a code point, a word break class in its
low four bits and a bit a property above them; and the case foldings as UTF-8.

The classes are those of UAX #29 as ICU has them: a Hangul syllable joins syllables only, and what ICU cuts with a
dictionary is a class of its own. This module splits nothing.
"""

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from marco_data.kernels.compiled import inlined
from marco_data.kernels.memory import Bytes, item

Table = npt.NDArray[np.uint16]

# MARK is what attaches to the character before it (Extend, Format, the zero width joiner); DICTIONARY the scripts
# of Southeast Asia that Unicode calls complex, Han and Kana.
CLASSES = (
    *("other", "line_end", "mark", "letter", "hebrew", "digit", "joiner", "mid_letter", "mid_number", "mid_both"),
    *("single_quote", "double_quote", "flag", "hangul", "dictionary"),
)
OTHER, LINE_END, MARK, LETTER, HEBREW, DIGIT, JOINER, MID_LETTER, MID_NUMBER, MID_BOTH = range(10)
SINGLE_QUOTE, DOUBLE_QUOTE, FLAG, HANGUL, DICTIONARY = range(10, 15)
CLASS = 15
PICTURE, SPACE, BLANK, ALPHABETIC, ALPHANUMERIC, FOLDED, SYMBOL, TERMINAL = (1 << i for i in range(4, 12))

CODE_POINTS = 0x110000
ZERO_WIDTH_SPACE = 0x200B
_EVERY = np.arange(CODE_POINTS, dtype=np.uint32).view("<U1")

# Above the third supplementary plane only tags and variation selectors have properties of their own.
DESCRIBED = (*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE1000))


class Folding(NamedTuple):
    """`str.casefold` of single characters: where p = place[c] > 0, that of c is utf8[starts[p]:starts[p + 1]]."""

    place: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int32]
    utf8: Bytes


@cache
def word_classes() -> Table:
    """What cutting a text into words needs: the class of each code point, PICTURE and BLANK."""
    table = np.zeros(CODE_POINTS, np.uint16)
    for row in csv.DictReader(_word_classes().splitlines()):
        first, last = int(row["first"], 16), int(row["last"], 16)
        table[first : last + 1] = CLASSES.index(row["class"]) | int(row["picture"]) * PICTURE
    space = np.strings.isspace(_EVERY)
    table[space] |= np.uint16(SPACE | BLANK)
    table[ZERO_WIDTH_SPACE] |= np.uint16(BLANK)
    table.flags.writeable = False
    return table


@cache
def characters(symbols: str = "", terminals: str = "") -> Table:
    """The whole table; `symbols` and `terminals` are the insides of a character set of `regex`."""
    table = word_classes().copy()
    for bit, members in ((SYMBOL, symbols), (TERMINAL, terminals)):
        if members:
            table[_members(members)] |= np.uint16(bit)
    table[np.strings.isalpha(_EVERY)] |= np.uint16(ALPHABETIC)
    table[np.strings.isalnum(_EVERY)] |= np.uint16(ALPHANUMERIC)
    table[folding().place > 0] |= np.uint16(FOLDED)
    table.flags.writeable = False
    return table


def _word_classes() -> str:
    return (resources.files(__package__) / "word_classes.csv").read_text("utf-8")


def _members(members: str) -> npt.NDArray[np.uint32]:
    """The code points that a character set of `regex` holds."""
    found = "".join(regex.findall(f"[{members}]+", "".join(map(chr, DESCRIBED))))
    return np.frombuffer(found.encode("utf-32-le"), np.uint32)


@cache
def folding() -> Folding:
    """Every character that `str.casefold` changes, and into what (up to three characters)."""
    place = np.zeros(CODE_POINTS, np.uint16)
    folded = [b""]
    for start, stop in ((0, 0xD800), (0xE000, 0x20000)):  # nothing above has two cases
        answers = "\0".join(map(chr, range(start, stop))).casefold().split("\0")
        answers = answers[1:] if start == 0 else answers  # U+0000 looks like the separator: two empty answers
        for code_point, answer in enumerate(answers, start):
            if answer and answer != chr(code_point):
                place[code_point] = len(folded)
                folded.append(answer.encode())
    starts = np.cumsum([0, *map(len, folded)], dtype=np.int32)
    return Folding(place, starts, np.frombuffer(b"".join(folded), np.uint8))


@inlined
def width(lead: int) -> int:
    """The bytes of the character that begins with byte `lead`."""
    if lead < 0x80:
        return 1
    if lead < 0xE0:
        return 2
    return 3 if lead < 0xF0 else 4


@inlined
def code_point(data: Bytes, at: int) -> np.int64:
    """The character that begins at data[at]; the text must be valid UTF-8."""
    lead = np.int64(item(data, at))
    if lead < 0x80:
        return lead
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | np.int64(item(data, at + 1) & 0x3F)
    two = np.int64(item(data, at + 1) & 0x3F) << 6 | np.int64(item(data, at + 2) & 0x3F)
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | two
    return (lead & 0x07) << 18 | two << 6 | np.int64(item(data, at + 3) & 0x3F)


@inlined
def before(data: Bytes, at: int) -> int:
    """Where the character begins that ends before data[at]."""
    at -= 1
    while item(data, at) & 0xC0 == 0x80:
        at -= 1
    return at
