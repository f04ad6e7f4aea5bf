"""A stage that a server writes which fails in every way it can: the same shards, and no answer asked twice."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from fake_server import CUT_SHORT, GARBAGE, HUNG_UP, FakeServer, Reply, answered, refused
from generation_makers import model, rewriting
from roots import digests
from small_corpus import write_corpus, write_recipe

from marco_data.generation.generator import Request, Sampling

# A reply without a length may leave a socket of the fake server to the garbage collector, which warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def write(body: dict[str, Any]) -> str:
    """The same answers as the scripted model's."""
    said = body["messages"][-1]["content"]
    return model(Request((("user", said),), Sampling()))


def bad(number: int, body: dict[str, Any]) -> Reply | None:
    """The first try of each of the first calls fails, each in its own way."""
    ways = [refused(429, retry_after="0"), GARBAGE, HUNG_UP, CUT_SHORT, refused(503), Reply(body=b"{}"), refused(500)]
    return ways[number] if number < len(ways) else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_recipe(folder / "recipe.yaml", rewriting(write_corpus(folder / "corpus")))
    return folder


def build(folder: Path, root: str, pool: dict[str, Any]) -> dict[str, Any]:
    write_recipe(folder / "pools.yaml", {"tiny": pool})
    done = marco(
        *("build-stage", 3, "--recipe", folder / "recipe.yaml", "--root", folder / root, "--executor", "local"),
        *("--pools", folder / "pools.yaml", "--json"),
    )
    assert done.code == 0, done.err
    return dict(done.json)


@pytest.fixture(scope="module")
def scripted(folder: Path) -> dict[str, Any]:
    return build(folder, "scripted", {"kind": "scripted", "script": "generation_makers:model"})


def shards(folder: Path, root: str) -> dict[str, str]:
    return {name: digest for name, digest in digests(folder / root).items() if name.endswith((".bin", ".idx"))}


def test_garbage_storms_and_cut_connections_change_nothing(folder: Path, scripted: dict[str, Any]) -> None:
    with FakeServer(write, bad) as server:
        stats = build(folder, "served", {"kind": "endpoint", "url": server.url, "concurrency": 4})
        answers = Counter(server.calls)
    assert stats["balanced"]
    assert stats["requests"] == scripted["requests"]
    assert shards(folder, "served") == shards(folder, "scripted")
    # Seven tries failed; nothing that was answered was asked again.
    assert answers.total() == len(answers) + 7


def test_a_server_that_dies_and_comes_back_costs_only_what_was_under_way(
    folder: Path, scripted: dict[str, Any]
) -> None:
    server = FakeServer(write, delay=0.02)
    server.start()
    answered_before = threading.Event()

    def dies(number: int, body: dict[str, Any]) -> Reply | None:
        if number == 8:
            answered_before.set()
        return None

    server.fault = dies

    def restart() -> None:
        answered_before.wait()
        server.stop()
        server.start()

    killer = threading.Thread(target=restart)
    killer.start()
    try:
        stats = build(folder, "restarted", {"kind": "endpoint", "url": server.url, "concurrency": 4})
    finally:
        answered_before.set()
        killer.join()
        server.stop()
    assert stats["requests"] == scripted["requests"]
    assert shards(folder, "restarted") == shards(folder, "scripted")
    times = Counter(server.calls)
    assert times.total() - len(times) <= 4  # what was under way when it died


def test_a_wrong_key_stops_the_build_before_a_shard_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SERVER_KEY", "not-it-7f3a")
    with FakeServer(
        lambda body: "", lambda number, body: answered("x") if number > 99 else None, key="right"
    ) as server:
        pool = {"kind": "endpoint", "url": server.url, "key": "MODEL_SERVER_KEY"}
        write_recipe(folder / "pools.yaml", {"tiny": pool})
        done = marco(
            *("build-stage", 3, "--recipe", folder / "recipe.yaml", "--root", folder / "refused"),
            *("--executor", "local", "--pools", folder / "pools.yaml"),
        )
    assert done.code == 2
    assert "the server does not take this key" in done.err
    everything = (
        done.err
        + done.out
        + "".join(path.read_text("utf-8", "replace") for path in (folder / "refused").rglob("*") if path.is_file())
    )
    assert "not-it-7f3a" not in everything
