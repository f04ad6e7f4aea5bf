"""What a node has committed so far: sums of records, each read once, and by nothing that was kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import as_recipe, recipe_values, write_corpus

from marco_data.committed import Committed, committed, counts_at
from marco_data.dataset import Task
from marco_data.kept_sums import FOLDER, KEYS, WORTH_KEEPING
from marco_data.records import Count, Record, add_counts, commit_record
from marco_data.run_state import Announced, NodeState, find_state
from marco_data.storage import Storage, write_parquet

NODE = "measure-0123456789ab"
MANY = WORTH_KEEPING + 10
"""Records whose sums are kept."""


@dataclass(frozen=True)
class Watched(Storage):
    """A storage that remembers which records it was asked for."""

    asked: list[str] = field(default_factory=list)

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        self.asked.extend(paths)
        return super().read_many(paths)


def record(number: int) -> Record:
    counts = (
        Count("read", "web", "eng_Latn", documents=number, bytes=10 * number),
        Count("failed", "web", "ben_Beng", reason='read/"odd"\n', documents=1, tokens=2**40),
    )
    return Record(NODE, f"key-{number}.{number:012x}", {"n": [number]}, counts=counts, facts={"files": ["é"]})


def commit(storage: Storage, numbers: Sequence[int]) -> tuple[Count, ...]:
    for number in numbers:
        commit_record(storage, record(number))
    return add_counts(count for number in numbers for count in record(number).counts)


def state(storage: Storage, numbers: Sequence[int]) -> NodeState:
    table = pa.table({"key": [record(number).key for number in numbers]}, schema=KEYS)
    keys = write_parquet(storage, f"{FOLDER}/run-measure", [table], KEYS).path
    return NodeState("measure", "measure", NODE, len(numbers), f"{NODE}/manifest-none.json", keys)


counts = st.builds(
    Count,
    st.sampled_from(["read", "dropped"]),
    st.text(max_size=3),
    st.text(max_size=3),
    reason=st.text(max_size=5),
    part=st.sampled_from(["", "a"]),
    documents=st.integers(0, 2**40),
    bytes=st.integers(0, 2**40),
    tokens=st.integers(0, 2**40),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(counts, max_size=4), min_size=1, max_size=6))
def test_arrow_sums_records_as_python_does(records: list[list[Count]]) -> None:
    storage = Storage("memory://sums")
    made = [Record("n", f"k{i}", {"i": i}, counts=tuple(given)) for i, given in enumerate(records)]
    for one in made:
        storage.replace(one.path, one.to_json())
    found = counts_at(storage, [one.path for one in made])
    assert found == add_counts(count for given in records for count in given)


def test_a_look_reads_only_what_came_since_the_last(tmp_path: Path) -> None:
    storage = Watched(str(tmp_path))
    numbers = range(2 * WORTH_KEEPING)
    node = state(storage, numbers)
    half = numbers[:MANY]
    expected = commit(storage, half)
    assert committed(storage, node) == Committed("measure", len(numbers), len(half), expected)
    assert len(storage.asked) == len(half)
    storage.asked.clear()
    assert committed(storage, node).counts == expected
    assert storage.asked == []
    commit(storage, [300])
    assert committed(storage, node).counts == add_counts([*expected, *record(300).counts])
    assert storage.asked == [record(300).path]


def test_the_kept_sums_decide_nothing(tmp_path: Path) -> None:
    storage = Watched(str(tmp_path))
    numbers = range(MANY)
    node = state(storage, numbers)
    expected = commit(storage, numbers)
    committed(storage, node)
    (kept,) = (tmp_path / FOLDER).glob("sums-*.parquet")
    for damage in (b"", b"PAR1 no parquet", kept.read_bytes()[:-20]):
        kept.write_bytes(damage)
        storage.asked.clear()
        assert committed(storage, node).counts == expected
        assert len(storage.asked) == len(numbers)
    # A record that is gone, as when a damaged file is made again, is not counted from what was kept.
    storage.remove(record(7).path)
    left = [number for number in numbers if number != 7]
    assert committed(storage, node).counts == add_counts(c for n in left for c in record(n).counts)
    assert committed(storage, node).done == len(left)


def test_a_root_that_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class ReadOnly(Watched):
        def replace(self, path: str, data: bytes) -> None:
            raise PermissionError(path)

    numbers = range(MANY)
    node = state(Storage(str(tmp_path)), numbers)
    expected = commit(Storage(str(tmp_path)), numbers)
    for _ in range(2):
        assert committed(ReadOnly(str(tmp_path)), node).counts == expected
    assert not list((tmp_path / FOLDER).glob("sums-*"))


def test_a_run_keeps_the_sums_of_what_it_does_for_whoever_looks(tmp_path: Path) -> None:
    storage = Watched(str(tmp_path / "out"))
    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "in")))
    node = recipe.pipeline_function()(recipe).node("measure")
    tasks = [Task(node, f"file-{number}", {"n": number}, None) for number in range(2 * MANY)]
    announced = Announced.of(recipe, [node], storage)
    announced.every = 0.0
    announced.node(node, tasks, there=False)
    for task in tasks[:MANY]:
        counts = (Count("read", "web", "eng_Latn", documents=3, bytes=30),)
        announced.record(commit_record(storage, Record(node.folder, task.key, dict(task.reads), counts=counts)))
    state = find_state(storage, "small", 3)
    assert state is not None
    found = committed(storage, state.nodes[0])
    assert (found.tasks, found.done) == (2 * MANY, MANY)
    assert found.counts == (Count("read", "web", "eng_Latn", documents=3 * MANY, bytes=30 * MANY),)
    assert len(storage.asked) < MANY // 10, "what the run had summed was read again"


def test_records_of_other_tasks_in_the_folder_are_not_read(tmp_path: Path) -> None:
    storage = Watched(str(tmp_path))
    commit(storage, [1, 2, 3])
    found = committed(storage, state(storage, [2, 9]))
    assert (found.done, found.counts) == (1, add_counts(record(2).counts))
    assert storage.asked == [record(2).path]


@pytest.mark.parametrize("root", ["memory://many", "local"])
def test_of_many_files_those_that_are_not_there_are_left_out(root: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path) if root == "local" else root)
    for name in ("a", "b"):
        storage.replace(f"f/{name}", name.encode())
    assert storage.read_many(["f/b", "f/none", "f/a"]) == [b"b", b"a"]
    assert storage.read_many(["f/none"]) == []
    assert storage.read_many([]) == []


def test_a_node_that_was_not_reached_has_nothing() -> None:
    nothing = NodeState("mix", "mix", "mix-0123456789ab")
    assert committed(Storage("memory://none"), nothing) == Committed("mix", None, 0)
