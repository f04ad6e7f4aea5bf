"""A search for a regular expression as a table that a kernel walks: one look-up a character.

In: an expression that is a choice between short sequences of character sets, as Python's `re` reads it with
VERBOSE. Out: a class for each code point and, for each state and class, the next state. The walk begins anew after
each line feed, and once it has found a match it stays in FOUND.

What else `re` knows (groups, repetition but of one optional character, look-around, back-references) is refused.
Which expression it is, and what a match means, this module does not know.
"""

import re
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.characters import CODE_POINTS

FOUND = 0
"""The state of a text with a match in one of its lines."""
_LINE_START = 1

_PART = re.compile(
    r"""(?: \#[^\n]* | [ \t\n\r\v\f] )*+  # what VERBOSE skips
        (?: ( \[\^?\]?(?:\\.|[^]\\])*\] | \\[wWsSdD] | [^][()*+?{}$\\] ) (\??) | \Z )""",
    re.DOTALL | re.VERBOSE,
)
_WORD, _OTHER = "\U00010000", "\U0001f600"
_ASKED = "".join(map(chr, range(0x10000))) + _WORD + _OTHER
"""Beyond the basic plane a set can tell word characters from others and nothing else: two stand for all."""


class Automaton(NamedTuple):
    classes: npt.NDArray[np.uint8]  # of each code point
    steps: npt.NDArray[np.uint16]  # steps[state + class] is the next state, a multiple of the number of classes
    start: int  # the state before the first character of a line


@cache
def automaton(pattern: str) -> Automaton:
    """The automaton of `re.compile(pattern, re.VERBOSE).search`, line by line (0.1 s)."""
    choices = _choices(pattern)
    sets = sorted({part for choice in choices for part in choice if part != "^"})
    classes, members = _classes(sets)
    return Automaton(classes, _steps(choices, sets, members), _LINE_START * len(members))


def _choices(pattern: str) -> list[list[str]]:
    """The sequences of character sets that the pattern chooses between; an optional set makes two of one."""
    if max(pattern) > "\uffff" or "\\U" in pattern:
        raise ValueError("the sequences name a character beyond the basic plane")
    choices: list[list[str]] = []
    here: list[list[str]] = [[]]
    at = 0
    while at < len(pattern):
        part = _PART.match(pattern, at)
        if part is None or (part[1] == "^" and here != [[]]):
            raise ValueError(f"at {at}: not a choice between sequences of character sets: {pattern[at : at + 20]!r}")
        at = part.end()
        if part[1] == "|":
            choices += here
            here = [[]]
        elif part[1]:
            here = [[*sequence, part[1]] for sequence in here] + (here if part[2] else [])
    choices += here
    if any(set(choice) <= {"^"} for choice in choices):
        raise ValueError("one of the sequences may be empty")
    return choices


def _classes(sets: list[str]) -> tuple[npt.NDArray[np.uint8], list[bytes]]:
    """The class of each code point and, of each class, which of the sets hold it (0 or 1, a byte a set)."""
    held = np.zeros((len(sets), len(_ASKED)), np.uint8)
    places = {_WORD: 0x10000, _OTHER: 0x10001}
    for i, one in enumerate(sets):
        held[i, [places.get(c, ord(c)) for c in re.findall(one, _ASKED)]] = 1
    numbers: dict[bytes, int] = {}
    asked = [numbers.setdefault(row.tobytes(), len(numbers)) for row in np.ascontiguousarray(held.T)]
    classes = np.empty(CODE_POINTS, np.uint8)
    classes[:0x10000] = asked[:0x10000]
    beyond = np.arange(0x10000, CODE_POINTS, dtype=np.uint32).view("<U1")
    classes[0x10000:] = np.where(np.strings.isalnum(beyond), asked[0x10000], asked[0x10001])
    classes[ord("\n")] = len(numbers)
    return classes, [*numbers, b""]


def _steps(choices: list[list[str]], sets: list[str], members: list[bytes]) -> npt.NDArray[np.uint16]:
    """The automaton over the classes, of which the last is the line feed.

    A state is the set of places within the sequences that the last characters have reached, as the bits of a number.
    """
    places = [(choice, i) for choice in choices for i in range(len(choice)) if choice[i] != "^"]
    begins = sum(1 << bit for bit, (_, i) in enumerate(places) if i == 0)
    anchored = sum(1 << bit for bit, (choice, i) in enumerate(places) if i == 1 and choice[0] == "^")
    ends = sum(1 << bit for bit, (choice, i) in enumerate(places) if i == len(choice) - 1)
    number = {part: i for i, part in enumerate(sets)}
    allowed = [
        sum(1 << bit for bit, (choice, i) in enumerate(places) if held and held[number[choice[i]]]) for held in members
    ]
    states = {-1: FOUND, begins | anchored: _LINE_START}  # what may be matched next: the number of that state
    rows = [[FOUND] * len(members)]
    for waiting in (todo := [begins | anchored]):
        row = []
        for reached in (waiting & mask for mask in allowed):
            following = -1 if reached & ends else reached << 1 | begins
            if following not in states:
                states[following] = len(states)
                todo.append(following)
            row.append(states[following])
        rows.append([*row[:-1], _LINE_START])
    return np.array([[state * len(members) for state in row] for row in rows], np.uint16).ravel()
