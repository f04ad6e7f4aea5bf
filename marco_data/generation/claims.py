"""What an answer states that its source does not: two texts in, the numbers, addresses and names without support out.

Numbers are compared by value (`numerals.py`), addresses as they are written but for scheme and case, names by how they
begin, so that inflected forms are one. Conservative: what may well be derived, listed, or a common word is supported.
Knows nothing of number words (`twenty-five`), nor of what is true.
"""

from decimal import Decimal

import regex

from marco_data.generation import numerals
from marco_data.languages import Language

_SMALL = 10
"""Whole numbers up to this one are counted and spelled out too freely to say where they come from."""

_MARKER = regex.compile(
    r"^[ \t]*(?:[-*•#>|]+[ \t]*)?(?:\*\*)?(?:\p{L}{1,20}[ \t]*)?[(\[]?\p{Nd}{1,3}(?:[.)\]:、．：)]|\u20e3|$|\t)",
    regex.MULTILINE,
)
_URL = regex.compile(
    r"(?:https?://|www\.)[^\s<>\"'“”»)\]}，。、）]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|(?<![\w.@])(?:[a-z0-9][a-z0-9-]*\.)+(?:com|org|net|info|edu|gov|io)\b(?:/[^\s<>\"'“”»)\]}，。、）]*)?",
    regex.IGNORECASE,
)
_URL_START = regex.compile(r"^(?:https?://)?(?:www\.)?", regex.IGNORECASE)
_SCALES = frozenset({3, 4, 5, 6, 7, 8, 9, 12})
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


def invented_numbers(text: str, source: str, language: Language | None = None) -> list[str]:
    """The numbers of `text` that no number of `source` accounts for."""
    known = _values(_without_urls(source))
    text = _without_urls(_MARKER.sub(lambda m: " " * len(m.group()), text))
    found = []
    for number in numerals.numbers(text):
        if any(_supported(value, known, language) for value in number.values):
            continue
        if len(number.parts) > 1 and all(_supported(value, known, language) for value in number.parts):
            continue
        if number.values or len(number.parts) > 1:
            found.append(text[number.start : number.end])
    return found


def invented_urls(text: str, source: str) -> list[str]:
    """The addresses of pages and mail in `text` that `source` does not hold."""
    known = source.casefold()
    return [url for url in map(_clean, _URL.findall(text)) if _URL_START.sub("", url).casefold() not in known]


def _clean(url: str) -> str:
    return url.rstrip(".,;:!?/*_'’”")


def _without_urls(text: str) -> str:
    return str(_URL.sub(lambda m: " " * len(m.group()), text))


def _values(source: str) -> frozenset[Decimal]:
    known = numerals.roman_values(source) | numerals.han_values(source)
    for number in numerals.numbers(source):
        known |= number.values | number.parts
    return frozenset(known)


def _supported(value: Decimal, known: frozenset[Decimal], language: Language | None) -> bool:
    if value in known or (value <= _SMALL and value == value.to_integral_value()):
        return True
    if any(value.scaleb(power) in known or value.scaleb(-power) in known for power in _SCALES):
        return True  # 1.5 million and 1,500,000
    if language is None or not 1000 <= value <= 9999:
        return False
    return any(value - era in known for era in _ERAS.get(language.code, ()))


def invented_names(text: str, source: str, language: Language) -> list[str]:
    """Capitalised words inside sentences of `text` of which `source` has nothing that begins alike."""
    from marco_data.generation.names import names, words_by_beginning

    known = words_by_beginning(source)
    return [name for name in names(text, language) if not known.has(name)]


def surviving(source: str, text: str) -> tuple[int, int]:
    """How many of the numbers and addresses of `source` are in `text`, and how many there are."""
    bare = _without_urls(_MARKER.sub(lambda m: " " * len(m.group()), source))
    wanted = [number for number in numerals.numbers(bare) if any(value > _SMALL for value in number.values)]
    known = _values(text)
    kept = sum(any(_supported(value, known, None) for value in number.values) for number in wanted)
    urls = {_URL_START.sub("", _clean(url)).casefold() for url in _URL.findall(source)}
    return kept + sum(url in text.casefold() for url in urls), len(wanted) + len(urls)
