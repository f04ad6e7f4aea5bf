"""datasketch and rensa: signatures of five words between spaces, and near duplicates looked up among signatures."""

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Thunk
from benchmarks.corpus import Round
from benchmarks.ours import with_copies
from benchmarks.peers import HASHES, SHINGLE
from marco_data.dedup import DropDuplicates

ALIKE = 0.8


def shingles(text: str) -> list[str]:
    """Words between spaces, five at a time, lower case: what the signature libraries are usually fed."""
    units = text.lower().split()
    return [" ".join(units[at : at + SHINGLE]) for at in range(max(1, len(units) - SHINGLE + 1))]


def datasketch_signatures(texts: Round) -> Thunk:
    from datasketch import MinHash

    plain = [text.text for text in texts]

    def run() -> None:
        for text in plain:
            MinHash(num_perm=HASHES).update_batch([shingle.encode() for shingle in shingles(text)])

    return run


def rensa_signatures(texts: Round) -> Thunk:
    from rensa import RMinHash

    plain = [text.text for text in texts]

    def run() -> None:
        for text in plain:
            signature = RMinHash(num_perm=HASHES, seed=1)
            signature.update(shingles(text))
            signature.digest()

    return run


def datasketch_duplicates(texts: Round) -> Thunk:
    from datasketch import MinHash, MinHashLSH

    signatures = []
    for text in with_copies(texts):
        signatures.append(MinHash(num_perm=HASHES))
        signatures[-1].update_batch([shingle.encode() for shingle in shingles(text.text)])
    banding = DropDuplicates().banding
    return lambda: _drop_near(MinHashLSH(num_perm=HASHES, params=(banding.bands, banding.rows)), signatures)


def rensa_duplicates(texts: Round) -> Thunk:
    from rensa import RMinHash, RMinHashLSH

    signatures = RMinHash.from_token_sets([shingles(text.text) for text in with_copies(texts)], HASHES, 1)
    bands = DropDuplicates().banding.bands
    return lambda: _drop_near(RMinHashLSH(threshold=ALIKE, num_perm=HASHES, num_bands=bands), signatures)


def _drop_near(index: Any, signatures: Sequence[Any]) -> int:
    """How many are like one that was kept before them, as both libraries' manuals do it."""
    dropped = 0
    for key, signature in enumerate(signatures):
        near = any(signature.jaccard(signatures[other]) >= ALIKE for other in index.query(signature))
        dropped += near
        if not near:
            index.insert(key, signature)
    return dropped
