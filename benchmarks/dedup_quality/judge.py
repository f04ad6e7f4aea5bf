"""The product's verdict on texts of one language, and the truth of it by plain Python.

`judge` is `Sign` and the nodes of dedup as a build runs them. `exact` is the twin: shingles as strings in sets,
no hash, no kernel.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from benchmarks import dedup_alone
from marco_data.dedup import DropDuplicates
from marco_data.languages import LANGUAGES, Language
from marco_data.step import Tools
from marco_data.steps.sign import Sign
from marco_data.words import split_words

BATCH = 1000
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where a few thousand texts are judged hundreds of times: what is committed is forced to disk elsewhere."""


def judge(
    texts: Sequence[str],
    languages: Language | Sequence[Language],
    sign: Sign | None = None,
    rule: DropDuplicates | None = None,
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """For each text the number of the kept one that it was dropped for, -1 where it is kept.

    All are of one language, or each of its own; ids, and so who has to yield, go by `seed`.
    """
    rule = rule or DropDuplicates()
    sign = sign or Sign(hashes=rule.hashes)
    each = [languages] * len(texts) if isinstance(languages, Language) else list(languages)
    ids = [xxhash.xxh3_128_hexdigest(f"{seed} {number}".encode()) for number in range(len(texts))]
    number_of = {id: number for number, id in enumerate(ids)}
    shards, numbers = [], []
    for code in dict.fromkeys(language.code for language in each):
        mine = [i for i, language in enumerate(each) if language.code == code]
        bound = sign.bind(LANGUAGES[code], Tools())
        for at in range(0, len(mine), BATCH):
            some = mine[at : at + BATCH]
            batch = pa.record_batch({"text": pa.array([texts[i] for i in some], pa.string())})
            given = {"id": [ids[i] for i in some], "text": batch["text"], **bound(batch).columns}
            shards.append(pa.table({**given, "language": pa.array([code] * len(some))}))
            numbers += some
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as root:
        sidecars, _ = dedup_alone.deduplicated(root, shards, rule, sign)
    named = np.full(len(texts), -1, np.int64)
    twins = [twin for sidecar in sidecars for twin in sidecar["dup_of"].to_pylist()]
    named[numbers] = [-1 if twin is None else number_of[twin] for twin in twins]
    return named


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
