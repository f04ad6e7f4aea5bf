"""Documents with near duplicates of known shape: any slice of them, at once, from their number and a seed.

Out: `Planted`, what each of n documents is (its cluster, its kind, how much of its cluster's text it changes), and
`texts`, the documents of a slice. 40 % of the documents are in clusters; sizes follow a power law (as many documents
in clusters of 2 to 5 as in those of 2,000 to 5,000), from 2 to n / 100, which is 100,000 of 1e7. Members are scattered
over the corpus. A text is words of one language's sample prose, drawn one by one; a member changes words of its
cluster's text at places where each changes a known number of shingles of five words: similarities are exact.

This module does not know what deduplication does. It holds 20 bytes a document.
"""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray as Array

from benchmarks.corpus import SAMPLE

ALONE, ORIGINAL, COPY, NEAR, EDGE, LOOSE = range(6)
KINDS = ("alone", "original", "copy", "near", "edge", "loose")
"""Of the documents in clusters: `original` is its cluster's text, `copy` the same. By Jaccard similarity to the
original, `near` has 0.90 to 0.98, so that any two of these have 0.81 at least; `edge` 0.85 to 0.90, and whether one
goes depends on which came first; `loose` 0.60 to 0.75, and no document of its cluster is more like it."""

SHARES = {COPY: 0.1, NEAR: 0.7, EDGE: 0.1, LOOSE: 0.1}
"""Of a cluster's members beyond its original."""

IN_CLUSTERS = 0.4
LARGEST = 0.01
SHINGLE = 5
LENGTHS = (60, 0.6, 30, 1000)
"""Words of a document: log-normal, (median, sigma, least, most); 72 on average, 0.5 KB."""

LANGUAGES = {"eng_Latn": 0.5, "deu_Latn": 0.2, "rus_Cyrl": 0.15, "spa_Latn": 0.15}
"""The share of clusters, and of documents alone, that are of each."""

Numbers = Array[np.int64]
Keys = Array[np.uint64]


