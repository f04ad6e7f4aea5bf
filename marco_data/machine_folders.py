"""This user's folders on this machine's own disk, below TMPDIR: unfinished files, and copies of models and their like.

Processes end by SIGKILL as often as in order, so nothing here relies on the end of one: whoever starts later removes
what nobody holds. Knows nothing of what is in a file.
"""

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

SUFFIX = ".partial"
YOUNG_SECONDS = 60.0
"""A private folder is made before it is locked: what is younger is taken for held."""
UNUSED_SECONDS = 7 * 86_400.0
"""After so long without use a copy goes."""
UNFINISHED_SECONDS = 86_400.0


def _prefix() -> str:
    return f"marco-data-{os.getuid()}-"


def _made() -> tuple[Path, int]:
    """A private folder, and a descriptor that holds it: its lock goes with this process, however that ends."""
    folder = Path(tempfile.mkdtemp(prefix=_prefix(), suffix=SUFFIX))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):  # a file system without locks: nobody can take it for left then either
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, descriptor


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for as long as a `with` lasts."""
    _remove_once()
    folder, descriptor = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@cache
def folder_of_process() -> Path:
    """A folder for as long as this process lasts."""
    _remove_once()
    folder, _ = _made()
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


@cache
def shared_folder() -> Path | None:
    """A folder that all processes of this user share, for copies; None where others could write to it."""
    folder = _shared()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _remove_once()
    return folder if _is_own(folder) else None


def _shared() -> Path:
    return Path(tempfile.gettempdir()) / f"marco-data-copies-{os.getuid()}"


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def used(copy: Path) -> bool:
    """Whether a copy is there; if so it stays for another while."""
    try:
        os.utime(copy)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock by the name of `path` against other processes and threads, where the file system has locks."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@cache
def _remove_once() -> None:
    """Once in a process: workers of a cluster start nothing else on their machine."""
    remove_left()


def remove_left() -> None:
    """Remove private folders whose process has died, and copies that nobody has used for a week."""
    for left in Path(tempfile.gettempdir()).glob(f"{_prefix()}*{SUFFIX}"):
        with suppress(OSError):  # held, another user's, or being removed by another process
            _remove_unheld(left)
    if not _is_own(_shared()):
        return
    for copy in _shared().iterdir():
        with suppress(OSError):
            if copy.suffix:  # a lock, or what was never finished
                _remove_old(copy, UNFINISHED_SECONDS if copy.suffix == SUFFIX else UNUSED_SECONDS)
            elif _is_older(copy, UNUSED_SECONDS):
                with locked(copy):  # who has it in hand says so under the same lock
                    _remove_old(copy, UNUSED_SECONDS)


def _is_older(path: Path, seconds: float) -> bool:
    return time.time() - path.stat().st_mtime > seconds


def _remove_old(path: Path, seconds: float) -> None:
    if _is_older(path, seconds):
        path.unlink()


def _remove_unheld(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        if found.st_uid == os.getuid() and time.time() - found.st_mtime > YOUNG_SECONDS:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)
