"""Two texts beside each other: columns that hold in every script, marks where they differ, nothing that acts."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from small_corpus import CODES, prose

from marco_data.side_by_side import BETWEEN, LEAST_WIDTH, LEFT_TO_RIGHT, marked, side_by_side

SCRIPTS = (*CODES, "arb_Arab", "heb_Hebr", "khm_Khmr", "mya_Mymr", "jpn_Jpan", "kor_Hang", "hin_Deva", "urd_Arab")


def columns(line: str) -> tuple[str, str]:
    left, right = line.replace(LEFT_TO_RIGHT, "").split(BETWEEN)
    return left, right


@pytest.mark.parametrize("code", SCRIPTS)
@pytest.mark.parametrize("width", [LEAST_WIDTH, 79, 200])
def test_both_columns_are_equally_wide_in_every_script(code: str, width: int):
    lines = side_by_side(prose(code)[0], prose(code)[1], width, code)
    cells = {cell_len(column) for line in lines for column in columns(line)}
    assert cells == {(width - len(BETWEEN)) // 2}


@given(st.text(max_size=300), st.text(max_size=300), st.integers(1, 120), st.sampled_from(["eng_Latn", "tha_Thai"]))
def test_any_two_texts_give_lines_of_one_width_in_which_nothing_acts(one: str, other: str, width: int, code: str):
    lines = side_by_side(one, other, width, code)
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= max(width, LEAST_WIDTH)
    shown = {unicodedata.category(c) for line in lines for c in line.replace(LEFT_TO_RIGHT, "")}
    assert not shown & {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("code", "one", "other", "left", "right"),
    [
        ("eng_Latn", "a red fox ran", "a brown fox ran off", "a [-red-] fox ran", "a {+brown+} fox ran {+off+}"),
        ("eng_Latn", "all alike", "all  alike", "all alike", "all alike"),
        ("eng_Latn", "", "new", "", "{+new+}"),
        ("eng_Latn", "one two three", "one three", "one [-two-] three", "one three"),
        ("zho_Hans", "天气很好", "天气不好", "天气[-很-]好", "天气{+不+}好"),
        ("tha_Thai", "สวัสดีครับ", "สวัสดีค่ะ", "สวัสดี[-ครับ-]", "สวัสดี{+ค่ะ+}"),
        ("arb_Arab", "كان الجو جميلا", "كان الجو سيئا", "كان الجو [-جميلا-]", "كان الجو {+سيئا+}"),
    ],
)
def test_what_only_one_text_has_is_marked(code: str, one: str, other: str, left: str, right: str):
    (line,) = side_by_side(one, other, 100, code)
    assert tuple(column.strip() for column in columns(line)) == (left, right)


@given(st.text("ab \n", max_size=60), st.text("ab \n", max_size=60))
def test_without_the_marks_the_words_are_the_texts(one: str, other: str):
    for words, text in zip(marked(one, other, "eng_Latn"), (one, other), strict=True):
        bare = [w.replace("[-", "").replace("-]", "").replace("{+", "").replace("+}", "") for w in words]
        assert bare == text.split()


def test_the_end_of_a_text_that_was_cut_is_no_difference():
    assert marked("one two thr", "one 2 three f", "eng_Latn", cut=True) == (
        ["one", "two", "thr"],
        ["one", "2", "three", "f"],
    )
    assert marked("one two three fo", "one 2 three f", "eng_Latn", cut=True)[0] == ["one", "[-two-]", "three", "fo"]


def test_a_line_from_right_to_left_is_fenced_and_no_other_is():
    assert LEFT_TO_RIGHT not in side_by_side("plain", "text", 80)[0]
    (line,) = side_by_side("plain", "שלום", 80, "heb_Hebr")
    assert line.startswith(LEFT_TO_RIGHT)
    assert f"{LEFT_TO_RIGHT}{BETWEEN}{LEFT_TO_RIGHT}" in line
    assert line.endswith(LEFT_TO_RIGHT)


def test_what_would_move_a_terminal_is_escaped():
    (line,) = side_by_side("a\x1b[2J\u202eb", "c", 80)
    assert "a\\x1b[2J\\u202eb" in line
