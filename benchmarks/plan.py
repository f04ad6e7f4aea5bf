"""`python -m benchmarks.plan`: what `plan` expects of a build beside what the build then finds.

In: MARCO_TEST_DATA: clean text in 64 languages, web pages, web text, languages that are not ours, technical English.
Out: PLAN.md. The corpus is probed with several numbers of documents before it is built, in one process, and processor
time is compared, because others share the machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import data_folder
from marco_data.dataset import Dataset
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.generation.estimate_table import short, told
from marco_data.plan_compare import ALL, ALLOWED, COLLECTED, DISK, PROCESSOR, Compared, compare
from marco_data.plan_expect import Expectation, expect, look
from marco_data.plan_flow import KEPT, so_far
from marco_data.plan_price import machine, timed_in
from marco_data.recipe import Recipe
from marco_data.storage import Storage

PROBES = (10, 20, 50, 200)


@dataclass(frozen=True)
class Plan:
    """One plan: documents asked for and looked at, seconds of the wall clock and of the processor, what it expects."""

    documents: int
    looked: int
    wall: float
    processor: float
    expected: Expectation


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.plan", description="What plan expects, and what happens.")
    parser.add_argument("--probe", type=int, action="append", help=f"documents of each source and language {PROBES}")
    parser.add_argument("--languages", default="all", help="only these, comma-separated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "PLAN.md")
    arguments = parser.parse_args()
    folder = data_folder()
    if folder is None:
        parser.error("MARCO_TEST_DATA names no folder of documents")
    recipe = Recipe.model_validate(recipe_of(folder, arguments.languages))
    with tempfile.TemporaryDirectory(prefix="marco-data-plan-") as root:
        plans, lines, seconds = figures(recipe, Storage(root), arguments.probe or PROBES)
    arguments.out.write_text(report(recipe, plans, lines, seconds), "utf-8")


def recipe_of(folder: Path, languages: str = "all") -> dict[str, Any]:
    """Five sources of the shared documents, as a recipe's values."""
    rows = {"text": "text", "id": "id"}
    return {
        "family": "shared",
        "stage": 1,
        "tokenizer": {"path": str(folder / "qwen_tokenizer")},
        "languages": "all" if languages == "all" else languages.split(","),
        "budget": "20M",
        "sources": {
            "clean": {"read": "jsonl", "paths": [f"{folder}/clean/{{language}}.jsonl.zst"], "fields": rows},
            "pages": {"read": "warc", "paths": [f"{folder}/web/*.warc.gz"]},
            "register": {"read": "jsonl", "paths": [f"{folder}/web/turku_register_docs.jsonl.zst"], "fields": rows},
            "other": {"read": "jsonl", "paths": [f"{folder}/other/*.jsonl.zst"], "fields": rows},
            "stem": {"read": "jsonl", "paths": [f"{folder}/stem/*.jsonl.zst"], "fields": rows},
        },
        "mixture": {
            "clean": {"weight": 70},
            "web": {"weight": 20, "sources": ["pages", "register", "other"]},
            "stem": {"weight": 10},
        },
        "limits": {"failed_rows": 1, "failed_files": 1, "removal": None},
    }


def plan_of(recipe: Recipe) -> Dataset:
    dataset = recipe.pipeline_function()(recipe)
    assert isinstance(dataset, Dataset)
    return dataset


def figures(
    recipe: Recipe, storage: Storage, probes: Sequence[int]
) -> tuple[list[Plan], list[list[Compared]], tuple[float, float]]:
    """The plans, what each is off by, and the build's seconds of the wall clock and of the processor."""
    look(recipe, plan_of(recipe), {}, 1)  # kernels and models are loaded
    plans = []
    for documents in probes:
        wall, processor = time.monotonic(), time.process_time()
        dataset = plan_of(recipe)
        looked = look(recipe, dataset, {}, documents)
        expected = expect(recipe, dataset, storage, looked, afresh=True)
        assert looked.probed is not None
        spent = time.monotonic() - wall, time.process_time() - processor
        plans.append(Plan(documents, looked.probed.read, *spent, expected))
    dataset = plan_of(recipe)
    wall, processor = time.monotonic(), time.process_time()
    result = run(dataset, storage, LocalExecutor(), Silent())
    assert result.complete, result.failures
    seconds = time.monotonic() - wall, time.process_time() - processor
    found = so_far(dataset, storage, {})
    timed = timed_in(storage, found, dataset)
    return plans, [compare(plan.expected, found, timed, dataset) for plan in plans], seconds


