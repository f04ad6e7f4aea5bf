"""The Dockerfile: linted, its words held to the project's, and its lines executed in a folder in place of an image."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra" / "Dockerfile"
PLACE = "/srv/marco"
TARGETS = ("cpu", "gpu", "train")
FOR_AN_IMAGE_ONLY = ("useradd ", "chown ", "apt-get update", "rm -rf /var/lib/apt/lists/*")


@dataclass
class Stage:
    """One `FROM ... AS name`, with its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    text = re.sub(r"^#.*\n", "", FILE.read_text("utf-8"), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            last = found[name] = Stage(name, base)
        elif word and word != "ARG":
            last.instructions.append((word, " ".join(rest.split())))
    return found


def line_of(target: str) -> list[Stage]:
    """The stages that a target is made of, the first one first."""
    known, chain = stages(), [stages()[target]]
    while chain[0].base in known:
        chain.insert(0, known[chain[0].base])
    return chain


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("no hadolint here: the extra `dev` has it")
    found = subprocess.run([program, FILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_with_a_number_that_is_not_root(target):
    users = [rest for stage in line_of(target) for word, rest in stage.instructions if word == "USER"]
    assert users[-1] == "1000:1000"


def test_the_base_is_pinned():
    assert re.search(r"^ARG BASE=debian:12\.\d+-slim$", FILE.read_text("utf-8"), re.MULTILINE)
    assert [stage.base for stage in stages().values() if stage.base not in stages()] == ["${BASE}"]


def test_what_is_copied_is_there_and_is_let_in_and_is_what_the_wheel_needs():
    copied = {
        source
        for stage in stages().values()
        for word, rest in stage.instructions
        if word == "COPY"
        for source in rest.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored, *lets = [line for line in lines if line and not line.startswith("#")]
    assert ignored == "*"
    assert {f"!{name}" for name in copied} == {line for line in lets if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {*packages, project["project"]["readme"], "constraints.txt", "pyproject.toml"} <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_versions_are_within_what_the_project_asks_for():
    from packaging.requirements import Requirement

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, extra in (("vllm", "vllm"), ("torch", "train")):
        (version,) = set(re.findall(rf"'{name}==([\d.]+)'", FILE.read_text("utf-8")))
        (asked,) = [r for text in extras[extra] if (r := Requirement(text)).name == name]
        assert version in asked.specifier


def test_the_engine_s_python_is_the_one_that_the_files_name():
    cluster = (ROOT / "infra" / "raycluster.yaml").read_text("utf-8")
    assert f"{PLACE}/engine/bin/python" in cluster
    assert any("python3.11 -m venv engine" in rest for word, rest in stages()["gpu"].instructions if word == "RUN")


@dataclass
class Folder:
    """A folder in place of an image's file system; it runs the image's own lines, with their paths put below it."""

    path: Path
    variables: dict[str, str]
    ran: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        return text.replace(PLACE, str(self.path)).replace("/etc/", f"{self.path}/etc/")

    def set(self, pairs: str) -> None:
        for name, _, value in (pair.partition("=") for pair in pairs.split()):
            self.variables[name] = self.here(value)
            if name == "PATH":  # this machine's Python is at a place of its own
                self.variables[name] += os.pathsep + os.environ["PATH"]

    def copy(self, words: str) -> None:
        *sources, target = words.split()
        for source in sources:
            place = self.path / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)

    def run(self, line: str, *, install: bool) -> None:
        """`install` False: packages are looked up with all that they need, and not fetched."""
        commands = [c for c in line.split(" && ") if not c.startswith(FOR_AN_IMAGE_ONLY)]
        text = self.here(" && ".join(commands)).replace("apt-get install ", f"{APT} ")
        text = re.sub(r" --no-cache(-dir)?\b", "", text)  # the machine's own is no part of an image
        if not install:
            text = text.replace("uv pip install ", "uv pip install --dry-run ")
        done = subprocess.run(
            ["bash", "-euc", text], cwd=self.path, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        self.ran += commands


def apt() -> str:
    """apt as far as it is harmless: it looks packages up where this is a Debian with lists of them."""
    known = ["apt-cache", "show", "python3.11-venv"]
    there = shutil.which("apt-cache") and subprocess.run(known, capture_output=True, check=False).returncode == 0
    return "apt-get install --simulate" if there else "true"


APT = apt()


def index_of_pip(python: str) -> dict[str, str]:
    """uv does not read pip's settings: a mirror set up for pip holds for it too."""
    asked = [python, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL") or found
    return {"UV_DEFAULT_INDEX": index} if index else {}


@pytest.mark.slow
def test_the_lines_of_the_image_make_an_environment_that_builds_the_sample(tmp_path: Path):
    python = shutil.which("python3.11")
    if python is None:
        pytest.skip("no Python 3.11 here")
    for place in ("etc/profile.d", "user"):  # of Debian's, and of `useradd`
        (tmp_path / place).mkdir(parents=True)
    strangers = ("PYTHON", "VIRTUAL_ENV", "MARCO", "NUMBA")
    given = {name: value for name, value in os.environ.items() if not name.startswith(strangers)}
    folder = Folder(tmp_path, given | index_of_pip(python))
    done: set[str] = set()
    for stage in (stage for target in TARGETS for stage in line_of(target)):
        for word, rest in () if stage.name in done else stage.instructions:
            if word == "ENV":
                folder.set(rest)
            elif word == "COPY":
                folder.copy(rest)
            elif word == "RUN":
                folder.run(rest, install=stage.name in ("packages", "cpu"))
        done.add(stage.name)
    ran = "\n".join(folder.ran)
    assert [words for words in ("build-stage 3", "vllm==", "torch==") if words not in ran] == []
    assert list((tmp_path / "kernels").iterdir()), "no machine code was kept"
    login = f". {tmp_path}/etc/profile.d/marco-data.sh; command -v marco-data"
    said = subprocess.run(["bash", "-c", login], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"{tmp_path}/env/bin/marco-data"
