"""Checksums of the blocks of a run file: XXH64 of each block's records, kept in its last eight bytes."""

import numpy as np

from marco_data.kernels.compiled import compiled
from marco_data.kernels.memory import Bytes
from marco_data.kernels.minhash import xxh64


@compiled
def seal(data: Bytes, block: int) -> None:
    """Write the checksum of each block of `block` bytes into its last eight."""
    for start in range(0, len(data), block):
        checksum = xxh64(data, start, start + block - 8)
        for k in range(8):
            data[start + block - 8 + k] = np.uint8((checksum >> np.uint64(8 * k)) & np.uint64(0xFF))


@compiled
def damaged(data: Bytes, block: int) -> int:
    """The number of the first block whose checksum is not that of its bytes; -1 where all are."""
    for start in range(0, len(data), block):
        checksum = np.uint64(0)
        for k in range(8):
            checksum |= np.uint64(data[start + block - 8 + k]) << np.uint64(8 * k)
        if xxh64(data, start, start + block - 8) != checksum:
            return start // block
    return -1