def report(recipe: Recipe, plans: Sequence[Plan], lines: Sequence[list[Compared]], seconds: tuple[float, float]) -> str:
    """PLAN.md."""
    whole = next(int(line.happened) for line in lines[0] if (line.step, line.language) == (COLLECTED, ALL))
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    return f"""# What `plan` expects, and what happens: the last run

Made by `python -m benchmarks.plan`. Text: MARCO_TEST_DATA (`clean` in 64 languages, `web` pages and web text, `other`
languages, `stem`): {whole:,} documents, {len(recipe.languages)} languages, five sources.
Machine: {machine()}; load when it ended (1, 5, 15 minutes) {load}.

The build took {seconds[0]:,.0f} s, {seconds[1]:,.0f} s of the processor, in one process.
Goal: totals within {ALLOWED:.0%}.

## The plans

| `--probe` | documents looked at | of all | wall | processor |
|---|---|---|---|---|
{_rows(_plan(plan, whole) for plan in plans)}

## Errors of totals, by step

Of what happened: +5 % is 5 % too much. Steps that drop a handful of documents are off by more than those that matter.

{_totals(plans, lines)}

## Errors by language

Of the tokens that are kept: languages with {LEAST:,} tokens or more.

| `--probe` | languages | median error | within {ALLOWED:.0%} | worst | inside the printed range |
|---|---|---|---|---|---|
{_rows([plan.documents, *_by_language(own)] for plan, own in zip(plans, lines, strict=True))}

A range is meant to hold nine of ten. It is that of sampling alone: what duplicates take is not in it.

## Processors and disk, by group of nodes

{_spent(plans, lines)}
"""


LEAST = 1000


def _plan(plan: Plan, whole: int) -> list[Any]:
    share = f"{plan.looked / whole:.0%}"
    return [plan.documents, f"{plan.looked:,}", share, f"{plan.wall:.1f} s", f"{plan.processor:.1f} s"]


def _rows(rows: Any) -> str:
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def _totals(plans: Sequence[Plan], lines: Sequence[list[Compared]]) -> str:
    head = _head(["step", "figure", "happened", *(f"`--probe {p.documents}`" for p in plans)])
    rows = []
    for line in lines[-1]:
        if line.language == ALL and line.step not in (PROCESSOR, DISK):
            rows.append([line.step, line.figure, short(line.happened), *_errors(line, lines)])
    return head + _rows(rows)


def _spent(plans: Sequence[Plan], lines: Sequence[list[Compared]]) -> str:
    head = _head(["", "of", "happened", *(f"`--probe {p.documents}`" for p in plans)])
    rows = [
        [line.step, line.language, f"{short(line.happened)} {line.figure}", *_errors(line, lines)]
        for line in lines[-1]
        if line.step in (PROCESSOR, DISK)
    ]
    return head + _rows(rows)


def _head(names: Sequence[str]) -> str:
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"


def _errors(line: Compared, lines: Sequence[list[Compared]]) -> list[str]:
    """The same line's error in each comparison."""
    out = []
    for own in lines:
        same = [o for o in own if (o.step, o.language, o.figure) == (line.step, line.language, line.figure)]
        error = same[0].error if same else -1.0
        out.append("" if error is None else f"{error:+.1%}")
    return out


def _by_language(lines: Sequence[Compared]) -> list[str]:
    own = [
        line
        for line in lines
        if line.step == KEPT and line.figure == "tokens" and line.language != ALL and line.happened >= LEAST
    ]
    errors = [abs(line.error) for line in own if line.error is not None]
    worst = max(own, key=lambda line: abs(line.error or 0))
    inside = [
        line
        for line in own
        if line.expected.low is not None and line.expected.high is not None
        if line.expected.low <= line.happened <= line.expected.high
    ]
    return [
        str(len(own)),
        f"{statistics.median(errors):.1%}",
        f"{sum(e <= ALLOWED for e in errors)} of {len(own)}",
        f"{worst.language}: {worst.error:+.0%}, {told(worst.expected)} of {short(worst.happened)}",
        f"{len(inside)} of {len(own)}",
    ]


if __name__ == "__main__":
    main()
