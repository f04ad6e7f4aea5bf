"""Killed in the middle of what is asked of S3, by the server's own knowledge of the moment; then done again."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_s3 import FaultyServer, serving
from roots import COMMAND, digests, environment
from small_corpus import recipe_values, write_corpus, write_recipe

from marco_data.storage import Storage

LOST = "lost_reply"


class KillingServer(FaultyServer):
    """Kills `victim` when it is asked for what `pattern` says, before it does that or when it has."""

    def __init__(self, upstream: str, pattern: str, when: str) -> None:
        super().__init__(upstream, seed=0, rate=0.0, kinds=())
        self.pattern, self.when, self.victim = re.compile(pattern), when, 0
        self.killed = False

    def fault(self, method: str, path: str, stretch: str) -> str | None:
        if self.killed or not self.victim or not self.pattern.search(f"{method} {path}"):
            return super().fault(method, path, stretch)
        if self.when == "before":
            self.kill()
            return "reset"
        return LOST

    def count(self, kind: str) -> None:
        super().count(kind)
        if kind == LOST:
            self.kill()

    def kill(self) -> None:
        self.killed = True
        os.kill(self.victim, signal.SIGKILL)


def killed(words: list[str], home: Path, pattern: str, when: str) -> None:
    """Run a command that is killed at a request."""
    with serving(KillingServer(os.environ["AWS_ENDPOINT_URL"], pattern, when)) as server:
        given = environment(home) | {"AWS_ENDPOINT_URL": server.url}
        process = subprocess.Popen(words, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        server.victim = process.pid
        told = process.communicate(timeout=300)[1].decode()
    assert process.returncode == -signal.SIGKILL, told


@pytest.mark.parametrize(
    ("pattern", "when"),
    [
        pytest.param(r"^PUT .*partNumber=2", "before", id="before its second part"),
        pytest.param(r"^POST .*uploadId=", "after", id="when it is complete and nobody was told"),
    ],
)
def test_an_upload_in_parts_is_there_whole_or_not_at_all_and_the_next_try_completes_it(
    pattern, when, bucket: Callable[[str], str], tmp_path: Path
):
    root = bucket(f"killed-{when}")
    data = bytes(range(256)) * (40 << 12)
    (tmp_path / "x.partial").write_bytes(data)
    line = f"""
from pathlib import Path
from marco_data.storage import Storage
Storage({root!r}).commit(Path({str(tmp_path / "x.partial")!r}), "shards/a", ".bin")
"""
    killed([sys.executable, "-c", line], tmp_path, pattern, when)
    left = [entry.path for entry in Storage(root).below("")]
    assert len(left) == (when == "after")
    file = Storage(root).commit(tmp_path / "x.partial", "shards/a", ".bin")
    assert [entry.path for entry in Storage(root).below("")] == [file.path]
    assert Storage(root).read(file.path) == data


@pytest.mark.slow
def test_a_build_on_s3_killed_at_requests_goes_on_to_the_bytes_of_one_on_disk(bucket, tmp_path: Path):
    recipe = write_recipe(tmp_path / "r.yaml", recipe_values(write_corpus(tmp_path / "corpus")))
    words = [*COMMAND, "build-stage", "3", "--recipe", str(recipe), "--executor", "local", "--root"]
    here = subprocess.run([*words, str(tmp_path / "here")], env=environment(tmp_path), capture_output=True, check=False)
    assert here.returncode == 0, here.stderr
    root = bucket("requests")
    for pattern, when in [
        (r"^PUT .*/measure-[0-9a-f]*/[^/]*parquet", "before"),
        (r"^PUT .*/measure-[0-9a-f]*/[^/]*\.json", "after"),
        (r"^PUT .*/decide-[0-9a-f]*/(?!manifest-)[^/]*\.json", "before"),
        (r"^PUT .*/dedup-[0-9a-f]*/records-", "after"),
        (r"^PUT .*/tokenize-[0-9a-f]*/manifest-", "before"),
        (r"^PUT .*/shards-.*\.idx", "before"),
        (r"^PUT .*/shards-[0-9a-f]*/manifest-", "after"),
        (r"^PUT .*/stages/", "before"),
    ]:
        killed([*words, root], tmp_path, pattern, when)
    last = subprocess.run([*words, root], env=environment(tmp_path), capture_output=True, check=False)
    assert last.returncode == 0, last.stderr
    storage = Storage(root)
    found = {entry.path for entry in storage.below("") if not entry.path.startswith("runs/")}
    assert found == set(digests(tmp_path / "here"))
    assert all(storage.read(path) == (tmp_path / "here" / path).read_bytes() for path in found)
    assert storage.names("runs/leases") == []
