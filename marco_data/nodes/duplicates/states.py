"""Which documents are open and which are gone, two bits each, in order of rank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marco_data.languages import LANGUAGES
from marco_data.nodes.duplicates.layout import SCOPE_SHIFT, STATE, opened, table
from marco_data.run_files import Table
from marco_data.storage import DataFile, Storage

NUMBER = np.uint64((1 << SCOPE_SHIFT) - 1)


@dataclass(frozen=True)
class States:
    bases: npt.NDArray[np.int64]  # by language: the bit of its first document
    open: npt.NDArray[np.uint8]
    gone: npt.NDArray[np.uint8]

    @staticmethod
    def read(storage: Storage, files: Sequence[DataFile], spans: Sequence[Sequence[Sequence[int]]]) -> "States":
        """From the files of `settle` and, for each, the (language, documents) in it; each language begins a byte."""
        bases = np.full(len(LANGUAGES), -1, np.int64)
        parts, at = [np.empty(0, STATE)], 0
        for file, languages in zip(opened(storage, files), spans, strict=True):
            parts.append(file.read())
            for scope, n in languages:
                bases[scope] = at
                at += -(-n // 8) * 8
        both = np.concatenate(parts)
        return States(bases, np.ascontiguousarray(both["open"]), np.ascontiguousarray(both["gone"]))

    def _bits(self, bits: npt.NDArray[np.uint8], ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        at = self.bases[(ranks >> np.uint64(SCOPE_SHIFT)).astype(np.int64)] + (ranks & NUMBER).astype(np.int64)
        set_bits: npt.NDArray[np.bool_] = (bits[at >> 3] >> (at & 7).astype(np.uint8)) & 1 == 1
        return set_bits

    def is_open(self, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        return self._bits(self.open, ranks)

    def is_gone(self, ranks: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        return self._bits(self.gone, ranks)


def packed(open: npt.NDArray[np.bool_], gone: npt.NDArray[np.bool_]) -> Table:
    """STATE of the documents of one language."""
    bits = [np.packbits(x, bitorder="little") for x in (open, gone)]
    return table(STATE, len(bits[0]), open=bits[0], gone=bits[1])
