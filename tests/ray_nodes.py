"""Several nodes of Ray on this machine, that tests start and kill: raylets of their own, all that a node is to Ray."""

import gc
import os
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from roots import environment

# The defaults need 25 s to believe that a node is dead; a busy machine needs some of them to believe that one is not.
HEALTH = {"health_check_period_ms": 1000, "health_check_timeout_ms": 5000, "health_check_failure_threshold": 3}


STARTS = 3  # as the executor's: a busy machine may be too slow for a raylet's 30 seconds


@contextmanager
def cluster(*modules: Path, **head: Any) -> Iterator[Any]:
    """A head with these resources, in a home of its own; `modules` are folders that its workers import from."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", ResourceWarning)  # Ray waits for no node that it kills
        for name, value in environment(home).items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([*map(str, modules), os.environ["PYTHONPATH"]]))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        import ray
        from ray.cluster_utils import Cluster

        for attempt in range(1, STARTS + 1):
            nodes = Cluster(shutdown_at_exit=False)
            try:
                nodes.add_node(include_dashboard=False, _system_config=HEALTH, **head)
                break
            except Exception:
                nodes.shutdown()
                if attempt == STARTS:
                    raise
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
            _end_all_of(home)
            # Not isinstance: it asks each object for its class, and one of torch answers with a warning.
            for process in [one for one in gc.get_objects() if issubclass(type(one), subprocess.Popen)]:
                process.poll()


def _end_all_of(home: str) -> None:
    """What a node that was too slow to start has left: Ray forgets it, its GCS and its dashboard too."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{home}/".encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def join(nodes: Any, **has: Any) -> Any:
    """Another node with these resources."""
    for _ in range(STARTS - 1):
        try:
            return nodes.add_node(**has)
        except Exception:  # it is Ray's own plain Exception
            continue
    return nodes.add_node(**has)
