"""What an answer states that its source does not: two texts in, the numbers, addresses and names without support out.

Numbers are compared by value (`numerals.py`), addresses as they are written but for scheme and case, names by how they
begin, so that inflected forms are one. Conservative: what may well be derived, listed, or a common word is supported.
Knows nothing of number words (`twenty-five`), nor of what is true.
"""

import re
from decimal import Decimal

import regex

from marco_data.generation import numerals
from marco_data.generation.names import capitalised, names, words_by_beginning
from marco_data.languages import Language

_SMALL = 12
"""Whole numbers up to this one are counted, spelled out and read off clocks too freely to say where they are from."""

_MARKER = regex.compile(
    r"^[ \t]*(?:[-*•#>|]+[ \t]*)?(?:\*\*)?(?:\p{L}{1,20}[ \t]*)?[(\[]?\p{Nd}{1,3}(?:[.)\]:、．：)]|\u20e3|$|\t)",
    regex.MULTILINE,
)
_URL = regex.compile(
    r"(?:https?://|www\.)[^\s<>\"'“”»)\]}，。、）]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|(?<![\w.@])(?:[a-z0-9][a-z0-9-]*\.)+(?:com|org|net|info|edu|gov|io)\b(?:/[^\s<>\"'“”»)\]}，。、）]*)?",
    regex.IGNORECASE,
)
_MAY_HOLD_URL = re.compile(r"@|://|www\.|\w\.(?:com|org|net|info|edu|gov|io)", re.IGNORECASE)
_URL_START = regex.compile(r"^(?:https?://)?(?:www\.)?", regex.IGNORECASE)
_SCALES = (3, 4, 5, 6, 7, 8, 9, 12)  # thousand, 万, lakh, million, crore, 億, billion, 兆
# Years of calendars that a translator converts to and from: what is added to the year of the common era.
_ERAS = {
    "tha_Thai": (543,),
    "lao_Laoo": (543,),
    "khm_Khmr": (543, 544),
    "mya_Mymr": (-638,),
    "fas_Arab": (-621, -622),
    "npi_Deva": (56, 57),
    "amh_Ethi": (-7, -8),
    "heb_Hebr": (3760, 3761),
}
# Miles, feet, inches, yards, acres, pounds, ounces, gallons of both kinds, stones: in kilometres, metres, centimetres,
# hectares, kilograms, grams, litres.
_MEASURES = (1.609, 0.3048, 30.48, 2.54, 0.9144, 0.4047, 0.4536, 28.35, 3.785, 4.546, 6.35, 2.59)
_YEARS = range(1500, 2101)  # whole numbers that are years more often than measures
_ROUNDED = 0.03  # how far a converted figure may be from the exact one


class _Known:
    """The values of a source, and what they account for."""

    def __init__(self, source: str, language: Language | None, translated: bool) -> None:
        values = numerals.roman_values(source) | numerals.han_values(source) | numerals.english_values(source)
        for number in numerals.numbers(_without_urls(source)):
            values |= number.values | number.parts
        self.values = values
        self.eras = _ERAS.get(language.code, ()) if language else ()
        self.measures = sorted({float(value) for value in values}) if translated else []

    def has(self, number: numerals.Number) -> bool:
        """Whether the number is accounted for, as one or, part by part, as a date is."""
        if any(map(self._has, number.values)):
            return True
        return (len(number.parts) > 1 or not number.values) and all(map(self._has, number.parts))

    def _has(self, value: Decimal) -> bool:
        if value in self.values or (value <= _SMALL and value == value.to_integral_value()):
            return True
        if value <= 24 and value - 12 in self.values:
            return True  # 3 p.m. and 15:00
        if any(value.scaleb(power) in self.values or value.scaleb(-power) in self.values for power in _SCALES):
            return True  # 1.5 million and 1,500,000
        if 1000 <= value <= 9999 and any(value - era in self.values for era in self.eras):
            return True
        return value not in _YEARS and any(_converts(known, float(value)) for known in self.measures)


def _converts(a: float, b: float) -> bool:
    """Whether b is a in the other system of measures, about."""
    for factor in _MEASURES:
        if abs(a * factor - b) <= _ROUNDED * b or abs(b * factor - a) <= _ROUNDED * a:
            return True
    return abs((a - 32) / 1.8 - b) <= 1


def invented_numbers(text: str, source: str, language: Language | None = None, translated: bool = False) -> list[str]:
    """The numbers of `text` that no number of `source` accounts for. A translator may convert miles to kilometres."""
    bare = _bare(text)
    wanted = list(numerals.numbers(bare))
    if not wanted:
        return []
    known = _Known(source, language, translated)
    return [bare[number.start : number.end] for number in wanted if not known.has(number)]


def invented_urls(text: str, source: str) -> list[str]:
    """The addresses of pages and mail in `text` that `source` does not hold."""
    known = source.casefold()
    return [url for url in _urls(text) if _URL_START.sub("", url).casefold() not in known]


def _urls(text: str) -> list[str]:
    return [url.rstrip(".,;:!?/*_'’”") for url in _URL.findall(text)] if _MAY_HOLD_URL.search(text) else []


def _blank(found: regex.Match[str]) -> str:
    return " " * len(found.group())


def _without_urls(text: str) -> str:
    return str(_URL.sub(_blank, text)) if _MAY_HOLD_URL.search(text) else text


def _bare(text: str) -> str:
    """`text` with blanks for addresses and for the numbers that count its lines."""
    return _without_urls(_MARKER.sub(_blank, text))


def invented_names(text: str, source: str, language: Language) -> list[str]:
    """The likely names in `text` of which `source` has nothing that begins alike."""
    found = list(names(text, language))
    if not found:
        return []
    known = words_by_beginning(source)
    return [name for name in found if not known.has(name)]


def surviving(source: str, text: str, language: Language) -> tuple[int, int]:
    """How many of the numbers, addresses and, in Latin writing, names of `source` are in `text`, and of how many."""
    wanted = [number for number in numerals.numbers(_bare(source)) if any(value > _SMALL for value in number.values)]
    known = _Known(text, None, translated=False)
    kept = sum(map(known.has, wanted))
    folded = text.casefold()
    urls = {_URL_START.sub("", url).casefold() for url in _urls(source)}
    kept += sum(url in folded for url in urls)
    called = list(capitalised(source)) if "Latn" in language.scripts else []
    words = words_by_beginning(text)
    return kept + sum(map(words.has, called)), len(wanted) + len(urls) + len(called)
