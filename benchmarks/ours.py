"""marco-data as a contestant: its public steps on Arrow batches of one language each, as the measure pass runs them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from benchmarks import dedup_alone
from benchmarks.contest import Thunk
from benchmarks.corpus import Round, tokenizer_folder
from benchmarks.files import write_rows
from marco_data.dedup import DropDuplicates
from marco_data.languages import LANGUAGES
from marco_data.languages.model import load_model
from marco_data.nodes.measure import Measure
from marco_data.sources import Slice, Source, list_files, read_slice, split
from marco_data.step import Step, Tools
from marco_data.steps.identify_language import IdentifyLanguage
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.normalize import Normalize
from marco_data.steps.sign import Sign
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer

PASS: tuple[Step, ...] = (Normalize(), IdentifyLanguage(), MeasureQuality(), Sign())
SHARD_BYTES = 256 << 20
DOCUMENT_BYTES = 16 << 20


def batches(texts: Round, *, by_language: bool) -> list[tuple[str | None, pa.RecordBatch]]:
    """The round as record batches, one for each language or one for all; no source declares a language."""
    groups: dict[str | None, list[str]] = {}
    for text in texts:
        groups.setdefault(text.language if by_language else None, []).append(text.text)
    return [
        (
            code,
            pa.record_batch(
                {"text": pa.array(group, pa.string()), "declared_language": pa.nulls(len(group), pa.string())}
            ),
        )
        for code, group in groups.items()
    ]


def step(one: Step, *, by_language: bool) -> Callable[[Round], Thunk]:
    """What runs a step over a round; binding (loading a model, making permutations) is not timed."""
    bound: dict[str | None, Any] = {}

    def prepare(texts: Round) -> Thunk:
        work = batches(texts, by_language=by_language)
        for code, _ in work:
            if code not in bound:
                bound[code] = one.bind(LANGUAGES[code] if code else None, Tools())
        return lambda: [bound[code](batch) for code, batch in work]

    return prepare


def identify(model: str = "embedded") -> Callable[[Round], Thunk]:
    """Identification that remembers no word of an earlier round."""
    prepared = step(IdentifyLanguage(model=model), by_language=False)

    def prepare(texts: Round) -> Thunk:
        forget(model)
        return prepared(texts)

    return prepare


def forget(model: str = "embedded") -> None:
    """Empties what a language model remembers of the words it saw."""
    cache = load_model(model, Tools())._cache
    if cache is not None:
        cache[:] = 0


def the_slice(file: Path) -> tuple[Source, Slice]:
    source = Source(paths=(str(file),))
    (part,) = split(list_files("web", source), SHARD_BYTES)
    return source, part


def read(texts: Round) -> Thunk:
    source, part = the_slice(write_rows(texts))
    return lambda: list(read_slice(part, "web", source, max_document_bytes=DOCUMENT_BYTES))


def whole_pass(texts: Round) -> Thunk:
    """Read, normalize, identify, measure, sign and write one shard, as a worker does."""
    forget()
    source, part = the_slice(write_rows(texts))
    node = measure_node(source)
    return lambda: measure_once(node, source, part)


def measure_node(source: Source) -> Measure:
    return Measure(
        sources={"web": source},
        steps=PASS,
        languages=tuple(LANGUAGES),
        shard_bytes=SHARD_BYTES,
        max_document_bytes=DOCUMENT_BYTES,
        floor=0.2,
        keep_dropped=0.0,
    )


def measure_once(node: Measure, source: Source, part: Slice) -> None:
    with tempfile.TemporaryDirectory() as folder:
        node.measure("web", source, part, "measure/shard", Storage(folder), Tools())


def tokenize(texts: Round) -> Thunk:
    tokenizer = Tokenizer.load(tokenizer_folder())
    plain = [text.text for text in texts]
    return lambda: tokenizer.encode_flat(plain)


def with_copies(texts: Round) -> Round:
    """Every fifth document once more: as it was, or with its last tenth gone."""
    copies = [type(t)(t.text if i % 10 else t.text[: -len(t.text) // 10], t.language) for i, t in enumerate(texts)]
    return [*texts, *copies[::5]]


def duplicates(texts: Round) -> Thunk:
    """Verdicts on signed documents, from shards to sidecars: everything a build does for them after measuring."""
    texts = with_copies(texts)
    batch = pa.record_batch({"text": pa.array([text.text for text in texts], pa.string())})
    columns = Sign().bind(LANGUAGES["eng_Latn"], Tools())(batch).columns
    ids = [xxhash.xxh3_128_hexdigest(str(number).encode()) for number in range(len(texts))]
    languages = pa.array(["eng_Latn"] * len(texts))
    shard = pa.table({"id": ids, "text": batch["text"], **columns, "language": languages})

    def run() -> Any:
        with tempfile.TemporaryDirectory() as root:
            return dedup_alone.deduplicated(root, [shard], DropDuplicates(), Sign())[0]

    return run
