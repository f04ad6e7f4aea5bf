"""A virtual environment built when it is first asked for: exact versions in, the Python that has them out."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import CannotRun

MOST_SECONDS = 600
"""For building one."""

STAMP = "built.json"
"""Written last: a folder without it is half an environment."""


@dataclass(frozen=True)
class Environment:
    """`requirements` come with what they depend on, those in `alone` without.

    What is in `by_pip` comes first and through pip, which alone looks at wheels that lie on this machine; what is in
    `without` goes again at last.
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()
    by_pip: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def python(self, folder: Path) -> Path:
        """The interpreter of this environment under `folder`. CannotRun says why there is none."""
        more = [self.by_pip, self.without] if self.by_pip or self.without else []
        wanted = json.dumps([sys.version_info[:2], self.requirements, self.alone, *more])
        place = folder / f"{self.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
        python = place / "bin" / "python"
        if not (place / STAMP).exists():
            self._build(place, python)
            (place / STAMP).write_text(wanted)
        return python

    def _build(self, place: Path, python: Path) -> None:
        uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if uv is None:
            raise CannotRun("its environment is built by uv, which is not installed")
        print(f"building an environment for {self.name} ...", file=sys.stderr, flush=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
        seed = ["--seed"] if self.by_pip else []
        _run([uv, "venv", "--quiet", "--clear", *seed, "--python", sys.executable, str(place)])
        if self.by_pip:
            _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.by_pip])
        if self.requirements:
            _run([*install, *self.requirements])
        if self.alone:
            _run([*install, "--no-deps", *self.alone])
        if self.without:
            _run([uv, "pip", "uninstall", "--quiet", "--python", str(python), *self.without])


def default_folder() -> Path:
    """Where environments are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marco-data" / "peers"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"its environment was not built within {MOST_SECONDS} seconds") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise CannotRun(f"its environment cannot be built: {' '.join(said)[:300]}")
