"""Words by Unicode's rules: what the metrics, the shingles and the stop words count."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.languages import LANGUAGES, Language
from marco_data.words import split_words


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        ("eng_Latn", "Don't stop... 3.14 (e-mail)!", "Don't stop . . . 3.14 ( e - mail ) !"),
        ("fra_Latn", "l’homme d'État", "l’homme d'État"),
        ("arb_Arab", "ذهبتُ إلى السوق، ثم عدت.", "ذهبتُ إلى السوق ، ثم عدت ."),
        ("hin_Deva", "वह घर गया।", "वह घर गया ।"),
        ("kor_Hang", "한국어를 공부합니다.", "한국어를 공부합니다 ."),
        ("zho_Hans", "今天天气很好，我们去公园。", "今天 天气 很好 ， 我们 去 公园 。"),
        ("jpn_Jpan", "日本語の文章です。", "日本語 の 文章 です 。"),
        ("tha_Thai", "สวัสดีครับ นี่คือหนังสือ", "สวัสดี ครับ นี่ คือ หนังสือ"),
    ],
)
def test_words_are_unicode_words_and_each_mark_is_a_word(code: str, text: str, words: str):
    assert split_words(text, LANGUAGES[code]) == words.split(" ")


@pytest.mark.parametrize("code", ["khm_Khmr", "lao_Laoo", "mya_Mymr", "tha_Thai"])
def test_a_zero_width_space_parts_words_and_is_none(code: str):
    assert split_words("a\u200bb", LANGUAGES[code]) == ["a", "b"]


@given(st.text(), st.sampled_from([None, *LANGUAGES.values()]))
def test_nothing_is_lost_but_white_space(text: str, language: Language | None):
    words = split_words(text, language)
    assert all(words)
    kept = "".join("".join(words).split())
    assert kept == "".join(text.replace("\u200b", " ").split())


@pytest.mark.parametrize(("code", "letter"), [("zho_Hans", "中国人"), ("tha_Thai", "กา"), ("eng_Latn", "a'")])
def test_a_line_of_a_million_letters_takes_seconds(code: str, letter: str):
    text = letter * (1_000_000 // len(letter))
    start = time.perf_counter()
    split_words(text, LANGUAGES[code])
    assert time.perf_counter() - start < 10  # measured 0.3
