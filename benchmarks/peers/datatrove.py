"""datatrove 0.10: reader, FTFY, language filter, three quality filters, signatures, and all of it as one chain.

Filters and signatures get words in two ways: `our words` feeds them those of `marco_data.words` (ICU),
which are faster than any tokenizer datatrove brings and exist for all languages here; `its own words` is what
datatrove does by itself, spaCy for English. Limits are set so that nothing is dropped: ours measures every document,
so the peer does too.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import xxhash

from benchmarks.contest import Thunk
from benchmarks.corpus import Round
from benchmarks.files import scratch, write_rows
from benchmarks.peers import HASHES, SHINGLE
from marco_data.languages import LANGUAGES
from marco_data.languages.model import EMBEDDED
from marco_data.words import split_words

NEVER = math.inf
REPETITION: dict[str, Any] = dict.fromkeys(
    ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"), NEVER
) | {
    "top_n_grams": tuple((n, NEVER) for n in (2, 3, 4)),
    "dup_n_grams": tuple((n, NEVER) for n in (5, 6, 7, 8, 9, 10)),
}
GOPHER: dict[str, Any] = {
    "min_doc_words": -1,
    "max_doc_words": NEVER,
    "min_avg_word_length": -1,
    "max_avg_word_length": NEVER,
    "max_symbol_word_ratio": NEVER,
    "max_bullet_lines_ratio": NEVER,
    "max_ellipsis_lines_ratio": NEVER,
    "max_non_alpha_words_ratio": -1,
    "min_stop_words": -1,
}
FINEWEB: dict[str, Any] = {
    "line_punct_thr": -1,
    "short_line_thr": NEVER,
    "char_duplicates_ratio": NEVER,
    "new_line_ratio": NEVER,
}


@cache
def our_words() -> Any:
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):  # type: ignore[misc]
        def word_tokenize(self, text: str) -> list[str]:
            return split_words(text, LANGUAGES["eng_Latn"])

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    return Words("eng")


def words(*, own: bool) -> Any:
    """What datatrove takes for `language`: a name, or a tokenizer."""
    _quiet()
    return "eng" if own else our_words()


@cache
def _quiet() -> None:
    from loguru import logger

    logger.disable("datatrove")


def _documents(texts: Round) -> list[Any]:
    from datatrove.data import Document

    return [Document(text=text.text, id=str(number)) for number, text in enumerate(texts)]


def read(texts: Round) -> Thunk:
    from datatrove.pipeline.readers import JsonlReader

    _quiet()
    path = write_rows(texts)
    return lambda: list(JsonlReader(str(path.parent), glob_pattern=path.name).run())


def ftfy(texts: Round) -> Thunk:
    from datatrove.pipeline.formatters import FTFYFormatter

    formatter, plain = FTFYFormatter(), [text.text for text in texts]
    return lambda: [formatter.format(text) for text in plain]


def _filters(language: Any) -> list[Any]:
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    return [
        GopherRepetitionFilter(**REPETITION, language=language),
        GopherQualityFilter(**GOPHER, language=language),
        FineWebQualityFilter(**FINEWEB, language=language),
    ]


def quality(*, own: bool) -> Callable[[Round], Thunk]:
    def prepare(texts: Round) -> Thunk:
        filters, documents = _filters(words(own=own)), _documents(texts)

        def run() -> None:
            for document in documents:
                kept = [one.filter(document) for one in filters]
                assert all(verdict is True for verdict in kept), kept

        return run

    return prepare


def _signer(language: Any) -> Any:
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    config = MinhashConfig(n_grams=SHINGLE)  # its defaults: 14 x 8 hashes over xxh64
    assert config.num_buckets * config.hashes_per_bucket == HASHES
    signer = MinhashDedupSignature(str(scratch()), config, language=language)
    # Its own passes the text unencoded, which xxhash 4 no longer takes.
    signer._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())
    return signer


def signatures(*, own: bool) -> Callable[[Round], Thunk]:
    def prepare(texts: Round) -> Thunk:
        signer, plain = _signer(words(own=own)), [text.text for text in texts]

        def run() -> None:
            for text in plain:
                shingles = signer.get_shingles(text)
                if shingles.size:
                    signer.get_signature(shingles)

        return run

    return prepare


@cache
def _identifier() -> Any:
    """Its language filter with our model in place of lid.176, which it would download; loaded once."""
    from datatrove.pipeline.filters import LanguageFilter
    from datatrove.utils import lid

    lid.FT176LID.MODEL_URL = str(EMBEDDED)
    return LanguageFilter(label_only=True)


def chain(*, own: bool) -> Callable[[Round], Thunk]:
    """The same chain as ours: read, repair, identify, judge three times, sign, write."""

    def prepare(texts: Round) -> Thunk:
        from datatrove.pipeline.formatters import FTFYFormatter
        from datatrove.pipeline.readers import JsonlReader
        from datatrove.pipeline.writers import ParquetWriter

        path, language = write_rows(texts), words(own=own)

        def run() -> None:
            steps = [FTFYFormatter(), _identifier(), *_filters(language)]
            steps += [ParquetWriter(str(scratch())), _signer(language)]
            documents: Iterator[Any] = JsonlReader(str(path.parent), glob_pattern=path.name).run()
            for one in steps:
                documents = one.run(documents, 0, 1)
            for _ in documents or ():
                pass

        return run

    return prepare
