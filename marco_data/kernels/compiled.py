"""`@compiled` and `@inlined`: functions that numba compiles once per machine.

Where the machine code is kept is decided here and nowhere else. Numba's own choice is `__pycache__` beside the
source, which is read-only in a container image and shared between nodes on a network file system. Ours is a
private folder of this user under the machine's temporary folder; `NUMBA_CACHE_DIR` overrides it. Machine code
is loaded by unpickling, so a folder that somebody else made is not trusted: such a process compiles for itself.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

config: Any = numba.config  # its settings are made at import, unseen by type checkers
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` in machine code: no Python objects inside, the lock on the interpreter released."""
    return _compile(function)


def inlined(function: Function) -> Function:
    """As `compiled`, for what is called for a byte or a word: its code goes wherever it is called."""
    return _compile(function, forceinline=True)


def _compile(function: Function, forceinline: bool = False) -> Function:
    njit: Any = numba.njit(cache=True, nogil=True, forceinline=forceinline)
    given = config.CACHE_DIR
    # Read when the decorator runs: set for this moment only, so that other packages keep their own place.
    config.CACHE_DIR = given or str(cache_folder())
    try:
        return cast(Function, njit(function))
    finally:
        config.CACHE_DIR = given


@cache
def cache_folder() -> Path:
    """A folder of this machine that only this user can write to."""
    folder = Path(tempfile.gettempdir()) / f"marco-data-kernels-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="marco-data-kernels-"))
