"""`marco-data train` from a built stage to checkpoints, by two processes that share the experts."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import marco

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])}


def run(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "marco_data.cli", "train", *map(str, words)]
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_dry_run_says_what_a_run_would_be_and_writes_nothing(root: Path):
    before = set(root.rglob("*"))
    done = run(3, "--root", root, "--dry-run", "--ranks", 2, "--ep", 2, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["data"]["iterations"] * 8 * 128 == said["data"]["tokens"] == sum(said["settings"]["schedule"]["tokens"])
    assert said["memory_bytes_per_gpu"] > 0
    assert set(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param((2,), "build-stage 2", id="a stage that is not built"),
        pytest.param((3, "--nproc", 3), "cannot be dealt to 3 ranks", id="ranks"),
        pytest.param((3, "--nproc", 2, "--ep", 32), "does not divide", id="ep"),
        pytest.param((3, "--family", "marco-mini-global"), "no training recipe", id="a family without a recipe"),
    ],
)
def test_what_is_wrong_is_told_before_a_process_is_started(root: Path, words, told):
    done = run(*words, "--root", root)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed here")
def test_without_torch_the_remedy_is_told(root: Path):
    done = run(3, "--root", root)
    assert done.returncode == 2
    assert "the trainer needs torch" in done.stderr
    assert ".[train]" in done.stderr


@pytest.mark.slow
def test_two_processes_train_and_what_a_batch_was_made_of_can_be_asked(root: Path):
    pytest.importorskip("torch")
    out = root.parent / "run"
    options = ("--root", root, "--out", out, "--ep", 2, "--log-every", 5, "--checkpoint-every", 10, "--json")
    done = run(3, *options, "--nproc", 2, "--stop-after", 20)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) | {"loss": 0} == {
        "folder": str(out),
        "iteration": 20,
        "finished": False,
        "loss": 0,
    }
    lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["iteration"] for line in steps] == [5, 10, 15, 20]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3, "it learns"
    asked = marco("why", "--stage", 3, "--root", root, "--iteration", 20, "--run", out, "--json")
    assert asked.code == 0, asked.err
    documents = [json.loads(text) for text in asked.out.splitlines()]
    assert sum(document["tokens"] for document in documents) == 8 * (128 + 1)
