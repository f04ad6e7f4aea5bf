"""Write new documents from seeds with a model: one entry of `generate`, a task a seed shard and round.

In: kept documents of a shard whose place in hash order lies in the round's interval of a language. Out: the documents
that were accepted (rows as a reader gives them, and where they come from), those that were rejected with their
reasons, and the completions that both rest on: the ledger. Rounds follow one another until a language has its target,
or seeds, GPU-hours or money end.
"""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import xxhash

from marco_data.dataset import Context, Dataset, Node, Outcome, Task, safe_name
from marco_data.errors import RecipeError, ShardError
from marco_data.generation.accounting import Price, RequestCount
from marco_data.generation.asking import Asking, Crashed, all_of
from marco_data.generation.entry import Entry, Model
from marco_data.generation.generator import NOT_RECORDED, Completion, Request
from marco_data.generation.ledger import Ledger
from marco_data.generation.maker import Made, Seed
from marco_data.generation.opening import open_generator
from marco_data.generation.pools import EndpointPool, Pool, VllmPool
from marco_data.generation.recorded import Recorded
from marco_data.generation.retries import attempts_among, attempts_digest
from marco_data.generation.rounds import Demand, Interval, Result, SpendingLimits, next_round
from marco_data.languages import LANGUAGES
from marco_data.mix import selection_hashes
from marco_data.nodes.seeds import SeedShard, columns_of, may_be_seed, seed_shards, texts_of
from marco_data.nodes.written import (
    REJECTED,
    WRITTEN,
    Answered,
    Wanted,
    Writer,
    documents_of,
    rejected_of,
    requests_of,
    spent,
)
from marco_data.records import Record, load_record
from marco_data.step import Tools, fingerprint, package_versions
from marco_data.storage import Storage, write_parquet
from marco_data.tokenizer import Tokenizer

IN_FLIGHT = 64
"""Calls at once where no pool says otherwise."""

CRASHED = "maker_crashed"
"""The reason of a wanted document over which the maker itself raised."""


@dataclass(frozen=True)
class Job:
    shard: SeedShard
    intervals: Mapping[str, Interval]
    attempts: Mapping[str, int]


def request_id(seed_id: str, entry: str, language: str, ordinal: int) -> str:
    return xxhash.xxh3_128_hexdigest("\0".join([seed_id, entry, language, str(ordinal)]).encode())


