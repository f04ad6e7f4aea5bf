"""A contestant in an environment of its own: it is sent the texts, and times itself.

One line of JSON a question and one an answer, see `serve.py`. Its process inherits the core that ours is pinned to.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contest import CannotRun
from benchmarks.corpus import Round

ROOT = Path(__file__).parents[2]


class Apart:
    """`python` gives the interpreter; `peer` is the file asked there, `work` what it is asked for."""

    def __init__(
        self, name: str, package: str, *, python: Callable[[], Path], peer: Path, work: str, megabytes: float | None
    ) -> None:
        self.name, self.package, self.megabytes = name, package, megabytes
        self._python, self._peer, self._work = python, peer, work
        self._process: subprocess.Popen[str] | None = None
        self._version: str | None = None

    def version(self) -> str | None:
        return self._version

    def seconds(self, texts: Round, *, once: bool, wall: bool) -> float:
        answer = self._ask({"work": self._work, "texts": [text.text for text in texts], "once": once, "wall": wall})
        return float(answer["seconds"])

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()  # ends its input, and so the process
            self._process = None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        if self._process is None:
            self._process = self._start()
            self._version = self._answer()["version"]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self._python()), "-m", "benchmarks.apart.serve", str(self._peer), self.package],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CannotRun(f"it ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise CannotRun(answer["failed"])
        return answer
