"""Records: a task's result is committed once, and sums over counts do not depend on who adds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.errors import ShardError
from marco_data.reach import Reach
from marco_data.records import DROPPED, FOUND_AT_ONCE, KEPT, READ, Count, Record, add_counts, commit_record, load_record
from marco_data.stage import Stage
from marco_data.storage import DataFile, Storage

COUNTS = st.builds(
    Count,
    outcome=st.sampled_from([READ, KEPT, DROPPED]),
    source=st.sampled_from(["web", "books"]),
    language=st.sampled_from(["eng_Latn", "ben_Beng"]),
    reason=st.sampled_from(["", "quality/too_few_words"]),
    documents=st.integers(0, 1000),
    bytes=st.integers(0, 10**12),
    tokens=st.integers(0, 10**12),
)


@given(counts=st.lists(COUNTS, max_size=30), data=st.data())
def test_a_sum_depends_neither_on_order_nor_on_grouping(counts: list[Count], data: st.DataObject):
    shuffled = data.draw(st.permutations(counts))
    cut = data.draw(st.integers(0, len(counts)))
    parts = [*add_counts(shuffled[:cut]), *add_counts(shuffled[cut:])]
    assert add_counts(parts) == add_counts(counts)


@given(st.lists(COUNTS, max_size=30))
def test_a_sum_has_one_entry_a_group_and_loses_nothing(counts: list[Count]):
    sums = add_counts(counts)
    assert len({count.group for count in sums}) == len(sums)
    assert list(sums) == sorted(sums)
    for unit in ("documents", "bytes", "tokens"):
        assert sum(getattr(c, unit) for c in sums) == sum(getattr(c, unit) for c in counts)


def record(digest: str = "0123456789abcdef") -> Record:
    return Record(
        "measure-0123",
        "web-a.4567",
        {"slice": {"files": [{"name": "ä.jsonl", "size": 5}]}},
        (DataFile("measure-0123/web-a.4567.000.01234567.parquet", 10, digest, 3),),
        (Count(READ, "web", "eng_Latn", documents=3, bytes=9),),
        {"source": "web", "files": ["web/ä.jsonl"], "nested": [1, None, {"a": 0.5}]},
    )


def test_a_record_read_back_is_the_record(tmp_path: Path):
    storage = Storage(str(tmp_path))
    assert load_record(storage, "measure-0123", "web-a.4567") is None
    assert commit_record(storage, record()) == record()
    assert load_record(storage, "measure-0123", "web-a.4567") == record()
    assert Record.from_json(json.loads(record().to_json())) == record()


def test_of_two_attempts_the_first_record_counts(tmp_path: Path):
    storage = Storage(str(tmp_path))
    first = commit_record(storage, record())
    slower = Record(first.folder, first.key, first.reads, first.data, first.counts, {"other": True})
    assert commit_record(storage, slower) == first
    assert load_record(storage, first.folder, first.key) == first


def test_two_attempts_that_wrote_other_bytes_are_an_alarm(tmp_path: Path):
    storage = Storage(str(tmp_path))
    commit_record(storage, record())
    with pytest.raises(ShardError, match="wrote different bytes"):
        commit_record(storage, record(digest="f" * 16))
    assert load_record(storage, "measure-0123", "web-a.4567") == record()


def test_the_bytes_of_a_record_follow_from_its_content(tmp_path: Path):
    turned = Record(**dict(reversed(vars(record()).items())))
    assert turned.to_json() == record().to_json()
    assert record().to_json().endswith(b"\n")
    assert "ä.jsonl".encode() in record().to_json()


class Counting(Storage):
    """A root that remembers how many files each read asked for."""

    asked: ClassVar[list[int]] = []

    def read(self, path: str) -> bytes | None:
        self.asked.append(1)
        return super().read(path)

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        self.asked.append(len(paths))
        return super().read_many(paths)


def test_records_of_an_unfinished_build_are_read_many_at_a_time_in_their_order(tmp_path: Path):
    storage, number = Counting(str(tmp_path)), FOUND_AT_ONCE + 3
    folder, stage = "measure-0123456789ab", "stage-3-0123456789ab"
    keys = [f"web-{n:04d}" for n in reversed(range(number))]
    there = [key for n, key in enumerate(keys) if n not in (1, number - 2)]  # some records may be gone
    (tmp_path / folder).mkdir()
    for key in there:
        (tmp_path / folder / f"{key}.json").write_bytes(Record(folder, key, {}).to_json())
    node = {"folder": folder, "manifest": None, "records": [f"{folder}/{key}.json" for key in keys]}
    built = Stage("small", 3, stage, complete=False, recipe={}, nodes={"measure": node}, counts=())
    storage.asked.clear()
    assert [record.key for record in built.records(storage, "measure")] == there
    assert storage.asked == [FOUND_AT_ONCE, 3]
    storage.replace(f"{stage}/manifest.json", built.to_json())
    storage.asked.clear()
    reach = Reach()
    reach.add_stage(storage, stage)
    assert reach.files == {f"{folder}/{key}.json" for key in there}
    assert storage.asked == [1, FOUND_AT_ONCE, 3]  # the manifest, and two blocks of records
