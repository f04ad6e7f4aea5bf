"""The normaliser of the language model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.languages.prepare import prepare


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("", ""),
        (" 12,50 € \n", ""),
        ("Hello, WORLD!\nNext line", "hello world next line"),
        ("see https://example.org/de/Seite?x=1 now", "see now"),
        ("write to someone@example.org", "write to someone"),
        ("ΛΌΓΟΣ", "λόγοσ"),
        ("e\u0301te\u0301", "été"),  # composed
        ("ភាសា\u200bខ្មែរ", "ភាសាខ្មែរ"),  # zero-width space is typesetting
        ("می\u200cخواهم", "می خواهم"),  # zero-width non-joiner is spelling
        ("हिन्दी १२३", "हिन्दी"),  # marks stay, digits of any script go
    ],
)
def test_only_letters_and_marks_are_left(text, prepared):
    assert prepare(text) == prepared


@given(st.text())
def test_a_prepared_line_is_one_line_and_stays_as_it_is(text):
    line = prepare(text)
    assert "\n" not in line
    assert line == line.strip()
    assert prepare(line) == line
