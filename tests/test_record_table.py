"""`marco_data.record_table`: any number of records as one table, in the order of the tasks, equal to plain ones."""

import pickle
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.scale.nothing import Answers, chain
from marco_data.dataset import Context, Task
from marco_data.execute import Done, Silent, manifest_name, run
from marco_data.record_table import HELD, ROWS, Gathered, Records, records_of, sums_of, write_records
from marco_data.records import Record, add_counts
from marco_data.step import Tools
from marco_data.storage import Storage

SHARDS = 2 * ROWS + 300
PASSES = 2


def tasks_of(storage: Storage, shards: int = SHARDS) -> list[Task]:
    return chain(shards, 3, 1).nodes[0].tasks(Context(storage, Tools(), {}))


def records_made(storage: Storage, shards: int = SHARDS) -> list[Record]:
    return [done.record for done in Answers().run(tasks_of(storage, shards), storage) if done.record]


@dataclass(frozen=True)
class Watched(Storage):
    """A storage that notes what is asked of it."""

    asked: list[str] = field(default_factory=list, compare=False)

    def names(self, folder: str) -> list[str]:
        self.asked.append(f"list {folder}")
        return super().names(folder)

    def read(self, path: str) -> bytes | None:
        self.asked.append(f"read {path}")
        return super().read(path)

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        self.asked.append(f"read {len(paths)}")
        return super().read_many(paths)


class Shuffled(Answers):
    """Ends its tasks in an order of its own."""

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        yield from super().run(random.Random(5).sample(list(tasks), len(tasks)), storage)


class Shattered(Answers):
    """May not be asked for anything."""

    def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
        raise AssertionError(f"{len(tasks)} tasks were sent")


def test_records_that_come_in_any_order_stand_in_that_of_the_tasks(tmp_path: Path):
    made = records_made(Storage(str(tmp_path)))
    gathered = Gathered(made[0].folder)
    for record in random.Random(3).sample(made, len(made)):
        gathered.add(record)
    ordered = gathered.ordered(record.key for record in made)
    assert list(ordered) == made
    assert len(ordered) == len(made)
    assert ordered.sums() == add_counts(count for record in made for count in record.counts)


def test_those_that_have_not_come_are_left_out(tmp_path: Path):
    made = records_made(Storage(str(tmp_path)), 50)
    gathered = Gathered(made[0].folder)
    for record in made[10:20]:
        gathered.add(record)
    assert list(gathered.ordered(record.key for record in made)) == made[10:20]
    assert list(gathered.ordered([])) == []


def test_a_written_table_is_read_as_the_list_it_was_written_from(tmp_path: Path):
    storage = Storage(str(tmp_path))
    made = records_made(storage)
    write_records(storage, "nothing-0/manifest-1.json", {"node": "nothing"}, made)
    read = records_of(storage, "nothing-0/manifest-1.json")
    assert isinstance(read, Records)
    assert len(made) > HELD
    folder = [Record("nothing-0", r.key, r.reads, r.data, r.counts, r.facts) for r in made]
    assert read == folder
    assert (read[0], read[-1], read[ROWS + 1]) == (folder[0], folder[-1], folder[ROWS + 1])
    assert read[5:9] == folder[5:9]
    assert read[-3:] == folder[-3:]
    with pytest.raises(IndexError):
        read[len(made)]
    assert sums_of(read) == sums_of(folder)


def test_a_walk_over_a_large_table_reads_keys_and_files_and_the_rest_when_asked(tmp_path: Path):
    storage = Storage(str(tmp_path))
    made = records_made(storage)
    write_records(storage, "nothing-0/manifest-1.json", {"node": "nothing"}, made)
    walked = list(records_of(storage, "nothing-0/manifest-1.json") or ())
    later = vars(walked[0])["_column"]
    assert [(record.key, record.data) for record in walked] == [(record.key, record.data) for record in made]
    assert list(later.read) == []
    assert [record.facts for record in walked] == [record.facts for record in made]
    assert list(later.read) == ["facts"]
    assert walked[-1].counts == made[-1].counts


def test_a_record_of_a_table_travels_as_a_plain_one(tmp_path: Path):
    made = records_made(Storage(str(tmp_path)), 3)
    gathered = Gathered(made[0].folder)
    for record in made:
        gathered.add(record)
    (stored, *_) = gathered.ordered([made[1].key])
    sent = pickle.dumps(stored)
    assert type(pickle.loads(sent)) is Record
    assert pickle.loads(sent) == stored == made[1]
    assert stored.to_json() == made[1].to_json()
    assert len(sent) < 3000


def test_a_large_node_is_a_table_and_its_files_do_not_depend_on_who_ended_first(tmp_path: Path):
    plan = chain(SHARDS, 3, PASSES)
    trees = []
    for name, executor in (("a", Answers()), ("b", Shuffled())):
        result = run(plan, Storage(str(tmp_path / name)), executor, Silent())
        assert all(isinstance(records, Records) for records in result.records.values())
        files = sorted((tmp_path / name).glob("nothing-*/*"))
        trees.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in files])
    assert trees[0] == trees[1]
    assert len(trees[0]) == 2 * PASSES


def test_a_second_run_of_what_is_all_there_sends_nothing_lists_no_node_and_reads_a_few_files(tmp_path: Path):
    plan = chain(SHARDS, 1, PASSES)
    first = run(plan, Storage(str(tmp_path)), Answers(), Silent())
    watched = Watched(str(tmp_path))
    second = run(plan, watched, Shattered(), Silent())
    assert second.manifests == first.manifests
    assert second.records == first.records
    assert [what for what in watched.asked if what.startswith("list nothing")] == []
    assert len([what for what in watched.asked if what.startswith("read nothing")]) == PASSES


def test_a_resumed_node_reads_its_records_many_at_once_and_does_the_others(tmp_path: Path):
    plan, watched = chain(SHARDS, 1, 1), Watched(str(tmp_path))
    whole = run(plan, Storage(str(tmp_path / "whole")), Answers(), Silent())
    made = records_made(Storage(str(tmp_path)), SHARDS)
    plain = {task.key for task in plan.nodes[0].tasks(Context(watched, Tools(), {}))}
    for record in whole.records["nothing_measure"][: SHARDS // 2]:
        watched.create(record.path, record.to_json())
    watched.asked.clear()
    sent: list[str] = []

    class Rest(Answers):
        def run(self, tasks: Sequence[Task], storage: Storage) -> Iterator[Done]:
            sent.extend(task.key for task in tasks)
            yield from super().run(tasks, storage)

    resumed = run(plan, watched, Rest(), Silent())
    assert resumed.records == whole.records
    assert len(sent) == SHARDS - SHARDS // 2
    assert len(plain) == len(made) == SHARDS
    folder = plan.nodes[0].folder
    single = [what for what in watched.asked if what.startswith(f"read {folder}/") and "manifest" not in what]
    assert single == []
    assert watched.asked.count(f"list {folder}") == 1
    assert (
        manifest_name(plan.nodes[0], plan.nodes[0].tasks(Context(watched, Tools(), {}))) in resumed.manifests.values()
    )
