"""The Slurm script of a build, with programs in place of Slurm's: first of Ray's too, then with two real raylets."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from metric_queries import queries, selectors
from roots import digests, environment
from small_corpus import build, recipe_values, write_corpus, write_recipe

from marco_data.cluster.metrics import COUNTERS, GAUGES

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "infra" / "build.slurm"
WORDS = ("3", "--recipe", "my recipe.yaml", "--root", "/shared/marco")

RAY_AND_BUILD = """
echo "$*" >> {place}/python
case "$*" in
    *secrets*) exec {python} "$@" ;;
    *ray.init*) [ ! -e {place}/never ] ;;
    *" start "*) [ ! -e {place}/never ] || exit 7
        echo $$ >> {place}/rays; trap 'exit 0' TERM; while sleep 0.05; do :; done ;;
    *build-stage*) trap 'touch {place}/told; exit 130' TERM
        touch {place}/build
        for i in $(seq 400); do [ -e {place}/finish ] && exit "$(cat {place}/finish)"; sleep 0.05; done; exit 9 ;;
esac
"""


def programs(place: Path, python: str) -> dict[str, str]:
    """A folder with Slurm's programs, which run everything here; the environment that has them first."""
    bodies = {
        "scontrol": f'if [ "$2" = job ]; then cat {place}/state 2>/dev/null || echo "JobId=77 JobState=RUNNING"\n'
        f'elif [ "$1" = show ]; then printf "localhost\\nother\\n"; else echo "$*" >> {place}/scontrol; fi',
        "srun": f'echo "$*" >> {place}/srun\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"',
        "python": python,
    }
    for name, body in bodies.items():
        path = place / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "1"}
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return given | slurm | {"PATH": path, "MARCO_SLURM_FOLDER": str(place / "own")}


def wait_for(path: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.02)


