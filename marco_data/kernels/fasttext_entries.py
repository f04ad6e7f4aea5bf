"""The dictionary of a fastText file: bytes in, where each entry's name lies, its count and its type out."""

import numpy as np
import numpy.typing as npt

from marco_data.kernels.compiled import compiled

Numbers = npt.NDArray[np.int64]


@compiled
def scan(data: npt.NDArray[np.uint8], at: int, entries: int) -> tuple[Numbers, Numbers, Numbers, Numbers, int]:
    """(starts, lengths, counts, types, where they end) of `entries` entries: a name, 0, int64 count, int8 type."""
    starts, lengths = np.zeros(entries, np.int64), np.zeros(entries, np.int64)
    counts, types = np.zeros(entries, np.int64), np.full(entries, -1, np.int64)
    for entry in range(entries):
        end = at
        while end < len(data) and data[end] != 0:
            end += 1
        if end + 10 > len(data):
            break  # the types say so: -1
        starts[entry], lengths[entry] = at, end - at
        count = np.uint64(0)
        for i in range(8):
            count |= np.uint64(data[end + 1 + i]) << np.uint64(8 * i)
        counts[entry], types[entry] = np.int64(count), data[end + 9]
        at = end + 10
    return starts, lengths, counts, types, at
