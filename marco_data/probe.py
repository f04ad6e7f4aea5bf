"""What a build would find, measured on a few documents of each source and language: the real steps, here, in seconds.

In: the nodes of a plan that read and judge, and its tokenizer. Out: a `Probe`: a row for each document that was
seen at, with its verdict, tokens and how many documents it stands for, and the time and disk that they took.
Documents are evenly spaced over several slices of each source and declared language, never their heads alone. Writes
nothing but to a folder of its own, which is gone afterwards. Duplicates are not dropped: what a few documents say of
them, `plan_flow` weighs.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context
from marco_data.errors import MarcoError
from marco_data.nodes.decide import VERDICTS, Decide
from marco_data.nodes.measure import Measure
from marco_data.nodes.shards import LINEAGE
from marco_data.nodes.tokenize import TOKENS, tokenized
from marco_data.sources import Slice, read_slice
from marco_data.sources.census import take_census
from marco_data.step import BoundStep, Tools
from marco_data.storage import Storage, write_parquet
from marco_data.tokenizer import Tokenizer

DOCUMENTS = 200
"""Of each source and language that are seen at, where `--probe` says nothing."""

MOST = 16_000
"""Documents in all: about a minute on one core. With more sources and languages fewer of each are seen at."""

LEAST = 16
SLICES = 4
MIXED, PAGES = 8, 2
"""A source that declares no language is seen at as if it had so many; web pages, whose text costs most, fewer."""

COLUMNS = ["id", "source", "url", "licence", "text", "text_bytes"]


@dataclass(frozen=True)
class Seen:
    """A slice of which `picks` rows were read: rows it has, and which stored bytes of its stratum it stands for."""

    source: str
    stratum: int
    rows: float
    picks: int
    stored: int
    stratum_stored: int
    stratum_slices: int


@dataclass
class Clock:
    """Seconds of the processor and bytes written, by node; what they were for is in the probe."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True)
class Probe:
    """`rows`: every document that was read, in no order.

    Columns: those of COLUMNS, `language` as identified, `reason` and `failed`, `quality_tier`, `tokens` (null where
    the text is not stored), `signature`, `text_hash`, `slice` (into `slices`) and `stands_for`: how many documents.
    """

    rows: pa.Table
    slices: tuple[Seen, ...]
    clock: Clock
    read_seconds: dict[str, float]
    stored: dict[str, int]
    unreachable: dict[str, str]

    @property
    def read(self) -> int:
        return int(self.rows.num_rows)

    @property
    def kept(self) -> pa.Table:
        """The documents that every limit lets through."""
        if not self.rows.num_rows:
            return self.rows
        return self.rows.filter(pc.and_(pc.is_null(self.rows["failed"]), pc.is_null(self.rows["reason"])))


@dataclass(frozen=True)
class Looked:
    """What a plan knows before it expects anything: the tokenizer, and a probe where one is needed."""

    tokenizer: Tokenizer
    probed: Probe | None = None


