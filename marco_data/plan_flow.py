"""How many documents, bytes and tokens come to each step, by source and language, before a build or on its way.

In: a probe, or the records of what a root holds already. Out: a `Flow`, each figure with draws around it, so that sums
and everything computed from them have ranges too. Knows no price and no mixture.

Ranges are those of sampling: slices and rows of a stratum (a source and the language it declares) are drawn again with
replacement, 200 times by a fixed seed, and 1.645 standard deviations to each side are meant to hold the figure for nine
samples of ten. What was read whole has no range. Tokens of what is dropped are its bytes by the language's tokens for
a byte.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context, Dataset
from marco_data.dedup import DropDuplicates
from marco_data.errors import MarcoError
from marco_data.execute import manifest_name
from marco_data.generation.estimate import Range, Z
from marco_data.nodes.decide import PASSED
from marco_data.nodes.measure import Measure
from marco_data.probe import Probe
from marco_data.record_table import records_of
from marco_data.records import DROPPED, FAILED, REPLACED, Record, found_records
from marco_data.step import Tools
from marco_data.storage import DataFile, Storage

DRAWS = 200
DOCUMENTS, BYTES, TOKENS = range(3)
FIGURES = ("documents", "bytes", "tokens")
DEDUP, KEPT, FAIL = "dedup", "kept", "failed"

Draws = npt.NDArray[np.float64]
"""Shape [1 + DRAWS, figures]: what is expected, then draws around it."""

Cell = tuple[str, str, str]
"""(source, language, what became of it): `failed`, the step that dropped it, `dedup` or `kept`."""


@dataclass(frozen=True)
class Flow:
    """`cells` sum to what is read. `duplicates`: the share expected of each language; `grounds` are sentences."""

    cells: Mapping[Cell, Draws]
    duplicates: Mapping[str, Draws] = field(default_factory=dict)
    grounds: tuple[str, ...] = ()

    def total(self, *, outcomes: Iterable[str] | None = None, language: str = "", source: str = "") -> Draws:
        """The sum of the cells with these outcomes (default: all), of one language or source where they are named."""
        wanted = None if outcomes is None else set(outcomes)
        out = np.zeros((1 + DRAWS, len(FIGURES)))
        for (of, code, outcome), draws in self.cells.items():
            if source in ("", of) and language in ("", code) and (wanted is None or outcome in wanted):
                out += draws
        return out

    @property
    def outcomes(self) -> list[str]:
        """The outcomes in the order of the steps."""
        there = {outcome for _, _, outcome in self.cells}
        return sorted(there, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER) - 4, name))

    @property
    def languages(self) -> list[str]:
        return sorted({language for _, language, _ in self.cells})


ORDER = [
    FAIL,
    "read",
    "normalize",
    "remove",
    "url_block_list",
    "select_language",
    "quality",
    "decontaminate",
    DEDUP,
    REPLACED,
    KEPT,
]


def range_of(draws: Draws, figure: int = 0) -> Range:
    """One figure of some draws, as all estimates of the project tell it."""
    column = draws[:, figure] if draws.ndim == 2 else draws
    return Range(float(column[0]), Z * float(np.std(column[1:])))


def foresee(probed: Probe, rule: DropDuplicates, limits: Mapping[str, float] | None = None) -> Flow:
    """What a probe lets expect. `limits`: the share of a language's documents above which duplicates stop a build."""
    if not probed.rows.num_rows:
        return Flow({}, grounds=("no document could be looked at",))
    table = probed.rows
    tokens = _tokens_of(table)
    weights = _drawn_weights(probed)
    codes = table["language"].to_pylist()
    what = [_outcome(f, r) for f, r in zip(table["failed"].to_pylist(), table["reason"].to_pylist(), strict=True)]
    at: dict[Cell, list[int]] = defaultdict(list)
    for i, cell in enumerate(zip(table["source"].to_pylist(), codes, what, strict=True)):
        at[cell].append(i)
    values = np.column_stack([np.ones(table.num_rows), table["text_bytes"].fill_null(0).to_numpy(), tokens])
    cells = {cell: weights[:, rows] @ values[rows] for cell, rows in sorted(at.items())}
    shares, said = _duplicates_in(probed.kept, rule, limits or {})
    grounds = (f"{table.num_rows:,} documents of {len(probed.slices):,} slices, through the real steps", said)
    return _without_duplicates(Flow(cells, shares, grounds))


