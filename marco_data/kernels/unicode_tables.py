"""What the kernels need to know of Unicode, as arrays made from this Python's own tables and those of `regex`.

Out: `tables()`, one NamedTuple. Made once per process (0.1 s). So kernels and their Python twins agree by
construction, and the versions of Python's and `regex`'s tables are the kernels' versions.
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

LAST = 0x40000
"""Planes 4 to 13 have no character, plane 14 only tags and variation selectors, 15 and 16 are private."""

LETTER_OR_MARK, WHITE, STRIPPED, INVISIBLE, UNSTABLE = 1, 2, 4, 8, 16
"""Bits of `flags`: \\p{L} or \\p{M}; \\s of `regex`; white space to `str.strip`; typesetting that `prepare` drops;
a character that NFC changes or moves, or joins with the one before it."""

_HANGUL_SECONDS = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
_PAIR_SLOTS = 4096  # for some 950 pairs


class Tables(NamedTuple):
    """Arrays over code points; `flags` has all of them, the others those before LAST."""

    flags: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.int32]  # str.lower of one character, final sigma as sigma
    classes: npt.NDArray[np.uint8]  # canonical combining class
    decomposed_at: npt.NDArray[np.int32]  # place in `decomposed`, 0 for none
    decomposed: npt.NDArray[np.int32]  # length, then the full canonical decomposition; Hangul left out
    pairs: npt.NDArray[np.int64]  # open addressing: first << 21 | second, -1 where empty
    composites: npt.NDArray[np.int32]  # what the pair at the same place composes to


@cache
def tables() -> Tables:
    points = np.array([*range(0xD800), *range(0xE000, LAST)], np.uint32)
    every = points.tobytes().decode("utf-32-le")
    planes = every + "".join(map(chr, range(0xE0000, 0xE1000)))
    flags = np.zeros(0x110000, np.uint8)
    for bit, some in ((LETTER_OR_MARK, r"[\p{L}\p{M}]+"), (WHITE, r"\s+"), (INVISIBLE, "[\u200b\u200d\u00ad\ufeff]+")):
        flags[_points("".join(regex.findall(some, planes)))] |= bit
    flags[_points("".join(filter(str.isspace, planes)))] |= STRIPPED
    lower = np.arange(LAST, dtype=np.int32)
    # All but İ, which the kernel writes out, have one character for one; the final sigma depends on its neighbours.
    lower[points] = _points(every.replace("İ", "i").lower())
    lower[lower == ord("ς")] = ord("σ")
    lower[ord("İ")] = ord("İ")
    classes = np.zeros(LAST, np.uint8)
    classes[points] = np.fromiter(map(unicodedata.combining, every), np.uint8, len(every))
    at, decomposed, pairs = _decompositions(every)
    flags[[p for p in np.flatnonzero(at).tolist() if unicodedata.normalize("NFC", chr(p)) != chr(p)]] |= UNSTABLE
    flags[[second for _, second in pairs]] |= UNSTABLE
    flags[list(_HANGUL_SECONDS)] |= UNSTABLE
    flags[:LAST][classes > 0] |= UNSTABLE
    return Tables(flags, lower, classes, at, np.array(decomposed, np.int32), *_hashed(pairs))


def _points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _decompositions(every: str) -> tuple[npt.NDArray[np.int32], list[int], dict[tuple[int, int], int]]:
    """Where each decomposition is, the decompositions, {(first, second): primary composite}."""
    at = np.zeros(LAST, np.int32)
    flat = [0]
    pairs = {}
    mappings = (
        (c, mapping) for c, mapping in zip(every, map(unicodedata.decomposition, every), strict=True) if mapping
    )
    for c, mapping in mappings:
        if mapping[0] == "<":
            continue
        p = ord(c)
        full = [ord(c) for c in unicodedata.normalize("NFD", c)]
        at[p] = len(flat)
        flat += [len(full), *full]
        parts = [int(part, 16) for part in mapping.split()]
        if len(parts) == 2 and unicodedata.normalize("NFC", c) == c:
            pairs[parts[0], parts[1]] = p
    return at, flat, pairs


def _hashed(pairs: dict[tuple[int, int], int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    keys, values = np.full(_PAIR_SLOTS, -1, np.int64), np.zeros(_PAIR_SLOTS, np.int32)
    for (first, second), composite in pairs.items():
        key = first << 21 | second
        slot = (first * 37 + second * 101) % _PAIR_SLOTS
        while keys[slot] >= 0:
            slot = (slot + 1) % _PAIR_SLOTS
        keys[slot], values[slot] = key, composite
    return keys, values
