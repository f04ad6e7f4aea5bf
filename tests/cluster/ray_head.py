"""Heads of Ray clusters on this machine, each in a home of its own: started, asked by commands, ended or lost."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from roots import COMMAND, environment

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 180
STARTS = 5  # of a head: its agent has 15 s to come up, which on a busy machine it misses


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Head:
    """`with Head() as head`: the head of a cluster of two CPUs, with its job server at `address`.

    With `token` it asks for one, which `ask` gives. Nodes and commands have `variables`.
    """

    def __init__(self, *, token: bool = False, variables: dict[str, str] | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray keeps sockets below it
        self.mode = {"RAY_AUTH_MODE": "disabled"}
        if token:
            (self.home / "token").write_text(secrets.token_hex(32))
            self.mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.home / "token")}
        self.variables = variables or {}
        self.address = ""

    def __enter__(self) -> "Head":
        for left in reversed(range(STARTS)):
            if self._started(left):
                return self
            self.lose()
        raise AssertionError("unreachable")

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.lose()
        shutil.rmtree(self.home, ignore_errors=True)

    def _started(self, left: int) -> bool:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        place = self.home / f"ray{left}"
        words = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
            *(f"--port={free_port()}", f"--dashboard-port={port}", f"--dashboard-agent-listen-port={free_port()}"),
            *("--disable-usage-stats", f"--temp-dir={place}"),
        ]
        given = environment(self.home) | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **self.mode,
            **self.variables,
        }
        with (self.home / "head.log").open("wb") as log:
            self.process = subprocess.Popen(words, env=given, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + WAIT_SECONDS
        while b"Ray runtime started" not in (self.home / "head.log").read_bytes() or not self._answers():
            gone = any("Timed out waiting for file" in log.read_text() for log in place.glob("*/logs/raylet.out"))
            if self.process.poll() is not None or gone or time.monotonic() > end:
                assert left, (self.home / "head.log").read_text()
                return False
            time.sleep(0.5)
        return True

    def _answers(self) -> bool:
        headers = {}
        if "RAY_AUTH_TOKEN_PATH" in self.mode:
            headers = {"Authorization": f"Bearer {(self.home / 'token').read_text()}"}
        with suppress(OSError):
            self.raw("/api/version", headers)
            return True
        return False

    def raw(self, path: str, headers: dict[str, str] | None = None) -> str:
        """What its server answers to anybody who may ask."""
        request = urllib.request.Request(self.address + path, headers=headers or {})
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.read().decode()

    def processes(self) -> list[int]:
        """Everything that was started in this home, jobs and their drivers with it."""
        mark, found = f"HOME={self.home}\0".encode(), []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def lose(self) -> None:
        """As when the machine is gone: nobody of it is asked or told."""
        while alive := self.processes():
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            time.sleep(0.1)

    def ask(self, *words: object, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
        """A command as a user of this cluster gives it."""
        given = environment(self.home) | self.mode | self.variables | {"RAY_API_SERVER_ADDRESS": self.address}
        return subprocess.run(
            [*COMMAND, *map(str, words)],
            env=given | variables,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def status(self, job: str, cwd: Path) -> dict[str, Any]:
        return json.loads(self.ask("jobs", "status", job, "--json", cwd=cwd).stdout)
