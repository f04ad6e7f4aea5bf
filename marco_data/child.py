"""Calls that may kill this process or never end: watched in a worker, or made in a forked copy that may be lost.

A worker whose call is stuck ends itself, with the place on its stderr, and its task is sent again as after any death.
The last attempt at what killed workers is made in copies. A copy costs about ten milliseconds and whatever the call
loads anew; no everyday work is done in one.

In: a function without arguments. Out: its answer, or its exception, or `ChildDied`.
"""

import ctypes
import faulthandler
import os
import pickle
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from marco_data.errors import RecipeError, RetryableError

Answer = TypeVar("Answer")

STUCK = "MARCO_DATA_STUCK_AFTER"
"""The environment variable for `stuck_after`."""
STUCK_AFTER = 1800.0
"""Seconds for one call: batches of 4 MiB take our steps seconds, pages milliseconds, on any machine."""
LONGEST = 1e8
OF_A_COPY = 1 / 6
"""A copy's share of that: a batch is halved ten times until the one document is found that is to blame."""

PR_SET_PDEATHSIG = 1
STDERR = 2
"""As a number: what stands for it in Python may have none."""

_may_end = False


class ChildDied(Exception):
    """The call ended its process: a segmentation fault, an abort, an exit; or it did not end in time."""


def stuck_after() -> float:
    """Seconds after which one call of a step, or one page, is taken for stuck; 0 means never."""
    said = os.environ.get(STUCK)
    try:
        seconds = STUCK_AFTER if said is None else float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST:
        raise RecipeError(
            f"{STUCK} is `{said}`, not a number of seconds up to {LONGEST:,.0f}", hint=f"{STUCK}=1800; 0 waits for ever"
        )
    return seconds


def may_end() -> None:
    """This process is a worker: whoever sent it here sends another where it ends."""
    global _may_end
    _may_end = True


@contextmanager
def watched() -> Iterator[None]:
    """Ends a worker that is in here for too long, also one that is stuck in compiled code; elsewhere does nothing.

    Raises RetryableError where no watch can be set."""
    seconds = stuck_after() if _may_end else 0.0
    if not seconds:
        yield
        return
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)
    except RuntimeError as error:  # no thread can be started, of which no document is to blame
        raise RetryableError(f"a call cannot be watched here: {error}") from error
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def in_child(call: Callable[[], Answer]) -> Answer:
    """`call()`, away from here. Raises what it raises; ChildDied, or RetryableError where something killed the copy."""
    seconds, here = stuck_after() * OF_A_COPY, os.getpid()
    try:
        read, write = os.pipe()
        try:
            child = os.fork()
        except OSError:
            os.close(read)
            os.close(write)
            raise
    except OSError as error:
        raise RetryableError(f"no further process can be started here: {error}") from error
    if child == 0:
        _end_with(here)
        os.close(read)
        _answer(call, write)
    os.close(write)
    data = None
    try:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            data = _all_of(pipe.fileno(), seconds)
    finally:
        if data is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if data is None:
        raise ChildDied(f"did not end in {seconds:,.0f} s")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        # Nothing kills itself this way: memory ran out, or somebody meant it. No document is to blame yet.
        raise RetryableError("a child process was killed while it worked on a document; memory may have run out")
    if status != 0 or not data:
        raise ChildDied(f"ended with status {status}")
    done, answer = pickle.loads(data)
    if not done:
        raise answer
    return answer  # type: ignore[no-any-return]


def _end_with(parent: int) -> None:
    """Ends this process when its parent does: a copy that is stuck would hold the worker's pipe open, and its driver
    would wait for an answer for ever. Linux only."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _all_of(pipe: int, seconds: float) -> bytes | None:
    """What comes through a pipe until its other end is closed; None where that takes longer. 0 seconds are any."""
    until = time.monotonic() + seconds
    pieces: list[bytes] = []
    ready = select.poll()  # `select` itself knows no descriptor beyond 1,023
    ready.register(pipe, select.POLLIN)
    while True:
        left = max(0.0, until - time.monotonic()) * 1000 if seconds else None
        if not ready.poll(left):
            return None
        piece = os.read(pipe, 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _answer(call: Callable[[], object], write: int) -> None:
    """Call and answer in the copy, which ends here whatever happens: nothing of the caller's is cleaned up twice."""
    code = 1
    try:
        try:
            answer: tuple[bool, object] = (True, call())
        except Exception as error:
            answer = (False, error)
        try:
            data = pickle.dumps(answer, protocol=5)
        except Exception as error:  # an exception that cannot travel is still an exception, not a death
            data = pickle.dumps((False, RuntimeError(repr(error))))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(data)
        code = 0
    finally:
        os._exit(code)
