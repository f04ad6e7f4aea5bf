"""Decontamination as users meet it: a recipe that names benchmarks, its index, a build, `stats` and `why`."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from small_corpus import CODES, TOKENIZER, build, load_recipe, prose, row, write_jsonl, write_recipe

from marco_data.catalog import families

HELD_BY = {"eng_Latn": "quiz-1", "deu_Latn": "quiz-2", "tha_Thai": "quiz-3", "zho_Hans": "quiz-4", "ben_Beng": "quiz-5"}
SHORT = "Which river runs through the old town of Heidelberg?"


def question(code: str) -> str:
    """The middle of a document of the prose, as what is asked about."""
    text = " ".join(prose(code)[3].split())
    return text[len(text) // 5 : len(text) // 5 + (60 if code in ("tha_Thai", "zho_Hans") else 220)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with leaks in five languages, its recipe `r.yaml`, the index of it and the build in `out`."""
    folder = tmp_path_factory.mktemp("site")
    rows = [row(code, n) for code in CODES for n in (0, 1)]
    rows += [{"id": f"leak-{code}", "url": None, "text": f"{prose(code)[2]}\n\n{question(code)}"} for code in HELD_BY]
    rows += [{"id": "short", "url": None, "text": f"{prose('eng_Latn')[2]}\n\n{SHORT} The Neckar."}]
    rows += [{"id": "near", "url": None, "text": prose("rus_Cyrl")[2]}]
    write_jsonl(folder / "in" / "web.jsonl", rows)
    items = [{"id": item, "question": question(code), "answer": "B"} for code, item in HELD_BY.items()]
    write_jsonl(folder / "benchmarks" / "quiz.jsonl", items)
    (folder / "benchmarks" / "rivers_en.tsv").write_text(f"{SHORT}\tNeckar\n", "utf-8")
    write_recipe(folder / "r.yaml", values())
    made = marco("index-benchmarks", "--recipe", folder / "r.yaml")
    assert made.code == 0, made.err
    (folder / "made.json").write_text(made.out)
    built = marco("build-stage", 3, "--recipe", folder / "r.yaml", "--root", folder / "out", "--executor", "local")
    assert built.code == 0, built.err
    return folder


def values(**limits: Any) -> dict[str, Any]:
    return {
        "family": "small",
        "stage": 3,
        "tokenizer": {"path": str(TOKENIZER)},
        "languages": list(CODES),
        "sources": {"web": {"paths": ["in/web.jsonl"], "fields": {"text": "text", "id": "id", "url": "url"}}},
        "mixture": {"web": {"weight": 1}},
        "steps": {
            "identify_language": {"threshold": 0.3},
            "decontaminate": {
                "index": "benchmarks/all.index",
                "benchmarks": {
                    "quiz": {"paths": ["benchmarks/quiz.jsonl"], "fields": ["question", "answer"], "id": "id"},
                    "rivers": {"paths": ["benchmarks/rivers_{language}.tsv"], "fields": [1]},
                    "unmet": {"paths": ["benchmarks/rivers_{language}.tsv"], "fields": [2]},
                },
                "limits": limits,
            },
        },
    }


def test_an_index_says_what_it_is_made_of(site: Path):
    made = json.loads((site / "made.json").read_text())
    assert made["benchmarks"]["quiz"] == {"texts": 10, "broken": 0, "too_short": 5, "common": 0}
    assert made["benchmarks"]["unmet"]["too_short"] == 1


def test_documents_that_hold_an_item_are_dropped_and_no_other(site: Path):
    names = ["short", "near", *(f"leak-{code}" for code in HELD_BY), *(f"{c[:3]}-{n}" for c in CODES for n in (0, 1))]
    answers = {
        a["source_id"]: a for a in marco("why", *names, "--family", "small", "--root", site / "out", "--json").lines
    }
    assert len(answers) == len(names)
    dropped = {name for name, a in answers.items() if str(a["reason"]).startswith("decontaminate/")}
    assert dropped == {"short", *(f"leak-{code}" for code in HELD_BY)}
    assert answers["near"]["leaks"] == []
    for code, item in HELD_BY.items():
        answer = answers[f"leak-{code}"]
        [leak] = answer["leaks"]
        assert (leak["benchmark"], leak["item"], leak["field"]) == ("quiz", item, "question")
        assert answer["measured"] == leak["share"] > 0.9
        assert leak["text"][5:-5] in question(code)
        assert len(leak["text"]) > 0.9 * len(question(code))
    [leak] = answers["short"]["leaks"]
    assert (answers["short"]["reason"], leak["benchmark"], leak["item"], leak["language"]) == (
        "decontaminate/whole_item",
        "rivers",
        "rivers_en:1",
        "eng_Latn",
    )


def test_why_shows_people_the_item_and_the_place(site: Path):
    said = marco("why", "short", "--family", "small", "--root", site / "out").out
    assert "holds 100% of rivers rivers_en:1 (1, eng_Latn) at " in said
    assert SHORT.rstrip("?") in said