def gone(number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(number, 0)
        return False
    return True


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    return programs(tmp_path, RAY_AND_BUILD.format(place=tmp_path, python=sys.executable))


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_starts_ray_on_all_nodes_builds_and_ends_as_the_build_does(slurm, tmp_path, code):
    process = subprocess.Popen(["bash", SCRIPT, *WORDS], env=slurm)
    wait_for(tmp_path / "build")
    (tmp_path / "finish").write_text(str(code))
    assert process.wait(30) == code
    lines = (tmp_path / "srun").read_text().splitlines()  # steps begin side by side
    ((head,), (workers,), (driver,)) = (
        [line for line in lines if w in line] for w in (" --head ", "--exclude", "build-")
    )
    assert [w for w in ("--nodelist=localhost", "--dashboard-host=127.0.0.1") if w not in head] == []
    assert [w for w in ("--nodes=1 --exclude=localhost", "--address=") if w not in workers] == []
    (address,) = re.findall(r"--address=(\S+)", workers)
    assert driver.endswith(f"build-stage --address {address} {' '.join(WORDS)}")
    assert not (tmp_path / "scontrol").exists()


def test_nothing_of_ray_is_left_and_the_token_was_its_owner_s_alone(slurm, tmp_path):
    process = subprocess.Popen(["bash", SCRIPT, *WORDS], env=slurm)
    wait_for(tmp_path / "build")
    wait_for(tmp_path / "rays")
    (token,) = (tmp_path / "own").iterdir()
    value = token.read_text().strip()
    assert len(value) == 64
    assert token.stat().st_mode & 0o077 == 0
    while len(rays := (tmp_path / "rays").read_text().split()) < 2:
        time.sleep(0.02)
    (tmp_path / "finish").write_text("0")
    assert process.wait(30) == 0
    assert all(gone(int(number)) for number in rays)
    assert not token.exists()
    assert value not in (tmp_path / "srun").read_text() + (tmp_path / "python").read_text()


def test_notice_of_the_end_reaches_the_build_and_puts_the_job_in_the_queue_again(slurm, tmp_path):
    process = subprocess.Popen(["bash", SCRIPT, *WORDS], env=slurm)
    wait_for(tmp_path / "build")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert (tmp_path / "told").exists()
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"


def test_a_build_that_its_user_cancels_is_told_and_not_put_in_the_queue_again(slurm, tmp_path):
    (tmp_path / "state").write_text("JobId=77 JobState=CANCELLED by 1000")
    process = subprocess.Popen(["bash", SCRIPT, *WORDS], env=slurm)
    wait_for(tmp_path / "build")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert (tmp_path / "told").exists()
    assert not (tmp_path / "scontrol").exists()


def test_a_head_that_ends_at_once_ends_the_job_without_a_build(slurm, tmp_path):
    (tmp_path / "never").touch()
    done = subprocess.run(["bash", SCRIPT, *WORDS], env=slurm, capture_output=True, timeout=30, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "build").exists()


def test_slurm_s_own_lines_are_well_formed_and_ask_for_what_the_script_relies_on():
    lines = re.findall(r"^#SBATCH (.*)$", SCRIPT.read_text(), re.MULTILINE)
    options = dict(re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line).groups() for line in lines)
    assert options["ntasks-per-node"] == "1"
    assert options["signal"] == "B:TERM@120"
    assert {"requeue", "exclusive", "cpus-per-task"} <= set(options)


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("no shellcheck here: the extra `dev` has it")
    found = subprocess.run([program, SCRIPT], capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


def series(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """What the nodes serve that Ray's file for Prometheus names: (metric, labels)."""
    with suppress(OSError, ValueError):
        for group in json.loads((folder / "prom_metrics_service_discovery.json").read_text()):
            for target in group["targets"]:
                with suppress(OSError):
                    text = urllib.request.urlopen(f"http://{target}/metrics", timeout=5).read().decode()
                    for name, labels in re.findall(r"^(\w+)(?:{(.*)})? ", text, re.MULTILINE):
                        yield name, dict(re.findall(r'(\w+)="([^"]*)"', labels))


COUNT_ALL = """
import time, ray
from marco_data.cluster.metrics import COUNTERS, GAUGES, Meter
ray.init(address=ADDRESS, log_to_driver=False)
meter = Meter()
for name, (_, tags) in COUNTERS.items():
    meter.count(name, *["counted"] * len(tags))
for name, (_, tags) in GAUGES.items():
    meter.level(name, *["counted"] * len(tags), at=1)
meter.hand_over(now=True)
time.sleep(8)
"""


@pytest.mark.slow
def test_two_raylets_build_the_bytes_of_one_process_and_prometheus_sees_what_the_dashboard_asks_for(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    values["steps"]["quality"] = {
        "overrides": {"ben_Beng": {"min_words": 80}}
    }  # Bengali 1 has 70: something is dropped
    recipe = write_recipe(tmp_path / "r.yaml", values)
    build(recipe, tmp_path / "here")
    home = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")  # short: Ray keeps sockets in folders
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    job = str(1_000_000 + port)
    rays = Path("/tmp") / f"ray-{job}"
    given = programs(tmp_path, f'exec {sys.executable} "$@"') | {
        "HOME": home,
        "PYTHONPATH": environment(home)["PYTHONPATH"],
        "SLURM_JOB_ID": job,
        "MARCO_RAY_PORT": str(port),
        "RAY_metrics_report_interval_ms": "500",
        "RAY_agent_register_timeout_ms": "120000",
        "RAY_raylet_start_wait_time_s": "120",
    }
    process = subprocess.Popen(
        ["bash", SCRIPT, "3", "--recipe", recipe, "--root", tmp_path / "there"],
        env=given, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    counting = None
    try:
        while process.poll() is None:
            seen |= {(name, tuple(sorted(labels.items()))) for name, labels in series(rays)}
            if counting is None and (rays / "prom_metrics_service_discovery.json").exists():
                (workers,) = re.findall(r"--address (\S+)", (tmp_path / "srun").read_text()) or [None]
                if workers:
                    token = str(tmp_path / "own" / f"slurm-{job}.token")
                    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token}
                    code = COUNT_ALL.replace("ADDRESS", repr(workers))
                    counting = subprocess.Popen([sys.executable, "-c", code], env=given | auth)
            time.sleep(0.5)
        said = process.communicate()[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if counting is not None:
            counting.kill()
            counting.wait()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(rays, ignore_errors=True)
    assert process.returncode == 0, said[-3000:]
    data = [
        {path: d for path, d in digests(tmp_path / root).items() if not path.startswith("stages/")}
        for root in ("here", "there")
    ]
    assert data[0] == data[1]
    names = {name for name, _ in seen}
    assert {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES} <= names
    real = [(name, dict(labels)) for name, labels in seen if "counted" not in dict(labels).values()]
    unseen = {
        s.metric
        for expr in queries()
        for s in selectors(expr)
        if not any(name == s.metric and s.takes(labels) for name, labels in real)
    }
    nothing_to_count = ("engine", "marco_data_storage", "requests", "rejections", "gpus_utilization")
    assert {metric for metric in unseen if not any(word in metric for word in nothing_to_count)} <= {
        "ray_marco_data_shards_total",  # of those that failed: none
        "ray_marco_data_verdicts_total",  # of documents that failed: none
    }
    end = time.monotonic() + 60
    while left := [p for p in Path("/proc").glob("[0-9]*/cmdline") if f"/tmp/ray-{job}".encode() in _read(p)]:
        assert time.monotonic() < end, left  # Ray's helpers go a moment after it
        time.sleep(0.2)


def _read(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""
