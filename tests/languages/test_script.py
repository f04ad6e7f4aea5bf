"""The dominant script: one answer for each mixture, from a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.languages.script import dominant_script


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", "Zyyy"),
        ("123 — 456!", "Zyyy"),
        ("ーー", "Zyyy"),  # the long-vowel mark is shared by two scripts
        ("Hello", "Latn"),
        ("Hello мир привет", "Cyrl"),
        ("日本語のテキスト", "Jpan"),
        ("カタカナ", "Jpan"),
        ("简体中文", "Hani"),
        ("这是一个关于日本商品的很长的中文句子，它的名字里只有一个の字而已", "Hani"),
        ("한국어", "Hang"),
        ("大韓民國 헌법", "Hang"),
        ("বাংলা ভাষা", "Beng"),
        ("हिन्दी", "Deva"),
        ("ภาษาไทย", "Thai"),
        ("ພາສາລາວ", "Laoo"),
        ("ភាសាខ្មែរ", "Khmr"),
        ("မြန်မာ", "Mymr"),
        ("አማርኛ", "Ethi"),
        ("𐎠𐎡𐎢 a", "Zzzz"),  # Old Persian, not in the table
        ("abc где", "Cyrl"),  # equal counts: the first by code
    ],
)
def test_the_script_of_most_letters_is_named(text, script):
    assert dominant_script(text) == script


@given(st.text())
def test_any_text_has_one_script_whatever_the_order_of_its_letters(text):
    assert dominant_script(text) == dominant_script(text[::-1])
    assert len(dominant_script(text)) == 4
