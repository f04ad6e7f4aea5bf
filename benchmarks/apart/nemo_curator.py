"""NeMo Curator 1.4: its heuristic filters that are Gopher's, scored and judged one document at a time.

Over words between spaces. Its fuzzy deduplication is not here: it imports cudf and runs on a GPU only.
"""

from collections.abc import Callable

from nemo_curator.stages.text.filters.heuristic import repetition, string

WORDS = (
    string.WordCountFilter,
    string.MeanWordLengthFilter,
    string.SymbolsToWordsFilter,
    string.BulletsFilter,
    string.EllipsisFilter,
    string.WordsWithoutAlphabetsFilter,
    string.CommonEnglishWordsFilter,
    string.PunctuationFilter,
)
REPETITION = (
    repetition.RepeatedLinesFilter,
    repetition.RepeatedParagraphsFilter,
    repetition.RepeatedLinesByCharFilter,
    repetition.RepeatedParagraphsByCharFilter,
)


def quality(texts: list[str]) -> Callable[[], object]:
    filters = [kind() for kind in (*WORDS, *REPETITION)]
    filters += [repetition.RepeatingTopNGramsFilter(n=n) for n in (2, 3, 4)]
    filters += [repetition.RepeatingDuplicateNGramsFilter(n=n) for n in (5, 6, 7, 8, 9, 10)]
    return lambda: [one.keep_document(one.score_document(text)) for text in texts for one in filters]


WORK = {"quality": quality}
