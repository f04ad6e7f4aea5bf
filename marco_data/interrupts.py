"""Ctrl-C, heard also where the exception that it raises is lost."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupts:
    """While it is entered, notes that an interrupt was asked for; `check` raises it again.

    A signal that comes during a kernel is handled in the first Python after it, which may be the unpickling of a named
    tuple's class that numba does itself: it drops whatever is raised there, and the run would go on to its end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Only the main thread may; a handler that somebody else has set is theirs.
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        # The whole group hears Ctrl-C: workers that end sooner make errors on the way out, which are not the reason.
        if self.asked and isinstance(error, Exception):
            raise KeyboardInterrupt from error

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.default_int_handler(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one was asked for."""
        if self.asked:
            raise KeyboardInterrupt
