"""Signatures on real text: how far estimates are from exact similarities, and how many near copies meet in a band.

In: reference prose. Each document is paired with a copy of which a seeded share of the words is left out, so that
similarities from 0.3 to 1 occur. Out: errors of our estimates and of datasketch's on the same shingles beside the
theory, sqrt(J(1 - J)/k), and the share of pairs that meet beside 1 - (1 - J^rows)^bands.
"""

import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from datasketch import MinHash

from benchmarks.agreement.oracle import Figures
from benchmarks.corpus import corpus
from marco_data.dedup import DropDuplicates
from marco_data.kernels import minhash
from marco_data.languages import LANGUAGES
from marco_data.steps.sign import Hashes, Sign
from marco_data.words import texts_of

SEED = 2
MOST_CHARACTERS = 6000
HASHES = 112
COPIES = 4
EDGES = (0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Bin:
    """Pairs whose exact similarity is between `least` and `most`."""

    least: float
    most: float
    pairs: int
    theory: float  # root of the mean of J(1 - J)/k
    ours: float  # root mean square error
    datasketch: float
    bias: float  # mean of our estimate less the exact
    mean_error: float  # mean absolute error of ours
    mean_theory: float  # sqrt(2/pi) of the deviation: the mean absolute error of a normal distribution
    met: float
    curve: float
    deviations: float  # of `met` from `curve`, in standard deviations of so many pairs


def compare(most_texts: int) -> list[Bin]:
    """COPIES pairs for each of at most `most_texts` texts, by similarity; the last two bins: 0.8 and more, and all."""
    pairs = np.array([row for row in _pairs(most_texts) if EDGES[0] <= row[0] < 1.0]).reshape(-1, 4)
    spans = [*pairwise(EDGES), (0.8, 1.0), (EDGES[0], 1.0)]
    found = [_bin(pairs, least, most) for least, most in spans]
    return [one for one in found if one.pairs]


def _bin(pairs: Figures, least: float, most: float) -> Bin:
    exact, ours, theirs, met = pairs[(pairs[:, 0] >= least) & (pairs[:, 0] < most)].T
    if not len(exact):
        return Bin(least, most, 0, *[0.0] * 9)
    deviation = np.sqrt(exact * (1 - exact) / HASHES)
    curve = np.array([DropDuplicates().banding.probability(j) for j in exact])
    return Bin(
        *(least, most, len(exact), _root(deviation), _root(ours - exact), _root(theirs - exact)),
        *(float((ours - exact).mean()), float(abs(ours - exact).mean()), float(deviation.mean() * np.sqrt(2 / np.pi))),
        *(float(met.mean()), float(curve.mean()), float((met - curve).sum() / np.sqrt((curve * (1 - curve)).sum()))),
    )


def _root(values: Figures) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _pairs(most: int) -> list[tuple[float, float, float, bool]]:
    """(exact, our estimate, datasketch's, whether a band is equal) of each document and its thinned copy."""
    banding, (factors, summands) = DropDuplicates().banding, minhash.permutations(HASHES)
    texts = [text for text in corpus() if len(text.text) > 1000][:most]
    rng = random.Random(SEED)
    out = []
    for text in (text for text in texts for _ in range(COPIES)):
        shingler = Sign().shingler(LANGUAGES[text.language])
        left = text.text[:MOST_CHARACTERS]
        hashes, bounds = shingler(texts_of(pa.array([left, _thinned(left, rng)])))
        signatures = minhash.signatures(hashes, bounds, factors, summands)
        keys = minhash.band_keys(signatures, banding.bands, banding.rows)
        sets = [hashes[a:b] for a, b in pairwise(bounds)]
        shared = len(np.intersect1d(sets[0], sets[1]))
        exact = shared / (len(sets[0]) + len(sets[1]) - shared)
        estimate = float((signatures[0] == signatures[1]).mean())
        out.append((exact, estimate, _datasketch(*sets), bool((keys[:, 0] == keys[:, 1]).any())))
    return out


def _thinned(text: str, rng: random.Random) -> str:
    """The text without some of its pieces between spaces, or of its characters where there are few spaces."""
    words = text.split(" ")
    pieces = words if len(words) > len(text) / 20 else list(text)
    share = rng.random() ** 2 * 0.12
    kept = [piece for piece in pieces if rng.random() > share]
    return (" " if pieces is words else "").join(kept)


def _datasketch(left: Hashes, right: Hashes) -> float:
    pair = []
    for hashes in (left, right):
        pair.append(MinHash(HASHES, hashfunc=int))
        pair[-1].update_batch(hashes.tolist())
    return float(pair[0].jaccard(pair[1]))
