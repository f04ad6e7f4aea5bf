"""`init`: it proposes what the files show, asks for the rest, and what it writes validates and plans."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Result, marco
from small_corpus import TOKENIZER, prose

from marco_data.recipe import load_recipe
from marco_data.recipe_start import look_at

ROWS = [
    {"doc_id": f"{code}-{i}", "lang": code[:2], "title": "x", "content": text}
    for code in ("swh_Latn", "eng_Latn")
    for i, text in enumerate(prose(code))
]
ALL = ("--languages", "sw,en", "--budget", "10M", "--tokenizer", TOKENIZER)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path / "my.jsonl", ROWS)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def init(site: Path, *words: object) -> Result:
    return marco("init", *words, cwd=site)


def test_what_is_written_validates_plans_and_builds(site: Path):
    done = init(site, "--input", "my.jsonl", *ALL, "--out", "my.yaml")
    assert (done.code, done.out) == (0, "my.yaml\n"), done.err
    assert marco("validate", "my.yaml", cwd=site).code == 0
    plan = marco("plan", "my.yaml", "--json", cwd=site)
    assert plan.code == 0
    assert [source["problem"] for source in plan.json["sources"]] == [None]
    built = marco("build-stage", 1, "--recipe", "my.yaml", "--executor", "local", "--json", cwd=site)
    assert built.code == 0, built.err
    assert set(built.json["languages"]) == {"eng_Latn", "swh_Latn"}


def test_the_recipe_says_what_was_asked_and_found(site: Path):
    init(site, "--input", "my.jsonl", *ALL, "--family", "own", "--stage", 2, "--out", "my.yaml")
    recipe = load_recipe(site / "my.yaml")
    assert (recipe.family, recipe.stage, recipe.budget) == ("own", 2, 10_000_000)
    assert recipe.languages == ("swh_Latn", "eng_Latn")
    fields = recipe.sources["data"].fields
    assert (fields.text, fields.id, fields.language, fields.url) == ("content", "doc_id", "lang", None)
    assert "paths: [my.jsonl]" in (site / "my.yaml").read_text("utf-8")


def test_all_is_no_budget(site: Path):
    words = ["--languages", "sw", "--tokenizer", TOKENIZER, "--budget", "all"]
    assert init(site, "--input", "my.jsonl", *words).code == 0
    assert load_recipe(site / "recipe.yaml").budget is None


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        ([{"text": "a", "body": "b", "id": 1, "url": "u"}], {"text": "text", "id": "id", "url": "url"}),
        ([{"Title": "short", "Article": "a much longer string"}], {"text": "Article"}),
        ([{"text": None, "content": "a"}], {"text": "content"}),
        ([{"text": "a", "license": "x", "lang": "sw"}], {"text": "text", "language": "lang", "licence": "license"}),
    ],
)
def test_fields_are_proposed_by_what_columns_are_called_and_hold(
    rows: list[dict[str, Any]], fields: dict[str, str], tmp_path: Path
):
    assert look_at([str(write(tmp_path / "x.jsonl", rows))], {}).fields == fields


def test_every_format_is_looked_at(tmp_path: Path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    (tmp_path / "x.txt").write_text("Some text.")
    found = look_at([f"{tmp_path}/x.parquet"], {})
    assert (found.format, found.fields["text"], found.languages) == ("parquet", "content", ("eng_Latn", "swh_Latn"))
    found = look_at([f"{tmp_path}/x.txt"], {})
    assert (found.format, found.columns, found.fields) == ("text", (), {})


def test_text_files_get_a_recipe_without_fields(tmp_path: Path):
    (tmp_path / "x.txt").write_text(prose("swh_Latn")[0])
    assert init(tmp_path, "--input", "x.txt", *ALL).code == 0
    assert "fields" not in (tmp_path / "recipe.yaml").read_text("utf-8")


def test_a_file_that_is_there_is_never_replaced(site: Path):
    (site / "my.yaml").write_text("mine")
    done = init(site, "--input", "my.jsonl", *ALL, "--out", "my.yaml")
    assert (done.code, (site / "my.yaml").read_text()) == (2, "mine")
    assert "`my.yaml` is there already" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nobody can be asked here: --input, --languages, --budget, --tokenizer are missing"),
        (["--input", "my.jsonl", *ALL[:4]], "nobody can be asked here: --tokenizer is missing"),
        (["--input", "gone.jsonl", *ALL], "no file to read at"),
        (["--input", "my.jsonl", *ALL, "--languages", "sx"], "`sx` is not one of the 64 languages"),
        (["--input", "my.jsonl", *ALL, "--languages", ","], "--languages names no language"),
        (["--input", "my.jsonl", *ALL, "--budget", "lots"], "`lots` is not a number of tokens"),
        (["--input", "my.jsonl", *ALL, "--tokenizer", "gone.json"], "gone.json"),
        (["--input", "my.jsonl", *ALL, "--end-of-document", "</s>"], "</s>"),
        (["--input", "my.jsonl", *ALL, "--field", "text=body"], "has no field `body`; it has: `doc_id`"),
        (["--input", "my.jsonl", *ALL, "--family", "My Own"], "`family`"),
        (["--input", "my.jsonl", *ALL, "--out", "no/my.yaml"], "there is no folder `no`"),
        (["--input", "numbers.jsonl", *ALL], "has no column that holds text; it has: `a`"),
    ],
)
def test_a_mistake_ends_in_one_message_and_nothing_is_left(words: list[object], says: str, site: Path):
    write(site / "numbers.jsonl", [{"a": 1}])
    done = init(site, *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert sorted(p.name for p in site.iterdir()) == ["my.jsonl", "numbers.jsonl"]


def test_a_person_is_asked_on_stderr_and_may_take_what_is_proposed(site: Path):
    driver, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "marco_data.cli", "init", "--out", "asked.yaml"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=site, text=True,
    )  # fmt: skip
    os.close(terminal)
    os.write(driver, f"my.jsonl\n\n\n\n{TOKENIZER}\n".encode())
    out, err = process.communicate(timeout=120)
    os.close(driver)
    assert (process.returncode, out) == (0, "asked.yaml\n"), err
    assert "Which column holds the text? [content]:" in err
    assert "Which languages (codes, with commas)? [eng_Latn,swh_Latn]:" in err
    recipe = load_recipe(site / "asked.yaml")
    assert (recipe.languages, recipe.budget) == (("eng_Latn", "swh_Latn"), None)
