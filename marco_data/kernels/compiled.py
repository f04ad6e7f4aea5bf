"""`@compiled`, `@borrowing` and `@inlined`: functions that numba compiles once per machine.

Where the machine code is kept is decided here and nowhere else. Numba's own choice is `__pycache__` beside the
source, which is read-only in a container image and shared between nodes on a network file system. Ours is a
private folder of this user under the machine's temporary folder; `NUMBA_CACHE_DIR` overrides it. Machine code
is loaded by unpickling, so a folder that somebody else made is not trusted: such a process compiles for itself.

Two things numba's cache does otherwise. It makes ready to compile before it looks whether it must, which takes a
process 0.6 s; ours looks first. And it takes a function for unchanged while its own file is, though the machine code
holds what it calls in others: an upgrade would run old kernels. Ours also asks the files of the kernels it imports.
"""

import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching, runtime

config: Any = numba.config  # its settings are made at import, unseen by type checkers
njit: Any = numba.njit  # whose `_nrt` is not in its signature
allocation: Any = runtime.rtsys  # type: ignore[attr-defined]  # what compiled code makes its arrays with
FunctionCache: Any = caching.FunctionCache
MachineCode: Any = caching.CompileResultCacheImpl
Function = TypeVar("Function", bound=Callable[..., Any])


_KERNELS = re.compile(r"^from (marco_data\.kernels\.\w+) import", re.MULTILINE)


class _Lean(MachineCode):  # type: ignore[misc]  # of no type that a checker sees
    """Machine code as it is kept: with the constants of the functions in it, of those that have any.

    The others would name their modules all the same, and reading them would load half of numba.
    """

    def reduce(self, compiled: Any) -> tuple[Any, ...]:
        *code, environments = super().reduce(compiled)
        return *code, tuple(environment for environment in environments if environment.consts)


class _Kept(FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, read without the compiler; what is not in it numba compiles as ever."""

    _impl_class = _Lean

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp(function.__module__)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        allocation.initialize(target_context)
        return self._load_overload(sig, target_context)


def compiled(function: Function) -> Function:
    """`function` in machine code: no Python objects inside, the lock on the interpreter released."""
    return _compile(function)


def borrowing(function: Function) -> Function:
    """As `compiled`, for what makes no array and returns none: those it is given are its caller's to keep.

    It counts no references to them. Each count is an atomic operation, which took a twentieth of a pass.
    """
    return _compile(function, counting=False)


def inlined(function: Function) -> Function:
    """As `borrowing`, for what is called for a byte or a word: its code goes wherever it is called."""
    return _compile(function, counting=False, forceinline=True)


def _compile(function: Function, counting: bool = True, forceinline: bool = False) -> Function:
    dispatcher: Any = njit(nogil=True, forceinline=forceinline, _nrt=counting)(function)
    given = config.CACHE_DIR
    # Read when the cache is made: set for this moment only, so that other packages keep their own place.
    config.CACHE_DIR = given or str(cache_folder())
    try:
        dispatcher._cache = _Kept(function)
    finally:
        config.CACHE_DIR = given
    return cast(Function, dispatcher)


@cache
def _stamp(module: str) -> str:
    """A digest of what a module's machine code is made of: its source, and that of the kernels it imports."""
    source = Path(str(sys.modules[module].__file__)).read_text("utf-8")
    stamps = [_stamp(name) for name in _KERNELS.findall(source)]
    return hashlib.sha256("\n".join([source, *stamps]).encode()).hexdigest()


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
