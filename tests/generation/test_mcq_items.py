"""An item of multiple choice by itself: its options, their order and letters, and what is no option."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regional_items import ITEMS

from marco_data.generation.mcq_items import COUNTRIES, Item, all_or_none, malformed, orders, placed, shown, unlettered
from marco_data.languages import LANGUAGES, canonical, from_label


@given(st.permutations(range(4)), st.integers(0, 3), st.integers(0, 3))
def test_an_item_asked_in_fours_shows_every_option_at_every_place(order, key, fours):
    item = Item("Frage?", tuple(f"Antwort {n}" for n in order), key, "Darum.")
    asked = orders(item, 4 * fours)
    for start in range(0, len(asked), 4):
        assert all({one[place] for one in asked[start : start + 4]} == {0, 1, 2, 3} for place in range(4))
    assert orders(item, 2) == orders(item, 4)[:2]


@given(st.integers(0, 3), st.integers(0, 3), st.text())
def test_a_key_is_placed_where_it_is_wanted(key, place, salt):
    item = Item("Frage?", ("a", "b", "c", "d"), key, "Darum.")
    moved = placed(item, place, salt)
    assert (moved.key, moved.options[place]) == (place, item.options[key])
    assert sorted(moved.options) == ["a", "b", "c", "d"]


ALL_OR_NONE = {
    "eng_Latn": ("All of the above", "None of these."),
    "deu_Latn": ("Keine der genannten", "alle oben genannten"),
    "fra_Latn": ("Toutes les réponses", "Aucune de ces réponses"),
    "spa_Latn": ("Todas las anteriores", "Ninguna de las anteriores"),
    "rus_Cyrl": ("Все вышеперечисленное", "Ничего из перечисленного"),
    "arb_Arab": ("كل ما سبق", "لا شيء مما سبق"),
    "hin_Deva": ("उपरोक्त सभी", "इनमें से कोई नहीं"),
    "ben_Beng": ("উপরের সবগুলো", "কোনোটিই নয়"),
    "zho_Hans": ("以上都是", "以上都不是"),
    "jpn_Jpan": ("上記すべて", "いずれでもない"),
    "kor_Hang": ("위의 모든 것", "해당 없음"),
    "tha_Thai": ("ถูกทุกข้อ", "ไม่มีข้อใดถูก"),
    "tur_Latn": ("Hepsi", "Hiçbiri"),
    "vie_Latn": ("Tất cả các đáp án trên", "Không có đáp án nào đúng"),
    "heb_Hebr": ("כל התשובות נכונות", "אף תשובה אינה נכונה"),
}


@pytest.mark.parametrize("language", ALL_OR_NONE)
def test_all_and_none_of_the_above_are_known_in_the_language(language):
    own = canonical(language)
    assert all(all_or_none(option, own) for option in (*ALL_OR_NONE[language], "None of the above"))
    assert not any(all_or_none(option, own) for option in ITEMS.get(language, ITEMS["deu_Latn"])[3])


def test_every_language_has_its_own_words_for_all_and_none():
    from marco_data.generation.mcq_items import _phrases

    assert set(_phrases()) == set(LANGUAGES)
    assert min(map(len, _phrases().values())) >= 6


@pytest.mark.parametrize(
    "option", ["the village where all of these rugs are woven by hand", "Hepsiburada AŞ", "Nonesuch"]
)
def test_an_option_that_says_more_is_an_option(option):
    assert not all_or_none(option, canonical("tur_Latn"))


def test_what_people_write_is_rarely_taken_for_all_or_none(test_data):
    lines = (test_data / "lid_test.tsv").read_text(encoding="utf-8").splitlines()
    taken = total = 0
    for label, text, *_ in (line.split("\t") for line in lines):
        if language := LANGUAGES.get(from_label(label)):
            clauses = [text, *text.replace("،", ",").split(",")]
            total += len(clauses)
            taken += sum(all_or_none(clause, language) for clause in clauses)
    assert total > 20_000
    assert taken <= 5  # 3 of 28,838: "Soalan anda tiada jawapan."


def test_options_that_differ_only_in_writing_are_one():
    item = Item("Frage?", ("Straße", "STRASSE.", "“straße”", "Weg"), 0, "Darum.")
    assert malformed(item, canonical("deu_Latn")) == ("options_not_distinct", 2.0)
    signs = Item("Sprache?", ("C", "C++", "C#", "1.5"), 0, "Darum.")
    assert malformed(signs, canonical("deu_Latn")) is None


def test_letters_that_a_model_puts_in_front_are_taken_off_only_from_all():
    assert unlettered(["A. eins", "B) zwei", "(C) drei", "D: vier"]) == ("eins", "zwei", "drei", "vier")
    assert unlettered(["A. Dürer", "Holbein", "Cranach", "Grünewald"])[0] == "A. Dürer"


def test_options_are_shown_with_their_letters():
    assert shown(("eins", "zwei", "drei", "vier")) == "A. eins\nB. zwei\nC. drei\nD. vier"


def test_countries_are_those_of_the_standard():
    assert len(COUNTRIES) == 249
    assert {"KR", "GB", "TZ", "SS"} <= COUNTRIES
    assert not {"UK", "EU", "XK"} & COUNTRIES
