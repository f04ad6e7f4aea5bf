"""The contract of a step: what it may answer, what is told of a wrong answer, what makes two steps the same."""

import importlib.metadata
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marco_data.errors import RecipeError, ShardError
from marco_data.languages import LANGUAGES, Language
from marco_data.step import BoundStep, Step, StepOutput, Tools, check_plan, fingerprint, package_versions, run_step
from marco_data.steps import user_step


class CountLetters(Step):
    """Drops texts of fewer than `least` letters; a text that says `boom` makes it raise."""

    version: ClassVar[int | None] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema([("letters", pa.int32())])
    reasons: ClassVar[frozenset[str]] = frozenset({"count_letters/too_few"})

    least: int = 3

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def count(batch: pa.RecordBatch) -> StepOutput:
            texts = batch.column("text").to_pylist()
            if any("boom" in text for text in texts):
                raise KeyError("boom")
            letters = pa.array([len(text) for text in texts], pa.int32())
            few = pc.less(letters, self.least)
            return StepOutput(
                columns={"letters": letters, "text": pc.utf8_upper(batch.column("text"))},
                reason=pc.if_else(few, "count_letters/too_few", pa.scalar(None, pa.string())),
                measured=pc.if_else(few, letters.cast(pa.float64()), pa.scalar(None, pa.float64())),
            )

        return count


def batch(*texts: str) -> pa.RecordBatch:
    return pa.record_batch({"text": pa.array(texts, pa.string())})


def lists(output: StepOutput) -> dict[str, list[Any] | None]:
    verdicts = {"reason": output.reason, "measured": output.measured, "failed": output.failed}
    return {name: None if a is None else a.to_pylist() for name, a in {**output.columns, **verdicts}.items()}


def run_on(step: Step, *texts: str) -> dict[str, list[Any] | None]:
    return lists(run_step(step, step.bind(None, Tools()), batch(*texts)))


def test_a_document_that_makes_a_step_raise_fails_alone():
    assert run_on(CountLetters(), "hello", "boom", "no", "there") == {
        "letters": [5, None, 2, 5],
        "text": ["HELLO", "boom", "NO", "THERE"],
        "reason": [None, None, "count_letters/too_few", None],
        "measured": [None, None, 2.0, None],
        "failed": [None, "count_letters/crashed", None, None],
    }


@given(st.lists(st.sampled_from(["a", "hello", "boom", "a boom there", ""]), min_size=1, max_size=12))
def test_verdicts_with_a_crash_among_them_are_those_of_each_document_alone(texts: list[str]):
    alone = [run_on(CountLetters(), text) for text in texts]
    together = run_on(CountLetters(), *texts)
    for name in ("letters", "reason", "measured", "failed"):
        expected = [None if one[name] is None else one[name][0] for one in alone]
        assert (together[name] or [None] * len(texts)) == expected
    kept = [one.get("text", [text])[0] for one, text in zip(alone, texts, strict=True)]
    assert together.get("text", texts) == kept


@pytest.mark.parametrize("error", [MemoryError(), ShardError("this shard"), RecipeError("the recipe")])
def test_what_is_no_documents_fault_is_not_put_on_one(error: Exception):
    def fail(_: pa.RecordBatch) -> StepOutput:
        raise error

    with pytest.raises(type(error)):
        run_step(CountLetters(), fail, batch("a", "b"))


