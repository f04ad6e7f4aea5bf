"""datatrove's words and figures: a text in, its words by datatrove's tokenizer of the language and 22 figures out.

datatrove's filters answer yes or no. To learn the figure behind an answer exactly, each limit is an object that notes
what it is compared with and is never exceeded; so one run of each filter, in datatrove's own code, tells all figures.

A language goes by the code that FineWeb-2 passed to datatrove (`arb_Arab`, `cmn_Hani` for Chinese). Tokenizers that
need a package that is not installed raise Missing.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import regex

from marco_data.languages import LANGUAGES
from marco_data.quality_metrics import DUPLICATE_N, TOP_N
from marco_data.steps.measure_quality import METRICS, stop_words_of
from marco_data.words import split_words

Figures = npt.NDArray[np.float64]

# Three rules of Gopher that FineWeb has in English and FineWeb-2 turned off; we do not have them.
PARAGRAPH_RULES = ("dup_para_frac", "dup_para_char_frac", "dup_line_char_frac")
PARAGRAPH_LIMITS = (0.3, 0.2, 0.2)


STAND_INS = {"mlt_Latn": "our words with hyphen and apostrophe left to the article or preposition (`il-`, `ta'`)"}
"""Languages whose tokenizer (Stanza's, which needs torch and a download) is stood in for, and by what.

Maltese only: its articles are written with a hyphen, and all 124 documents of prose fall to a limit that was found
with words that hold it. Galician, Welsh and Kazakh lack Stanza too, and lose 3 to 6 % as they are.
"""


class Missing(Exception):
    """A package that datatrove's tokenizer of a language needs is not here."""


class _Limit:
    """Notes what it is compared with. Every figure is within it."""

    __array_ufunc__ = None  # so that a number of numpy leaves the comparison to us

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __gt__(self, figure: Any) -> bool:
        self.seen.append(float(figure))
        return False

    __lt__ = __gt__

    def take(self) -> list[float]:
        seen, self.seen = self.seen, []
        return seen


def datatrove_code(language: str) -> str:
    return "cmn_Hani" if language == "zho_Hans" else language


@cache
def tokenizer_of(language: str) -> Any:
    """What datatrove takes for `language`: a code whose tokenizer was tried, or our stand-in for one."""
    try:
        from datatrove.utils.word_tokenizers import load_word_tokenizer
        from loguru import logger

        logger.disable("datatrove")
        if language in STAND_INS:
            return _glued(language)
        load_word_tokenizer(datatrove_code(language)).word_tokenize("a")
    except ImportError as error:
        raise Missing(str(error).split("\n")[0]) from None
    return datatrove_code(language)


def _glued(language: str) -> Any:
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Glued(WordTokenizer):  # type: ignore[misc]
        """Our words, where a hyphen before more, or an apostrophe at the end, belongs to the letters before it."""

        def word_tokenize(self, text: str) -> list[str]:
            out: list[str] = []
            for number, piece in enumerate(regex.split(r"(?<=\p{L})(-(?=\S)|['’](?!\p{L}))", text)):
                if number % 2:
                    out[-1] += piece
                else:
                    out += split_words(piece, LANGUAGES[language])
            return out

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    return Glued(language)


def words_of(text: str, language: str) -> list[str]:
    from datatrove.utils.text import split_into_words

    found: list[str] = split_into_words(text, tokenizer_of(language))
    return found


class Filters:
    """datatrove's three filters of one language, with limits that note the figures."""

    def __init__(self, language: str) -> None:
        from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

        words = tokenizer_of(language)
        self._top = {n: _Limit() for n in TOP_N}
        self._duplicate = {n: _Limit() for n in DUPLICATE_N}
        self._one = {name: _Limit() for name in (*_REPETITION, *_FINEWEB, *_GOPHER)}
        self._filters = (
            GopherRepetitionFilter(
                **{name: self._one[name] for name in _REPETITION},
                top_n_grams=tuple(self._top.items()),
                dup_n_grams=tuple(self._duplicate.items()),
                language=words,
            ),
            FineWebQualityFilter(**{name: self._one[name] for name in _FINEWEB}, language=words),
            GopherQualityFilter(
                **{name: self._one[name] for name in _GOPHER}, stop_words=list(stop_words_of(language)), language=words
            ),
        )

    def figures(self, text: str) -> Figures:
        """One figure a metric in the order of METRICS, then those of PARAGRAPH_RULES."""
        from datatrove.data import Document

        for judge in self._filters:
            verdict = judge.filter(Document(text=text, id=""))
            assert verdict is True, verdict
        single = {name: limit.take() for name, limit in self._one.items()}
        hashes, ellipses = single.pop("max_symbol_word_ratio")
        known = {_METRIC[name]: seen[0] for name, seen in single.items() if name in _METRIC}
        known |= {"hashes": hashes, "ellipses": ellipses}
        known |= {f"top_{n}_gram": _first(limit) for n, limit in self._top.items()}
        known |= {f"duplicate_{n}_grams": _first(limit) for n, limit in self._duplicate.items()}
        return np.array([*(known[metric] for metric in METRICS), *(single[name][0] for name in PARAGRAPH_RULES)])


def _first(limit: _Limit) -> float:
    """A text with fewer words than the n-gram has none to judge: ours call that 0."""
    return next(iter(limit.take()), 0.0)


_METRIC = {
    "dup_line_frac": "duplicate_lines",
    "line_punct_thr": "line_punctuation",
    "short_line_thr": "short_lines",
    "char_duplicates_ratio": "duplicate_line_characters",
    "new_line_ratio": "new_lines",
    "min_doc_words": "words",
    "min_avg_word_length": "word_length",
    "max_bullet_lines_ratio": "bullet_lines",
    "max_ellipsis_lines_ratio": "ellipsis_lines",
    "max_non_alpha_words_ratio": "alphabetic_words",
    "min_stop_words": "stop_words",
}
_REPETITION = ("dup_line_frac", *PARAGRAPH_RULES)
_FINEWEB = ("line_punct_thr", "short_line_thr", "char_duplicates_ratio", "new_line_ratio")
_GOPHER = (
    *("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio"),
    *("max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words"),
)
