"""The files under infra/ that start a run: the Slurm script with programs in place of Slurm's, and torchrun itself."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "infra" / "train.slurm"
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which srun runs its command here, with `python` a program that notes its words and waits."""
    programs = {
        "scontrol": f'if [ "$2" = job ]; then cat {tmp_path}/state 2>/dev/null || echo "JobId=77 JobState=RUNNING"\n'
        f'elif [ "$1" = show ]; then printf "n1\\nn2\\n"; else echo "$*" >> {tmp_path}/scontrol; fi',
        "srun": 'shift; exec "$@"',
        "scancel": f"kill -TERM $(cat {tmp_path}/pid)",
        "python": f'echo $$ > {tmp_path}/pid; echo "$*" > {tmp_path}/words\n'
        f'trap "touch {tmp_path}/saved; exit 1" TERM\n'
        f"for i in $(seq 200); do [ -e {tmp_path}/finish ] && exit $(cat {tmp_path}/finish); sleep 0.05; done; exit 9",
    }
    for name, body in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    known = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8"}
    known["SLURM_CPUS_PER_TASK"] = "32"
    return os.environ | known | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def started(slurm: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["bash", SCRIPT, "1-4", "--family", "marco-mini"], env=slurm)
    end = time.monotonic() + 20
    while not (folder / "words").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("code", [0, 2])
def test_every_node_starts_torchrun_and_the_job_ends_as_it_does(slurm, tmp_path, code):
    process = started(slurm, tmp_path)
    (tmp_path / "finish").write_text(str(code))
    assert process.wait(20) == code
    words = (tmp_path / "words").read_text()
    assert "--nnodes 2 --nproc-per-node 8" in words
    assert "--rdzv-endpoint n1:29500" in words
    assert words.endswith("-m marco_data.cli train 1-4 --family marco-mini\n")
    assert not (tmp_path / "scontrol").exists()


def test_notice_of_the_end_reaches_the_run_and_puts_the_job_in_the_queue_again(slurm, tmp_path):
    process = started(slurm, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"


def test_a_run_that_its_user_cancels_is_not_put_in_the_queue_again(slurm, tmp_path):
    (tmp_path / "state").write_text("JobId=77 JobState=CANCELLED by 1000")
    process = started(slurm, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) != 0
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "scontrol").exists()


def test_slurm_s_own_lines_are_well_formed_and_ask_for_what_the_script_relies_on():
    lines = re.findall(r"^#SBATCH (.*)$", SCRIPT.read_text(), re.MULTILINE)
    options = dict(re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line).groups() for line in lines)
    assert options["ntasks-per-node"] == "1"
    assert options["signal"] == "B:TERM@120"
    assert "requeue" in options


@pytest.mark.parametrize("name", ["infra/train.slurm", ".ci/run"])
def test_shellcheck_finds_nothing(name):
    program = shutil.which("shellcheck", path=ENVIRONMENT["PATH"])
    if program is None:
        pytest.skip("no shellcheck here: the extra `dev` has it")
    found = subprocess.run([program, ROOT / name], capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


def test_a_pod_s_hook_is_a_well_formed_script():
    import yaml

    program = shutil.which("shellcheck", path=ENVIRONMENT["PATH"])
    if program is None:
        pytest.skip("no shellcheck here: the extra `dev` has it")
    manifest = yaml.safe_load((ROOT / "infra" / "train-rayjob.yaml").read_text("utf-8"))
    worker = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    shell, option, script = worker["lifecycle"]["preStop"]["exec"]["command"]
    assert (shell, option) == ("bash", "-c")
    found = subprocess.run([program, "-s", "bash", "-"], input=script, capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


def torchrun_line() -> list[str]:
    """The words of the torchrun command that the trainer's page shows."""
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    (line,) = re.findall(r"^torchrun --.*?(?=\s+#|$)", text, re.MULTILINE)
    return shlex.split(line)


def test_the_documented_torchrun_command_is_what_slurm_starts():
    words = torchrun_line()
    script = SCRIPT.read_text()
    for option in [word for word in words if word.startswith("--n") or word.startswith("--rdzv")]:
        assert option in script
    assert words[words.index("-m") :][:3] == ["-m", "marco_data.cli", "train"]


@pytest.mark.slow
def test_the_documented_torchrun_command_trains_by_two_processes_here(root: Path, tmp_path: Path):
    pytest.importorskip("torch")
    words = torchrun_line()
    # One machine of two processors for four of eight GPUs; and the sample for Mini.
    for option, here in (("--nnodes", "1"), ("--nproc-per-node", "2"), ("--rdzv-endpoint", "localhost:0")):
        words[words.index(option) + 1] = here
    words = [*words[: words.index("train") + 1], "3", "--root", str(root), "--out", str(tmp_path / "run")]
    words += ["--ep", "2", "--stop-after", "2", "--json"]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (lines[0]["event"], lines[0]["ranks"], lines[0]["ep"]) == ("start", 2, 2)
    assert (tmp_path / "run" / "latest").read_text() == "iteration-00000002"
