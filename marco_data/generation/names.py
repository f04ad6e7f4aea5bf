"""Names as letters show them: a text in, the words that are likely names out.

In Latin, Cyrillic and Greek writing a capitalised word inside a sentence; in any other the words in Latin letters.
Conservative: not the first word of a sentence, a line, a quotation or a list item, nothing in a line that capitalises
most of its words, no single letter, and nothing in German, which capitalises every noun.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import regex

from marco_data.languages import Language

_BICAMERAL = frozenset({"Latn", "Cyrl", "Grek"})
_NOUNS_ARE_CAPITALISED = frozenset({"deu_Latn"})
# Latin letters are words of their own, also where they stand between Han without a space.
_WORD = regex.compile(r"\p{Latin}[\p{Latin}\p{M}'’-]*+|[\p{L}--\p{Latin}][[\p{L}--\p{Latin}]\p{M}'’-]*+", regex.V1)
_LATIN = regex.compile(r"\p{Latin}{3,}")
_INSIDE = regex.compile(r"[\p{L}\p{Nd},]['’\p{Pe}]?[ \t]+\Z")
_LEAST = 3
_TITLE = 0.6


@dataclass(frozen=True)
class Beginnings:
    """Words by their first letters."""

    by_start: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def has(self, name: str) -> bool:
        """Whether a word begins as `name` does, for three letters and at least half of the name."""
        folded = name.casefold()
        least = max(_LEAST, (len(folded) + 1) // 2)
        return any(word[:least] == folded[:least] for word in self.by_start.get(folded[:_LEAST], ()))


def words_by_beginning(text: str) -> Beginnings:
    found = Beginnings()
    for word in _WORD.findall(text):
        folded = word.casefold()
        found.by_start[folded[:_LEAST]].add(folded)
        for mark in "'’-":
            if mark in folded:
                for part in folded.split(mark):
                    found.by_start[part[:_LEAST]].add(part)
    return found


def names(text: str, language: Language) -> Iterator[str]:
    """Each likely name of a text in `language` once."""
    if not _BICAMERAL.intersection(language.scripts):
        yield from dict.fromkeys(_LATIN.findall(text))
    elif language.code not in _NOUNS_ARE_CAPITALISED:
        yield from capitalised(text)


def capitalised(text: str) -> Iterator[str]:
    """Each capitalised word inside sentences once, but of lines that capitalise most of theirs."""
    seen: set[str] = set()
    for line in text.splitlines():
        words = list(_WORD.finditer(line))
        if sum(word.group()[0].isupper() for word in words) > _TITLE * len(words):
            continue
        for word in words:
            name = word.group()
            if name[0].isupper() and len(name) >= _LEAST and name not in seen and _is_inside(line, word.start()):
                seen.add(name)
                yield name


def _is_inside(line: str, at: int) -> bool:
    """Whether a word that begins there follows another of its sentence."""
    return _INSIDE.search(line, max(0, at - 4), at) is not None
