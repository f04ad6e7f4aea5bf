"""text-dedup 0.4: the signature of a document by the function its MinHash command maps over a data set.

Its words are what lies between characters that are no letter or digit. xxh3 instead of the SHA-1 that it takes
by default, which is slower.
"""

from collections.abc import Callable

import numpy as np
from text_dedup.minhash import embed_func
from text_dedup.utils import xxh3_32hash

from benchmarks.peers import HASHES, SHINGLE

BANDS = 14
PRIME = np.uint64((1 << 61) - 1)


def signature(texts: list[str]) -> Callable[[], object]:
    random = np.random.RandomState(42)
    factors, summands = (random.randint(least, PRIME, size=HASHES, dtype=np.uint64) for least in (1, 0))
    rows = HASHES // BANDS
    settings = {
        "num_perm": HASHES,
        "ngram_size": SHINGLE,
        "min_length": 0,
        "hashranges": [(band * rows, (band + 1) * rows) for band in range(BANDS)],
        "permutations": (factors, summands),
        "hash_func": xxh3_32hash,
        "dtype": np.uint64,
        "max_hash": np.uint32((1 << 32) - 1),
        "modulo_prime": PRIME,
    }
    return lambda: [embed_func(text, number, **settings) for number, text in enumerate(texts)]


WORK = {"signature": signature}
