"""The log of a run: it outlives what storage refuses, and no run ends by it."""

import json
from pathlib import Path

from marco_data.dataset import Context, Node, Outcome, Task
from marco_data.errors import StorageUnreachable
from marco_data.execute import Done
from marco_data.run_log import RunLog, job_name
from marco_data.step import Tools
from marco_data.storage import Storage


class Nothing(Node):
    kind = "nothing"

    def config(self, tools: Tools) -> dict[str, object]:
        return {}

    def tasks(self, context: Context) -> list[Task]:
        return [Task(self, f"task-{n}", {}, n) for n in range(3)]

    def work(self, task: Task, storage: Storage, tools: Tools) -> Outcome:
        return Outcome()


def test_lines_that_storage_did_not_take_go_with_the_next(tmp_path: Path, monkeypatch):
    storage, takes = Storage(str(tmp_path)), Storage.replace
    refusals = [StorageUnreachable("storage did not answer"), OSError(28, "full")]

    def replace(self: Storage, path: str, data: bytes) -> None:
        if refusals:
            raise refusals.pop()
        takes(self, path, data)

    monkeypatch.setattr(Storage, "replace", replace)
    with RunLog(storage) as log:
        for task in Nothing().tasks(Context(storage, Tools(), {})):
            log.note(Done(task, None, 1.0, "an error"))
            log.write()
    (path,) = (tmp_path / "runs").glob("*.jsonl")
    assert [json.loads(line)["task"] for line in path.read_text().splitlines()] == [
        task.key for task in Nothing().tasks(Context(storage, Tools(), {}))
    ]
    assert path.name.endswith("-00000.jsonl")


def test_a_run_whose_log_cannot_be_written_ends_as_it_would(tmp_path: Path):
    storage = Storage(str(tmp_path))
    (tmp_path / "runs").write_text("in the way")
    with RunLog(storage) as log:
        (task, *_) = Nothing().tasks(Context(storage, Tools(), {}))
        log.note(Done(task, None, 1.0, "an error"))


def test_two_processes_of_one_number_have_two_names(monkeypatch):
    monkeypatch.delenv("MARCO_DATA_JOB", raising=False)
    one = job_name()
    monkeypatch.setattr("marco_data.run_log._DRAWN", "another")
    assert job_name() != one
    monkeypatch.setenv("MARCO_DATA_JOB", "small-3-abc")
    assert job_name() == "small-3-abc"
