"""The benchmark of deduplication by size: what it plants is what it says, and a small run of it from end to end."""

import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.dedup_scale.corpus import BEFORE, Corpus, corpus, make, short, write_texts
from benchmarks.dedup_scale.nodes import NodeTimes, Times, timed
from benchmarks.dedup_scale.peers import Limits, Peer, peers, run_peer
from benchmarks.dedup_scale.planted import (
    ALONE,
    COPY,
    EDGE,
    KINDS,
    LANGUAGES,
    LOOSE,
    NEAR,
    ORIGINAL,
    Planted,
    cluster_sizes,
    plant,
)
from benchmarks.dedup_scale.projection import CORES, project
from benchmarks.dedup_scale.report import Measured, Ours, growth, report
from benchmarks.dedup_scale.truth import dropped_by_us, found, from_kept
from benchmarks.dedup_scale.watch import Watch
from marco_data.languages import LANGUAGES as ALL_LANGUAGES
from marco_data.steps.sign import Sign
from marco_data.words import texts_of

ROOT = Path(__file__).resolve().parents[1]
RANGES = {COPY: (1, 1), NEAR: (0.90, 0.98), EDGE: (0.85, 0.90), LOOSE: (0.60, 0.75)}


def shingle_sets(planted: Planted, numbers: np.ndarray) -> list[set[int]]:
    """Of documents of one language, as the product makes them."""
    texts = planted.texts(0, len(planted)).take(pa.array(numbers))
    code = list(LANGUAGES)[planted.language(numbers[:1])[0]]
    hashes, bounds = Sign().shingler(ALL_LANGUAGES[code])(texts_of(texts))
    return [set(hashes[a:b].tolist()) for a, b in pairwise(bounds)]


def test_members_of_a_cluster_are_as_similar_as_is_planted_and_near_ones_alike_one_another():
    planted = plant(20_000, seed=3)
    largest = int(np.bincount(planted.cluster[planted.cluster >= 0]).argmax())
    numbers = np.flatnonzero(planted.cluster == largest)
    sets = shingle_sets(planted, numbers)
    original = sets[int(np.flatnonzero(planted.kind[numbers] == ORIGINAL)[0])]
    similar = np.array([len(one & original) / len(one | original) for one in sets])
    assert similar == pytest.approx(planted.jaccard(numbers))
    for kind, (low, high) in RANGES.items():
        mine = similar[planted.kind[numbers] == kind]
        assert len(mine), KINDS[kind]
        assert low - 1e-9 <= mine.min() <= mine.max() <= high + 1e-9, KINDS[kind]
    near = [one for one, kind in zip(sets, planted.kind[numbers], strict=True) if kind == NEAR]
    assert min(len(a & b) / len(a | b) for a in near for b in near) >= 0.81
    loose = [one for one, kind in zip(sets, planted.kind[numbers], strict=True) if kind == LOOSE]
    assert max(len(a & b) / len(a | b) for a in loose for b in sets if a is not b) <= 0.75


def test_any_slice_of_a_corpus_is_the_same_and_another_seed_is_another():
    planted = plant(3_000, seed=1)
    whole = planted.texts(0, 3_000)
    assert planted.texts(1_000, 1_500).equals(whole.slice(1_000, 500))
    assert plant(3_000, seed=1).texts(2_990, 3_000).to_pylist() == whole[2_990:].to_pylist()
    assert not plant(3_000, seed=2).texts(0, 3_000).equals(whole)
    copies = np.flatnonzero(planted.kind == COPY)
    originals = {int(planted.cluster[n]): n for n in np.flatnonzero(planted.kind == ORIGINAL)}
    assert [whole[int(n)] for n in copies] == [whole[int(originals[int(planted.cluster[n])])] for n in copies]


@pytest.mark.parametrize(("documents", "largest"), [(2_000, 20), (100_000, 1_000), (10_000_000, 100_000)])
def test_clusters_have_two_to_a_hundredth_of_the_corpus_and_hold_two_fifths_of_it(documents, largest):
    sizes = cluster_sizes(documents)
    assert [sizes.min(), sizes.max()] == [2, largest]
    assert sizes.sum() == pytest.approx(0.4 * documents, rel=0.02)


