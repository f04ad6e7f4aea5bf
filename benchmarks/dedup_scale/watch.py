"""A process and all that it starts, watched from outside: memory, processor time, bytes written. Linux only (/proc)."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

EVERY = 0.05
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """Resident bytes at a time of the monotonic clock: of all processes, and the most that is one's own.

    A process's own is what is no page of a file; those the system takes back when it wants memory.
    """

    at: float
    together: int
    own: int


@dataclass
class Watch:
    """Samples of the processes below `pid` and itself, all of which are killed when together they hold `most_bytes`.

    By process: `peaks`, the most it ever held, as the kernel says; `busy`, seconds of the processor. `written`: bytes
    that all of them have handed to the system.
    """

    pid: int
    most_bytes: float = float("inf")
    most_seconds: float = float("inf")
    samples: list[Sample] = field(default_factory=list)
    peaks: dict[int, int] = field(default_factory=dict)
    written: int = 0
    busy: dict[int, float] = field(default_factory=dict)
    stopped_for: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """Of the largest process."""
        return max(self.peaks.values(), default=0)

    @property
    def processor(self) -> float:
        """Seconds of all of them; what a process does after it was last looked at is missing."""
        return sum(self.busy.values())

    @property
    def together(self) -> int:
        return max((sample.together for sample in self.samples), default=0)

    @property
    def own(self) -> int:
        """The most that was a process's own."""
        return max((sample.own for sample in self.samples), default=0)

    def _look(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(EVERY):
            sizes, own, written = [], [], 0
            for pid in family(self.pid):
                with suppress(OSError, ValueError, StopIteration):
                    resident, of_files = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
                    sizes.append(int(resident) * PAGE)
                    own.append((int(resident) - int(of_files)) * PAGE)
                    self.peaks[pid] = peak_bytes(pid)
                    written += _written(pid)
                    self.busy[pid] = _processor_seconds(pid, waited=False)
            self.written = max(self.written, written)
            if sizes:
                self.samples.append(Sample(time.monotonic(), sum(sizes), max(own)))
                self._limit(sum(sizes), time.monotonic() - began)

    def _limit(self, size: int, seconds: float) -> None:
        if size > self.most_bytes:
            self.stopped_for = f"stopped: it held {size / 1e9:.1f} GB after {seconds:.0f} s"
        elif seconds > self.most_seconds:
            self.stopped_for = f"stopped: not done after {seconds:.0f} s"
        else:
            return
        for pid in reversed(list(family(self.pid))):
            with suppress(ProcessLookupError):
                os.kill(pid, 9)


def family(pid: int) -> Iterator[int]:
    """The process, its children and theirs, as far as they live."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def peak_bytes(pid: int) -> int:
    """The most memory it ever held (VmHWM)."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(row.split()[1] for row in rows if row.startswith("VmHWM")))


def processor_seconds() -> float:
    """Of this process and all that it has started, the living and those it has waited for."""
    return sum(map(_processor_seconds, family(os.getpid())))


def _processor_seconds(pid: int, *, waited: bool = True) -> float:
    """Of a process, and of its children that it has waited for."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, fields[11 : 15 if waited else 13])) / TICK
    return 0.0


def _written(pid: int) -> int:
    """Bytes handed to the system to be written to files or pipes, by it and by its children that are over."""
    rows = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(row.split()[1] for row in rows if row.startswith("wchar")))
