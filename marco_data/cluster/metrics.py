"""What a build tells Prometheus while it runs, through Ray's own metrics: each node of a cluster serves them.

In: the ends of tasks, as a run's progress is told of them; of an engine, its completions. Out: counters and a gauge in
Ray, which puts `ray_` before their names and `_total` behind a counter's. Sums are handed over every two seconds and
at a node's end. Whatever goes wrong here is said once and ends the counting, never the build. Knows no server, no
dashboard and no file; engines count with it in an environment of their own, so it imports nothing but Ray.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marco_data.dataset import Node
    from marco_data.execute import Done, Progress
    from marco_data.generation.generator import Completion
    from marco_data.records import Count

HAND_OVER_SECONDS = 2.0

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "marco_data_shards": ("Tasks that ended: `done` or `failed`", ("stage", "node", "ended")),
    "marco_data_shard_seconds": ("Seconds that tasks took, in all", ("stage", "node")),
    "marco_data_processor_seconds": ("Seconds of the processor that tasks took", ("stage", "node")),
    "marco_data_documents": ("Documents by what a node decided of them", ("stage", "node", "outcome", "language")),
    "marco_data_text_bytes": ("Bytes of those documents' texts", ("stage", "node", "outcome")),
    "marco_data_tokens": ("Tokens of those documents", ("stage", "node", "language")),
    "marco_data_verdicts": ("Documents with a reason", ("stage", "node", "outcome", "reason")),
    "marco_data_requests": ("Documents wanted of models: `accepted` or `rejected`", ("stage", "maker", "ended")),
    "marco_data_rejections": ("Documents of models that were rejected, by reason", ("stage", "maker", "reason")),
    "marco_data_storage_requests": ("Requests to remote storage, of tasks", ("stage", "kind")),
    "marco_data_storage_retries": ("Requests to remote storage that were tried again", ("stage", "cause")),
    "marco_data_engine_requests": ("Requests that engines answered, by how the answer ended", ("model", "ended")),
    "marco_data_engine_tokens": ("Tokens that engines read (`in`) and wrote (`out`)", ("model", "direction")),
    "marco_data_engine_gpu_seconds": ("Seconds of GPUs that answers took", ("model",)),
}
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "marco_data_shards_left": ("Tasks of a node that this run has still to do", ("stage", "node")),
}
# No source, file, document or shard is a tag: their number has no bound, and Prometheus keeps a series for each.

Series = tuple[str, tuple[str, ...]]
"""A metric and the values of its tags."""


@dataclass
class Meter:
    """Sums of this process, handed to Ray from time to time. Made where Ray may not be started yet."""

    sums: defaultdict[Series, float] = field(default_factory=lambda: defaultdict(float))
    levels: dict[Series, float] = field(default_factory=dict)
    handed: float = field(default_factory=time.monotonic)
    metrics: dict[str, Any] | None = None

    def count(self, name: str, *tags: str, by: float = 1) -> None:
        if by > 0:  # Ray refuses a counter that does not grow
            self.sums[name, tags] += by

    def level(self, name: str, *tags: str, at: float) -> None:
        self.levels[name, tags] = at

    def hand_over(self, *, now: bool = False) -> None:
        """Tell Ray, if it is time and Ray is there; what it is not told now it is told later."""
        import ray

        if not (now or time.monotonic() - self.handed > HAND_OVER_SECONDS) or not ray.is_initialized():
            return
        self.handed = time.monotonic()
        if self.metrics is None:
            self.metrics = _metrics()
        for (name, tags), by in self.sums.items():
            self.metrics[name].inc(by, tags=dict(zip(COUNTERS[name][1], tags, strict=True)))
        self.sums.clear()
        for (name, tags), at in self.levels.items():
            self.metrics[name].set(at, tags=dict(zip(GAUGES[name][1], tags, strict=True)))


def _metrics() -> dict[str, Any]:
    from ray.util.metrics import Counter, Gauge

    counters = {name: Counter(name, what, tag_keys=tags) for name, (what, tags) in COUNTERS.items()}
    return counters | {name: Gauge(name, what, tag_keys=tags) for name, (what, tags) in GAUGES.items()}


class Metered:
    """A run's progress that is also counted; `stage` is the family's name and the stage's number."""

    def __init__(self, progress: "Progress", stage: str) -> None:
        self.progress, self.stage = progress, stage
        self.meter: Meter | None = Meter()
        self.left = 0

    def node(self, node: "Node", tasks: int, pending: int) -> None:
        self.progress.node(node, tasks, pending)
        self.left = pending
        self._tell(lambda meter: meter.level("marco_data_shards_left", self.stage, node.name, at=pending))

    def done(self, done: "Done") -> None:
        self.progress.done(done)
        self.left -= 1
        self._tell(lambda meter: self._count(meter, done))

    def say(self, message: str) -> None:
        self.progress.say(message)

    def _tell(self, what: Callable[[Meter], None]) -> None:
        if self.meter is None:
            return
        try:
            what(self.meter)
            self.meter.hand_over(now=self.left <= 0)
        except Exception as error:  # whatever it is, the build is worth more than its figures
            self.meter = None
            self.progress.say(f"note: no more metrics of this build: {type(error).__name__}: {error}")

    def _count(self, meter: Meter, done: "Done") -> None:
        at = (self.stage, done.task.node.name)
        meter.level("marco_data_shards_left", *at, at=max(0, self.left))
        meter.count("marco_data_shards", *at, "failed" if done.record is None else "done")
        meter.count("marco_data_shard_seconds", *at, by=done.seconds)
        meter.count("marco_data_processor_seconds", *at, by=done.processor)
        for kind, n in done.storage.requests.items():
            meter.count("marco_data_storage_requests", self.stage, kind, by=n)
        for cause, n in done.storage.retries.items():
            meter.count("marco_data_storage_retries", self.stage, cause, by=n)
        if done.record is None:
            return
        for name, sums in _sums(done.record.counts).items():
            for tags, n in sums.items():
                meter.count(name, *at, *tags, by=n)
        for row in done.record.facts.get("requests", ()):
            meter.count("marco_data_requests", self.stage, row["maker"], "accepted", by=row["accepted"])
            for reason, n in row["rejected"].items():
                meter.count("marco_data_requests", self.stage, row["maker"], "rejected", by=n)
                meter.count("marco_data_rejections", self.stage, row["maker"], reason, by=n)


