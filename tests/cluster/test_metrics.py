"""What a build counts for Prometheus, without Ray: the sums, and that counting harms no build."""

from pathlib import Path

import pytest
from small_corpus import as_recipe, recipe_values, write_corpus

from marco_data.cluster.metrics import COUNTERS, GAUGES, EngineMeter, Meter, Metered
from marco_data.execute import LocalExecutor, Run, Silent, run
from marco_data.generation.generator import LENGTH, STOP, Completion
from marco_data.records import DROPPED, FAILED, GENERATED, READ
from marco_data.stage import Stage, finish
from marco_data.storage import Storage


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Metered, Run, Stage]:
    folder = tmp_path_factory.mktemp("counted")
    values = recipe_values(write_corpus(folder / "corpus"))
    values["steps"]["quality"] = {"overrides": {"ben_Beng": {"min_words": 80}}}  # Bengali 1 has 70
    recipe = as_recipe(values)
    storage = Storage(str(folder / "root"))
    dataset = recipe.pipeline_function()(recipe)
    metered = Metered(Silent(), "small-3")
    done = run(dataset, storage, LocalExecutor(), metered, watch=recipe.watch)
    return metered, done, finish(recipe, dataset, done, storage)


def total(meter: Meter, name: str, **tags: str) -> float:
    keys = COUNTERS[name][1]
    return sum(
        by
        for (counter, given), by in meter.sums.items()
        if counter == name and all(dict(zip(keys, given, strict=True))[k] == v for k, v in tags.items())
    )


def test_documents_are_those_of_the_books(counted):
    metered, _, stage = counted
    books = stage.books
    assert total(metered.meter, "marco_data_documents", outcome=READ) == books.read > 0
    assert total(metered.meter, "marco_data_documents", outcome=DROPPED) == sum(books.dropped.values()) > 0
    assert total(metered.meter, "marco_data_documents", outcome=FAILED) == sum(books.failed.values())
    assert total(metered.meter, "marco_data_documents", outcome=GENERATED) == books.generated == 0
    for reason, n in books.dropped.items():
        assert total(metered.meter, "marco_data_verdicts", outcome=DROPPED, reason=reason) == n


def test_every_task_that_ran_is_counted_and_none_is_left(counted):
    metered, done, _ = counted
    assert total(metered.meter, "marco_data_shards", ended="done") == sum(done.ran.values())
    assert total(metered.meter, "marco_data_shards", ended="failed") == 0
    left = {tags[1]: n for (name, tags), n in metered.meter.levels.items() if name == "marco_data_shards_left"}
    assert left == dict.fromkeys(done.ran, 0)
    assert total(metered.meter, "marco_data_shard_seconds") > 0


def test_what_is_counted_is_declared_with_its_tags(counted):
    meter = counted[0].meter
    assert {name for name, _ in meter.sums} <= set(COUNTERS)
    assert {(name, len(tags)) for name, tags in meter.sums} == {(n, len(COUNTERS[n][1])) for n, _ in meter.sums}
    assert {name for name, _ in meter.levels} == set(GAUGES)


def test_no_tag_grows_with_the_data():
    """Prometheus keeps a series for each value of a tag: what is numbered by files or documents is no tag."""
    tags = {tag for _, tags in [*COUNTERS.values(), *GAUGES.values()] for tag in tags}
    assert tags <= {
        *("stage", "node", "language", "outcome", "reason", "ended"),
        *("maker", "model", "direction", "kind", "cause"),
    }


def test_nothing_is_lost_while_ray_is_not_there(counted):
    meter = Meter()
    meter.count("marco_data_storage_retries", "small-3", "SlowDown", by=2)
    meter.hand_over(now=True)
    meter.count("marco_data_storage_retries", "small-3", "SlowDown")
    assert total(meter, "marco_data_storage_retries", cause="SlowDown") == 3


class Deaf(Meter):
    """A meter whose Ray is in ruins."""

    def hand_over(self, *, now: bool = False) -> None:
        raise RuntimeError("the metrics agent is gone")


class Heard(Silent):
    """Keeps what it was told to say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_a_failure_of_the_metrics_is_said_once_and_ends_no_build(tmp_path: Path):
    recipe = as_recipe(recipe_values(write_corpus(tmp_path / "corpus")))
    heard = Heard()
    metered = Metered(heard, "small-3")
    metered.meter = Deaf()
    done = run(recipe.pipeline_function()(recipe), Storage(str(tmp_path / "root")), LocalExecutor(), metered)
    assert done.complete
    assert [said for said in heard.said if "metrics" in said] == [
        "note: no more metrics of this build: RuntimeError: the metrics agent is gone"
    ]


def test_an_engine_counts_requests_and_tokens_by_model():
    counted = EngineMeter("some/model")
    counted.ended([Completion("one", STOP, 10, 3, 0.5), Completion("two", LENGTH, 5, 7, 0.25)])
    assert total(counted.meter, "marco_data_engine_requests", model="some/model") == 2
    assert total(counted.meter, "marco_data_engine_tokens", direction="in") == 15
    assert total(counted.meter, "marco_data_engine_tokens", direction="out") == 10
    assert total(counted.meter, "marco_data_engine_gpu_seconds") == 0.75
