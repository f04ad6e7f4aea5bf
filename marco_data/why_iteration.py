"""The documents of one training batch, by their ids: `why --iteration`.

In: a built stage, and what its samples depend on (sequence length, global batch size, seed, order), given or read from
a run's checkpoint. Out: one `BatchDocument` for each document in the batch, in the batch's order, joined to its source
by the shards' lineage files. No run writes down what it read: the batch follows from the stage and the settings.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marco_data.errors import RecipeError
from marco_data.stage import Stage
from marco_data.storage import Storage
from marco_data.train.batches import DocumentUse, documents_of
from marco_data.train.blend import load_blend
from marco_data.train.order import SEED, STABLE, Plan, plan_stages
from marco_data.why import Lookup


@dataclass(frozen=True)
class Settings:
    """What the samples of a stage depend on beside it; `batch` is of all ranks together, in samples.

    `identity` is that of the run's plan, where it is known: the stage has to be the one that it was trained on.
    """

    sequence: int
    batch: int
    seed: int = SEED
    order: str = STABLE
    identity: Mapping[str, Any] = field(default_factory=dict)


def settings_of_run(folder: Path) -> Settings:
    """Of a checkpoint, or of the newest in a run's folder. Raises RecipeError."""
    files = [folder / "run.json", *sorted(folder.glob("iteration-????????/run.json"), reverse=True)]
    file = next((file for file in files if file.exists()), None)
    if file is None:
        raise RecipeError(f"`{folder}` holds no checkpoint", hint="name a run's folder, or --sequence and --batch")
    try:
        data = json.loads(file.read_text("utf-8"))["data"]
        identity = data["identity"]
        return Settings(
            identity["sequence length"],
            data["batch"],
            identity["seed"],
            str(identity["order"]).rpartition("-")[0],
            identity,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"`{file}` does not say what the run read: {error!r}", hint="give --sequence and --batch instead"
        ) from None


@dataclass(frozen=True)
class BatchDocument:
    """A document's part in a batch: `tokens` of it from its `offset` on, in the stage's sample number `sample`."""

    sample: int
    id: str
    source_id: str | None
    url: str | None
    language: str
    part: str
    source: str
    prefix: str
    document: int
    offset: int
    tokens: int
    length: int


def batch_documents(stage: Stage, storage: Storage, number: int, settings: Settings) -> list[BatchDocument]:
    """The documents of iteration `number`, counted from 1 in the stage.

    Raises RecipeError for a stage that is not whole or is not what the run was trained on, and for an iteration it does
    not have.
    """
    if not stage.complete:
        raise RecipeError(
            f"stage {stage.stage} of `{stage.family}` is not complete: it has no blend to train on",
            hint="finish it with `marco-data build-stage`",
        )
    asked = settings.identity.get(f"stage {stage.stage}: samples")
    plan = plan_stages(
        [load_blend(storage.local(stage.folder) or storage.uri(stage.folder))],
        sequence=settings.sequence,
        seed=settings.seed,
        order=settings.order,
        samples=None if asked is None else {stage.stage: asked},
    )
    _check_run(plan, stage, settings)
    uses = documents_of(plan.stages[0], number, settings.batch)
    found = _joined(Lookup(stage, storage), uses)
    return [_document(use, found[use.prefix, use.document]) for use in uses]


def _check_run(plan: Plan, stage: Stage, settings: Settings) -> None:
    """What the run's plan says of this stage is what the stage is now."""
    mine = f"stage {stage.stage}: "
    now, then = ({k: v for k, v in known.items() if k.startswith(mine)} for known in (plan.identity, settings.identity))
    if settings.identity and now != then:
        changed = sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
        raise RecipeError(
            f"stage {stage.stage} in `{stage.folder}` is not what the run was trained on: {changed[0]} differs",
            hint="name the root, and with --recipe the build, that the run was trained on",
        )


def _joined(lookup: Lookup, uses: Sequence[DocumentUse]) -> dict[tuple[str, int], dict[str, Any]]:
    """By prefix and document: id, length, source id and URL. Each file is opened once."""
    stage, storage = lookup.stage, lookup.storage
    lineages = {f"../{shard['prefix']}": shard["lineage"] for shard in stage.shards}
    wanted: dict[str, set[int]] = {}
    for use in uses:
        wanted.setdefault(use.prefix, set()).add(use.document)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for prefix, documents in wanted.items():
        numbers = sorted(documents)
        for number, row in zip(numbers, _take(storage, lineages[prefix], numbers), strict=True):
            found[prefix, number] = row
            rows.setdefault(row["tokenized"], []).append(row)
    tokenized = [record.data[0].path for record in stage.records(storage, "tokenize")]
    for path, members in rows.items():
        _, measured, _ = lookup.measured[tokenized.index(path)]  # by order, as in `Lookup.position`
        numbers = sorted({row["row"] for row in members})
        read = _take(storage, measured.path, numbers, ["source_id", "url"])
        known = dict(zip(numbers, read, strict=True))
        for row in members:
            row |= known[row["row"]]
    return found


def _take(storage: Storage, path: str, rows: Sequence[int], columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Rows of a Parquet file, ascending, from the row groups that hold them."""
    found: list[dict[str, Any]] = []
    with storage.parquet(path) as parquet:
        start, waiting = 0, list(rows)
        for group in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            here = [row - start for row in waiting if row < end]
            if here:
                found += parquet.read_row_group(group, columns=columns).take(here).to_pylist()
                waiting = waiting[len(here) :]
            start = end
    return found


def _document(use: DocumentUse, row: dict[str, Any]) -> BatchDocument:
    return BatchDocument(
        sample=use.sample,
        id=row["id"],
        source_id=row["source_id"],
        url=row["url"],
        language=use.language,
        part=use.part,
        source=use.source,
        prefix=use.prefix.removeprefix("../"),
        document=use.document,
        offset=use.offset,
        tokens=use.tokens,
        length=row["length"],
    )
