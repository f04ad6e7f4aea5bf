"""The word break class of every code point, asked of ICU: `python -m marco_data.word_classes` writes the file anew.

Out: `kernels/word_classes.csv`, a row a range of code points that share a class. ICU has no function that names a
character's class and the `regex` package may know another Unicode version, so each code point is put between
others and gets the class of the character that breaks from them as it does. Dictionary scripts are the exception:
how they break depends on the whole word, so `regex` names them, and so is called what fits no class: what is
called so is given to ICU, which is always right.

Needed again when icu4py brings another version of Unicode; a test says so.
"""

from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import regex
from icu4py.breakers import WordBreaker

from marco_data.kernels.characters import CLASSES, DESCRIBED, PICTURE

_PROBES = (
    *("a{}a", "1{}1", "א{}א", "a:{}!", "1,{}!", "א{}!"),
    *('א"{}!', "_{}!", "가{}!", "\u200d{}!", "🇦{}!", "\n{}\u0301!", "!{}!"),
)
_EXAMPLES = {
    "other": "!",
    "line_end": "\x0b",
    "mark": "\u0301",
    "letter": "a",
    "hebrew": "א",
    "digit": "1",
    "joiner": "_",
    "mid_letter": ":",
    "mid_number": ",",
    "mid_both": ".",
    "single_quote": "'",
    "double_quote": '"',
    "flag": "🇦",
    "hangul": "가",
}
_PICTURES = {"other": "😀", "letter": "ℹ"}
_DICTIONARY = regex.compile(
    r"[\p{LB=SA}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{WB=Katakana}\uff9e\uff9f]"
)


def ask_icu(characters: str) -> npt.NDArray[np.uint16]:
    """The class of each character, with the bit PICTURE where it has it."""
    found = _behaviour(characters)
    classes = np.full(len(characters), CLASSES.index("dictionary"), np.uint16)
    for examples, bit in ((_EXAMPLES, 0), (_PICTURES, PICTURE)):
        for name, behaviour in zip(examples, _behaviour("".join(examples.values())), strict=True):
            classes[found == behaviour] = CLASSES.index(name) | bit
    named = [_DICTIONARY.match(c) is not None for c in characters]
    classes[named] = CLASSES.index("dictionary")
    return classes


def _behaviour(characters: str) -> npt.NDArray[np.int64]:
    """A bit for each place of each probe where ICU breaks it."""
    bits = np.zeros(len(characters), np.int64)
    for probe in _PROBES:
        size = len(probe)  # characters of a filled probe with the line feed behind it
        text = "".join(f"{probe.format(c)}\n" for c in characters)
        breaks = np.zeros(len(text) + 1, np.int64)
        breaks[np.cumsum([len(segment) for segment in WordBreaker(text, "en")])] = 1
        for place in range(1, size):
            bits = bits << 1 | breaks[place : len(text) : size]
    return bits


def rows() -> list[str]:
    """The lines of the file: first and last code point in hexadecimal, class, whether it is a picture."""
    lines = ["first,last,class,picture"]
    described = np.array(DESCRIBED)
    classes = ask_icu("".join(map(chr, DESCRIBED)))
    starts = np.flatnonzero(np.diff(described, prepend=-2) > 1)
    starts = np.union1d(starts, np.flatnonzero(np.diff(classes.astype(int), prepend=0)))
    for start, stop in zip(starts, np.append(starts[1:], len(described)), strict=True):
        value = int(classes[start])
        if value:
            name = CLASSES[value & ~PICTURE]
            lines.append(f"{described[start]:x},{described[stop - 1]:x},{name},{int(value & PICTURE > 0)}")
    return lines


if __name__ == "__main__":
    file = Path(str(resources.files("marco_data.kernels"))) / "word_classes.csv"
    file.write_text("\n".join(rows()) + "\n", encoding="utf-8")
