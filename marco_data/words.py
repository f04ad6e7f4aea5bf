"""Words: text in, its words out, by the word boundaries of Unicode (UAX #29) as ICU applies them.

One definition for all languages. Scripts with spaces are split by the rules of UAX #29; Chinese, Japanese,
Thai, Lao, Khmer and Burmese by ICU's dictionaries, which follow the script of the text and not the language.
A punctuation mark or symbol is a word of its own (`...` is three), white space is none: the convention of the
spaCy words that FineWeb-2 counted, so that its limits can be used.

`split_words` is the definition, one text at a time. `find_words` gives the places of the same words in a whole
batch: a kernel finds those of spaced scripts, and ICU is asked for lines that hold a character of another.

Measured (150,000 characters of clean text a language, one core): ICU does 15-34 MB/s on spaced scripts (the
`regex` module's UAX #29 does 10-22), 11 on Thai, 6-7 on Chinese and Japanese, 12-24 on Khmer, Lao and Burmese;
the kernel 310 on English, 95-190 on other spaced scripts.
`kernels.icu` asks ICU without a Python string for each word: 18-19 on Chinese and Japanese, 38-48 on Thai,
Khmer and Burmese (1 MB of each, a loaded machine).
Agreement of word ends with datatrove 0.10.1's tokenisers, F1: 0.97-0.999 on sw ru am tr en de fi fr, 0.92-0.95 on
zh ja lo, 0.88-0.89 on th km vi (pyvi joins compounds), 0.70 on my; 0.46 on ko, which datatrove splits into morphemes.
What that does to verdicts is in `docs/quality.md`.

This module does not know about sentences, stop words or letter case.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from icu4py.breakers import WordBreaker

from marco_data.languages import Language


def split_words(text: str, language: Language | None) -> list[str]:
    """The words of `text` in order, punctuation marks included, white space left out.

    Linear in the text, also in a line of a million letters without a space. `text` must be encodable as
    UTF-8 (no lone surrogates), as all text read from Arrow is.
    """
    stripped = map(str.strip, _segments(text, language))
    return [word for word in stripped if word]


def _segments(text: str, language: Language | None) -> WordBreaker:
    # ICU breaks at a zero width space (Khmer, Burmese and Thai use it between words) but would return it.
    return WordBreaker(text.replace("\u200b", " "), _locale(language))


def _locale(language: Language | None) -> str:
    return "en" if language is None else language.iso639_1 or "en"


def _segment_ends(units: npt.NDArray[np.uint16], language: Language | None) -> npt.NDArray[np.int32]:
    """Where ICU's segments of a text in UTF-16 end."""
    from marco_data.kernels.icu import segment_ends

    ends = segment_ends(units, _locale(language))
    if ends is None:
        breaker = WordBreaker(units.tobytes().decode("utf-16-le"), _locale(language))
        ends = np.fromiter((end for _, end in breaker.segments()), np.int32)
    return ends


class Texts(NamedTuple):
    """The texts of a batch where Arrow holds them: the i-th is the UTF-8 of data[offsets[i]:offsets[i + 1]]."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]


class Words(NamedTuple):
    """The words of a batch: of text i the first[i]-th to first[i + 1]-th, each data[start:end].

    `seen` is what the characters of each are, in the bits of `kernels.characters`.
    """

    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    seen: npt.NDArray[np.uint16]
    first: npt.NDArray[np.int64]


def texts_of(column: pa.Array) -> Texts:
    """The buffers of a column of strings without nulls; a copy of its offsets, none of its text.

    What Arrow calls a string may hold any bytes: those that are not UTF-8 raise, as decoding them would.
    """
    if column.null_count:
        raise ValueError("a text is missing")
    wide = pa.types.is_large_string(column.type)
    _, offsets, data = column.buffers()
    every = np.frombuffer(offsets, np.int64 if wide else np.int32) if offsets else np.zeros(1, np.int64)
    places = every[column.offset : column.offset + len(column) + 1].astype(np.int64)
    if places[-1] >= 1 << 31:
        raise ValueError("a batch of more than 2 GiB of text cannot be measured at once")
    texts = Texts(np.frombuffer(data or b"", np.uint8), places)
    if _latest is None or not _same(_latest.texts, texts):  # one step after another asks
        _check(column, texts)
    return texts


def _check(column: pa.Array, texts: Texts) -> None:
    """Raise where a text is not UTF-8, as Arrow has it, which takes ten times as long to say that all are."""
    from marco_data.kernels.utf8 import are_utf8  # numba takes 0.6 s to import: not for a plan

    column.validate()
    if (np.diff(texts.offsets) < 0).any() or not are_utf8(texts.data, texts.offsets):
        column.validate(full=True)


class _Latest(NamedTuple):
    texts: Texts
    language: Language | None
    words: Words


_latest: _Latest | None = None


def find_words(texts: Texts, language: Language | None) -> Words:
    """Where the words of each text are; the same words as `split_words`.

    The answer for the latest batch is kept, because one step after another asks for it.
    """
    global _latest
    if _latest is None or _latest.language != language or not _same(_latest.texts, texts):
        _latest = _Latest(texts, language, _find_words(texts, language))
    return _latest.words


def forget() -> None:
    """Lets go of the latest batch and its words."""
    global _latest
    _latest = None


def _same(known: Texts, texts: Texts) -> bool:
    """Whether these are the same texts in the same place, where nothing else can be while they are known."""
    same_place = known.data.ctypes.data == texts.data.ctypes.data and len(known.data) == len(texts.data)
    return same_place and np.array_equal(known.offsets, texts.offsets)


def _find_words(texts: Texts, language: Language | None) -> Words:
    from marco_data.kernels import words as kernel  # numba takes 0.6 s to import: not for a plan
    from marco_data.kernels.characters import characters

    table = characters()
    starts, ends, seen, left = kernel.find_words(texts.data, texts.offsets, table)
    if len(left):
        # One question for all: to make a breaker takes as long as to cut a line. Between lines nothing joins.
        found = kernel.trim_segments(
            texts.data, left, _segment_ends(kernel.utf16_of(texts.data, left), language), table
        )
        order = np.argsort(np.concatenate([starts, found[0]]), kind="stable")  # two ascending runs: a merge
        starts, ends, seen = (
            np.concatenate([starts, found[0]])[order],
            np.concatenate([ends, found[1]])[order],
            np.concatenate([seen, found[2]])[order],
        )
    return Words(starts, ends, seen, np.searchsorted(starts, texts.offsets.astype(np.int32)))
