"""The one command: any Python can read it, a wrong one is refused in a sentence, and nothing is made before that."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILES = ("start.py", "constraints.txt", "pyproject.toml")
PRETEND = """
import runpy, sys
sys.version_info = ({version}, 'final', 0)
sys.argv = ['start.py', 'build-stage', '3']
runpy.run_path('start.py', run_name='__main__')
"""


@pytest.fixture
def copy(checkout: Path, tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(checkout / name, tmp_path)
    return tmp_path


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", ["2, 7, 18", "3, 8, 1", "3, 10, 13", "3, 13, 0", "4, 0, 0"])
def test_another_python_is_refused_in_one_sentence_before_anything_is_made(copy, version):
    answer = run(copy, PRETEND.format(version=version))
    assert answer.returncode == 2
    assert answer.stdout == ""
    major, minor, _ = version.split(", ")
    assert f"it needs Python 3.11 or 3.12, and this is Python {major}.{minor}" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert sorted(path.name for path in copy.iterdir()) == sorted(FILES)


def test_old_pythons_can_read_it(checkout):
    source = (checkout / "start.py").read_text("ascii")
    tree = ast.parse(source, feature_version=(3, 6))
    newer = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Nonlocal, ast.Starred)
    assert [type(node).__name__ for node in ast.walk(tree) if isinstance(node, newer)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if f.returns or f.args.kwonlyargs or any(a.annotation for a in f.args.args)] == []


def test_an_environment_of_someone_else_is_left_alone(copy):
    (copy / ".venv").mkdir()
    (copy / ".venv" / "mine").write_text("keep")
    answer = subprocess.run([sys.executable, "start.py"], cwd=copy, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "was not made by start.py" in answer.stderr
    assert [path.name for path in (copy / ".venv").iterdir()] == ["mine"]


def test_a_missing_ensurepip_is_told_in_one_sentence(copy):
    answer = run(
        copy,
        "import runpy, sys\nsys.modules['ensurepip'] = None\nsys.argv = ['start.py']\n"
        "runpy.run_path('start.py', run_name='__main__')",
    )
    assert answer.returncode == 2
    assert "ensurepip is missing" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not (copy / ".venv").exists()


@pytest.mark.slow
def test_a_set_up_that_was_cut_short_is_made_again_and_a_whole_one_is_kept(checkout, tmp_path):
    for name in (*FILES, "README.md", "LICENSE", "NOTICE"):
        shutil.copy(checkout / name, tmp_path)
    for name in ("marco_data", "pipelines", "recipes"):
        shutil.copytree(checkout / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    def start() -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [sys.executable, "start.py", "--version"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

    assert start().stdout.strip()
    debris = tmp_path / ".venv" / "half-installed"
    debris.write_text("")
    again = start()
    assert again.stderr == ""
    assert debris.exists()
    (tmp_path / ".venv" / "set-up").unlink()
    assert "making" in start().stderr
    assert not debris.exists()
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# another version of this file\n")
    assert "making" in start().stderr
