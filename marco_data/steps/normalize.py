"""Normalize: `text` in, the same text in one spelling out; what is empty or binary is dropped.

In order: mojibake repaired (ftfy), line ends to line feeds, control and invisible characters removed, Unicode NFC,
trailing space removed, at most two empty lines in a row. Letters, quotes, ligatures and character widths stay as
written. Normalizing twice equals normalizing once.

`Normalize.normalize_text` is the definition, one text at a time (9 MB/s). The kernels of `kernels.normal_form` find
the texts of a batch that it would leave alone, and clean those that need cleaning and no repair: all but a text in
200 of the web, at 120 to 400 MB/s. ftfy sees only the lines that its own heuristic calls bad.
"""

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import ftfy
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import regex
from ftfy.badness import BADNESS_RE, is_bad
from pydantic import Field

from marco_data.languages import Language
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools
from marco_data.words import Texts, texts_of

if TYPE_CHECKING:
    from marco_data.kernels.normal_form import Rules

Places = npt.NDArray[np.int64]

EMPTY = "normalize/empty"
BINARY = "normalize/binary"

_LINE_ENDS = "\n\r\x0b\x0c\x85\u2028\u2029"
_LINE_END = re.compile(f"\r\n?|[{_LINE_ENDS}]")
_EMPTY_LINES = re.compile("\n{4,}")
_SPACES = frozenset("\t\n\r\x0b\x0c\x85")

# Invisible and without meaning for reading: soft hyphen, byte order mark, word joiner, directional marks, tags
# (which can carry hidden text), interlinear annotation marks; and control characters and non-characters.
_REMOVED = dict.fromkeys(
    [0xAD, 0x034F, 0x061C, 0x180E, 0x200E, 0x200F, 0xFEFF]
    + [*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)]
    + [c for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in _SPACES]
    + [*range(0xFDD0, 0xFDF0), *(plane | c for plane in range(0, 0x110000, 0x10000) for c in (0xFFFE, 0xFFFF))]
)
_REMOVED_CHARACTERS = frozenset(map(chr, _REMOVED))


def _scripts(codes: str) -> str:
    return "".join(rf"\p{{scx={code}}}" for code in codes.split())


# The zero width space parts words in Khmer, Lao, Thai and Burmese; the joiners shape letters in Arabic script,
# in the scripts of India and in emoji. After anything else they are left-overs of a web page.
_PARTED = _scripts("Khmr Laoo Thai Mymr")
_JOINED = _scripts("Arab Syrc Mong Nkoo Deva Beng Guru Gujr Orya Taml Telu Knda Mlym Sinh Khmr Mymr Tibt")
_JOINED += r"\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f"
_STRAY_SPACE = regex.compile(rf"(?<![{_PARTED}])\u200b")
_STRAY_JOINER = regex.compile(rf"(?<![{_JOINED}])[\u200c\u200d]")
# Cleaning uncovers what the last pass could not see (a letter and its accent parted by a mark that is now gone).
# Two passes settle nearly every text; the bound is against texts that were made to go on.
_MOST_PASSES = 8


class Normalize(Step):
    """One spelling for equal texts; drops documents without text."""

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema([("normalize_repaired", pa.bool_())])
    reasons: ClassVar[frozenset[str]] = frozenset({EMPTY, BINARY})
    packages: ClassVar[tuple[str, ...]] = ("ftfy", "regex", UNICODE)

    max_unreadable: float = Field(0.1, ge=0, le=1)
    """Largest share of control, unassigned and replacement characters in a text (after the repair)."""

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        # numba takes 0.6 s to import: not for a plan.
        from marco_data.kernels.normal_form import DOUBTFUL, UNCLEAN, clean_all

        rules = normal_form_rules()

        def normalize_batch(batch: pa.RecordBatch) -> StepOutput:
            column = batch.column("text")
            texts = texts_of(column)
            verdicts = _examine(texts, rules, self.max_unreadable)
            unclean = np.flatnonzero(verdicts == UNCLEAN)
            cleaned = Texts(*clean_all(texts.data, texts.offsets, unclean, rules))
            # Cleaning may uncover what needs a repair or another cleaning.
            settled = _examine(cleaned, rules, 1.0) == 0
            verdicts[unclean[~settled]] = DOUBTFUL
            doubtful = np.flatnonzero(verdicts == DOUBTFUL)
            rows = [self.normalize_text(text) for text in column.take(pa.array(doubtful)).to_pylist()]
            buffers = (pa.py_buffer(cleaned.offsets), pa.py_buffer(cleaned.data))
            ours = pa.LargeStringArray.from_buffers(len(unclean), *buffers).filter(pa.array(settled)).cast(column.type)
            theirs = pa.array([row[0] for row in rows], column.type)
            changed = np.concatenate([unclean[settled], doubtful])
            return StepOutput(
                columns={
                    "text": _replaced(column, changed, pa.concat_arrays([ours, theirs])),
                    "normalize_repaired": _spread(len(column), doubtful, [row[1] for row in rows], pa.bool_(), False),
                },
                reason=_spread(len(column), doubtful, [row[2] for row in rows], pa.string()),
                measured=_spread(len(column), doubtful, [row[3] for row in rows], pa.float64()),
            )

        return normalize_batch

    def normalize_text(self, text: str) -> tuple[str, bool, str | None, float | None]:
        """(normal form, whether mojibake was repaired, reason, measured)."""
        first = repair(text)
        unreadable = sum(n for c, n in Counter(first).items() if _is_unreadable(c)) / max(len(first), 1)
        normal, repaired_again = _settle(first)
        repaired = first != text or repaired_again
        if unreadable > self.max_unreadable:
            return normal, repaired, BINARY, round(unreadable, 4)
        if not normal:
            return normal, repaired, EMPTY, 0.0
        return normal, repaired, None, None


