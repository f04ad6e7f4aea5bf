"""The kernel finds in a line what Python's `json` does, or leaves the line to it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.kernels.json_lines import MISSING, OTHER, STRING, find_fields

NAMES = ["text", "id", "n", "ключ", ""]
PLACES = np.cumsum([0, *(len(name.encode()) for name in NAMES)], dtype=np.int64)


def fields(line: bytes) -> dict | None:
    """The values of NAMES in a line, those that are null left out; None where the kernel leaves it."""
    found, out = np.full((len(NAMES), 3), -1, np.int64), np.zeros(len(line) + 8, np.uint8)
    names = np.frombuffer("".join(NAMES).encode(), np.uint8)
    if not find_fields(np.frombuffer(line, np.uint8), names, PLACES, out, found):
        return None
    values = {}
    for name, (what, start, end) in zip(NAMES, found.tolist(), strict=True):
        if what == STRING:
            values[name] = out[start:end].tobytes().decode()
        elif what == OTHER:
            values[name] = json.loads(line[start:end])
        else:
            assert what == MISSING
    return values


def specified(line: bytes) -> dict | None:
    try:
        parsed = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    return {name: parsed[name] for name in NAMES if parsed.get(name) is not None}


def check(line: bytes) -> None:
    found = fields(line)
    if found is not None:
        assert repr(found) == repr(specified(line))  # repr: 1, 1.0 and True are equal, and so are 0.0 and -0.0


TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('"\\/\n\t\x00é東😀 ')), max_size=40)
VALUES = st.recursive(
    st.one_of(TEXT, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.one_of(st.sampled_from(NAMES), TEXT), VALUES, max_size=6)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]), st.sampled_from(["", " ", "\t\r"]))
@settings(deadline=None, max_examples=300)
def test_whatever_json_writes_the_kernel_reads(value, ascii_only, indent, space):
    line = (space + json.dumps(value, ensure_ascii=ascii_only, indent=indent) + space).encode()
    assert fields(line) is not None
    check(line)


@given(OBJECTS, st.booleans(), st.data())
@settings(deadline=None, max_examples=500)
def test_of_a_damaged_line_the_kernel_says_what_json_says_or_nothing(value, ascii_only, data):
    line = bytearray(json.dumps(value, ensure_ascii=ascii_only).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line)))
        kept = data.draw(st.integers(0, 2))
        line[at : at + kept] = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b",", b":", b"0", b"-", b"\x80"])
        )
    check(bytes(line))


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "a", "text": "b"}', '{"text": "a", "text": null}', '{"text": 1, "text": "\\u00e9\\ud83d\\ude00"}',
        '{"te\\u0078t": "a"}', '{"n": -0}', '{"n": 1e5}', '{"n": 1.50E-3}', '{"n": [{"text": "no"}, []]}', "{}", " {} ",
        '{"x": {"text": "inside"}, "text": "outside"}', '{"": "nameless"}', '{"text": "\x7f\\/\\b\\f"}',
    ],
)  # fmt: skip
def test_what_is_plain_is_read(line):
    assert fields(line.encode()) == specified(line.encode()) is not None


@pytest.mark.parametrize(
    "line",
    [
        "", "[]", "{", '{"a"}', '{"a":}', '{"a": 1,}', '{,}', '{"a": 1 "b": 2}', '{"a": 01}', '{"a": 1.}', '{"a": .5}',
        '{"a": -}', '{"a": 1e}', '{"a": tru}', '{"a": nul', '{"a": [1,]}', '{"a": [1}', '{"a": {"b"}}', '{"a": {]}',
        '{"text": "\t"}', '{"text": "\\x"}', '{"text": "\\u12g4"}', '{"text": "\\u12', '{"text": "a', '{"text": "a\\',
        '{"text": "\\ud800"}', '{"text": "\\ud800\\u0041"}', '{"text": "\\udc00"}', '{"n": NaN}', '{"n": Infinity}',
        "{} {}", "\ufeff{}", '{"n": ' + "9" * 5000 + "}", '{"n": ' + "[" * 100 + "]" * 100 + "}",
    ],
)  # fmt: skip
def test_what_is_not_is_left_to_json(line):
    assert fields(line.encode()) is None


def test_bytes_that_are_no_text_are_left_to_json():
    assert fields(b'{"text": "\xff"}') is None
    assert fields(b'{"other": "\xc3"}') is None
