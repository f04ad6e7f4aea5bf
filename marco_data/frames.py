"""Frames: the lines that a template writes around what it was asked for, cut before documents are compared.

In: the texts of a batch, and frames as a recipe has them: a line of text with `{}` where something varies,
`Question {}: {}`. Out: the texts without the words of the frames in the lines that they match; what stands in the
place of `{}` stays, and so does every other line.

A frame matches a whole line, white space at its ends aside, letter for letter. A text that is nothing but frames stays
as it is, so that two of them are compared by what they are. Languages and sources are not known here.
"""

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import AfterValidator

from marco_data.steps.normalize import normalize
from marco_data.words import Texts

VARIES = "{}"
Span = tuple[int, int]


def _checked(frame: str) -> str:
    """`frame` in the spelling that texts are given."""
    frame = normalize(frame)
    if "\n" in frame:
        raise ValueError("a frame is one line; write each line of the template as a frame of its own")
    if not any(map(str.isalnum, frame.replace(VARIES, ""))):
        raise ValueError(f"`{frame}` has no word beside {VARIES}, and would match any line; write the template's words")
    return frame


def _in_order(frames: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, so that their order in a recipe is no identity: it does not shape the output."""
    return tuple(sorted(set(frames)))


Frames = Annotated[tuple[Annotated[str, AfterValidator(_checked)], ...], AfterValidator(_in_order)]
"""What a recipe may have for frames: any list of lines with words in them."""


class _Pieces(NamedTuple):
    """A frame cut at each `{}`, as UTF-8, and the longest piece, which a line must hold."""

    pieces: tuple[bytes, ...]
    longest: bytes


@cache
def _pieces(frame: str) -> _Pieces:
    pieces = tuple(piece.encode() for piece in frame.split(VARIES))
    return _Pieces(pieces, max((piece.strip() for piece in pieces), key=len))


def cut_frames(texts: Texts, frames: tuple[str, ...]) -> Texts:
    """`texts`, a line feed in the place of each piece of a frame; a copy, where any is found."""
    first = int(texts.offsets[0])
    data = texts.data[first : int(texts.offsets[-1])].tobytes()
    offsets = (texts.offsets - first).tolist()
    found: dict[int, list[Span]] = {}
    for frame in frames:
        for text, spans in _matches(data, offsets, _pieces(frame)):
            found.setdefault(text, []).extend(spans)
    parts, at = [], 0
    shorter = np.zeros(len(offsets), np.int64)
    for text in sorted(found):
        start, end = offsets[text], offsets[text + 1]
        rest = _without(data, start, end, _joined(found[text]))
        if not rest.decode().isspace():
            parts += [data[at:start], rest]
            shorter[text + 1] = end - start - len(rest)
            at = end
    if not parts:
        return texts
    return Texts(np.frombuffer(b"".join([*parts, data[at:]]), np.uint8), np.array(offsets) - np.cumsum(shorter))


def _matches(data: bytes, offsets: list[int], frame: _Pieces) -> Iterator[tuple[int, list[Span]]]:
    """(text, where the frame's pieces are) of each line that the frame matches. Linear in the data."""
    at = data.find(frame.longest)
    while at >= 0:
        text = bisect_right(offsets, at) - 1
        start = data.rfind(b"\n", offsets[text], at) + 1 or offsets[text]
        end = data.find(b"\n", at, offsets[text + 1])
        end = offsets[text + 1] if end < 0 else end
        if spans := _in_line(data[start:end].decode(), start, frame.pieces):
            yield text, spans
        at = data.find(frame.longest, max(end, at + 1))


def _in_line(line: str, start: int, pieces: tuple[bytes, ...]) -> list[Span]:
    """Where the pieces are in a line that begins at `start`; nowhere, unless they are all of it but what varies."""
    inner = line.strip().encode()
    begin = start + len(line[: len(line) - len(line.lstrip())].encode())
    # A space at either end, so that `Answer: {}` matches a line of which nothing but `Answer:` is left.
    padded = b" " + inner + b" "
    first, *middle = pieces
    last = middle.pop() if middle else b""
    at = len(first) + 1 if first else 0
    stop = len(padded) - 1 - len(last) if last else len(padded)
    if not padded.startswith(first, 1) or not padded.startswith(last, stop) or at > stop:
        return []
    if len(pieces) == 1 and first != inner:
        return []
    spans = [(1, at), (stop, stop + len(last))]
    for piece in middle:
        here = padded.find(piece, at, stop)
        if here < 0:
            return []
        at = here + len(piece)
        spans.append((here, at))
    inside = [(max(a - 1, 0), min(b - 1, len(inner))) for a, b in spans]
    return [(begin + a, begin + b) for a, b in inside if a < b]


def _joined(spans: list[Span]) -> list[Span]:
    """The union of spans, ascending."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _without(data: bytes, start: int, end: int, spans: list[Span]) -> bytes:
    """data[start:end], a line feed for each span."""
    ends = [start, *(b for _, b in spans)]
    starts = [*(a for a, _ in spans), end]
    return b"\n".join(data[a:b] for a, b in zip(ends, starts, strict=True))
