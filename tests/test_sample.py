"""The embedded sample: its files come from its prose, and every document ends as expected.jsonl says."""

import gzip
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from marco_data.execute import LocalExecutor, Silent, run
from marco_data.languages import LANGUAGES
from marco_data.recipe import load_recipe
from marco_data.records import KEPT
from marco_data.stage import Stage, finish
from marco_data.storage import Storage
from marco_data.tokenizer import train_tokenizer
from marco_data.why import Answer, Lookup
from recipes.sample import make_sample

SAMPLE = Path(make_sample.__file__).parent
EXPECTED = [json.loads(line) for line in (SAMPLE / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
MULTILINGUAL = ("crawl", "crawl_text", "web_records", "web_tables", "by_language", "archive")


def unpacked(path: Path) -> Any:
    """What a file holds, whichever release of a compressor packed it."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    if path.suffix == ".parquet":
        return pq.read_table(io.BytesIO(data))
    return data


def files(folder: Path) -> dict[str, Path]:
    made = [folder / "expected.jsonl", *sorted((folder / "sources").rglob("*"))]
    return {path.relative_to(folder).as_posix(): path for path in made if path.is_file()}


def test_make_sample_makes_the_files_that_are_shipped(tmp_path: Path) -> None:
    make_sample.make(tmp_path / "once")
    make_sample.make(tmp_path / "again")
    once, again, shipped = files(tmp_path / "once"), files(tmp_path / "again"), files(SAMPLE)
    assert once.keys() == shipped.keys()
    for name, path in once.items():
        assert path.read_bytes() == again[name].read_bytes(), name
        # Another release of zlib, zstd or Arrow may pack the same bytes otherwise.
        same = path.read_bytes() == shipped[name].read_bytes()
        assert same or unpacked(path) == unpacked(shipped[name]), name


def test_training_the_tokenizer_again_gives_the_one_that_is_shipped(tmp_path: Path) -> None:
    texts = (path.read_text(encoding="utf-8") for path in sorted((SAMPLE / "text").glob("*.txt")))
    train_tokenizer(texts, 4096, tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_bytes() == (SAMPLE / "tokenizer.json").read_bytes()


def test_the_sample_is_under_a_megabyte() -> None:
    sizes = [p.stat().st_size for p in SAMPLE.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(sizes) < 1_000_000


def test_every_language_has_three_documents_in_multilingual_web_and_one_in_reserve() -> None:
    places = dict(make_sample.prose_rows())
    for code in LANGUAGES:
        assert all(places[f"{code}.{n}"].source in MULTILINGUAL for n in (0, 1, 2)), code
        assert places[f"{code}.3"].source == "curated", code


def shingles(text: str, code: str) -> set[tuple[str, ...]]:
    """The language's shingles by the plainest means there are: white space, or characters."""
    language = LANGUAGES[code]
    units = text.split() if language.shingle_unit == "word" else list("".join(text.split()))
    size = language.shingle_size
    return {tuple(units[i : i + size]) for i in range(len(units) - size + 1)}


def test_near_duplicates_are_near_and_the_partial_copy_is_not() -> None:
    prose = make_sample.prose()
    for entry in yaml.safe_load((SAMPLE / "planted.yaml").read_text(encoding="utf-8")):
        if entry["planted"] not in ("near duplicate", "partial copy"):
            continue
        original = entry["copy"].split()[0].partition(":")[0]
        code = original.partition(".")[0]
        a = shingles(prose[original], code)
        b = shingles(str(make_sample.planted_text(entry, prose)), code)
        similar = len(a & b) / len(a | b)
        if entry["planted"] == "near duplicate":
            assert similar >= 0.85, (entry["key"], similar)
        else:
            assert similar < 0.7, (entry["key"], similar)


def build(stage: int, storage: Storage) -> Stage:
    recipe = load_recipe(SAMPLE / f"stage{stage}.yaml")
    dataset = recipe.pipeline_function()(recipe)
    return finish(recipe, dataset, run(dataset, storage, LocalExecutor(), Silent()), storage)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return Storage(str(tmp_path_factory.mktemp("sample")))


@pytest.fixture(scope="module")
def stage3(storage: Storage) -> Stage:
    return build(3, storage)


def answers(stage: Stage, storage: Storage) -> dict[tuple[str, str], list[Answer]]:
    """What `why` says of every document, by source and the name it is found by."""
    lookup = Lookup(stage, storage)
    found = defaultdict(list)
    for term, place in lookup.places(list({line["find"] for line in EXPECTED})):
        answer = lookup.answer(place)
        found[answer.source, term].append(answer)
    return found


def expected(sources: Any) -> dict[tuple[str, str], list[dict[str, Any]]]:
    lines = defaultdict(list)
    for line in EXPECTED:
        if line["source"] in sources:
            lines[line["source"], line["find"]].append(line)
    return lines


def differences(
    wanted: dict[tuple[str, str], list[dict[str, Any]]], found: dict[tuple[str, str], list[Answer]]
) -> Iterator[str]:
    for key, lines in wanted.items():
        got = sorted((a.verdict, a.reason or "") for a in found[key])
        want = sorted((line["verdict"], line.get("reason", "")) for line in lines)
        right = len(got) == len(want) and all(
            g[0] == w[0] and w[1] in ("", g[1]) for g, w in zip(got, want, strict=True)
        )
        if not right and not (len(got) == 1 and got[0][1] == lines[0].get("or")):
            yield f"{key}: expected {want}, got {got}"


def test_every_document_of_stage_3_ends_as_expected(stage3: Stage, storage: Storage) -> None:
    wanted = expected(Lookup(stage3, storage).part_of)
    found = answers(stage3, storage)
    assert list(differences(wanted, found)) == []
    assert sum(len(lines) for lines in wanted.values()) == stage3.books.read


def test_a_dropped_copy_names_the_one_that_stays(stage3: Stage, storage: Storage) -> None:
    lookup = Lookup(stage3, storage)
    pairs = [line for line in EXPECTED if "duplicate_of" in line]
    assert len(pairs) == 10
    for line in pairs:
        ((_, place),) = lookup.places([line["find"]])
        named = lookup.answer(place).duplicate_of
        assert named is not None
        ((_, kept),) = lookup.places([line["duplicate_of"]])
        assert list(lookup.places([named])) == [(named, kept)]
        assert lookup.answer(kept).verdict == KEPT


def test_the_books_of_stage_3_balance_and_show_every_language(stage3: Stage) -> None:
    assert stage3.complete
    assert stage3.balanced
    kept = Counter[str]()
    for count in stage3.counts:
        if count.outcome == KEPT:
            kept[count.language] += count.documents
    assert set(kept) == set(LANGUAGES)
    assert min(kept.values()) >= 3


def test_the_stages_in_order_take_every_document_at_most_once(stage3: Stage, storage: Storage) -> None:
    taken = Counter[str]()
    curated = 0
    for number in (1, 2, 3, 4):
        stage = build(number, storage)
        assert stage.balanced
        assert stage.books.kept > 0
        for shard in stage.shards:
            taken.update(storage.read_table(shard["lineage"], ["id"])["id"].to_pylist())
            curated += shard["documents"] if shard["part"] == "multilingual_curated" else 0
    assert set(taken.values()) == {1}
    assert curated == len(LANGUAGES)
