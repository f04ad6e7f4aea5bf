"""What a run would do, node by node, and because of which key; nothing is started and nothing written.

A node is `skip` where everything it would read has been worked on, `re-decide` where only columns are judged
again, `rebuild` where data is made. What a node reads is known once the nodes before it are there; until then
the plan says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from marco_data.benchmark_index import IndexMissing
from marco_data.dataset import Context, Dataset, Node, Task
from marco_data.errors import MarcoError
from marco_data.execute import manifest_name
from marco_data.nodes.measure import Measure
from marco_data.record_table import records_of
from marco_data.records import Record, found_records
from marco_data.sources import found_before
from marco_data.stage import Stage
from marco_data.step import Tools
from marco_data.storage import Storage

SKIP, REDECIDE, REBUILD = "skip", "re-decide", "rebuild"
WHAT = {
    "measure": "read, normalize, identify, measure, sign",
    "decide": "limits against columns",
    "documents": "ids, text hashes and signatures, listed",
    "same_ids": "ids that come twice or stand for two texts",
    "same_texts": "exact duplicates",
    "ranks": "documents numbered by priority",
    "bands": "band keys, sorted",
    "buckets": "pairs that share a bucket",
    "verify": "pairs alike by their signatures",
    "shingles": "shingles of the pairs in doubt",
    "count_pairs": "pairs counted on shingles",
    "settle": "who stays, by priority",
    "open_buckets": "what is still open: all its pairs",
    "verify_open": "... by their signatures",
    "shingles_open": "... their shingles",
    "count_pairs_open": "... counted",
    "settle_open": "who stays of those",
    "lines": "what is said of each group of shards",
    "dedup": "verdict sidecars",
    "dedup_index": "what a later crawl goes on from",
    "seeds": "documents that models may write from",
    "generate": "what models write, and what of it is accepted",
    "replace": "documents whose rewriting is kept",
    "tokenize": "kept documents to tokens",
    "mix": "weights, budget, where the stage before ended",
    "shards": "Megatron .bin/.idx",
}


@dataclass(frozen=True)
class NodePlan:
    """One line of a plan; `tasks` None: not known before the nodes above have run."""

    node: str
    folder: str
    status: str
    tasks: int | None
    pending: int | None
    because: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SourcePlan:
    source: str
    part: str
    files: int | None
    bytes: int | None
    problem: str | None = None


def plan_sources(dataset: Dataset, part_of: dict[str, str], storage: Storage) -> list[SourcePlan]:
    """The files of each source as they are now; a source that cannot be reached from here says why."""
    measure = dataset.node("measure")
    assert isinstance(measure, Measure)
    rows = []
    for name in sorted(measure.sources):
        try:
            measure.found[name] = found_before.load(storage, measure.sources[name])
            files = measure.files(name)
        except (MarcoError, OSError, ImportError, ValueError) as error:
            problem = error.message if isinstance(error, MarcoError) else f"{type(error).__name__}: {error}"
            rows.append(SourcePlan(name, part_of[name], None, None, problem.splitlines()[0][:300]))
        else:
            rows.append(SourcePlan(name, part_of[name], len(files), sum(f.size for f in files)))
    return rows


def plan_nodes(
    dataset: Dataset,
    storage: Storage,
    before: Stage | None,
    reachable: bool = True,
    done: dict[str, Sequence[Record]] | None = None,
) -> list[NodePlan]:
    """The status of every node against what is in the root; `before` is the build whose keys are compared.

    `done` is filled with the records of those nodes that have nothing left to do.
    """
    done = {} if done is None else done
    rows: list[NodePlan] = []
    known = reachable
    for node in dataset.nodes:
        because = list(_changes(node, before))
        folder, problem = _named(node)
        known = known and problem is None
        if not known:
            changed = [r.node for r in rows if r.status != SKIP]
            because = ([problem] if problem else because) or [
                f"reads what `{changed[-1]}` makes" if changed else "its sources are not reachable"
            ]
            rows.append(NodePlan(node.name, folder, _verb(node), None, None, because))
            continue
        tasks, records = _known(node, storage, done)
        done[node.name] = records
        pending = len(tasks) - len(records)
        status = SKIP if pending == 0 else _verb(node)
        if pending and not because:
            because = [_new_inputs(node, before, pending, len(tasks))]
        context = Context(storage, Tools(), done).seen_by(node)
        because = [*because, *node.notes(context)] if pending else []
        rows.append(NodePlan(node.name, folder, status, len(tasks), pending, because))
        known = pending == 0
        if pending:
            del done[node.name]
    return rows


def _known(node: Node, storage: Storage, done: dict[str, Sequence[Record]]) -> tuple[list[Task], Sequence[Record]]:
    """The tasks of a node that are known, and the records there are of them."""
    known: dict[str, Sequence[Record]] = dict(done)
    before = -1
    while True:
        tasks = node.tasks(Context(storage, Tools(), known).seen_by(node))
        records = records_of(storage, manifest_name(node, tasks))
        if records is None:
            records = list(found_records(storage, node.folder, [task.key for task in tasks]))
        known[node.name] = records
        if not node.in_rounds or len(records) < len(tasks) or len(tasks) == before:
            return tasks, records
        before = len(tasks)


def _named(node: Node) -> tuple[str, str | None]:
    """The folder of a node, and why it is not known where the user can do something about it."""
    try:
        return node.folder, None
    except IndexMissing as error:
        return f"{node.name}-?", f"{error.message}; {error.hint}"
    except (MarcoError, OSError, ImportError, ValueError):
        return f"{node.name}-?", None  # a tokenizer or model that is not on this machine: its hash is not known


def _verb(node: Node) -> str:
    return REDECIDE if node.kind == "decide" else REBUILD


def _new_inputs(node: Node, before: Stage | None, pending: int, tasks: int) -> str:
    if before is None or node.name not in before.nodes:
        return "not built here yet"
    if node.name == "measure":
        return f"{pending} of {tasks} input slices are new or changed"
    return f"{pending} of {tasks} read something that changed"


def _changes(node: Node, before: Stage | None) -> Iterator[str]:
    """The keys in which a node's identity differs from an earlier build's."""
    if before is None or node.name not in before.nodes:
        return
    try:
        identity = node.identity
    except (MarcoError, OSError, ImportError, ValueError):
        return
    yield from difference(before.nodes[node.name]["identity"]["config"], identity["config"])


def difference(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """`key: old -> new` for every leaf in which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            label = a.get("step", i) if isinstance(a, dict) else i
            yield from difference(a, b, f"{key}.{label}" if key else str(label))
    elif (gone := _steps(old)) and (come := _steps(new)):
        for name in dict.fromkeys([*gone, *come]):
            at = f"{key}.{name}" if key else name
            if name in gone and name in come:
                yield from difference(gone[name], come[name], at)
            else:
                yield f"{at}: {'no longer a step' if name in gone else 'a new step'}"
    elif old != new:
        yield f"{key}: {_short(old)} -> {_short(new)}"


def _steps(value: Any) -> dict[str, Any]:
    """The steps of a list by name; empty where it is no list of them, or one is in it twice."""
    if not isinstance(value, list) or not all(isinstance(step, dict) and "step" in step for step in value):
        return {}
    steps = {str(step["step"]): step for step in value}
    return steps if len(steps) == len(value) else {}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def plan_object(
    sources: list[SourcePlan], nodes: list[NodePlan], stage: str, fingerprint: str | None
) -> dict[str, Any]:
    """The object of `plan --json`."""
    return {
        "stage": stage,
        "fingerprint": fingerprint,
        "sources": [asdict(s) for s in sources],
        "nodes": [asdict(n) for n in nodes],
    }
