"""The numbers of a text by value: a text in, each number with every value it may be read as out.

Digits of any script count (Arabic-Indic, Devanagari, Bengali, Thai, full-width), `.` and `,` are read both as
a decimal sign and as a separator of groups wherever both are possible, so that 1.234 is 1234 or 1.234. Roman numerals
and those in Han characters are read on request, because they are more often letters and words than numbers. Knows
nothing of units, of number words, or of what is true.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import regex

_NUMBER = regex.compile(r"\p{Nd}+(?:[.,٫٬'’_ \u00a0\u202f\u066b\u066c\uff0c\uff0e]\p{Nd}+)*+", regex.V1)
_SPLIT = regex.compile(r"[.,٫٬'’_ \u00a0\u202f\uff0c\uff0e]")
_ROMAN = regex.compile(
    r"(?<![\p{L}\p{Nd}])(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?![\p{L}\p{Nd}])"
)
_ROMANS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_HAN = regex.compile(r"[〇零一二三四五六七八九两兩十百千万萬亿億]+")
_HAN_DIGITS = {
    sign: value
    for value, signs in enumerate(("〇零", "一", "二两兩", "三", "四", "五", "六", "七", "八", "九"))
    for sign in signs
}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
_HAN_GROUPS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_DECIMAL = ".,٫\uff0c\uff0e"
_ENGLISH_ONES = {
    **{"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10},
    **{"eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17},
    **{"eighteen": 18, "nineteen": 19},
}
_ENGLISH_TENS = {
    **{"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
}
_ENGLISH_SCALES = {"hundred": 100, "thousand": 1000, "dozen": 12}
_ENGLISH = re.compile(
    rf"\b(?:(?:(?P<tens>{'|'.join(_ENGLISH_TENS)})(?:[ -](?P<after>{'|'.join(list(_ENGLISH_ONES)[:9])}))?"
    rf"|(?P<ones>{'|'.join(sorted(_ENGLISH_ONES, key=len, reverse=True))}))(?:[ -](?P<scale>hundred|thousand|dozen))?"
    r"|(?P<alone>hundred|thousand|dozen))s?\b"
)
_MIXED_UNITS = {
    **{"천": 10**3, "千": 10**3, "만": 10**4, "万": 10**4, "萬": 10**4, "억": 10**8, "亿": 10**8, "億": 10**8},
    **{"조": 10**12, "兆": 10**12},
}
_MIXED = regex.compile(r"(?:\p{Nd}(?:[.,]?\p{Nd})*+ ?[천千만万萬억亿億조兆] ?)++(?:\p{Nd}(?:,?\p{Nd})*+)?")
_MIXED_PART = regex.compile(r"(\p{Nd}(?:[.,]?\p{Nd})*+) ?([천千만万萬억亿億조兆])?")
_LONGEST = 40  # digits; what is longer is a code, compared as it is written


@dataclass(frozen=True)
class Number:
    """text[start:end], the values it may have as one number, and those of its parts (of a date, a version)."""

    start: int
    end: int
    values: frozenset[Decimal]
    parts: frozenset[Decimal]


def numbers(text: str) -> Iterator[Number]:
    """The numbers in digits, in order; with units of East Asia between them (4만 2000) one number."""
    at = 0
    for mixed in _MIXED.finditer(text):
        yield from _plain(text, at, mixed.start())
        yield _mixed(mixed)
        at = mixed.end()
    yield from _plain(text, at, len(text))


def _plain(text: str, start: int, end: int) -> Iterator[Number]:
    for found in _NUMBER.finditer(text, start, end):
        yield Number(found.start(), found.end(), *_readings(found.group()))


def _mixed(found: regex.Match[str]) -> Number:
    """Digits and units in turn: the value of all of them, that without the digits at the end, and each one's."""
    value, parts = Decimal(0), set()
    for digits, unit in _MIXED_PART.findall(found.group()):
        readings, _ = _readings(digits)
        number = min(readings, default=Decimal(0)) if "." in digits else max(readings, default=Decimal(0))
        parts.add(number)
        if not unit:
            return Number(found.start(), found.end(), frozenset({value + number}), frozenset({*parts, value}))
        value += number * _MIXED_UNITS[unit]
    return Number(found.start(), found.end(), frozenset({value.normalize()}), frozenset(parts))


def roman_values(text: str) -> set[Decimal]:
    """The values of the Roman numerals of a text."""
    return {Decimal(_roman(found.group())) for found in _ROMAN.finditer(text) if found.group()}


def han_values(text: str) -> set[Decimal]:
    """The values of the numbers in Han characters: 三十五, 二〇二四, 三千万."""
    return {Decimal(_han(found.group())) for found in _HAN.finditer(text)}


def english_values(text: str) -> set[Decimal]:
    """The values of the English number words of a text: twenty-five, three hundred. What most is translated from."""
    found = set()
    for word in _ENGLISH.finditer(text.casefold()):
        tens, after, ones, scale, alone = word.group("tens", "after", "ones", "scale", "alone")
        value = _ENGLISH_TENS.get(tens, 0) + _ENGLISH_ONES.get(after, 0) + _ENGLISH_ONES.get(ones, 0)
        found.add(Decimal(_ENGLISH_SCALES[alone] if alone else value * _ENGLISH_SCALES.get(scale, 1)))
    return found


def _readings(written: str) -> tuple[frozenset[Decimal], frozenset[Decimal]]:
    plain = "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in written)
    groups, signs = _SPLIT.split(plain), _SPLIT.findall(plain)
    found = {"".join(groups)} if _are_groups(groups) else set()
    whole = len(groups) > 1 and _are_groups(groups[:-1]) and signs[-1:] != signs[:-1][-1:]
    if whole and signs[-1] in _DECIMAL:
        found.add("".join(groups[:-1]) + "." + groups[-1])
    return frozenset(map(_decimal, found)), frozenset(map(_decimal, groups))


def _are_groups(groups: list[str]) -> bool:
    """Whether they may be the groups of one whole number, by threes, by fours, or by twos as in India."""
    first, rest = groups[0], groups[1:]
    if not rest:
        return True
    return len(rest[-1]) in (3, 4) and len(first) <= len(rest[-1]) and all(2 <= len(group) <= 4 for group in rest)


def _decimal(digits: str) -> Decimal:
    try:
        value = Decimal(digits[:_LONGEST])
    except InvalidOperation:
        return Decimal(0)
    return value.normalize() if value else Decimal(0)


def _roman(numeral: str) -> int:
    total = 0
    for sign, following in zip(numeral, [*numeral[1:], "I"], strict=True):
        value = _ROMANS[sign]
        total += -value if value < _ROMANS[following] else value
    return total


def _han(numeral: str) -> int:
    if not any(sign in _HAN_UNITS or sign in _HAN_GROUPS for sign in numeral):
        return int("".join(str(_HAN_DIGITS[sign]) for sign in numeral[:_LONGEST]))
    total = group = digit = 0
    least = 10**12
    for sign in numeral:
        if sign in _HAN_DIGITS:
            digit = _HAN_DIGITS[sign]
        elif sign in _HAN_UNITS:
            group += (digit or 1) * _HAN_UNITS[sign]
            digit = 0
        else:
            unit = _HAN_GROUPS[sign]
            if unit < least:  # 一亿二千万
                total += (group + digit or 1) * unit
            else:  # 三万亿
                total = (total + group + digit) * unit
            group, digit, least = 0, 0, unit
    return total + group + digit
