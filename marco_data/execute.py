"""Run a plan: node by node, only the tasks whose record is not there yet, on any executor.

The executor is a seam of one method. `LocalExecutor` runs tasks in this process or in a few more; the one for ray
lives in `ray_executor`. Neither knows of nodes or records: `run_task` does the work and commits it, wherever it is.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Protocol

from marco_data.alarms import Alarm, Watch
from marco_data.child import may_end, stuck_after
from marco_data.cluster.leases import Leases
from marco_data.dataset import Context, Dataset, Node, Task
from marco_data.errors import DamagedFile, MarcoError
from marco_data.interrupts import Interrupts
from marco_data.languages import know
from marco_data.outside import ends_run, may_pass
from marco_data.record_table import HELD, Gathered, records_of, write_records
from marco_data.records import Record, commit_record, found_records, load_record
from marco_data.redact import redacted
from marco_data.run_log import RunLog
from marco_data.step import Tools, fingerprint
from marco_data.storage import Storage
from marco_data.storage_counts import COUNTS, StorageCounts
from marco_data.stragglers import Stragglers

ATTEMPTS = 3
WORKERS_DIED = f"its worker died {ATTEMPTS} times, and again with every step in a process of its own"


@dataclass(frozen=True)
class Done:
    """The end of one task: its record, or why there is none."""

    task: Task
    record: Record | None
    seconds: float
    error: str | None = None
    trace: str | None = None
    damaged: str | None = None  # the file it could not read, for the driver to have made again
    processor: float = 0.0  # seconds of the processor, as far as this process took them
    storage: StorageCounts = field(default_factory=StorageCounts)  # what was asked of remote storage for it
    host: str = ""  # where it was done
    lost: Mapping[str, int] = field(default_factory=dict)  # how often what did it died before: worker, memory, node

    def without_task(self) -> "Done":
        """For the way home: the driver knows its tasks, and what is left is a few hundred bytes."""
        return replace(self, task=None)  # type: ignore[arg-type]


class Executor(Protocol):
    """Runs tasks, in any order and anywhere; yields each one's end as it comes. `close` leaves nothing running."""

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]: ...

    def close(self) -> None: ...


class Announcing(Protocol):
    """Told of the tasks of each node and of their records; says so to those who look at the run from outside."""

    def node(self, node: Node, tasks: Sequence[Task], *, there: bool) -> None: ...

    def record(self, record: Record) -> None: ...


class Progress(Protocol):
    """Told of what happens; draws it, or keeps silent."""

    def node(self, node: Node, tasks: int, pending: int) -> None: ...

    def done(self, done: Done) -> None: ...

    def say(self, message: str) -> None: ...


def run_task(task: Task, storage: Storage, *, isolated: bool = False) -> Done:
    """Do one task and commit it; the end of it, with what it asked of remote storage."""
    before = COUNTS.copy()
    done = _run_task(task, storage, isolated=isolated)
    return replace(done, storage=COUNTS.since(before), host=socket.gethostname())


def _run_task(task: Task, storage: Storage, *, isolated: bool) -> Done:
    """Do one task and commit it, or take the record of whoever did it before.

    What may pass is tried again here, with a pause; a ShardError and our own bug end in `error`. What no other task
    would escape is raised: a RecipeError, a full disk. `isolated` puts each step's work into a child process.
    """
    started, worked = time.monotonic(), time.process_time()
    know(task.node.new_languages)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            record = load_record(storage, task.node.folder, task.key)
            if record is None:
                outcome = task.node.work(task, storage, Tools(isolated=isolated))
                record = commit_record(
                    storage,
                    Record(
                        task.node.folder,
                        task.key,
                        dict(task.reads),
                        outcome.data,
                        outcome.counts,
                        outcome.facts,
                    ),
                    first_stands=task.node.settled_by_first,
                )
            seconds, processor = time.monotonic() - started, time.process_time() - worked
            return Done(task, record, seconds, processor=processor)
        except Exception as error:
            if ends_run(error, storage):
                raise
            passing = may_pass(error)
            if passing is not None and attempt < ATTEMPTS:
                time.sleep(0.2 * 4**attempt)
                continue
            seconds, trace = time.monotonic() - started, redacted(traceback.format_exc())
            if passing is not None:
                told = f"{redacted(passing)} ({ATTEMPTS} attempts, the last on `{socket.gethostname()}`)"
                return Done(task, None, seconds, told)
            if isinstance(error, MarcoError):
                damaged = error.path if isinstance(error, DamagedFile) else None
                return Done(task, None, seconds, error.message, trace, damaged)
            # Our bug: the shard is reported, the run goes on.
            return Done(task, None, seconds, redacted(f"{type(error).__name__}: {error}"), trace)
    raise AssertionError("unreachable")