def probe(
    measure: Measure,
    decide: Decide,
    tokenizer: Tokenizer,
    documents: int = DOCUMENTS,
    known_problems: Mapping[str, str] | None = None,
) -> Probe:
    """Look at so many documents of each source and language; a source that cannot be read is told in `unreachable`.

    Of sources with `known_problems` no reading is tried.
    """
    tools = Tools(measure.accept)
    strata: list[tuple[str, str | None, list[Slice]]] = []
    unreachable = dict(known_problems or {})
    for name in sorted(measure.sources.keys() - unreachable.keys()):
        try:
            pieces = slices_of(measure, name)
        except (MarcoError, OSError, ImportError, ValueError) as error:
            unreachable[name] = str(error).splitlines()[0]
            continue
        by_language: dict[str | None, list[Slice]] = defaultdict(list)
        for piece in pieces:
            by_language[piece.files[0].declared_language].append(piece)
        strata += [(name, language, found) for language, found in by_language.items()]
    for name, _, found in strata:
        _warm_up(measure, name, found)
    looks = [_shares(documents, language, found) for _, language, found in strata]
    squeeze = min(1.0, MOST / max(1, sum(looks)))
    slices: list[Seen] = []
    read_seconds: dict[str, float] = defaultdict(float)
    stored: dict[str, int] = defaultdict(int)
    batches: dict[str, list[pa.RecordBatch]] = defaultdict(list)
    for number, ((name, _, found), wanted) in enumerate(zip(strata, looks, strict=True)):
        stored[name] += sum(piece.bytes for piece in found)
        try:
            for seen, batch, seconds in _look(measure, name, number, found, max(LEAST, round(wanted * squeeze))):
                read_seconds[name] += seconds
                if batch is not None:
                    place = pa.array(np.arange(batch.num_rows) + (len(slices) << 32))
                    position = batch.schema.get_field_index("position")
                    batches[name].append(batch.set_column(position, "position", place))
                slices.append(seen)
        except (MarcoError, OSError) as error:
            unreachable[name] = str(error).splitlines()[0]
    batches = {name: found for name, found in batches.items() if name not in unreachable}
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="marco-data-probe-") as folder:
        tables = list(_judged(measure, decide, tokenizer, batches, Storage(folder), tools, clock))
    rows = pa.concat_tables(tables) if tables else pa.table({})
    return Probe(_weighed(rows, slices), tuple(slices), clock, dict(read_seconds), dict(stored), unreachable)


def slices_of(measure: Measure, name: str) -> list[Slice]:
    """The slices of one source that a build would read: fewer where it is of a sample."""
    alone = replace(measure, sources={name: measure.sources[name]})
    tasks = alone.tasks(Context(Storage("memory://"), Tools(measure.accept), {}))
    return [task.inputs[2] for task in tasks]


def _shares(documents: int, language: str | None, pieces: Sequence[Slice]) -> int:
    return documents * (1 if language else PAGES if pieces and pieces[0].format == "warc" else MIXED)


def _warm_up(measure: Measure, name: str, pieces: Sequence[Slice]) -> None:
    """Read a row: what a process loads once is not to be timed. What goes wrong here does so again where it is told."""
    with suppress(MarcoError, OSError):
        for _ in read_slice(pieces[0], name, measure.sources[name], picks=[0], max_document_bytes=1 << 20):
            return


def _look(
    measure: Measure, name: str, stratum: int, pieces: Sequence[Slice], documents: int
) -> Iterator[tuple[Seen, pa.RecordBatch | None, float]]:
    """The chosen slices, the rows that were read of each, and the seconds it would take to read what they stand for."""
    chosen = spread(pieces, SLICES if pieces[0].files[0].declared_language else 2 * SLICES)
    whole, part = sum(p.bytes for p in pieces), max(1, sum(p.bytes for p in chosen))
    for piece in chosen:
        before = time.process_time()
        census = take_census(piece)
        unpacking = time.process_time() - before
        wanted = min(census.rows, max(1, round(documents * piece.bytes / part)))
        picks = ((np.arange(wanted) + 0.5) * census.rows / max(1, wanted)).astype(int).tolist()
        before = time.process_time()
        found = read_slice(
            piece,
            name,
            measure.sources[name],
            max_document_bytes=measure.max_document_bytes,
            batch_rows=max(1, wanted),
            picks=picks,
        )
        taken = list(found) if picks else []
        rows = sum(batch.num_rows for batch in taken)
        # Rows that were passed over were unpacked and not parsed.
        passed_over = unpacking * (picks[-1] + 1) / census.rows if picks else 0.0
        parsing = max(0.0, time.process_time() - before - passed_over)
        seconds = (unpacking + parsing * census.rows / max(1, rows)) / census.share * whole / part
        seen = Seen(name, stratum, census.estimate, rows, piece.bytes, whole, len(pieces))
        batch = pa.Table.from_batches(taken).combine_chunks().to_batches()[0] if rows else None
        yield seen, batch, seconds


