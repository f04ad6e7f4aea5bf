"""Ctrl-C, and the SIGTERM by which a scheduler takes a machine away, heard also where their exception is lost.

In: the signals of this process. Out: KeyboardInterrupt in its main thread, which ends a run as leaves nothing behind.
Knows nothing of runs: what was done stays done, and the same command goes on from there.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

ASKS_TO_END = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While it is entered, notes that the end was asked for; `check` raises it again.

    A signal that comes during a kernel is handled in the first Python after it, which may be the unpickling of a named
    tuple's class that numba does itself: it drops whatever is raised there, and the run would go on to its end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may; a handler that somebody else has set is theirs.
        if threading.current_thread() is threading.main_thread():
            for number in ASKS_TO_END:
                if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        # The whole group hears Ctrl-C: workers that end sooner make errors on the way out, which are not the reason.
        if self.asked and isinstance(error, Exception):
            raise KeyboardInterrupt from error

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if the end was asked for."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def same_handlers() -> Iterator[None]:
    """Put back, after what is done in it, who hears a signal: Ray takes SIGTERM for itself and exits with 1."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in ASKS_TO_END} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set from C, which Python cannot set again
                signal.signal(number, handler)
