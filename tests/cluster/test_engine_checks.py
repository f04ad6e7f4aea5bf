"""The doctor's look at engines: what would end every request is told before a build, with its remedy."""

import importlib.metadata
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from command_line import marco

from marco_data.cluster.engine_checks import engines, environment, server
from marco_data.cluster.findings import FAIL, OK, WARN
from marco_data.generation.entry import Model
from marco_data.generation.pools import EndpointPool, ScriptedPool, VllmPool

KEY = "planted-key-0451"
MODELS = {"data": [{"id": "served-name"}, {"id": "another"}]}


class ModelServer:
    """Answers each GET with `status`, `body` and `headers`, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, json.dumps(MODELS).encode(), {}
        self.seen: list[tuple[str, str | None]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

            def do_GET(self) -> None:
                served.seen.append((self.path, self.headers.get("Authorization")))
                self.send_response(served.status)
                for name, value in {"Content-Length": str(len(served.body)), **served.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(served.body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def models() -> Iterator[ModelServer]:
    served = ModelServer()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.http.shutdown()
    thread.join()
    served.http.server_close()


def pool(url: str, **values: Any) -> EndpointPool:
    return EndpointPool(kind="endpoint", url=url, **values)


def test_a_server_that_has_the_model_is_ok_and_was_given_the_key(models: ModelServer, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", KEY)
    found = server("big", pool(models.url, key="MODEL_KEY"), "served-name")
    assert (found.level, found.remedy) == (OK, "")
    assert models.seen == [("/v1/models", f"Bearer {KEY}")]
    assert KEY not in found.says


@pytest.mark.parametrize(
    ("status", "body", "level", "says", "remedy"),
    [
        (200, json.dumps({"data": [{"id": "x"}]}), FAIL, "has no model `served-name`", "it has: x"),
        (401, "no", FAIL, "refuses the key", "is `MODEL_KEY` the key of this server?"),
        (500, "no", FAIL, "HTTP 500", "/chat/completions"),
        (404, "no", WARN, "does not tell its models", "/chat/completions"),
        (200, "<html>", WARN, "does not list its models", "OpenAI"),
    ],
)
def test_what_a_server_answers_is_told_with_a_remedy(models, monkeypatch, status, body, level, says, remedy):
    monkeypatch.setenv("MODEL_KEY", KEY)
    models.status, models.body = status, body.encode()
    found = server("big", pool(models.url, key="MODEL_KEY"), "served-name")
    assert found.level == level
    assert says in found.says
    assert remedy in found.remedy
    assert KEY not in found.says + found.remedy


def test_a_key_is_not_carried_to_where_a_server_points(models: ModelServer, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", KEY)
    models.status, models.headers = 302, {"Location": f"{models.url}/elsewhere"}
    assert server("big", pool(models.url, key="MODEL_KEY"), "served-name").level == FAIL
    assert [path for path, _ in models.seen] == ["/v1/models"]


def test_a_key_that_is_not_set_fails_before_anybody_is_asked(models: ModelServer, monkeypatch):
    monkeypatch.delenv("MODEL_KEY", raising=False)
    found = server("big", pool(models.url, key="MODEL_KEY"), None)
    assert (found.level, found.says) == (FAIL, "the variable `MODEL_KEY` is not set")
    assert models.seen == []


def test_a_server_that_is_not_there_fails():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = server("big", pool(f"http://127.0.0.1:{port}/v1"), None)
    assert (found.level, "does not answer: Connection refused" in found.says) == (FAIL, True)
    assert f"127.0.0.1:{port}" in found.remedy


def test_a_server_that_does_not_speak_http_fails():
    with socket.create_server(("127.0.0.1", 0)) as there:

        def greet() -> None:
            other, _ = there.accept()
            with other:
                other.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                other.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        found = server("big", pool(f"http://127.0.0.1:{there.getsockname()[1]}/v1"), None)
        thread.join()
    assert (found.level, "does not answer: SSH-2.0" in found.says) == (FAIL, True)


def interpreter(folder: Path, says: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return str(path)


def test_the_environment_of_vllm_is_told_by_its_version_or_by_what_it_lacks(tmp_path: Path):
    def look(python: str):
        return environment("big", VllmPool(kind="vllm", python=python))

    mine = importlib.metadata.version("ray")
    said = json.dumps({"vllm": "0.32.0", "ray": mine})
    whole = look(interpreter(tmp_path, f"echo '{said}'"))
    assert (whole.level, "vLLM 0.32.0" in whole.says) == (OK, True)
    other = look(interpreter(tmp_path, f"echo '{said.replace(mine, '1.0')}'"))
    assert (other.level, f"has ray 1.0, the cluster {mine}" in other.says) == (FAIL, True)
    lacking = look(interpreter(tmp_path, "echo \"ModuleNotFoundError: No module named 'vllm'\" >&2; exit 1"))
    assert (lacking.level, "No module named 'vllm'" in lacking.says) == (FAIL, True)
    assert "interpreter with vllm" in lacking.remedy
    assert look(str(tmp_path / "none")).level == FAIL


def test_engines_that_need_gpus_are_looked_at_where_there_are_some(tmp_path: Path):
    pools = {"big": VllmPool(kind="vllm", python=str(tmp_path / "none"))}
    assert list(engines(pools, {}, gpus=0)) == []
    assert [found.check for found in engines(pools, {}, gpus=1)] == ["vllm big"]


def test_a_function_in_the_place_of_a_model_is_imported(tmp_path: Path, monkeypatch):
    (tmp_path / "unfinished_script.py").write_text("def answer(request:\n")
    (tmp_path / "talking_script.py").write_text(f"raise ValueError('{KEY} is no key')\n")
    monkeypatch.setenv("MODEL_API_KEY", KEY)
    monkeypatch.syspath_prepend(str(tmp_path))
    pools = {
        "here": ScriptedPool(kind="scripted", script="json:dumps"),
        "gone": ScriptedPool(kind="scripted", script="json:no_such"),
        "talks": ScriptedPool(kind="scripted", script="talking_script:answer"),
        "unread": ScriptedPool(kind="scripted", script="unfinished_script:answer"),
    }
    told = list(engines(pools, {}, 0))
    assert [(found.check, found.level) for found in told] == [
        ("script gone", FAIL),
        ("script here", OK),
        ("script talks", FAIL),
        ("script unread", FAIL),
    ]
    assert [found.says for found in told if found.check == "script talks"] == ["ValueError: *** is no key"]


def test_the_model_is_the_recipes_where_the_pool_names_none(models: ModelServer):
    wanted = {"big": Model(model="served-name", revision="1")}
    (found,) = engines({"big": pool(models.url)}, wanted, 0)
    assert found.level == OK
    (found,) = engines({"big": pool(models.url, model="mine")}, wanted, 0)
    assert (found.level, "no model `mine`" in found.says) == (FAIL, True)


def test_the_command_looks_at_pools(models: ModelServer, tmp_path: Path):
    pools = tmp_path / "pools.yaml"
    pools.write_text(f"big: {{kind: endpoint, url: '{models.url}', model: none-of-these}}\n")
    done = marco("doctor", "--root", tmp_path / "root", "--pools", pools, "--json")
    assert done.code == 1
    (found,) = [f for f in done.lines if f["check"] == "endpoint big"]
    assert (found["level"], "it has: served-name, another" in found["remedy"]) == (FAIL, True)
