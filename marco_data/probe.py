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
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.dataset import Context
from marco_data.errors import MarcoError
from marco_data.mix import HASH_END, Interval
from marco_data.nodes.decide import VERDICTS, Decide
from marco_data.nodes.measure import Measure
from marco_data.nodes.mix import ONCE
from marco_data.nodes.shards import Shards, Wanted
from marco_data.nodes.tokenize import TOKENS, tokenized
from marco_data.sources import Slice, read_slice
from marco_data.sources.census import take_census
from marco_data.sources.stream import CHUNK_BYTES
from marco_data.step import BoundStep, Tools
from marco_data.storage import DataFile, Storage, write_parquet
from marco_data.tokenizer import Tokenizer

DOCUMENTS = 50
"""Of each source and language that are seen at, where `--probe` says nothing."""

MOST = 16_000
"""Documents in all: about a minute on one core. With more sources and languages fewer of each are seen at."""

LEAST = 16
SLICES = 4
MIXED, PAGES = 8, 2
"""A source that declares no language is seen at as if it had so many; web pages, whose text costs most, fewer."""

SHARDS = 8
"""Languages of a source of which a shard is written."""

ALONE = 4
"""Documents of a source that go through the steps in a file of their own."""

MIXED_BYTES = 8 << 20
"""Stored bytes of a file of undeclared languages that are counted: languages may follow one another in it."""