def spread(pieces: Sequence[Slice], most: int) -> list[Slice]:
    """At most so many of them, evenly apart."""
    if len(pieces) <= most:
        return list(pieces)
    edges = [round(i * len(pieces) / most) for i in range(most + 1)]
    return [pieces[(a + b) // 2] for a, b in pairwise(edges)]


def _judged(
    measure: Measure,
    decide: Decide,
    tokenizer: Tokenizer,
    batches: dict[str, list[pa.RecordBatch]],
    storage: Storage,
    tools: Tools,
    clock: Clock,
) -> Iterator[pa.Table]:
    """The rows of each source with their verdicts, and in `clock` what that took."""
    for found in batches.values():  # what is loaded once in hours is not to be timed
        for table in measure.tables([batch.slice(0, 2) for batch in found], {}, tools):
            decide.judge(table.combine_chunks().to_batches()[0], {}, tools)
    tokenizer.encode_flat(["", "a word"])
    for name, found in sorted(batches.items()):
        with _timed(clock, "measure"):
            tables = list(measure.tables(found, {}, tools))
            file = write_parquet(storage, f"measure-{name}", tables, measure.schema)
        clock.bytes["measure"] += file.bytes
        with _timed(clock, "decide"):
            bound: dict[tuple[int, str], BoundStep] = {}
            verdicts = [decide.judge(t.combine_chunks().to_batches()[0], bound, tools) for t in tables]
            sidecar = write_parquet(storage, f"decide-{name}", [pa.concat_tables(verdicts)], VERDICTS)
        clock.bytes["decide"] += sidecar.bytes
        measured, said = pa.concat_tables(tables), pa.concat_tables(verdicts)
        table = measured.select([*COLUMNS, "position", "signature", "text_hash"])
        for column in ("language", "failed", "reason", "quality_tier"):
            table = table.append_column(column, said[column])
        yield _with_tokens(table, tokenizer, storage, clock)


def _with_tokens(table: pa.Table, tokenizer: Tokenizer, storage: Storage, clock: Clock) -> pa.Table:
    """`tokens`: of every text that is stored, so that tokens of what is dropped can be told too."""
    passed = pc.and_(pc.is_null(table["failed"]), pc.is_null(table["reason"]))
    numbers = np.zeros(table.num_rows, np.int64)
    for chosen, timed in ((passed, True), (pc.and_(pc.invert(passed), pc.is_valid(table["text"])), False)):
        at = np.flatnonzero(np.asarray(chosen))
        if not len(at):
            continue
        rows = table.take(pa.array(at)).append_column("row", pa.array(at.astype(np.int32)))
        if not timed:
            _, offsets = tokenizer.encode_flat(rows["text"].to_pylist())
            numbers[at] = np.diff(offsets)
            continue
        with _timed(clock, "tokenize"):
            made = tokenized(rows.select(["row", "id", "source", "language", "text"]), tokenizer)
            file = write_parquet(storage, f"tokens-{rows['source'][0].as_py()}", [made], TOKENS)
        clock.bytes["tokenize"] += file.bytes
        numbers[at] = made["length"].to_numpy()
        with _timed(clock, "shards"):
            made["tokens"].combine_chunks().flatten().to_numpy().tobytes()
            lineage = pa.table([made["id"], made["source"], made["row"], made["length"]], schema=LINEAGE)
            file = write_parquet(storage, f"lineage-{rows['source'][0].as_py()}", [lineage], LINEAGE)
        clock.bytes["lineage"] += file.bytes
    return table.append_column("tokens", pa.array(numbers, mask=np.asarray(pc.is_null(table["text"]))))


@contextmanager
def _timed(clock: Clock, node: str) -> Iterator[None]:
    """Adds the processor's seconds of a block to a node's."""
    started = time.process_time()
    yield
    clock.seconds[node] += time.process_time() - started


def _weighed(rows: pa.Table, slices: Sequence[Seen]) -> pa.Table:
    """`slice` and `stands_for` in the place of `position`."""
    if not rows.num_rows:
        return rows
    part: dict[int, int] = defaultdict(int)
    for seen in slices:
        part[seen.stratum] += seen.stored
    weights = np.array(
        [s.rows / max(1, s.picks) * s.stratum_stored / max(1, part[s.stratum]) for s in slices], np.float64
    )
    at: npt.NDArray[np.int64] = rows["position"].to_numpy() >> 32
    return (
        rows.drop_columns(["position"])
        .append_column("slice", pa.array(at))
        .append_column("stands_for", pa.array(weights[at]))
    )
