"""Samples and batches: the tokens of a plan, with the documents and sources they are of.

In: a `Plan`. Out: sample k of a stage as arrays, and global batches that any number of ranks read disjointly. Knows
nothing of models; numpy only. Shards are mapped into memory and read in place; a batch costs what is copied. Of shards
that lie elsewhere a batch costs a request for each of its samples, many at once.

The state of training on data is one integer a stage, the samples it has given, and the identity of the plan: a run may
go on with any number of ranks and any batch size, and is refused over anything that would change a sample.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from marco_data.errors import RecipeError, ShardError
from marco_data.tokens import Shard
from marco_data.train.blend import check_ids
from marco_data.train.order import Plan, StagePlan

READ_AT_ONCE = 32
"""Samples of shards elsewhere; were a request 50 ms, 640 would come in a second. From a server on the same machine one
process read 526 of 4,096 tokens, with 1.7 ms of the processor for each (`benchmarks/S3.md`)."""
_OPEN = 256  # shards mapped at once: each map holds an open file, two a shard, and 1,024 are often all there are


@dataclass(frozen=True)
class Sample:
    """Arrays of shape [sequence + 1]: inputs are all but the last token, labels all but the first.

    `documents` numbers the documents from 0 on as they come, also where one goes on from an earlier sample or is cut
    off; tokens attend to each other where it is equal. `sources` are numbers of the plan's `sources`.
    """

    tokens: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch: arrays of shape [samples, sequence + 1], as those of Sample.

    `iteration` counts a stage's batches from 1; `first` is the stage's number of the first sample in it.
    """

    stage: int
    iteration: int
    first: int
    tokens: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    sources: npt.NDArray[np.int32]


@dataclass(frozen=True)
class DocumentUse:
    """A document in a sample, or part of one: `tokens` of it from its `offset` on; `prefix` is as the blend has it."""

    sample: int
    prefix: str
    language: str
    part: str
    source: str
    document: int
    offset: int
    tokens: int


