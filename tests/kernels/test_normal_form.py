"""The kernels of the normal form are `steps/normalize.py`: on every character, on random Unicode, on real text."""

import json
import os
import random
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marco_data.kernels.normal_form import BAD, DOUBTFUL, UNCLEAN, bad_lines, clean_all, examine
from marco_data.kernels.unicode_tables import UNSTABLE, tables
from marco_data.languages.texts import text_buffers
from marco_data.step import Tools
from marco_data.steps.normalize import Normalize, clean, normal_form_rules

RULES = normal_form_rules()
CHARACTERS = [chr(p) for p in (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000))]
"""Those that kernels know; about the empty planes and the private ones Python is asked."""


def check(texts: list[str]) -> None:
    """The kernels say of each text exactly what Python says of it."""
    data, offsets = text_buffers(pa.array(texts, pa.string()))
    every = np.arange(len(texts))
    # With this limit no text is too unreadable.
    verdicts = examine(data, offsets, RULES, 1.0)
    out, ends = clean_all(data, offsets, every, RULES)
    lines = bad_lines(data, offsets, every, RULES)
    cleaned = list(map(clean, texts))
    bad = [(i, line) for i, text in enumerate(texts) for line in text.split("\n") if is_bad(line)]
    with_bad = {i for i, _ in bad}
    said = [UNCLEAN * (a != b) | BAD * (i in with_bad) for i, (a, b) in enumerate(zip(texts, cleaned, strict=True))]
    for got, expected in (
        ([out[a:b].tobytes().decode() for a, b in pairwise(ends)], cleaned),
        (verdicts.tolist(), [said[i] if text else DOUBTFUL for i, text in enumerate(texts)]),
    ):
        assert [row for row in zip(texts, got, expected, strict=True) if row[1] != row[2]] == []
    assert [(i, data[a:b].tobytes().decode()) for i, a, b in lines.tolist()] == bad


def test_every_character_alone_and_between_letters():
    check(CHARACTERS)
    check([f"e{c}a" for c in CHARACTERS])


@pytest.mark.parametrize("character", ["\U00040000", "\U000dffff", "\U000e1000", "\U000f0000", "\U0010fffd"])
def test_what_no_table_covers_is_doubtful(character):
    data, offsets = text_buffers(pa.array([f"a{character}b"], pa.string()))
    assert examine(data, offsets, RULES, 1.0).tolist() == [DOUBTFUL]


def test_the_share_of_unreadable_characters_is_exact():
    texts = ["\ufffd" + "é" * 9, "\ufffd" + "é" * 8, "\u0378" + "x" * 9, "\x01" + "\n\t\r" * 3, "\x01" + "\n\t\r" * 2]
    data, offsets = text_buffers(pa.array(texts, pa.string()))
    assert (examine(data, offsets, RULES, 0.1) == DOUBTFUL).tolist() == [False, True, False, False, True]


MARKS = [chr(p) for p in np.flatnonzero(tables().flags & UNSTABLE)]
COMPOSED = [c for c in CHARACTERS if unicodedata.normalize("NFD", c) != c and not "가" <= c <= "힣"]
HANGUL = [chr(p) for p in (*range(0x1100, 0x1200), *range(0xAC00, 0xAC40))]
INVISIBLE = [*"\u200b\u200c\u200d\u200d\ufeff\u00ad\u2060\ufe0f\x00\x9f\ufffe\U000e0041\U0001f525กកاक一"]
SPACE = [*"\n\n\n\n\r\r\t  \x0b\x0c\x85\u2028\u2029\u00a0\u3000\x1cab"]
FTFY = [c for group in MOJIBAKE_CATEGORIES.values() for c in group] + [*"aZ.,! \nŠŽšŸ±≠≥ÄÀÂÃ°ВГРСўЂ²β€ā"]
KINDS = (MARKS, COMPOSED, HANGUL, INVISIBLE, SPACE, FTFY, [*"aeo hİw.e\n\u0301\u0323\u0335"])


def test_what_is_cleaned_in_any_order():
    chance = random.Random(1)
    check(["".join(chance.choices(chance.choice(KINDS), k=chance.randint(1, 9))) for _ in range(40_000)])
    check(["".join(chance.choice(chance.choice(KINDS)) for _ in range(chance.randint(1, 20))) for _ in range(40_000)])


@given(st.lists(st.text(st.one_of(st.characters(codec="utf-8", max_codepoint=0x3FFFF), *map(st.sampled_from, KINDS)))))
@settings(max_examples=200, deadline=None)
@example(["أٌلقي شيئًا", "afẹ\u0335\u0301", "é\u0323", "e\u0323\u0301", "\u0301", "\u1100\u1161\u11a8", "\u09c7\u09be"])
@example(["a\u0301\u0323" * 50, "\u1025\u102e", "\U00016d63\U00016d68"])
def test_random_texts(texts):
    check(texts)


ENCODINGS = ("latin-1", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "macroman", "cp437")


def documents(name: str) -> list[str]:
    if "MARCO_TEST_DATA" not in os.environ:
        pytest.skip("MARCO_TEST_DATA: the folder with clean/, other/ and web/")
    texts = []
    for file in sorted(Path(os.environ["MARCO_TEST_DATA"]).glob(name)):
        with zstandard.open(file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    assert texts
    return texts


@pytest.mark.parametrize("name", ["clean/*.jsonl.zst", "other/*.jsonl.zst", "web/web_text.jsonl.zst", "web/turku*.zst"])
def test_real_text(name):
    check(documents(name))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_real_text_read_in_a_wrong_encoding(encoding):
    lines = [text[:300] for text in documents("clean/*.jsonl.zst")[::20]]
    broken = [line.encode().decode(encoding, "replace") for line in lines]
    assert sum(map(is_bad, broken)) > len(broken) / 2
    check(broken)
    check([unicodedata.normalize("NFD", text) for text in broken])


def test_the_step_gives_what_its_definition_gives():
    """On text damaged in all the ways that normalizing undoes, at random."""
    chance = random.Random(2)
    damage = [*"\u00ad\u200b\u200d\ufeff\r\x00\ufffd\u0301\u00a0»Č", "\r\n", " \n", "\n\n\n\n", "\u2028", "Ã©", "â€™"]
    texts = []
    for text in documents("clean/*.jsonl.zst")[::15]:
        text = text[: chance.randint(0, 1000)]
        for _ in range(chance.randint(0, 8)):
            at = chance.randint(0, len(text))
            text = text[:at] + chance.choice(damage) * chance.choice((1, 1, 30)) + text[at:]
        texts.append(unicodedata.normalize("NFD", text) if chance.random() < 0.2 else text)
    step = Normalize()
    for kind in (pa.string(), pa.large_string()):
        output = step.bind(None, Tools())(pa.record_batch({"text": pa.array(["", *texts], kind)}).slice(1))
        columns = (*output.columns.values(), output.reason, output.measured)
        assert columns[0].type == kind
        got = list(zip(*(column.to_pylist() for column in columns), strict=True))
        assert got == [step.normalize_text(text) for text in texts]
    assert len({row[1:3] for row in got}) > 3  # repaired or not, dropped or not
