"""Earlier runs: what a build left of its documents, so that a new crawl is deduplicated without reading theirs again.

A build whose recipe says `dedup: index: NAME` ends in `indexes/NAME.json` in the root: the records of its documents,
ranks, band keys and of who was dropped, and those of the runs before it. `earlier: NAME` goes on from there. Earlier
documents come first by priority, so nothing said of them changes, and runs in order say what one run over all would.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.dedup import DropDuplicates
from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.nodes.duplicates.layout import SCOPE_SHIFT, Group
from marco_data.records import Record
from marco_data.step import Tools, fingerprint
from marco_data.steps.sign import Sign
from marco_data.storage import DataFile, Storage, canonical_json, file_digest

KEPT_RECORDS = ("documents", "ranks", "bands", "settle", "settle_open")


@dataclass(frozen=True)
class History:
    """The records of earlier runs, oldest first, and those of this one as far as they are there."""

    runs: tuple[Mapping[str, list[Record]], ...]
    done: Mapping[str, Any]
    name: str = ""
    signed: Any = None  # how the documents of earlier runs were signed

    @staticmethod
    def of(context: Context, rule: DropDuplicates) -> "History":
        if rule.earlier is None:
            return History((), context.done)
        raw = context.storage.read_json(f"indexes/{rule.earlier}.json")
        if raw is None:
            have = ", ".join(name.removesuffix(".json") for name in context.storage.names("indexes"))
            raise RecipeError(
                f"`dedup: earlier: {rule.earlier}`: no such index in `{context.storage.root}`"
                + (f"; there are: {have}" if have else ""),
                hint="build the earlier crawl with `dedup: index: NAME` in its recipe, in the same root",
            )
        if raw["rule"] != rule.identity:
            raise RecipeError(
                f"`dedup: earlier: {rule.earlier}` was made with {raw['rule']}, this recipe has {rule.identity}",
                hint="give both the same `dedup` settings; what is found then depends on one rule",
            )
        runs = tuple({name: [Record.from_json(r) for r in run[name]] for name in KEPT_RECORDS} for run in raw["runs"])
        return History(runs, context.done, rule.earlier, raw["sign"])

    def require(self, sign: dict[str, Any]) -> None:
        """Raise RecipeError where the signatures of earlier runs cannot be compared with those of `sign`."""
        if self.runs and self.signed != sign:
            raise RecipeError(
                f"`dedup: earlier: {self.name}`: documents there were signed as {self.signed}, here as {sign}",
                hint="signatures are alike only if made alike: build the earlier crawl again with this version",
            )

    @property
    def run(self) -> int:
        """The number of this run."""
        return len(self.runs)

    def earlier(self, node: str) -> list[Record]:
        return [record for run in self.runs for record in run[node]]

    def all(self, node: str) -> list[Record]:
        return [*self.earlier(node), *self.done[node]]

    @property
    def first_group(self) -> int:
        """The number of this run's first group of shards."""
        return len(self.earlier("documents"))

    def groups(self) -> list[Group]:
        return [group_of(record) for record in self.all("documents")]

    @cached_property
    def known(self) -> list[int]:
        """By language number: documents with a rank in earlier runs."""
        sums = ranked_by_language(self.earlier("ranks"))
        return [sums.get(scope, 0) for scope in range(len(LANGUAGES))]

    def spans(self) -> list[tuple[list[list[int]], DataFile]]:
        """Which ranks lie in which file, of all runs; see `Ranked`."""
        return [(record.facts["spans"], record.data[0]) for record in self.all("ranks")]


def ranked_by_language(records: Sequence[Record]) -> dict[int, int]:
    """{language number: documents with a rank} of some records of `ranks`; only those that have any."""
    sums: dict[int, int] = {}
    for record in records:
        for start, n in record.facts["spans"]:
            sums[start >> SCOPE_SHIFT] = sums.get(start >> SCOPE_SHIFT, 0) + n
    return sums


def signed_as(sign: Sign, tools: Tools) -> dict[str, Any]:
    """What signatures depend on, and the numbers of languages in ranks and keys, as plain JSON."""
    said: dict[str, Any] = json.loads(json.dumps({"sign": sign.identity(tools), "languages": list(LANGUAGES)}))
    return said


def group_of(record: Record) -> Group:
    facts = record.facts
    shards = tuple(DataFile(**file) for file in facts["measure"])
    return Group(facts["group"], facts["run"], record.data[0], record.data[1], shards, tuple(facts["rows"]))


@dataclass(frozen=True, kw_only=True)
class Index(Node):
    """`indexes/NAME.json` of a recipe that asks for one."""

    kind: ClassVar[str] = "dedup_index"
    whole: ClassVar[bool] = True

    rule: DropDuplicates
    sign: Sign

    def config(self, tools: Tools) -> dict[str, Any]:
        return {"name": self.rule.index, "rule": self.rule.identity, "sign": signed_as(self.sign, tools)}

    def tasks(self, context: Context) -> list[Task]:
        assert self.rule.index is not None
        history = History.of(context, self.rule)
        now = {name: list(context.done[name]) for name in KEPT_RECORDS}
        runs = [{name: [asdict(r) for r in run[name]] for name in KEPT_RECORDS} for run in (*history.runs, now)]
        sign = signed_as(self.sign, context.tools)
        said = {"version": 1, "rule": self.rule.identity, "sign": sign, "runs": runs}
        return [Task(self, self.rule.index, {"index": fingerprint(said)}, said, 1)]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        data = canonical_json(json.loads(json.dumps(task.inputs)))
        with storage.scratch() as folder:
            path = folder / "index.partial"
            path.write_bytes(data)
            digest = file_digest(path)
            file = storage.commit(path, f"{self.folder}/{task.key}", ".index", digest=digest)
        storage.replace(f"indexes/{self.rule.index}.json", data)
        return Outcome((file,))