def normal_form_rules() -> "Rules":
    """This module's normal form as tables of the kernels."""
    from marco_data.kernels.normal_form import rules

    return rules(
        bad=BADNESS_RE.pattern,
        line_ends=_LINE_ENDS,
        removed="".join(_REMOVED_CHARACTERS),
        parted=_PARTED,
        joined=_JOINED,
        unreadable=_is_unreadable,
    )


def _examine(texts: Texts, rules: "Rules", max_unreadable: float) -> npt.NDArray[np.uint8]:
    """The kernel's verdict on each text; those with a line that ftfy would change are doubtful, others not bad."""
    from marco_data.kernels.normal_form import BAD, DOUBTFUL, bad_lines, examine

    verdicts = examine(texts.data, texts.offsets, rules, max_unreadable)
    bad = np.flatnonzero(verdicts & BAD)
    for place, start, end in bad_lines(texts.data, texts.offsets, bad, rules).tolist():
        if not verdicts[place] & DOUBTFUL:
            line = texts.data[start:end].tobytes().decode()
            if ftfy.fix_encoding(line) != line:
                verdicts[place] |= DOUBTFUL
    verdicts[verdicts & DOUBTFUL > 0] = DOUBTFUL
    return verdicts & np.uint8(~BAD & 0xFF)


def _replaced(column: pa.Array, places: Places, texts: pa.Array) -> pa.Array:
    """`column` with `texts` at `places`, which are in no order."""
    if not len(places):
        return column
    mask = np.zeros(len(column), np.bool_)
    mask[places] = True
    return pc.replace_with_mask(column, pa.array(mask), texts.take(pa.array(np.argsort(places))))


def _spread(length: int, places: Places, values: list[Any], kind: pa.DataType, otherwise: object = None) -> pa.Array:
    """An array with `values` at `places`."""
    spread = [otherwise] * length
    for place, value in zip(places.tolist(), values, strict=True):
        spread[place] = value
    return pa.array(spread, kind)


def normalize(text: str) -> str:
    """The normal form of a text; the normal form of a normal form is itself."""
    return _settle(repair(text))[0]


def _settle(text: str) -> tuple[str, bool]:
    """A repaired text cleaned, and repaired and cleaned again until neither finds anything to do.

    Returns it and whether another repair was done.
    """
    repaired = False
    for _ in range(_MOST_PASSES):
        cleaned = clean(text)
        if cleaned == text:
            break
        text = repair(cleaned)
        repaired |= text != cleaned
    return text, repaired


def repair(text: str) -> str:
    """`text` with the mojibake of each line undone, where ftfy is sure of it.

    ftfy looks for a repair only in lines that its own heuristic calls bad.
    """
    if text.isascii():
        return text
    return "\n".join(ftfy.fix_encoding(line) if is_bad(line) else line for line in text.split("\n"))


def clean(text: str) -> str:
    """`text` in NFC without control and invisible characters, with plain line ends and no idle space."""
    text = _LINE_END.sub("\n", text)
    found = set(text)
    if not found.isdisjoint(_REMOVED_CHARACTERS):
        text = text.translate(_REMOVED)
    if "\u200b" in found:
        text = _STRAY_SPACE.sub("", text)
    if "\u200c" in found or "\u200d" in found:
        text = _STRAY_JOINER.sub("", text)
    text = unicodedata.normalize("NFC", text)
    text = "\n".join(map(str.rstrip, text.split("\n")))
    return _EMPTY_LINES.sub("\n\n\n", text).strip()


@cache
def _is_unreadable(character: str) -> bool:
    """What a decoder leaves when it reads bytes that are no text: control, unassigned, replacement."""
    if character in _SPACES:
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cn")
