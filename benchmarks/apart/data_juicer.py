"""Data-Juicer 1.6: the signatures of its MinHash deduplicator, and its text filters that need no model.

The filters are those on words, lines and characters: fewer figures than ours, over words between spaces.
"""

from collections.abc import Callable

from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
from data_juicer.ops.filter.average_line_length_filter import AverageLineLengthFilter
from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
from data_juicer.ops.filter.maximum_line_length_filter import MaximumLineLengthFilter
from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
from data_juicer.ops.filter.words_num_filter import WordsNumFilter
from data_juicer.utils.constant import Fields

from benchmarks.peers import HASHES, SHINGLE

BANDS = 14


def quality(texts: list[str]) -> Callable[[], object]:
    filters = [
        WordsNumFilter(),
        WordRepetitionFilter(rep_len=SHINGLE),
        WordRepetitionFilter(rep_len=10),
        CharacterRepetitionFilter(),
        AlphanumericFilter(),
        SpecialCharactersFilter(),
        AverageLineLengthFilter(),
        MaximumLineLengthFilter(),
    ]

    def run() -> None:
        for one in filters:
            samples = one.compute_stats_batched({"text": texts, Fields.stats: [{} for _ in texts]})
            list(one.process_batched(samples))

    return run


def signature(texts: list[str]) -> Callable[[], object]:
    signer = DocumentMinhashDeduplicator(
        tokenization="space",
        window_size=SHINGLE,
        num_permutations=HASHES,
        num_bands=BANDS,
        num_rows_per_band=HASHES // BANDS,
    )
    return lambda: [signer.compute_hash({"text": text}) for text in texts]


WORK = {"quality": quality, "signature": signature}
