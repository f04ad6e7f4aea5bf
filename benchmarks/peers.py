"""The peers as contestants, each imported only when its turn comes, so that one that is not installed says so.

datatrove's filters and signatures get words in two ways: `our words` feeds them those of `marco_data.words` (ICU),
which are faster than any tokenizer datatrove brings and exist for all languages here; `its own words` is what
datatrove does by itself, spaCy for English. Limits are set so that nothing is dropped: ours measures every document,
so the peer does too.
"""

import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import xxhash

from benchmarks.contest import Thunk
from benchmarks.corpus import Round, tokenizer_folder
from benchmarks.files import scratch, write_rows
from benchmarks.ours import with_copies
from marco_data.dedup import DropDuplicates
from marco_data.languages import LANGUAGES
from marco_data.languages.model import EMBEDDED, READ_CHARACTERS
from marco_data.languages.prepare import prepare as prepare_text
from marco_data.tokenizer import QWEN2_PATTERN, Tokenizer
from marco_data.words import split_words

HASHES = 112
SHINGLE = 5

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


# -- datatrove --------------------------------------------------------------------------------------------


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


def datatrove_read(texts: Round) -> Thunk:
    from datatrove.pipeline.readers import JsonlReader

    _quiet()
    path = write_rows(texts)
    return lambda: list(JsonlReader(str(path.parent), glob_pattern=path.name).run())


def datatrove_ftfy(texts: Round) -> Thunk:
    from datatrove.pipeline.formatters import FTFYFormatter

    formatter, plain = FTFYFormatter(), [text.text for text in texts]
    return lambda: [formatter.format(text) for text in plain]


def ftfy_alone(texts: Round) -> Thunk:
    import ftfy

    plain = [text.text for text in texts]
    return lambda: [ftfy.fix_encoding(text) for text in plain]


def _filters(language: Any) -> list[Any]:
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    return [
        GopherRepetitionFilter(**REPETITION, language=language),
        GopherQualityFilter(**GOPHER, language=language),
        FineWebQualityFilter(**FINEWEB, language=language),
    ]


def datatrove_quality(*, own: bool) -> Callable[[Round], Thunk]:
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


def datatrove_signatures(*, own: bool) -> Callable[[Round], Thunk]:
    def prepare(texts: Round) -> Thunk:
        signer, plain = _signer(words(own=own)), [text.text for text in texts]

        def run() -> None:
            for text in plain:
                shingles = signer.get_shingles(text)
                if shingles.size:
                    signer.get_signature(shingles)

        return run

    return prepare


def datatrove_pass(*, own: bool) -> Callable[[Round], Thunk]:
    """The same chain: read, repair, identify, judge three times, sign, write."""

    def prepare(texts: Round) -> Thunk:
        from datatrove.pipeline.filters import LanguageFilter
        from datatrove.pipeline.formatters import FTFYFormatter
        from datatrove.pipeline.readers import JsonlReader
        from datatrove.pipeline.writers import ParquetWriter
        from datatrove.utils import lid

        lid.FT176LID.MODEL_URL = str(EMBEDDED)
        path, language = write_rows(texts), words(own=own)

        def run() -> None:
            chain = [FTFYFormatter(), LanguageFilter(label_only=True), *_filters(language)]
            chain += [ParquetWriter(str(scratch())), _signer(language)]
            documents: Iterator[Any] = JsonlReader(str(path.parent), glob_pattern=path.name).run()
            for one in chain:
                documents = one.run(documents, 0, 1)
            for _ in documents or ():
                pass

        return run

    return prepare


# -- language identification ------------------------------------------------------------------------------


def fasttext_predict(*, whole: bool) -> Callable[[Round], Thunk]:
    """fastText with the embedded model, given the prepared text: all of each document, or what ours reads."""

    def prepare(texts: Round) -> Thunk:
        import fasttext

        model = fasttext.load_model(str(EMBEDDED))
        plain = [text.text if whole else text.text[:READ_CHARACTERS] for text in texts]
        return lambda: [model.predict(prepare_text(text)) for text in plain]

    return prepare


# -- signatures and duplicates ----------------------------------------------------------------------------


def shingles(text: str) -> list[str]:
    """Words between spaces, five at a time, lower case: what the signature libraries are usually fed."""
    units = text.lower().split()
    return [" ".join(units[at : at + SHINGLE]) for at in range(max(1, len(units) - SHINGLE + 1))]


def datasketch_signatures(texts: Round) -> Thunk:
    from datasketch import MinHash

    plain = [text.text for text in texts]

    def run() -> None:
        for text in plain:
            MinHash(num_perm=HASHES).update_batch([shingle.encode() for shingle in shingles(text)])

    return run


def rensa_signatures(texts: Round) -> Thunk:
    from rensa import RMinHash

    plain = [text.text for text in texts]

    def run() -> None:
        for text in plain:
            signature = RMinHash(num_perm=HASHES, seed=1)
            signature.update(shingles(text))
            signature.digest()

    return run


def datasketch_duplicates(texts: Round) -> Thunk:
    from datasketch import MinHash, MinHashLSH

    signatures = []
    for text in with_copies(texts):
        signatures.append(MinHash(num_perm=HASHES))
        signatures[-1].update_batch([shingle.encode() for shingle in shingles(text.text)])
    banding = DropDuplicates().banding

    def run() -> int:
        index = MinHashLSH(num_perm=HASHES, params=(banding.bands, banding.rows))
        dropped = 0
        for key, signature in enumerate(signatures):
            near = any(signature.jaccard(signatures[other]) >= 0.8 for other in index.query(signature))
            dropped += near
            if not near:
                index.insert(key, signature)
        return dropped

    return run


def rensa_duplicates(texts: Round) -> Thunk:
    from rensa import RMinHash, RMinHashLSH

    signatures = RMinHash.from_token_sets([shingles(text.text) for text in with_copies(texts)], HASHES, 1)
    bands = DropDuplicates().banding.bands

    def run() -> int:
        index = RMinHashLSH(threshold=0.8, num_perm=HASHES, num_bands=bands)
        dropped = 0
        for key, signature in enumerate(signatures):
            near = any(signature.jaccard(signatures[other]) >= 0.8 for other in index.query(signature))
            dropped += near
            if not near:
                index.insert(key, signature)
        return dropped

    return run


# -- tokens -----------------------------------------------------------------------------------------------


def tokenizers_batch(texts: Round) -> Thunk:
    import tokenizers

    tokenizer = Tokenizer.load(tokenizer_folder())._encoder
    assert isinstance(tokenizer, tokenizers.Tokenizer)
    plain = [text.text for text in texts]
    return lambda: [encoding.ids for encoding in tokenizer.encode_batch_fast(plain, add_special_tokens=False)]


@cache
def _tiktoken() -> Any:
    import tiktoken

    spec = json.loads(Tokenizer.load(tokenizer_folder())._encoder.to_str())
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letter_of = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    byte_of = {letter: byte for byte, letter in letter_of.items()}
    ranks = {bytes(byte_of[c] for c in token): number for token, number in spec["model"]["vocab"].items()}
    return tiktoken.Encoding("qwen2", pat_str=QWEN2_PATTERN, mergeable_ranks=ranks, special_tokens={})


def tiktoken_batch(texts: Round) -> Thunk:
    import os
    import unicodedata

    encoding, plain = _tiktoken(), [text.text for text in texts]
    cores = len(os.sched_getaffinity(0))

    def run() -> Any:
        return encoding.encode_ordinary_batch([unicodedata.normalize("NFC", t) for t in plain], num_threads=cores)

    return run
