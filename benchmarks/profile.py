"""Where the whole pass spends its time, beside the floor: what merely touching the bytes of text costs.

Steps are timed one after the other on the same documents, and then the whole pass; what the pass takes beyond their
sum (splitting by language, sorting, counting, checking) is the line `the rest`. Words are found once for all steps that
need them: by `measure_quality`, which comes first.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import zstandard

from benchmarks import ours
from benchmarks.corpus import Round, rounds, size
from benchmarks.files import write_rows
from benchmarks.stopwatch import seconds
from marco_data import words
from marco_data.languages import LANGUAGES
from marco_data.nodes.measure import Measure
from marco_data.sources import Slice, Source
from marco_data.step import Step, Tools
from marco_data.storage import Storage, write_parquet

GOES = 3


@dataclass(frozen=True)
class Line:
    """`seconds` for each million bytes of text; `share` of the whole pass, None for a floor."""

    what: str
    seconds: float
    share: float | None


def profile(*, megabytes: float) -> list[Line]:
    """The lines of the profile: parts of the pass, the pass, floors."""
    (warm,), (texts,) = rounds(1, 500_000), rounds(1, int(megabytes * 1e6), after=500_000)
    ours.whole_pass(warm)()  # compiles
    million = size(texts) / 1e6
    source, part = ours.the_slice(write_rows(texts))
    node = ours.measure_node(source)
    parts = {"read (JSONL)": _best(ours.read(texts))}
    for step in ours.PASS[:2]:
        parts[step.name()] = _best(ours.step(step, by_language=False)(texts))
    parts |= _by_language(texts, ours.PASS[2:])
    tables = _measured(node, source, part)
    parts["write (Parquet)"] = _best(lambda: _write(tables, node.schema))
    whole = _best(lambda: ours.measure_once(node, source, part))
    parts["the rest"] = whole - sum(parts.values())
    lines = [Line(what, seconds / million, seconds / whole) for what, seconds in parts.items()]
    lines.append(Line("the whole pass", whole / million, 1.0))
    data = "".join(text.text for text in texts).encode()
    return lines + [Line(what, _best(run) / million, None) for what, run in _floors(data).items()]


def _measured(node: Measure, source: Source, part: Slice) -> list[pa.Table]:
    """The rows of a shard as the pass gives them to the writer, a table for each language."""
    with tempfile.TemporaryDirectory() as folder:
        node.measure("web", source, part, "shard", Storage(folder), Tools())
        (file,) = Path(folder).rglob("*.parquet")
        with pq.ParquetFile(file) as written:
            return [written.read_row_group(group) for group in range(written.num_row_groups)]


def _write(tables: list[pa.Table], schema: pa.Schema) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Storage(folder), "shard", tables, schema)


def _by_language(texts: Round, steps: Sequence[Step]) -> dict[str, float]:
    """Seconds of each step where all run on a batch in turn: the first finds its words, which the others know."""
    work = ours.batches(texts, by_language=True)
    bound = {code: [step.bind(LANGUAGES[code or ""], Tools()) for step in steps] for code, _ in work}
    best = dict.fromkeys((step.name() for step in steps), float("inf"))
    for _ in range(GOES):
        spent = dict.fromkeys(best, 0.0)
        for code, batch in work:
            words.forget()
            for name, run in zip(best, bound[code], strict=True):
                start = time.process_time()
                run(batch)
                spent[name] += time.process_time() - start
        best = {name: min(best[name], spent[name]) for name in best}
    return best


def _floors(data: bytes) -> dict[str, Callable[[], Any]]:
    array = np.frombuffer(data, np.uint8)
    target = np.empty_like(array)
    return {
        "floor: copy the text": lambda: np.copyto(target, array),
        "floor: xxh3-128 of the text": lambda: xxhash.xxh3_128_digest(data),
        "floor: zstd -3 of the text": lambda: zstandard.compress(data, 3),
    }


def _best(work: Callable[[], Any]) -> float:
    """Processor seconds of the quickest of a few goes: what the work costs, whatever the neighbours do."""
    spent = []
    for _ in range(GOES):
        ours.forget()
        spent.append(seconds(work))
    return min(spent)
