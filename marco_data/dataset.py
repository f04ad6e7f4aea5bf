"""The lazy plan: a chain of nodes, each a kind of work with its identity. Making one runs nothing.

A node turns the records of the nodes before it into tasks; a task's key is the digest of exactly what it reads,
and its folder is the node's name and fingerprint. So what is already there is known by name, and a change
re-runs only what reads something else than before.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from marco_data.errors import RecipeError
from marco_data.languages import NewLanguage, new_languages
from marco_data.records import Count, Record
from marco_data.step import Tools, fingerprint
from marco_data.storage import DataFile, Storage


@dataclass(frozen=True)
class Task:
    """One unit of scheduling, retry and resume: `node.work(task, ...)` turns `inputs` into a record.

    `reads` is identity: what the key is the digest of. `inputs` is context: where to find it. `weight` is the
    bytes to be read, for progress and for packing small tasks together.
    """

    node: "Node"
    name: str
    reads: Mapping[str, Any]
    inputs: Any
    weight: int = 0

    @property
    def key(self) -> str:
        # Kept by hand: Python 3.11's cached_property takes a lock, a microsecond for each of a million tasks.
        known = self.__dict__
        if "_key" not in known:
            known["_key"] = f"{safe_name(self.name)}.{fingerprint(self.reads)}"
        key: str = known["_key"]
        return key


@dataclass(frozen=True)
class Outcome:
    """What a task's work came to, before it is committed as a record."""

    data: tuple[DataFile, ...] = ()
    counts: tuple[Count, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


GENERATED = "generated"
"""The scope of the nodes that judge what models have written, beside those that judge what was read."""


@dataclass(frozen=True)
class Context:
    """What the planning of tasks may look at: results so far, and the root."""

    storage: Storage
    tools: Tools
    done: Mapping[str, Sequence[Record]]

    def everywhere(self, kind: str) -> list[Record]:
        """The records of a kind of node over what was read, then over what was generated."""
        return [*self.done[kind], *self.done.get(f"{kind}_{GENERATED}", ())]

    def seen_by(self, node: "Node") -> "Context":
        """This context where the results of the node's own scope go before those of the others."""
        if not node.scope:
            return self
        ending = f"_{node.scope}"
        own = {name.removesuffix(ending): done for name, done in self.done.items() if name.endswith(ending)}
        return Context(self.storage, self.tools, {**self.done, **own})


def _new_languages() -> tuple[NewLanguage, ...]:
    return tuple(new_languages().values())


@dataclass(frozen=True, kw_only=True)
class Node(ABC):
    """One kind of work over all shards. `whole` nodes look at the whole corpus and so wait for all of it.

    A plan has a kind of node once for each `scope`: the same work over other documents. It is no identity: equal work
    lies in one folder. `accept` are package versions declared equal by the recipe: they have one identity.
    `new_languages` are those that the recipe adds: a node takes them along to where its tasks run. What they shape is
    in the identity of its steps.
    """

    kind: ClassVar[str]
    whole: ClassVar[bool] = False
    in_rounds: ClassVar[bool] = False
    settled_by_first: ClassVar[bool] = False  # two attempts may write other bytes: those committed first stand
    version: ClassVar[int] = 1

    accept: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    scope: str = field(default="", compare=False)
    new_languages: tuple[NewLanguage, ...] = field(default_factory=_new_languages, compare=False)

    @property
    def name(self) -> str:
        """What a plan, its records and messages call it: the kind, and the scope where it has one."""
        return f"{self.kind}_{self.scope}" if self.scope else self.kind

    @abstractmethod
    def config(self, tools: Tools) -> dict[str, Any]:
        """Everything but the inputs that shapes this node's output, as plain JSON."""

    @abstractmethod
    def tasks(self, context: Context) -> list[Task]:
        """All tasks that are known. A node that works `in_rounds` is asked again when they are done: its own results
        are in `context.done` then, and it answers with the same tasks and more, until there are no more."""

    @abstractmethod
    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome: ...

    def notes(self, context: Context) -> list[str]:
        """What a person should know before this node's tasks start: what it will take, above all."""
        return []

    @cached_property
    def folder(self) -> str:
        return f"{self.kind}-{self.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.identity)

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {"node": self.kind, "version": self.version, "config": self.config(Tools(self.accept))}

    def __getstate__(self) -> dict[str, Any]:
        # The cached folder travels with the node: a worker need not hash models again to know where to write.
        # What only planning needs (a listing of a million files, and what is known of them) stays at home.
        assert self.folder
        return {k: ({} if k in ("known_files", "found", "hub_commits") else v) for k, v in self.__dict__.items()}


@dataclass(frozen=True)
class Dataset:
    """A plan: nodes in the order they run."""

    nodes: tuple[Node, ...] = ()

    def then(self, node: Node) -> "Dataset":
        if any(node.name == other.name for other in self.nodes):
            raise RecipeError(f"the plan has two `{node.name}` nodes")
        return Dataset((*self.nodes, node))

    def accepting(self, versions: Mapping[str, tuple[str, ...]]) -> "Dataset":
        """This plan with package versions declared equal: `{"ftfy": ("6.3.1", "6.3.2")}`."""
        return Dataset(tuple(replace(node, accept=versions) for node in self.nodes))

    def node(self, name: str) -> Node:
        return next(n for n in self.nodes if n.name == name)

    @property
    def fingerprint(self) -> str:
        return fingerprint([n.fingerprint for n in self.nodes])


def safe_name(name: str) -> str:
    """A name from outside (a path, a URL) as one harmless path component of at most 80 characters."""
    return _UNSAFE.sub("-", name).strip("-")[-80:] or "unnamed"


_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
