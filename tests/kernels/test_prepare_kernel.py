"""The normaliser's kernel is the normaliser: on every character, on random Unicode, on real text."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels.prepare import prepare_all
from marco_data.kernels.unicode_tables import UNSTABLE, tables
from marco_data.languages.prepare import prepare
from marco_data.languages.texts import text_buffers

CHARACTERS = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000]


def by_kernel(texts):
    data, offsets = text_buffers(pa.array(texts, pa.string()))
    out, ends = prepare_all(data, offsets, tables())
    raw = out.tobytes()
    return [raw[a:b].decode() for a, b in pairwise(ends)]


def test_every_character_is_prepared_alike_alone_and_between_letters():
    for texts in (CHARACTERS, [f"e{c}a" for c in CHARACTERS]):
        got = by_kernel(texts)
        assert [text for text, line in zip(texts, got, strict=True) if line != prepare(text)] == []


def test_only_one_character_has_a_lower_case_of_more_than_one():
    assert [c for c in CHARACTERS if len(c.lower()) != 1] == ["İ"]


def test_what_composes_is_prepared_alike_in_any_order():
    chance = random.Random(1)
    unstable = [chr(p) for p in np.flatnonzero(tables().flags & UNSTABLE)]
    decomposing = [c for c in CHARACTERS if unicodedata.normalize("NFD", c) != c and not "가" <= c <= "힣"]
    hangul = [chr(p) for p in (*range(0x1100, 0x1200), *range(0xAC00, 0xAC40))]
    kinds = (unstable, decomposing, hangul, [chr(p) for p in range(0x300, 0x370)], list("aeo hİwtps:/.@"))
    texts = ["".join(chance.choice(chance.choice(kinds)) for _ in range(chance.randint(1, 20))) for _ in range(20_000)]
    texts.append("a" + "\u0301\u0323" * 200)  # more marks than are sorted by insertion
    got = by_kernel(texts)
    assert [text for text, line in zip(texts, got, strict=True) if line != prepare(text)] == []


PIECES = st.sampled_from(["http://", "https://x", "www.", "WWW.a", "@", "hhttps://", " ", "\u0085", "\u200b", "ς", "Σ"])


@given(st.lists(st.one_of(st.text(max_size=40), st.lists(st.one_of(PIECES, st.characters())).map("".join))))
@settings(deadline=None)
def test_random_texts_are_prepared_alike(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    assert by_kernel(texts) == [prepare(text) for text in texts]


@pytest.mark.skipif("MARCO_TEST_DATA" not in os.environ, reason="MARCO_TEST_DATA: the folder with clean/")
def test_real_text_is_prepared_alike():
    for file in sorted((Path(os.environ["MARCO_TEST_DATA"]) / "clean").glob("*.jsonl.zst")):
        with zstandard.open(file, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"][:5000] for line in lines]
        assert by_kernel(texts) == [prepare(text) for text in texts], file.name