@dataclass(frozen=True)
class Planted:
    """What each document is. `cluster` is -1 for a document alone; `changed`: of the original's shingles."""

    seed: int
    cluster: Array[np.int32]
    kind: Array[np.uint8]

    def __len__(self) -> int:
        return len(self.cluster)

    def key(self, numbers: Numbers) -> Keys:
        """What a document's words are drawn by: its cluster, or itself."""
        cluster = self.cluster[numbers].astype(np.int64)
        return np.where(cluster >= 0, cluster, len(self) + numbers).astype(np.uint64)

    def language(self, numbers: Numbers) -> Array[np.intp]:
        """Its place in LANGUAGES."""
        edges = np.cumsum(list(LANGUAGES.values()))[:-1]
        return np.searchsorted(edges, self._uniform(self.key(numbers), 1), side="right")

    def words(self, numbers: Numbers) -> Numbers:
        """How many words it has."""
        median, sigma, least, most = LENGTHS
        u, v = (self._uniform(self.key(numbers), salt) for salt in (2, 3))
        normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
        drawn: Numbers = np.clip(median * np.exp(sigma * normal), least, most).astype(np.int64)
        return drawn

    def changed(self, numbers: Numbers) -> Numbers:
        """How many of its original's shingles it lacks; it has as many that the original lacks."""
        shingles = self.words(numbers) - SHINGLE + 1
        least, most = np.zeros_like(shingles), np.zeros_like(shingles)
        for kind, low, high in ((NEAR, 0.90, 0.98), (EDGE, 0.85, 0.90), (LOOSE, 0.60, 0.75)):
            mine = self.kind[numbers] == kind
            ends = [np.floor(shingles * (1 - j) / (1 + j) + 1e-9).astype(np.int64) for j in (low, high)]
            least[mine], most[mine] = ends[1][mine] + 1, ends[0][mine]
        u = self._uniform(numbers.astype(np.uint64), 4)
        return least + (u * (most - least + 1)).astype(np.int64)

    def jaccard(self, numbers: Numbers) -> Array[np.float64]:
        """Its similarity to its original; 1 for the original, a copy and a document alone."""
        shingles, changed = self.words(numbers) - SHINGLE + 1, self.changed(numbers)
        return (shingles - changed) / (shingles + changed)

    def texts(self, start: int, stop: int) -> pa.StringArray:
        """Documents [start, stop); 2 GB at most."""
        numbers = np.arange(start, stop, dtype=np.int64)
        table = _vocabulary()
        words = self.words(numbers)
        ends = np.cumsum(words)
        first = ends - words
        of = np.repeat(np.arange(len(numbers)), words)
        place = np.arange(ends[-1]) - first[of]
        language = self.language(numbers)
        begin, count = table.begins[language], np.diff(table.begins)[language]
        drawn = mixed(self.key(numbers)[of], place.astype(np.uint64), self.seed, 5) % count[of].astype(np.uint64)
        tokens = begin[of] + drawn.astype(np.int64)
        document, where = self._substitutions(numbers, words)
        new = self._new_words(numbers[document], where)
        tokens[first[document] + where] = len(table.words) + np.arange(len(new))
        tokens[ends - 1] += len(table.words) // 2  # the last word, never changed, has no space behind it
        joined = pa.concat_arrays([table.words, new]).take(pa.array(tokens))
        offsets = np.frombuffer(joined.buffers()[1], np.int32)[np.append(first, ends[-1])]
        return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), joined.buffers()[2])

    def _substitutions(self, numbers: Numbers, words: Numbers) -> tuple[Numbers, Numbers]:
        """(document of `numbers`, word) of every word to be changed.

        One in the middle changes five shingles, the r-th from the front changes r; no two change the same shingle.
        """
        changed = self.changed(numbers)
        middle, front = changed // SHINGLE, changed % SHINGLE
        document = np.repeat(np.arange(len(numbers)), middle)
        step = np.arange(len(document)) - np.repeat(np.cumsum(middle) - middle, middle)
        begin = front[document] + SHINGLE - 1
        width = (words[document] - SHINGLE + 1 - begin) // middle[document]
        u = self._uniform(mixed(numbers[document].astype(np.uint64), step.astype(np.uint64), self.seed, 7), 8)
        where = begin + step * width + (u * (width - SHINGLE + 1)).astype(np.int64)
        some = np.flatnonzero(front)
        return np.concatenate([document, some]), np.concatenate([where, front[some] - 1])

    def _new_words(self, numbers: Numbers, where: Numbers) -> pa.StringArray:
        """Three words of the language made one: hardly another document has it, so no change makes two alike."""
        table, language = _vocabulary(), self.language(numbers)
        begin, count = table.begins[language], np.diff(table.begins)[language]
        which = numbers + where * len(self)
        parts = [table.folded.take(pa.array(begin + which // count**k % count)) for k in range(3)]
        return pc.binary_join_element_wise(*parts, " ", "")  # the last is what joins them

    def _uniform(self, keys: Keys, salt: int) -> Array[np.float64]:
        return unit(mixed(keys, np.uint64(0), self.seed, salt))


def plant(documents: int, seed: int) -> Planted:
    """The same for the same numbers, with every version of numpy: only its sorting is used."""
    sizes = cluster_sizes(documents)
    members = int(sizes.sum())
    cluster = np.full(documents, -1, np.int32)
    kind = np.full(documents, ALONE, np.uint8)
    order = np.argsort(mixed(np.arange(documents, dtype=np.uint64), np.uint64(0), seed, 9), kind="stable")[:members]
    cluster[order] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    u = unit(mixed(np.arange(members, dtype=np.uint64), np.uint64(1), seed, 10))
    edges = np.cumsum(list(SHARES.values()))[:-1]
    drawn = np.array(list(SHARES), np.uint8)[np.searchsorted(edges, u, side="right")]
    drawn[np.cumsum(sizes) - sizes] = ORIGINAL
    kind[order] = drawn
    return Planted(seed, cluster, kind)


def cluster_sizes(documents: int) -> Numbers:
    """Ascending; P(size) falls with its square. They sum to IN_CLUSTERS of the documents, a few more or less."""
    largest = max(2, int(documents * LARGEST))
    wanted = documents * IN_CLUSTERS
    low, high = 1, int(wanted) // 2 + 1
    while low < high:  # the fewest clusters that hold so many
        count = (low + high) // 2
        low, high = (count + 1, high) if _sizes(count, largest).sum() < wanted else (low, count)
    return _sizes(low, largest)


def _sizes(count: int, largest: int) -> Numbers:
    """Quantiles of a Pareto distribution cut off at `largest`, which is always one of them."""
    u = np.arange(count) / max(1, count - 1)
    return np.floor(2 / (1 - u * (1 - 2 / largest)) * (1 + 1e-12)).astype(np.int64)


def unit(numbers: Keys) -> Array[np.float64]:
    """As fractions, in [0, 1)."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mixed(keys: Keys, places: Keys | np.uint64, seed: int, salt: int) -> Keys:
    """A number for each (key, place), by SplitMix64's finalizer."""
    x = keys * np.uint64(0x9E3779B97F4A7C15) + places * np.uint64(0xD1B54A32D192ED03)
    x += np.uint64((seed * 0x2545F4914F6CDD1D + salt * 0x9FB21C651E98DF25) % 2**64)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@dataclass(frozen=True)
class _Vocabulary:
    """The words of all languages' prose, as often as they are in it: language i has begins[i]:begins[i + 1].

    `words` has each twice: with a space behind it, and all of them again without. `folded` are their letters.
    """

    words: pa.StringArray
    folded: pa.StringArray
    begins: Numbers


@cache
def _vocabulary() -> _Vocabulary:
    words: list[str] = []
    begins = [0]
    for code in LANGUAGES:
        words += _words_of(code)
        begins.append(len(words))
    folded = pa.array([re.sub(r"\W", "", word).casefold() for word in words], pa.string())
    return _Vocabulary(pa.array([f"{word} " for word in words] + words, pa.string()), folded, np.array(begins))


def _words_of(code: str) -> list[str]:
    """What stands between spaces in the sample's prose and is one word of letters, its punctuation with it."""
    found = []
    for file in sorted((SAMPLE / "text").glob(f"{code}*.txt")):
        lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("== ")]
        found += " ".join(lines).split()
    return [word for word in found if re.fullmatch(r"[^\w\s]?[^\W\d_]+[,.;:!?]?", word)]


def total_bytes(texts: pa.StringArray) -> int:
    return int(pc.sum(pc.binary_length(texts)).as_py())
