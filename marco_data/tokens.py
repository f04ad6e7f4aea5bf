"""Megatron token shards: `PREFIX.bin` holds the tokens, `PREFIX.idx` where each document lies.

In: documents as arrays of token ids, one after the other. Out: two files that are byte for byte those of
megatron-core 0.16.1's IndexedDatasetBuilder, and a reader that maps them into memory. Knows nothing of text,
languages or tokenizers: the end-of-document token is an ordinary token that the caller has appended.

PREFIX.bin   the token ids of all documents back to back, little-endian; no header, no padding, no separator
PREFIX.idx   little-endian, packed (S sequences, D = documents + 1):

  offset      bytes  content
  0           9      magic b"MMIDIDX\\x00\\x00"
  9           8      uint64 version, 1
  17          1      uint8 dtype code: 4 int32, 8 uint16 (of Megatron's others none is ever needed for tokens)
  18          8      uint64 S
  26          8      uint64 D
  34          4 S    int32 sequence lengths, in tokens
  34 + 4 S    8 S    int64 sequence pointers, byte offsets into PREFIX.bin (prefix sums of the lengths)
  34 + 12 S   8 D    int64 document index: 0, then the number of sequences up to and with each document

A document is one sequence here, so S = D - 1 and a document costs 20 bytes of index. The reader also takes
shards of other writers with several sequences a document.
"""

