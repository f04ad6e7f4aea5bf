"""`marco_data.storage`: commits appear whole and once, equal rows give equal bytes, on any root."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import as_recipe, build, recipe_values, write_corpus

from marco_data.errors import RecipeError, RetryableError
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.storage import ROW_GROUP_ROWS, DataFile, Storage, file_digest, write_parquet

FINAL = (".parquet", ".bin", ".idx")
SCHEMA = pa.schema([("name", pa.string()), ("words", pa.list_(pa.int32(), 2)), ("score", pa.float64())])


def rows(n: int) -> pa.Table:
    """n rows with repeated strings, a nested column and nulls."""
    return pa.table(
        {
            "name": [None if i % 7 == 0 else f"name-{i % 50}" for i in range(n)],
            "words": [[i, -i] for i in range(n)],
            "score": [None if i % 11 == 0 else i / 3 for i in range(n)],
        },
        schema=SCHEMA,
    )


@pytest.fixture(params=["folder", "file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "memory":
        yield Storage(f"memory://{tmp_path.name}")
        fsspec.filesystem("memory").store.clear()
    else:
        yield Storage(f"{'file://' if request.param == 'file' else ''}{tmp_path / 'root'}")


def test_what_was_written_is_read_back(storage: Storage):
    assert storage.read("a/b.json") is None
    assert not storage.exists("a/b.json")
    assert storage.names("a") == []
    assert storage.create("a/b.json", b"{}")
    storage.replace("a/c.json", b"[1]")
    storage.replace("a/c.json", b"[2]")
    assert storage.names("a") == ["b.json", "c.json"]
    assert storage.read_json("a/c.json") == [2]
    assert storage.exists("a/b.json")
    assert storage.uri("a/b.json") == f"{storage.root}/a/b.json"
    storage.remove("a/b.json")
    assert storage.names("a") == ["c.json"]


def test_create_does_nothing_where_something_is(storage: Storage):
    assert storage.create("record.json", b"first")
    assert not storage.create("record.json", b"second")
    assert storage.read("record.json") == b"first"


def test_of_many_that_create_one_file_at_once_one_succeeds(tmp_path: Path):
    storage = Storage(str(tmp_path))
    barrier = threading.Barrier(8)

    def attempt(number: int) -> list[int]:
        won = []
        for name in range(25):
            barrier.wait()
            if storage.create(f"records/{name}.json", b"%d" % number * 1000):
                won.append(name)
        return won

    with ThreadPoolExecutor(8) as pool:
        winners = list(pool.map(attempt, range(8)))
    assert sorted(name for won in winners for name in won) == list(range(25))
    for number, won in enumerate(winners):
        assert all(storage.read(f"records/{name}.json") == b"%d" % number * 1000 for name in won)
    assert list((tmp_path / "runs" / "tmp").iterdir()) == []


@pytest.mark.parametrize("how", ["create", "replace", "commit", "write_parquet"])
def test_a_reader_sees_a_file_whole_or_not_at_all(how: str, tmp_path: Path):
    storage, size, stop = Storage(str(tmp_path)), 1 << 20, threading.Event()
    table = pa.table({"data": [bytes([65 + i % 26]) * 1000 for i in range(1000)]})
    wrong: list[str] = []

    def look() -> None:
        while not stop.is_set():
            for path in [*tmp_path.glob("out/*")]:
                if how == "write_parquet":
                    pq.ParquetFile(path).close()  # raises where there is no footer yet
                elif path.stat().st_size != size:
                    wrong.append(f"{path.name}: {path.stat().st_size} bytes")

    def write(number: int) -> None:
        data = bytes([number]) * size
        if how == "create":
            storage.create(f"out/{number}", data)
        elif how == "replace":
            storage.replace("out/one", data)
        elif how == "commit":
            with storage.scratch() as folder:
                (folder / "x.partial").write_bytes(data)
                storage.commit(folder / "x.partial", "out/data", ".bin")
        else:
            write_parquet(storage, f"out/{number}", [table], table.schema)

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(look)
        for number in range(20):
            write(number)
        stop.set()
        seen.result()
    assert wrong == []
    assert any(tmp_path.glob("out/*"))


def test_a_commit_is_named_after_its_bytes(storage: Storage):
    with storage.scratch() as folder:
        (folder / "x").write_bytes(b"tokens")
        (folder / "y").write_bytes(b"index")
        bin_file = storage.commit(folder / "x", "shards/a", ".bin")
        idx_file = storage.commit(folder / "y", "shards/a", ".idx", digest=bin_file.digest)
    assert bin_file.path == f"shards/a.{bin_file.digest[:8]}.bin"
    assert idx_file.path == f"shards/a.{bin_file.digest[:8]}.idx"
    assert (bin_file.bytes, idx_file.bytes) == (6, 5)
    assert storage.read(idx_file.path) == b"index"
    assert not folder.exists()


def test_an_unfinished_scratch_folder_is_removed_when_its_work_raises(tmp_path: Path):
    storage = Storage(str(tmp_path))

    def fail() -> None:
        with storage.scratch() as folder:
            (folder / "half").write_bytes(b"x")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert list((tmp_path / "runs" / "tmp").iterdir()) == []


def test_a_commit_that_cannot_be_written_may_be_tried_again(tmp_path: Path):
    storage = Storage(str(tmp_path))
    (tmp_path / "out").write_text("a file where a folder should be")
    with storage.scratch() as folder:
        (folder / "x").write_bytes(b"1")
        with pytest.raises(RetryableError, match="writing `out/data"):
            storage.commit(folder / "x", "out/data", ".bin")


def test_a_root_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot write to the root"):
        Storage(str(tmp_path / "file")).check_writable()
    Storage(str(tmp_path / "new" / "root")).check_writable()
    assert (tmp_path / "new" / "root").is_dir()


# Equal rows, equal bytes


@given(cuts=st.lists(st.integers(0, 300), max_size=6), offset=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_equal_rows_give_equal_bytes_however_they_were_batched(cuts: list[int], offset: int):
    storage = Storage("memory://batching")
    whole = write_parquet(storage, "whole", [rows(300)], SCHEMA)
    edges = [0, *sorted(cuts), 300]
    table = rows(300 + offset).slice(0, 300) if offset % 2 else rows(300)
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    chunked = write_parquet(storage, "chunked", [pa.concat_tables(pieces)], SCHEMA)
    assert (chunked.digest, chunked.bytes, chunked.rows) == (whole.digest, whole.bytes, 300)


def test_a_slice_and_a_table_made_alone_write_the_same_bytes():
    storage = Storage("memory://slices")
    alone = write_parquet(storage, "alone", [pa.Table.from_pylist(rows(200).to_pylist()[57:143], SCHEMA)], SCHEMA)
    assert write_parquet(storage, "slice", [rows(200).slice(57, 86)], SCHEMA).digest == alone.digest


def test_each_table_has_its_own_row_groups_of_a_fixed_most(tmp_path: Path):
    storage = Storage(str(tmp_path))
    file = write_parquet(storage, "t", [rows(5), rows(ROW_GROUP_ROWS + 3), rows(0), rows(2)], SCHEMA)
    with storage.parquet(file.path) as parquet:
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    assert sizes == [5, ROW_GROUP_ROWS, 3, 2]
    assert file.rows == sum(sizes)


def test_a_flipped_byte_in_a_page_is_told_by_its_checksum(tmp_path: Path):
    storage = Storage(str(tmp_path))
    # What does not compress is stored as it is: only a checksum tells that it was changed.
    table = pa.table({"bytes": pa.array([xxhash.xxh3_128_digest(str(i).encode()) for i in range(1000)])})
    path = tmp_path / write_parquet(storage, "t", [table], table.schema).path
    assert pq.ParquetFile(path, page_checksum_verification=True).read() == table
    data = bytearray(path.read_bytes())
    data[8000] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


@pytest.mark.parametrize("groups", [[], [rows(0)]], ids=["no tables", "an empty table"])
def test_a_file_without_rows_has_its_schema(groups: list[pa.Table], tmp_path: Path):
    storage = Storage(str(tmp_path))
    file = write_parquet(storage, "empty", groups, SCHEMA)
    assert storage.read_table(file.path).schema.equals(SCHEMA)
    assert (file.rows, storage.read_table(file.path).num_rows) == (0, 0)
    assert file.digest == file_digest(tmp_path / file.path)


def test_a_parquet_file_says_nothing_of_when_and_where_it_was_written(tmp_path: Path):
    files = [write_parquet(Storage(str(tmp_path / name)), "t", [rows(9)], SCHEMA) for name in ("a", "b")]
    assert files[0] == files[1]
    assert pq.read_metadata(tmp_path / "a" / files[0].path).metadata.keys() <= {b"ARROW:schema"}


# Whole builds


@dataclass(frozen=True)
class Watched(Storage):
    """A root that notes every name in its scratch space whenever something is about to be published."""

    seen: set[str] = field(default_factory=set, compare=False)

    def commit(self, finished: Path, *args, **kwargs) -> DataFile:
        self.seen.update(path.name for path in Path(self.root, "runs").rglob("*"))
        return super().commit(finished, *args, **kwargs)


def test_nothing_unfinished_is_called_like_something_finished(tmp_path: Path):
    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "in")))
    storage = Watched(str(tmp_path / "out"))
    assert run(recipe.pipeline_function()(recipe), storage, LocalExecutor(), Silent()).complete
    assert storage.seen
    assert [name for name in storage.seen if name.endswith(FINAL)] == []
    assert [path for path in (tmp_path / "out" / "runs").rglob("*") if path.name.endswith(FINAL)] == []


def same_build(storage: Storage, local: Storage, prefixes: list[str]) -> None:
    for prefix in prefixes:
        for suffix in (".bin", ".idx"):
            assert storage.read(prefix + suffix) == local.read(prefix + suffix)


def test_a_stage_built_in_memory_is_byte_for_byte_that_on_disk(tmp_path: Path):
    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "in")))
    there = build(recipe, "memory://results/of/a/build")
    here = build(recipe, tmp_path / "out")
    assert there.stage == here.stage
    assert there.stage.balanced
    same_build(there.storage, here.storage, [s["prefix"] for s in here.stage.shards])
    assert set(build(recipe, "memory://results/of/a/build").run.ran.values()) == {0}


def test_on_s3_of_two_that_create_one_succeeds(bucket: Callable[[str], str]):
    storage = Storage(bucket("create"))
    assert storage.create("a/record.json", b"first")
    assert not storage.create("a/record.json", b"second")
    assert storage.read("a/record.json") == b"first"
    assert storage.read("a/none.json") is None


def test_files_that_go_while_a_folder_is_listed_are_left_out(tmp_path: Path):
    storage, over = Storage(str(tmp_path)), threading.Event()
    storage.create("runs/kept/a.json", b"1")

    def notes() -> None:
        while not over.is_set():
            for number in range(20):
                storage.replace(f"runs/{number}/note.json", b"")
            storage.remove_many([f"runs/{number}/note.json" for number in range(20)])

    thread = threading.Thread(target=notes)
    thread.start()
    try:
        for _ in range(300):
            assert "runs/kept/a.json" in [entry.path for entry in storage.below("runs")]
    finally:
        over.set()
        thread.join()


def test_on_s3_what_another_process_wrote_is_seen_at_once(bucket: Callable[[str], str]):
    import boto3

    storage = Storage(bucket("fresh"))
    storage.create("a/mine.json", b"1")
    assert storage.names("a") == ["mine.json"]
    client = boto3.client("s3")
    client.put_object(Bucket="fresh", Key="lake/a/theirs.json", Body=b"2")
    client.close()
    assert storage.read("a/theirs.json") == b"2"
    assert storage.exists("a/theirs.json")
    assert storage.names("a") == ["mine.json", "theirs.json"]
    assert not storage.create("a/theirs.json", b"3")


def test_a_stage_built_on_s3_is_byte_for_byte_that_on_disk(bucket: Callable[[str], str], tmp_path: Path):
    corpus = write_corpus(tmp_path / "in")
    values = recipe_values(corpus) | {"languages": ["en", "bn"], "mixture": {"books": {"weight": 1}}}
    recipe = as_recipe(values)
    there = build(recipe, bucket("stage"))
    here = build(recipe, tmp_path / "out")
    assert there.stage == here.stage
    same_build(there.storage, here.storage, [s["prefix"] for s in here.stage.shards])
    assert set(build(recipe, there.storage.root).run.ran.values()) == {0}
