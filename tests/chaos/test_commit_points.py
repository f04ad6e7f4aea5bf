"""Killed right before or right after any write of any kind of node: the rerun ends with the bytes of a quiet build."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from chain import Heard, build
from fatal_storage import AFTER, BEFORE, DIED, FatalStorage, Point, Write
from roots import HERE, digests

from benchmarks.chaos.recipes import STAGES, recipe_name, write_recipes

ROOT = HERE.parent


@dataclass(frozen=True)
class Quiet:
    """A recipe, and the build of it that nothing disturbed: its bytes and its writes in order."""

    recipe: Path
    pools: Path
    digests: dict[str, str]
    writes: Sequence[Write]


@pytest.fixture(scope="module", params=STAGES, ids="stage {}".format)
def quiet(request, tmp_path_factory: pytest.TempPathFactory) -> Quiet:
    folder = tmp_path_factory.mktemp("quiet")
    write_recipes(folder)
    recipe, pools = folder / recipe_name(request.param), folder / "pools.yaml"
    storage = FatalStorage(str(folder / "out"))
    assert build(str(recipe), str(pools), storage, Heard()).balanced
    return Quiet(recipe, pools, digests(folder / "out"), tuple(storage.writes))


def each_kind(writes: Sequence[Write]) -> list[Write]:
    """Of each node and kind of write the second where there are several: then the node has records already."""
    chosen: dict[tuple[str, str], list[Write]] = {}
    for write in writes:
        chosen.setdefault((write.node, write.kind), []).append(write)
    second = {same[min(1, len(same) - 1)] for same in chosen.values()}
    return [write for write in writes if write in second]


def die_at(points: Sequence[Point], quiet: Quiet, root: Path) -> None:
    """Builds in one root that die at these points, in the order of the writes, and one that does not."""
    given = {
        "recipe": str(quiet.recipe),
        "pools": str(quiet.pools),
        "root": str(root),
        "points": [[asdict(point.write), point.when] for point in points],
    }
    paths = [str(ROOT), str(HERE), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("chain.py")],
        input=json.dumps(given),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    ends = [line for line in told if "ended" in line]
    assert [(line["point"], line["ended"]) for line in ends[:-1]] == [(str(point), DIED) for point in points]
    assert ends[-1]["ended"] == 0, done.stderr
    (last,) = [line for line in told if "said" in line]
    # Each build found the lease of one that had died, and did not wait for it.
    assert last == {"balanced": True, "complete": True, "said": []}
    assert digests(root) == quiet.digests
    assert not list((root / "runs" / "leases").iterdir())


def left_in_scratch(root: Path) -> int:
    return sum(1 for path in (root / "runs" / "tmp").rglob("*") if path.is_file())


@pytest.mark.parametrize("quiet", STAGES[-1:], indirect=True, ids="stage {}".format)
def test_a_build_killed_at_writes_of_every_kind_goes_on_to_the_same_bytes(quiet: Quiet, tmp_path: Path):
    drawn = random.Random(7)
    writes = each_kind(quiet.writes)
    kinds = {write.kind for write in writes}
    assert kinds == {"data", "record", "table", "manifest", "stage", "pointer"}
    points = [
        Point(drawn.choice([w for w in writes if w.kind == kind]), when) for kind in kinds for when in (BEFORE, AFTER)
    ]
    die_at(sorted(points, key=lambda p: (quiet.writes.index(p.write), p.when == AFTER)), quiet, tmp_path)
    # A kill leaves at most what it was writing: files of a day ago are removed by any run.
    assert left_in_scratch(tmp_path) <= len(points)


@pytest.mark.slow
def test_a_build_killed_before_and_after_every_kind_of_write_of_every_node_goes_on_to_the_same_bytes(
    quiet: Quiet, tmp_path: Path
):
    points = [Point(write, when) for write in each_kind(quiet.writes) for when in (BEFORE, AFTER)]
    nodes = {point.write.node for point in points}
    assert {"measure", "buckets", "settle", "dedup", "tokenize", "mix", "shards", "stage", "stages"} <= nodes
    die_at(points, quiet, tmp_path)
    assert left_in_scratch(tmp_path) <= 3 * len(points)  # tokens, index and lineage of a shard are written together
