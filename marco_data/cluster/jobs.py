"""Jobs on a Ray cluster, through Ray's own Job API: sent, listed, followed, stopped.

In: the address of a cluster's job server, and an `Order`. Out: `Job`s as the cluster tells of them. Knows nothing of
recipes: what a job runs is a line of shell in a folder, and what it is about is in its metadata.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from marco_data.cluster.ray_environment import AUTH_MODE, ray_environment, set_ray_environment
from marco_data.errors import MarcoError, RecipeError
from marco_data.run_log import JOB

SERVER = "RAY_API_SERVER_ADDRESS"
SAMPLE_ADDRESS = "http://HEAD:8265"
WAITING = ("PENDING", "RUNNING")
DONE = "SUCCEEDED"
LOOK_SECONDS, MOST_LOOK_SECONDS = 2.0, 60.0
START_SECONDS = 60.0
"""For the agent of a head that answers already: it comes up seconds after the job server."""
MARK = "marco-data"
"""The metadata key that tells jobs of this project from others of a cluster; its value is the version."""


@dataclass(frozen=True)
class Order:
    """A job to be: its name, the line that it runs, and what it is about. `env` are names; no value travels."""

    name: str
    entrypoint: str
    metadata: dict[str, str]
    env: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job as its cluster tells of it. Times are seconds of the epoch."""

    name: str
    status: str
    message: str
    entrypoint: str
    metadata: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None

    @property
    def live(self) -> bool:
        return self.status in WAITING


def job_server(given: str | None) -> str:
    """The address of a job server, as given or from the environment; refuses what is another kind of address."""
    address = given or os.environ.get(SERVER) or ""
    hint = f"--address {SAMPLE_ADDRESS}, where the head's dashboard listens, or set {SERVER}"
    if not address:
        raise RecipeError("which cluster? no address is given", hint=hint)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"`{parts.scheme or address}` is not the address of a job server", hint=hint)
    if parts.username or parts.password or parts.query:
        raise RecipeError(
            "the address of a cluster holds no name, password or query",
            hint=f"set {AUTH_MODE}=token, and RAY_AUTH_TOKEN_PATH to a file that holds the token",
        )
    return address.rstrip("/")


class Cluster:
    """The job server of one cluster."""

    def __init__(self, address: str | None) -> None:
        self.address = job_server(address)
        set_ray_environment()
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        self._denied: type[Exception] = AuthenticationError

        for name in list(logging.root.manager.loggerDict):  # each of Ray's modules says by itself that it would talk
            if name.startswith("ray."):
                logging.getLogger(name).setLevel(logging.ERROR)
        with self._told(), _named(self.address):
            self._client: Any = JobSubmissionClient(self.address)

    def send(self, order: Order, folder: Path, start_seconds: float = START_SECONDS) -> None:
        """Start a job in a copy of `folder`, on its cluster's head, which may be about to start itself."""
        runtime = {"working_dir": str(folder), "env_vars": {**ray_environment(), JOB: order.name}}
        end = time.monotonic() + start_seconds
        while True:
            try:
                with self._told():
                    self._client.submit_job(
                        entrypoint=order.entrypoint,
                        submission_id=order.name,
                        runtime_env=runtime,
                        metadata=order.metadata,
                    )
                return
            except _NotYet:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_SECONDS)

    def job(self, name: str) -> Job | None:
        """None where the cluster knows no such job: it may be of before the head was started again."""
        try:
            with self._told():
                return _job(self._client.get_job_info(name))
        except _Unknown:
            return None

    def jobs(self) -> list[Job]:
        """This project's jobs, the newest first."""
        with self._told():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted((j for j in found if MARK in j.metadata), key=lambda j: (j.started or 0, j.name), reverse=True)

    def stop(self, name: str) -> bool:
        """Ask a job to end; False where it had ended before."""
        with self._told():
            return bool(self._client.stop_job(name))

    def logs(self, name: str) -> str:
        """What the job has said so far."""
        with self._told():
            return str(self._client.get_job_logs(name))

    def follow(self, name: str, silent_seconds: float = START_SECONDS) -> Iterator[str]:
        """What the job says, until it has ended. A tunnel may break, and a head be silent, for so long."""
        said, heard = 0, time.monotonic()
        while True:
            asked = time.monotonic()
            try:
                job = self.job(name)  # before its words: what it says last is there once it has ended
                words = self.logs(name)
            except _Unreachable as error:
                if time.monotonic() - heard > silent_seconds:
                    there, gone = f"`jobs logs {name} --follow` once it answers", f"`jobs resume {name} --root ROOT`"
                    raise MarcoError(
                        f"{error.message}; the job may go on", hint=f"{there}; where the cluster is gone, {gone}"
                    ) from None
                time.sleep(LOOK_SECONDS)
                continue
            heard = time.monotonic()
            if len(words) > said:
                yield words[said:]
                said = len(words)
            if job is None or not job.live:
                return
            # All that was said comes each time: days of a build's lines must not keep the head and a tunnel busy.
            time.sleep(min(MOST_LOOK_SECONDS, max(LOOK_SECONDS, 9 * (heard - asked))))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong between here and the cluster, in a sentence with its remedy."""
        try:
            yield
        except self._denied:
            raise RecipeError(
                f"the cluster at {self.address} asks who you are",
                hint=f"set {AUTH_MODE}=token, and RAY_AUTH_TOKEN_PATH to a file that holds its token",
            ) from None
        except (OSError, RuntimeError) as error:
            text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            if "status code 404" in text:
                raise _Unknown(f"the cluster at {self.address} knows no such job") from None
            if "No available agent" in text:
                raise _NotYet(
                    f"the cluster at {self.address} has a head without an agent, which would start the job",
                    hint="is it still starting? Two heads on one machine need ports of their own: "
                    "`ray start --dashboard-agent-listen-port`",
                ) from None
            if isinstance(error, RuntimeError):
                raise MarcoError(f"the cluster at {self.address} refused: {text}") from None
            raise _Unreachable(
                f"no job server answers at {self.address}: {text}",
                hint=f"the address is that of the head's dashboard, {SAMPLE_ADDRESS}; from outside of Kubernetes: "
                "kubectl port-forward service/CLUSTER-head-svc 8265",
            ) from None


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Ray's client goes where the environment says, whatever address it is given: let that say the same."""
    before = os.environ.get(SERVER)
    os.environ[SERVER] = address
    try:
        yield
    finally:
        os.environ.pop(SERVER)
        if before is not None:
            os.environ[SERVER] = before


class _NotYet(MarcoError):
    """The cluster's head cannot start jobs yet."""


class _Unreachable(MarcoError):
    """Nobody answers at the address."""


class _Unknown(MarcoError):
    """The cluster does not know the job."""


def _job(details: Any) -> Job:
    metadata: Mapping[str, str] = details.metadata or {}
    started, ended = (None if at is None else at / 1000 for at in (details.start_time, details.end_time))
    status = getattr(details.status, "value", details.status)
    return Job(
        str(details.submission_id), str(status), details.message or "", details.entrypoint, {**metadata}, started, ended
    )
