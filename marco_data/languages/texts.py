"""A string array of Arrow as the two arrays that kernels read. Knows nothing of languages."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def text_buffers(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(UTF-8 bytes, offsets[n + 1]) of a string array, without a copy of the bytes; null is the empty text."""
    if texts.null_count:
        texts = texts.fill_null("")
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    first = np.frombuffer(offsets, np.int64, len(texts) + 1, 8 * texts.offset) if len(texts) else np.zeros(1, np.int64)
    return np.frombuffer(data if data else b"\0", np.uint8), first.copy()
