"""The order of training: a plan over stages, in which sample k of a stage is a pure function of the plan.

In: checked blends, sequence length, seed. Out: a `Plan`; of each stage how many samples it has, and for sample k the
pieces it is made of: (shard of the blend, first token, tokens). Reads no tokens. Knows neither batches nor ranks.

The `stable` order:
- A shard is read from its start, round after round, `drawn` tokens of it (its tokens times the blend's epochs). Its
  documents lie in the order of a hash, so nothing is gained by shuffling those, and no index of them is kept.
- What is drawn is cut every `sequence` tokens; sample j has the tokens from j x sequence on, and one more, which is the
  last label and the next sample's first input. The samples that lie in one round are shuffled among themselves; the one
  that reaches into the next round comes last of its round. So nothing is seen again before all of its round was.
- Shards are interleaved evenly by their numbers of samples. What is left of each, less than a sample, follows at the
  stage's end, joined into samples of several shards; less than one sample of a whole stage is left over.
- Stages are disjoint by construction and start their shards at the beginning. A shard with the same content in a later
  stage (one that a user brings, and that belongs to no stage) goes on where the earlier stage stopped.

The `megatron` order is megatron-core 0.16.1's own, where each stage starts anew.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np

from marco_data.errors import RecipeError
from marco_data.train.blend import StageBlend, check_tokenizers
from marco_data.train.megatron_order import MegatronBlend
from marco_data.train.shuffle import Interleaving, Shuffle

STABLE, MEGATRON = "stable", "megatron"
SEED = 1234  # Megatron's default too
_VERSION = 1  # of the stable order: a change of it is a change of every plan


class Piece(NamedTuple):
    """Tokens of one shard that follow each other: `entry` is the shard's number in its stage's blend."""

    entry: int
    start: int
    tokens: int


class Order(Protocol):
    """The samples of one stage, `size` of them."""

    size: int

    def __call__(self, number: int) -> list[Piece]: ...


class Stretch:
    """One shard's part in a stage: `drawn` tokens from place `begin` of its endless repetition, cut into samples."""

    def __init__(self, tokens: int, begin: int, drawn: int, sequence: int, key: str) -> None:
        self.tokens, self.begin, self.sequence, self.key = tokens, begin, sequence, key
        self.samples = max(0, drawn - 1) // sequence
        self.rest = drawn - self.samples * sequence  # tokens that are no sample's input yet
        self._shuffles: dict[int, tuple[int, Shuffle]] = {}

    def place(self, number: int) -> int:
        """Where the sample drawn as number `number` begins in the shard's endless repetition."""
        round = (self.begin + number * self.sequence) // self.tokens
        first, shuffle = self._shuffles.get(round) or self._round(round)
        inside = number - first
        moved = shuffle(inside) if inside < shuffle.size else inside
        return self.begin + (first + moved) * self.sequence

    def _round(self, round: int) -> tuple[int, Shuffle]:
        """The first sample that begins in a round, and the shuffle of those that lie in it wholly."""
        first, end = (
            min(self.samples, max(0, -((self.begin - edge * self.tokens) // self.sequence)))
            for edge in (round, round + 1)
        )
        reaches_over = self.begin + end * self.sequence >= (round + 1) * self.tokens
        self._shuffles[round] = found = (first, Shuffle(max(0, end - first - reaches_over), f"{self.key}/{round}"))
        return found

    def pieces(self, entry: int, place: int, count: int) -> list[Piece]:
        """`count` tokens from a place on, in a piece for each round."""
        found = []
        while count:
            start = place % self.tokens
            here = min(count, self.tokens - start)
            found.append(Piece(entry, start, here))
            place, count = place + here, count - here
        return found


class StableOrder:
    """See the module; `begins` are the places where the stage before left each shard."""

    def __init__(self, blend: StageBlend, begins: Sequence[int], *, sequence: int, seed: int) -> None:
        self._sequence = sequence
        self.stretches = [
            Stretch(entry.tokens, begin, entry.drawn, sequence, f"{seed}/{entry.content}/{entry.prefix}")
            for entry, begin in zip(blend.entries, begins, strict=True)
        ]
        self._even = Interleaving([stretch.samples for stretch in self.stretches])
        # By a hash, so that the last samples of a stage are not sorted by language.
        self._rests = sorted(
            (number for number, stretch in enumerate(self.stretches) if stretch.rest),
            key=lambda number: hashlib.sha256(self.stretches[number].key.encode()).digest(),
        )
        self._ends = list(accumulate(self.stretches[number].rest for number in self._rests))
        joined = max(0, self._ends[-1] - 1) // sequence if self._ends else 0
        self.size = self._even.size + joined
        self.left = (self._ends[-1] if self._ends else 0) - joined * sequence

    def __call__(self, number: int) -> list[Piece]:
        if number >= self._even.size:
            return self._joined(number)
        entry, before = self._even(number)
        stretch = self.stretches[entry]
        return stretch.pieces(entry, stretch.place(before), self._sequence + 1)

    def _joined(self, number: int) -> list[Piece]:
        """A sample of what several shards have left."""
        if number >= self.size:
            raise IndexError(f"sample {number} of {self.size}")
        start, count = (number - self._even.size) * self._sequence, self._sequence + 1
        at = bisect_right(self._ends, start)
        found: list[Piece] = []
        while count:
            entry = self._rests[at]
            stretch, end = self.stretches[entry], self._ends[at]
            here = min(count, end - start)
            place = stretch.begin + stretch.samples * self._sequence + stretch.rest - (end - start)
            found += stretch.pieces(entry, place, here)
            start, count, at = start + here, count - here, at + 1
        return found


class MegatronOrder:
    """Megatron's, over the same shards; `left` is what of the blend's tokens its samples do not draw."""

    def __init__(self, blend: StageBlend, *, sequence: int, seed: int, samples: int | None) -> None:
        lengths = [np.array(entry.files.open(whole=False).lengths) for entry in blend.entries]
        self._starts = [np.cumsum(shard, dtype=np.int64) - shard for shard in lengths]
        self.asked = wanted = max(1, blend.drawn // sequence) if samples is None else samples
        weights = [entry.weight for entry in blend.entries]
        self.blend = MegatronBlend(lengths, weights, sequence=sequence, samples=wanted, seed=seed)
        self.size = self.blend.size
        self.left = max(0, blend.drawn - self.size * sequence)

    def __call__(self, number: int) -> list[Piece]:
        if not 0 <= number < self.size:
            raise IndexError(f"sample {number} of {self.size}")
        return [
            Piece(shard, int(self._starts[shard][document]) + offset, tokens)
            for shard, document, offset, tokens in self.blend(number)
        ]


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan. `sources` numbers each of its shards' (language, part, source) as the whole plan does."""

    blend: StageBlend
    order: StableOrder | MegatronOrder
    sequence: int
    sources: tuple[int, ...]

    @property
    def stage(self) -> int:
        return self.blend.stage

    @property
    def samples(self) -> int:
        return self.order.size

    @property
    def left(self) -> int:
        """Tokens of the blend that no sample has as its input: less than one sample's in the stable order."""
        return self.order.left


@dataclass(frozen=True)
class Plan:
    """The whole order of a run, over one or more stages."""

    stages: tuple[StagePlan, ...]
    sources: tuple[tuple[str, str, str], ...]
    sequence: int
    seed: int
    order: str

    def stage(self, number: int) -> StagePlan:
        for stage in self.stages:
            if stage.stage == number:
                return stage
        known = ", ".join(str(stage.stage) for stage in self.stages)
        raise RecipeError(f"stage {number} is not in this plan", hint=f"it has {known}")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the order and the content of samples depend on, by names that an error can give."""
        found: dict[str, Any] = {
            "sequence length": self.sequence,
            "seed": self.seed,
            "order": f"{self.order}-{_VERSION}",
            "stages": [stage.stage for stage in self.stages],
        }
        for stage in self.stages:
            blend, at = stage.blend, f"stage {stage.stage}"
            found[f"{at}: tokenizer"] = blend.tokenizer["hash"]
            found[f"{at}: end-of-document token"] = [blend.tokenizer["end_of_document"], blend.tokenizer["id"]]
            found[f"{at}: samples"] = stage.order.asked if isinstance(stage.order, MegatronOrder) else stage.samples
            for entry in blend.entries:
                said = [entry.content, entry.documents, entry.tokens, entry.drawn]
                found[f"{at}: shard {entry.prefix}"] = [*said, entry.weight] if self.order == MEGATRON else said
        return found

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]


def plan_stages(
    blends: Sequence[StageBlend],
    *,
    sequence: int,
    seed: int = SEED,
    order: str = STABLE,
    samples: Mapping[int, int] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of a run over stages, in their order.

    `samples`, for Megatron's order, are what it is asked for by stage (its iterations times its global batch size);
    `tokenizer` is the model's, where known. Raises RecipeError.
    """
    if not blends:
        raise RecipeError("no stage to train on", hint="name a stage, or the folder of a built one")
    if sequence < 1:
        raise RecipeError(f"a sequence length of {sequence}", hint="it is a number of tokens from 1 on")
    if order not in (STABLE, MEGATRON):
        raise RecipeError(f"there is no order `{order}`", hint=f"orders: {STABLE}, {MEGATRON}")
    numbers = [blend.stage for blend in blends]
    if len(set(numbers)) < len(numbers):
        raise RecipeError(
            f"stages {numbers} name one twice", hint="a run trains on a stage once; epochs are the blend's"
        )
    check_tokenizers(blends, tokenizer)
    places = {(e.language, e.part, e.source) for blend in blends for e in blend.entries}
    sources = {place: number for number, place in enumerate(sorted(places))}
    cursors: dict[str, int] = {}
    stages = []
    for blend in blends:
        found: StableOrder | MegatronOrder
        if order == MEGATRON:
            found = MegatronOrder(blend, sequence=sequence, seed=seed, samples=(samples or {}).get(blend.stage))
        else:
            begins = []
            for entry in blend.entries:
                begins.append(cursors.get(entry.content, 0))
                cursors[entry.content] = begins[-1] + entry.drawn
            found = StableOrder(blend, begins, sequence=sequence, seed=seed)
        if found.size == 0:
            raise RecipeError(
                f"`{blend.path}` draws {blend.drawn:,} tokens: not one sample of {sequence:,}",
                hint="shorten the sequence, or build a larger stage",
            )
        stages.append(StagePlan(blend, found, sequence, tuple(sources[_place(e)] for e in blend.entries)))
    return Plan(tuple(stages), tuple(sources), sequence, seed, order)


def _place(entry: Any) -> tuple[str, str, str]:
    return (entry.language, entry.part, entry.source)
