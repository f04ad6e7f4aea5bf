"""Which job is building which step, so that two jobs that share a step do not both do its work.

In: the folder of a step. Out: a note under `runs/leases/` while this process works on it; or, where another live job
does, the wait until that one has ended. Knows neither plans nor records, and no result depends on it: two jobs that
both believe to hold a step do its work twice, to the same bytes, and the commit of each record is still the first's.

A run as a whole keeps such a note too, of its own name: nobody waits for it, and `holder` tells people who ask whether
it lives.

A holder rewrites its note every 20 s. Whether it lives is told from the note's changes on this machine's own clock, so
that clocks may differ; a note that has not changed for 90 s is of nobody, and is taken over at once where its process
was of this machine and is gone, or its time is a quarter of an hour ago.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from marco_data.run_log import job_name
from marco_data.storage import Storage, canonical_json

FOLDER = "runs/leases"
LONG_AGO_SECONDS = 900.0
"""By which a note's time is behind ours: storage itself refuses clocks that differ by as much."""
CLOCKS_DIFFER_SECONDS = 30.0
"""Before `doctor` warns of it; who looks once goes by the note's own time."""


@dataclass(frozen=True)
class Note:
    """Who works on a step: `token` is the holder's alone, `beat` grows while it lives."""

    token: str
    job: str
    host: str
    pid: int
    beat: int
    at: float

    @staticmethod
    def mine(token: str, beat: int) -> "Note":
        return Note(token, job_name(), socket.gethostname(), os.getpid(), beat, round(time.time(), 1))

    @staticmethod
    def read(data: bytes) -> "Note | None":
        """None where it is not one of ours, or half of one."""
        try:
            return Note(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        return canonical_json(asdict(self))

    @property
    def gone(self) -> bool:
        """Whether its holder is known to be dead without any waiting."""
        if time.time() - self.at > LONG_AGO_SECONDS:
            return True
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@dataclass(frozen=True)
class Leases:
    """The leases of a root."""

    storage: Storage
    beat_seconds: float = 20.0
    stale_seconds: float = 90.0
    most_seconds: float = 10.0  # between two looks at another's lease

    @contextmanager
    def held(
        self,
        folder: str,
        say: Callable[[str], None],
        check: Callable[[], None] = lambda: None,
        leave: Callable[[], None] = lambda: None,
    ) -> Iterator[bool]:
        """Enter once no live job holds `folder`; True where another did, so that its work may be there by now.

        While it waits it calls `check`, which may raise; `leave`, once, gives back what others may be waiting for.
        """
        path, token = lease_of(folder), secrets.token_hex(8)
        waited = self._taken(path, token, say, check, leave)
        with self._heart(path, token):
            yield waited

    @contextmanager
    def living(self, run: str) -> Iterator[None]:
        """Say that a run lives, as long as this is entered and its process does."""
        path, token = lease_of(run), secrets.token_hex(8)
        with suppress(Exception):  # without the note the run is taken for dead by those who look, and by nothing else
            self.storage.replace(path, Note.mine(token, 0).to_json())
        with self._heart(path, token):
            yield

    def holder(self, name: str) -> Note | None:
        """Who works on a step, or is a run, as far as one look tells; None: nobody, or one that has fallen silent."""
        data = self.storage.read(lease_of(name))
        note = None if data is None else Note.read(data)
        if note is None or note.gone or time.time() - note.at > self.stale_seconds + CLOCKS_DIFFER_SECONDS:
            return None
        return note

    @contextmanager
    def _heart(self, path: str, token: str) -> Iterator[None]:
        """Beats while it is entered; then the note is removed."""
        ended = threading.Event()
        heart = threading.Thread(target=self._beat, args=(path, token, ended), daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join(timeout=5)
            with suppress(Exception):  # whatever a store's library raises: an unremoved lease costs the next 90 s
                if self._is_mine(path, token):
                    self.storage.remove(path)

    def remove_dead(self) -> None:
        """Remove the notes of holders that are known to be gone: a step that was finished first nobody takes again."""
        with suppress(Exception):
            for name in self.storage.names(FOLDER):
                path = f"{FOLDER}/{name}"
                data = self.storage.read(path)
                note = None if data is None else Note.read(data)
                if note is not None and note.gone and self.storage.read(path) == data:
                    self.storage.remove(path)

    def _taken(
        self, path: str, token: str, say: Callable[[str], None], check: Callable[[], None], leave: Callable[[], None]
    ) -> bool:
        """Wait for the lease at `path` and take it; whether somebody else had it before."""
        seen, since, pause, told, busy = b"", time.monotonic(), 0.2, False, False
        while True:
            try:
                data = self.storage.read(path)
                if data is None:
                    if self.storage.create(path, Note.mine(token, 0).to_json()):
                        return busy
                    busy = True
                    continue
                busy = True
                if data != seen:
                    seen, since = data, time.monotonic()
                note = Note.read(data)
                if time.monotonic() - since > self.stale_seconds or (note is not None and note.gone):
                    if self.storage.read(path) == data:
                        self.storage.remove(path)
                    continue
            except Exception as error:  # of the store's own library: what keeps work from it, the work itself tells
                say(f"no lease of this step could be taken ({error}); it is built as if nobody else did")
                return True
            if not told:
                who = f"job {note.job} on {note.host}" if note else "another job"
                say(f"{path.removeprefix(f'{FOLDER}/').removesuffix('.json')} is being built by {who}: waiting for it")
                leave()
                told = True
            check()
            time.sleep(pause)
            pause = min(1.5 * pause, self.most_seconds)

    def _beat(self, path: str, token: str, ended: threading.Event) -> None:
        """Say again and again that the holder lives, until it has ended or another took the lease over."""
        beat = 0
        while not ended.wait(self.beat_seconds):
            beat += 1
            with suppress(Exception):
                if not self._is_mine(path, token):
                    return
                self.storage.replace(path, Note.mine(token, beat).to_json())

    def _is_mine(self, path: str, token: str) -> bool:
        data = self.storage.read(path)
        note = None if data is None else Note.read(data)
        return note is not None and note.token == token


def lease_of(name: str) -> str:
    """Where the note of a step or a run lies."""
    return f"{FOLDER}/{name}.json"