import struct
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from marco_data.errors import ShardError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
_HEADER = struct.Struct("<9sQBQQ")
_DTYPES: dict[int, np.dtype] = {4: np.dtype("<i4"), 8: np.dtype("<u2")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_INT32_MAX = 2**31 - 1
_POINTERS_AT_ONCE = 1 << 20  # 8 MB of pointers in memory while the index is written


def token_dtype(vocab_size: int) -> np.dtype:
    """The type Megatron stores ids of such a vocabulary in: uint16 below 65,500 entries, else int32."""
    return np.dtype("<u2") if vocab_size < 65_500 else np.dtype("<i4")


@dataclass(frozen=True)
class ShardSize:
    """What a finished shard holds; the files have `bin_bytes` and `idx_bytes`."""

    documents: int
    tokens: int
    bin_bytes: int
    idx_bytes: int


class ShardWriter:
    """Streams documents into an open `.bin` file and, on `finish`, writes its `.idx`.

    Both files are given open for binary writing, at their start, and stay open: naming, closing and
    committing them is the caller's. Memory: 4 bytes a document.
    """

    def __init__(self, bin_file: BinaryIO, idx_file: BinaryIO, dtype: np.dtype) -> None:
        self._bin = bin_file
        self._idx = idx_file
        self._dtype = dtype
        self._code = _CODES[dtype]
        self._largest = np.iinfo(dtype).max
        self._lengths = array("i")
        self.tokens = 0

    @property
    def documents(self) -> int:
        return len(self._lengths)

    def append(self, document: npt.NDArray[np.integer]) -> None:
        """Add one document, shape [tokens], its end-of-document token included.

        Raises ShardError for an id the shard's type cannot hold (Megatron's own writer lets it wrap) and
        for more documents or tokens than Megatron's int32 counts.
        """
        if document.size > _INT32_MAX or self.documents == _INT32_MAX:
            raise ShardError("a shard holds fewer than 2^31 documents, each of fewer than 2^31 tokens")
        if document.size and (document.max() > self._largest or document.min() < 0):
            raise ShardError(
                f"token ids {document.min()} to {document.max()} do not fit the shard's {self._dtype.name}",
                hint="the shard was opened for another tokenizer's vocabulary",
            )
        self._bin.write(document.astype(self._dtype, copy=False).tobytes())
        self._lengths.append(int(document.size))
        self.tokens += int(document.size)

    def finish(self) -> ShardSize:
        """Write the index and say what the shard holds.

        Raises ShardError if nothing was appended: Megatron cannot map an empty file, so an empty shard must
        be left out of the blend and is better never made.
        """
        if self.tokens == 0:
            raise ShardError("a shard without tokens was finished: Megatron cannot open an empty file")
        count = self.documents
        lengths = np.frombuffer(self._lengths, dtype=np.int32).astype("<i4", copy=False)
        self._idx.write(_HEADER.pack(MAGIC, VERSION, self._code, count, count + 1))
        self._idx.write(lengths.tobytes())
        offset = 0
        for begin in range(0, count, _POINTERS_AT_ONCE):
            sizes = lengths[begin : begin + _POINTERS_AT_ONCE].astype("<i8") * self._dtype.itemsize
            ends = np.cumsum(sizes) + offset
            self._idx.write((ends - sizes).astype("<i8", copy=False).tobytes())
            offset = int(ends[-1])
        for begin in range(0, count + 1, _POINTERS_AT_ONCE):
            end = min(count + 1, begin + _POINTERS_AT_ONCE)
            self._idx.write(np.arange(begin, end, dtype="<i8").tobytes())
        return ShardSize(count, self.tokens, offset, _idx_bytes(count, count + 1))


def _idx_bytes(sequences: int, index_length: int) -> int:
    return _HEADER.size + 12 * sequences + 8 * index_length


class Elsewhere(Protocol):
    """A .bin that cannot be mapped: `size` bytes, of which stretches are read, whole or with an error."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> bytes: ...


class _TokensElsewhere:
    """What of an array of tokens is used here."""

    def __init__(self, file: Elsewhere, dtype: np.dtype) -> None:
        self._file, self._dtype = file, dtype

    def __len__(self) -> int:
        return self._file.size // self._dtype.itemsize

    def __getitem__(self, at: slice) -> npt.NDArray[np.integer]:
        start, stop, _ = at.indices(len(self))
        bytes_each = self._dtype.itemsize
        return np.frombuffer(self._file.read(start * bytes_each, stop * bytes_each), self._dtype)


class Shard:
    """A shard of any Megatron writer, mapped into memory and checked against its own sizes.

    Arrays handed out are read-only views that keep the map alive. Raises ShardError where a file is missing,
    cut short, or the two do not belong together; Megatron's reader notices none of these when it opens them.
    `whole=False` checks the sizes alone and not each entry of the index: for shards that are opened again and again.
    `index` is the .idx where it does not lie beside the .bin, which may be `elsewhere`: its tokens are then copies.
    """

    def __init__(
        self, prefix: str | Path, *, whole: bool = True, index: Path | None = None, elsewhere: Elsewhere | None = None
    ) -> None:
        self.prefix = str(prefix)
        idx = _map(index or Path(f"{prefix}.idx"))
        code, sequences, index_length = self._header(idx)
        at = _HEADER.size
        self.dtype = _DTYPES[code]
        lengths = _view(idx, at, sequences, "<i4")
        pointers = _view(idx, at + 4 * sequences, sequences, "<i8")
        documents = _view(idx, at + 12 * sequences, index_length, "<i8")
        data: npt.NDArray[np.uint8] | Elsewhere = _map(Path(f"{prefix}.bin")) if elsewhere is None else elsewhere
        self._check_ends(lengths, pointers, documents, data.size)
        if whole:
            self._check_index(lengths, pointers, documents)
        self._tokens = (
            np.frombuffer(data, self.dtype) if isinstance(data, np.ndarray) else _TokensElsewhere(data, self.dtype)
        )
        self._pointers = pointers
        self._index = documents
        self.lengths = lengths

    def _fail(self, what: str) -> ShardError:
        return ShardError(f"the shard `{self.prefix}` is broken: {what}", hint="build it again")

    def _header(self, idx: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
        if len(idx) < _HEADER.size:
            raise self._fail(f"its .idx has {len(idx)} bytes, fewer than a header")
        magic, version, code, sequences, index_length = _HEADER.unpack(idx[: _HEADER.size].tobytes())
        if magic != MAGIC or version != VERSION:
            raise self._fail(f"its .idx begins with {magic!r}, version {version}, not {MAGIC!r}, {VERSION}")
        if code not in _DTYPES:
            raise self._fail(f"its dtype code is {code}; token shards have {', '.join(map(str, _DTYPES))}")
        expected = _idx_bytes(sequences, index_length)
        if len(idx) != expected:
            raise self._fail(f"its .idx has {len(idx)} bytes and announces {expected}")
        return code, sequences, index_length

    def _check_ends(
        self,
        lengths: npt.NDArray[np.integer],
        pointers: npt.NDArray[np.integer],
        index: npt.NDArray[np.integer],
        size: int,
    ) -> None:
        if len(index) == 0 or index[0] != 0 or index[-1] != len(lengths):
            raise self._fail("its document index does not run from 0 to its number of sequences")
        expected = int(pointers[-1]) + int(lengths[-1]) * self.dtype.itemsize if len(lengths) else 0
        if size != expected:
            raise self._fail(f"its .bin has {size} bytes where its .idx announces {expected}")

    def _check_index(
        self,
        lengths: npt.NDArray[np.integer],
        pointers: npt.NDArray[np.integer],
        index: npt.NDArray[np.integer],
    ) -> None:
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        if (lengths < 0).any() or pointers[:1].any() or not np.array_equal(pointers[1:], ends[:-1]):
            raise self._fail("its .idx has lengths and pointers that do not agree")
        if (np.diff(index) < 0).any():
            raise self._fail("its document index does not run from 0 to its number of sequences")

    @property
    def documents(self) -> int:
        return len(self._index) - 1

    @property
    def tokens(self) -> int:
        return len(self._tokens)

    def start(self, document: int) -> int:
        """The place of a document's first token in the shard; that of the one after the last ends the shard."""
        sequence = int(self._index[document])
        if sequence == len(self._pointers):
            return self.tokens
        return int(self._pointers[sequence]) // self.dtype.itemsize

    def read_document(self, document: int) -> npt.NDArray[np.integer]:
        """The token ids of one document, shape [tokens], its end-of-document token included."""
        if not 0 <= document < self.documents:
            raise IndexError(f"document {document} of a shard of {self.documents}")
        return self._tokens[self.start(document) : self.start(document + 1)]

    def read_tokens(self, start: int, count: int) -> npt.NDArray[np.integer]:
        """The token ids from `start` on, shape [count], whatever documents they belong to."""
        if not 0 <= start <= start + count <= self.tokens:
            raise IndexError(f"tokens {start} to {start + count} of a shard of {self.tokens}")
        return self._tokens[start : start + count]

    def document_starts(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """Where documents begin after `start` and before `start + count`; empty ones begin with the next."""
        if count == 0:
            return np.empty(0, np.int64)
        first, last = self.position(start), self.position(start + count - 1)
        sequences = self._index[first + 1 : last + 1]
        starts: npt.NDArray[np.int64] = self._pointers[sequences].astype(np.int64) // self.dtype.itemsize
        return starts

    def position(self, token: int) -> int:
        """The number of the document that the shard's token number `token` belongs to."""
        if not 0 <= token < self.tokens:
            raise IndexError(f"token {token} of a shard of {self.tokens}")
        # By bisection in the mapped index: numpy's own would first copy it, as it is not aligned.
        sequence = bisect_right(self._pointers, token * self.dtype.itemsize) - 1
        return bisect_right(self._index, sequence) - 1


def _map(path: Path) -> npt.NDArray[np.uint8]:
    try:
        if path.stat().st_size == 0:
            return np.zeros(0, dtype=np.uint8)  # an empty file cannot be mapped
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise ShardError(f"the shard file `{path}` cannot be read: {error.strerror}") from error


def _view(buffer: npt.NDArray[np.uint8], offset: int, count: int, dtype: str) -> npt.NDArray[np.integer]:
    return np.frombuffer(buffer, dtype=dtype, count=count, offset=offset)
