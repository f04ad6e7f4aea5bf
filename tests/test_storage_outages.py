"""Remote storage that is away for a while, refuses who asks, or lies: waited out, or told in words that help."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import marco
from faulty_s3 import FaultyServer, faulty
from small_corpus import as_recipe, build, recipe_values, write_corpus, write_recipe

from marco_data.errors import RecipeError, StorageUnreachable
from marco_data.execute import Silent
from marco_data.filesystems import RemoteFile, filesystem_of, opened, remote_file
from marco_data.prune import find
from marco_data.s3 import S3
from marco_data.storage import Storage
from marco_data.storage_counts import COUNTS

HASTE = 50


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause HASTE times shorter: an outage of 30 s is one of 0.6 s."""
    monkeypatch.setattr(S3, "first_pause", S3.first_pause / HASTE)
    monkeypatch.setattr(S3, "longest_pause", S3.longest_pause / HASTE)


@pytest.fixture
def through(bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """A faulty server in the way of the bucket's, for as long as a `with` lasts; without faults, if none are named."""
    upstream = os.environ["AWS_ENDPOINT_URL"]

    @contextmanager
    def opened(**how: object) -> Iterator[FaultyServer]:
        with faulty(upstream, **{"kinds": (), "rate": 1.0} | how) as server, monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", server.url)
            S3.clear_instance_cache()
            yield server
        S3.clear_instance_cache()

    return opened


def test_one_request_waits_longer_than_an_outage_of_thirty_seconds():
    pauses = [S3(skip_instance_cache=True).pause(attempt) for attempt in range(1, S3.tries)]
    assert sum(least for least, _ in pauses) > 30
    assert sum(most for _, most in pauses) < 90
    S3.clear_instance_cache()


def test_an_outage_is_waited_out_and_a_person_told_of_it(hasty, through, bucket, capsys, monkeypatch):
    monkeypatch.setattr("faulty_s3.LET_THROUGH", 9)
    storage = Storage(bucket("outage"))
    with through(kinds=["503"]) as server:
        assert storage.create("b.json", b"2")
        assert storage.read("b.json") == b"2"
    assert server.faults["503"] == 16
    said = capsys.readouterr().err
    assert said.count("storage does not answer put_object of `outage/lake/b.json` (503") == 1
    assert said.count("storage does not answer") == 2


def test_a_server_that_is_started_again_at_its_place_is_found_again(hasty, through, bucket):
    storage = Storage(bucket("restarted"))
    with through() as server:
        port, upstream = server.server_address[1], server.upstream
        assert storage.create("a.json", b"1")
    before, done = COUNTS.copy(), threading.Event()

    def refused() -> int:
        return COUNTS.since(before).retries["EndpointConnectionError"]

    def later() -> None:
        while refused() < 2 and not done.wait(0.01):
            pass
        with faulty(upstream, kinds=(), port=port):
            done.wait(60)

    thread = threading.Thread(target=later)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        S3.clear_instance_cache()
        assert storage.read("a.json") == b"1"
    assert refused() >= 2
    done.set()
    thread.join()
    S3.clear_instance_cache()


def test_a_body_that_only_trickles_is_asked_for_again(hasty, through, bucket, monkeypatch):
    monkeypatch.setattr(S3, "grace", 0.5)
    monkeypatch.setattr(S3, "slowest", 1 << 20)
    root = bucket("trickle")
    Storage(root).create("a.json", bytes(1000))
    before = COUNTS.copy()
    with through(kinds=["trickle"]) as server:
        assert Storage(root).read("a.json") == bytes(1000)
    assert server.faults["trickle"] == 2
    assert COUNTS.since(before).retries["TimeoutError"] == 2


def test_a_body_with_a_flipped_bit_is_told_by_its_checksum_and_asked_for_again(hasty, through, bucket):
    root, data = bucket("flipped"), b'{"records": 1}'
    Storage(root).create("a.json", data)
    with through(kinds=["flipped"]) as server:
        assert Storage(root).read("a.json") == data
    assert server.faults["flipped"] == 2


def test_an_upload_that_conflicts_at_its_end_is_sent_again(hasty, through, bucket, tmp_path: Path):
    root, data = bucket("conflict"), os.urandom(1 << 20) * 40
    (tmp_path / "x.partial").write_bytes(data)
    with through(kinds=["conflict"]) as server:
        file = Storage(root).commit(tmp_path / "x.partial", "shards/a", ".bin")
    assert server.faults["conflict"] == 2
    assert Storage(root).read(file.path) == data


def test_of_an_upload_whose_last_reply_was_lost_nothing_is_sent_twice(hasty, through, bucket, tmp_path: Path):
    root, data = bucket("completed"), os.urandom(1 << 20) * 40
    (tmp_path / "x.partial").write_bytes(data)
    with through(kinds=["lost_reply"], rate=0.0) as server:
        server.fault = lambda method, path, stretch: (  # type: ignore[method-assign]
            "lost_reply" if method == "POST" and "uploadId=" in path else None
        )
        before = COUNTS.copy()
        file = Storage(root).commit(tmp_path / "x.partial", "shards/a", ".bin")
    assert COUNTS.since(before).requests["upload_part"] == 3
    assert Storage(root).read(file.path) == data


def test_a_file_that_is_written_piece_by_piece_is_tried_again_too(hasty, through, bucket):
    root, data = bucket("pieces"), os.urandom(1 << 20) * 12
    with through(kinds=["503"]) as server:
        filesystem, path = filesystem_of(f"{root}/index", "cannot write")
        with filesystem.open(path, "wb", block_size=5 << 20) as out:
            for start in range(0, len(data), 1 << 20):
                out.write(data[start : start + (1 << 20)])
    assert server.faults["503"] >= 6
    with opened(f"{root}/index") as file:
        assert file.read() == data


def test_uploads_that_killed_workers_left_are_ended_below_the_root_and_nowhere_else(bucket):
    import boto3

    bucket("left")
    client = boto3.client("s3")
    for key in ("root/shards/a.bin", "root/shards/b.bin", "rooted/c.bin"):
        client.create_multipart_upload(Bucket="left", Key=key)
    storage = Storage("s3://left/root")
    assert storage.unfinished_uploads(0.0) == []
    found = storage.unfinished_uploads(time.time())
    assert [key for key, _ in found] == ["root/shards/a.bin", "root/shards/b.bin"]
    storage.end_uploads([*found, found[0]])
    assert [u["Key"] for u in client.list_multipart_uploads(Bucket="left")["Uploads"]] == ["rooted/c.bin"]
    client.close()


@pytest.mark.parametrize("kind", ["forbidden", "unconditional"])
def test_where_uploads_may_not_be_listed_pruning_says_so_and_goes_on(kind, hasty, through, bucket):
    root = bucket(f"unlisted-{kind}")
    with through() as server:
        server.fault = lambda method, path, stretch: kind if "uploads" in path else None  # type: ignore[method-assign]
        found = find(Storage(root), [], time.time())
    assert len(found.notes) == 1
    assert found.notes[0].startswith("uploads that were never completed cannot be listed: ")


def test_what_another_created_and_removed_again_at_that_moment_was_there(hasty, through, bucket):
    storage = Storage(bucket("lease"))
    storage.create("runs/leases/a.json", b"theirs")
    with through() as server:
        server.fault = lambda method, path, stretch: "gone" if method == "HEAD" else None  # type: ignore[method-assign]
        assert not storage.create("runs/leases/a.json", b"mine")
    assert server.faults["gone"] == 1


def test_of_many_deletions_one_that_failed_is_tried_again_or_told(hasty, through, bucket):
    storage = Storage(bucket("undeleted"))
    paths = [f"{name}.json" for name in "abc"]
    with through() as server:
        for path in paths:
            storage.create(path, b"1")

        def fails(kind: str, times: int) -> None:
            server.fault = lambda method, path, stretch: (  # type: ignore[method-assign]
                kind if "delete" in path and server.faults[kind] < times else None
            )

        fails("locked", 1)
        with pytest.raises(PermissionError, match=r"delete_objects of `undeleted/.*AccessDenied"):
            storage.remove_many(paths)
        assert len(storage.below("")) == 3
        fails("undeleted", 2)
        storage.remove_many(paths)
        assert server.faults["undeleted"] == 2
        assert storage.below("") == []


def test_credentials_that_are_too_old_at_the_last_try_are_told_as_such(hasty, through, bucket, monkeypatch):
    storage = Storage(bucket("late"))
    monkeypatch.setattr(S3, "tries", 1)
    with through(kinds=["expired"]), pytest.raises(RecipeError, match="credentials for `late` have expired"):
        storage.create("a.json", b"1")


def test_credentials_that_were_renewed_in_their_file_are_read_again(
    hasty, through, bucket, tmp_path: Path, monkeypatch
):
    keys = tmp_path / "credentials"
    storage = Storage(bucket("renewed"))

    def write(key: str) -> None:
        keys.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret-{key}\n")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    write("FIRST")
    with through() as server:
        server.good_key = "FIRST"
        for name, data in (("a", b"1"), ("b", b"2"), ("c", b"3")):
            assert storage.create(f"{name}.json", data)
        server.good_key = "SECOND"
        with pytest.raises(RecipeError, match="credentials for `renewed` have expired") as told:
            storage.read("a.json")
        assert "the same command goes on where this one stopped" in str(told.value)
        assert "secret-FIRST" not in str(told.value)
        write("SECOND")
        assert storage.read_many(["a.json", "b.json", "c.json"]) == [b"1", b"2", b"3"]
        server.good_key = "THIRD"
        write("THIRD")
        assert RemoteFile(storage.uri("a.json"), 1) == remote_file(storage.uri("a.json"))  # a HEAD, which names no code


@pytest.mark.parametrize(
    ("kind", "says", "remedy"),
    [
        ("unknown_key", "does not know the access key", "AWS_ACCESS_KEY_ID"),
        ("wrong_secret", "the secret key is not that of the access key", "AWS_SECRET_ACCESS_KEY"),
        ("other_region", "is not of region `us-east-1`", "AWS_DEFAULT_REGION"),
        ("unconditional", "cannot do put_object", "If-None-Match"),
        ("expired", "have expired", "renew them"),
    ],
)
def test_what_no_request_escapes_stops_a_build_before_it_starts_with_the_remedy(
    kind, says, remedy, through, bucket, tmp_path: Path
):
    root = bucket(kind.replace("_", "-"))
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(write_corpus(tmp_path / "in")) | {"languages": ["en"]})
    with through(kinds=[kind]):
        answer = marco("build-stage", 3, "--recipe", recipe, "--root", root)
    assert answer.code == 2
    assert says in answer.err
    assert remedy in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("command", [("stats", 3), ("ledger", 3), ("why", "x"), ("prune", "--keep", "sample/3")])