Draws = npt.NDArray[np.float64]

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
    """Seconds of the processor and bytes written, by node, in `calls`: languages of a shard, or shards written."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    files: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sizes: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True)
class Speed:
    """What work takes: so much for each file, for each call, and for what it is done to."""

    a_file: float
    a_call: float
    a_unit: float

    def of(self, files: float, calls: float, size: Draws) -> Draws:
        out: Draws = self.a_file * files + self.a_call * calls + self.a_unit * size
        return out


@dataclass(frozen=True)
class Measured:
    """Three clocks over the same steps: a document in a file of its own, one of each language in a file, and all.

    A few documents take mostly what a file and a language take, many what they take themselves.
    """

    alone: Clock
    few: Clock
    all: Clock

    def seconds(self, node: str) -> Speed:
        return self._speed(node, *(clock.seconds[node] for clock in (self.alone, self.few, self.all)))

    def bytes(self, node: str) -> Speed:
        return self._speed(node, *(clock.bytes[node] for clock in (self.alone, self.few, self.all)))

    def _speed(self, node: str, alone: float, few: float, whole: float) -> Speed:
        files, calls, size = self.all.files[node], self.all.calls[node], max(1.0, self.all.sizes[node])
        one = alone / self.alone.files[node] if self.alone.files[node] else 0.0
        more = self.few.calls[node] - self.few.files[node]
        call = min(one, max(0.0, few - one * self.few.files[node]) / more) if more > 0 else 0.0
        begun = (one - call) * files + call * calls
        if begun > whole:  # times of so little are noise: what they add up to is known
            one, call, begun = one * whole / begun, call * whole / begun, whole
        return Speed(one - call, call, (whole - begun) / size)


@dataclass(frozen=True)
class Probe:
    """`rows`: every document that was read, in no order.

    Columns: those of COLUMNS, `language` as identified, `reason` and `failed`, `quality_tier`, `tokens` (null where
    the text is not stored), `signature`, `text_hash`, `slice` (into `slices`) and `stands_for`: how many documents.
    """

    rows: pa.Table
    slices: tuple[Seen, ...]
    measured: Measured
    read_seconds: dict[str, float]
    stored: dict[str, int]
    numbers: dict[str, int]  # slices of each source
    unreachable: dict[str, str]

    @property
    def read(self) -> int:
        return int(self.rows.num_rows)

    @property
    def kept(self) -> pa.Table:
        """The documents that every limit lets through."""
        if not self.rows.num_rows:
            return self.rows
        passed = pc.and_(pc.is_null(self.rows["failed"]), pc.is_null(self.rows["reason"]))
        return self.rows.append_column("kept", passed).filter(passed)


@dataclass(frozen=True)
class Looked:
    """What a plan knows before it expects anything: the tokenizer, and a probe where one is needed."""

    tokenizer: Tokenizer
    probed: Probe | None = None


def probe(
    measure: Measure,
    decide: Decide,
    shards: Shards,
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
    clocks = Measured(Clock(), Clock(), Clock())
    with tempfile.TemporaryDirectory(prefix="marco-data-probe-") as folder:
        chain = _Chain(measure, decide, shards, tokenizer, tools, Path(folder))
        tables = []
        for name, read in sorted(batches.items()):
            first = [batch.slice(0, 1) for batch in read]
            chain.run(name, first, Clock())  # what is loaded once in hours is not to be timed
            for batch in first[:: max(1, len(first) // ALONE)]:
                chain.run(name, [batch], clocks.alone)
            chain.run(name, first, clocks.few)
            tables.append(chain.run(name, read, clocks.all))
    rows = pa.concat_tables(tables) if tables else pa.table({})
    numbers: dict[str, int] = defaultdict(int)
    for name, _, found in strata:
        numbers[name] += len(found) * (name not in unreachable)
    return Probe(
        _weighed(rows, slices), tuple(slices), clocks, dict(read_seconds), dict(stored), dict(numbers), unreachable
    )


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
        census = take_census(piece, CHUNK_BYTES if piece.files[0].declared_language else MIXED_BYTES)
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


@dataclass(frozen=True)
class _Chain:
    """The steps from rows to shards, in a folder of its own: once through them is what a build does with a slice."""

    measure: Measure
    decide: Decide
    shards: Shards
    tokenizer: Tokenizer
    tools: Tools
    folder: Path

    def run(self, name: str, batches: Sequence[pa.RecordBatch], clock: Clock) -> pa.Table:
        """The rows of one source with their verdicts and tokens; what that took is added to `clock`."""
        storage = Storage(tempfile.mkdtemp(dir=self.folder))
        with _timed(clock, "measure"):
            tables = list(self.measure.tables(batches, {}, self.tools))
            file = write_parquet(storage, "measure", tables, self.measure.schema)
        measured = pa.concat_tables(tables)
        _add(clock, "measure", file.bytes, len(tables), float(pc.sum(measured["text_bytes"]).as_py() or 0))
        with _timed(clock, "decide"):
            bound: dict[tuple[int, str], BoundStep] = {}
            said = [self.decide.judge(batch, bound, self.tools) for batch in self.decide.batches(storage, file)]
            verdicts = pa.concat_tables(said)
            sidecar = write_parquet(storage, "decide", [verdicts], VERDICTS)
        _add(clock, "decide", sidecar.bytes, len(tables), verdicts.num_rows)
        table = measured.select([*COLUMNS, "position", "text_hash", "signature"])
        for column in ("language", "failed", "reason", "quality_tier"):
            table = table.append_column(column, verdicts[column])
        return self._with_tokens(table, storage, file, clock)

    def _with_tokens(self, table: pa.Table, storage: Storage, file: DataFile, clock: Clock) -> pa.Table:
        """`tokens`: of every text that is stored, so that tokens of what is dropped can be told too."""
        stays = pc.and_(pc.is_null(table["failed"]), pc.is_null(table["reason"]))
        numbers = np.zeros(table.num_rows, np.int64)
        kept = np.flatnonzero(np.asarray(stays))
        if len(kept):
            with _timed(clock, "tokenize"):
                made = self._tokenized(storage, file, kept)
                tokens = write_parquet(storage, "tokens", made, TOKENS)
            numbers[kept] = pa.concat_tables(made)["length"].to_numpy()
            size = float(sum(pc.sum(one["bytes"]).as_py() for one in made))
            _add(clock, "tokenize", tokens.bytes, len(made), size)
            for one in made[:: max(1, len(made) // SHARDS)]:
                self._shard(storage, tokens, one, clock)
        gone = np.flatnonzero(np.asarray(pc.and_(pc.invert(stays), pc.is_valid(table["text"]))))
        if len(gone):
            _, offsets = self.tokenizer.encode_flat(table["text"].take(pa.array(gone)).to_pylist())
            numbers[gone] = np.diff(offsets)
        return table.append_column("tokens", pa.array(numbers, mask=np.asarray(pc.is_null(table["text"]))))

    def _tokenized(self, storage: Storage, file: DataFile, kept: npt.NDArray[np.int64]) -> list[pa.Table]:
        """Of each row group, which holds one language, the rows that are kept."""
        out, start = [], 0
        with storage.parquet(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                here = kept[(kept >= start) & (kept < start + rows)]
                if len(here):
                    part = parquet.read_row_group(group, columns=["id", "source", "lid_language", "text"])
                    part = part.take(pa.array(here - start)).append_column("row", pa.array(here.astype(np.int32)))
                    out.append(tokenized(part.rename_columns({"lid_language": "language"}), self.tokenizer))
                start += rows
        return out

    def _shard(self, storage: Storage, tokens: DataFile, rows: pa.Table, clock: Clock) -> None:
        language, source = rows["language"][0].as_py(), rows["source"][0].as_py()
        wanted = Wanted(language, source, Interval(0, HASH_END, 0, 0), 1, ONCE)
        with _timed(clock, "shards"):
            written = self.shards.write(storage, [tokens], wanted, f"shards/{language}", self.tools)
        if written is not None:
            _add(clock, "shards", 0, 1, written[1]["tokens"])
            _add(clock, "lineage", written[0][2].bytes, 1, written[1]["documents"])


def _add(clock: Clock, node: str, size: int, calls: int, done: float) -> None:
    clock.bytes[node] += size
    clock.files[node] += 1
    clock.calls[node] += calls
    clock.sizes[node] += done


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
