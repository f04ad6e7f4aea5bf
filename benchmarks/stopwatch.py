"""How long work takes. Standard library only: peers in environments of their own are timed by this file too."""

import gc
import time
from collections.abc import Callable
from typing import Any

SHORTEST = 0.1
"""Seconds: work that is done sooner is repeated, or the clock and the neighbours would be what is measured."""


def seconds(work: Callable[[], Any], *, once: bool = False, wall: bool = False) -> float:
    """Of one go; several goes are averaged where one is too short to time.

    On one core that is processor time, or a machine shared with others would be measured with us; what waits for
    others to finish does not happen here. Threads together are measured by the wall clock. `once`: never repeated,
    because the work remembers its text.
    """
    clock = time.perf_counter if wall else time.process_time
    gc.collect()
    goes = 0
    start = clock()
    while True:
        work()
        goes += 1
        spent = clock() - start
        if once or spent >= SHORTEST:
            return spent / goes