def test_a_misspelt_bucket_is_not_taken_for_an_empty_root(command, bucket):
    bucket("spelt")
    answer = marco(*command, "--root", "s3://mispelt/root")
    assert answer.code == 2
    assert "there is no bucket `mispelt`" in answer.err


def test_sources_in_a_bucket_that_is_not_there_are_a_mistake_of_the_recipe(bucket, tmp_path: Path):
    bucket("sources")
    values = recipe_values(write_corpus(tmp_path / "in"))
    values["sources"]["web"]["paths"] = ["s3://sorces/web/*.jsonl"]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    answer = marco("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out")
    assert answer.code == 2
    assert "there is no bucket `sorces`" in answer.err


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [("not a url", "no client for S3"), ("http://127.0.0.1:9", "is http://127.0.0.1:9 right and running?")],
)
def test_an_endpoint_that_is_none_is_told_with_its_name(endpoint, says, hasty, bucket, monkeypatch):
    root = bucket("endpoint")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(S3, "tries", 4)
    S3.clear_instance_cache()
    answer = marco("stats", 3, "--root", root)
    assert answer.code in (1, 2)
    assert says in answer.err
    S3.clear_instance_cache()


def test_without_credentials_a_person_is_told_where_they_are_looked_for(bucket, monkeypatch, tmp_path: Path):
    root = bucket("nobody")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3.clear_instance_cache()
    answer = marco("stats", 3, "--root", root)
    assert answer.code == 2
    assert "no credentials for `nobody/" in answer.err
    assert "AWS_ACCESS_KEY_ID" in answer.err
    S3.clear_instance_cache()


