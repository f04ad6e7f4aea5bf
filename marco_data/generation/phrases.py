"""Phrases of a model that speaks of itself or its task: a text in, the kind of phrase it begins or ends with out.

`phrases.csv` holds them by language: `refusal` ("I cannot help"), `meta` ("Here is the rewritten text:"). Those of the
language and the English ones are looked for, at the very beginning of the text and, meta ones, at the beginning of its
last paragraph; a phrase ends at a word's end where the script has such. Knows nothing of what lies between.
"""

import csv
import unicodedata
from functools import cache
from importlib import resources

import regex

REFUSAL, META = "refusal", "meta"
_HEAD = 400  # characters that are looked at on each side
_FRAME = r"[\s\p{P}\p{S}]*"
_SPACED = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]")


def phrase_of(text: str, kind: str, language: str) -> str | None:
    """The phrase of `kind` that `text` begins with, or whose last paragraph does; None without."""
    known = _pattern(kind, language)
    for part in _sides(text):
        found = known.match(_normal(part))
        if found:
            return str(found.group(1))
    return None


def _sides(text: str) -> list[str]:
    text = text.strip()
    head, last = text[:_HEAD], text[text.rfind("\n") + 1 :][:_HEAD]
    return [head, last]


def _normal(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text.replace("’", "'").replace("‘", "'").replace("\u200b", "").split())


@cache
def _pattern(kind: str, language: str) -> regex.Pattern[str]:
    text = resources.files("marco_data.generation").joinpath("phrases.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    phrases = {
        _normal(row["phrase"]) for row in rows if row["kind"] == kind and row["language"] in (language, "eng_Latn")
    }
    return regex.compile(rf"{_FRAME}({'|'.join(_branch(phrase) for phrase in sorted(phrases, key=len, reverse=True))})")


def _branch(phrase: str) -> str:
    end = "" if _SPACED.search(phrase[-1]) or not phrase[-1].isalnum() else r"(?![\p{L}\p{M}\p{Nd}])"
    return str(regex.escape(phrase, special_only=True, literal_spaces=True)) + end
