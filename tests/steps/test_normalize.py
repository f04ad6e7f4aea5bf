"""Normalize: what changes, what does not, and that once is enough."""

import random
import time
import unicodedata

import ftfy
import pyarrow as pa
import pytest
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marco_data.step import StepOutput, Tools, run_step
from marco_data.steps.normalize import BINARY, EMPTY, Normalize, clean, normalize, repair


def run(*texts: str) -> StepOutput:
    step = Normalize()
    return run_step(step, step.bind(None, Tools()), pa.record_batch({"text": list(texts)}))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cafe\u0301", "café"),
        ("a\r\nb\rc\x0bd\u2028e", "a\nb\nc\nd\ne"),
        ("a  \t\nb\u3000\n", "a\nb"),
        ("a\n\n\n\n\nb", "a\n\n\nb"),
        ("a\n\n\nb", "a\n\n\nb"),
        ("a\n \n\t\n  \n \nb", "a\n\n\nb"),
        ("col1\tcol2", "col1\tcol2"),
        ("nul\x00 bell\x07 del\x7f", "nul bell del"),
        ("soft\u00adhyphen \ufeffmark w\u200bi\u200dd\u200cth", "softhyphen mark width"),
        ("\u202eright\u202c to left\u200f", "right to left"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("ខ្ញុំ\u200bស្រឡាញ់", "ខ្ញុំ\u200bស្រឡាញ់"),
        ("👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥", "👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥"),
        ("“quotes” ﬁne １２ …", "“quotes” ﬁne １２ …"),
        ("schÃ¶n â€œquotedâ€\x9d", "schön “quoted”"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
        ("  indented\n    more", "indented\n    more"),
    ],
)
def test_normal_form(before: str, after: str):
    assert normalize(before) == after


def test_repaired_says_whether_mojibake_was_undone():
    columns = run("schÃ¶n", "schön  ", "plain").columns
    assert columns["normalize_repaired"].to_pylist() == [True, False, False]
    assert columns["text"].to_pylist() == ["schön", "schön", "plain"]


def test_empty_and_binary_documents_are_dropped():
    output = run("", " \n\u200b\ufeff\t", "\x00\x01\x02PNG", "\ufffd\ufffdtext", "a\x00" + "text " * 20)
    assert output.reason.to_pylist() == [EMPTY, EMPTY, BINARY, BINARY, None]
    assert output.measured.to_pylist() == [0.0, 0.0, 0.5, 0.3333, None]


def test_thai_read_as_latin_is_text_and_not_binary():
    broken = "สวัสดีครับ".encode().decode("latin-1")  # a third of it C1 controls
    output = run(broken)
    assert output.reason.to_pylist() == [None]
    assert output.columns["text"].to_pylist() == ["สวัสดีครับ"]


MOJIBAKE = "".join(c for c in map(chr, range(0x80, 0x2600)) if is_bad("é" + c) or is_bad(c + "é"))
TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("\u200b\u200c\u200d\ufeff\u00ad\r\n\t \x00\x85\u2028\u0301\u0323\u064e\u064b\u0e31កक्ییé"),
        st.sampled_from(MOJIBAKE + "ÃÂâ€™"),
    )
)


@settings(max_examples=400)
@given(TEXT)
@example("X\u0301\u200b\u0650\u200c")
@example("Ã\u00ad\x83Â©")
def test_normalizing_twice_is_normalizing_once(text: str):
    once = normalize(text)
    assert normalize(once) == once
    assert unicodedata.is_normalized("NFC", once)


@given(TEXT)
def test_cleaning_keeps_every_letter_and_digit(text: str):
    def letters(text: str) -> list[str]:
        return [c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c)[0] in "LN"]

    assert letters(clean(text)) == letters(text)


def test_repair_is_ftfy_line_by_line():
    characters = [c for group in MOJIBAKE_CATEGORIES.values() for c in group if c != "-"]
    characters += [*"aZ.,! \n", *"ŠŽšŸ±≠≥øÄìâóàê°ВГРСўЂ×²β€āœ", "\x80", "\x9d"]
    rng = random.Random(4)
    for _ in range(20_000):
        text = "".join(rng.choices(characters, k=rng.randint(1, 5)))
        assert repair(text) == "\n".join(map(ftfy.fix_encoding, text.split("\n"))), ascii(text)


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        (" ", 1_000_000),
        ("\n \n", 300_000),
        ("\u200d", 1_000_000),
        ("a\u0301", 500_000),
        ("â€", 400_000),
        ("Ã© ", 300_000),
    ],
)
def test_a_megabyte_made_to_be_slow_takes_seconds(unit: str, times: int):
    text = unit * times + "x"
    run("compiles the kernels ")
    start = time.perf_counter()
    normalize(text)
    run(text)
    assert time.perf_counter() - start < 10  # measured 0.1 to 1.7
