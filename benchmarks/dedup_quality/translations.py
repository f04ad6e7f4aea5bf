"""Translations: the same item in two languages is two documents, and both have to stay.

Documents of all languages that share a URL (a news item and its translations) go into one corpus, which a build never
does: it looks for duplicates within a language. Each is signed in its own language, or all of them as English, as if
no language had been identified.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from benchmarks.dedup_quality.judge import exact_shingles, judge
from marco_data.languages import LANGUAGES

ENGLISH = LANGUAGES["eng_Latn"]


class Translated(NamedTuple):
    signed_as: str
    items: int
    documents: int
    pairs: int  # of two languages, the same item
    removed: int  # documents that name one of another language
    most_alike: float  # of those pairs


def measure(items: Mapping[str, Mapping[str, str]]) -> list[Translated]:
    """`items`: {URL: {language: text}}, of at least two languages each."""
    rows = [(item, code, text) for item, by_language in items.items() for code, text in by_language.items()]
    own = [LANGUAGES[code] for _, code, _ in rows]
    out = []
    for name, languages in (("its own language", own), ("English", [ENGLISH] * len(rows))):
        named = judge([text for *_, text in rows], languages).dup_of.tolist()
        removed = sum(other >= 0 and rows[i][1] != rows[other][1] for i, other in enumerate(named))
        sets: dict[str, list[set[str]]] = {}
        for (item, _, text), language in zip(rows, languages, strict=True):
            sets.setdefault(item, []).append(exact_shingles(text, language))
        alike = [len(a & b) / len(a | b) for mine in sets.values() for a, b in combinations(mine, 2)]
        out.append(Translated(name, len(items), len(rows), len(alike), removed, max(alike)))
    return out
