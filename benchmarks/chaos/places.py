"""Where builds run while they are struck: processes here, a Ray cluster of several raylets, a head, a store over HTTP.

In: a mark for every process that is started, a home. Out: the command that builds a recipe in a root, and hands on what
can be struck there. Knows neither faults nor what is built.
"""

import importlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.processes import MARK, marked, send
from benchmarks.chaos.recipes import TESTS, of_tests
from benchmarks.chaos.schedule import HEAD, PROCESSES, RAY, S3
from marco_data.cluster.ray_environment import ASKED
from marco_data.storage import Storage

COMMAND = (sys.executable, "-c", "from marco_data.cli import main; main()")
STARTS = 5


def environment(mark: str, home: Path) -> dict[str, str]:
    """That of everything that is started: Ray's of a user who has never run it."""
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        MARK: mark,
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "300",
        "RAY_raylet_start_wait_time_s": "120",
        **ASKED,
    }


@dataclass
class Place:
    """`words` follow `build-stage N --recipe R --root ROOT`; a place with a cluster can lose parts of it."""

    mark: str
    environment: dict[str, str]
    words: tuple[str, ...] = ("--executor", "local", "--workers", "2")
    roots: str = ""  # where roots are, if not in a folder
    store: Any = None  # the tests' server in front of an S3 server, which can be gone for a while
    ray: "Raylets | None" = None
    heads: "Heads | None" = None

    def command(self, stage: int, recipe: Path, root: str) -> list[str]:
        if self.heads is not None:
            to = ("--address", self.heads.address, "--root", root, "--follow")
            return [*COMMAND, "submit", str(recipe), "--pools", str(recipe.with_name("pools.yaml")), *to]
        of = ("--recipe", str(recipe), "--root", root, "--pools", str(recipe.with_name("pools.yaml")), "--json")
        return [*COMMAND, "build-stage", str(stage), *of, *self.words]


@contextmanager
def place_of(kind: str, mark: str, home: Path) -> Iterator[Place]:
    """A place, and at the end nothing of it."""
    given = environment(mark, home)
    if kind == PROCESSES:
        yield Place(mark, given)
    elif kind == RAY:
        with raylets(given) as ray:
            yield Place(mark, given, ("--address", ray.address, "--workers", "4"), ray=ray)
    elif kind == HEAD:
        heads = Heads(given)
        try:
            yield Place(mark, given, heads=heads)
        finally:
            heads.close()
    else:
        assert kind == S3
        with store(given) as (roots, server):
            yield Place(mark, given, roots=roots, store=server)


@contextmanager
def store(given: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """A bucket of moto's over HTTP, by way of a server that can be gone; our own looks at it go straight there."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    moto = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    url = f"http://127.0.0.1:{moto.get_host_and_port()[1]}"
    key = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(key | {"AWS_ENDPOINT_URL": url})
    with of_tests("faulty_s3").faulty(url, kinds=()) as server:
        given.update(key | {"AWS_ENDPOINT_URL": server.url})
        client = importlib.import_module("boto3").client("s3")
        client.create_bucket(Bucket="chaos")
        try:
            yield "s3://chaos", server
        finally:
            client.close()
            importlib.import_module("marco_data.s3").S3.clear_instance_cache()
            moto.stop()


class Raylets:
    """A cluster of `ray.cluster_utils`: a head without CPUs, where drivers are, and two raylets that can be killed."""

    def __init__(self, given: dict[str, str]) -> None:
        self.mark = given[MARK]
        os.environ.update(given)  # raylets and workers get what this process has
        self.cluster: Any = importlib.import_module("ray.cluster_utils").Cluster()
        self._started(num_cpus=0)
        self.nodes = [self._started(num_cpus=1) for _ in range(2)]
        self.address = str(self.cluster.address)

    def _started(self, **options: Any) -> Any:
        """A raylet gives up where its agent takes too long to start, as on a busy machine it may."""
        for left in reversed(range(STARTS)):
            before = marked(self.mark)
            try:
                return self.cluster.add_node(object_store_memory=80 << 20, include_dashboard=False, **options)
            except Exception as error:
                for pid in marked(self.mark).keys() - before.keys():  # of a head that did not come up
                    send(pid, signal.SIGKILL)
                if not left or "timed out" not in str(error):
                    raise
        raise AssertionError("unreachable")

    def kill_one(self, pick: int) -> None:
        """One with all its workers, as a machine that is taken away; another comes in its place."""
        self.cluster.remove_node(self.nodes.pop(pick % len(self.nodes)), allow_graceful=False)
        self.nodes.append(self._started(num_cpus=1))


@contextmanager
def raylets(given: dict[str, str]) -> Iterator[Raylets]:
    before = dict(os.environ)
    ray = Raylets(given)
    try:
        yield ray
    finally:
        ray.cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


class Heads:
    """The head of a cluster with its job server, as the tests start it; `replace` loses all of it for another one."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given
        self.head = self._started()

    def _started(self) -> Any:
        head = of_tests("ray_head", "cluster").Head(variables={MARK: self.given[MARK]})
        return head.__enter__()

    @property
    def address(self) -> str:
        return str(self.head.address)

    def replace(self) -> None:
        """The job, its driver and its workers are gone with their machine; the next has another address."""
        self.head.lose()
        shutil.rmtree(self.head.home, ignore_errors=True)
        self.head = self._started()

    def close(self) -> None:
        self.head.__exit__()


def committed(root: str) -> int:
    """Records and manifests under a root."""
    if "://" not in root:
        return sum(1 for path in Path(root).glob("*/*.json") if not path.parts[-2].startswith(("runs", "stage")))
    return sum(
        e.path.endswith(".json") and e.path.count("/") == 1 and not e.path.startswith(("runs", "stage"))
        for e in Storage(root).below("")
    )