def _sums(counts: "Iterable[Count]") -> dict[str, defaultdict[tuple[str, ...], int]]:
    """A record's counts by the tags of each metric. One of 64 languages has hundreds, and the driver reads them all."""
    documents, text, tokens, verdicts = (defaultdict[tuple[str, ...], int](int) for _ in range(4))
    for count in counts:
        documents[count.outcome, count.language] += count.documents
        text[count.outcome,] += count.bytes
        tokens[count.language,] += count.tokens
        if count.reason:
            verdicts[count.outcome, count.reason] += count.documents
    return {
        "marco_data_documents": documents,
        "marco_data_text_bytes": text,
        "marco_data_tokens": tokens,
        "marco_data_verdicts": verdicts,
    }


class EngineMeter:
    """What one engine has answered. Tasks cannot count it: their answers may be of the ledger, and years old."""

    def __init__(self, model: str) -> None:
        self.model, self.meter = model, Meter()

    def ended(self, completions: Iterable["Completion"] = ()) -> None:
        """Count these; called with none from time to time, so that the last ones are told too."""
        with suppress(Exception):  # an engine has nobody to tell it to
            for completion in completions:
                self.meter.count("marco_data_engine_requests", self.model, completion.finish_reason)
                self.meter.count("marco_data_engine_tokens", self.model, "in", by=completion.tokens_in or 0)
                self.meter.count("marco_data_engine_tokens", self.model, "out", by=completion.tokens_out or 0)
                self.meter.count("marco_data_engine_gpu_seconds", self.model, by=completion.gpu_seconds or 0)
            self.meter.hand_over()
