"""Remote storage that fails: what is read and committed through it is what it would be, or the error says why."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_s3 import FAULTS, FaultyServer, faulty
from small_corpus import as_recipe, build, recipe_values, write_corpus

from marco_data.errors import RecipeError, StorageUnreachable
from marco_data.s3 import S3
from marco_data.storage import Storage
from marco_data.storage_counts import COUNTS, StorageCounts

OF_PUTS = ("500", "503", "slow_down", "reset", "lost_reply")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3, "first_pause", 0.01)


@pytest.fixture
def through(bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """A faulty server in the way of the bucket's, for as long as a `with` lasts."""

    @contextmanager
    def opened(**how: object) -> Iterator[FaultyServer]:
        with faulty(os.environ["AWS_ENDPOINT_URL"], **how) as server, monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", server.url)
            S3.clear_instance_cache()
            yield server
        S3.clear_instance_cache()

    return opened


@pytest.mark.parametrize("kind", FAULTS)
def test_what_was_written_is_read_back_whatever_goes_wrong_twice(kind, through, bucket):
    root, data = bucket(f"twice-{kind.replace('_', '-')}"), bytes(range(256)) * 40
    before = COUNTS.copy()
    with through(rate=1.0, kinds=[kind]) as server:
        storage = Storage(root)
        assert storage.create("a/one.json", data)
        storage.replace("a/two.json", data)
        assert storage.read("a/one.json") == data
        buffer = bytearray(100)
        assert storage.read_stretches("a/two.json", [(50, memoryview(buffer))])
        assert bytes(buffer) == data[50:150]
        assert storage.names("a") == ["one.json", "two.json"]
        assert storage.read("a/none.json") is None
    assert server.faults[kind] > 0
    if kind != "slow_body":  # the HTTP client sends a request again, once, where an old connection breaks
        assert sum(COUNTS.since(before).retries.values()) >= server.faults[kind] / 2


def test_a_create_whose_reply_was_lost_knows_its_own_bytes_from_anothers(through, bucket):
    root = bucket("lost")
    Storage(root).create("record.json", b"theirs")
    with through(rate=1.0, kinds=["lost_reply"]) as server:
        assert Storage(root).create("own.json", b"mine")
        assert not Storage(root).create("record.json", b"mine")
    assert server.faults["lost_reply"] >= 2
    assert (Storage(root).read("own.json"), Storage(root).read("record.json")) == (b"mine", b"theirs")


@pytest.mark.parametrize("kind", OF_PUTS)
def test_an_upload_in_parts_appears_whole_whatever_goes_wrong(kind, through, bucket, tmp_path: Path):
    root, data = bucket(f"parts-{kind.replace('_', '-')}"), os.urandom(1 << 20) * 40
    (tmp_path / "x.partial").write_bytes(data)
    with through(rate=1.0, kinds=[kind]) as server:
        file = Storage(root).commit(tmp_path / "x.partial", "shards/a", ".bin")
    assert server.requests["POST"] >= 2
    assert server.faults[kind] > 0
    assert Storage(root).read(file.path) == data


class Asking(Counter[str]):
    """Requests to which another kind comes whenever somebody has looked at one, as from the beat of a lease."""

    def items(self):  # type: ignore[no-untyped-def]
        for kind, number in super().items():
            yield kind, number
            self[f"{kind} again"] = 1


def test_what_was_asked_is_told_while_another_thread_asks():
    counts = StorageCounts(Asking(put_object=3))
    assert counts.since(StorageCounts()).requests == {"put_object": 3}


def test_a_storage_that_never_answers_is_given_up_on_and_named(through, bucket, monkeypatch):
    root = bucket("never")
    monkeypatch.setattr(S3, "tries", 3)
    monkeypatch.setattr("faulty_s3.LET_THROUGH", 1000)
    with through(rate=1.0, kinds=["503"]) as server:
        with pytest.raises(StorageUnreachable, match=r"get_object of `never/lake/a\.json` in 3 tries.*503"):
            Storage(root).read("a.json")
        assert server.requests["GET"] == 3
        with pytest.raises(RecipeError, match="cannot write to the root"):
            Storage(root).check_writable()


def test_what_is_wrong_with_the_request_is_not_tried_again(through, bucket):
    bucket("permanent")
    with through(kinds=[]) as server:
        assert Storage("s3://permanent/root").read("none.json") is None
        assert server.requests == {"GET": 1}
        with pytest.raises(RecipeError, match="no bucket `no-such-bucket`"):
            Storage("s3://no-such-bucket/root").check_writable()


@pytest.mark.slow
def test_a_stage_built_through_faults_is_byte_for_byte_that_on_disk(through, bucket, tmp_path: Path):
    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "in")) | {"languages": ["en", "bn"]})
    here = build(recipe, tmp_path / "out")
    root = bucket("faults")
    with through(seed=7, rate=0.2) as server:
        there = build(recipe, root)
        for entry in there.storage.below(""):
            if not entry.path.startswith("runs/"):
                assert there.storage.read(entry.path) == (tmp_path / "out" / entry.path).read_bytes(), entry.path
    on_disk = {e.path for e in here.storage.below("") if not e.path.startswith("runs/")}
    assert {e.path for e in Storage(root).below("") if not e.path.startswith("runs/")} == on_disk
    assert set(server.faults) >= {"500", "503", "slow_down", "reset", "lost_reply", "reset_in_body", "cut_short"}
