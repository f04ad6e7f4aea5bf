"""The languages we build for, and the one place where another tool's code becomes ours.

In: `languages.csv`, a row a language, and the languages that a recipe adds (`know`). Out: `LANGUAGES` and two maps:
`canonical` for what people write in recipes and sources (unknown = RecipeError), `from_label` for what a model
answers (unknown = kept as it is).

The table is one for a process: that of the recipe which was checked last, or of the node whose task runs. So it is
never longer than the recipe says, and a plan of one recipe is finished before another recipe is checked.

An alias names the *same* language in the same script: `nno` is not `nob`, `yue` and `zho_Hant` are not
`zho_Hans`, `prs` is not `fas`, `bos` is not `hrv`, `srp_Latn` and `sh` are not `srp_Cyrl`. Where a scheme has
only a macrolanguage (`no`, `ms`, `zh`, `ar`), its code means our member of it; the script check of
`steps/select_language.py` is what tells `sr` in Latin letters apart. Knows nothing of models and thresholds.
"""

import csv
import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Literal, cast

from marco_data.errors import RecipeError


@dataclass(frozen=True)
class Language:
    """One of our languages; `code` is ISO 639-3 and script, `ben_Beng`."""

    code: str
    name: str
    iso639_1: str
    scripts: tuple[str, ...]  # ISO 15924 codes a document of it may be in; the first is its own
    words: Literal["unicode", "dictionary"]  # how words are found: UAX #29 or a segmentation of its own
    shingle_unit: Literal["word", "character"]
    shingle_size: int  # in shingle_unit
    family: str  # the branch inside Indo-European, else the family
    region: str  # where most of its speakers live, for grouping only
    aliases: tuple[str, ...]  # beside the codes that follow from the columns above


@dataclass(frozen=True)
class NewLanguage:
    """A language that a recipe adds, with all that its files say of it; see `marco_data.new_languages`."""

    language: Language
    identified_as: tuple[str, ...] = ()  # what the language model answers for text of it, where it does not know it
    limits: Mapping[str, float | None] = field(default_factory=dict)
    language_score: float | None = None
    stop_words: frozenset[str] = frozenset()


def language_of(row: Mapping[str, str]) -> Language:
    """The language of a row of `languages.csv`."""
    return Language(
        code=row["code"],
        name=row["name"],
        iso639_1=row["iso639_1"],
        scripts=tuple(row["scripts"].split()),
        words=cast(Literal["unicode", "dictionary"], row["words"]),
        shingle_unit=cast(Literal["word", "character"], row["shingle_unit"]),
        shingle_size=int(row["shingle_size"]),
        family=row["family"],
        region=row["region"],
        aliases=tuple(row["aliases"].split()),
    )


def _read() -> Iterator[Language]:
    text = resources.files(__package__).joinpath("languages.csv").read_text(encoding="utf-8")
    yield from map(language_of, csv.DictReader(text.splitlines()))


def _fold(code: str) -> str:
    return code.strip().replace("-", "_").lower()


def spellings(language: Language) -> Iterator[str]:
    """Every spelling accepted for a language: own code, ISO 639-3, ISO 639-1, both with a script, aliases."""
    iso639_3 = language.code.partition("_")[0]
    shorts = [short for short in (iso639_3, language.iso639_1) if short]
    yield from (language.code, *shorts, *language.aliases)
    yield from (f"{short}_{script}" for short in shorts for script in language.scripts)


SHIPPED: Mapping[str, Language] = MappingProxyType({language.code: language for language in _read()})
"""The languages of `languages.csv`, whatever a recipe adds."""


class Known:
    """The languages that are known, by code and by every spelling; one that was never added to is the shipped table."""

    def __init__(self, new: Sequence[NewLanguage] = ()) -> None:
        self.new: Mapping[str, NewLanguage] = {n.language.code: n for n in new}
        self.languages = {**SHIPPED, **{code: n.language for code, n in self.new.items()}}
        self.by_code = {_fold(code): language for language in SHIPPED.values() for code in spellings(language)}
        for language in (n.language for n in new):
            # `srp` stays Serbian in Cyrillic letters: the codes that ship keep their meaning.
            for code in map(_fold, spellings(language)):
                self.by_code.setdefault(code, language)


_known = Known()


def know(new: Sequence[NewLanguage]) -> None:
    """From here on the languages are the shipped ones and these, in order of their codes."""
    global _known
    new = sorted(new, key=lambda n: n.language.code)
    if list(_known.new.values()) != new:
        _known = Known(new)


def known() -> Known:
    """The table as it is now: another object after every change."""
    return _known


def new_languages() -> Mapping[str, NewLanguage]:
    """What was added to the shipped languages, by code."""
    return _known.new


def new_digest(*said: str) -> dict[str, str]:
    """{"new_languages": digest} of what the added languages say under these names; empty where there are none.

    For the identity of what depends on them: without an added language it is what it always was.
    """
    if not _known.new:
        return {}
    rows = []
    for code, new in _known.new.items():
        values = {**vars(new.language), **vars(new)}
        rows.append([code, *(sorted(v) if isinstance(v := values[name], frozenset) else v for name in said)])
    text = json.dumps(rows, ensure_ascii=False)
    return {"new_languages": hashlib.sha256(text.encode()).hexdigest()}


class _Languages(Mapping[str, Language]):
    """The table as it is when it is asked."""

    def __getitem__(self, code: str) -> Language:
        return _known.languages[code]

    def __iter__(self) -> Iterator[str]:
        return iter(_known.languages)

    def __len__(self) -> int:
        return len(_known.languages)


LANGUAGES: Mapping[str, Language] = _Languages()


NOT_LINGUISTIC = "zxx_"
"""Begins the labels of what is no language, as in ISO 639-3: `zxx_Code`, `zxx_Filler`, `zxx_Noise`."""

CODE = "zxx_Code"
"""The label of program code."""


def canonical(code: str) -> Language:
    """The language that `code` names in any scheme we know (`ben_Beng`, `bn`, `cmn_Hani`, `zh-Hans`, `tgl`).

    Case and `-` or `_` do not matter. Raises RecipeError with the nearest codes for anything else.
    """
    language = _known.by_code.get(_fold(code))
    if language is None:
        raise RecipeError(f"`{code}` is not one of the {len(LANGUAGES)} languages", hint=_did_you_mean(code))
    return language


def from_label(label: str) -> str:
    """The code of ours that a model's label means, or the label itself without fastText's `__label__`.

    A label that is not ours is an answer too (`nno_Latn`, `und_Grek`, `sh`): it is never turned into `und`.
    """
    bare = label.removeprefix("__label__")
    language = _known.by_code.get(_fold(bare))
    return bare if language is None else language.code


def _did_you_mean(code: str) -> str:
    """The nearest names and codes: someone who wrote `Bengali` or `ben_Bang` is told `ben_Beng`."""
    known = dict(_known.by_code)
    known |= {language.name.lower(): language for language in LANGUAGES.values()}
    # A name is also found by its first word: "chinese" for "Chinese (Simplified)".
    known |= {language.name.lower().split(" ")[0]: language for language in LANGUAGES.values()}
    near = difflib.get_close_matches(_fold(code).replace("_", " "), known, n=3, cutoff=0.7)
    near += difflib.get_close_matches(_fold(code), known, n=3, cutoff=0.7)
    found = list(dict.fromkeys(known[spelling] for spelling in near))[:3]
    if not found:
        return "languages are written as ISO 639-3 and script, `ben_Beng`, or by a short code, `bn`"
    return "did you mean " + " or ".join(f"`{language.code}` ({language.name})" for language in found) + "?"
