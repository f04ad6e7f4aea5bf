"""Alarms: a step that removes an unusual share of a language's documents of a source stops the run.

In: the counts in the records of the nodes that judge, and a recipe's `limits.removal`. Out: an `Alarm` for each step,
source and language whose share is above its limit. Sums over records, so it costs no reading, and a run that is
started again stops again at the same place. Knows nothing of text; what was removed is shown by `evidence`.

A share is of what *reached* the step: what no earlier step had dropped. Documents that are not of the recipe's
languages, or that their source declares to be of another one, are no loss of the language they were taken for; they
are held against their source as a whole, as is what is dropped before its language is known.
"""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from marco_data.languages.codes import ByCode
from marco_data.record_table import sums_of
from marco_data.records import DROPPED, FAILED, Count, Record
from marco_data.steps.remove import COPIES

WHOLE = "all"
"""The language of an alarm about all documents of a source."""

Limit = Annotated[float, Field(ge=0, le=1)] | None

# FineWeb-2's filters removed more than 0.9 in 3 of 63 languages, all three drowned in text of others (Galician,
# Maltese, Zulu), and a median of 0.66. Near duplicates: 0.6 is below the median of 0.76 that was found to be a
# disaster. Half of a source that is one id twice, or in another language than it says, is a wrong field or path.
BY_LANGUAGE: Mapping[str, float | None] = {
    "remove": None,  # somebody wrote the list by hand
    "url_block_list": 0.5,
    "select_language": 0.9,
    "quality": 0.9,
    "decontaminate": 0.05,
    "dedup": None,
    "dedup/same_id": 0.5,
    "dedup/exact": 0.6,
    "dedup/near": 0.6,
}
BY_SOURCE: Mapping[str, float | None] = {
    "read": 0.9,
    "normalize": 0.5,
    "select_language/no_language": 0.5,
    "select_language/wrong_language": 0.5,
    "select_language/unknown_language": None,
    "select_language/not_in_recipe": None,
}
"""Default limits by step or reason; what is in the second is checked over all languages of a source together."""

OTHERS = 0.9
"""The default limit of a step that a recipe adds."""

_ORDER = (
    *("read", "normalize", "remove", "url_block_list", "select_language", "quality"),
    "",  # the steps that a recipe adds
    *("decontaminate", "dedup/same_id", "dedup/exact", "dedup/near"),
)


class RemovalLimits(BaseModel):
    """The share of a language's documents of a source that a step may remove; null: any.

    Every further key is a step (`quality`) or a reason (`dedup/near`). What `sources` says of one goes before what
    `languages` says, and that before the general limit. Fewer than `documents` raise no alarm.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Limit] = Field(init=False)

    documents: Annotated[int, Field(ge=1)] = 1000
    languages: Annotated[dict[str, dict[str, Limit]], ByCode] = {}
    sources: dict[str, dict[str, Limit]] = {}

    @property
    def steps(self) -> dict[str, float | None]:
        """The general limits that are given."""
        return self.__pydantic_extra__

    def limit(self, step: str, source: str, language: str) -> float | None:
        for _, given in self._places(step, source, language):
            if step in given:
                return given[step]
        return {**BY_LANGUAGE, **BY_SOURCE}.get(step, None if "/" in step else OTHERS)

    def key(self, step: str, source: str, language: str) -> tuple[str, ...] | None:
        """The key below `removal` of the limit that holds; None where it is the default."""
        return next((at for at, given in self._places(step, source, language) if step in given), None)

    def _places(
        self, step: str, source: str, language: str
    ) -> Iterator[tuple[tuple[str, ...], Mapping[str, float | None]]]:
        yield ("sources", source, step), self.sources.get(source, {})
        yield ("languages", language, step), self.languages.get(language, {})
        yield (step,), self.steps

    @property
    def named(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """(key below `removal`, step) of every limit that is given."""
        yield from (((step,), step) for step in self.steps)
        for kind, given in (("languages", self.languages), ("sources", self.sources)):
            yield from (((kind, name, step), step) for name, limits in given.items() for step in limits)


def what_is_wrong(
    limits: RemovalLimits, reasons: Iterable[str], user_steps: Iterable[str], sources: Collection[str]
) -> tuple[tuple[str, ...], str] | None:
    """The first key below `removal` that names no step, reason or source, and what to tell of it.

    `reasons` are those of the project's own steps, `user_steps` as a recipe names them (`package.module:Class`).
    """
    users = {step_name(name) for name in user_steps}
    known = {*BY_LANGUAGE, *BY_SOURCE, *reasons, *(reason.partition("/")[0] for reason in reasons), *users}
    for source in limits.sources:
        if source not in sources:
            return ("sources", source), f"there is no source `{source}`" + _near(source, sources)
    for at, step in limits.named:
        if step not in known and step.partition("/")[0] not in users:
            return at, f"there is no step or reason `{step}`" + _near(step, known)
    return None


def step_name(user_step: str) -> str:
    module, _, cls = user_step.partition(":")
    return "datatrove" if module == "datatrove" else re.sub(r"(?<!^)(?=[A-Z])", "_", cls).lower()


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f" ({', '.join(sorted(k for k in known if '/' not in k))})"


@dataclass(frozen=True)
class Alarm:
    """A step dropped more than `limit` of the `reached` documents of a source and language."""

    step: str
    source: str
    language: str
    reached: int
    dropped: int
    limit: float
    waived: bool = False

    @property
    def name(self) -> str:
        """What a recipe's `waive` or `--waive` calls it."""
        return f"{self.step}/{self.source}/{self.language}"

    @property
    def share(self) -> float:
        return self.dropped / self.reached