def one_thread_for_tokens() -> None:
    """Make tokenizers use one thread in this process, which is itself one of many; to be called before the first.

    What the environment already says stays.
    """
    os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Worker:
    """A process that does one task after another. It dies with this one, however this one ends."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def start(self, task: Task, storage: Storage, *, isolated: bool) -> None:
        with suppress(OSError):  # it died while idle: `answer` says so
            self.pipe.send((task, storage, isolated))

    def answer(self) -> Done | None:
        """The end of the task, or None where the process died over it. Raises what stops the run."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):  # also in the middle of its answer
            self.stop()
            return None
        if isinstance(answer, Exception):
            self.stop()
            raise answer
        assert isinstance(answer, Done)
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection) -> None:
    """What a worker process does. An interrupt is the driver's to act on; its death ends this process at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_driver, daemon=True).start()
    one_thread_for_tokens()
    may_end()
    while True:
        task, storage, isolated = pipe.recv()
        try:
            pipe.send(run_task(task, storage, isolated=isolated).without_task())
        except (MarcoError, OSError) as error:
            pipe.send(error)


def _die_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


@dataclass
class LocalExecutor:
    """This process (workers = 1), or so many processes beside it. The reference every other executor must equal.

    With more workers, a task whose worker dies is sent to another; after ATTEMPTS deaths it is run isolated, so that
    one document fails and not the shard. With one worker such a document ends the run, and every rerun.
    """

    workers: int = 1
    idle: list[Worker] = field(default_factory=list)

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        if self.workers <= 1:
            for task in tasks:
                yield run_task(task, storage)
            return
        waiting = deque((task, 1) for task in tasks)
        busy: dict[Connection, tuple[Worker, Task, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers:
                    task, attempt = waiting.popleft()
                    worker = self.idle.pop() if self.idle else Worker()
                    worker.start(task, storage, isolated=attempt > ATTEMPTS)
                    busy[worker.pipe] = (worker, task, attempt)
                for pipe in multiprocessing.connection.wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    worker, task, attempt = busy.pop(pipe)
                    answer = worker.answer()
                    if answer is not None:
                        self.idle.append(worker)
                        yield replace(answer, task=task, lost={"worker": attempt - 1} if attempt > 1 else {})
                    elif attempt <= ATTEMPTS:
                        waiting.append((task, attempt + 1))
                    else:
                        yield Done(task, None, 0.0, WORKERS_DIED, lost={"worker": attempt})
        finally:
            for worker, _, _ in busy.values():
                worker.stop()

    def close(self) -> None:
        while self.idle:
            self.idle.pop().stop()


@dataclass(frozen=True)
class Failure:
    """A task that ended without a record."""

    node: str
    shard: str
    error: str
    source: str = ""
    file: str = ""
    trace: str = ""


@dataclass
class Run:
    """What one execution of a plan came to: records by node, tasks that failed, what was skipped."""

    records: dict[str, Sequence[Record]] = field(default_factory=dict)
    made_again: set[str] = field(default_factory=set)
    manifests: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    ran: dict[str, int] = field(default_factory=dict)
    waived: list[str] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    stopped_before: str | None = None
    storage: StorageCounts = field(default_factory=StorageCounts)
    slow: Stragglers = field(default_factory=Stragglers)

    @property
    def complete(self) -> bool:
        return self.stopped_before is None and not self.failures


def run(
    dataset: Dataset,
    storage: Storage,
    executor: Executor,
    progress: Progress,
    *,
    waive: Iterable[str] = (),
    only: str | None = None,
    watch: Watch | None = None,
    announced: Announcing | None = None,
) -> Run:
    """Walk the plan. A node that looks at the whole corpus starts only if no shard before it has failed.

    `waive` names shards that may be missing and alarms that do not stop the run; `only` runs one shard and no more.
    """
    result = Run()
    waived = set(waive)
    _ = [node.folder for node in dataset.nodes]  # a model or tokenizer that is not there is told before anything runs
    stuck_after()  # and so is a time that is none
    storage.remove_stale_scratch()
    Leases(storage).remove_dead()
    with RunLog(storage) as log, Interrupts() as interrupts:
        result.storage, result.slow = log.asked, log.slow
        for node in dataset.nodes:
            if (node.whole and len(result.manifests) < len(result.records)) or not all(a.waived for a in result.alarms):
                result.stopped_before = node.name
                break
            result.ran[node.name] = 0
            context = Context(storage, Tools(), result.records).seen_by(node)
            tasks = [t for t in node.tasks(context) if not _is_waived(t, waived, result)]
            while True:
                chosen = [t for t in tasks if only in (None, t.key)]
                manifest = manifest_name(node, tasks)
                records = records_of(storage, manifest)
                if announced is not None:
                    announced.node(node, tasks, there=records is not None)
                if records is None:
                    with (
                        nullcontext(False)
                        if only is not None
                        else Leases(storage).held(node.folder, progress.say, interrupts.check, executor.close)
                    ) as waited:
                        records = records_of(storage, manifest) if waited else None
                        if records is None:
                            for note in node.notes(context) if chosen else ():
                                progress.say(note)
                            records = _run_node(
                                node,
                                chosen,
                                tasks,
                                dataset,
                                storage,
                                executor,
                                progress,
                                log,
                                interrupts,
                                result,
                                announced,
                            )
                else:
                    progress.node(node, len(tasks), 0)
                result.records[node.name] = records
                if not node.in_rounds or len(records) < len(tasks):
                    break
                context = Context(storage, Tools(), result.records).seen_by(node)
                further = [t for t in node.tasks(context) if not _is_waived(t, waived, result)]
                if len(further) == len(tasks):
                    break
                tasks = further
            if len(records) == len(tasks):
                result.manifests[node.name] = manifest
            if only is not None and chosen:
                break
            if watch is not None and only is None and len(result.manifests) == len(result.records):
                raised = {alarm.name for alarm in result.alarms}
                found = [a for a in watch(node.name, result.records) if a.name not in raised]
                result.alarms += [replace(a, waived=a.name in waived) for a in found]
    return result


def _is_waived(task: Task, waived: set[str], result: Run) -> bool:
    if task.key not in waived:
        return False
    if task.key not in result.waived:
        result.waived.append(task.key)
    return True


def _run_node(
    node: Node,
    chosen: Sequence[Task],
    tasks: Sequence[Task],
    dataset: Dataset,
    storage: Storage,
    executor: Executor,
    progress: Progress,
    log: "RunLog",
    interrupts: Interrupts,
    result: Run,
    announced: Announcing | None,
) -> Sequence[Record]:
    records = Gathered(node.folder)
    for record in found_records(storage, node.folder, [task.key for task in tasks]):
        records.add(record)
        if announced is not None:
            announced.record(record)
    pending = [task for task in chosen if task.key not in records.place]
    progress.node(node, len(tasks), len(pending))
    result.ran[node.name] += len(pending)
    while pending:
        waiting, damaged = [], set()
        for done in executor.run(pending, storage):
            log.note(done)
            interrupts.check()
            if done.damaged and done.damaged not in result.made_again:
                waiting.append(done.task)
                damaged.add(done.damaged)
                continue
            progress.done(done)
            if done.record is not None:
                records.add(done.record)
                if announced is not None:
                    announced.record(done.record)
            else:
                result.failures.append(
                    Failure(node.name, done.task.key, done.error or "", *_where(done.task), done.trace or "")
                )
        for path in sorted(damaged):
            _make_again(path, dataset, storage, executor, progress, log, result)
        pending = waiting
    ordered = records.ordered(t.key for t in tasks)
    if len(ordered) == len(tasks):
        write_manifest(storage, node, tasks, ordered)
        if len(ordered) > HELD:
            return records_of(storage, manifest_name(node, tasks)) or ordered
    return list(ordered) if len(ordered) <= HELD else ordered


def _make_again(
    path: str,
    dataset: Dataset,
    storage: Storage,
    executor: Executor,
    progress: Progress,
    log: "RunLog",
    result: Run,
) -> None:
    """Do the task that wrote a file once more. Where none of this run did, or it cannot, the reader's failure tells."""
    if path in result.made_again:
        return
    result.made_again.add(path)
    for name, records in result.records.items():
        for record in records:
            if path in [file.path for file in record.data]:
                progress.say(f"`{path}` is damaged; `{name}` makes it again")
                node = dataset.node(name)
                # Made anew: to keep the tasks of all nodes for this would be most of the driver's memory.
                tasks = node.tasks(Context(storage, Tools(), result.records).seen_by(node))
                task = next(t for t in tasks if t.key == record.key)
                # The record stands for its files: without it the task is done again, to the same bytes.
                storage.remove(record.path)
                while True:
                    (done,) = executor.run([task], storage)
                    log.note(done)
                    if done.damaged is None or done.damaged in result.made_again:
                        break
                    _make_again(done.damaged, dataset, storage, executor, progress, log, result)
                if not storage.exists(record.path):
                    storage.create(record.path, record.to_json())
                return


def _where(task: Task) -> tuple[str, str]:
    inputs = task.inputs
    return (str(inputs[0]), f"{inputs[0]}/{inputs[2].files[0].name}") if task.node.name == "measure" else ("", "")


def manifest_name(node: Node, tasks: Sequence[Task]) -> str:
    return f"{node.folder}/manifest-{fingerprint([t.key for t in tasks])}.json"


def write_manifest(storage: Storage, node: Node, tasks: Sequence[Task], records: Sequence[Record]) -> None:
    """The records of all of a node's tasks, in one file; and the file that says so, which ends the node."""
    accept = {name: list(versions) for name, versions in node.accept.items()}
    said = {"node": node.name, "identity": node.identity, "accept": accept}
    write_records(storage, manifest_name(node, tasks), said, records)


class Silent:
    """A Progress that says nothing."""

    def node(self, node: Node, tasks: int, pending: int) -> None: ...

    def done(self, done: Done) -> None: ...

    def say(self, message: str) -> None: ...
