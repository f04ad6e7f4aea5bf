"""How many letters of each script texts have: UTF-8 in, counts out. Which letter is whose, a table says."""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.characters import code_point, width
from marco_data.kernels.compiled import borrowing, compiled
from marco_data.kernels.memory import item
from marco_data.kernels.prepare import Bytes, end_of_head


@compiled
def count_scripts(
    data: Bytes, offsets: npt.NDArray[np.int64], characters: int, table: Bytes, kinds: int
) -> npt.NDArray[np.int64]:
    """Characters of each kind, int64[texts, kinds], in the first `characters` of each text.

    Text i is data[offsets[i]:offsets[i + 1]]; `table` gives each code point's kind.
    """
    counts = np.zeros((len(offsets) - 1, kinds), np.int64)
    for i in range(len(offsets) - 1):
        _count(data, offsets[i], end_of_head(data, offsets[i], offsets[i + 1], characters), table, counts[i])
    return counts


@borrowing
def _count(data: Bytes, at: int, stop: int, table: Bytes, counts: npt.NDArray[np.int64]) -> None:
    """Adds the characters of data[at:stop]: one sum for all that follow one another in a kind, kind 0 aside.

    To add to what was just added to is to wait for it.
    """
    kind, n, zeros = np.uint8(0), 0, 0
    while at < stop:
        found = item(table, code_point(data, at))
        at += width(item(data, at))
        n += found == kind
        zeros += found == 0
        if found and found != kind:
            counts[kind] += n
            kind, n = found, 1
    counts[kind] += n
    counts[0] = zeros
