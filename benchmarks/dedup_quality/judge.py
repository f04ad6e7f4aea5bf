"""The product's verdict on texts of one language, and the truth of it by plain Python.

`judge` is `Sign` and `dedup.find_duplicates` as a build runs them. `exact` is the twin: shingles as strings in sets,
no hash, no kernel.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from marco_data.dedup import Documents, DropDuplicates, Verdicts, find_duplicates, keys_of
from marco_data.languages import Language
from marco_data.step import Tools
from marco_data.steps.sign import Sign
from marco_data.words import split_words, texts_of

BATCH = 1000
Shingles = npt.NDArray[np.uint32]


def judge(
    texts: Sequence[str],
    languages: Language | Sequence[Language],
    sign: Sign | None = None,
    rule: DropDuplicates | None = None,
    seed: int = 0,
) -> Verdicts:
    """The verdicts on `texts`, all of one language or each of its own; ids, and so who has to yield, go by `seed`."""
    rule = rule or DropDuplicates()
    sign = sign or Sign(hashes=rule.hashes)
    each = [languages] * len(texts) if isinstance(languages, Language) else list(languages)
    hashes, signatures = _signed(texts, each, sign)
    ids = [xxhash.xxh3_128_hexdigest(f"{seed} {number}".encode()) for number in range(len(texts))]
    documents = Documents(
        run=np.zeros(len(texts), np.int32),
        generated=np.zeros(len(texts), np.bool_),
        low_quality=np.zeros(len(texts), np.bool_),
        id=keys_of(pa.array(ids, pa.string())),
        text_hash=keys_of(pa.array(hashes, pa.string())),
    )

    def blocks() -> Iterator[npt.NDArray[np.uint32]]:
        for at in range(0, len(texts), BATCH):
            yield signatures[at : at + BATCH]

    def shingles(indices: npt.NDArray[np.int64]) -> list[Shingles]:
        return [_shingles(texts[i], each[i], sign) for i in indices.tolist()]

    return find_duplicates(documents, rule, blocks, shingles)


def _signed(
    texts: Sequence[str], languages: Sequence[Language], sign: Sign
) -> tuple[list[str], npt.NDArray[np.uint32]]:
    hashes = [""] * len(texts)
    signatures = np.empty((len(texts), sign.hashes), np.uint32)
    places: dict[str, list[int]] = {}
    for i, language in enumerate(languages):
        places.setdefault(language.code, []).append(i)
    for mine in places.values():
        bound = sign.bind(languages[mine[0]], Tools())
        for at in range(0, len(mine), BATCH):
            some = mine[at : at + BATCH]
            out = bound(pa.record_batch({"text": pa.array([texts[i] for i in some], pa.string())})).columns
            signatures[some] = out["signature"].flatten().to_numpy().reshape(len(some), -1)
            for i, value in zip(some, out["text_hash"].to_pylist(), strict=True):
                hashes[i] = value
    return hashes, signatures


def _shingles(text: str, language: Language, sign: Sign) -> Shingles:
    hashes, bounds = sign.shingler(language)(texts_of(pa.array([text], pa.string())))
    assert list(pairwise(bounds.tolist())) == [(0, len(hashes))]
    return np.sort(hashes)


def exact_shingles(text: str, language: Language) -> set[str]:
    """The shingles of a text without frames, by their definition."""
    units, joint = list("".join(text.casefold().replace("\u200b", " ").split())), ""
    if language.shingle_unit == "word":
        words = [word.casefold() for word in split_words(text, language) if any(map(str.isalnum, word))]
        units, joint = (words, " ") if words else (units, "")
    size = language.shingle_size
    return {joint.join(units[i : i + size]) for i in range(max(1, len(units) - size + 1))}


def exact(left: str, right: str, language: Language) -> float:
    """The Jaccard similarity of two texts."""
    a, b = exact_shingles(left, language), exact_shingles(right, language)
    return len(a & b) / len(a | b)
