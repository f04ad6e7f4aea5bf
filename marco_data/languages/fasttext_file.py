"""A fastText model file (.bin or .ftz) as the arrays `kernels/fasttext.py` predicts with.

Read here: supervised models of the format's version 12, plain or quantised, pruned or not, with softmax or hierarchical
softmax, as lid.176, lid218 and GlotLID are. Anything else is `Unreadable`, and the caller keeps fastText: word n-grams,
one-versus-all and negative sampling, unsupervised vectors. A plain matrix is mapped from the file, not read.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from marco_data.kernels.fasttext import HIERARCHICAL, SOFTMAX, Model, slots_of
from marco_data.kernels.fasttext_entries import scan

_MAGIC, _VERSION, _SUPERVISED = 793712314, 12, 3
_END_OF_LINE = b"</s>"
_MOST_DECODED = 1 << 30  # bytes; ours takes 23 MB


class Unreadable(Exception):
    """The file is none that this module reads; the message says why."""


class ModelFile(NamedTuple):
    """A model and its labels, as fastText writes them (`__label__eng`)."""

    model: Model
    labels: tuple[str, ...]


class _Reader:
    """Numbers and arrays from a place in a file on."""

    def __init__(self, path: Path) -> None:
        # Copy on write: pages are the file's until somebody writes, which nobody does; numba wants writable arrays.
        self.data: npt.NDArray[np.uint8] = np.asarray(np.memmap(path, np.uint8, "c"))
        self.at = 0

    def numbers(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + layout)
        found = struct.unpack("<" + layout, self.data[self.at : self.at + size].tobytes())
        self.at += size
        return found

    def array(self, kind: type, *shape: int) -> npt.NDArray[Any]:
        """The next array. A copy where it is small enough or lies so that it must be; else a view of the file."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        raw = self.data[self.at : self.at + size]
        if len(raw) != size:
            raise Unreadable("the file ends too early")
        self.at += size
        if size < 1 << 26:
            raw = raw.copy()
        return raw.view(kind).reshape(shape)


