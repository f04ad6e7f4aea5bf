"""What a signature sees of a text, and what it does not."""

import time

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.errors import RecipeError
from marco_data.kernels import minhash
from marco_data.languages import LANGUAGES, canonical
from marco_data.step import Tools, fingerprint, run_step
from marco_data.steps.sign import Sign
from marco_data.words import split_words, texts_of

ENGLISH, CHINESE, THAI, HINDI = (canonical(code) for code in ("en", "zh", "th", "hi"))
PROSE = "The ferry leaves at nine. It carries bread, letters and, on Tuesdays, the doctor; nobody else comes."


def signed(texts: list[str], language=ENGLISH, step: Sign | None = None) -> pa.RecordBatch:
    step = step or Sign()
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    output = run_step(step, step.bind(language, Tools()), batch)
    return pa.record_batch([output.columns[f.name] for f in step.adds], schema=step.adds)


def shingles(text: str, language=ENGLISH, step: Sign | None = None) -> np.ndarray:
    hashes, bounds = (step or Sign()).shingler(language)(texts_of(pa.array([text])))
    assert bounds.tolist() == [0, len(hashes)]
    assert len(set(hashes.tolist())) == len(hashes)
    return np.sort(hashes)


def twin(units: list[str], joint: str, size: int) -> list[int]:
    """The distinct hashes of all windows of units, as the steps' kernels have to find them."""
    windows = {joint.join(units[i : i + size]) for i in range(max(1, len(units) - size + 1))}
    return sorted({xxhash.xxh64_intdigest(w.encode()) & 0xFFFFFFFF for w in windows})


def characters_of(text: str) -> list[str]:
    return list("".join(text.casefold().replace("\u200b", " ").split()))


def words_of(text: str, language) -> list[str]:
    return [w.casefold() for w in split_words(text, language) if any(map(str.isalnum, w))]


def same(left: str, right: str, language=ENGLISH) -> bool:
    rows = signed([left, right], language).column("signature").to_pylist()
    return rows[0] == rows[1]


def test_the_columns_are_the_declared_ones_with_a_signature_of_112():
    row = signed([PROSE])
    assert row.schema.field("signature").type == pa.list_(pa.uint32(), 112)
    assert row.column("text_hash").to_pylist() == [xxhash.xxh3_128_hexdigest(PROSE.encode())]
    assert row.column("shingles").to_pylist() == [17 - 5 + 1]


def test_a_signature_is_that_of_the_distinct_shingles():
    text = f"{PROSE} {PROSE}"
    hashes = shingles(text)
    (expected,) = minhash.signatures(hashes, np.array([0, len(hashes)]), *minhash.permutations(112))
    row = signed([text])
    assert row.column("signature").to_pylist() == [expected.tolist()]
    assert row.column("shingles").to_pylist() == [len(hashes)] == [17]


@pytest.mark.parametrize(
    ("left", "right", "language", "equal"),
    [
        (PROSE, PROSE.upper(), ENGLISH, True),
        (PROSE, PROSE.replace(",", "").replace(".", " -- "), ENGLISH, True),
        (PROSE, PROSE.replace(" ", "\n\n"), ENGLISH, True),
        (PROSE, PROSE.replace("Tuesdays", "Wednesdays"), ENGLISH, False),
        ("今天 天气\n很好,我们去公园散步吧。", "今天天气很好,我们去公园散步吧。", CHINESE, True),
        ("今天天气很好,我们去公园散步吧。", "今天天气很好,他们去公园散步吧。", CHINESE, False),
        # Some sites write a space of no width between Khmer and Lao words, some do not.
        ("ខ្ញុំ\u200bទៅ\u200bផ្សារ\u200bទិញ\u200bបន្លែ\u200bនិង\u200bត្រី", "ខ្ញុំទៅផ្សារទិញបន្លែនិងត្រី", canonical("km"), True),
        ("नमस्ते दुनिया", "नमस्ते, दुनिया!", HINDI, True),
        # Fewer than five words: one shingle, all of it.
        ("Page not found", "page not found.", ENGLISH, True),
        ("Page not found", "Page not", ENGLISH, False),
        ("Item 7 sold", "Item 8 sold", ENGLISH, False),
        # Not a single word: the characters count.
        ("🙂🙂", "🙂 🙂", ENGLISH, True),
        ("🙂", "🙁", ENGLISH, False),
        ("...", "!!!", ENGLISH, False),
    ],
)
def test_texts_are_alike_if_equal_after_folding(left, right, language, equal):
    assert same(left, right, language) is equal


def test_short_documents_share_nothing_unless_they_are_equal():
    texts = ["one two three four", "one two three", "one two three five", "one"]
    assert [len(shingles(t)) for t in texts] == [1, 1, 1, 1]
    assert len({int(shingles(t)[0]) for t in texts}) == 4


UNICODE = st.characters(exclude_categories=["Cs"])
FOLDING = st.sampled_from("aIİıßŉΐǰΣςſᾳﬃ\u0345ꭰᎠ \u200b1_.'\u0301")


@settings(deadline=None, max_examples=300)
@given(st.lists(UNICODE | FOLDING, max_size=80).map("".join), st.integers(1, 9))
def test_shingles_are_windows_of_folded_words_or_characters(text, size):
    step = Sign(shingle_sizes={ENGLISH.code: size, THAI.code: size})
    words = words_of(text, ENGLISH)
    expected = twin(words, " ", size) if words else twin(characters_of(text), "", size)
    assert shingles(text, ENGLISH, step).tolist() == expected
    assert shingles(text, THAI, step).tolist() == twin(characters_of(text), "", size)


@pytest.mark.parametrize("text", ["a" * 1_000_000, "word " * 200_000, "ΐ" * 300_000], ids=["a", "word", "growing"])
def test_a_document_of_a_megabyte_takes_no_time(text):
    signed([text])
    start = time.perf_counter()
    row = signed([text])
    assert time.perf_counter() - start < 2  # measured 0.02
    assert row.column("shingles").to_pylist() == [1]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda x: x.code)
def test_every_language_has_shingles(language):
    n = language.shingle_size
    unit = "word" if language.shingle_unit == "word" else "กขคงจ"
    text = " ".join(f"{unit}{i}" for i in range(n + 3))
    assert len(shingles(text, language)) > 3


def test_a_signature_does_not_depend_on_the_batch():
    texts = [PROSE, "", "short", "今天天气很好", "🙂", PROSE.lower(), "x " * 1000]
    whole = signed(texts)
    for size in (1, 2, 3):
        parts = [signed(texts[i : i + size]) for i in range(0, len(texts), size)]
        assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([whole]))
    assert signed([]).num_rows == 0


def test_hashes_and_shingle_sizes_are_identity():
    steps = [Sign(), Sign(hashes=16), Sign(shingle_sizes={"eng_Latn": 3})]
    assert len({fingerprint(step.identity(Tools())) for step in steps}) == 3
    assert signed([PROSE], step=steps[1]).schema.field("signature").type.list_size == 16
    assert signed([PROSE], step=steps[2]).column("shingles").to_pylist() == [17 - 3 + 1]
    assert "shingles_by_language" in Sign().identity(Tools())["content"]


def test_an_unknown_language_is_an_error_before_any_row():
    with pytest.raises(RecipeError, match="language"):
        Sign().bind(None, Tools())