def test_the_report_has_a_line_for_each_benchmark_and_the_books_balance(site: Path):
    stats = marco("stats", 3, "--family", "small", "--root", site / "out", "--json").json
    assert stats["balanced"] is True
    assert stats["benchmarks"] == {
        "quiz": {"items": 5, "documents": 5},
        "rivers": {"items": 1, "documents": 1},
        "unmet": {"items": 0, "documents": 0},
    }
    dropped = {r: n for r, n in stats["documents"]["dropped"].items() if r.startswith("decontaminate/")}
    assert sum(dropped.values()) == 6
    shown = marco("stats", 3, "--family", "small", "--root", site / "out").out
    assert all(name in shown for name in ("items found", "quiz", "rivers", "unmet", "decontaminate"))


def test_another_limit_is_decided_again_from_columns(site: Path):
    write_recipe(site / "strict.yaml", values(share=1, words=1000, stretch=1000))
    plan = marco("plan", site / "strict.yaml", "--root", site / "out", "--json").json
    assert [(n["node"], n["status"]) for n in plan["nodes"]][:2] == [("measure", "skip"), ("decide", "re-decide")]
    again = build(load_recipe(site / "strict.yaml"), site / "out")
    assert again.run.ran["measure"] == 0
    assert again.stage.benchmarks["rivers"]["documents"] == 1


def test_workers_and_batches_do_not_matter(site: Path, tmp_path: Path):
    recipe = load_recipe(site / "r.yaml")
    one, two = tmp_path / "one", tmp_path / "two"
    build(recipe, one)
    command = ("build-stage", 3, "--recipe", site / "r.yaml", "--executor", "local", "--workers", 2, "--root", two)
    assert marco(*command).code == 0
    files = {p.relative_to(one): p.read_bytes() for p in one.rglob("*") if p.is_file() and "runs" not in p.parts}
    assert files == {
        p.relative_to(two): p.read_bytes() for p in two.rglob("*") if p.is_file() and "runs" not in p.parts
    }


@pytest.mark.parametrize("command", ["build-stage", "plan", "validate"])
def test_without_its_index_a_recipe_is_planned_and_not_built(command: str, tmp_path: Path):
    write_jsonl(tmp_path / "in" / "web.jsonl", [row("eng_Latn", 0)])
    write_recipe(tmp_path / "r.yaml", values())
    words = {
        "build-stage": ("build-stage", 3, "--recipe", tmp_path / "r.yaml", "--root", tmp_path / "out"),
        "plan": ("plan", tmp_path / "r.yaml", "--root", tmp_path / "out"),
        "validate": ("validate", tmp_path / "r.yaml"),
    }[command]
    answer = marco(*words)
    assert answer.code == (2 if command == "build-stage" else 0)
    said = answer.out + answer.err
    assert "all.index` is not there" in " ".join(said.split())
    assert "index-benchmarks" in said
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("measure*"))


def test_an_index_of_another_list_is_refused(site: Path):
    other = values()
    del other["steps"]["decontaminate"]["benchmarks"]["unmet"]
    write_recipe(site / "other.yaml", other)
    answer = marco("build-stage", 3, "--recipe", site / "other.yaml", "--root", site / "out2", "--executor", "local")
    assert answer.code == 2
    assert "another list of benchmarks" in answer.err
    assert "index-benchmarks" in answer.err


def test_text_that_is_common_in_a_sample_is_no_leak(site: Path, tmp_path: Path):
    write_jsonl(tmp_path / "sample.jsonl", [{"body": f"{prose('eng_Latn')[n]} {SHORT}"} for n in range(4)])
    words = ("--recipe", site / "r.yaml", "--reference", tmp_path / "sample.jsonl", "--field", "text=body")
    made = marco("index-benchmarks", *words, "--out", tmp_path / "deep" / "x.index")
    assert made.code == 0, made.err
    assert made.json["sample_documents"] == 4
    assert made.json["benchmarks"]["rivers"]["common"] == 1
    assert (tmp_path / "deep" / "x.index").exists()


def test_a_recipe_without_benchmarks_has_no_index(tmp_path: Path):
    answer = marco("index-benchmarks", 3, "--out", tmp_path / "x")
    assert answer.code == 2
    assert "names no benchmarks" in answer.err


@pytest.mark.parametrize("family", ["marco-mini", "marco-nano", "marco-mini-global"])
def test_the_families_name_the_suites_they_are_evaluated_on(family: str):
    for file in sorted(families()[family].glob("stage*.yaml")):
        section = load_recipe(file).steps.decontaminate
        assert section is not None
        named = " ".join(path for benchmark in section.benchmarks.values() for path in benchmark.paths).lower()
        suites = ("mmlu", "belebele", "mgsm", "gsm8k", "hellaswag", "arc", "include", "cmmlu", "ceval", "flores")
        assert [suite for suite in suites if suite not in named] == []
