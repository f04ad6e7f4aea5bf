"""A call in a forked copy of this process: what kills the copy leaves this one alive to say so.

In: a function without arguments. Out: its answer, or its exception, or `ChildDied`. Costs about ten milliseconds and
whatever the call loads anew; for the last attempt at documents that killed a worker, never for everyday work.
"""

import os
import pickle
import signal
from collections.abc import Callable
from typing import TypeVar

from marco_data.errors import RetryableError

Answer = TypeVar("Answer")


class ChildDied(Exception):
    """The call ended its process: a segmentation fault, an abort, an exit."""


def in_child(call: Callable[[], Answer]) -> Answer:
    """`call()`, away from here. Raises what it raises; ChildDied, or RetryableError where something killed the copy."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _answer(call, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        # Nothing kills itself this way: memory ran out, or somebody meant it. No document is to blame yet.
        raise RetryableError("a child process was killed while it worked on a document; memory may have run out")
    if status != 0 or not data:
        raise ChildDied(f"ended with status {status}")
    done, answer = pickle.loads(data)
    if not done:
        raise answer
    return answer  # type: ignore[no-any-return]


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