def _outcome(failed: str | None, reason: str | None) -> str:
    return FAIL if failed is not None else reason.partition("/")[0] if reason is not None else KEPT


def _tokens_of(table: pa.Table) -> npt.NDArray[np.float64]:
    """Tokens of each row; where the text is not stored by its bytes and its language's tokens for a byte."""
    size = table["text_bytes"].fill_null(0).to_numpy().astype(np.float64)
    tokens: npt.NDArray[np.float64] = table["tokens"].to_numpy(zero_copy_only=False).astype(np.float64)
    known = ~np.isnan(tokens)
    overall = tokens[known].sum() / max(1.0, size[known].sum())
    codes = np.array(table["language"].to_pylist(), dtype=object)
    for code in set(codes[~known]):
        own = known & (codes == code)
        rate = tokens[own].sum() / size[own].sum() if size[own].sum() else overall
        missing = ~known & (codes == code)
        tokens[missing] = size[missing] * rate
    return tokens


def _drawn_weights(probed: Probe) -> Draws:
    """How many documents each row stands for: as it is, then as it might have been had others been looked at."""
    random = np.random.default_rng(0)
    stands = probed.rows["stands_for"].to_numpy()
    at = probed.rows["slice"].to_numpy()
    slices = probed.slices
    strata: dict[int, list[int]] = defaultdict(list)
    for number, looked in enumerate(slices):
        strata[looked.stratum].append(number)
    of_slice = np.ones((DRAWS, len(slices)))
    for members in strata.values():
        one = slices[members[0]]
        if 1 < len(members) < one.stratum_slices:
            seen = sum(slices[n].stored for n in members) / max(1, one.stratum_stored)
            redrawn = random.multinomial(len(members), [1 / len(members)] * len(members), DRAWS)
            of_slice[:, members] = 1 + math.sqrt(max(0.0, 1 - seen)) * (redrawn - 1)
    out = np.empty((1 + DRAWS, len(stands)))
    out[0] = stands
    for number, looked in enumerate(slices):
        rows = np.flatnonzero(at == number)
        unseen = math.sqrt(max(0.0, 1 - looked.picks / max(looked.rows, 1e-9)))
        drawn = _redrawn(random, len(rows)) if unseen else np.ones((DRAWS, len(rows)))
        out[1:, rows] = stands[rows] * of_slice[:, [number]] * (1 + unseen * (drawn - 1))
    return out


def _redrawn(random: np.random.Generator, rows: int) -> Draws:
    """How often each row is drawn. One row alone might stand for nothing, or for twice as much."""
    if rows < 2:
        return random.poisson(1, (DRAWS, rows)).astype(np.float64)
    return random.multinomial(rows, np.full(rows, 1 / rows), DRAWS).astype(np.float64)


# Duplicates


def _duplicates_in(kept: pa.Table, rule: DropDuplicates, limits: Mapping[str, float]) -> tuple[dict[str, Draws], str]:
    """The share of each language that pairs among the rows looked at let expect, and what that rests on.

    `d` pairs among `n` documents that stand for N are d (N/n)^2 pairs of N: all in one cluster they drop few
    documents, each a cluster of its own as many as they are. Between the two lies the geometric mean.
    """
    shares: dict[str, Draws] = {}
    pairs = 0
    random = np.random.default_rng(1)
    for code in sorted(set(kept["language"].to_pylist())):
        rows = kept.filter(pc.equal(kept["language"], code))
        found, number, gone = _pairs(rows, rule.threshold)
        pairs += number
        if not found:
            continue
        whole = float(rows["stands_for"].to_numpy().sum())
        if whole <= rows.num_rows * (1 + 1e-9):  # all of them were looked at
            least = most = gone / whole
        else:
            most = min(limits.get(code, 1.0), found / whole)
            least = min(most, (math.sqrt(1 + 8 * found) - 1) / 2 / whole)
        drawn = np.exp(random.uniform(math.log(least), math.log(most), DRAWS)) if least < most else np.full(DRAWS, most)
        shares[code] = np.concatenate([[math.sqrt(least * most)], drawn])
    said = f"duplicates by {pairs:,} pairs among the {kept.num_rows:,} documents that limits let through"
    return shares, said if pairs else f"{said}: none, so that what is kept is the most there can be"


