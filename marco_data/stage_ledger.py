"""The ledger of a stage: per language, part and source how many tokens were wanted, read, dropped (why), synthesized,
written and drawn, and what is short.

In: a stage's manifest and the sums in its nodes' manifests; while a build is under way, the records it has committed
so far. Out: a `StageLedger` of rows that add up. No text is read, and no data file.

Documents and bytes are counted. Tokens are counted where text was tokenized, which is all that passed every limit; of
what was dropped before, they are bytes times the tokens per byte measured in that language, and such figures are named
in `estimated`. Where a language has nothing tokenized, its fertility is that of an earlier build with this tokenizer,
else of its script, else of everything; where there is none at all, four bytes a token are assumed.

Every row adds up: collected + synthesized = dropped + failed + replaced + pending + written, in documents, bytes and
tokens. `pending` is what no step has decided on yet: nothing, in a build that is complete.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from marco_data.committed import Committed, committed, counts_at, keys_so_far, sums_in
from marco_data.ledger_rows import (
    ANY,
    PLAIN,
    Amount,
    Fertility,
    LedgerRow,
    Material,
    MixtureRow,
    mixture_of,
    rows_of,
    sum_rows,
)
from marco_data.nodes.written import spent
from marco_data.recipe import Recipe
from marco_data.record_table import records_of
from marco_data.records import Count, Record
from marco_data.run_state import RunState, find_state
from marco_data.stage import Stage, counts_of_books, load_stage
from marco_data.storage import Storage

__all__ = [
    "ANY",
    "AXES",
    "Amount",
    "Axis",
    "Fertility",
    "LedgerRow",
    "MixtureRow",
    "StageLedger",
    "read_ledger",
    "stage_so_far",
]

Axis = Literal["language", "part", "source"]
AXES: tuple[Axis, ...] = ("language", "part", "source")


@dataclass(frozen=True)
class StageLedger:
    """`complete`: a stage came of it. `running`: a build of it has begun and has no manifest yet; `live`: its process
    says that it lives, so that a `running` one without was killed or stopped.
    """

    family: str
    stage: int
    folder: str | None
    recipe: str
    complete: bool
    running: bool
    balanced: bool
    budget: int | None
    steps: tuple[str, ...]
    rows: tuple[LedgerRow, ...]
    fertility: Mapping[str, Fertility]
    mixture: tuple[MixtureRow, ...]
    nodes: tuple[Committed, ...] = ()
    live: bool = False

    def total(self, *by: Axis) -> list[LedgerRow]:
        """Rows summed over what is not in `by`, sorted; without any, one row."""
        groups: dict[tuple[str, ...], list[LedgerRow]] = defaultdict(list)
        for row in self.rows:
            groups[tuple(getattr(row, axis) for axis in by)].append(row)
        if not by and not groups:
            groups[()] = []
        return [sum_rows(groups[key], dict(zip(by, key, strict=True))) for key in sorted(groups)]

    @property
    def short(self) -> list[LedgerRow]:
        """The languages that fall short, the largest shortfall first."""
        return sorted((r for r in self.total("language") if r.shortfall), key=lambda r: (-r.shortfall, r.language))

    def to_object(self) -> dict[str, Any]:
        return {
            **{
                name: getattr(self, name)
                for name in ("family", "stage", "folder", "recipe", "complete", "running", "live", "balanced", "budget")
            },
            "steps": list(self.steps),
            "rows": [row.to_object() for row in self.rows],
            "languages": [row.to_object() for row in self.total("language")],
            "parts": [row.to_object() for row in self.total("part")],
            "total": self.total()[0].to_object(),
            "short": [row.language for row in self.short],
            "fertility": {code: asdict(measured) for code, measured in self.fertility.items()},
            "mixture": [asdict(row) for row in self.mixture],
            "nodes": [{"node": n.name, "tasks": n.tasks, "done": n.done} for n in self.nodes],
        }

    def to_csv(self, *by: Axis) -> str:
        """A line a row, of what `total(*by)` gives or of every row; a column for each step and for each reason."""
        rows = self.total(*by) if by else list(self.rows)
        out = io.StringIO()
        reasons = sorted({reason for row in rows for reason in row.dropped})
        failures = sorted({reason for row in rows for reason in row.failed})
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            [
                *(by or AXES),
                *PLAIN,
                "epochs",
                *(f"after {step}" for step in self.steps),
                *(f"{kind} {unit}" for kind in ("replaced", "pending") for unit in _UNITS),
                *(f"dropped {reason} {unit}" for reason in reasons for unit in _UNITS),
                *(f"failed {reason} {unit}" for reason in failures for unit in _UNITS),
                "estimated",
            ]
        )
        for row in rows:
            amounts = [row.replaced, row.pending]
            amounts += [row.dropped.get(reason, Amount()) for reason in reasons]
            amounts += [row.failed.get(reason, Amount()) for reason in failures]
            writer.writerow(
                [
                    *(getattr(row, axis) for axis in by or AXES),
                    *(getattr(row, name) for name in PLAIN),
                    f"{row.epochs:.6g}",
                    *(row.after.get(step, "") for step in self.steps),
                    *(getattr(amount, unit) for amount in amounts for unit in _UNITS),
                    " ".join(sorted(row.estimated)),
                ]
            )
        return out.getvalue()


_UNITS = ("documents", "bytes", "tokens")


# Reading


def read_ledger(storage: Storage, family: str, stage: int, recipe: Recipe | None = None) -> StageLedger:
    """The ledger of the newest build of a stage, or of that of exactly one recipe; of one under way, what is committed.

    Raises RecipeError where there is neither.
    """
    digest = recipe.digest if recipe else None
    state = find_state(storage, family, stage, digest)
    if state is not None and state.ended is None:
        found = _of_run(storage, state)
        now = find_state(storage, family, stage, digest)
        if now is not None and (now.run, now.ended) == (state.run, None):  # else it ended while it was looked at
            return found
    return _of_stage(storage, load_stage(storage, family, stage, recipe))


def _of_stage(storage: Storage, built: Stage) -> StageLedger:
    nodes = tuple(
        Committed(name, entry["tasks"], entry["tasks"] if entry["manifest"] else len(entry["records"]))
        for name, entry in built.nodes.items()
    )
    tokenize = built.nodes.get("tokenize")
    tokenized: Sequence[Count] = ()
    if tokenize is not None:
        manifest = storage.read_json(tokenize["manifest"]) if tokenize["manifest"] else None
        tokenized = sums_in(manifest) if manifest else counts_at(storage, tokenize["records"])
    earlier = _earlier(storage, tokenize["folder"]) if tokenize and not built.complete else ()
    return _ledger(built, tokenized, earlier, nodes, _digest_of(storage, built), running=False)


def _of_run(storage: Storage, state: RunState) -> StageLedger:
    nodes = tuple(committed(storage, node) for node in state.nodes)
    tokenize = next((node for node in state.nodes if node.name == "tokenize"), None)
    tokenized = next((node.counts for node in nodes if node.name == "tokenize"), ())
    earlier = _earlier(storage, tokenize.folder) if tokenize else ()
    return _ledger(
        so_far(storage, state, nodes), tokenized, earlier, nodes, state.digest, running=True, live=state.lives(storage)
    )


class Later(Sequence[dict[str, Any]]):
    """Rows that are read when they are first looked at: most who look at a build under way need none of them."""

    def __init__(self, read: Callable[[], list[dict[str, Any]]]) -> None:
        self._read = read

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return self._read()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        return self._rows[at]


def stage_so_far(storage: Storage, state: RunState, nodes: Sequence[Committed] | None = None) -> Stage:
    """What a build under way would leave if it stopped now; `nodes` are what it has committed, where that is known.

    Shards and requests are read when they are first looked at, and are those of then.
    """

    def shards() -> list[dict[str, Any]]:
        found = [shard for record in _records(storage, state, "shards") for shard in record.facts["shards"]]
        return sorted(found, key=lambda s: str(s["prefix"]))

    def requests() -> list[dict[str, Any]]:
        return [row.to_row() for row in spent(_records(storage, state, "generate"))]

    known = [committed(storage, node) for node in state.nodes] if nodes is None else nodes
    return replace(so_far(storage, state, known), shards=Later(shards), requests=Later(requests))


def so_far(storage: Storage, state: RunState, nodes: Sequence[Committed]) -> Stage:
    """Of the same what the ledger needs: neither shards nor requests."""
    mix = _records(storage, state, "mix")
    return Stage(
        family=state.family,
        stage=state.stage,
        folder="",
        complete=False,
        recipe=state.recipe,
        nodes={},
        counts=counts_of_books({node.name: node.counts for node in nodes}),
        mix=mix[0].facts if mix else {},
    )


def _records(storage: Storage, state: RunState, kind: str) -> list[Record]:
    """The records committed so far by the nodes of a kind."""
    found: list[Record] = []
    for node in state.nodes:
        if node.kind == kind and node.manifest is not None:
            whole = records_of(storage, node.manifest)
            paths = [f"{node.folder}/{key}.json" for key in (keys_so_far(storage, node) if whole is None else ())]
            found += [Record.from_json(data) for data in storage.read_many(paths)] if whole is None else whole
    return found


def _ledger(
    built: Stage,
    tokenized: Sequence[Count],
    earlier: Sequence[Count],
    nodes: tuple[Committed, ...],
    digest: str,
    *,
    running: bool,
    live: bool = False,
) -> StageLedger:
    material = Material(built.recipe, built.counts, tokenized, earlier, built.mix)
    rows = rows_of(material)
    return StageLedger(
        family=built.family,
        stage=built.stage,
        folder=built.folder or None,
        recipe=digest,
        complete=built.complete,
        running=running,
        balanced=built.balanced,
        budget=built.recipe["budget"],
        steps=material.steps,
        rows=tuple(rows),
        fertility=material.fertility,
        mixture=tuple(mixture_of(rows, built.stage)),
        nodes=nodes,
        live=live,
    )


def _earlier(storage: Storage, folder: str) -> list[Count]:
    """What builds with the same tokenizer counted; one text in several of them weighs more, and nothing else."""
    manifests = [storage.read_json(f"{folder}/{n}") for n in storage.names(folder) if n.startswith("manifest-")]
    return [count for manifest in manifests if manifest for count in sums_in(manifest)]


def _digest_of(storage: Storage, built: Stage) -> str:
    """The digest of the recipe of a build; its manifest does not hold it, because it counts where sources lie."""
    start = f"{built.family}-{built.stage}."
    for name in storage.names("stages"):
        digest = name.removeprefix(start).removesuffix(".json")
        if name.startswith(start) and digest != "whole":
            pointer = storage.read_json(f"stages/{name}")
            if pointer is not None and pointer["stage"] == built.folder:
                return digest
    return ""
