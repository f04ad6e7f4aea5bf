"""The fields of a JSON object on a line: its UTF-8 in, where the values of the fields that are asked for are out.

Strings come out as UTF-8 without their escapes; of any other value comes the place. What is not plainly an object (it
is broken, holds half a surrogate pair or what JSON does not know, nests too deep) is left to Python's `json`, which is
the specification: an answer here is its answer.
"""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.memory import Bytes, eight, item, put_eight
from marco_data.kernels.prepare import encode
from marco_data.kernels.utf8 import is_utf8

MISSING, STRING, OTHER = range(3)
"""What a field holds: nothing or null, a string, another value."""

_QUOTE, _BACKSLASH, _COMMA, _COLON = 0x22, 0x5C, 0x2C, 0x3A
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = 0x7B, 0x7D, 0x5B, 0x5D
_ONES, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_DEEPEST = 60
_LONGEST = 1000  # characters of a number: Python refuses to read more digits than it is told
_WORDS = np.frombuffer(b"true\0\0\0\0false\0\0\0null\0\0\0\0", np.uint8).reshape(3, 8)


def _escapes() -> Bytes:
    """[byte behind a backslash] -> what the two stand for, 0 for none."""
    escapes = np.zeros(256, np.uint8)
    for byte, character in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
        escapes[byte] = character
    return escapes


_ESCAPES = _escapes()


@compiled
def find_fields(
    data: Bytes, names: Bytes, name_at: npt.NDArray[np.int64], out: Bytes, found: npt.NDArray[np.int64]
) -> bool:
    """Fills found[i] with (what, start, end) of the field names[name_at[i]:name_at[i + 1]]; whether `data` is plain.

    A string is out[start:end], another value data[start:end]. `out` needs eight bytes more than `data`.
    """
    found[:] = 0
    stop, to = len(data), 0
    at = _behind_space(data, 0, stop)
    if at == stop or item(data, at) != _OPEN or not is_utf8(data, 0, stop):
        return False
    at = _behind_space(data, at + 1, stop)
    if at < stop and item(data, at) == _CLOSE:
        return _behind_space(data, at + 1, stop) == stop
    while True:
        at, end = _string(data, at, stop, out, to)
        at = _behind_colon(data, at, stop)
        if at < 0:
            return False
        field = _number_of(out, to, end, names, name_at)
        if item(data, at) == _QUOTE:
            at, end = _string(data, at, stop, out, to)
            if field >= 0:
                found[field, 0], found[field, 1], found[field, 2] = STRING, to, end
                to = end
        else:
            begin, at = at, _behind_value(data, at, stop, out, to)
            if field >= 0:
                null = item(data, begin) == 0x6E
                found[field, 0], found[field, 1], found[field, 2] = MISSING if null else OTHER, begin, at
        at = -1 if at < 0 else _behind_space(data, at, stop)
        if at < 0 or at == stop:
            return False
        if item(data, at) == _CLOSE:
            return _behind_space(data, at + 1, stop) == stop
        if item(data, at) != _COMMA:
            return False
        at = _behind_space(data, at + 1, stop)


@borrowing
def _behind_space(data: Bytes, at: int, stop: int) -> int:
    while at < stop and (
        item(data, at) == 0x20 or item(data, at) == 0x09 or item(data, at) == 0x0A or item(data, at) == 0x0D
    ):
        at += 1
    return at


@borrowing
def _behind_colon(data: Bytes, at: int, stop: int) -> int:
    """Where the value behind the name that ends at `at` begins, -1 for nowhere."""
    if at < 0:
        return -1
    at = _behind_space(data, at, stop)
    if at == stop or item(data, at) != _COLON:
        return -1
    at = _behind_space(data, at + 1, stop)
    return at if at < stop else -1


@borrowing
def _number_of(out: Bytes, start: int, end: int, names: Bytes, name_at: npt.NDArray[np.int64]) -> int:
    """Which name out[start:end] is, -1 for none."""
    for i in range(len(name_at) - 1):
        first, size = name_at[i], name_at[i + 1] - name_at[i]
        if size == end - start:
            k = 0
            while k < size and item(names, first + k) == item(out, start + k):
                k += 1
            if k == size:
                return i
    return -1


