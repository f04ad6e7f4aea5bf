"""The one abstraction: a step is a pure function from an Arrow record batch to columns and verdicts.

A step never removes rows. It returns columns aligned with the batch it was given: new or replaced values,
a `reason` for each document it would drop, a `failed` for each it could not judge. `apply_step` checks that
nothing was lost, merges the answer into the batch and, if a whole batch makes a step raise, finds the one
document that does.

Steps that read `text` run once, in the measure pass; their verdicts are stored in the columns `reason` and
`measured`. Steps that read columns only run in the decide pass, again and again, in seconds.
"""

import hashlib
import importlib.metadata
import inspect
import json
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from marco_data.child import ChildDied, in_child, watched
from marco_data.errors import MarcoError, RecipeError, RetryableError, ShardError
from marco_data.languages import Language


@dataclass(frozen=True)
class StepOutput:
    """What a step says of a batch of n documents; every array has n entries.

    `columns` are added, or replace the column of that name. `reason` (string, null = keep) names what was
    wrong, `measured` (float64) the figure that was compared with the limit. `failed` (string, null = judged)
    says why a document could not be judged.
    """

    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    reason: pa.Array | None = None
    measured: pa.Array | None = None
    failed: pa.Array | None = None


@dataclass(frozen=True)
class Tools:
    """What a step may use of the machine it runs on. Context: nothing in here is identity.

    `accept` are the package versions that the recipe declares equal. `isolated`: steps run in child processes,
    because something among these documents has killed its worker before.
    """

    accept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    isolated: bool = False

    def path(self, uri: str) -> Path:
        """A local file with the content of `uri` (a model, a block list), fetched once."""
        if "://" not in uri:
            return Path(uri)
        from marco_data.filesystems import shared_copy

        try:
            return shared_copy(uri)
        except RecipeError:
            raise
        except Exception as error:  # each protocol's library raises its own; none says what was wanted
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RetryableError(f"`{uri}` cannot be fetched: {problem}") from error


BoundStep = Callable[[pa.RecordBatch], StepOutput]


class Step(BaseModel):
    """One data operation. Its fields are its identity: two steps with equal fields give equal output.

    `version` is raised when the same fields would give another output; a step that declares none is
    identified by the source of its module, so that a user's own step needs no bookkeeping.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int | None] = None
    reads: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[pa.Schema] = pa.schema([])
    reasons: ClassVar[frozenset[str]] = frozenset()
    reason_prefix: ClassVar[str | None] = None  # for reasons only another library knows: all that begin so
    packages: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def name(cls) -> str:
        """`IdentifyLanguage` -> `identify_language`: the prefix of its reasons."""
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")

    @classmethod
    def reads_text(cls) -> bool:
        return "text" in cls.reads

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        """The function for documents of one language (None: not identified yet)."""
        raise NotImplementedError

    def content(self, tools: Tools) -> dict[str, str]:
        """Content hashes of the files this step uses, by field: they are identity, their paths are not."""
        return {}

    def identity(self, tools: Tools) -> dict[str, Any]:
        """Everything that shapes this step's output, as plain JSON."""
        content = self.content(tools)
        config = {k: v for k, v in self.model_dump(mode="json").items() if k not in content}
        return {
            "step": self.name(),
            "version": self.version if self.version is not None else _source_hash(type(self)),
            "config": config,
            "content": content,
            "packages": package_versions(self.packages, tools.accept),
        }


def _source_hash(step: type[Step]) -> str:
    module = sys.modules[step.__module__]
    return "source-" + hashlib.sha256(inspect.getsource(module).encode()).hexdigest()[:12]