Watch = Callable[[str, Mapping[str, Sequence[Record]]], list[Alarm]]
"""Called with a node that has finished and the records of it and of all before it."""


LOOKED_AT = {
    "decide": ("decide",),
    "dedup_seeds": ("decide", "dedup_seeds"),
    "decide_generated": ("decide_generated",),
    "dedup": ("decide", "decide_generated", "dedup"),
}
"""The nodes after which there may be alarms, each with those whose counts are looked at then."""


def watcher(limits: RemovalLimits | None, languages: Collection[str]) -> Watch:
    """What looks at the nodes that drop documents before any is generated or tokenized; without limits, nothing."""

    def watch(node: str, done: Mapping[str, Sequence[Record]]) -> list[Alarm]:
        if limits is None or node not in LOOKED_AT:
            return []
        counts = [count for name in LOOKED_AT[node] for count in sums_of(done.get(name, ()))]
        alarms = removal_alarms(counts, limits, languages)
        return [alarm for alarm in alarms if (alarm.step.partition("/")[0] == "dedup") == node.startswith("dedup")]

    return watch


def removal_alarms(counts: Iterable[Count], limits: RemovalLimits, languages: Collection[str]) -> list[Alarm]:
    """What the counts of `decide`, which has every document once, and the drops of `dedup` give alarm of."""
    judged: Counter[tuple[str, str]] = Counter()
    dropped: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for count in counts:
        place = (count.source, count.language)
        if count.outcome == DROPPED:
            dropped[place][count.reason] += count.documents
        # What is failed was not judged; duplicates, and copies of what is removed, are among those that `decide` let
        # through.
        if count.outcome != FAILED and _step(count.reason) != "dedup" and count.reason != COPIES:
            judged[place] += count.documents
    alarms: list[Alarm] = []
    for source in sorted({source for source, _ in judged}):
        places = [place for place in sorted(judged) if place[0] == source]
        whole = sum((dropped[place] for place in places), Counter[str]())
        given = {step for _, step in limits.named}
        of_source = {step for step in given if _within(step, BY_SOURCE)}
        alarms += _above(source, WHOLE, sum(judged[p] for p in places), whole, {*BY_SOURCE, *of_source}, limits)
        for place in places:
            if place[1] not in languages:
                continue
            own = Counter({r: n for r, n in dropped[place].items() if not _within(r, BY_SOURCE)})
            others = dropped[place].total() - own.total()
            steps = {*BY_LANGUAGE, *map(_step, own), *(given - of_source)}
            alarms += _above(*place, judged[place] - others, own, steps, limits)
    return alarms


def _above(
    source: str, language: str, judged: int, dropped: Counter[str], steps: Iterable[str], limits: RemovalLimits
) -> Iterator[Alarm]:
    for step in sorted(steps):
        limit = limits.limit(step, source, language)
        reasons = [reason for reason in dropped if _within(reason, (step,))]
        if limit is None or not reasons:
            continue
        first = min(map(rank_of, reasons))
        reached = judged - sum(n for reason, n in dropped.items() if rank_of(reason) < first)
        alarm = Alarm(step, source, language, reached, sum(dropped[reason] for reason in reasons), limit)
        if reached >= limits.documents and alarm.dropped > limit * reached:
            yield alarm


def _within(reason: str, steps: Iterable[str]) -> bool:
    """Whether a reason is one of `steps` or of a reason that one of them gives."""
    return any(reason == step or reason.startswith(f"{step}/") for step in steps)


def _step(reason: str) -> str:
    return reason.partition("/")[0]


def rank_of(reason: str) -> int:
    """When in a run a reason is given; the steps that a recipe adds are looked at together."""
    for rank, step in enumerate(_ORDER):
        if _within(reason, (step,)):
            return rank
    return _ORDER.index("")
