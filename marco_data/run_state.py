"""What a run is working on, for those who look at it from outside: `ledger`, `stats` and the dashboard.

In: the recipe a build is of and, node by node, the tasks it starts on. Out: `runs/now/<run>.json`, two pointers to it
by family and stage, and for each node that has work to do a file of its tasks' keys. A record on disk belongs to this
build if its key is among them: a node's folder holds the records of other builds too.

It lies under `runs/` and decides nothing: a run neither reads it nor depends on it. A run that was killed leaves it as
it was; the next one of the same stage takes its place, and the stage's manifest ends it. Whether a run that has not
ended still lives is told from its note under `runs/leases/`.
"""

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from marco_data.cluster.leases import Leases, lease_of
from marco_data.dataset import Node, Task
from marco_data.execute import manifest_name
from marco_data.kept_sums import FOLDER as FOLDER
from marco_data.kept_sums import KEYS, KeptSums
from marco_data.recipe import Recipe
from marco_data.records import Record
from marco_data.storage import Storage, canonical_json, write_parquet


@dataclass(frozen=True)
class NodeState:
    """A node of a run. `tasks` None: it has not been reached. `keys` None: its manifest was there before."""

    name: str
    kind: str
    folder: str
    tasks: int | None = None
    manifest: str | None = None
    keys: str | None = None


@dataclass(frozen=True)
class RunState:
    """A run as it last said of itself; `ended` is the folder of the stage that came of it, None while there is none."""

    run: str
    family: str
    stage: int
    digest: str
    recipe: dict[str, Any]
    nodes: tuple[NodeState, ...] = ()
    ended: str | None = None

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.run}.json"

    def lives(self, storage: Storage) -> bool:
        """Whether a process of this run says so; it, or its machine, may be gone since two minutes."""
        return self.ended is None and Leases(storage).holder(self.run) is not None

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "RunState":
        return RunState(**{**raw, "nodes": tuple(NodeState(**node) for node in raw["nodes"])})


@dataclass
class Announced:
    """The run's own side: says what it works on, and what it has come to, as it goes."""

    storage: Storage
    state: RunState
    sums: KeptSums | None = None
    looked: float = 0.0
    every: float = 10.0  # seconds between two looks at whether the sums are worth writing

    @staticmethod
    def of(recipe: Recipe, nodes: Sequence[Node], storage: Storage) -> "Announced":
        # Processes of two containers may have one number, and two runs one second.
        run = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}-{secrets.token_hex(4)}"
        known = tuple(NodeState(node.name, node.kind, node.folder) for node in nodes)
        state = RunState(run, recipe.family, recipe.stage, recipe.digest, recipe.recorded, known)
        before = find_state(storage, recipe.family, recipe.stage, recipe.digest)
        announced = Announced(storage, state)
        announced._write()
        for name in _names(recipe.family, recipe.stage, recipe.digest):
            storage.replace(f"{FOLDER}/{name}", canonical_json({"state": state.path}))
        if before is not None and before.run != run:
            _remove_keys(storage, before)
            storage.remove(before.path)
            if storage.exists(lease_of(before.run)):
                storage.remove(lease_of(before.run))
        return announced

    def living(self) -> AbstractContextManager[None]:
        """While it is entered, whoever asks is told that this run lives."""
        return Leases(self.storage).living(self.state.run)

    def node(self, node: Node, tasks: Sequence[Task], *, there: bool) -> None:
        """A node is about to start on `tasks`; `there`: all of them were done before."""
        keys = None
        if not there:
            table = pa.table({"key": [task.key for task in tasks]}, schema=KEYS)
            keys = write_parquet(self.storage, f"{FOLDER}/{self.state.run}-{node.name}", [table], KEYS).path
        now = NodeState(node.name, node.kind, node.folder, len(tasks), manifest_name(node, tasks), keys)
        nodes = tuple(now if old.name == node.name else old for old in self.state.nodes)
        self.state = RunState(**{**vars(self.state), "nodes": nodes})
        self._write()
        self.sums = None if there else KeptSums(node.name, node.folder)

    def record(self, record: Record) -> None:
        """A task of the node is committed: its counts, so that who looks need not read a million records first."""
        if self.sums is None:
            return
        self.sums.add(record.counts, [record.key])
        if time.monotonic() - self.looked > self.every:
            self.looked = time.monotonic()
            self.sums.write(self.storage)

    def _write(self) -> None:
        self.storage.replace(self.state.path, canonical_json(asdict(self.state)))


def find_state(storage: Storage, family: str, stage: int, digest: str | None = None) -> RunState | None:
    """What the newest run of a stage (or of exactly one recipe) said last."""
    pointer = storage.read_json(f"{FOLDER}/{_names(family, stage, digest)[-1]}")
    raw = None if pointer is None else storage.read_json(pointer["state"])
    return None if raw is None else RunState.from_json(raw)


def pointer_to(state: RunState) -> str:
    """The file that names this run as the newest of its recipe."""
    return f"{FOLDER}/{_names(state.family, state.stage, state.digest)[-1]}"


def end_state(storage: Storage, recipe: Recipe, folder: str) -> None:
    """The newest run of a recipe has come to a stage in `folder`; its files of keys are needed no more."""
    state = find_state(storage, recipe.family, recipe.stage, recipe.digest)
    if state is None:
        return
    storage.replace(state.path, canonical_json(asdict(RunState(**{**vars(state), "ended": folder}))))
    _remove_keys(storage, state)


def _remove_keys(storage: Storage, state: RunState) -> None:
    """Also those of the earlier rounds of a node that works in rounds."""
    for name in storage.names(FOLDER):
        if name.startswith(f"{state.run}-") and name.endswith(".parquet"):
            storage.remove(f"{FOLDER}/{name}")


def _names(family: str, stage: int, digest: str | None) -> list[str]:
    number = f"{family}-{stage}"
    return [f"{number}.json", *([f"{number}.{digest}.json"] if digest else [])]
