"""Scripts counted by the kernel are those that `dominant_script` counts."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.languages.script import dominant_script, dominant_scripts

TEXTS = [
    "",
    "12",
    "Hallo",
    "東京は",
    "東京",
    "대한 東京東京",
    "東京東京東京東京東京東京東京東京東京한",
    "Щa",
    "𐌰𐌱",
    "ꀀ",
    "𖹀",
]
LETTERS = st.text(st.sampled_from("abжщ東京日本はカ한국ابกข12 \u0301𐌰𖹀"), max_size=30)


@given(st.lists(st.one_of(st.sampled_from(TEXTS), st.text(), LETTERS)), st.integers(0, 30))
@settings(deadline=None)
def test_the_kernel_finds_the_dominant_script(texts, characters):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    found = dominant_scripts(pa.array(texts, pa.string()), characters)
    assert found.to_pylist() == [dominant_script(text[:characters]) for text in texts]


def test_null_is_a_text_without_a_letter_and_slices_are_read_from_their_start():
    texts = pa.array(["Щука", None, "東京は"], pa.string())
    assert dominant_scripts(texts, 100).to_pylist() == ["Cyrl", "Zyyy", "Jpan"]
    assert dominant_scripts(texts.slice(2), 100).to_pylist() == ["Jpan"]