# Made once: `json.dumps` makes one for each call, which was half the time of a task's key (1.5 of 3 µs).
canonical_text = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def fingerprint(identity: Any) -> str:
    """Twelve hex digits of the SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical_text(identity).encode()).hexdigest()[:12]


def check_plan(steps: list[Step], available: set[str]) -> None:
    """Raise RecipeError where a step reads a column that nothing before it adds.

    Checked when the plan is made, so that a wrong order never reaches a worker.
    """
    columns = set(available)
    for step in steps:
        missing = [name for name in step.reads if name not in columns]
        if missing:
            raise RecipeError(
                f"step `{step.name()}` reads {', '.join(f'`{m}`' for m in missing)}, which no step before it adds",
                hint=f"columns at that point: {', '.join(sorted(columns))}",
            )
        columns |= set(step.adds.names)


def check_output(step: Step, batch: pa.RecordBatch, output: StepOutput) -> None:
    """The contract every step keeps, checked on every batch: right length, type, declared reasons."""
    n = batch.num_rows
    for name, array in output.columns.items():
        if name != "text" and name not in step.adds.names:
            raise ShardError(f"step `{step.name()}` returned the undeclared column `{name}`")
        if len(array) != n:
            raise ShardError(f"step `{step.name()}` returned {len(array)} values of `{name}` for {n} documents")
    for name in step.adds.names:
        if name not in output.columns:
            raise ShardError(f"step `{step.name()}` did not return its column `{name}`")
        if output.columns[name].type != step.adds.field(name).type:
            raise ShardError(f"step `{step.name()}` returned `{name}` as {output.columns[name].type}")
    for label, array in (("reason", output.reason), ("measured", output.measured), ("failed", output.failed)):
        if array is not None and len(array) != n:
            raise ShardError(f"step `{step.name()}` returned {len(array)} of `{label}` for {n} documents")
    if output.reason is not None:
        said = {r for r in pc.unique(output.reason).to_pylist() if r is not None}
        open_prefix = step.reason_prefix
        undeclared = {r for r in said - step.reasons if open_prefix is None or not r.startswith(open_prefix)}
        if undeclared:
            raise ShardError(f"step `{step.name()}` used undeclared reasons: {', '.join(sorted(undeclared))}")


def run_step(step: Step, bound: BoundStep, batch: pa.RecordBatch, *, isolated: bool = False) -> StepOutput:
    """One checked call of a bound step; a document that makes it raise (or, isolated, die) fails alone."""
    try:
        if isolated:
            output = in_child(lambda: bound(batch))
        else:
            with watched():
                output = bound(batch)
    except (MarcoError, MemoryError, OSError):  # the machine's trouble, not a document's
        raise
    except Exception as error:  # a step's own bug on one document must not take its neighbours along
        if batch.num_rows == 1:
            return _failed(step, "worker_died" if isinstance(error, ChildDied) else "crashed")
        middle = batch.num_rows // 2
        halves = [batch.slice(0, middle), batch.slice(middle)]
        return _join(step, halves, [run_step(step, bound, half, isolated=isolated) for half in halves])
    check_output(step, batch, output)
    return output


def _failed(step: Step, how: str) -> StepOutput:
    columns = {name: pa.nulls(1, step.adds.field(name).type) for name in step.adds.names}
    return StepOutput(columns=columns, failed=pa.array([f"{step.name()}/{how}"], pa.string()))


def _join(step: Step, halves: list[pa.RecordBatch], outputs: list[StepOutput]) -> StepOutput:
    def verdict(pick: Callable[[StepOutput], pa.Array | None], kind: pa.DataType) -> pa.Array | None:
        said = [pick(o) for o in outputs]
        if all(array is None for array in said):
            return None
        rows = [pa.nulls(h.num_rows, kind) if a is None else a for h, a in zip(halves, said, strict=True)]
        return pa.concat_arrays(rows)

    # A half whose one document failed gives no new `text`: it keeps the old one.
    names = set(step.adds.names) | {name for o in outputs for name in o.columns}
    columns = {
        name: pa.concat_arrays(
            [o.columns[name] if name in o.columns else h.column(name) for h, o in zip(halves, outputs, strict=True)]
        )
        for name in names
    }
    return StepOutput(
        columns=columns,
        reason=verdict(lambda o: o.reason, pa.string()),
        measured=verdict(lambda o: o.measured, pa.float64()),
        failed=verdict(lambda o: o.failed, pa.string()),
    )


UNICODE = "unicode"
"""Among `packages`: the Unicode tables of this Python, which str.lower, NFC and categories depend on."""


def package_versions(names: tuple[str, ...], accept: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, str]:
    """{package: installed version}: identity wherever a third-party package shapes the output.

    Versions that `accept` lists for a package stand for one another: the first of them is the name of all.
    """
    versions = {name: _version(name) for name in sorted(names)}
    equal = accept or {}
    return {name: equal[name][0] if v in equal.get(name, ()) else v for name, v in versions.items()}


def _version(name: str) -> str:
    if name == UNICODE:
        return unicodedata.unidata_version
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise RecipeError(f"the package `{name}` is not installed", hint=f"pip install {name}") from None