@inlined
def _is_plain(x: np.uint64) -> bool:
    """Whether none of eight bytes is a quote, a backslash or a control character."""
    quote, backslash = x ^ (_ONES * np.uint64(_QUOTE)), x ^ (_ONES * np.uint64(_BACKSLASH))
    low = (x - _ONES * np.uint64(0x20)) & ~x
    found = low | ((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash)
    return bool(found & _TOPS == 0)


@borrowing
def _string(data: Bytes, at: int, stop: int, out: Bytes, to: int) -> tuple[int, int]:
    """The string at data[at:] written to out[to:]: where both end; -1 where there is none."""
    if at == stop or item(data, at) != _QUOTE:
        return -1, to
    at += 1
    while at < stop:
        if at + 8 <= stop:
            x = eight(data, at)
            if _is_plain(x):
                put_eight(out, to, x)
                at, to = at + 8, to + 8
                continue
        byte = item(data, at)
        if byte == _QUOTE:
            return at + 1, to
        if byte < 0x20:
            return -1, to
        at += 1
        if byte == _BACKSLASH:
            if at == stop:
                return -1, to
            escaped = item(data, at)
            byte = item(_ESCAPES, escaped)
            at += 1
            if byte == 0:
                if escaped != 0x75:
                    return -1, to
                point, at = _escaped_point(data, at, stop)
                if at < 0:
                    return -1, to
                to = encode(point, out, to)
                continue
        out[to] = byte
        to += 1
    return -1, to


@borrowing
def _escaped_point(data: Bytes, at: int, stop: int) -> tuple[int, int]:
    r"""(the character whose four digits, or two times four, are behind a \u; where they end, -1 for none)."""
    point, at = _four_digits(data, at, stop), at + 4
    if 0xD800 <= point < 0xDC00 and at + 2 < stop and item(data, at) == _BACKSLASH and item(data, at + 1) == 0x75:
        low, at = _four_digits(data, at + 2, stop), at + 6
        point = 0x10000 + ((point - 0xD800) << 10 | (low - 0xDC00)) if 0xDC00 <= low < 0xE000 else -1
    return (point, at) if point >= 0 and not 0xD800 <= point < 0xE000 else (0, -1)


@borrowing
def _four_digits(data: Bytes, at: int, stop: int) -> int:
    if at + 4 > stop:
        return -1
    value = 0
    for i in range(at, at + 4):
        byte = item(data, i)
        lower = byte | 0x20
        if 0x30 <= byte <= 0x39:
            value = value * 16 + byte - 0x30
        elif 0x61 <= lower <= 0x66:
            value = value * 16 + lower - 0x57
        else:
            return -1
    return value


@borrowing
def _behind_value(data: Bytes, at: int, stop: int, out: Bytes, to: int) -> int:
    """Where the value that begins at `at` ends, -1 where it is none; writes to out[to:] what nobody reads."""
    objects, depth = np.uint64(0), 0  # a bit for each value that is open: whether it is an object
    while True:
        byte = item(data, at)
        if byte in (_OPEN, _OPEN_LIST):
            depth += 1
            objects = objects << np.uint64(1) | np.uint64(byte == _OPEN)
            at = _behind_space(data, at + 1, stop)
            if depth > _DEEPEST or at == stop:
                return -1
            if item(data, at) != (_CLOSE if byte == _OPEN else _CLOSE_LIST):
                at = _begun(data, at, stop, byte == _OPEN, out, to)
                if at < 0:
                    return -1
                continue
        else:
            at = _string(data, at, stop, out, to)[0] if byte == _QUOTE else _behind_scalar(data, at, stop)
        while depth:  # what ends here
            at = -1 if at < 0 else _behind_space(data, at, stop)
            if at < 0 or at == stop:
                return -1
            is_object = objects & np.uint64(1) != 0
            if item(data, at) == (_CLOSE if is_object else _CLOSE_LIST):
                at, depth, objects = at + 1, depth - 1, objects >> np.uint64(1)
            elif item(data, at) == _COMMA:
                at = _begun(data, _behind_space(data, at + 1, stop), stop, is_object, out, to)
                break
            else:
                return -1
        if depth == 0 or at < 0:
            return at


@borrowing
def _begun(data: Bytes, at: int, stop: int, is_object: bool, out: Bytes, to: int) -> int:
    """Where the value of an object's or a list's next entry begins, -1 for nowhere."""
    if is_object:
        return _behind_colon(data, _string(data, at, stop, out, to)[0], stop)
    return at if at < stop else -1


@borrowing
def _behind_scalar(data: Bytes, at: int, stop: int) -> int:
    """Where the number, `true`, `false` or `null` at `at` ends; -1 for none."""
    for word in range(len(_WORDS)):
        if item(data, at) == _WORDS[word, 0]:
            k = 0
            while _WORDS[word, k]:
                if at + k == stop or item(data, at + k) != _WORDS[word, k]:
                    return -1
                k += 1
            return at + k
    begin = at
    at += item(data, at) == 0x2D
    whole = _behind_digits(data, at, stop)
    if whole == at or (item(data, at) == 0x30 and whole > at + 1):
        return -1
    at = whole
    if at < stop and item(data, at) == 0x2E:
        part = _behind_digits(data, at + 1, stop)
        if part == at + 1:
            return -1
        at = part
    if at < stop and item(data, at) | 0x20 == 0x65:
        at += 1
        at += at < stop and (item(data, at) == 0x2B or item(data, at) == 0x2D)
        part = _behind_digits(data, at, stop)
        if part == at:
            return -1
        at = part
    return at if at - begin <= _LONGEST else -1


@borrowing
def _behind_digits(data: Bytes, at: int, stop: int) -> int:
    while at < stop and 0x30 <= item(data, at) <= 0x39:
        at += 1
    return at