@dataclass(frozen=True, kw_only=True)
class Generate(Node):
    """`scope` is the entry's name. `pool` and `limits` are context: how the model is reached, and what it may cost."""

    kind: ClassVar[str] = "generate"
    whole: ClassVar[bool] = True
    in_rounds: ClassVar[bool] = True
    settled_by_first: ClassVar[bool] = True
    cpus: ClassVar[float] = 0.25  # a task mostly waits for the model

    entry: Entry
    model: Model
    tokenizer: str
    end_of_document: str
    seed: str
    pool: Pool | None = field(default=None, compare=False)
    limits: SpendingLimits = field(default_factory=SpendingLimits, compare=False)
    attempts: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def pools(self) -> dict[str, tuple[Any, str, str, int]]:
        """What an executor has to start before this node's tasks."""
        if self.pool is None:
            return {}
        return {self.entry.generator: (self.pool, self.model.model, self.model.revision, self.model.context)}

    def config(self, tools: Tools) -> dict[str, Any]:
        tokenizer = Tokenizer.load(tools.path(self.tokenizer), self.end_of_document)
        maker = self.entry.make
        return {
            "entry": self.scope,
            "maker": maker.identity(),
            "packages": package_versions(maker.packages, tools.accept),
            "model": {"model": self.model.model, "revision": self.model.revision, "context": self.model.context},
            "seeds": self.entry.seeds.model_dump(mode="json"),
            "seed": self.seed,
            "tokenizer": tokenizer.digest,
        }

    # -- planning -----------------------------------------------------------------------------------------

    def tasks(self, context: Context) -> list[Task]:
        return self.planned(context)[0]

    def planned(self, context: Context) -> tuple[list[Task], dict[str, str]]:
        """The tasks of all rounds that are known, and why those languages ended that have ended."""
        storage = context.storage
        there = set(storage.names(self.folder))
        shards = [
            (shard, {t for code in record.facts["seeds"][self.scope] for t in self.entry.wanted_from(code)})
            for shard, record in zip(seed_shards(context), context.done["seeds"], strict=True)
        ]
        demands, limits = self._demands(context), self._left(context)
        done = {record.key: record for record in context.done.get(self.name, ())}
        tasks: list[Task] = []
        finished: list[dict[str, Result]] = []
        while True:
            following = next_round(demands, finished, limits)
            new = []
            for shard, targets in shards:
                mine = {code: span for code, span in sorted(following.intervals.items()) if code in targets}
                if mine:
                    new.append(self._task(storage, there, shard, following.number, mine))
            tasks += new
            if not new or any(task.key not in done for task in new):
                return tasks, dict(following.ended)
            finished.append(self._results(following.intervals, [done[task.key] for task in new]))

    def _demands(self, context: Context) -> dict[str, Demand]:
        candidates: dict[str, int] = dict.fromkeys(self.entry.languages, 0)
        for record in context.done["seeds"]:
            for language, (n, _) in record.facts["seeds"][self.scope].items():
                for target in self.entry.wanted_from(language):
                    candidates[target] += n * self.entry.make.ordinals
        share = Fraction(str(self.entry.share))
        return {code: Demand(n, self.entry.target_of(code), share) for code, n in sorted(candidates.items())}

    def _results(self, intervals: Mapping[str, Interval], records: Sequence[Record]) -> dict[str, Result]:
        """What a finished round came to, by language."""
        rows = spent(records)
        out = {}
        for code, interval in intervals.items():
            mine = [row for row in rows if row.language == code]
            costs = [self.cost(row) for row in mine]
            out[code] = Result(
                interval,
                sum(row.requested for row in mine),
                sum(row.accepted_tokens for row in mine),
                math.fsum(row.gpu_seconds for row in mine),
                None if None in costs else math.fsum(cost or 0 for cost in costs),
            )
        return out

    def _left(self, context: Context) -> SpendingLimits:
        """What the entries before this one have left of the limits."""
        if self.limits == SpendingLimits():
            return self.limits
        before = [r for name, done in context.done.items() if name.startswith(f"{self.kind}_") for r in done]
        rows = spent([record for record in before if record.folder != self.folder])
        hours, cost = self.limits.max_gpu_hours, self.limits.max_cost
        if hours is not None:
            hours = max(0.0, hours - math.fsum(row.gpu_seconds for row in rows) / 3600)
        if cost is not None:
            cost = max(0.0, cost - math.fsum(self.cost(row) or 0 for row in rows))
        return SpendingLimits(hours, cost)

    def cost(self, row: RequestCount) -> float | None:
        """Dollars that answers cost; None where the pool states no price."""
        if self.pool is None:
            return 0.0
        return price_of(self.pool).cost(tokens_in=row.tokens_in, tokens_out=row.tokens_out, gpu_seconds=row.gpu_seconds)

    def _task(
        self, storage: Storage, there: set[str], shard: SeedShard, number: int, intervals: Mapping[str, Interval]
    ) -> Task:
        spans = {code: [span.lo, span.hi] for code, span in intervals.items()}
        reads: dict[str, Any] = {**shard.reads, "round": number, "intervals": spans}
        if self.attempts and (retried := self._attempts_in(storage, shard)):
            reads["attempts"] = retried
        job = Job(shard, intervals, self.attempts)
        task = Task(self, f"{shard.name}-{number:02d}", reads, job, shard.measure.bytes)
        # What was not recorded then may be answered now.
        while f"{task.key}.json" in there:
            record = load_record(storage, self.folder, task.key)
            if record is None or not record.facts["not_recorded"] or self._answers() == record.facts["answers"]:
                break
            task = Task(self, task.name, {**task.reads, "after": record.facts["answers"]}, job, task.weight)
        return task

    def _attempts_in(self, storage: Storage, shard: SeedShard) -> str:
        """What of the retries concerns a shard, as a digest; empty: nothing."""
        table = columns_of(storage, shard)
        requests = (
            request_id(id, self.scope, code, ordinal)
            for id in table.filter(may_be_seed(table, self.entry))["id"].to_pylist()
            for code in self.entry.languages
            for ordinal in range(self.entry.make.ordinals)
        )
        return attempts_digest(attempts_among(self.attempts, requests))

    def _answers(self) -> str:
        """Where answers come from beside the ledger."""
        return "generated" if self.pool is not None else self._recorded_digest()

    def _recorded_digest(self) -> str:
        recorded = recorded_of(self.model)
        return recorded.digest if recorded else ""

    def notes(self, context: Context) -> list[str]:
        ended = self.planned(context)[1]
        said = [f"{self.name}: {code} ends: {why}" for code, why in ended.items() if why not in ("target", "seeds")]
        if self.pool is None and not self.model.recorded:
            said.append(
                f"{self.name}: no pool for the generator `{self.entry.generator}` (--pools FILE): only what the ledger "
                "of this root holds is answered"
            )
        return said

    # -- work ---------------------------------------------------------------------------------------------

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        job: Job = task.inputs
        wanted = self._wanted(storage, job)
        ledger = self._ledger(storage, job)
        outcomes, used = asyncio.run(self._make(wanted, ledger))
        self._finish(wanted, outcomes, task)
        completions = ledger.finish(used) if used else None
        tokenizer = Tokenizer.load(tools.path(self.tokenizer), self.end_of_document)
        writer = Writer(self.scope, self.entry.make.name, self.entry.make.part, self.model)
        documents, tokens = documents_of(writer, wanted, outcomes, tokenizer)
        rejected = rejected_of(writer, wanted, outcomes)
        stem = f"{self.folder}/{task.key}"
        files = (
            write_parquet(storage, f"{stem}.documents", [documents] if documents.num_rows else [], WRITTEN),
            write_parquet(storage, f"{stem}.rejected", [rejected] if rejected.num_rows else [], REJECTED),
            *([completions] if completions is not None else []),
        )
        counts = requests_of(writer, wanted, outcomes, tokens)
        facts = {
            "part": self.entry.make.part,
            "seeds": job.shard.measure.digest,
            "round": task.reads["round"],
            "requests": [count.to_row() for count in counts],
            "not_recorded": sum(1 for o in outcomes if o.made.reason == NOT_RECORDED),
            "answers": self._answers(),
            **({"damaged": damaged} if (damaged := len(ledger.damaged)) else {}),
        }
        return Outcome(files, facts=facts)

    def unanswered(self, task: Task, storage: Storage) -> list[tuple[Wanted, Request]]:
        """The requests of a task that neither the ledger nor recorded files answer, each once.

        A maker whose first call is not answered makes no second one: those come to light when the first is recorded.
        """
        wanted = self._wanted(storage, task.inputs)
        missing: dict[str, tuple[Wanted, Request]] = {}

        def note(what: Wanted, request: Request, completion: Completion) -> None:
            if completion.error == NOT_RECORDED:
                key = request.key(self.model.model, self.model.revision)
                missing.setdefault(key, (what, request))

        ledger = self._ledger(storage, task.inputs)
        asyncio.run(replace(self, pool=None)._make(wanted, ledger, note))
        ledger.close()
        return list(missing.values())

    def _ledger(self, storage: Storage, job: Job) -> Ledger:
        return Ledger(storage, self.model.model, self.model.revision, place_name(job.shard.place))

    def _wanted(self, storage: Storage, job: Job) -> list[Wanted]:
        """By target language, place in hash order and ordinal."""
        table = columns_of(storage, job.shard)
        table = table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
        table = table.filter(may_be_seed(table, self.entry))
        chosen: list[tuple[str, int, int]] = []  # (target, place, row)
        ids, rows = table["id"].to_pylist(), table["row"].to_pylist()
        languages = table["language"].to_pylist()
        for target, span in sorted(job.intervals.items()):
            hashes = selection_hashes(ids, f"{self.seed} {self.scope} {target}")
            places = (hashes >> np.uint64(32)).astype(np.int64)
            for i in np.flatnonzero((places >= span.lo) & (places < span.hi)).tolist():
                if target in self.entry.wanted_from(languages[i]):
                    chosen.append((target, int(hashes[i]), i))
        texts = texts_of(storage, job.shard, sorted({rows[i] for _, _, i in chosen}))
        wanted = []
        for target, _, i in sorted(chosen):
            url, licence, text = texts[rows[i]]
            source = table["source"][i].as_py()
            seed = Seed(ids[i], text, languages[i], source, url, licence)
            for ordinal in range(self.entry.make.ordinals):
                request = request_id(seed.id, self.scope, target, ordinal)
                wanted.append(Wanted(seed, target, ordinal, job.attempts.get(request, 0), request))
        return wanted

    async def _make(
        self,
        wanted: Sequence[Wanted],
        ledger: Ledger,
        note: Callable[[Wanted, Request, Completion], None] | None = None,
    ) -> tuple[list[Answered], list[bytes]]:
        """What became of each, and the keys of all completions it took."""
        recorded, model = recorded_of(self.model), self.model
        generator = open_generator(self.pool, model.model, model.revision, model.context) if self.pool else None
        in_flight = in_flight_of(self.pool)
        asking = Asking(ledger, model.model, model.revision, recorded, generator, in_flight)

        async def one(what: Wanted) -> Answered:
            used: dict[str, Completion] = {}

            async def ask(request: Request) -> Completion:
                completion = await asking(request)
                used[request.key(model.model, model.revision)] = completion
                if note is not None:
                    note(what, request, completion)
                return completion

            made = await self.entry.make.make(what.seed, LANGUAGES[what.language], what.ordinal, ask, what.attempt)
            return Answered(made, used)

        outcomes: list[Answered] = []
        try:
            async for outcome in all_of((one(what) for what in wanted), most=2 * in_flight):
                if isinstance(outcome, Crashed):
                    outcome = Answered(Made(reason=CRASHED, rejected_text=outcome.error), {})
                outcomes.append(outcome)
        finally:
            if generator is not None:
                await generator.close()
        return outcomes, asking.used

    def _finish(self, wanted: Sequence[Wanted], outcomes: list[Answered], task: Task) -> None:
        """Let the maker look at all that was accepted of a language together."""
        for language in dict.fromkeys(w.language for w in wanted):
            at = [i for i, w in enumerate(wanted) if w.language == language and outcomes[i].made.reason is None]
            finished = self.entry.make.finish([outcomes[i].made for i in at], f"{task.name} {language}")
            if len(finished) != len(at):
                raise ShardError(f"maker `{self.entry.maker}` finished {len(finished)} of {len(at)} documents")
            for i, made in zip(at, finished, strict=True):
                outcomes[i].made = made


