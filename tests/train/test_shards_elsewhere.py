"""Shards in a bucket give the plan, the samples and the refusals of the same shards on a disk."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from command_line import marco
from written_shards import write_stage

from marco_data.errors import RecipeError, ShardError
from marco_data.s3 import S3
from marco_data.storage_counts import COUNTS
from marco_data.train import blend as blends
from marco_data.train.batches import Batches, Samples, documents_of
from marco_data.train.blend import load_blend
from marco_data.train.data_check import check_data

SHARDS = [([20, 30, 40], 1.0), ([25] * 8, 1.5), ([300, 7, 60], 2.25)]


@pytest.fixture(scope="module")
def root(bucket: Callable[[str], str]) -> str:
    return bucket("training")


@pytest.fixture
def stages(tmp_path: Path, root: str) -> tuple[list[Path], list[str]]:
    """Two stages on a disk and in a bucket, where each blend lies in a folder beside the shards."""
    folder = tmp_path / "lake"
    here = []
    for number in (1, 2):
        path = write_stage(folder, SHARDS[number - 1 :], stage=number)
        raw = json.loads(path.read_text())
        for row in raw["entries"]:
            row["prefix"] = f"../{row['prefix']}"
        target = folder / f"stage-{number}" / "blend.json"
        target.parent.mkdir()
        target.write_text(json.dumps(raw))
        path.unlink()
        here.append(target.parent)
    there = f"{root}/{tmp_path.name}"
    S3().put(f"{folder}/", there, recursive=True)
    return here, [f"{there}/{path.name}" for path in here]


@pytest.mark.parametrize("whole", [True, False], ids=["read whole", "too large to be"])
@pytest.mark.parametrize("order", ["stable", "megatron"])
def test_a_run_is_the_same_wherever_its_shards_lie(stages, order, whole, tmp_path, monkeypatch):
    if not whole:
        monkeypatch.setattr(blends, "READ_WHOLE", 100)
    here, there = stages
    (plan, report), (far, said) = (
        check_data(paths, sequence=16, batch=4, order=order, indexes=tmp_path / "indexes") for paths in (here, there)
    )
    assert far.digest == plan.digest
    assert [row.sources for row in said.stages] == [row.sources for row in report.stages]
    for rank in (0, 1):
        near = list(Batches(plan, batch=4, rank=rank, ranks=2))
        batches = list(Batches(far, batch=4, rank=rank, ranks=2))
        assert len(near) == len(batches) > 10
        for one, other in zip(near, batches, strict=True):
            for name in ("tokens", "documents", "sources"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert documents_of(far.stages[1], 2, 4) == documents_of(plan.stages[1], 2, 4)


def test_a_sample_costs_a_request_for_its_tokens_and_none_for_an_index_that_is_here(stages, tmp_path):
    _, (_, there) = stages
    keep = tmp_path / "indexes"
    plan, _ = check_data([there], sequence=16, batch=4, indexes=keep)
    before = {path.name: path.read_bytes() for path in keep.iterdir()}
    assert len(before) == 2
    (stage,) = plan.stages
    pieces = sum(len(stage.order(number)) for number in range(8))
    requests = COUNTS.requests.copy()
    Samples(stage).read(0, 8)
    assert COUNTS.requests - requests == {"get_object": pieces}
    requests = COUNTS.requests.copy()
    load_blend(there, indexes=keep)
    shard = (
        2 + 2 + 2
    )  # is its index what it was, how long are its tokens; the ends of two documents; its ids, its digest
    assert (COUNTS.requests - requests).total() == 2 + 2 * shard
    assert {path.name: path.read_bytes() for path in keep.iterdir()} == before


def refused(path: str, **options: object) -> str:
    with pytest.raises(RecipeError) as caught:
        load_blend(path, **options)
    assert caught.value.hint
    return caught.value.message


def first_shard(stage: str) -> str:
    folder, _, name = stage.rpartition("/")
    row = json.loads(S3().cat_file(f"{folder}/{name}/blend.json"))["entries"][0]
    return f"{folder}/{row['prefix'].removeprefix('../')}"


def test_a_shard_that_is_gone_cut_short_or_changed_is_named(stages, tmp_path):
    _, (stage, other) = stages
    prefix = first_shard(stage)
    data = S3().cat_file(f"{prefix}.bin")
    S3().pipe_file(f"{prefix}.bin", data[:-4])
    assert f"the shard `{prefix}` is broken: its .bin has {len(data) - 4} bytes" in refused(stage)
    S3().pipe_file(f"{prefix}.bin", bytes([data[0] ^ 1]) + data[1:])
    assert f"the shard `{prefix}` has changed: its bytes hash to" in refused(stage)
    S3().rm_file(f"{prefix}.bin")
    assert f"the shard `{prefix}` cannot be read" in refused(stage, indexes=tmp_path / "indexes")
    assert f"there is no `{other}-b/blend.json`" in refused(f"{other}-b")


@pytest.mark.parametrize("left", [0, 40], ids=["gone", "cut short"])
def test_a_shard_that_goes_while_it_is_trained_on_ends_the_run(stages, left):
    _, (stage, _) = stages
    plan, _ = check_data([stage], sequence=16, batch=4)
    for entry in plan.stages[0].blend.entries:
        data = S3().cat_file(f"{entry.files.prefix}.bin")
        S3().pipe_file(f"{entry.files.prefix}.bin", data[:left]) if left else S3().rm_file(f"{entry.files.prefix}.bin")
    with pytest.raises(ShardError, match="gave 0 bytes from") as caught:
        list(Batches(plan, batch=4))
    assert "last checkpoint" in str(caught.value.hint)


def test_an_index_that_was_replaced_is_fetched_anew(stages, tmp_path):
    _, (stage, _) = stages
    keep = tmp_path / "indexes"
    load_blend(stage, indexes=keep)
    prefix = first_shard(stage)
    S3().pipe_file(f"{prefix}.idx", S3().cat_file(f"{prefix}.idx")[:-8])
    assert f"the shard `{prefix}` is broken: its .idx has" in refused(stage, indexes=keep)


def test_checkpoints_need_a_disk(root):
    answer = marco("train", 3, "--root", root, "--dry-run")
    assert answer.code == 2
    assert "is not on a disk, and checkpoints are written to one" in answer.err
    assert "--out FOLDER" in answer.err


def test_threads_share_one_folder_of_copies(stages):
    """In a process that has made none yet."""
    here, _ = stages
    program = """
        import sys, tempfile, time
        from concurrent.futures import ThreadPoolExecutor
        from marco_data.filesystems import local_copy

        make = tempfile.mkdtemp

        def slow(*given, **options):
            time.sleep(0.2)
            return make(*given, **options)

        tempfile.mkdtemp = slow
        with ThreadPoolExecutor(32) as threads:
            copies = list(threads.map(local_copy, sys.argv[1:]))
        assert all(copy.stat().st_size for copy in copies)
        print(len({copy.parent for copy in copies}))
    """
    files = [str(path) for folder in here for path in folder.parent.rglob("*.idx")]
    done = subprocess.run([sys.executable, "-c", dedent(program), *files], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")
