"""Megatron's order: which tokens its sample k of a blend has, as megatron-core 0.16.1 would draw it.

In: the lengths of each shard's sequences, weights, a number of samples, sequence length and seed. Out: its document,
sample and shuffle indices and those of its blend, equal to the last bit, and from them the pieces of a sample. Written
from a description of what its indices hold. Its order changes as a whole with the number of samples, and each stage
starts its shards anew. Memory as Megatron's: 4 bytes a document and round, 12 a sample, 10 a sample of the blend.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marco_data.errors import RecipeError

SURPLUS = 0.005  # of samples made a shard over those asked for; Megatron's mid_level_dataset_surplus
_LAST_ROUND = 0.80  # a last round that is used less than this is shuffled apart

Documents = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class ShardIndices:
    """One shard's: documents of all rounds, [samples + 1, 2] of (place in them, offset), and the samples' order."""

    documents: Documents
    samples: Rows
    shuffle: Numbers


def shard_indices(lengths: npt.NDArray[np.integer], sequence: int, samples: int, seed: int) -> ShardIndices:
    """As GPTDataset builds them for at least `samples` samples."""
    a_round = int(lengths.sum(dtype=np.int64))
    rounds = max(1, -(-(samples * sequence + 1) // a_round))
    before = ((rounds - 1) * a_round - 1) // sequence
    in_a_round = (a_round - 1) // sequence
    apart = rounds > 1 and samples - before < int(_LAST_ROUND * in_a_round)
    random = np.random.RandomState(seed)
    ids = np.arange(len(lengths), dtype=np.int32)
    groups = [rounds - 1, 1] if apart else [rounds]
    documents = []
    for group in groups:
        documents.append(np.tile(ids, group))
        random.shuffle(documents[-1])
    order = np.concatenate(documents)
    ends = np.cumsum(lengths[order], dtype=np.int64)
    total = (rounds * a_round - 1) // sequence
    rows = _rows(ends, lengths[order], sequence, total)
    ranges = [(0, before), (before, total)] if apart else [(0, total)]
    shuffled = []
    for start, end in ranges:
        shuffled.append(np.arange(start, end, dtype=np.uint32))
        random.shuffle(shuffled[-1])
    return ShardIndices(order, rows, np.concatenate(shuffled))


def _rows(ends: Rows, lengths: npt.NDArray[np.integer], sequence: int, samples: int) -> Rows:
    """Where samples begin. One that begins at a document's end (its last token) is said to begin in that document."""
    rows = np.zeros((samples + 1, 2), np.int64)
    tokens = np.arange(1, samples + 1, dtype=np.int64) * sequence + 1
    at = np.searchsorted(ends, tokens, side="left")
    rows[1:, 0] = at
    rows[1:, 1] = tokens - 1 - (ends[at] - lengths[at])
    return rows


def blend_indices(weights: Sequence[float], samples: int) -> tuple[npt.NDArray[np.int16], Rows]:
    """Which shard each sample is of, and how many of it came before: always the one that is furthest behind."""
    shares = np.array(weights, np.float64)
    taken = np.zeros(len(shares))
    shards, before = np.zeros(samples, np.int16), np.zeros(samples, np.int64)
    for number in range(samples):
        behind = int(np.argmax(shares * max(number, 1.0) - taken))
        shards[number], before[number] = behind, taken[behind]
        taken[behind] += 1
    return shards, before


def normalized(weights: Sequence[float]) -> list[float]:
    array = np.array(weights, np.float64)
    return [float(weight) for weight in array / np.sum(array)]


class MegatronBlend:
    """The samples of a whole blend; `samples` is what Megatron is asked for, its own number is that or a few more."""

    def __init__(
        self,
        lengths: Sequence[npt.NDArray[np.integer]],
        weights: Sequence[float],
        *,
        sequence: int,
        samples: int,
        seed: int,
    ) -> None:
        once = normalized(weights)
        wanted = [math.ceil(samples * weight) for weight in once]
        # Normalised twice, as it does it: in float64 that need not be the same as once.
        self.shards, self.before = blend_indices(normalized(once), sum(wanted))
        self.size = len(self.shards)
        self.indices = [
            shard_indices(shard, sequence, math.ceil(want * (1 + SURPLUS)), seed)
            for shard, want in zip(lengths, wanted, strict=True)
        ]
        self._lengths = lengths
        taken = np.bincount(self.shards, minlength=len(lengths))
        for number, indices in enumerate(self.indices):
            if taken[number] > len(indices.shuffle):
                raise RecipeError(
                    f"Megatron's blend takes {taken[number]} samples of shard {number}, which has "
                    f"{len(indices.shuffle)}; Megatron stops here too",
                    hint="train on more samples, or leave out shards of very small weight, or use `order: stable`",
                )

    def __call__(self, number: int) -> list[tuple[int, int, int, int]]:
        """(shard, sequence of it, offset, tokens) of the pieces of a sample."""
        shard = int(self.shards[number])
        indices, lengths = self.indices[shard], self._lengths[shard]
        at = int(indices.shuffle[self.before[number]])
        (first, offset), (last, end) = indices.samples[at].tolist(), indices.samples[at + 1].tolist()
        pieces = []
        for place in range(first, last + 1):
            document = int(indices.documents[place])
            start = offset if place == first else 0
            stop = end + 1 if place == last else int(lengths[document])
            if stop > start:
                pieces.append((shard, document, start, stop - start))
        return pieces
