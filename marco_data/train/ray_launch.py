"""A training run on a Ray cluster: one torchrun on each node, and all of them again where a node was lost.

In come how many nodes and GPUs it takes and the words of `marco-data train`; out comes an exit status. What is wrong
with data, recipe or layout stops it before the cluster is asked for anything. A node that is taken away ends the
attempt, and the next goes on from the newest checkpoint as soon as there are as many nodes again. Knows neither models
nor data nor ranks: a rank is `marco-data train` under torchrun, as it is anywhere else.

  python -m marco_data.train.ray_launch --nodes 4 --gpus-per-node 8 1-4 --family marco-mini --root ROOT --ep 8
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marco_data.cluster.ray_environment import set_ray_environment

set_ray_environment()  # before what reads it is imported

import ray  # noqa: E402
from ray.exceptions import RayError  # noqa: E402
from ray.util.placement_group import placement_group, remove_placement_group  # noqa: E402
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # noqa: E402

SHUTDOWN_SECONDS = 110
"""From SIGTERM to the end of a node's ranks, as in train.slurm: a step, and a checkpoint written."""

PID_FILE = "MARCO_TORCHRUN_PID"
"""Names a file for torchrun's process number, for a pod's `preStop`, which has to know whom to stop."""


class Node:
    """The torchrun of one node."""

    def __init__(self) -> None:
        self._run: subprocess.Popen[bytes] | None = None

    def address(self) -> str:
        """Where the others can meet this node: a port that was free a moment ago."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"  # type: ignore[no-untyped-call]

    def run(self, words: Sequence[str], folder: str) -> int:
        """Run torchrun to its end, and say how it ended. It ends in order when this process dies."""
        alone = ("setpriv", "--pdeathsig", "TERM")
        self._run = subprocess.Popen([*alone, sys.executable, "-m", "torch.distributed.run", *words], cwd=folder)
        if file := os.environ.get(PID_FILE):
            Path(file).write_text(str(self._run.pid))
        return self._run.wait()

    def stop(self) -> None:
        """Ask for a checkpoint and the end."""
        if self._run is not None:
            self._run.terminate()


class Launch:
    """A run's attempts, one after another."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.asked = False  # to end, by whoever stops the job

    def newest(self) -> str:
        """The newest checkpoint's name; empty before the first."""
        latest = self.folder / "latest"
        return latest.read_text("utf-8") if latest.exists() else ""

    def until_done(self) -> int:
        """Attempts until one ends well, or so many in a row made no checkpoint."""
        fruitless = 0
        while True:
            before = self.newest()
            if self.attempt():
                return 0
            if self.asked:
                _say("stopped; the same job goes on from its newest checkpoint")
                return 1
            fruitless = 0 if self.newest() != before else fruitless + 1
            if fruitless > self.options.restarts:
                _say(f"error: {fruitless} attempts in a row ended without a new checkpoint; the ranks' logs say why")
                return 1
            _say(f"an attempt ended early; starting again from {self.newest() or 'the beginning'}")

    def attempt(self) -> bool:
        """One torchrun a node; whether all of them ended well."""
        bundle = {"CPU": 1, "GPU": self.options.gpus_per_node}
        group = placement_group([{k: n for k, n in bundle.items() if n}] * self.options.nodes, "STRICT_SPREAD")
        nodes: list[Any] = []
        try:
            if not group.wait(self.options.wait):
                there = [node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
                _say(
                    f"error: no {self.options.nodes} nodes with {self.options.gpus_per_node} GPUs each were free "
                    f"within {self.options.wait} s; the nodes' GPUs: {there}"
                )
                return False
            nodes += [self._node(group, number) for number in range(self.options.nodes)]
            return self._ended_well(nodes, ray.get(nodes[0].address.remote(), timeout=self.options.wait))
        except RayError as error:
            _say(f"a node was lost: {str(error).splitlines()[0]}")
            return False
        finally:
            for node in nodes:
                ray.kill(node)
            remove_placement_group(group)

    def _node(self, group: Any, number: int) -> Any:
        return (
            ray.remote(Node)
            .options(
                num_cpus=1,
                num_gpus=self.options.gpus_per_node,
                max_concurrency=2,  # `stop` while `run` runs
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, number),
            )
            .remote()
        )

    def _ended_well(self, nodes: Sequence[Any], head: str) -> bool:
        address, port = head.rsplit(":", 1)
        words = [
            *("--nnodes", str(self.options.nodes), "--nproc-per-node", str(self.options.nproc_per_node)),
            *("--master-addr", address, "--master-port", port, "--shutdown-timeout", str(SHUTDOWN_SECONDS)),
        ]
        command = ("-m", "marco_data.cli", "train", *self.options.train)
        # By number: a meeting that is not told who is the first goes by host names, which need not be addresses.
        runs = [
            node.run.remote([*words, "--node-rank", str(number), *command], str(Path.cwd()))
            for number, node in enumerate(nodes)
        ]
        left, well = runs, True
        while left and well and not self.asked:
            done, left = ray.wait(left, timeout=1)
            well = all(_status(run) == 0 for run in done)
        if left:  # without the others they would wait; those that can still agree write a checkpoint
            for node in nodes:
                node.stop.remote()
            ray.wait(left, num_returns=len(left), timeout=SHUTDOWN_SECONDS + 10)
        return well and not self.asked


def _status(run: Any) -> int | None:
    try:
        return int(ray.get(run))
    except RayError:
        return None  # its node is gone


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Check the run, then start it on the cluster that `RAY_ADDRESS` names, or this job is of."""
    parser = argparse.ArgumentParser(prog="python -m marco_data.train.ray_launch", allow_abbrev=False)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--gpus-per-node", type=int, default=8, help="0 trains on processors")
    parser.add_argument("--nproc-per-node", type=int, help="default: a process for each GPU")
    parser.add_argument("--restarts", type=int, default=3, help="attempts in a row that may make no checkpoint")
    parser.add_argument("--wait", type=int, default=1800, help="seconds for the nodes to come")
    parser.add_argument("train", nargs=argparse.REMAINDER, help="the words of `marco-data train`")
    options = parser.parse_args(words)
    options.nproc_per_node = options.nproc_per_node or max(1, options.gpus_per_node)
    ranks = str(options.nodes * options.nproc_per_node)
    check = [sys.executable, "-m", "marco_data.cli", "train", *options.train, "--dry-run", "--ranks", ranks, "--json"]
    checked = subprocess.run(check, stdout=subprocess.PIPE, check=False)
    if checked.returncode:
        return checked.returncode
    launch = Launch(options, Path(json.loads(checked.stdout)["folder"]))
    ray.init(address="auto")

    def ask(_signal: int, _frame: Any) -> None:
        launch.asked = True

    signal.signal(signal.SIGTERM, ask)  # after Ray's own, which would end this process at once
    return launch.until_done()


if __name__ == "__main__":
    sys.exit(main())
