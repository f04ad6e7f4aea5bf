"""The wheel holds all that the program needs and nothing else, and works where there is no checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

MOST_BYTES = 10_000_000  # 4.8 MB today, of which the language model is 4


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in this environment, by the back end that `dev` brings: no network, no isolation."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_it_holds_the_library_pipelines_recipes_and_their_data(wheel, checkout):
    names = zipfile.ZipFile(wheel).namelist()
    held = {
        "pipelines/build_stage.py",
        "recipes/sample/stage3.yaml",
        "recipes/sample/tokenizer.json",
        "marco_data/languages/language_id.ftz",
        "marco_data/languages/languages.csv",
    }
    assert held - set(names) == set()
    assert {name.rpartition(".")[2] for name in names if name.startswith("recipes/sample/sources/")} >= {
        "jsonl",
        "parquet",
        "gz",
        "zst",
        "txt",
    }
    on_disk = {p.relative_to(checkout).as_posix() for p in (checkout / "marco_data").rglob("*.py")}
    assert on_disk - set(names) == set()


def test_it_holds_the_licence_and_nothing_of_the_workshop(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"marco_data", "pipelines", "recipes"}
    assert [name for name in names if "__pycache__" in name or "/test" in name] == []


def test_it_is_small(wheel):
    assert wheel.stat().st_size < MOST_BYTES


@pytest.mark.slow
def test_installed_alone_it_builds_the_sample(wheel, checkout, tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, tmp_path / "env")
    install = [sys.executable, "-m", "uv", "pip", "install", "--python", python]
    run(*install, "-c", checkout / "constraints.txt", wheel)
    where = run(python, "-c", "import marco_data, pipelines, recipes; print(marco_data.__file__, recipes.__file__)")
    assert str(checkout) not in where
    packages = run(sys.executable, "-m", "uv", "pip", "list", "--python", python)
    heavy = {"torch", "vllm", "streamlit", "playwright", "datatrove", "pytest"}
    assert heavy & {line.split()[0] for line in packages.splitlines()} == set()
    built = json.loads(run(python.parent / "marco-data", "build-stage", "3", "--executor", "local", "--json"))
    assert built["balanced"]
    assert len(built["languages"]) > 60
    prefix = tmp_path / built["shards"][0]
    assert prefix.with_name(prefix.name + ".bin").stat().st_size > 0
