"""`marco_data.generation.ledger`: what was answered is found again, whoever died, whatever byte was torn off."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_writer import MODEL, REVISION, request

from marco_data.generation import ledger_log
from marco_data.generation.generator import ERROR, LENGTH, STOP, Completion
from marco_data.generation.ledger import Ledger
from marco_data.storage import DataFile, Storage

WRITER = Path(__file__).parent / "ledger_writer.py"
WAIT_SECONDS = 60


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "folder":
        yield Storage(str(tmp_path / "root"))
    else:
        yield Storage(f"memory://{tmp_path.name}")
        fsspec.filesystem("memory").store.clear()


def opened(storage: Storage, place: str = "place") -> Ledger:
    return Ledger(storage, MODEL, REVISION, place)


def answer(number: int, by: str = "a") -> Completion:
    return Completion(f"{by} says {number}\nétoile", STOP, 3, number % 7, number / 8)


def fill(ledger: Ledger, numbers: list[int], by: str = "a") -> list[bytes]:
    keys = [ledger.key(request(n)) for n in numbers]
    for key, number in zip(keys, numbers, strict=True):
        ledger.append(key, request(number), answer(number, by))
    return keys


def written(storage: Storage, numbers: list[int], by: str = "a") -> DataFile:
    """A committed file of one task."""
    ledger = opened(storage)
    return ledger.finish(fill(ledger, numbers, by))


def abandoned(storage: Storage, numbers: list[int], by: str = "a") -> str:
    """The log of a task that ended without finishing; its name."""
    ledger = opened(storage)
    before = storage.names(ledger.folder)
    fill(ledger, numbers, by)
    ledger.close()
    (name,) = set(storage.names(ledger.folder)) - set(before)
    return name


def found(storage: Storage, numbers: list[int], place: str = "place") -> dict[int, Completion]:
    ledger = opened(storage, place)
    keys = {ledger.key(request(n)): n for n in numbers}
    try:
        answers = ledger.find(keys)
        assert {key for key in keys if key in ledger} >= set(answers)
        return {keys[key]: completion for key, completion in answers.items()}
    finally:
        ledger.close()


def names(storage: Storage) -> list[str]:
    return storage.names(opened(storage).folder)


def suffixes(storage: Storage) -> list[str]:
    return sorted(name.rpartition(".")[2] for name in names(storage))


def test_what_was_appended_is_found_at_once_after_a_close_and_after_a_finish(storage: Storage):
    ledger = opened(storage)
    keys = fill(ledger, [1, 2, 3])
    assert ledger.find(keys) == {key: answer(n) for key, n in zip(keys, [1, 2, 3], strict=True)}
    ledger.close()
    assert found(storage, [1, 2, 3, 4]) == {n: answer(n) for n in (1, 2, 3)}
    ledger = opened(storage)
    ledger.finish(keys)
    assert suffixes(storage) == ["parquet"]
    assert found(storage, [1, 2, 3, 4]) == {n: answer(n) for n in (1, 2, 3)}


def test_places_models_and_revisions_do_not_see_each_other(storage: Storage):
    written(storage, [1])
    assert found(storage, [1], place="other") == {}
    for model, revision in (("org-model", REVISION), (MODEL, "e" * 40)):
        other = Ledger(storage, model, revision, "place")
        key = bytes.fromhex(request(1).key(MODEL, REVISION))
        assert other.find([key]) == {}
        assert key not in other


def test_a_committed_row_says_what_was_asked_of_whom(storage: Storage):
    table = storage.read_table(written(storage, [5]).path)
    (row,) = table.to_pylist()
    assert row == {
        "key": bytes.fromhex(request(5).key(MODEL, REVISION)),
        "prompt": "ask@1",
        "model": MODEL,
        "revision": REVISION,
        "sampling": request(5).sampling.model_dump_json(),
        "schema": None,
        "sample": 0,
        "attempt": 0,
        "text": answer(5).text,
        "finish_reason": STOP,
        "tokens_in": 3,
        "tokens_out": 5,
        "gpu_seconds": 0.625,
        "check": row["check"],
    }


def test_an_answer_is_returned_as_it_will_be_found(storage: Storage):
    ledger = opened(storage)
    key = ledger.key(request(1))
    odd = Completion("half \ud83d of a pair\0\u2028", LENGTH, 1, 2, 1 / 3)
    told = ledger.append(key, request(1), odd)
    assert (told.text, told.gpu_seconds) == ("half ? of a pair\0\u2028", 0.333333)
    assert ledger.find([key]) == {key: told}
    ledger.finish([key])
    assert found(storage, [1]) == {1: told}


def test_what_was_not_answered_is_not_recorded(storage: Storage):
    ledger = opened(storage)
    with pytest.raises(AssertionError):
        ledger.append(ledger.key(request(1)), request(1), Completion("", ERROR, error="not_recorded"))
    assert ledger.key(request(1)) not in ledger


# Equal bytes


@given(order=st.permutations(range(12)), resumed=st.integers(0, 12), used=st.permutations(range(12)))
@settings(max_examples=30, deadline=None)
def test_the_same_completions_give_the_same_file_in_whatever_order_and_over_how_many_attempts(
    order: list[int], resumed: int, used: list[int], tmp_path_factory: pytest.TempPathFactory
):
    reference = written(Storage("memory://reference"), list(range(12)))
    storage = Storage(str(tmp_path_factory.mktemp("ledger")))
    if resumed:
        abandoned(storage, order[:resumed])
    ledger = opened(storage)
    fill(ledger, order[resumed:])
    file = ledger.finish(ledger.key(request(n)) for n in used)
    assert file == reference
    assert suffixes(storage) == ["parquet"]
    shutil.rmtree(storage.root)


def test_a_task_done_again_from_its_own_file_writes_that_file(storage: Storage):
    file = written(storage, list(range(600)))
    ledger = opened(storage)
    assert ledger.finish(ledger.key(request(n)) for n in range(600)) == file
    assert names(storage) == [file.path.rpartition("/")[2]]
    fewer = opened(storage)
    assert fewer.finish([fewer.key(request(3))]).rows == 1
    assert len(found(storage, list(range(600)))) == 600


# Killed, torn, damaged


def write(root: str, place: str, name: str, requests: int, notes: Path, limit: str = "") -> subprocess.Popen[str]:
    arguments = [sys.executable, str(WRITER), root, place, name, str(requests), str(notes), *([limit] * bool(limit))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=WAIT_SECONDS)
    return said.strip()


def test_killed_at_any_moment_nothing_that_was_answered_is_asked_again(tmp_path: Path):
    requests, notes, storage = 1200, tmp_path / "notes", Storage(str(tmp_path / "root"))
    rng = random.Random(5)
    for _ in range(6):
        process = write(storage.root, "place", "a", requests, notes)
        enough = (notes.stat().st_size if notes.exists() else 0) + rng.randrange(1, 6000)
        end = time.monotonic() + WAIT_SECONDS
        while not (notes.exists() and notes.stat().st_size > enough) and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        ended(process)
        answered = [int(line.split()[2]) for line in notes.read_text().splitlines() if line.startswith("answered")]
        assert set(found(storage, answered)) == set(answered)
    process = write(storage.root, "place", "a", requests, notes)
    digest = ended(process)
    assert process.returncode == 0
    lines = [line.split() for line in notes.read_text().splitlines()]
    answered = set()
    for what, _, number in lines:
        assert (what, number in answered) != ("asked", True)
        if what == "answered":
            answered.add(number)
    assert len(answered) == requests
    assert suffixes(storage) == ["parquet"]
    alone = write(str(tmp_path / "other"), "place", "a", requests, tmp_path / "others")
    assert ended(alone) == digest


def test_a_full_disk_loses_nothing_that_was_answered(tmp_path: Path):
    notes, storage = tmp_path / "notes", Storage(str(tmp_path / "root"))
    process = write(storage.root, "place", "a", 500, notes, limit="20000")
    ended(process)
    lines = [line.split() for line in notes.read_text().splitlines()]
    answered = [int(number) for what, *_, number in lines if what == "answered"]
    assert (process.returncode, lines[-1]) == (3, ["stopped", str(errno.EFBIG)])
    assert 10 < len(answered) < 500
    assert set(found(storage, answered)) == set(answered)
    assert ended(write(storage.root, "place", "a", 500, notes)) == ended(
        write(str(tmp_path / "other"), "place", "a", 500, tmp_path / "others")
    )


def test_a_log_torn_at_any_byte_loses_only_what_was_torn(tmp_path: Path):
    storage = Storage(str(tmp_path))
    log = tmp_path / opened(storage).folder / abandoned(storage, [1, 2, 3])
    data = log.read_bytes()
    ends = [at for at in range(len(data)) if data[at : at + 1] == b"\n" and at and data[at - 1 : at] != b"\n"]
    assert len(ends) == 3
    for size in range(len(data)):
        log.write_bytes(data[:size])
        whole = sum(size >= end for end in ends)
        assert found(storage, [1, 2, 3]) == {n: answer(n) for n in (1, 2, 3)[:whole]}
    for size in range(0, len(data), 5):  # the next attempt goes on in a log of its own
        log.write_bytes(data[:size])
        ledger = opened(storage)
        lost = [n for n in (1, 2, 3) if ledger.key(request(n)) not in ledger]
        fill(ledger, lost)
        assert ledger.finish(ledger.key(request(n)) for n in (1, 2, 3)).rows == 3
        assert suffixes(storage) == ["parquet"]


def test_a_flipped_byte_in_a_log_costs_the_completion_it_lies_in_and_is_counted(tmp_path: Path):
    storage = Storage(str(tmp_path))
    name = abandoned(storage, [1, 2, 3])
    log = tmp_path / opened(storage).folder / name
    data = log.read_bytes()
    for at in range(len(data)):
        for flip in (1, data[at] ^ 0x0A):  # the second makes a newline of it
            changed = bytearray(data)
            changed[at] ^= flip
            log.write_bytes(changed)
            left = found(storage, [1, 2, 3])
            assert all(left[n] == answer(n) for n in left)
            assert len(left) >= 2
            ledger = opened(storage)
            keys = [ledger.key(request(n)) for n in (1, 2, 3)]
            assert len(ledger.find(keys)) == 3 or ledger.damaged
            ledger.close()


def test_a_flipped_byte_in_a_committed_file_costs_its_row_group_and_is_counted(tmp_path: Path):
    storage = Storage(str(tmp_path))
    file = written(storage, list(range(1000)))
    path = tmp_path / file.path
    group = pq.read_metadata(path).row_group(1)
    data = path.read_bytes()
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for name in ("text", "key"):
        changed = bytearray(data)
        changed[columns[name].data_page_offset + columns[name].total_compressed_size - 5] ^= 1
        path.write_bytes(changed)
        ledger = opened(storage)
        keys = {ledger.key(request(n)): n for n in range(1000)}
        answers = ledger.find(keys)
        assert all(answers[key] == answer(keys[key]) for key in answers)
        assert (len(answers), ledger.damaged) == (1000 - 256, {file.path: 256})
        # Asked again, they make the file whole.
        fill(ledger, [n for key, n in keys.items() if key not in answers])
        assert ledger.finish(keys) == file
        assert path.read_bytes() == data


def test_no_flipped_byte_of_a_committed_file_changes_an_answer_or_stops_a_task(tmp_path: Path):
    storage = Storage(str(tmp_path))
    path = tmp_path / written(storage, [1, 2, 3]).path
    data = path.read_bytes()
    for at in range(0, len(data), 5):
        for flip in (1, 0xFF):
            changed = bytearray(data)
            changed[at] ^= flip
            path.write_bytes(changed)
            left = found(storage, [1, 2, 3])
            assert left == {n: answer(n) for n in left}


def test_a_committed_file_without_its_end_counts_as_not_there(tmp_path: Path):
    storage = Storage(str(tmp_path))
    file = written(storage, [1, 2])
    written(storage, [3])
    path = tmp_path / file.path
    path.write_bytes(path.read_bytes()[:-20])
    ledger = opened(storage)
    keys = [ledger.key(request(n)) for n in (1, 2, 3)]
    assert ledger.find(keys) == {keys[2]: answer(3)}
    ledger.close()
    assert ledger.damaged == {file.path: -1}


# Several attempts in one place


def test_of_equal_keys_a_committed_one_counts_then_the_least_name(tmp_path: Path):
    storage = Storage(str(tmp_path))
    committed = {written(storage, [1, 10], by="b").path: "b", written(storage, [1, 11], by="c").path: "c"}
    logs = {abandoned(storage, [1, 2, 12], by=by): by for by in "deafg"}
    assert found(storage, [1, 2]) == {
        1: answer(1, committed[min(committed)]),
        2: answer(2, logs[min(logs)]),
    }


def test_what_a_task_used_is_what_it_commits_whatever_came_in_the_meantime(tmp_path: Path):
    storage = Storage(str(tmp_path))
    ledger = opened(storage)
    keys = fill(ledger, [1, 2], by="mine")
    for by in "abcdef":
        written(storage, [1], by=by)
    file = ledger.finish(keys)
    assert [row["text"] for row in storage.read_table(file.path).to_pylist()] == [
        answer(n, "mine").text for n in sorted((1, 2), key=lambda n: keys[n - 1])
    ]


def test_a_log_stays_as_long_as_it_has_the_only_copy_of_a_completion(storage: Storage):
    log = abandoned(storage, [1, 2])
    written(storage, [1, 3])
    assert log in names(storage)
    ledger = opened(storage)
    ledger.finish([ledger.key(request(1))])
    assert log in names(storage)
    ledger = opened(storage)
    ledger.finish(ledger.key(request(n)) for n in (1, 2))
    assert suffixes(storage) == ["parquet"] * 3
    assert found(storage, [1, 2, 3]) == {n: answer(n) for n in (1, 2, 3)}


def test_what_a_task_was_answered_and_did_not_use_stays(storage: Storage):
    ledger = opened(storage)
    keys = fill(ledger, [1, 2])
    ledger.finish(keys[:1])
    assert suffixes(storage) == ["log", "parquet"]
    assert found(storage, [1, 2]) == {n: answer(n) for n in (1, 2)}


def test_the_log_of_a_living_attempt_is_left_alone(tmp_path: Path):
    storage = Storage(str(tmp_path))
    living = opened(storage)
    fill(living, [1])
    written(storage, [1])
    assert suffixes(storage) == ["log", "parquet"]
    fill(living, [2])
    living.close()
    assert found(storage, [1, 2]) == {n: answer(n) for n in (1, 2)}


def test_two_processes_in_one_place_lose_nothing_and_agree(tmp_path: Path):
    storage = Storage(str(tmp_path / "root"))
    both = [write(storage.root, "place", name, 800, tmp_path / name) for name in ("a", "b")]
    digests = {ended(process) for process in both}
    assert [process.returncode for process in both] == [0, 0]
    answers = found(storage, list(range(800)))
    assert len(answers) == 800
    assert {c.text.split()[0] for c in answers.values()} <= {"a", "b"}
    # Each committed what it used; whoever comes next finds the same as everybody else.
    third = write(storage.root, "place", "c", 800, tmp_path / "c")
    ended(third)
    assert "asked" not in (tmp_path / "c").read_text()
    assert found(storage, list(range(800))) == answers
    assert {name.split(".")[1] for name in names(storage) if name.endswith(".parquet")} >= {d[:8] for d in digests}


def test_ten_thousand_completions_are_found_each_by_its_key(storage: Storage):
    written(storage, list(range(10_000)))
    abandoned(storage, list(range(10_000, 10_200)))
    ledger = opened(storage)
    keys = [ledger.key(request(n)) for n in range(10_400)]
    answers = ledger.find(keys)
    assert [answers.get(key) for key in keys] == [*map(answer, range(10_200)), *[None] * 200]
    assert [key in ledger for key in keys] == [True] * 10_200 + [False] * 200
    some = random.Random(1).sample(range(10_400), 200)
    assert [ledger.find([keys[n]]) for n in some] == [{keys[n]: answer(n)} if n < 10_200 else {} for n in some]


# Roots that are not on this machine


def test_elsewhere_completions_become_objects_by_number_and_by_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    storage = Storage(f"memory://{tmp_path.name}")
    ledger = opened(storage)

    def objects(most: int) -> int:
        end = time.monotonic() + 5
        while len(names(storage)) < most and time.monotonic() < end:
            time.sleep(0.01)
        return len(names(storage))

    fill(ledger, list(range(ledger_log.OBJECT_ROWS + 10)))
    assert objects(1) == 1
    assert len(found(storage, list(range(300)))) >= ledger_log.OBJECT_ROWS
    ledger.close()
    assert len(found(storage, list(range(300)))) == ledger_log.OBJECT_ROWS + 10
    monkeypatch.setattr(ledger_log, "OBJECT_SECONDS", 0.05)
    ledger = opened(storage)
    before = len(names(storage))
    fill(ledger, [1000])
    assert objects(before + 1) == before + 1
    assert found(storage, [1000]) == {1000: answer(1000)}
    fill(ledger, [1001])
    assert objects(before + 2) == before + 2
    ledger.close()


def test_on_s3_writers_of_one_place_lose_nothing(bucket: Callable[[str], str], tmp_path: Path):
    storage = Storage(bucket("ledger"))
    notes = {name: tmp_path / name for name in "ab"}
    both = [write(storage.root, "place", name, 400, notes[name]) for name in "ab"]
    assert all(ended(process) for process in both)
    assert len(found(storage, list(range(400)))) == 400
    assert set(suffixes(storage)) == {"parquet"}


def test_on_s3_a_killed_attempt_is_gone_on_with_from_its_objects(bucket: Callable[[str], str], tmp_path: Path):
    local = Storage(str(tmp_path / "root"))
    digest = ended(write(local.root, "place", "a", 400, tmp_path / "c"))
    there = Storage(bucket("killed-ledger"))
    killed = write(there.root, "place", "a", 400, tmp_path / "d")
    end = time.monotonic() + WAIT_SECONDS
    while not names(there) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    ended(killed)
    kept = len(found(there, list(range(400))))
    assert kept >= ledger_log.OBJECT_ROWS
    assert ended(write(there.root, "place", "a", 400, tmp_path / "e")) == digest
    assert (tmp_path / "e").read_text().count("asked") == 400 - kept
    assert suffixes(there) == ["parquet"]