class OutageAt(Silent):
    """Storage goes away whenever a node begins."""

    def __init__(self, server: FaultyServer, seconds: float) -> None:
        self.server, self.seconds = server, seconds

    def node(self, node: object, tasks: int, pending: int) -> None:
        self.server.outage(self.seconds)


def built_through_outages(through, root: str, tmp_path: Path, seconds: float, *, often: bool) -> FaultyServer:
    from marco_data.execute import LocalExecutor, run
    from marco_data.stage import finish

    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "in")) | {"languages": ["en", "bn"]})
    here = build(recipe, tmp_path / "out")
    with through() as server:
        storage, dataset = Storage(root), recipe.pipeline_function()(recipe)
        progress = OutageAt(server, seconds)
        if not often:
            server.outage(seconds)
        result = run(dataset, storage, LocalExecutor(), progress if often else Silent())
        there = finish(recipe, dataset, result, storage)
    assert there == here.stage
    storage = Storage(root)
    for entry in storage.below(""):
        if not entry.path.startswith("runs/"):
            assert storage.read(entry.path) == (tmp_path / "out" / entry.path).read_bytes(), entry.path
    return server


@pytest.mark.slow
def test_a_build_with_an_outage_at_the_start_of_every_node_leaves_the_same_bytes(
    hasty, through, bucket, tmp_path: Path
):
    server = built_through_outages(through, bucket("outages"), tmp_path, 30 / HASTE / 4, often=True)
    assert server.faults["outage"] > 20


@pytest.mark.slow
def test_a_build_with_an_outage_of_thirty_seconds_leaves_the_same_bytes(through, bucket, tmp_path: Path):
    began = time.monotonic()
    server = built_through_outages(through, bucket("real-outage"), tmp_path, 30.0, often=False)
    assert time.monotonic() - began > 30
    assert server.faults["outage"] >= 5


def test_where_storage_stays_away_the_run_ends_with_the_request_and_the_remedy(hasty, through, bucket, monkeypatch):
    root = bucket("away")
    monkeypatch.setattr(S3, "tries", 3)
    with through() as server:
        server.outage(60)
        with pytest.raises(StorageUnreachable, match=r"put_object of `away/lake/x` in 3 tries") as told:
            Storage(root).replace("x", b"")
        assert f"is {server.url} right and running?" in str(told.value)
