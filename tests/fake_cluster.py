"""A cluster that a test can grow, shrink and break: what the executor asks of Ray, done in threads of this process."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ray import exceptions

from marco_data.ray_executor import unsqueezed


@dataclass(eq=False)
class Reference:
    """What a call answers with, at once."""

    number: int
    ended: Future[Any] = field(default_factory=Future)

    def future(self) -> Future[Any]:
        return self.ended


@dataclass
class FakeCluster:
    """Nodes with so many CPUs each run what is sent, in its order, as long as they have room for it.

    `dies` is asked, before a pack is done, for what becomes of its worker: None, or the error that Ray would raise.
    None of them ends before `hold` are under way at once, or half a minute has gone, which no test passes.
    `most` are the packs that were sent and had not ended at any one time, `sent` is all that came,
    `replies` the bytes of each answer, `asked` those of each pack.
    """

    cpus: list[float]
    dies: Callable[[list[str], int], Exception | None] = lambda names, times: None
    seconds: float = 0.0
    hold: int = 0
    more_after: int | None = None  # packs, after which a node like the first joins
    resources: dict[str, float] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    ended: int = 0
    cancelled: int = 0
    replies: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    exceptions: Any = exceptions
    _times: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=count)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": cpus > 0, "Resources": {"CPU": cpus, **self.resources}} for cpus in self.cpus]

    def put(self, value: Any) -> Any:
        return value

    def get(self, reference: Reference) -> Any:
        return reference.ended.result()

    def cancel(self, reference: Reference) -> None:
        self.cancelled += 1

    def shutdown(self) -> None: ...

    def remote(self, **options: Any) -> Callable[[Any], "Function"]:
        return lambda function: Function(self, function, options)

    def run(self, reference: Reference, function: Any, arguments: tuple[Any, ...], isolated: bool) -> None:
        names = names_of(arguments)
        with self._lock:
            times = self._times[names[0]] = self._times.get(names[0], 0) + 1
        time.sleep(self.seconds)
        until = time.monotonic() + 30
        while self.most < self.hold and time.monotonic() < until:
            time.sleep(0.005)
        died = self.dies(names, times)
        with self._lock:
            self.under_way -= 1
            self.ended += 1
            if self.ended == self.more_after:
                self.cpus.append(self.cpus[0])
        if died is not None:
            reference.ended.set_exception(died)
        else:
            reply = function(*arguments, isolated=isolated)
            self.replies.append(len(reply))
            reference.ended.set_result(reply)


@dataclass
class Function:
    cluster: FakeCluster
    function: Any
    options: dict[str, Any]

    def remote(self, *arguments: Any, isolated: bool) -> Reference:
        cluster = self.cluster
        reference = Reference(next(cluster._numbers))
        with cluster._lock:
            cluster.under_way += 1
            cluster.most = max(cluster.most, cluster.under_way)
            cluster.asked.append(len(arguments[1]))
            cluster.sent.append({"tasks": names_of(arguments), "isolated": isolated, **self.options})
        work = threading.Thread(target=cluster.run, args=(reference, self.function, arguments, isolated), daemon=True)
        work.start()
        return reference


def names_of(arguments: tuple[Any, ...]) -> list[str]:
    return [task.name for task in unsqueezed(arguments[1])]