class Samples:
    """The samples of one stage, by number; whatever was read before."""

    def __init__(self, stage: StagePlan) -> None:
        self.stage = stage
        self._remote = any(entry.files.tokens for entry in stage.blend.entries)
        # By instance, so that the maps go with it.
        self._shard = lru_cache(_OPEN)(self._open)

    def __len__(self) -> int:
        return self.stage.samples

    def _open(self, entry: int) -> Shard:
        named = self.stage.blend.entries[entry]
        shard = named.files.open(whole=False)
        if shard.tokens != named.tokens:
            raise ShardError(
                f"the shard `{named.files.prefix}` has changed while it was trained on: {shard.tokens:,} tokens, not "
                f"{named.tokens:,}",
                hint="bring back the shard that the run was started with, and go on from the last checkpoint",
            )
        return shard

    def __getitem__(self, number: int) -> Sample:
        length = self.stage.sequence + 1
        sample = Sample(np.empty(length, np.int64), np.empty(length, np.int32), np.empty(length, np.int32))
        self._fill(number, sample.tokens, sample.documents, sample.sources)
        return sample

    def _fill(
        self,
        number: int,
        tokens: npt.NDArray[np.int64],
        documents: npt.NDArray[np.int32],
        sources: npt.NDArray[np.int32],
    ) -> None:
        vocab_size = self.stage.blend.tokenizer["vocab_size"]
        at, document = 0, 0
        for entry, start, count in self.stage.order(number):
            shard = self._shard(entry)
            end = at + count
            tokens[at:end] = shard.read_tokens(start, count)
            if tokens[at:end].max() >= vocab_size or tokens[at:end].min() < 0:
                check_ids(shard, start, count, vocab_size)
            sources[at:end] = self.stage.sources[entry]
            begin = at
            for first in shard.document_starts(start, count).tolist():
                if at + first - start > begin:
                    documents[begin : at + first - start] = document
                    document, begin = document + 1, at + first - start
            documents[begin:end] = document
            document += 1
            at = end

    def read(
        self, first: int, count: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Tokens, documents and sources of `count` samples that follow each other, shape [count, sequence + 1]."""
        shape = (count, self.stage.sequence + 1)
        arrays = (np.empty(shape, np.int64), np.empty(shape, np.int32), np.empty(shape, np.int32))

        def fill(row: int) -> None:
            self._fill(first + row, *(array[row] for array in arrays))

        if self._remote:
            with ThreadPoolExecutor(min(count, READ_AT_ONCE)) as threads:
                list(threads.map(fill, range(count)))
        else:
            for row in range(count):
                fill(row)
        return arrays

    def documents_of(self, number: int) -> list[DocumentUse]:
        """The documents that sample `number` is made of, in its order."""
        found = []
        for entry, start, count in self.stage.order(number):
            named, shard = self.stage.blend.entries[entry], self._shard(entry)
            edges = [start, *dict.fromkeys(shard.document_starts(start, count).tolist()), start + count]
            for begin, end in pairwise(edges):
                if end == begin:
                    continue
                document = shard.position(begin)
                offset = begin - shard.start(document)
                place = (named.prefix, named.language, named.part, named.source)
                found.append(DocumentUse(number, *place, document, offset, end - begin))
        return found


def iterations(stage: StagePlan, batch: int) -> int:
    """The whole global batches of a stage; what is left of its samples is less than one, and is not trained on."""
    return stage.samples // batch


def documents_of(stage: StagePlan, iteration: int, batch: int) -> list[DocumentUse]:
    """The documents of one global batch, sample by sample; iterations count from 1 in each stage."""
    last = iterations(stage, batch)
    if not 1 <= iteration <= last:
        raise RecipeError(
            f"stage {stage.stage} has no iteration {iteration}",
            hint=f"it has {last:,} of {batch:,} samples of {stage.sequence:,} tokens, counted from 1",
        )
    samples = Samples(stage)
    return [use for k in range((iteration - 1) * batch, iteration * batch) for use in samples.documents_of(k)]


class Batches:
    """Global batches, stage after stage: iterating gives this rank's share of each, from the state on.

    A batch of `batch` samples is split into `ranks` runs of equal length; together they are the same samples for any
    number of ranks. No batch spans two stages.
    """

    def __init__(
        self, plan: Plan, *, batch: int, rank: int = 0, ranks: int = 1, state: Mapping[str, Any] | None = None
    ) -> None:
        if batch < 1 or ranks < 1 or not 0 <= rank < ranks or batch % ranks:
            raise RecipeError(
                f"a global batch of {batch} samples over {ranks} ranks (this is rank {rank})",
                hint="the global batch size is a multiple of the number of data-parallel ranks",
            )
        self.plan, self._batch, self._rank, self._share = plan, batch, rank, batch // ranks
        self._taken = {stage.stage: 0 for stage in plan.stages}
        if state is not None:
            check_state(plan, state)
            self._taken |= {int(stage): taken for stage, taken in state["samples"].items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain JSON: the samples of each stage that have been given, and of what plan.

        `batch` is for people and for `why`: a run may go on with another.
        """
        return {
            "plan": self.plan.digest,
            "batch": self._batch,
            "samples": {str(stage): taken for stage, taken in self._taken.items()},
            "identity": self.plan.identity,
        }

    def __iter__(self) -> Iterator[Batch]:
        for stage in self.plan.stages:
            samples = Samples(stage)
            while (taken := self._taken[stage.stage]) + self._batch <= stage.samples:
                first = taken + self._rank * self._share
                arrays = samples.read(first, self._share)
                self._taken[stage.stage] = taken + self._batch
                yield Batch(stage.stage, taken // self._batch + 1, first, *arrays)


def check_state(plan: Plan, state: Mapping[str, Any]) -> None:
    """Refuse to go on with another plan than a checkpoint's, and name what has changed. Raises RecipeError."""
    if state["plan"] == plan.digest and all(
        0 <= taken <= plan.stage(int(stage)).samples for stage, taken in state["samples"].items()
    ):
        return
    before = state.get("identity", {})
    changed = [name for name in before.keys() | plan.identity.keys() if before.get(name) != plan.identity.get(name)]
    # What was set comes first, and the numbers of samples, which follow from the rest, last.
    names = sorted(changed, key=lambda name: (name.startswith("stage "), name.endswith(": samples"), name))
    names = names or ["the number of samples taken"]
    told = []
    for name in names[:3]:
        told.append(f"{name} was {before.get(name, 'not there')}, is {plan.identity.get(name, 'not there')}")
    more = f" (and {len(names) - 3} more)" if len(names) > 3 else ""
    blends = ", ".join(f"`{stage.blend.path}`" for stage in plan.stages)
    raise RecipeError(
        f"the data is not what the checkpoint was trained on: {'; '.join(told)}{more}",
        hint=f"bring back the run's settings and the stages it was started with (now {blends}), or start a new run "
        "from the checkpoint's weights alone",
    )