def _pairs(rows: pa.Table, threshold: float) -> tuple[float, int, int]:
    """Pairs alike by their signatures: how many all documents have for those found; these; documents they drop."""
    rows = rows.filter(pc.is_valid(rows["signature"]))
    if rows.num_rows < 2:
        return 0.0, 0, 0
    matrix = rows["signature"].combine_chunks().flatten().to_numpy().reshape(rows.num_rows, -1)
    weights = rows["stands_for"].to_numpy()
    gone = np.zeros(rows.num_rows, np.bool_)
    found, number = 0.0, 0
    for i in range(rows.num_rows - 1):
        alike = (matrix[i + 1 :] == matrix[i]).mean(axis=1) >= threshold
        number += int(alike.sum())
        found += float(weights[i] * weights[i + 1 :][alike].sum())
        if not gone[i]:
            gone[i + 1 :] |= alike
    return found, number, int(gone.sum())


def _without_duplicates(flow: Flow) -> Flow:
    """The flow with the shares of duplicates taken from what is kept."""
    cells = dict(flow.cells)
    for (source, language, outcome), draws in flow.cells.items():
        share = flow.duplicates.get(language)
        if outcome == KEPT and share is not None:
            cells[source, language, DEDUP] = draws * share[:, None]
            cells[source, language, KEPT] = draws * (1 - share[:, None])
    return replace(flow, cells=cells)


# What a root holds already


@dataclass(frozen=True)
class SoFar:
    """What is done of a plan: complete nodes over those slices of each source that are measured."""

    records: Mapping[str, Sequence[Record]]
    stored: Mapping[str, Sequence[int]]  # by source: bytes of the slices that are measured
    whole: Mapping[str, int]  # by source: bytes of all

    @property
    def share(self) -> float:
        """Of all stored bytes, those of the slices that are measured."""
        return sum(map(sum, self.stored.values())) / max(1, sum(self.whole.values()))


def so_far(dataset: Dataset, storage: Storage, unreachable: Mapping[str, str]) -> SoFar:
    """The records of a plan's nodes, of a part of its slices where a build was stopped or was one of a sample."""
    measure = dataset.node("measure")
    assert isinstance(measure, Measure)
    reachable = {name: source for name, source in measure.sources.items() if name not in unreachable}
    done: dict[str, Sequence[Record]] = {}
    stored: dict[str, list[int]] = defaultdict(list)
    whole: dict[str, int] = defaultdict(int)
    tasks = replace(measure, sources=reachable).tasks(Context(storage, Tools(), {}))
    known = records_of(storage, manifest_name(measure, tasks))
    if known is None:
        known = list(found_records(storage, measure.folder, [task.key for task in tasks]))
    if not known:
        return SoFar({}, {}, {})
    done["measure"] = known
    keys = {record.key for record in known}
    for task in tasks:
        whole[task.inputs[0]] += task.weight
        if task.key in keys:
            stored[task.inputs[0]].append(task.weight)
    for node in dataset.nodes[1:]:
        try:
            tasks = node.tasks(Context(storage, Tools(), done).seen_by(node))
            records = records_of(storage, manifest_name(node, tasks))
        except (MarcoError, OSError):  # an index of an earlier run that is not here: the plan's own lines tell of it
            break
        if records is None:
            break
        done[node.name] = records
    return SoFar(done, stored, whole)


