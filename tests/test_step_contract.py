"""The contract of a step, over every step there is: what comes out depends on each document alone."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import marco_data.steps
from marco_data.benchmark_build import build
from marco_data.benchmark_index import write
from marco_data.benchmark_items import Item
from marco_data.languages import LANGUAGES
from marco_data.languages.shares import SHARES
from marco_data.step import Step, Tools, check_output, fingerprint, run_step
from marco_data.steps.apply_limits import load_limits
from marco_data.steps.find_leaks import HIT
from marco_data.steps.measure_quality import MeasureQuality

for module in pkgutil.iter_modules(marco_data.steps.__path__):
    importlib.import_module(f"marco_data.steps.{module.name}")

TEXTS = (
    "The cat sat on the mat, and the dog sat with the cat. " * 12,
    "",
    " \n\u200b",
    "\x00\x01\ufffd\ufffd",
    "schÃ¶n â€œgeschriebenâ€\x9d",
    "สวัสดีครับ นี่คือหนังสือ",
    "今天天气很好，我们去公园。" * 9,
    "na " * 200,
    "- one\n- two\n- two\n...\n#### \n",
    "Write to ann@mail.example.net or 8.8.8.8.",
    "👩\u200d👩\u200d👧",
    "a" * 5000,
)
LANGUAGE = LANGUAGES["eng_Latn"]
HELD = {"share": 0.9, "words": 20.0, "longest": 20.0, "whole": False, "same_numbers": 0, "other_numbers": 0}
LEAKS = [[], [HELD], [{**HELD, "share": 0.3}, {**HELD, "whole": True}], None, *[[{**HELD, "share": 0.25}]] * 8]


def concrete(kind: type[Step]) -> list[type[Step]]:
    """Every step class of ours."""
    found = [kind] if kind.__module__.startswith("marco_data.steps.") else []
    return found + [step for child in kind.__subclasses__() for step in concrete(child)]


STEPS = sorted(set(concrete(Step)), key=lambda step: step.__name__)


def select_language(_: Path) -> dict[str, Any]:
    return {"languages": ("eng_Latn", "tha_Thai"), "thresholds": {"eng_Latn": 0.5, "tha_Thai": 0.5}, "min_share": 0.7}


def url_block_list(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "domains.txt"
    path.write_text("blocked.example\n", "utf-8")
    return {"domains": str(path)}


def remove(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "remove.txt"
    path.write_text("blocked.example\nkey-2\n", "utf-8")
    return {"file": str(path)}


def find_leaks(tmp_path: Path) -> dict[str, Any]:
    texts = (
        "The cat sat on the mat, and the dog sat with the cat.",
        "今天天气很好，我们去公园。今天天气很好，我们去公园。",
    )
    items = [Item("quiz", str(i), "eng_Latn", "question", text) for i, text in enumerate(texts)]
    write(build(items, "a list"), str(tmp_path / "quiz.index"))
    return {"index": str(tmp_path / "quiz.index"), "declared": "a list"}


# What a step needs to be made; a step that is not named here is made without arguments.
ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ApplyLimits": lambda _: {"limits": load_limits()},
    "DatatroveFilter": lambda _: {"filter": "datatrove.pipeline.filters.GopherRepetitionFilter"},
    "FindLeaks": find_leaks,
    "Remove": remove,
    "SelectLanguage": select_language,
    "UrlBlockList": url_block_list,
}


@pytest.fixture(params=STEPS, ids=lambda step: step.__name__)
def step(request: pytest.FixtureRequest, tmp_path: Path) -> Step:
    kind = request.param
    if kind.__name__ == "DatatroveFilter":
        pytest.importorskip("datatrove")
    return kind(**ARGUMENTS.get(kind.__name__, lambda _: {})(tmp_path))


@pytest.fixture(scope="module")
def documents() -> pa.RecordBatch:
    """Documents with every column that some step of ours reads."""
    n = len(TEXTS)
    measure = MeasureQuality()
    texts = pa.array(TEXTS, pa.string())
    figures = run_step(measure, measure.bind(LANGUAGE, Tools()), pa.record_batch({"text": texts})).columns
    return pa.record_batch(
        {
            "id": [f"{i:032x}" for i in range(n)],
            "source_id": [f"key-{i}" for i in range(n)],
            "source": [("web", "books")[i % 2] for i in range(n)],
            "text": texts,
            "url": pa.array([None if i % 3 else f"https://www.blocked.example/{i}" for i in range(n)], pa.string()),
            "declared_language": pa.array([None if i % 2 else "eng_Latn" for i in range(n)], pa.string()),
            "lid_language": pa.array([("eng_Latn", "tha_Thai", "nno_Latn")[i % 3] for i in range(n)], pa.string()),
            "lid_score": pa.array([round(1 - i / n, 4) for i in range(n)], pa.float64()),
            "lid_script": pa.array([("Latn", "Thai", "Latn")[i % 3] for i in range(n)], pa.string()),
            "lid_shares": pa.array([[{"language": "eng_Latn", "share": i / n}] for i in range(n)], SHARES),
            "leaks": pa.array(LEAKS, pa.list_(HIT)),
            **figures,
        }
    )


def answer(step: Step, documents: pa.RecordBatch, size: int) -> dict[str, list[Any]]:
    """All a step says of the documents, given `size` at a time."""
    bound = step.bind(LANGUAGE, Tools())
    said: dict[str, list[Any]] = {}
    for start in range(0, documents.num_rows, size):
        batch = documents.slice(start, size)
        output = bound(batch)
        check_output(step, batch, output)
        verdicts = {"reason": output.reason, "measured": output.measured, "failed": output.failed}
        nothing = pa.nulls(batch.num_rows)
        for name, array in {**output.columns, **{k: nothing if v is None else v for k, v in verdicts.items()}}.items():
            said.setdefault(name, []).extend(array.to_pylist())
    return said


@pytest.mark.parametrize("size", [1, 2, 7])
def test_what_a_step_says_does_not_depend_on_the_batch(step: Step, documents: pa.RecordBatch, size: int):
    assert answer(step, documents, size) == answer(step, documents, documents.num_rows)


def test_a_step_says_the_same_twice(step: Step, documents: pa.RecordBatch):
    assert answer(step, documents, 5) == answer(step, documents, 5)


def test_a_step_takes_an_empty_batch(step: Step, documents: pa.RecordBatch):
    empty = documents.slice(0, 0)
    output = step.bind(LANGUAGE, Tools())(empty)
    check_output(step, empty, output)


def test_a_step_reads_what_it_declares_and_no_more(step: Step, documents: pa.RecordBatch):
    batch = documents.select(list(step.reads))
    output = step.bind(LANGUAGE, Tools())(batch)
    check_output(step, batch, output)


def test_reasons_begin_with_the_name_of_the_step(step: Step):
    wrong = [reason for reason in step.reasons if not reason.startswith(f"{step.name()}/")]
    assert not wrong


def test_equal_steps_have_equal_identity_as_json(step: Step):
    again = type(step)(**step.model_dump())
    assert fingerprint(again.identity(Tools())) == fingerprint(step.identity(Tools()))


def test_a_step_of_ours_declares_its_version(step: Step):
    assert type(step).version is not None


def test_names_are_unique():
    names = [step.name() for step in STEPS]
    assert len(set(names)) == len(names) >= 6


def test_added_columns_are_added_by_one_step(tmp_path: Path):
    made = [step(**ARGUMENTS.get(step.__name__, lambda _: {})(tmp_path)) for step in STEPS]
    columns = [name for step in made for name in step.adds.names]
    assert len(set(columns)) == len(columns)
