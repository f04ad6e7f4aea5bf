"""`benchmarks.scale`: every measurement runs, the arithmetic holds together, and the pages say what was measured."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.__main__ import MEASURED as MEASUREMENTS_KEPT
from benchmarks.scale.__main__ import measurements, page_of
from benchmarks.scale.driver import MEASUREMENTS, Measured, measure_here
from benchmarks.scale.model import (
    ASSUMED,
    MEASURED,
    Work,
    cost,
    dispatched,
    gpu_hours,
    machines_one_driver_feeds,
    marco_mini,
    spells,
    work_of,
)
from benchmarks.scale.nothing import PASSES, Answers, chain, through
from benchmarks.scale.report import SAYS, dedup_lines, report, tasks_a_second
from benchmarks.scale.storage_bill import Asked, Sizes, bill, count_requests
from marco_data.dataset import Context
from marco_data.execute import Silent, run
from marco_data.nodes.measure import Measure
from marco_data.record_table import ROWS
from marco_data.sources import Source, SourceFile, packages_of
from marco_data.step import Tools
from marco_data.storage import Storage

ROOT = Path(__file__).resolve().parents[1]
LAKE = Work(100e12, 1e6)
NO_PROCESS = sorted(MEASUREMENTS.keys() - {"ray"})


def asked(languages: int, each: int = 1) -> Asked:
    kinds = {"put_object": 2 * 4, "get_object": (3 + each * languages) * 4, "head_object": 4}
    return Asked(languages, dict.fromkeys(PASSES, 4), {name: dict(kinds) for name in PASSES})


def sizes(shards: int, languages: int, size: float) -> Sizes:
    return Sizes(shards, languages, dict.fromkeys(PASSES, size), dict.fromkeys(PASSES, size))


def row(what: str, shards: int = 1000) -> Measured:
    return Measured(what, shards, 1, shards, 0.5, 1.0, 200_000_000)


@pytest.mark.parametrize("what", NO_PROCESS)
def test_each_measurement_runs_and_tells_time_and_memory(what: str, tmp_path: Path):
    found = Measured(**measure_here(what, 60, 2, tmp_path))
    assert (found.what, found.shards, found.languages) == (what, 60, 2)
    assert found.tasks in (60, 120, 240)
    assert found.processor > 0
    assert found.memory > 50e6


def files_of(root: Path) -> list[tuple[str, bytes]]:
    return sorted((str(path.relative_to(root)), path.read_bytes()) for path in root.glob("nothing-*/*"))


def test_a_root_that_is_made_at_once_is_byte_for_byte_what_a_run_leaves(tmp_path: Path):
    plan = chain(300, 2)
    run(plan, Storage(str(tmp_path / "run")), Answers(), Silent())
    through(plan, Storage(str(tmp_path / "made")))
    assert files_of(tmp_path / "made") == files_of(tmp_path / "run")


def test_a_larger_one_has_the_keys_and_files_of_a_run_so_that_nothing_is_left_to_do(tmp_path: Path):
    plan, storage = chain(2 * ROWS + 9, 1), Storage(str(tmp_path))
    through(plan, storage)
    assert set(run(plan, storage, Answers(), Silent()).ran.values()) == {0}


class Equal(dict[str, tuple[str, ...]]):
    """Versions declared equal, of no package that is used; counts how often it is asked for."""

    times = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.times += 1
        return default


def test_versions_of_packages_are_asked_for_once_and_not_for_each_slice():
    accept = Equal(other=("1",))
    files = [SourceFile("web", f"{i}.warc", 9, f"{i:016x}", "warc", None, None, "{}", "", "") for i in range(20)]
    limits = {"shard_bytes": 99, "max_document_bytes": 99, "floor": 0.0, "keep_dropped": 0.0}
    source = Source(paths=("web/*.warc",))
    node = Measure(sources={"web": source}, steps=(), languages=(), accept=accept, known_files={"web": files}, **limits)
    assert len(node.tasks(Context(Storage("nowhere"), Tools(), {}))) == 20
    assert accept.times == len(packages_of("warc"))


def test_everything_that_is_asked_for_can_be_measured_and_has_words():
    wanted = {what for what, _, _ in measurements(1_000_000, 100_000)}
    assert wanted <= MEASUREMENTS.keys()
    assert wanted <= SAYS.keys()


def test_a_figure_that_was_measured_stands_where_it_says():
    missing = [name for name, f in MEASURED.items() if f.words not in (ROOT / f.file).read_text("utf-8")]
    assert missing == []


def test_twice_the_machines_halve_the_work_of_cores_and_not_that_of_the_driver():
    for one, two in zip(spells(LAKE, 10, 1000), spells(LAKE, 20, 1000), strict=True):
        assert one.cores == pytest.approx(2 * two.cores)
        assert one.driver == two.driver
        assert one.seconds == max(one.cores, one.driver)


def test_the_machines_that_a_driver_feeds_are_those_where_both_take_as_long():
    for node, machines in machines_one_driver_feeds(LAKE, 2500).items():
        assert machines > 0
        cores = LAKE.core_seconds()[node] / machines / ASSUMED["cores of a machine"]
        assert cores == pytest.approx(dispatched(LAKE)[node] / 2500)


def test_a_recipe_s_tokens_come_back_out_of_the_work_they_take():
    for tokens in (1e9, 2.4e12):
        assert work_of(tokens).tokens == pytest.approx(tokens)
    assert cost(work_of(2e12).core_seconds()) == pytest.approx(2 * cost(work_of(1e12).core_seconds()))
    assert gpu_hours(2e9) == pytest.approx(2 * gpu_hours(1e9))


def test_the_stages_of_marco_mini_are_those_of_its_recipe():
    stages = marco_mini()
    assert [stage.number for stage in stages] == [1, 2, 3, 4]
    assert sum(stage.budget for stage in stages) == 5.1e12
    assert [stage.generated > 0 for stage in stages] == [False, False, False, True]


def test_a_bill_is_so_many_times_a_task_s_and_grows_with_languages_and_bytes():
    one, many = asked(1), asked(7)
    small = bill(one, many, sizes(1000, 1, 0))
    assert [(line.node, line.writes, line.reads) for line in small] == [(node, 2000, 5000) for node in PASSES]
    assert [line.reads for line in bill(one, many, sizes(1000, 64, 0))] == [1000 * (5 + 63)] * 4
    assert [line.writes for line in bill(one, many, sizes(1000, 1, 64 << 20))] == [1000 * (2 + 4 + 2)] * 4
    assert [line.reads for line in bill(one, many, sizes(1000, 1, 64 << 20))] == [1000 * (5 + 16)] * 4


def test_the_requests_of_the_last_pass_of_dedup_grow_with_the_square_of_the_corpus():
    _, files, requests = dedup_lines(LAKE)
    _, _, twice = dedup_lines(Work(2 * LAKE.read_bytes, 2 * LAKE.shards))
    assert files > 1000
    assert twice == pytest.approx(4 * requests)


def test_the_page_tells_every_measurement_and_judges_it():
    rows = [row(what) for what in SAYS]
    page = report(rows, [asked(1), asked(7)], "a machine")
    assert all(words in page for words in SAYS.values())
    assert page.count(": met)") == 5
    slow = [replace(r, processor=50.0, memory=5_000_000_000) for r in rows]
    assert report(slow, [asked(1), asked(7)], "a machine").count(": missed)") == 5
    assert "of 1,000 shards held, over 1.0 passes" in page
    assert tasks_a_second([row("alone"), replace(row("ray"), processor=1.0)]) == 1000
    assert tasks_a_second([row("alone")]) == pytest.approx(1 / (0.0005 + 0.001))


@pytest.mark.slow
def test_requests_of_a_task_are_counted_against_a_server_and_grow_with_its_languages():
    one, many = count_requests(1, 2), count_requests(4, 2)
    for node in PASSES:
        assert one.tasks[node] == many.tasks[node] == 2
        assert one.a_task(node)[0] == many.a_task(node)[0] == 2  # its data and its record
        assert many.a_task(node)[1] >= one.a_task(node)[1] >= 1
    assert many.a_task("tokenize")[1] > one.a_task("tokenize")[1]


def test_the_page_is_what_the_measurements_come_to():
    assert (ROOT / "benchmarks" / "SCALE.md").read_text("utf-8") == page_of(json.loads(MEASUREMENTS_KEPT.read_text()))


def test_what_docs_say_of_a_million_shards_was_measured():
    page = (ROOT / "benchmarks" / "SCALE.md").read_text("utf-8").splitlines()
    quoted = [
        line for line in (ROOT / "docs" / "scale.md").read_text("utf-8").splitlines() if re.match(r"\| .*\d", line)
    ]
    assert len(quoted) > 10
    assert [line for line in quoted if line not in page] == []