def test_each_that_stays_beside_another_of_its_cluster_was_missed():
    kinds = [ORIGINAL, COPY, NEAR, EDGE, LOOSE, ORIGINAL, NEAR, ALONE]
    planted = Planted(0, np.array([0, 0, 0, 0, 0, 1, 1, -1], np.int32), np.array(kinds, np.uint8))
    all_but_one = found(planted, from_kept(8, [pa.array(["1", "3", "4", "6", "7"])]))
    assert [all_but_one.duplicates, all_but_one.missed, all_but_one.recall] == [3, 0, 1.0]
    too_few = found(planted, from_kept(8, [pa.array(["0", "2"]), pa.array(["5", "6"])]))
    assert [too_few.missed, too_few.recall] == [2, pytest.approx(1 / 3)]
    assert [too_few.edge_dropped, too_few.loose_dropped, too_few.alone_dropped, too_few.dropped] == [1, 1, 1, 4]


def alive(pid: int) -> bool:
    """False for one that is over and not yet waited for, too."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def test_a_process_that_holds_or_takes_too_much_is_ended_with_its_children():
    child = "import time; held = b'1' * 300_000_000; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    for limits, said in (((200e6, 60), "it held 0."), ((1e12, 1), "not done after")):
        process = subprocess.Popen([sys.executable, "-c", code])
        with Watch(process.pid, *limits) as watch:
            process.wait(timeout=50)
        assert said in watch.stopped_for
        assert len(watch.peaks) == 2
        deadline = time.monotonic() + 20
        while any(map(alive, watch.peaks)):  # giving back what it held takes a killed process its time
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert watch.together >= (200e6 if limits[0] < 1e12 else 1)


KEEPS_EVEN = """
import json, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
texts, out = map(Path, sys.argv[1:3])
ids = pa.concat_tables(pq.read_table(path) for path in texts.glob("*.parquet"))["id"].to_pylist()
(out / "kept").mkdir()
pq.write_table(pa.table({"id": [id for id in ids if int(id) % 2 == 0]}), out / "kept" / "some.parquet")
print(json.dumps({"signatures": 3, "lookup": 4}))
"""


@pytest.fixture(scope="module")
def texts_alone(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    one = corpus(tmp_path_factory.mktemp("texts"), 600, 1)
    write_texts(one)
    return one


def peer(code: str, package: str = "pytest") -> Peer:
    rensa = peers(Path("nowhere"))[-1]
    return replace(rensa, package=package, command=lambda texts, out, _: ["-c", code, str(texts), str(out)])


def test_what_a_peer_keeps_is_judged_and_its_folder_is_gone(texts_alone):
    done = run_peer(peer(KEEPS_EVEN), texts_alone, 2, Limits(1e12, 60))
    assert (done.failed, done.version, done.signing, done.finding) == ("", pytest.__version__, 3, 4)
    assert done.found == found(texts_alone.planted(), np.arange(600) % 2 == 1)
    assert done.largest > 1e6
    assert [path.name for path in texts_alone.folder.iterdir()] == ["texts"]


@pytest.mark.parametrize(
    ("one", "limits", "said"),
    [
        (peer("raise ValueError('too many documents')"), Limits(1e12, 60), "ended: ValueError: too many documents"),
        (peer("import time; time.sleep(60)"), Limits(1e12, 1), "stopped: not done after 1 s"),
        (peer("", package="no-such-package"), Limits(1e12, 60), "it is not installed"),
    ],
)
def test_a_peer_that_does_not_come_to_its_end_is_told_of(texts_alone, one, limits, said):
    done = run_peer(one, texts_alone, 2, limits)
    assert (done.failed, done.found, done.documents) == (said, None, 600)


def test_rensa_looks_all_texts_up(texts_alone):
    pytest.importorskip("rensa")
    done = run_peer(peers(Path("nowhere"))[-1], texts_alone, 2, Limits(1e12, 60))
    assert done.failed == ""
    assert done.found.recall > 0.9
    assert done.found.alone_dropped == 0


def times(documents: int, tasks: int, seconds: float) -> Times:
    nodes = [NodeTimes("wide", tasks, seconds, seconds, 0, documents), NodeTimes("alone", 1, 1, 1, 0, documents)]
    return Times(documents, seconds + 1, seconds + 1, seconds + 2, 100, 90, 200, 2 * documents, 2 * documents, nodes)


def test_only_a_node_whose_tasks_grow_with_the_documents_spreads_over_a_cluster():
    wide, alone = project([times(10**4, 2, 1), times(10**6, 200, 100)], 1e12, 10)
    assert wide.processor_seconds == pytest.approx(100 * 1e6 * 2)  # a million times as many, log twice as large
    assert [wide.cores, alone.cores] == [10 * CORES, 1]
    assert wide.hours == pytest.approx(wide.processor_seconds / 640 / 3600)
    assert alone.hours == pytest.approx(alone.processor_seconds / 3600)
    assert [wide.moving_hours, alone.moving_hours] == pytest.approx([2e12 / 1e10 / 3600, 2e12 / 1e9 / 3600])


@pytest.mark.slow
def test_a_small_run_finds_what_was_planted_and_a_page_is_made_of_it(tmp_path):
    one = corpus(tmp_path, 2_000, 1)
    made = make(one)
    go = timed(tmp_path, one, workers=2)
    assert [node.name for node in go.nodes] == one.dedup_nodes()
    assert min(node.processor_seconds for node in go.nodes) >= 0
    assert sum(node.seconds for node in go.nodes) == pytest.approx(go.seconds)
    assert go.seconds < go.process_seconds
    assert 50e6 < go.own < go.largest <= go.together
    assert go.written > sum(node.bytes for node in go.nodes) > 0
    truth = found(one.planted(), dropped_by_us(one))
    assert truth.recall > 0.99
    assert [truth.loose_dropped, truth.alone_dropped] == [0, 0]
    assert len(one.files()) == 2  # both workers are started, however small a corpus is
    assert truth.documents == made.documents == 2_000
    # What is there is found, and dedup is all that a run does anew.
    before = {path: path.stat().st_mtime_ns for path in one.folder.rglob(f"{BEFORE}-*/*")}
    assert make(one) == made
    assert before == {path: path.stat().st_mtime_ns for path in before}
    limits = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    ours = Ours(made, [go], truth)
    page = report(Measured("command", 2, [go], [ours, ours], [], None, limits))
    for heading in ("## The documents", "## Ours", "## Growth", "## 5e9 documents on a cluster", "| `dedup` |"):
        assert heading in page, heading
    assert f"| {short(2_000)} | {truth.dropped:,} | {truth.duplicates:,} |" in page


def test_growth_is_told_with_start_up_taken_off():
    start, small, large = times(100, 1, 1), times(1_000, 1, 2), times(10_000, 1, 16)
    ours = [Ours(None, [one], None) for one in (small, large)]
    made = [type("Made", (), {"documents": one.documents})() for one in (small, large)]
    ours = [Ours(m, one.goes, None) for m, one in zip(made, ours, strict=True)]
    run = Measured("", 2, [start], ours, [], None, ((0,) * 3,) * 2)
    assert growth(run, *ours) == (1.5, 1.5)
    assert np.isnan(growth(Measured("", 2, [small], ours, [], None, run.load), *ours)).all()


@pytest.mark.slow
def test_the_command_makes_a_page_and_leaves_no_corpus(tmp_path):
    options = ["--documents", "4e3,8e3", "--root", str(tmp_path), "--repeats", "1", "--peers-up-to", "0"]
    command = [sys.executable, "-m", "benchmarks.dedup_scale", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for what in ("T(8e3) / (2 x T(4e3))", "## 5e9 documents on a cluster", "| start-up (2e3) |"):
        assert what in done.stdout, what
    assert list(tmp_path.iterdir()) == []