def read(path: Path) -> ModelFile:
    """The model at `path`. Raises Unreadable, and OSError where there is no file."""
    try:
        return _read(_Reader(path))
    except (struct.error, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise Unreadable(f"the file is broken: {error}") from None


def _read(file: _Reader) -> ModelFile:
    if file.numbers("ii") != (_MAGIC, _VERSION):
        raise Unreadable("not a fastText model of format 12")
    dim, _, _, _, _, word_ngrams, loss, kind, bucket, min_n, max_n, _ = file.numbers("12i")
    file.numbers("d")
    if kind != _SUPERVISED or loss not in (SOFTMAX, HIERARCHICAL) or word_ngrams > 1:
        raise Unreadable(f"model kind {kind}, loss {loss}, word n-grams of {word_ngrams}")
    size, words, labels, _, kept = file.numbers("iiiqq")
    starts, lengths, counts, types, file.at = scan(file.data, file.at, size)
    if (types[:words] != 0).any() or (types[words:] != 1).any() or size != words + labels:
        raise Unreadable("labels among the words")
    pairs = file.array(np.int32, max(kept, 0), 2)
    (quantised,) = file.numbers("?")
    bits, before, order = np.zeros(0, np.uint64), np.zeros(0, np.int32), None
    if kept >= 0:
        bits, before, order = _kept(pairs, bucket, words)
    rows = _matrix(file, quantised, order)
    (quantised_output,) = file.numbers("?")
    output = _matrix(file, quantised and quantised_output)
    if file.at != len(file.data):
        raise Unreadable("bytes are left over")
    vocabulary, word_at = _vocabulary(file.data, starts[:words], lengths[:words])
    left, right = _tree(counts[words:].tolist()) if loss == HIERARCHICAL else (np.zeros(0, np.int32),) * 2
    slots = slots_of(vocabulary, word_at, 1 << max(4, int(2 * words).bit_length()))
    named = [file.data[s : s + n].tobytes() for s, n in zip(starts, lengths, strict=True)]
    end_of_line = named[:words].index(_END_OF_LINE) if _END_OF_LINE in named[:words] else -1
    model = Model(
        dim, min_n, max_n if min_n <= max_n else 0, max(bucket, 1), loss, vocabulary, word_at, slots, end_of_line,
        kept >= 0, bits, before, rows.ravel(), output, np.ascontiguousarray(output.T), left, right,
    )  # fmt: skip
    return ModelFile(model, tuple(name.decode("utf-8", "replace") for name in named[words:]))


def _matrix(file: _Reader, quantised: bool, order: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float32]:
    """The next matrix, its rows in `order`. Decoded: eight times what it takes in the file, a row is read three times
    as fast."""
    if not quantised:
        rows: npt.NDArray[np.float32] = file.array(np.float32, *file.numbers("qq"))
        return rows if order is None else rows[order]
    with_norms, count, dim, size = file.numbers("?qqi")
    parts = size // max(count, 1)
    codes = file.array(np.uint8, count, parts)
    centroids = _centroids(file)
    norms = np.ones(count, np.float32)
    if with_norms:
        of_norm = file.array(np.uint8, count)
        norms = _centroids(file)[0, :, 0][of_norm]
    if (
        count * parts != size
        or parts != len(centroids)
        or not 0 <= parts * centroids.shape[2] - dim < centroids.shape[2]
    ):
        raise Unreadable(f"{size} codes for {count} rows of {dim}")
    if 4 * count * dim > _MOST_DECODED:
        raise Unreadable(f"{count} quantised rows of {dim}")
    if order is not None:
        codes, norms = codes[order], norms[order]
    rows = np.empty((len(codes), dim), np.float32)
    for part, values in enumerate(centroids):
        at = part * values.shape[1]
        rows[:, at : at + values.shape[1]] = values[codes[:, part], : dim - at]
    rows *= norms[:, None]
    return rows


def _centroids(file: _Reader) -> npt.NDArray[np.float32]:
    """A product quantiser's centroids, [parts, 256, numbers a part]; a shorter last part is filled up with zeros."""
    dim, parts, size, last = file.numbers("4i")
    flat = file.array(np.float32, dim * 256)
    out = np.zeros((parts, 256, size), np.float32)
    cut = (parts - 1) * 256 * size
    out[:-1] = flat[:cut].reshape(parts - 1, 256, size)
    out[-1, :, :last] = flat[cut:].reshape(256, last)
    return out


def _kept(
    pairs: npt.NDArray[np.int32], bucket: int, words: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Of a pruned model: a bit for each bucket kept, how many come before each 64, the rows in the order of buckets."""
    by_bucket = pairs[np.argsort(pairs[:, 0], kind="stable")]
    present = np.zeros((bucket + 63) // 64 * 64, np.uint8)
    present[by_bucket[:, 0]] = 1
    bits = np.packbits(present, bitorder="little").view("<u8").astype(np.uint64)
    before = np.zeros(len(bits), np.int32)
    before[1:] = np.cumsum(present.reshape(-1, 64).sum(axis=1, dtype=np.int32))[:-1]
    order = np.concatenate([np.arange(words, dtype=np.int64), words + by_bucket[:, 1].astype(np.int64)])
    return bits, before, order


def _vocabulary(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    word_at = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(lengths, out=word_at[1:])
    inside = np.arange(word_at[-1], dtype=np.int64) - np.repeat(word_at[:-1], lengths)
    return data[np.repeat(starts, lengths) + inside], word_at


def _tree(counts: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """fastText's Huffman tree of the labels' counts, which descend: children of each node, leaves first."""
    n = len(counts)
    weights = counts + [10**15] * (n - 1)
    left, right = np.full(2 * n - 1, -1, np.int32), np.full(2 * n - 1, -1, np.int32)
    leaf, node = n - 1, n
    for parent in range(n, 2 * n - 1):
        least = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                least.append(leaf)
                leaf -= 1
            else:
                least.append(node)
                node += 1
        left[parent], right[parent] = least
        weights[parent] = weights[least[0]] + weights[least[1]]
    return left, right
