"""The processes of an episode, whoever started them: found by a mark in their environment.

In: a mark. Out: what runs with it, by command line. Knows nothing of builds.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

MARK = "MARCO_CHAOS"


def marked(mark: str) -> dict[int, str]:
    """{process id: command line} of what lives and was started with this mark, this process left out."""
    wanted, found = f"{MARK}={mark}".encode(), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    )
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def workers(mark: str) -> list[int]:
    """Those that do tasks: processes beside a local driver, or what Ray names after the function that it runs."""
    return sorted(
        pid
        for pid, line in marked(mark).items()
        if line.startswith("ray::_run_pack") or "multiprocessing.spawn import spawn_main" in line
    )


def send(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to hear it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time. Looks again after as long as the look took: one at a store is a listing."""
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return True
        if began > end:
            return False
        time.sleep(max(0.02, time.monotonic() - began))
