"""A driver killed while models write: nothing that was answered is asked again, and the bytes are the same."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from generation_makers import rewriting
from roots import digests
from small_corpus import write_corpus, write_recipe

RUN = "from marco_data.cli import main; main()"
KILLS = 6


def command(folder: Path, root: str, asked: str) -> list[str]:
    return [
        *(sys.executable, "-c", RUN, "build-stage", "3", "--recipe", str(folder / "recipe.yaml")),
        *("--root", str(folder / root), "--executor", "local", "--pools", str(folder / "pools.yaml")),
    ]


def environment(folder: Path, asked: str) -> dict[str, str]:
    here = Path(__file__).parents[1]
    path = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "ASKED": str(folder / asked), "PYTHONPATH": path}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_recipe(folder / "recipe.yaml", rewriting(write_corpus(folder / "corpus")))
    write_recipe(folder / "pools.yaml", {"tiny": {"kind": "scripted", "script": "generation_makers:slow_model"}})
    return folder


@pytest.mark.slow
def test_a_driver_killed_mid_shard_loses_no_answer_and_pays_none_twice(folder: Path) -> None:
    whole = subprocess.run(
        command(folder, "whole", "whole.txt"), env=environment(folder, "whole.txt"), capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    asked = folder / "asked.txt"
    asked.touch()
    kills = 0
    for more in range(1, KILLS + 1):
        goal = len(asked.read_text().splitlines()) + more
        running = subprocess.Popen(
            command(folder, "killed", "asked.txt"),
            env=environment(folder, "asked.txt"),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while running.poll() is None and len(asked.read_text().splitlines()) < goal:
            time.sleep(0.005)
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
            kills += 1
        running.wait()
    assert kills >= 3
    done = subprocess.run(
        command(folder, "killed", "asked.txt"), env=environment(folder, "asked.txt"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    times = Counter(asked.read_text().splitlines())
    assert times.keys() == set((folder / "whole.txt").read_text().splitlines())
    # What was under way when the process died was no answer yet: at most one request a kill.
    assert sum(times.values()) - len(times) <= kills
    assert digests(folder / "killed") == digests(folder / "whole")
