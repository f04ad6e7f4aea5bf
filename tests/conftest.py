"""What tests share: the checkout, a folder of real documents where there is one, and a store like S3."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import settings

from marco_data import child
from marco_data.languages import know
from marco_data.s3 import S3

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def shipped_languages() -> Iterator[None]:
    """What a recipe of one test adds to the languages, the next test does not know."""
    yield
    know(())


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster in threads of this process makes no worker of it, which might end itself."""
    monkeypatch.setattr(child, "_may_end", False)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder that MARCO_TEST_DATA names; tests that want it are skipped where it is unset."""
    folder = os.environ.get("MARCO_TEST_DATA")
    if not folder:
        pytest.skip("MARCO_TEST_DATA is not set: it names a folder of real documents")
    return Path(folder)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Callable[[str], str]]:
    """An S3 server of moto's in this process, and a way to make a bucket on it."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")

        def make(name: str) -> str:
            client.create_bucket(Bucket=name)
            return f"s3://{name}/lake"

        yield make
        client.close()
        S3.clear_instance_cache()  # the next server is at another place
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()
