"""How many letters of each script texts have: UTF-8 in, counts out. Which letter is whose, a table says."""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import compiled
from marco_data.kernels.prepare import Bytes, decode, end_of_head


@compiled
def count_scripts(
    data: Bytes, offsets: npt.NDArray[np.int64], characters: int, table: Bytes, kinds: int
) -> npt.NDArray[np.int64]:
    """Characters of each kind, int64[texts, kinds], in the first `characters` of each text.

    Text i is data[offsets[i]:offsets[i + 1]]; `table` gives each code point's kind.
    """
    counts = np.zeros((len(offsets) - 1, kinds), np.int64)
    for i in range(len(offsets) - 1):
        at, stop = offsets[i], end_of_head(data, offsets[i], offsets[i + 1], characters)
        while at < stop:
            point, at = decode(data, at)
            counts[i, table[point]] += 1
    return counts
