"""Normalize: `text` in, the same text in one spelling out; what is empty or binary is dropped.

In order: mojibake repaired (ftfy), line ends to line feeds, control and invisible characters removed, Unicode NFC,
trailing space removed, at most two empty lines in a row. Letters, quotes, ligatures and character widths stay as
written. Normalizing twice equals normalizing once.
"""

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import ClassVar

import ftfy
import pyarrow as pa
import regex
from ftfy.badness import is_bad
from pydantic import Field

from marco_data.languages import Language
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools

EMPTY = "normalize/empty"
BINARY = "normalize/binary"

_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
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
# The zero width space parts words in Khmer, Lao, Thai and Burmese; the joiners shape letters in Arabic script,
# in the scripts of India and in emoji. After anything else they are left-overs of a web page.
_JOINED = "Arab Syrc Mong Nkoo Deva Beng Guru Gujr Orya Taml Telu Knda Mlym Sinh Khmr Mymr Tibt"
_JOINED_SCRIPTS = "".join(rf"\p{{scx={script}}}" for script in _JOINED.split())
_STRAY_SPACE = regex.compile(r"(?<![\p{scx=Khmr}\p{scx=Laoo}\p{scx=Thai}\p{scx=Mymr}])\u200b")
_STRAY_JOINER = regex.compile(
    rf"(?<![{_JOINED_SCRIPTS}\p{{Extended_Pictographic}}\p{{Emoji_Modifier}}\ufe0f])[\u200c\u200d]"
)
# Every pattern of ftfy's heuristic holds one of these: a C1 control, one of four letters that UTF-8 read as
# Latin-1 is full of, or two characters beyond ASCII side by side of which one is no plain letter outside Latin.
_SIGN = "\x80-\u024f\u0192\u02c6-\u02dd\u0384\u0385\u0402\u0490\u0491\u2010-\u2bff\uf8ff\ufb01\ufb02\ufffd"
_SUSPICIOUS = re.compile(f"[\x80-\x9fŒœÃÂ]|[{_SIGN}][^\x00-\x7f]|[^\x00-\x7f][{_SIGN}]")

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
        def normalize_batch(batch: pa.RecordBatch) -> StepOutput:
            rows = [self._normalize(text) for text in batch.column("text").to_pylist()]
            texts, repaired, reasons, measured = zip(*rows, strict=True) if rows else ((), (), (), ())
            return StepOutput(
                columns={
                    "text": pa.array(texts, batch.schema.field("text").type),
                    "normalize_repaired": pa.array(repaired, pa.bool_()),
                },
                reason=pa.array(reasons, pa.string()),
                measured=pa.array(measured, pa.float64()),
            )

        return normalize_batch

    def _normalize(self, text: str) -> tuple[str, bool, str | None, float | None]:
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

    ftfy looks for a repair only in lines that its own heuristic calls bad, so asking the heuristic first gives
    the same result; asking a cheaper question before it takes Danish from 5 to 12 MB/s.
    """
    if text.isascii() or not _SUSPICIOUS.search(text):
        return text
    return "\n".join(ftfy.fix_encoding(line) if _is_suspicious(line) else line for line in text.split("\n"))


def _is_suspicious(line: str) -> bool:
    """Whether ftfy would look for a repair in this line."""
    return _SUSPICIOUS.search(line) is not None and is_bad(line)


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
