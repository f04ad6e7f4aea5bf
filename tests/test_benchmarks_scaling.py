"""The benchmark of the whole pass: what it times is the pass, and its table has every line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling import measure, times
from marco_data.execute import LocalExecutor

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, documents: int) -> Path:
    path.write_text("".join(json.dumps({"text": f"Document number {n}."}) + "\n" for n in range(documents)))
    return path


def test_the_pass_runs_over_each_file_and_leaves_nothing_behind(tmp_path):
    files = [write(tmp_path / name, 3) for name in ("a.jsonl", "b.jsonl")]
    assert measure(files, LocalExecutor()) > 0
    assert sorted(tmp_path.iterdir()) == files


def test_every_executor_does_every_round_and_is_closed(tmp_path):
    files = [write(tmp_path / "a.jsonl", 3), write(tmp_path / "b.jsonl", 4)]
    executors = [LocalExecutor(), LocalExecutor(2)]
    one, two = times(files, files[:1], executors, 2)
    assert len(one.wall) == len(two.wall) == len(one.processor) == 2
    assert min(one.first, two.first, *one.wall, *two.wall) > 0
    assert executors[1].idle == []


@pytest.mark.slow
def test_the_command_prints_a_table():
    options = ["--shards", "2", "--megabytes", "0.2", "--repeats", "1", "--memory", "0.5"]
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    lines = [line for line in answer.stdout.splitlines() if line.startswith("| ")]
    for what in ("JSONL to shard", "1 worker takes, to 2", "Ray takes longer", "peak memory", "first document"):
        assert any(what in line for line in lines), what
