"""Phrases of a model that speaks of itself or of its task: a text in, the phrase that gives it away out.

`phrases.csv` holds them for each language, by kind: `refusal` ("I cannot help"), `speaker` ("as an AI language model"),
`sure` ("Certainly"), `yes`, `lead` ("Here is"), `opening` ("Rewritten text") and `closing` ("I hope this helps"). Those
of the text's language and the English ones are looked for:

- refusal, opening   at the beginning
- speaker            anywhere in the beginning or in the last paragraph
- sure               at the beginning, before an exclamation mark
- lead               at the beginning, also after `sure` or `yes`, of a first line that ends with a colon
- closing            at the beginning of the last paragraph

A phrase ends where a word does, in scripts with spaces. Texts are compared after NFKC and case folding, marks that
readers do not see left out. Knows nothing of what the text says between its beginning and its end.
"""

import csv
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

import regex

_HEAD = 400  # characters of a beginning and of a last paragraph that are read
_FRAME = r"[\s\p{P}\p{S}]*"
_COLON = r":：፦፡៖"
_NO_WORD_ENDS = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
# Zero width space, non-joiner and joiner, tatweel, soft hyphen, the dot that folding leaves of a Turkish capital; then
# apostrophes, and Arabic letters that Persian writes otherwise.
_ALIKE: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u0640\u00ad\u0307")),
    **{ord("\u2019"): "'", ord("\u2018"): "'", ord("\u02bc"): "'"},
    **{ord("ي"): "ی", ord("ى"): "ی", ord("ك"): "ک"},
}


class _Patterns(NamedTuple):
    refusal: regex.Pattern[str]
    speaker: regex.Pattern[str]
    lead: regex.Pattern[str]
    opening: regex.Pattern[str]
    closing: regex.Pattern[str]


def refusal_phrase(text: str, language: str) -> str | None:
    """What `text` refuses by, or calls itself a model by; None without."""
    known, head, last = _patterns(language), _head(text), _last(text)
    found = known.refusal.match(head) or known.speaker.search(head) or known.speaker.search(last)
    return str(found.group(1)) if found else None


def meta_phrase(text: str, language: str) -> str | None:
    """What `text` speaks of itself or of the task by, at its beginning or its end; None without."""
    known, head, last = _patterns(language), _head(text), _last(text)
    found = known.opening.match(head) or known.lead.match(head)
    if found is None and "\n" in text.strip():
        found = known.closing.match(last)
    return str(found.group(1)) if found else None


def holds(text: str, phrase: str) -> bool:
    """Whether `text` has a phrase that was found, anywhere."""
    return phrase in _normal(text)


@lru_cache(maxsize=4)
def _head(text: str) -> str:
    text = text.lstrip()[:_HEAD]
    first, line_end, rest = text.partition("\n")
    return _normal(first) + (line_end + _normal(rest) if line_end else "")


@lru_cache(maxsize=4)
def _last(text: str) -> str:
    text = text.rstrip()
    return _normal(text[text.rfind("\n") + 1 :][:_HEAD])


def _normal(text: str) -> str:
    """Without what readers do not see, in one case, with one space for each white space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join((folded if folded.isascii() else folded.translate(_ALIKE)).split())


@cache
def _phrases() -> dict[tuple[str, str], list[str]]:
    text = resources.files("marco_data.generation").joinpath("phrases.csv").read_text("utf-8")
    found: dict[tuple[str, str], list[str]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault((row["language"], row["kind"]), []).append(row["phrase"])
    return found


@cache
def _patterns(language: str) -> _Patterns:
    def any_of(*kinds: str) -> str:
        phrases = {
            _normal(p) for kind in kinds for code in (language, "eng_Latn") for p in _phrases().get((code, kind), ())
        }
        return "|".join(map(_branch, sorted(phrases, key=lambda phrase: (-len(phrase), phrase))))

    # A line that is only `sure`, or has an exclamation mark behind it, is no answer; `yes` may be one.
    sure, agreed = any_of("sure"), any_of("sure", "yes")
    return _Patterns(
        refusal=regex.compile(rf"{_FRAME}({any_of('refusal')})"),
        speaker=regex.compile(rf"(?<![\p{{L}}\p{{M}}\p{{Nd}}])({any_of('speaker')})"),
        lead=regex.compile(
            rf"{_FRAME}((?:{sure})\s?!|(?:{sure}){_FRAME}\n"
            rf"|(?:(?:{agreed})[\s\p{{P}}]*)?(?:{any_of('lead')})[^\n]*[{_COLON}][\p{{P}}\p{{S}} ]*(?:\n|$))"
        ),
        opening=regex.compile(rf"{_FRAME}(?:(?:{agreed})[\s\p{{P}}]*)?({any_of('opening')})"),
        closing=regex.compile(rf"{_FRAME}({any_of('closing')})"),
    )


def _branch(phrase: str) -> str:
    ends = not phrase[-1].isalnum() or _NO_WORD_ENDS.match(phrase[-1])
    escaped = str(regex.escape(phrase, special_only=True, literal_spaces=True))
    return escaped if ends else escaped + r"(?![\p{L}\p{M}\p{Nd}])"


def shipped_phrases(language: str) -> dict[str, list[str]]:
    """The phrases of a language by kind, as they are written in the file."""
    return {kind: phrases for (code, kind), phrases in _phrases().items() if code == language}