LETTERS = pa.array([1, 1], pa.int32())
WRONG = {
    "an undeclared column": (StepOutput({"letters": LETTERS, "words": LETTERS}), "the undeclared column `words`"),
    "a column too few": (StepOutput(), "did not return its column `letters`"),
    "a column too short": (StepOutput({"letters": LETTERS[:1]}), "returned 1 values of `letters` for 2 documents"),
    "a column of another type": (StepOutput({"letters": LETTERS.cast(pa.int64())}), "returned `letters` as int64"),
    "a reason too few": (
        StepOutput({"letters": LETTERS}, reason=pa.array([None], pa.string())),
        "returned 1 of `reason` for 2 documents",
    ),
    "a measure too many": (
        StepOutput({"letters": LETTERS}, measured=pa.array([1.0, 2.0, 3.0])),
        "returned 3 of `measured` for 2 documents",
    ),
    "an undeclared reason": (
        StepOutput({"letters": LETTERS}, reason=pa.array([None, "count_letters/tired"])),
        "used undeclared reasons: count_letters/tired",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_breaks_the_contract_fails_the_shard_and_says_how(name: str):
    output, says = WRONG[name]
    with pytest.raises(ShardError, match=says) as caught:
        run_step(CountLetters(), lambda _: output, batch("a", "b"))
    assert "step `count_letters`" in str(caught.value)


def test_a_missing_column_is_told_when_the_plan_is_made():
    class ReadLetters(Step):
        reads: ClassVar[tuple[str, ...]] = ("letters", "text")

    check_plan([CountLetters(), ReadLetters()], {"text"})
    with pytest.raises(
        RecipeError, match="step `read_letters` reads `letters`, which no step before it adds"
    ) as caught:
        check_plan([ReadLetters(), CountLetters()], {"text", "url"})
    assert caught.value.hint == "columns at that point: text, url"


# Identity


def print_of(step: Step, tools: Tools | None = None) -> str:
    return fingerprint(step.identity(tools or Tools()))


def test_equal_fields_are_one_step_and_other_fields_another():
    assert print_of(CountLetters(least=4)) == print_of(CountLetters(least=4))
    assert print_of(CountLetters(least=4)) != print_of(CountLetters(least=5))
    assert print_of(CountLetters()) == print_of(CountLetters(least=3)), "a default spelled out is the same"


def test_a_raised_version_is_another_step():
    class Second(CountLetters):
        version: ClassVar[int | None] = 2

        @classmethod
        def name(cls) -> str:
            return "count_letters"

    assert Second().identity(Tools()) == CountLetters().identity(Tools()) | {"version": 2}


def test_installed_versions_are_identity_and_those_declared_equal_are_one():
    installed = importlib.metadata.version("pyarrow")
    assert package_versions(("pyarrow",)) == {"pyarrow": installed}
    assert package_versions(("pyarrow",), {"pyarrow": ("1.2.3", installed)}) == {"pyarrow": "1.2.3"}
    assert package_versions(("pyarrow",), {"pyarrow": ("1.2.3", "4")}) == {"pyarrow": installed}
    with pytest.raises(RecipeError, match="the package `no-such-package` is not installed"):
        package_versions(("no-such-package",))


def test_a_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path):
    class WithList(Step):
        version: ClassVar[int | None] = 1
        path: str

        def content(self, tools: Tools) -> dict[str, str]:
            return {"path": str(hash(Path(self.path).read_text()))}

    for name, words in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(words)
    prints = [print_of(WithList(path=str(tmp_path / name))) for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


MODULE = """
from typing import ClassVar
import pyarrow as pa
from marco_data.step import Step, StepOutput

class DropShort(Step):
    reads: ClassVar[tuple[str, ...]] = ("text",)
    reasons: ClassVar[frozenset[str]] = frozenset({"drop_short/short"})
    characters: int = 10

    def bind(self, language, tools):
        limit = self.characters
        return lambda batch: StepOutput(reason=pa.array(
            ["drop_short/short" if len(t) < limit else None for t in batch.column("text").to_pylist()], pa.string()))

not_a_step = 5
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "my_steps_of_test_step.py"
    file.write_text(MODULE)
    yield file
    sys.modules.pop("my_steps_of_test_step", None)


def test_a_users_step_needs_no_version_its_source_is_it(user_module: Path):
    before = print_of(user_step("my_steps_of_test_step:DropShort", {}))
    assert before == print_of(user_step("my_steps_of_test_step:DropShort", {}))
    del sys.modules["my_steps_of_test_step"]
    user_module.write_text(MODULE.replace("len(t) <", "len(t) <="))
    Path(importlib.util.cache_from_source(str(user_module))).unlink(missing_ok=True)
    assert print_of(user_step("my_steps_of_test_step:DropShort", {})) != before


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("no_such_module:Step", {}, "no step `no_such_module:Step`: No module named"),
        ("my_steps_of_test_step:Nothing", {}, "no step `my_steps_of_test_step:Nothing`"),
        ("my_steps_of_test_step", {}, "no step `my_steps_of_test_step`"),
        ("my_steps_of_test_step:not_a_step", {}, "is not a marco_data.step.Step"),
        ("my_steps_of_test_step:DropShort", {"charcters": 3}, "`charcters`"),
        ("my_steps_of_test_step:DropShort", {"characters": "few"}, "`characters`"),
    ],
)
def test_a_wrong_user_step_is_told(name: str, arguments: dict[str, Any], says: str, user_module: Path):
    with pytest.raises(RecipeError, match=says):
        user_step(name, arguments)


def test_a_step_never_changes():
    with pytest.raises(ValidationError, match="frozen"):
        CountLetters().least = 5


def test_every_language_is_bound_by_its_own_facts():
    bound: dict[str, Language | None] = {}

    class Remember(Step):
        def bind(self, language: Language | None, tools: Tools) -> BoundStep:
            bound[language.code if language else ""] = language
            return lambda _: StepOutput()

    for language in (None, LANGUAGES["tha_Thai"]):
        run_step(Remember(), Remember().bind(language, Tools()), batch("a"))
    assert bound == {"": None, "tha_Thai": LANGUAGES["tha_Thai"]}


def test_a_file_elsewhere_is_whole_for_each_of_many_threads_that_want_it_first():
    data = bytes(range(256)) * 40_000
    fsspec.filesystem("memory").pipe_file("/models/large.bin", data)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: Tools().path("memory://models/large.bin").read_bytes(), range(8)))
    fsspec.filesystem("memory").rm("/models", recursive=True)
    assert [len(each) for each in found if each != data] == []
    assert Tools().path("memory://models/large.bin").read_bytes() == data  # fetched once
