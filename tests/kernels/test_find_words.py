"""The places of words in a batch, beside `split_words`: ICU's own answer, one text at a time."""

import json
import random
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels import icu
from marco_data.kernels.characters import CLASS, DICTIONARY, PICTURE, word_classes
from marco_data.languages import LANGUAGES, Language
from marco_data.word_classes import rows
from marco_data.words import find_words, forget, split_words, texts_of

SAMPLE = Path(__file__).parents[2] / "recipes" / "sample" / "text"


def words_of(texts: list[str], language: Language | None) -> list[list[str]]:
    batch = texts_of(pa.array(texts, pa.string()))
    words = find_words(batch, language)
    found = [batch.data[a:b].tobytes().decode() for a, b in zip(words.starts, words.ends, strict=True)]
    return [found[a:b] for a, b in zip(words.first, words.first[1:], strict=False)]


def pieces_of(code: str) -> list[str]:
    return (SAMPLE / f"{code}.txt").read_text("utf-8").split("== ")


def assert_same_words(texts: list[str], language: Language | None) -> None:
    for text, words in zip(texts, words_of(texts, language), strict=True):
        assert words == split_words(text, language)


def test_the_file_of_classes_says_what_the_installed_icu_does():
    file = resources.files("marco_data.kernels") / "word_classes.csv"
    assert rows() == file.read_text("utf-8").splitlines(), "python -m marco_data.word_classes"


@pytest.mark.parametrize("seed", range(4))
def test_characters_of_every_class_beside_each_other_are_parted_as_icu_parts_them(seed):
    rng, table = random.Random(seed), word_classes()
    by_class: dict[int, list[str]] = {}
    for c in (*range(0xD800), *range(0xE000, 0x32000), *range(0xE0000, 0xE1000)):
        by_class.setdefault(int(table[c]) & (CLASS | PICTURE), []).append(chr(c))
    spaced = [members for kind, members in by_class.items() if kind != DICTIONARY]
    joints = [*"\n \t\u200b\u200d\u202f'.:,\"_a5א가🇦"]

    def text(kinds: list[list[str]]) -> str:
        choices = (rng.choice(kinds) if rng.random() < 0.7 else joints for _ in range(rng.randrange(14)))
        return "".join(map(rng.choice, choices))

    assert_same_words([text(spaced) for _ in range(5000)], None)
    assert_same_words([text([*by_class.values(), by_class[DICTIONARY]]) for _ in range(500)], LANGUAGES["tha_Thai"])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5), st.sampled_from([*LANGUAGES.values()]))
def test_words_are_those_of_each_text_alone(texts, language):
    assert_same_words(texts, language)


@pytest.mark.parametrize("code", LANGUAGES)
def test_words_of_the_sample_are_icus(code):
    assert_same_words([(SAMPLE / f"{code}.txt").read_text("utf-8")], LANGUAGES[code])


@pytest.mark.slow
@pytest.mark.parametrize("code", LANGUAGES)
def test_words_of_real_documents_are_icus(code, test_data):
    zstandard = pytest.importorskip("zstandard")
    language = LANGUAGES[code]
    with zstandard.open(test_data / "clean" / f"{language.iso639_1}.jsonl.zst", "rt", encoding="utf-8") as lines:
        assert_same_words([json.loads(line)["text"] for line in lines], language)


def test_a_slice_of_a_batch_has_the_words_of_its_rows():
    column = pa.array(["one two", "三 drei", "", "four 五\nfive", "six"])
    batch = texts_of(column.slice(1, 3))
    words = find_words(batch, None)
    found = [batch.data[a:b].tobytes().decode() for a, b in zip(words.starts, words.ends, strict=True)]
    assert found == ["三", "drei", "four", "五", "five"]
    assert words.first.tolist() == [0, 2, 2, 5]


def test_bytes_that_are_no_text_and_missing_texts_are_errors():
    broken = pa.array([b"fine", b"\xff\xff"], pa.binary()).view(pa.string())
    with pytest.raises(pa.ArrowInvalid):
        texts_of(broken)
    with pytest.raises(ValueError, match="missing"):
        texts_of(pa.array(["a", None]))


@pytest.mark.parametrize("code", ["zho_Hans", "jpn_Jpan", "tha_Thai", "khm_Khmr", "lao_Laoo", "mya_Mymr"])
def test_without_icus_own_functions_icu4py_gives_the_same_words(code, monkeypatch):
    texts = [*pieces_of(code), "ร้าน𠮷野家 \u200b🇯🇵東京\n𐊧"]
    called = words_of(texts, LANGUAGES[code])
    forget()
    monkeypatch.setattr(icu, "segment_ends", lambda units, locale: None)
    assert words_of(texts, LANGUAGES[code]) == called == [split_words(text, LANGUAGES[code]) for text in texts]


def test_icus_own_functions_are_found_in_the_build_that_is_installed():
    ends = icu.segment_ends(np.frombuffer("东京 a1\u2028".encode("utf-16-le"), np.uint16), "zh")
    assert ends is not None
    assert ends.tolist() == [2, 3, 5, 6]