def recorded_of(model: Model) -> Recorded | None:
    """The recorded completions of a model, read once by a process while their files stay as they are."""
    if not model.recorded:
        return None
    stamps = []
    for path in model.recorded:
        try:
            found = Path(path).stat()
        except OSError as error:
            raise RecipeError(f"`recorded`: `{path}` cannot be read: {error.strerror}") from None
        stamps.append((path, found.st_mtime_ns, found.st_size))
    return _recorded(tuple(stamps))


@lru_cache(maxsize=4)
def _recorded(stamps: tuple[tuple[str, int, int], ...]) -> Recorded:
    return Recorded([path for path, _, _ in stamps])


def in_flight_of(pool: Pool | None) -> int:
    """How many calls a task has under way at once."""
    if isinstance(pool, EndpointPool):
        return pool.concurrency
    # Twice what runs: at the end of one shard another's requests are waiting, and the engine's places stay full.
    return 2 * pool.max_num_seqs if isinstance(pool, VllmPool) else IN_FLIGHT


def price_of(pool: Pool) -> Price:
    if pool.price is None:
        return Price(gpu_hour=pool.gpu_price)
    return Price(pool.price.input, pool.price.output, pool.gpu_price)


def place_name(place: tuple[str, ...]) -> str:
    """The folder of a source file's completions, of the source's name and the file's."""
    return f"{safe_name(place[0])}-{fingerprint(list(place))}"


