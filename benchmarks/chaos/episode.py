"""One build through all its faults: struck at their moments, gone on with by the same command, and then looked at.

In: an episode, its place, the bytes that a quiet build gave. Out: what was struck, how long until work went on, and
everything that is not as it has to be. Decides nothing by the clock but when a build counts as hanging.
"""

import hashlib
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.places import Place, committed
from benchmarks.chaos.processes import marked, send, until, workers
from benchmarks.chaos.recipes import recipe_name
from benchmarks.chaos.schedule import CRASH, Episode, Fault
from marco_data.cluster.leases import FOLDER as LEASES
from marco_data.storage import Storage

HANGS_SECONDS = 600.0
OUTAGE_SECONDS = 30.0
INTERRUPTED = 130

ENDS = {
    "driver killed": {-signal.SIGKILL},
    # Told before its run began, or when it is over and the stage is written, a process ends by the signal itself.
    "driver told to go (SIGTERM)": {INTERRUPTED, -signal.SIGTERM, 0},
    "disk full": {1, 0},
    "head killed, job sent again": {1, 2, -signal.SIGKILL},
}
"""Faults that end the command, and how: after those the same command is given again. No other may end it."""


@dataclass
class Struck:
    """A fault that happened; seconds until the next record was committed."""

    kind: str
    seconds: float


@dataclass
class Outcome:
    struck: list[Struck] = field(default_factory=list)
    left: list[Fault] = field(default_factory=list)  # for which the build was too short
    commands: int = 0
    wrong: list[str] = field(default_factory=list)
    scratch: int = 0


class Driver:
    """A command in a process of its own; what it says is kept."""

    def __init__(self, words: list[str], environment: dict[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            words,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.heard: dict[str, bytes] = {"out": b"", "err": b""}
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.readers = [
            threading.Thread(target=self._hear, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self.readers:
            reader.start()

    def _hear(self, name: str, stream: object) -> None:
        with stream as open_stream:  # type: ignore[attr-defined]
            self.heard[name] = open_stream.read()

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> int:
        """Its exit code; a build that hangs is killed, which no fault's code is."""
        try:
            return self.process.wait(HANGS_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -1000

    def said(self, name: str) -> str:
        for reader in self.readers:
            reader.join(5)
        return self.heard[name].decode("utf-8", "replace")


class Held:
    """An episode that is going on."""

    def __init__(self, episode: Episode, place: Place, root: str, recipes: Path, reference: dict[str, str]) -> None:
        self.episode, self.place, self.root, self.reference = episode, place, root, reference
        self.recipe = recipes / recipe_name(episode.stage, episode.crash)
        self.records = sum(path.endswith(".json") and not path.startswith("stage") for path in reference)
        self.outcome, self.storage = Outcome(), Storage(root)
        self.driver: Driver | None = None

    def start(self) -> Driver:
        if self.driver is None:
            self.outcome.commands += 1
            words = self.place.command(self.episode.stage, self.recipe, self.root)
            self.driver = Driver(words, self.place.environment, self.recipe.parent)
        return self.driver

    def ended(self, expected: set[int], after: str) -> bool:
        """The command is over; whether as it may. It is given again by the next `start`."""
        assert self.driver is not None
        code, driver = self.driver.end(), self.driver
        self.driver = None
        if code not in expected:
            told = driver.said("err") + driver.said("out")[-2000:]
            self.outcome.wrong.append(f"after {after} the command ended with {code}: {told[-4000:]}")
        return code in expected

    def through(self) -> Outcome:
        for number, fault in enumerate(self.episode.faults):
            driver = self.start()
            goal = min(int(fault.at * self.records), self.records - 2)
            until(lambda d=driver, g=goal: d.ended or committed(self.root) >= g, HANGS_SECONDS)  # type: ignore[misc]
            if not driver.ended:
                time.sleep(fault.delay)
            if driver.ended:
                if driver.process.returncode == 0:
                    self.outcome.left += self.episode.faults[number:]
                    break
                self.ended({0}, "what it should live through")
                self.outcome.left.append(fault)
                continue
            self.strike(fault)
        self.start()
        if self.ended({0}, "the last fault"):
            self.look()
        if self.episode.crash:
            self.outcome.struck.append(Struck(CRASH, 0.0))
        return self.outcome

    def strike(self, fault: Fault) -> None:
        before, started = committed(self.root), time.monotonic()
        if not self.act(fault):
            self.outcome.left.append(fault)
            return
        if fault.kind in ENDS:
            self.ended(ENDS[fault.kind], fault.kind)
        driver = self.start()
        until(lambda: driver.ended or committed(self.root) > before, HANGS_SECONDS)
        self.outcome.struck.append(Struck(fault.kind, time.monotonic() - started))

    def act(self, fault: Fault) -> bool:
        """Make the fault; False where there was nothing to strike any more."""
        assert self.driver is not None
        pid = self.driver.process.pid
        kind = fault.kind
        if kind.startswith("worker"):
            until(lambda: bool(workers(self.place.mark)) or self.driver is None or self.driver.ended, 20)
            found = workers(self.place.mark)
            number = signal.SIGKILL if "killed" in kind else signal.SIGTERM
            return bool(found) and send(found[fault.pick % len(found)], number)
        if kind == "driver killed":
            return send(pid, signal.SIGKILL)
        if kind.startswith("driver told"):
            return send(pid, signal.SIGTERM)
        if kind == "disk full":
            for process in (pid, *workers(self.place.mark)):
                try:  # nothing more can be written, by it and by what it starts
                    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
                except ProcessLookupError:
                    continue
            return True
        if kind.startswith("storage"):
            self.place.store.outage(OUTAGE_SECONDS)
            time.sleep(OUTAGE_SECONDS)
            return True
        if kind.startswith("raylet"):
            assert self.place.ray is not None
            self.place.ray.kill_one(fault.pick)
            return True
        assert self.place.heads is not None, kind
        self.place.heads.replace()
        return True

    def look(self) -> None:
        """Compare everything with the quiet build."""
        wrong = self.outcome.wrong
        found = bytes_of(self.root)
        manifests = [path for path in found if path.startswith("stage-") and path.endswith("/manifest.json")]
        if [(self.storage.read_json(path) or {})["balanced"] for path in manifests] != [True]:
            wrong.append(f"the books do not balance: {manifests}")
        if found != self.reference:
            other = sorted({p for p in {**found, **self.reference} if found.get(p) != self.reference.get(p)})
            wrong.append(f"{len(other)} files differ from those of a quiet build, the first {other[:5]}")
        if leases := self.storage.names(LEASES):
            wrong.append(f"leases left: {leases}")
        if not until(lambda: not workers(self.place.mark), 60):
            wrong.append(f"workers left: {[marked(self.place.mark).get(pid) for pid in workers(self.place.mark)]}")
        if "://" not in self.root:
            files = [p for p in (Path(self.root) / "runs" / "tmp").rglob("*") if p.is_file()]
            self.outcome.scratch = sum(path.stat().st_size for path in files)


def bytes_of(root: str) -> dict[str, str]:
    """{path: SHA-256} of everything in a root but `runs/`, which is no result."""
    storage = Storage(root)
    return {
        entry.path: hashlib.sha256(storage.read(entry.path) or b"").hexdigest()
        for entry in storage.below("")
        if not entry.path.startswith("runs/")
    }
