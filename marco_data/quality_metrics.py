"""The quality figures of one document: its text and its words in, one number a metric out.

These are the figures FineWeb-2 compares with its limits (Gopher's repetition and quality rules, FineWeb's line
rules), in its order and with its definitions: fed the same words they equal datatrove 0.10's. Written to be
read; each is linear in the text. Lengths are in characters, shares are of 0 to 1 (a share whose two lengths
count different things, as an n-gram's with its spaces in a text, may exceed 1), and every figure is defined for
the empty text: 0.

This module knows neither limits nor verdicts nor languages.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable

import regex

TOP_N = (2, 3, 4)
DUPLICATE_N = (5, 6, 7, 8, 9, 10)

# Unicode's Sentence_Terminal, and three Khmer signs that close a line as a full stop does.
TERMINALS = r"\p{Sentence_Terminal}\u17d6\u17d9\u17da"
# A word of these alone is a symbol. The marks are datatrove's (Gopher names none), with the control characters
# but tab and line feed. `€` and `•` are not among them; the limits were derived so.
_MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～"
_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"

SYMBOLS = f"{regex.escape(_MARKS)}{_CONTROLS}{TERMINALS}"
_SYMBOL = regex.compile(f"[{SYMBOLS}]+")
_ENDS_A_SENTENCE = regex.compile(f"[{TERMINALS}]")
_LINE_ENDS = re.compile("\n+")


def quality_metrics(
    text: str, words: list[str], stop_words: Collection[str], short_line_characters: int
) -> dict[str, float]:
    """Every metric by name, in the order FineWeb-2 looks at them."""
    metrics: dict[str, float] = {"duplicate_lines": duplicate_lines(text)}
    for n in TOP_N:
        metrics[f"top_{n}_gram"] = top_n_gram(text, words, n)
    for n in DUPLICATE_N:
        metrics[f"duplicate_{n}_grams"] = duplicate_n_grams(text, words, n)
    lines = [line for line in text.split("\n") if line.strip()]
    metrics["line_punctuation"] = line_punctuation(lines)
    metrics["short_lines"] = _share(len(line) <= short_line_characters for line in lines)
    metrics["duplicate_line_characters"] = duplicate_line_characters(text, lines)
    metrics["new_lines"] = _ratio(text.count("\n"), len(words))
    real_words = [word for word in words if not is_symbol(word)]
    metrics["words"] = len(real_words)
    metrics["word_length"] = _ratio(sum(map(len, real_words)), len(real_words))
    metrics["hashes"] = _ratio(text.count("#"), len(words))
    metrics["ellipses"] = _ratio(text.count("...") + text.count("…"), len(words))
    metrics["bullet_lines"] = _share(line.lstrip().startswith(("•", "-")) for line in text.splitlines())
    metrics["ellipsis_lines"] = _share(line.rstrip().endswith(("...", "…")) for line in text.splitlines())
    metrics["alphabetic_words"] = _share(any(map(str.isalpha, word)) for word in words)
    metrics["stop_words"] = len(set(stop_words).intersection(words))
    return metrics


def duplicate_lines(text: str) -> float:
    """Share of the lines that repeat an earlier one. Empty lines between others are no lines."""
    if not text:
        return 0.0
    lines = _LINE_ENDS.split(text)
    return (len(lines) - len(set(lines))) / len(lines)


def top_n_gram(text: str, words: list[str], n: int) -> float:
    """Characters in all copies of the commonest n-gram (the first of equals), to those of the text."""
    counts = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    if not counts:
        return 0.0
    n_gram, count = max(counts.items(), key=lambda item: item[1])
    return _ratio(len(n_gram) * count, len(text))


def duplicate_n_grams(text: str, words: list[str], n: int) -> float:
    """Characters in n-grams that were seen before, no word counted twice, to those of the text."""
    seen: set[str] = set()
    repeated = i = 0
    while i + n <= len(words):
        n_gram = "".join(words[i : i + n])
        if n_gram in seen:
            repeated += len(n_gram)
            i += n
        else:
            seen.add(n_gram)
            i += 1
    return _ratio(repeated, len(text))


def line_punctuation(lines: list[str]) -> float:
    """Share of the lines that end as a sentence does."""
    return _share(_ENDS_A_SENTENCE.match(line[-1]) is not None for line in lines)


def duplicate_line_characters(text: str, lines: list[str]) -> float:
    """Characters of the lines that repeat an earlier one, to those of the text without its line ends."""
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    return _ratio(repeated, len(text) - text.count("\n"))


def is_symbol(word: str) -> bool:
    """Whether a word is punctuation only."""
    return _SYMBOL.fullmatch(word) is not None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return _ratio(sum(values), len(values))
