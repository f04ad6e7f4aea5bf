"""The counts of what a node has committed so far, while its run is still going on.

In: what a run says it works on (`run_state`) and the records on disk. Out: sums of counts. A node that is through has a
manifest, which holds its sums. Of one that is not, the records committed so far are read. Knows nothing of steps or
languages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from marco_data.records import Count, Record, add_counts, load_record
from marco_data.run_state import NodeState
from marco_data.storage import Storage


@dataclass(frozen=True)
class Committed:
    """`done` of a node's `tasks` (None: not known yet) are committed; `counts` are their sums."""

    name: str
    tasks: int | None
    done: int
    counts: tuple[Count, ...] = ()


def committed(storage: Storage, node: NodeState) -> Committed:
    if node.manifest is None:
        return Committed(node.name, node.tasks, 0)
    manifest = storage.read_json(node.manifest)
    if manifest is not None:
        return Committed(node.name, node.tasks, manifest["tasks"], sums_in(manifest))
    records = records_so_far(storage, node)
    return Committed(node.name, node.tasks, len(records), add_counts(c for r in records for c in r.counts))


def records_so_far(storage: Storage, node: NodeState) -> list[Record]:
    """The records of a node that has no manifest yet."""
    there = set(storage.names(node.folder))
    wanted = keys_of(storage, node)
    names = [key for key in wanted if f"{key}.json" in there]
    found = [load_record(storage, node.folder, key) for key in names]
    return [record for record in found if record is not None]


def keys_of(storage: Storage, node: NodeState) -> list[str]:
    """The keys of a node's tasks, where it has said them."""
    if node.keys is None:
        return []
    try:
        keys: list[str] = storage.read_table(node.keys)["key"].to_pylist()
    except FileNotFoundError:  # the run has ended since
        return []
    return keys


def sums_in(manifest: dict[str, Sequence[dict[str, object]]]) -> tuple[Count, ...]:
    """The sums that a node's manifest holds."""
    return tuple(Count(**count) for count in manifest["counts"])  # type: ignore[arg-type]
