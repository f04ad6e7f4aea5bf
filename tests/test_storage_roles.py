"""Credentials from a role server, of a machine or of a pod, that is slow, refuses for a moment, or is not there."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from faulty_s3 import serving

from marco_data.errors import RecipeError, StorageUnreachable
from marco_data.s3 import S3
from marco_data.storage import Storage
from marco_data.storage_counts import COUNTS


class RoleServer(ThreadingHTTPServer):
    """Refuses the next so many requests; takes `seconds` for the name of the role, once."""

    daemon_threads = True
    refuses, seconds, valid_for = 0, 0.0, timedelta(hours=6)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: RoleServer

    def do(self) -> None:
        if self.path.endswith("security-credentials/"):
            pause, self.server.seconds = self.server.seconds, 0.0
            time.sleep(pause)
        refused = self.server.refuses > 0
        self.server.refuses -= refused
        keys = {"AccessKeyId": "ROLE", "SecretAccessKey": "secret", "Token": "token", "Code": "Success"}
        keys["Expiration"] = (datetime.now(UTC) + self.server.valid_for).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"/latest/api/token": "abc", "/latest/meta-data/iam/security-credentials/": "a-role"}
        data = said.get(self.path, json.dumps(keys)).encode()
        self.send_response(503 if refused else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do

    def log_message(self, format: str, *values: object) -> None:
        """Nothing."""


@pytest.fixture
def roles(bucket: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RoleServer]:
    """This machine's only source of credentials, in a process that has had none yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_METADATA_SERVICE_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(S3, "signed", False)
    monkeypatch.setattr(COUNTS, "retries", Counter())
    monkeypatch.setattr(S3, "first_pause", 0.01)
    with serving(RoleServer(("127.0.0.1", 0), Handler)) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{server.url}/")
        S3.clear_instance_cache()
        yield server
    S3.clear_instance_cache()


def test_a_role_server_that_refuses_at_first_is_asked_again(roles, bucket):
    root = bucket("refused")
    roles.refuses = 5
    assert Storage(root).create("a.json", b"1")
    assert COUNTS.retries["NoCredentialsError"] > 0
    assert roles.refuses == 0
    assert S3.signed


def test_a_role_server_may_take_longer_than_a_second(roles, bucket):
    root = bucket("slow-role")
    roles.seconds = 1.3
    assert Storage(root).create("a.json", b"1")
    assert COUNTS.retries == {}


def test_the_role_server_of_a_pod_is_asked_again_at_the_start_and_when_it_renews_a_role(roles, bucket, monkeypatch):
    storage = Storage(bucket("pod"))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", roles.url)
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0.01)
    roles.valid_for = timedelta(minutes=5)  # so little that every request renews it
    for times in (1, 2):
        roles.refuses = 4  # three requests are one try
        assert storage.create(f"{times}.json", b"1")
        assert roles.refuses == 0
        assert COUNTS.retries["CredentialRetrievalError"] == times


def test_who_never_had_credentials_is_told_soon_and_who_had_them_waits_as_for_storage(
    roles, bucket, monkeypatch, capsys
):
    root = bucket("never-role")
    monkeypatch.setattr(S3, "longest_without", 0.0)
    roles.refuses = 10_000
    with pytest.raises(RecipeError, match=r"no credentials for `never-role/lake/a\.json`: Unable to locate") as told:
        Storage(root).create("a.json", b"1")
    assert COUNTS.retries == {}
    assert "AWS_ACCESS_KEY_ID" in str(told.value)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(S3, "signed", True)
    monkeypatch.setattr(S3, "tries", 3)
    with pytest.raises(StorageUnreachable, match="in 3 tries; the last: NoCredentialsError") as told:
        Storage(root).create("a.json", b"1")
    assert "role server" in str(told.value)
