"""A long text comes in slices: joined they are the text, each fits, and the estimate is above a tokenizer's count."""

import gzip
import io
import json
from itertools import accumulate

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from rewritings import REWRITINGS
from tokenizers import Tokenizer

from marco_data.generation.chunks import chunks, estimated_tokens
from marco_data.languages import LANGUAGES, canonical
from marco_data.words import split_words

TEXTS = {code: "\n\n".join(source for source, _ in pairs) for code, pairs in REWRITINGS.items()}
"""Two paragraphs in each of twelve languages."""

pieces = st.sampled_from(
    [
        *(source for pairs in REWRITINGS.values() for source, _ in pairs),
        "\n",
        "\n\n",
        "  ",
        " \n \n",
        "。",
        "word. ",
        "1",
    ]
)
texts = st.one_of(st.lists(pieces, max_size=8).map("".join), st.text(max_size=300))


@settings(deadline=None, max_examples=200)
@given(text=texts, most=st.integers(5, 400), least=st.integers(0, 60), code=st.sampled_from(sorted(LANGUAGES)))
def test_slices_joined_are_the_text_and_each_fits_but_a_single_word(text, most, least, code):
    text = text.encode("utf-8", "ignore").decode()
    language = LANGUAGES[code]
    found = chunks(text, language, most, least)
    assert "".join(found) == text
    assert [c for c in found if estimated_tokens(c) > most and len(split_words(c, language)) > 1] == []


@pytest.mark.parametrize("code", TEXTS)
@pytest.mark.parametrize("most", [8, 25, 60])
def test_no_slice_ends_inside_a_word(code, most):
    text, inside, at = TEXTS[code], set(), 0
    for word in split_words(text, canonical(code)):
        at = text.index(word, at) + len(word)
        inside |= set(range(at - len(word) + 1, at))
    found = chunks(text, canonical(code), most)
    assert len(found) > 2
    assert inside.isdisjoint(accumulate(map(len, found)))


@pytest.mark.parametrize("code", TEXTS)
def test_a_slice_ends_with_a_paragraph_while_paragraphs_fit(code):
    longest = max(estimated_tokens(source) for source, _ in REWRITINGS[code])
    assert [chunk.strip() for chunk in chunks(TEXTS[code], canonical(code), longest)] == TEXTS[code].split("\n\n")


@pytest.mark.parametrize(
    ("code", "sentences"),
    [
        ("eng_Latn", ["One two three four. ", "Five (six) seven eight! ", "“Nine ten eleven?” "]),
        ("zho_Hans", ["今天的天气很好。", "我们一起去公园散步吧！", "你觉得这样可以吗？"]),
        ("hin_Deva", ["आज मौसम बहुत अच्छा है। ", "हम पार्क में टहलने जाएँगे। ", "क्या तुम साथ आओगे? "]),
        ("amh_Ethi", ["ዛሬ አየሩ በጣም ጥሩ ነው። ", "ወደ መናፈሻ እንሄዳለን። ", "አብረኸን ትመጣለህ? "]),
        ("mya_Mymr", ["ဒီနေ့ ရာသီဥတု သာယာတယ်။ ", "ပန်းခြံကို သွားကြမယ်။ ", "လိုက်မလား။ "]),
        ("urd_Arab", ["آج موسم بہت اچھا ہے۔ ", "ہم باغ میں سیر کو جائیں گے۔ ", "کیا تم بھی آؤ گے؟ "]),
    ],
)
def test_an_over_long_line_ends_at_sentences(code, sentences):
    assert chunks("".join(sentences), canonical(code), max(map(estimated_tokens, sentences))) == sentences


def test_a_short_last_slice_takes_over_from_the_one_before():
    text = "\n\n".join(f"Paragraph number {n} says little." for n in range(9))
    greedy, evened = (
        [chunk.count("Paragraph") for chunk in chunks(text, canonical("en"), 115, least)] for least in (0, 40)
    )
    assert greedy == [7, 2]
    assert evened == [4, 5]


@pytest.mark.parametrize("mark", [".", "a", "\n", " ", "。", "a. ", "ก", "\n "])
def test_a_hundred_thousand_times_the_same_is_not_searched_over_and_over(mark):
    text = mark * 100_000  # with a search that starts again at each mark, an hour
    assert "".join(chunks(text, canonical("en"), 500)) == text


def test_the_estimate_is_above_what_a_tokenizer_counts_in_every_language(test_data):
    tokenizer = Tokenizer.from_buffer(gzip.decompress((test_data / "qwen_tokenizer/tokenizer.json.gz").read_bytes()))
    files = sorted((test_data / "clean").glob("*.jsonl.zst"))
    assert len(files) == 64
    too_low = []
    for path in files:
        with path.open("rb") as file:
            lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
            found = [json.loads(line)["text"] for line, _ in zip(lines, range(20), strict=False)]
        cut = [text[at : at + 500] for text in found for at in range(0, min(len(text), 3000), 500)]
        too_low += [c for c in cut if len(c) > 300 and estimated_tokens(c) < len(tokenizer.encode(c).ids)]
    assert too_low == []


def test_the_estimate_of_a_whole_is_that_of_its_parts():
    for text in TEXTS.values():
        parts = list(accumulate(estimated_tokens(line) for line in text.split("\n")))
        assert parts[-1] - 2 <= estimated_tokens(text) <= parts[-1]
