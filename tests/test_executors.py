"""Executors: wherever and however tasks run, the root holds the same bytes; what dies or refuses is told apart."""

import multiprocessing
import os
import shutil
import signal
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from added_languages import values as four_languages
from roots import digests, environment
from small_corpus import as_recipe, prose, recipe_values, write_corpus, write_recipe

from marco_data.child import STUCK
from marco_data.cluster.job_logs import last_words
from marco_data.dataset import Context, Dataset
from marco_data.errors import RecipeError
from marco_data.execute import Executor, Interrupts, LocalExecutor, Run, Silent, Worker, run
from marco_data.nodes.measure import Measure
from marco_data.places import Place
from marco_data.ray_executor import RayExecutor, checked_packages
from marco_data.recipe import Recipe, load_recipe
from marco_data.run_log import job_name
from marco_data.stage import Stage, finish
from marco_data.step import Tools
from marco_data.storage import Storage

TWO = Place(cpus=2, memory="1MiB", in_flight=3)
EXECUTORS = {
    "2 processes": lambda: LocalExecutor(2),
    "ray, 1 worker": lambda: RayExecutor(workers=1),
    "ray, 2 workers": lambda: RayExecutor(workers=2),
    "ray, 4 workers": lambda: RayExecutor(workers=4),
    "ray, two at once": lambda: RayExecutor(places=dict.fromkeys(("measure", "dedup", "shards"), TWO)),
}


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray of four CPUs for all tests here, in a home of its own (a short one: it holds sockets)."""
    home = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(home).items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        import ray

        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        assert not (Path(home) / ".ray" / "auth_token").exists()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def values(corpus: Path, *steps: dict[str, Any]) -> dict[str, Any]:
    """The small recipe with shards of 3,000 bytes: a dozen tasks a step."""
    base = recipe_values(corpus)
    return {**base, "shards": {"bytes": 3000, "tokens": 2000}, "steps": {**base["steps"], "extra": list(steps)}}


def build(recipe: Recipe, root: Path, executor: Executor, *, batch_rows: int | None = None) -> tuple[Run, Stage]:
    dataset = recipe.pipeline_function()(recipe)
    if batch_rows is not None:
        nodes = [replace(n, batch_rows=batch_rows) if isinstance(n, Measure) else n for n in dataset.nodes]
        dataset = Dataset(tuple(nodes))
    storage = Storage(str(root))
    try:
        result = run(dataset, storage, executor, Silent())
        return result, finish(recipe, dataset, result, storage)
    finally:
        executor.close()


@pytest.fixture(scope="module")
def reference(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("reference")
    _, stage = build(as_recipe(values(corpus)), root, LocalExecutor())
    assert stage.balanced
    assert stage.books.kept > 15
    assert len(stage.records(Storage(str(root)), "measure")) > 5
    return digests(root)


@pytest.mark.slow
def test_workers_elsewhere_know_the_languages_that_a_recipe_adds(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", four_languages(tmp_path)))
    for name, executor in (("here", LocalExecutor()), ("ray", RayExecutor(workers=2))):
        _, stage = build(recipe, tmp_path / name, executor)
        assert stage.balanced
        assert stage.books.kept == 8
    assert digests(tmp_path / "ray") == digests(tmp_path / "here")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("ray, 1 worker", "ray, 4 workers") else n for n in EXECUTORS],
)
def test_every_executor_writes_the_same_bytes(name, corpus, reference, tmp_path):
    build(as_recipe(values(corpus)), tmp_path, EXECUTORS[name]())
    assert digests(tmp_path) == reference


@pytest.mark.parametrize("batch_rows", [1, 3, 10_000])
def test_every_batch_size_writes_the_same_bytes(batch_rows, corpus, reference, tmp_path):
    build(as_recipe(values(corpus)), tmp_path, LocalExecutor(), batch_rows=batch_rows)
    assert digests(tmp_path) == reference


def test_workers_are_asked_for_the_versions_of_all_packages_that_shape_the_output(corpus):
    measure = as_recipe(values(corpus)).pipeline_function()(as_recipe(values(corpus))).node("measure")
    tasks = measure.tasks(Context(Storage("unused"), Tools(), {}))
    assert set(checked_packages(tasks)) >= {"pyarrow", "marco-data", "ftfy", "fasttext-numpy2-wheel", "icu4py"}


def test_a_second_run_does_nothing_and_starts_nothing(corpus, tmp_path):
    build(as_recipe(values(corpus)), tmp_path, LocalExecutor())
    executor = RayExecutor(address="ray://127.0.0.1:1")  # nobody is there to answer
    result, _ = build(as_recipe(values(corpus)), tmp_path, executor)
    assert set(result.ran.values()) == {0}


@pytest.fixture(scope="module")
def fatal(corpus: Path) -> Recipe:
    """A recipe with a step that one of the English documents ends with a segmentation fault."""
    word = prose("eng_Latn")[1].split()[20]
    assert sum(word in text for text in prose("eng_Latn")[:3]) == 1
    return as_recipe(values(corpus, {"step": "fatal_steps:DiesOn", "arguments": {"word": word}}))


@pytest.mark.slow
def test_a_document_that_kills_its_workers_fails_alone(fatal, tmp_path):
    results = {}
    for name, executor in {"local": LocalExecutor(2), "ray": RayExecutor(workers=4)}.items():
        result, stage = build(fatal, tmp_path / name, executor)
        assert result.failures == []
        assert stage.balanced
        assert stage.books.failed == {"dies_on/worker_died": 1}
        results[name] = digests(tmp_path / name)
    assert results["local"] == results["ray"]
    last = list(last_words(Storage(str(tmp_path / "ray")), job_name()))
    assert any("Segmentation fault" in said and "fatal_steps.py" in said for said in last), last


def test_a_worker_that_dies_in_the_middle_of_its_answer_is_one_that_died(monkeypatch):
    ours, theirs = multiprocessing.Pipe()
    worker = object.__new__(Worker)
    worker.pipe, ended = ours, []
    monkeypatch.setattr(worker, "stop", lambda: ended.append(True))
    os.write(theirs.fileno(), struct.pack("!i", 1000) + b"the beginning of a thousand bytes")
    theirs.close()
    assert worker.answer() is None
    assert ended == [True]


@pytest.mark.slow
def test_a_document_that_never_ends_fails_alone(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv(STUCK, "24")
    word = prose("eng_Latn")[1].split()[20]
    stuck = {"step": "fatal_steps:DiesOn", "arguments": {"word": word, "by": "never"}}
    result, stage = build(as_recipe(values(corpus, stuck)), tmp_path, LocalExecutor(2))
    assert result.failures == []
    assert stage.balanced
    assert stage.books.failed == {"dies_on/worker_died": 1}


@pytest.mark.parametrize("name", ["2 processes", "ray, 2 workers"])
def test_a_step_that_refuses_to_work_stops_the_run_with_its_own_words(name, corpus, tmp_path):
    recipe = as_recipe(values(corpus, {"step": "fatal_steps:Refuses"}))
    with pytest.raises(RecipeError, match="this machine has no dictionary") as raised:
        build(recipe, tmp_path, EXECUTORS[name]())
    assert raised.value.hint == "install one"


@pytest.mark.parametrize("name", ["2 processes", "ray, 2 workers"])
def test_a_document_that_makes_a_step_raise_fails_alone(name, corpus, tmp_path):
    word = prose("eng_Latn")[1].split()[20]
    recipe = as_recipe(values(corpus, {"step": "fatal_steps:RaisesOn", "arguments": {"word": word}}))
    result, stage = build(recipe, tmp_path, EXECUTORS[name]())
    assert result.failures == []
    assert stage.books.failed == {"raises_on/crashed": 1}
    assert stage.balanced


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_listens_is_said_at_once(address, corpus, tmp_path):
    executor = RayExecutor(address=address)
    with pytest.raises(RecipeError, match=f"no Ray cluster at `{address}`"):
        build(as_recipe(values(corpus)), tmp_path, executor)


def test_an_interrupt_whose_exception_was_dropped_is_heard_all_the_same():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interrupts() as interrupts:
            interrupts.check()
            with suppress(KeyboardInterrupt):  # as numba does
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_breaks_because_of_an_interrupt_is_told_as_the_interrupt():
    def breaks(*, after_an_interrupt: bool) -> None:
        with Interrupts():
            if after_an_interrupt:
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            raise OSError("the raylet has gone")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            breaks(after_an_interrupt=True)
        with pytest.raises(OSError, match="raylet"):
            breaks(after_an_interrupt=False)
    finally:
        signal.signal(signal.SIGINT, before)