def counted(found: SoFar, probed: Flow) -> Flow:
    """A flow in which sources with at least two measured slices, or all of them, are what was counted there.

    A part of a source's slices is a sample of it. The tokens of what was not tokenized are those of the probe.
    """
    if "decide" not in found.records:
        return probed
    rates = _rates(found, probed)
    units = _by_slice(found)
    random = np.random.default_rng(2)
    cells: dict[Cell, Draws] = {}
    said = []
    for source, sizes in sorted(found.stored.items()):
        share = sum(sizes) / max(1, found.whole[source])
        if share < 1 and len(sizes) < 2:
            continue
        number = len(sizes)
        drawn = np.ones((1 + DRAWS, number))
        if share < 1:
            drawn[1:] += math.sqrt(1 - share) * (random.multinomial(number, [1 / number] * number, DRAWS) - 1)
        drawn /= max(share, 1e-12)
        for cell, values in units.items():
            if cell[0] == source:
                rows = np.array([values.get(unit, (0.0, 0.0, 0.0)) for unit in range(number)])
                if cell[2] != KEPT or "tokenize" not in found.records:
                    rows[:, TOKENS] = rows[:, BYTES] * rates.get(cell[1], rates[""])
                cells[cell] = drawn @ rows
        said.append(source if share == 1 else f"{source} ({share:.0%} of its bytes)")
    if not said:
        return probed
    own = set(found.stored) & {cell[0] for cell in cells}
    others = {cell: draws for cell, draws in probed.cells.items() if cell[0] not in own}
    grounds = (f"counted in this root: {', '.join(said)}", *(probed.grounds if others else ()))
    shares = {} if "dedup" in found.records else probed.duplicates
    flow = Flow(cells, shares, ())
    return Flow({**others, **(_without_duplicates(flow) if shares else flow).cells}, probed.duplicates, grounds)


def _rates(found: SoFar, probed: Flow) -> dict[str, float]:
    """Tokens for a byte by language, and of all under ""."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    if "tokenize" in found.records:
        counts = [(c.language, c.bytes, c.tokens) for r in found.records["tokenize"] for c in r.counts]
    else:
        counts = [(code, int(d[0, BYTES]), int(d[0, TOKENS])) for (_, code, _), d in probed.cells.items()]
    for language, size, tokens in counts:
        for key in (language, ""):
            sums[key][0] += size
            sums[key][1] += tokens
    return {key: tokens / size if size else 0.0 for key, (size, tokens) in sums.items()} | (
        {} if sums[""][0] else {"": 0.0}
    )


def _files(records: Sequence[Record]) -> list[DataFile]:
    return [file for record in records for file in record.data]


def _by_slice(found: SoFar) -> dict[Cell, dict[int, tuple[float, float, float]]]:
    """Documents, bytes and tokens of each cell, by the number of the slice among those of its source."""
    numbers: dict[str, int] = defaultdict(int)
    shards: list[int] = []
    for record in found.records["measure"]:
        source = record.facts["source"]
        shards += [numbers[source]] * len(record.data)
        numbers[source] += 1
    out: dict[Cell, dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0, 0.0]))

    def add(cell: Cell, unit: int, documents: float, size: float, tokens: float) -> None:
        for figure, value in enumerate((documents, size, tokens)):
            out[cell][unit][figure] += value

    for unit, record in zip(shards, found.records["decide"], strict=True):
        for c in record.counts:
            outcome = {PASSED: KEPT, FAILED: FAIL, DROPPED: c.reason.partition("/")[0]}[c.outcome]
            add((c.source, c.language, outcome), unit, c.documents, c.bytes, 0)
    unit_of = {file.path: unit for unit, file in zip(shards, _files(found.records["measure"]), strict=True)}
    for outcome, node in ((DEDUP, "dedup"), (REPLACED, "replace")):
        for record in found.records.get(node, ()):
            here = unit_of.get(record.facts["shard"], -1)  # what was generated is no slice of a source
            for c in record.counts if here >= 0 else ():
                if c.outcome == (DROPPED if outcome == DEDUP else REPLACED):
                    add((c.source, c.language, outcome), here, c.documents, c.bytes, 0)
                    add((c.source, c.language, KEPT), here, -c.documents, -c.bytes, 0)
    for unit, record in zip(shards, found.records.get("tokenize", ()), strict=False):
        for c in record.counts:
            add((c.source, c.language, KEPT), unit, 0, 0, c.tokens)
    return {cell: {unit: (v[0], v[1], v[2]) for unit, v in units.items()} for cell, units in out.items()}
