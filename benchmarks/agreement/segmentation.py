"""Ways to find the words of scripts without spaces, beside datatrove's tokenizers: Chinese, Japanese, Thai, Khmer, Lao.

In: a language, its documents and what datatrove measured of them. Out: for each candidate, how often its words end
where datatrove's do, how often its verdicts agree, and its speed. A candidate gets what ours gets: limits matched on
one half of the documents, verdicts compared on the other. One whose package is not installed says so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import numpy as np
import regex

from benchmarks.agreement.figures import Measured, figures_of
from benchmarks.agreement.oracle import words_of
from benchmarks.agreement.texts import HELD_OUT, Document, documents
from benchmarks.agreement.verdicts import broken, column, derive, judged, their_verdicts
from marco_data.languages import LANGUAGES
from marco_data.steps.apply_limits import RULES, Limits
from marco_data.steps.measure_quality import METRICS, rounded
from marco_data.words import split_words

Split = Callable[[str], list[str]]
SHIPPED = "ICU's dictionary"
UNSPACED = ("zho_Hans", "jpn_Jpan", "tha_Thai", "khm_Khmr", "lao_Laoo", "mya_Mymr")

_PIECES = regex.compile(r"[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}\u200b]")
_SCRIPTS = r"\p{LB=SA}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー"
_RUNS = regex.compile(rf"(?V1)[{_SCRIPTS}][{_SCRIPTS}\p{{M}}]*|[[\p{{L}}\p{{M}}]--[{_SCRIPTS}]]+|{_PIECES.pattern}")
_UNSPACED = regex.compile(f"[{_SCRIPTS}]")
_GRAPHEME = regex.compile(r"\X")


@dataclass(frozen=True)
class Candidate:
    """`failed` says why there are no figures. Shares are of the half that limits were not matched on."""

    language: str
    name: str
    failed: str = ""
    boundaries: float = 0.0  # F1 of word ends, over documents with the same characters
    compared: float = 0.0  # share of the documents that this is true of
    agrees: float = 0.0
    agrees_unmatched: float = 0.0  # under FineWeb-2's limits as they are
    worst: str = ""
    megabytes_a_second: float = 0.0


def candidates(language: str) -> dict[str, Callable[[], Split]]:
    """Each by its name; made when it is called, with an ImportError where its package is missing."""
    found: dict[str, Callable[[], Split]] = {
        SHIPPED: lambda: partial(split_words, language=LANGUAGES[language]),
        "one character a word": lambda: partial(character_words, size=1),
        "two characters a word": lambda: partial(character_words, size=2),
        "four characters a word": lambda: partial(character_words, size=4),
    }
    if language in _LIBRARIES:
        for name, make in _LIBRARIES[language].items():
            found[name] = make
    return found


def compare(measured: Measured, fineweb2: Limits) -> list[Candidate]:
    found = documents(measured.language)
    theirs = [words_of(document.text, measured.language) for document in found]
    out = []
    for name, make in candidates(measured.language).items():
        try:
            split = make()
        except ImportError as error:
            out.append(Candidate(measured.language, name, failed=str(error)))
        else:
            out.append(_compare(measured, fineweb2, found, theirs, name, split))
    return out


def _compare(
    measured: Measured, fineweb2: Limits, found: list[Document], words: list[list[str]], name: str, split: Split
) -> Candidate:
    split(found[0].text[:100])  # loads what it needs
    start = time.process_time()
    lists = [split(document.text) for document in found]
    seconds = time.process_time() - start
    figures = figures_of(found, lists, measured.language)
    its = replace(measured, ours=rounded(figures.ravel()).reshape(figures.shape))
    on = judged(its, half=HELD_OUT)
    limits = fineweb2.model_copy(update={row.limit: row.value for row in derive(its, fineweb2)})
    theirs, with_matched = broken(its.theirs, fineweb2)[on], broken(its.ours, limits)[on]
    by_rule = (theirs == with_matched).mean(0)
    worst = int(np.argmin(by_rule))
    return Candidate(
        *(measured.language, name, "", *boundaries(words, lists)),
        agrees=float((their_verdicts(its, fineweb2)[on] == with_matched.any(1)).mean()),
        agrees_unmatched=float((theirs.any(1) == broken(its.ours, fineweb2)[on].any(1)).mean()),
        worst=f"{METRICS[column(RULES[worst][0])]} {by_rule[worst]:.1%}",
        megabytes_a_second=int(measured.text_bytes.sum()) / 1e6 / seconds,
    )


def boundaries(theirs: list[list[str]], ours: list[list[str]]) -> tuple[float, float]:
    """(F1 of word ends, share of documents compared): of those where both have the same characters in all."""
    shared = of_theirs = of_ours = compared = 0
    for left, right in zip(theirs, ours, strict=True):
        (one, ends), (other, other_ends) = _ends(left), _ends(right)
        if one != other:
            continue
        compared += 1
        shared += len(ends & other_ends)
        of_theirs, of_ours = of_theirs + len(ends), of_ours + len(other_ends)
    return 2 * shared / max(1, of_theirs + of_ours), compared / max(1, len(theirs))


def _ends(words: list[str]) -> tuple[str, set[int]]:
    """The characters of all words without spaces, and where among them a word ends."""
    bare = [regex.sub(r"[\s\u200b]+", "", word) for word in words]
    return "".join(bare), set(accumulate(map(len, filter(None, bare))))


def character_words(text: str, size: int) -> list[str]:
    """Runs of a script without spaces, `size` characters (with their marks) at a time; other runs whole."""
    out: list[str] = []
    for piece in _RUNS.findall(text):
        if _UNSPACED.match(piece):
            characters = _GRAPHEME.findall(piece)
            out += ["".join(characters[at : at + size]) for at in range(0, len(characters), size)]
        else:
            out.append(piece)
    return out


def _whole(words: list[str]) -> list[str]:
    return [word.strip() for word in words if word.strip()]


def _rjieba() -> Split:
    import rjieba

    return lambda text: _whole(rjieba.cut(text))


def _fugashi() -> Split:
    import fugashi
    import unidic_lite

    tagger = fugashi.GenericTagger(f"-r /dev/null -d {unidic_lite.DICDIR}")
    return lambda text: _whole([node.surface for node in tagger(text)])


def _budoux(language: str) -> Split:
    import budoux

    parser = {
        "zho_Hans": budoux.load_default_simplified_chinese_parser,
        "jpn_Jpan": budoux.load_default_japanese_parser,
        "tha_Thai": budoux.load_default_thai_parser,
    }[language]()
    return lambda text: [
        word for line in text.splitlines() if line for part in parser.parse(line) for word in _PIECES.findall(part)
    ]


def _nlpo3() -> Split:
    import nlpo3
    from pythainlp.corpus import corpus_path

    nlpo3.load_dict(f"{corpus_path()}/words_th.txt", "words_th")
    return lambda text: _whole(nlpo3.segment(text, "words_th"))


def _khmercut() -> Split:
    from khmercut import tokenize

    return lambda text: _whole(tokenize(text))


_LIBRARIES: dict[str, dict[str, Callable[[], Split]]] = {
    "zho_Hans": {"rjieba": _rjieba, "BudouX": partial(_budoux, "zho_Hans")},
    "jpn_Jpan": {"MeCab (fugashi, UniDic lite)": _fugashi, "BudouX": partial(_budoux, "jpn_Jpan")},
    "tha_Thai": {"nlpo3": _nlpo3, "BudouX": partial(_budoux, "tha_Thai")},
    "khm_Khmr": {"khmercut": _khmercut},
}
