"""Run files: what is written is read, in any part and any order, and what is not as written is never read."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_duplicates import root

from marco_data.errors import DamagedFile
from marco_data.run_files import RunFile, changes, in_order, in_range, merged, stretches, write_run
from marco_data.storage import Storage

PAIR = np.dtype([("key", "<u8"), ("rank", "<u8"), ("flags", "u1")])
SETTINGS = settings(deadline=None, max_examples=60)


def records(seed, n, most=40):
    rng = np.random.default_rng(seed)
    out = np.zeros(n, PAIR)
    for name in ("key", "rank"):
        out[name] = rng.integers(0, most, n)
    out["flags"] = rng.integers(0, 4, n)
    return out


def written(folder, table, block=0, parts=3):
    storage = Storage(folder)
    cuts = np.linspace(0, len(table), parts + 1).astype(int)
    pieces = [table[a:b] for a, b in pairwise(cuts)]
    return RunFile(storage, write_run(storage, f"x/run{len(table)}-{block}", pieces, table.dtype, block=block))


@SETTINGS
@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from([0, 1, 7, 64]), st.data())
def test_any_part_of_what_was_written_is_read(seed, n, block, data):
    table = records(seed, n)
    with root() as folder:
        file = written(folder, table, block)
        assert len(file) == n
        assert file.dtype == PAIR
        assert (file.read() == table).all()
        start, stop = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        assert (file.read(start, stop) == table[start:stop]).all()
        chunks = [chunk for chunk in file.chunks(13, start, stop)]  # noqa: C416
        assert (np.concatenate([table[:0], *chunks]) == table[start:stop]).all()
        some = np.sort(np.array(data.draw(st.lists(st.integers(0, max(0, n - 1)), max_size=20 if n else 0)), np.int64))
        assert (file.take(some) == table[some]).all()


@SETTINGS
@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from([1, 7, 64]), st.integers(0, 45))
def test_a_key_is_found_where_a_sorted_list_has_it(seed, n, block, key):
    table = in_order(records(seed, n), ("key",))
    with root() as folder:
        file = written(folder, table, block)
        assert file.find(key) == np.searchsorted(table["key"], key)
        assert file.find(1 << 64) == n


@SETTINGS
@given(
    st.integers(0, 2**32),
    st.integers(0, 6),
    st.sampled_from([1, 64, 10_000]),
    st.booleans(),
    st.sampled_from([2, 1000]),
)
def test_merging_is_sorting_and_what_is_asked_to_stay_together_does(seed, files, rows, whole, most):
    rng = np.random.default_rng(seed)
    tables = [in_order(records(seed + i, int(rng.integers(0, 400)), most), ("key", "rank")) for i in range(files)]
    with root() as folder:
        runs = [written(f"{folder}/{i}", table, 16) for i, table in enumerate(tables)]
        parts = [(run, 0, len(run)) for run in runs]
        chunks = list(merged(parts, ("key", "rank"), rows, whole=("key",) if whole else ()))
        every = np.concatenate([np.empty(0, PAIR), *tables])
        expected = in_order(every, ("key", "rank"))
        found = np.concatenate([np.empty(0, PAIR), *chunks])
        assert (found[["key", "rank"]] == expected[["key", "rank"]]).all()
        assert sorted(found.tolist()) == sorted(every.tolist())
        if whole:
            assert all(a["key"][-1] != b["key"][0] for a, b in pairwise(chunks))
        ranged = np.concatenate([np.empty(0, PAIR), *merged(in_range(runs, 3, 17), ("key", "rank"), rows)])
        inside = expected[(expected["key"] >= 3) & (expected["key"] < 17)]
        assert (ranged[["key", "rank"]] == inside[["key", "rank"]]).all()


@SETTINGS
@given(st.integers(0, 2**32), st.integers(1, 300), st.sampled_from([0, 1, 16]), st.data())
def test_no_flipped_bit_and_no_lost_tail_is_ever_read(seed, n, block, data):
    table = records(seed, n)
    with root() as folder:
        file = written(folder, table, block)
        path = Path(folder) / file.file.path
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            broken = bytearray(whole)
            broken[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            broken = bytearray(whole[:at])
        path.write_bytes(broken)
        with pytest.raises(DamagedFile, match="is damaged"):
            RunFile(file.storage, file.file).read()


def test_a_root_that_is_no_folder_is_read_alike():
    table = in_order(records(1, 500), ("key",))
    storage = Storage("memory://run-files")
    file = RunFile(storage, write_run(storage, "x/run", [table], PAIR, block=8))
    assert (file.read(100, 300) == table[100:300]).all()
    assert (file.take(np.array([0, 3, 250, 499])) == table[[0, 3, 250, 499]]).all()
    assert file.find(20) == np.searchsorted(table["key"], 20)
    storage.remove(file.file.path)
    with pytest.raises(DamagedFile, match="not there"):
        RunFile(storage, file.file).read()


def test_changes_and_stretches():
    table = np.array([(1, 1, 0), (1, 1, 1), (1, 2, 0), (2, 2, 0)], PAIR)
    assert changes(table, ("key", "rank")).tolist() == [True, False, True, True]
    assert changes(table[:0], ("key",)).tolist() == []
    assert stretches([3, 3, 9, 1, 1], 6) == [(0, 2), (2, 3), (3, 5)]
    assert stretches([], 6) == []