def reached(
    dataset: Dataset, pools: Mapping[str, Pool], limits: SpendingLimits, attempts: Mapping[str, int]
) -> Dataset:
    """The plan with what its models are reached by, what they may cost, and which requests are tried again.

    Raises RecipeError for a limit that cannot be kept because a pool says no price, for weights that would come from a
    hub by a name that can change, and for pools of which the recipe uses none. One file may serve many recipes: pools
    that this one does not name are no mistake.
    """
    generators = sorted({n.entry.generator for n in dataset.nodes if isinstance(n, Generate)})
    used = set(generators) & pools.keys()
    if pools and generators and not used:
        raise RecipeError(
            f"none of the pools is of a generator of this recipe: {', '.join(sorted(pools))}",
            hint=f"a pool has the name of its generator; there are {', '.join(generators)}",
        )
    for node in dataset.nodes:
        if isinstance(node, Generate) and isinstance(pools.get(node.entry.generator), VllmPool):
            _require_pinned(node.entry.generator, node.model)
    unpriced = sorted(name for name in used if price_of(pools[name]) == Price())
    if limits.max_cost is not None and unpriced:
        raise RecipeError(
            f"--max-cost cannot be kept: the pool `{unpriced[0]}` says no price",
            hint="give it a `price` or a `gpu_price` in the pools file, or use --max-gpu-hours",
        )
    return Dataset(
        tuple(
            replace(node, pool=pools.get(node.entry.generator), limits=limits, attempts=attempts)
            if isinstance(node, Generate)
            else node
            for node in dataset.nodes
        )
    )


def _require_pinned(generator: str, model: Model) -> None:
    """Weights from a hub are those of one commit: a branch or a tag may be another model tomorrow, or another's."""
    if re.fullmatch("[0-9a-f]{40}", model.revision) is None and not Path(model.model).expanduser().is_dir():
        raise RecipeError(
            f"the revision `{model.revision}` of `{model.model}` is no commit, and its pool loads weights by it",
            hint=f"`generators.{generator}.revision`: the 40 hex digits of a commit; or a folder as `model`",
        )
