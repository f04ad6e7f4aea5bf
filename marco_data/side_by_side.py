"""Two texts beside each other in a terminal's width, with the words in which they differ marked.

In: two texts, any bytes of any script. Out: lines of exactly the width asked for. What could move a terminal is
escaped; wide characters and marks are measured in cells; a line with letters that run from right to left is fenced
with left-to-right marks, so that it cannot change places with its neighbour. Knows nothing of documents.
"""

import difflib
import unicodedata
from collections.abc import Iterator

import regex
from rich.cells import cell_len, chop_cells, set_cell_size

from marco_data.languages import LANGUAGES
from marco_data.why import inert

LEAST_WIDTH = 40
BETWEEN = " │ "
LEFT_TO_RIGHT = "\u200e"  # no cell wide; what stands on both of its sides is laid out apart

_LEFT, _RIGHT = ("[-", "-]"), ("{+", "+}")
"""How `git diff --word-diff` marks what only the first or only the second text has."""


def side_by_side(
    left: str, right: str, width: int, language: str | None = None, *, marks: bool = True, cut: bool = False
) -> list[str]:
    """Lines of equal width, at most `width` cells (at least LEAST_WIDTH); words of `language` are compared.

    Of texts that were `cut` the last words are not: what they differ from may follow.
    """
    column = (max(width, LEAST_WIDTH) - len(BETWEEN)) // 2
    glue = "" if _is_unspaced(language) else " "
    texts = marked(left, right, language, cut=cut) if marks else (_words(left, language), _words(right, language))
    columns = [list(_wrapped(words, glue, column)) for words in texts]
    lines = []
    for number in range(max(map(len, columns))):
        cells = [set_cell_size(c[number] if number < len(c) else "", column) for c in columns]
        fence = LEFT_TO_RIGHT if any(map(_runs_left, cells)) else ""
        lines.append(f"{fence}{cells[0]}{fence}{BETWEEN}{fence}{cells[1]}{fence}")
    return lines


def marked(left: str, right: str, language: str | None = None, *, cut: bool = False) -> tuple[list[str], list[str]]:
    """The words of both texts, harmless to print, with marks around each run that the other has not.

    Where a script has no spaces, a word is a character, and a space is one too.
    """
    one, other = _words(left, language), _words(right, language)
    out: tuple[list[str], list[str]] = ([], [])
    for what, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for to, words, (opened, closed) in ((out[0], one[a:b], _LEFT), (out[1], other[c:d], _RIGHT)):
            at_the_end = b == len(one) or d == len(other)
            if words and what != "equal" and not (cut and at_the_end):
                words[0] = opened + words[0]
                words[-1] += closed
            to += words
    return out


def _is_unspaced(language: str | None) -> bool:
    known = LANGUAGES.get(language or "")
    return known is not None and known.shingle_unit == "character"


def _words(text: str, language: str | None) -> list[str]:
    words = [inert(word.encode()) for word in text.split()]
    return regex.findall(r"\X", " ".join(words)) if _is_unspaced(language) else words


def _wrapped(words: list[str], glue: str, width: int) -> Iterator[str]:
    """The words in lines of at most `width` cells; one that is longer is cut between characters."""
    line = ""
    for word in words:
        longer = f"{line}{glue}{word}" if line else word.lstrip()
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        *full, line = chop_cells(word, width)
        yield from full
    yield line


def _runs_left(text: str) -> bool:
    return any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)
