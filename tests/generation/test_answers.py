"""Answers are the same by value in every script and notation, and numbers that a translation drops are named."""

from decimal import Decimal

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.generation.answers import comparable, lost_numbers, same_answer

SAME = [
    # Digits of other scripts, words beside them.
    ("18", "18"),
    ("18", "১৮টি ডিম"),
    ("18", "१८"),
    ("42", "٤٢"),
    ("42", "۴۲"),
    ("18", "๑๘ ฟอง"),
    ("36", "၃၆"),
    ("12", "十二"),
    ("18", "１８個"),
    ("120 hours", "120 heures"),
    ("5 a day", "5 am Tag"),
    # Separators.
    ("1500", "1.500"),
    ("1,500", "1500"),
    ("1,500", "१,५००"),
    ("150,000", "1,50,000"),
    ("2,125", "2 125"),
    ("2125", "2\u202f125"),
    ("0.5", "0,5"),
    ("7.5", "٧٫٥"),
    ("$12.50", "12,50 $"),
    ("$18", "18 dólares"),
    (r"\$4{,}000", "4.000 $"),
    # Words of scale.
    ("70,000", "7만 원"),
    ("70000", "7万"),
    ("5 million", "5 millones"),
    ("5 million", "5000000"),
    ("200000", "2 लाख"),
    # Fractions, mixed numbers, powers, per cent.
    ("1/2", "0,5"),
    ("1/2", r"\frac{1}{2}"),
    (r"\frac{1}{2}", "½"),
    (r"$\dfrac{3}{4}$", "0.75"),
    ("2 1/2", "2,5"),
    ("1 1/4", "1¼"),
    ("3.0*10^8 m/s", "3,0×10⁸ m/s"),
    ("50%", "%50"),
    ("50%", "٥٠٪"),
    ("-3", "−3"),
    # LaTeX, names of what was asked for, formulas, several values.
    (r"\boxed{42}", "42"),
    ("x = 5", "5"),
    ("5", "$x = 5$"),
    ("2x+3", "2x + 3"),
    (r"\frac{3\sqrt{2}}{2}", r"\dfrac{3\sqrt{2}}{2}"),
    ("B", "(B)"),
    ("(2, 3)", "(2; 3)"),
    ("(2,3)", "(2, 3)"),
    ("3 or -2", "3 oder −2"),
]

DIFFERENT = [
    ("18", "19"),
    ("18", ""),
    ("18", "dix-huit"),
    ("1500", "15"),
    ("1.5", "1500"),
    ("2.5", "25"),
    ("70000", "7"),
    ("-3", "3"),
    ("1/2", "1/3"),
    ("1/2", "2/1"),
    ("5 m", "5 km"),
    ("5 m/s", "5 m/s^2"),
    ("2x+3", "2y+3"),
    ("A", "B"),
    ("(2,3)", "(3,2)"),
    ("3 or -2", "3"),
    ("3", "3 or 2"),
    ("It increases", "Es nimmt zu"),
]


@pytest.mark.parametrize(("key", "answer"), SAME)
def test_the_same_value_is_the_same_answer_in_any_writing(key, answer):
    assert same_answer(key, answer)


@pytest.mark.parametrize(("key", "answer"), DIFFERENT)
def test_another_value_is_another_answer(key, answer):
    assert not same_answer(key, answer)


@pytest.mark.parametrize(
    ("key", "can"),
    [("120 hours", True), ("B", True), ("2x", True), ("√2", True), ("It increases", False), ("a cat", False)],
)
def test_an_answer_in_words_alone_cannot_be_compared(key, can):
    assert comparable(key) is can


@pytest.mark.parametrize(
    ("source", "translation", "lost"),
    [
        ("3 of 12 eggs at $2.50", "12টি ডিমের ৩টি, ২.৫০ ডলারে", []),
        ("3 of 12 eggs", "3 de 21 huevos", ["12"]),
        ("She has 1,200 and 15 more", "Sie hat 1.200 und 16 mehr", ["15"]),
        ("80,000 people in 3/4 of the towns", "3/4の町に8万人", []),
        (".5 hours for each of 10 dogs", "10匹の犬にそれぞれ0.5時間", []),
        ("from 1:00 PM to 5:00 PM", "von 13 bis 17 Uhr", []),
        ("from 1:00 PM to 5:00 PM", "von 13 bis 18 Uhr", ["5"]),
        ("a 1-hour class", "un cours d'une heure", []),
        ("three birds", "3 Vögel", []),
    ],
)
def test_numbers_that_a_translation_does_not_have_are_named(source, translation, lost):
    assert lost_numbers(source, translation) == lost


ZEROS = "0٠۰०০੦૦௦౦๐໐၀០０"
"""Zero in fourteen scripts; the other nine digits follow it."""


def written(number, group, point, zero):
    """A number with its thousands grouped, in the digits of a script."""
    whole, _, rest = f"{number:,.2f}".partition(".")
    text = whole.replace(",", group) + point + rest
    return "".join(chr(ord(zero) + int(sign)) if sign in "0123456789" else sign for sign in text)


HABITS = [(",", "."), (".", ","), (" ", ","), ("\u202f", ","), ("’", "."), ("", "."), ("", ","), ("٬", "٫")]


@settings(deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(HABITS), st.sampled_from(ZEROS))
def test_any_amount_is_found_again_in_any_digits_and_separators(cents, habit, zero):
    number = Decimal(cents) / 100
    other = written(number, *habit, zero)
    assert same_answer(f"{number:,.2f}", other)
    assert lost_numbers(f"They pay {number:,.2f} together.", f"… {other} …") == []
    assert not same_answer(f"{number + 1:,.2f}", other)


@pytest.mark.parametrize("text", ["9" * 20_000, "1/" * 20_000, "1×10^" * 5_000, "10^" + "9" * 20_000])
def test_digits_without_end_are_no_quantity_and_no_crash(text):
    assert lost_numbers(text, text) == []
    assert not same_answer("18", text)


def _mgsm(folder, language):
    data = (folder / "benchmarks" / "mgsm" / f"mgsm_{language}.tsv.zst").read_bytes()
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(data).decode().strip().split("\n")
    return [row.rsplit("\t", 1) for row in rows]


@pytest.mark.parametrize("language", ["bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh"])
def test_human_translations_keep_their_numbers_and_other_problems_do_not(test_data, language):
    english, other = _mgsm(test_data, "en"), _mgsm(test_data, language)
    assert len(english) == len(other) == 250
    # All together 17 of 2,500 are named, in French, Japanese and Swahili mostly rightly: a number is missing there.
    assert sum(bool(lost_numbers(a[0], b[0])) for a, b in zip(english, other, strict=True)) <= 6
    assert sum(bool(lost_numbers(a[0], b[0])) for a, b in zip(english[1:], other, strict=False)) >= 230
    assert all(same_answer(a[1], b[1]) for a, b in zip(english, other, strict=True))
