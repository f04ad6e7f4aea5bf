"""Figures of all documents of a language, theirs and ours, and whether they are the same when fed the same words.

In: a language. Out: a Measured: datatrove's figures with its words, ours with ours, and for each document whether
our twin in Python (`quality_metrics`) and our kernel give datatrove's figures bit for bit with datatrove's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.agreement.oracle import PARAGRAPH_RULES, Figures, Filters, words_of
from benchmarks.agreement.texts import REFERENCE, Document, documents
from marco_data.kernels import quality
from marco_data.kernels.characters import CLASS, characters
from marco_data.languages import LANGUAGES
from marco_data.quality_metrics import SYMBOLS, TERMINALS, quality_metrics
from marco_data.step import Tools
from marco_data.steps.measure_quality import METRICS, MeasureQuality, stop_words_of
from marco_data.words import texts_of

Flags = npt.NDArray[np.bool_]
SHORT_LINE = 30


@dataclass(frozen=True)
class Measured:
    """Arrays of one row a document; `theirs` and `ours` have a column for each of METRICS."""

    language: str
    theirs: Figures
    ours: Figures  # rounded, as the step has them
    paragraphs: Figures  # of PARAGRAPH_RULES
    twin_equal: Flags  # a column a metric
    kernel_equal: Flags
    invisible: Flags  # whether datatrove counts zero width spaces as words: its Lao tokenizer does
    reference: Flags
    half: npt.NDArray[np.int64]
    text_bytes: npt.NDArray[np.int64]


def measure(language: str) -> Measured:
    """Raises oracle.Missing where datatrove's tokenizer cannot be had."""
    filters, found = Filters(language), documents(language)
    stops = stop_words_of(language)
    theirs, twin, lists = [], [], []
    for document in found:
        words = words_of(document.text, language)
        theirs.append(filters.figures(document.text))
        twin.append(list(quality_metrics(document.text, words, stops, SHORT_LINE).values()))
        lists.append(words)
    every = np.array(theirs).reshape(len(found), len(METRICS) + len(PARAGRAPH_RULES))
    expected = every[:, : len(METRICS)]
    return Measured(
        language=language,
        theirs=expected,
        ours=our_figures(found, language),
        paragraphs=every[:, len(METRICS) :],
        twin_equal=np.array(twin).reshape(expected.shape) == expected,
        kernel_equal=figures_of(found, lists, language) == expected,
        invisible=np.array([any(set(word) == {"\u200b"} for word in words) for words in lists]),
        reference=np.array([document.kind == REFERENCE for document in found]),
        half=np.array([document.half for document in found]),
        text_bytes=np.array([len(document.text.encode()) for document in found]),
    )


def our_figures(found: Sequence[Document], language: str) -> Figures:
    """What the step `measure_quality` says of each document."""
    batch = pa.record_batch({"text": pa.array([document.text for document in found], pa.string())})
    columns = MeasureQuality().bind(LANGUAGES[language], Tools())(batch).columns
    return np.column_stack([columns[f"quality_{metric}"].to_numpy(zero_copy_only=False) for metric in METRICS])


def figures_of(found: Sequence[Document], lists: Sequence[list[str]], language: str) -> Figures:
    """The kernel's figures with given words.

    A tokenizer may give words that are not in the text as they are, or that share a letter: so every word stands
    behind the texts, once, and its places are there.
    """
    texts = texts_of(pa.array([document.text for document in found], pa.string()))
    vocabulary = {word: word.encode() for words in lists for word in words}
    ends = len(texts.data) + np.cumsum([len(utf8) for utf8 in vocabulary.values()])
    place = {word: (end - len(utf8), end) for (word, utf8), end in zip(vocabulary.items(), ends.tolist(), strict=True)}
    places = np.array([place[word] for words in lists for word in words], np.int32).reshape(-1, 2)
    table = characters(SYMBOLS, TERMINALS)
    holds = {word: np.bitwise_or.reduce(table[np.frombuffer(word.encode("utf-32-le"), np.uint32)]) for word in place}
    seen = np.array([holds[word] for words in lists for word in words], np.uint16) & np.uint16(~CLASS & 0xFFFF)
    data = np.concatenate([texts.data, np.frombuffer(b"".join(vocabulary.values()), np.uint8)])
    data.flags.writeable = False  # as Arrow's are: else the kernel is compiled once more
    first = np.cumsum([0, *map(len, lists)])
    stops = quality.stop_word_set([word.encode() for word in sorted(stop_words_of(language))])
    figures: Figures = quality.measure(
        *(data, texts.offsets, np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(places[:, 1]), seen),
        *(first, table, stops, SHORT_LINE),
    )
    return figures
