"""Training on a Ray cluster: two nodes of one machine, of which one is told to go and one is gone."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFEST = yaml.safe_load((ROOT / "infra" / "train-rayjob.yaml").read_text("utf-8"))
WORKERS = MANIFEST["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
WORKER = WORKERS["template"]["spec"]["containers"][0]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "50",  # of which it takes as many, beside other tests
}


def launch(*words: object, address: str, **options) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "marco_data.train.ray_launch", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, env=ENVIRONMENT | {"RAY_ADDRESS": address}, text=True, **pipes)


def test_what_is_wrong_is_told_before_the_cluster_is_asked(root: Path):
    process = launch("--nodes", 2, "--gpus-per-node", 0, 3, "--root", root, "--ep", 3, address="127.0.0.1:1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "expert parallelism over 3 does not divide 2 ranks" in said


def test_the_launcher_says_whether_its_cluster_asks_for_a_token():
    said = "import os, marco_data.train.ray_launch; print(os.environ['RAY_AUTH_MODE'])"
    for given, meant in (({}, "disabled"), ({"RAY_AUTH_MODE": "token"}, "token")):
        alone = {name: value for name, value in ENVIRONMENT.items() if name != "RAY_AUTH_MODE"} | given
        done = subprocess.run([sys.executable, "-c", said], env=alone, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == meant


def test_the_manifest_asks_for_the_nodes_that_the_launcher_takes():
    words = MANIFEST["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "marco_data.train.ray_launch"]
    options = dict(zip(words[3:7:2], words[4:7:2], strict=True))
    assert int(options["--nodes"]) == WORKERS["replicas"] == WORKERS["minReplicas"] == WORKERS["maxReplicas"]
    assert options["--gpus-per-node"] == WORKER["resources"]["limits"]["nvidia.com/gpu"]
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"ray=={MANIFEST['spec']['rayClusterSpec']['rayVersion']}\n" in pinned


def test_the_entrypoint_trains_what_there_is():
    from marco_data.cli_train_run import stage_numbers

    words = MANIFEST["spec"]["entrypoint"].split()[7:]
    assert stage_numbers(words[0]) == [1, 2, 3, 4]
    family = words[words.index("--family") + 1]
    assert (ROOT / "recipes" / family / "train.yaml").exists()


def test_a_pod_has_longer_to_leave_than_its_ranks_have_to_save():
    source = (ROOT / "marco_data" / "train" / "ray_launch.py").read_text("utf-8")
    seconds = int(re.search(r"^SHUTDOWN_SECONDS = (\d+)$", source, re.MULTILINE)[1])
    assert WORKERS["template"]["spec"]["terminationGracePeriodSeconds"] >= seconds + 30
    (name,) = re.findall(r'^PID_FILE = "(\w+)"$', source, re.MULTILINE)
    assert name in [row["name"] for row in WORKER["env"]]


class Machines:
    """A Ray cluster of processes here, whose nodes come and go."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster()
        self.nodes: list[Any] = []
        self._started(num_cpus=0)

    def add(self) -> None:
        pid = self.folder / f"torchrun-{len(self.nodes)}.pid"
        self.nodes.append(self._started(num_cpus=1, env_vars={"MARCO_TORCHRUN_PID": str(pid)}))

    def _started(self, **options: Any) -> Any:
        """A node gives up where its agent takes 15 s to start, as on a busy machine it may."""
        for left in reversed(range(5)):
            try:
                return self.cluster.add_node(object_store_memory=80 << 20, include_dashboard=False, **options)
            except Exception as error:
                if not left or "timed out during startup" not in str(error):
                    raise

    def tell_to_go(self, number: int) -> int:
        """As Kubernetes does before it takes a pod away."""
        env = os.environ | {"MARCO_TORCHRUN_PID": str(self.folder / f"torchrun-{number}.pid")}
        hook = WORKER["lifecycle"]["preStop"]["exec"]["command"]
        return subprocess.run(hook, env=env, timeout=180, check=False).returncode


@pytest.fixture
def machines(tmp_path: Path, monkeypatch) -> Iterator[Machines]:
    pytest.importorskip("torch")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as home:  # short: sockets
        for name, value in (ENVIRONMENT | {"RAY_TMPDIR": home}).items():
            monkeypatch.setenv(name, value)
        # Nodes as of a Ray without its dashboard, whose agents start sooner.
        monkeypatch.setitem(sys.modules, "ray.dashboard.optional_deps", None)
        started = Machines(tmp_path)
        try:
            for _ in range(2):
                started.add()
            yield started
        finally:
            started.cluster.shutdown()


def events(out: Path) -> list[dict]:
    file = out / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines() if line] if file.exists() else []


def reached(out: Path, iteration: int, process: "subprocess.Popen[str]", starts: int = 0) -> None:
    """Until a run has trained so far, and begun so often."""
    end = time.monotonic() + 180
    while True:
        told = events(out)
        begun = sum(row["event"] in ("start", "resume") for row in told)
        if begun >= starts and told and told[-1]["iteration"] >= iteration:
            return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, told[-1:]
        time.sleep(0.1)


@pytest.mark.slow
def test_a_run_goes_on_when_a_node_is_told_to_go_and_when_one_is_gone(root: Path, machines: Machines, tmp_path: Path):
    out = tmp_path / "run"
    words = ["--nodes", 2, "--gpus-per-node", 0, 3, "--root", root, "--out", out, "--ep", 2]
    words += ["--log-every", 1, "--checkpoint-every", 5]
    process = launch(*words, address=machines.cluster.address)
    try:
        reached(out, 7, process)
        assert machines.tell_to_go(0) == 0
        reached(out, 7, process, starts=2)
        asked_at = next(row for row in events(out) if row["event"] == "resume")["iteration"]
        assert asked_at % 5 or asked_at > 7, "from where it was asked to stop, not from the checkpoint before"
        reached(out, asked_at + 6, process)
        machines.cluster.remove_node(machines.nodes[1], allow_graceful=False)
        machines.add()
        reached(out, asked_at + 6, process, starts=3)
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said[-3000:]
    told = events(out)
    starts = [row for row in told if row["event"] in ("start", "resume")]
    assert [(row["ranks"], row["ep"]) for row in starts] == [(2, 2)] * 3
    steps = [row["iteration"] for row in told if row["event"] == "step"]
    assert sorted(set(steps)) == list(range(1, steps[-1] + 1))
