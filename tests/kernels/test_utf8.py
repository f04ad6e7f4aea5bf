"""The kernel takes for UTF-8 what Python's decoder does, text by text."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels.utf8 import are_utf8

# The bytes around each of which a rule of the encoding changes.
EDGES = bytes.fromhex("00 41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
CHARACTERS = ["a", "é", "\u07ff", "\u0800", "東", "\ud7ff", "\ue000", "\uffff", "\U00010000", "😀", "\U0010ffff"]


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def found(texts: list[bytes]) -> bool:
    offsets = np.cumsum([2, *map(len, texts)], dtype=np.int64)
    return are_utf8(np.frombuffer(b"\x80\xe9" + b"".join(texts) + b"\x80", np.uint8), offsets)


TEXT = st.lists(st.sampled_from(CHARACTERS), max_size=40).map(lambda found: "".join(found).encode())
BYTES = st.lists(st.sampled_from(EDGES), max_size=6).map(bytes)


@given(st.lists(st.one_of(TEXT, BYTES, st.tuples(TEXT, BYTES, TEXT).map(b"".join)), max_size=4))
@settings(deadline=None, max_examples=1000)
def test_the_kernel_says_what_the_decoder_says(texts):
    assert found(texts) == all(map(is_utf8, texts))


def test_every_pair_of_bytes_and_every_lead_with_its_edges():
    firsts = [bytes([first]) for first in range(256)]
    for text in [a + b for a in firsts for b in firsts] + [
        bytes([lead, second, third, *rest])
        for lead in (*range(0xDF, 0xF6), 0xFF)
        for second in EDGES
        for third in (0x7F, 0x80, 0xBF, 0xC0)
        for rest in (b"", b"\x80", b"\xc0")
    ]:
        assert found([b"abc" + text]) == is_utf8(text), text


def test_a_character_cut_in_two_makes_two_texts_that_are_none():
    assert found(["é".encode()])
    assert not found([b"\xc3", b"\xa9"])
