"""What an answer states beyond its source: numbers by value, addresses, names; and the frame around it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.generation.claims import invented_names, invented_numbers, invented_urls, surviving
from marco_data.generation.frame import strip_frame
from marco_data.generation.numerals import english_values, han_values, numbers, roman_values
from marco_data.languages import canonical


def values(text):
    return [sorted(number.values) for number in numbers(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234,567", 1234567),
        ("1.234.567,89", Decimal("1234567.89")),
        ("1 234 567", 1234567),
        ("12,34,567", 1234567),
        ("٤٢٬٠٠٠", 42000),
        ("۳٫۵", Decimal("3.5")),
        ("१९८७", 1987),
        ("৪২,০০০", 42000),
        ("๒๕๖๓", 2563),
        ("３．１４", Decimal("3.14")),
        ("၁၉၈၇", 1987),
        ("១៩៨៧", 1987),
        ("50%", 50),
        ("4만 2000권", 42_000),
        ("1億2000万人", 120_000_000),
        ("3.5万", 35_000),
        ("21st", 21),
    ],
)
def test_a_number_has_its_value_in_any_writing(text, expected):
    assert Decimal(expected) in values(text)[0]


def test_what_may_be_read_two_ways_has_both_values():
    assert values("1.234") == [[Decimal("1.234"), Decimal(1234)]]
    assert values("3,5") == [[Decimal("3.5")]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("三十五", 35),
        ("二〇二四", 2024),
        ("三千万", 30_000_000),
        ("一亿二千万", 120_000_000),
        ("三万亿", 3 * 10**12),
        ("十", 10),
        ("万", 10_000),
    ],
)
def test_numbers_in_han_characters_have_values(text, expected):
    assert han_values(text) == {Decimal(expected)}


def test_roman_and_english_numbers_have_values():
    assert {Decimal(19), Decimal(14)} <= roman_values("the XIX century, Louis XIV")
    assert {Decimal(25), Decimal(300), Decimal(90)} <= english_values(
        "Twenty-five of three hundred, in the nineties; ninety"
    )


# language, source, answer, what is invented
NUMBERS = [
    ("en", "It opened in 1987.", "Opened 1987, it was new.", []),
    ("en", "It opened in 1987.", "It opened in 1978.", ["1978"]),
    ("en", "1,500,000 people", "1.5 million people", []),
    ("hi", "42,000 books", "४२,००० किताबें", []),
    ("ar", "in 1987", "عام ١٩٨٧", []),
    ("ar", "in 1987", "عام ١٩٧٨", ["١٩٧٨"]),
    ("bn", "in 1987", "১৯৮৭ সালে", []),
    ("th", "in 1987", "ในปี ๒๕๓๐", []),  # the Buddhist year
    ("th", "in 1987", "ในปี ๒๕๓๑", ["๒๕๓๑"]),
    ("de", "12,345.5 tons", "12.345,5 Tonnen", []),
    ("zh", "三十五人", "35 人", []),
    ("ja", "４２人", "42人", []),
    ("en", "the XIX century", "the 19th century", []),
    ("en", "twenty-five years", "25 years", []),
    ("en", "It is old.", "1. It is old.\n2. It is.\n13) Old.\nStep 14: end", []),
    ("en", "It is old.", "There are 3 reasons.", []),
    ("en", "It is old.", "There are 73 reasons.", ["73"]),
    ("en", "On 2024-03-15 it rained.", "It rained on 15 March 2024.", []),
    ("en", "15 March 2024", "15/03/2024", []),
    ("en", "See https://a.org/v/981 now", "See https://a.org/v/982 now", []),  # an address is judged as one
    ("en", "at 3.30 p.m.", "at 15:30", []),
    ("ru", "в 1987 году", "в 1988 году", ["1988"]),
    ("kk", "1987 жылы", "1987 жылы 5000 кітап", ["5000"]),
]


@pytest.mark.parametrize(("language", "source", "answer", "expected"), NUMBERS)
def test_a_number_that_the_source_lacks_is_invented(language, source, answer, expected):
    assert invented_numbers(answer, source, canonical(language)) == expected


def test_a_translator_may_convert_measures_and_a_rewrite_may_not():
    assert invented_numbers("100 km entfernt, 30 Grad", "62 miles away, 86 degrees", translated=True) == []
    assert invented_numbers("100 km away", "62 miles away") == ["100"]
    assert invented_numbers("1923 gebaut, 503 m", "built in 1932, 503 m", translated=True) == ["1923"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Read http://www.example.org/page.", []),
        ("Read example.org/page", []),
        ("Read https://example.org/other", ["https://example.org/other"]),
        ("Write to anna@example.org", ["anna@example.org"]),
        ("请看https://evil.example.com。", ["https://evil.example.com"]),
        ("It is 3.5 or e.g. so, i.e. this. Or that", []),
    ],
)
def test_an_address_that_the_source_lacks_is_invented(text, expected):
    assert invented_urls(text, "See https://example.org/page for more.") == expected


@pytest.mark.parametrize(
    ("language", "source", "text", "expected"),
    [
        ("en", "anna lived in oslo", "The poet Anna lived in Oslo.", []),
        ("en", "anna lived in oslo", "The poet Berta lived in Bergen.", ["Berta", "Bergen"]),
        ("en", "it rained", "Berta saw it. Carla slept.", []),  # the first words of sentences
        ("en", "it rained", "The Rain And The River", []),  # a title
        ("pl", "w Krakowie mieszkała Anna", "Poetka Anna kochała Kraków.", []),
        ("ru", "в Москве жила Анна", "поэтесса Анна уехала из Москвы", []),
        ("ru", "в Москве жила Анна", "поэтесса Берта уехала из Казани", ["Берта", "Казани"]),
        ("el", "στην Αθήνα", "ζούσε στη Θεσσαλονίκη", ["Θεσσαλονίκη"]),
        ("fi", "Helsinki on suuri", "hän asui Helsingissä", []),
        ("de", "ein Haus", "das schöne Gebäude am Fluss", []),  # nouns are capitalised
        ("th", "ห้องสมุด", "ห้องสมุด Velkonberg", ["Velkonberg"]),
        ("th", "ห้องสมุด iPhone", "ใช้ iPhone", []),
        ("zh", "在GitHub上使用Linux的人", "使用GitHub和Linux", []),
        ("zh", "在GitHub上使用Linux的人", "使用Windows", ["Windows"]),
        ("ar", "مكتبة", "مكتبة", []),
    ],
)
def test_a_name_that_the_source_lacks_is_invented(language, source, text, expected):
    assert invented_names(text, source, canonical(language)) == expected


def test_what_survives_in_a_translation_is_counted():
    english = "In 1987 and in 1993 the reader Margaret Ashworth wrote to www.example.org about 750 books."
    german = "1987 und 1993 schrieb Margaret Ashworth an www.example.org über 750 Bücher."
    assert surviving(english, german, canonical("de")) == (6, 6)
    assert surviving(english, "Es regnet.", canonical("de")) == (0, 6)


FRAMES = [
    ("```\nText.\n```", "Text."),
    ("```markdown\nOne.\n\nTwo.\n```", "One.\n\nTwo."),
    ('"A quoted answer."', "A quoted answer."),
    ("«Ответ.»", "Ответ."),
    ("「答え。」", "答え。"),
    ('"One" and "two"', '"One" and "two"'),
    ("**Title**\n\nText with **bold** words.", "Title\n\nText with bold words."),
    ("## Heading\nText", "Heading\nText"),
    ("Run `a**b**c` and $x**y**z$.", "Run `a**b**c` and $x**y**z$."),
    ("```python\n# one\n```\nText\n```\n# two\n```", "```python\n# one\n```\nText\n```\n# two\n```"),
    ("2 ** 3 is 8", "2 ** 3 is 8"),
]


@pytest.mark.parametrize(("text", "expected"), FRAMES)
def test_the_frame_around_an_answer_is_taken_off(text, expected):
    assert strip_frame(text) == expected


@given(st.text(alphabet='*_`#"“”«»\n a1$~', max_size=60))
def test_taking_a_frame_off_twice_changes_nothing_more(text):
    assert strip_frame(strip_frame(text)) == strip_frame(text)
