"""A job server of one machine that speaks what is used of Ray's Job API, and runs what it is sent: no Ray at all.

Each job is a process in the folder that came with it, with this test run's packages and the variables of `nodes`.
"""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class JobServer:
    """`with JobServer(folder) as server`: it listens at `server.address` until the end, and so long its jobs live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, str] = {}
        self.packages: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.asked: list[dict[str, Any]] = []
        self.token: str | None = None
        self.no_agent = 0  # so many jobs are not taken yet
        self.deaf = 0  # so many requests are cut off without an answer
        python = folder / "bin" / "python"  # the nodes', whatever else is on the path
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

            def do_GET(self) -> None:
                server.answer(self, "GET", b"")

            def do_PUT(self) -> None:
                server.answer(self, "PUT", self.body())

            def do_POST(self) -> None:
                server.answer(self, "POST", self.body())

            def body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> "JobServer":
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for name in self.processes:
            self.stop(name)
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler, method: str, body: bytes) -> None:
        if self.deaf:
            self.deaf -= 1
            request.close_connection = True
            return
        path = request.path.partition("?")[0].strip("/").split("/")
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            status, said = 401, b"unauthorized"
        else:
            status, said = self.route(method, path, body)
        request.send_response(status)
        request.send_header("Content-Length", str(len(said)))
        request.end_headers()
        request.wfile.write(said)

    def route(self, method: str, path: list[str], body: bytes) -> tuple[int, bytes]:
        match method, path:
            case "GET", ["api", "version"]:
                return _json({"version": "4", "ray_version": "2.60.0", "ray_commit": "0", "session_name": "one"})
            case "GET", ["api", "packages", _, name]:
                return _json({}) if name in self.packages else (404, b"no such package")
            case "PUT", ["api", "packages", _, name]:
                self.packages[name] = body
                return _json({})
            case "POST", ["api", "jobs"] if self.no_agent:
                self.no_agent -= 1
                return 500, b"No available agent to submit job, please try again later."
            case "POST", ["api", "jobs"]:
                return _json(self.start(json.loads(body)))
            case "GET", ["api", "jobs"]:
                return _json([self.seen(name) for name in self.jobs])
            case _, ["api", "jobs", name, *_] if name not in self.jobs:
                return 404, f"job {name} does not exist".encode()
            case "GET", ["api", "jobs", name]:
                return _json(self.seen(name))
            case "GET", ["api", "jobs", name, "logs"]:
                return _json({"logs": (self.folder / name / "log").read_text("utf-8")})
            case "POST", ["api", "jobs", name, "stop"]:
                return _json({"stopped": self.stop(name)})
        return 404, f"{method} {'/'.join(path)}".encode()

    def start(self, asked: dict[str, Any]) -> dict[str, str]:
        self.asked.append(asked)
        name, runtime = asked["submission_id"], asked["runtime_env"]
        place = self.folder / name
        place.mkdir()
        package = re.fullmatch(r"gcs://(.+)", runtime["working_dir"])[1]
        with zipfile.ZipFile(io.BytesIO(self.packages[package])) as archive:
            archive.extractall(place / "work")
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            **self.nodes,
            **runtime["env_vars"],
        }
        with (place / "log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                asked["entrypoint"],
                shell=True,
                cwd=place / "work",
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.jobs[name] = {"started": time.time(), "stopped": False, "ended": None, **asked}
        return {"job_id": name, "submission_id": name}

    def seen(self, name: str) -> dict[str, Any]:
        job, code = self.jobs[name], self.processes[name].poll()
        if code is not None and job["ended"] is None:
            job["ended"] = time.time()
        ended = "STOPPED" if job["stopped"] else "SUCCEEDED" if code == 0 else "FAILED"
        return {
            "type": "SUBMISSION",
            "job_id": None,
            "submission_id": name,
            "status": "RUNNING" if code is None else ended,
            "entrypoint": job["entrypoint"],
            "message": "" if code in (None, 0) else f"its process ended with exit code {code}",
            "metadata": job["metadata"],
            "runtime_env": job["runtime_env"],
            "start_time": int(1000 * job["started"]),
            "end_time": None if job["ended"] is None else int(1000 * job["ended"]),
        }

    def stop(self, name: str) -> bool:
        process = self.processes[name]
        if process.poll() is not None:
            return False
        self.jobs[name]["stopped"] = True
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        return True

    def wait(self, name: str) -> int:
        return self.processes[name].wait()


def _json(value: Any) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()
