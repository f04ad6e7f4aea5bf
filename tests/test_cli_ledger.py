"""`ledger` and `stats`: forms, exit codes, and a stage that is being built."""

import csv
import io
import json
from pathlib import Path

import pytest
from command_line import Result, marco
from planted_corpus import planted_values, write_planted
from small_corpus import write_recipe
from test_stage_ledger import DiesAt, Killed, started

from marco_data.recipe import load_recipe

STOPS_AT = ("decide", 2)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    return write_recipe(folder / "r.yaml", planted_values(write_planted(folder / "in")) | {"budget": 3000})


@pytest.fixture(scope="module")
def root(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    done = marco("build-stage", 3, "--recipe", recipe, "--root", out, "--executor", "local")
    assert done.code == 0, done.err
    return out


@pytest.fixture(scope="module")
def killed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        started(load_recipe(recipe), out, DiesAt(*STOPS_AT))
    return out


def ask(command: str, root: Path, *words: object) -> Result:
    return marco(command, 3, "--family", "small", "--root", root, *words)


def rows(told: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(told.out)))


def test_json_csv_and_stats_have_the_same_figures(root: Path) -> None:
    told = ask("ledger", root, "--json")
    assert (told.code, told.err) == (0, "")
    ledger, stats = told.json, ask("stats", root, "--json").json
    assert ledger["total"]["documents_read"] == stats["documents"]["read"]
    assert {r: a["documents"] for r, a in ledger["total"]["dropped"].items()} == stats["documents"]["dropped"]
    assert {r: a["documents"] for r, a in ledger["total"]["failed"].items()} == stats["documents"]["failed"]
    assert {r["language"]: r["written"] for r in ledger["languages"] if r["written"]} == {
        code: sums["tokens"] for code, sums in stats["languages"].items()
    }
    assert {r["part"]: r["written"] for r in ledger["parts"]} == {p: s["tokens"] for p, s in stats["parts"].items()}
    lines = rows(ask("ledger", root, "--csv"))
    assert len(lines) == len(ledger["rows"])
    for name in ("wanted", "collected", "written", "drawn", "shortfall"):
        assert sum(int(line[name]) for line in lines) == ledger["total"][name] == sum(r[name] for r in ledger["rows"])


def test_stats_as_csv_are_the_counts_the_books_are_sums_of(root: Path) -> None:
    told = ask("stats", root, "--csv")
    books = ask("stats", root, "--json").json["documents"]
    lines = rows(told)
    assert told.code == 0
    sums: dict[str, int] = {}
    for line in lines:
        sums[line["outcome"]] = sums.get(line["outcome"], 0) + int(line["documents"])
    assert sums == {
        "read": books["read"],
        "kept": books["kept"],
        "dropped": sum(books["dropped"].values()),
        "failed": sum(books["failed"].values()),
    }


def test_rows_are_of_what_is_asked_for(root: Path) -> None:
    by_part = rows(ask("ledger", root, "--csv", "--by", "part"))
    assert [line["part"] for line in by_part] == ["books", "web"]
    both = rows(ask("ledger", root, "--csv", "--by", "source", "--by", "language"))
    assert list(both[0])[:3] == ["language", "source", "wanted"]
    table = ask("ledger", root, "--by", "language")
    assert "rus_Cyrl Russian" in table.out
    assert "~" in table.out


@pytest.mark.parametrize("columns", ["80", "240"])
def test_the_table_has_the_sum_and_the_mixture_at_any_width(
    columns: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    told = ask("ledger", root).out
    total = ask("ledger", root, "--json").json["total"]
    assert f"{total['drawn']:,}" in told or columns == "80"
    assert f"{total['written']:,}" in told
    assert "Marco-MoE" in told
    assert "75.00" in told


def test_strict_fails_by_name_where_a_language_falls_short(root: Path, recipe: Path, tmp_path: Path) -> None:
    which = ["--recipe", recipe, "--budget", "100K", "--root", tmp_path]
    done = marco("build-stage", 3, *which, "--executor", "local")
    assert done.code == 0, done.err
    told = marco("ledger", 3, *which, "--strict")
    rows = marco("ledger", 3, *which, "--json").json["languages"]
    short = {row["language"]: row["shortfall"] for row in rows if row["shortfall"]}
    assert short.keys() == {"eng_Latn", "deu_Latn", "fra_Latn", "rus_Cyrl", "tha_Thai", "ben_Beng"}
    assert told.code == 1
    for code, tokens in short.items():
        assert f"{code} by {tokens:,}" in told.err
    assert marco("ledger", 3, *which).code == 0
    enough = ask("ledger", root, "--strict")
    assert (enough.code, "short" in enough.err) == (0, False)


def test_strict_names_the_parts_for_which_there_is_no_text_at_all(recipe: Path, tmp_path: Path) -> None:
    values = json.loads(load_recipe(recipe).model_dump_json(exclude_unset=True))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.jsonl").write_text("")
    values["sources"]["letters"] = {"paths": [f"{tmp_path}/none/*"]}
    values["mixture"]["letters"] = {"weight": 1}
    file = write_recipe(tmp_path / "r.yaml", values)
    out = ["--root", tmp_path / "out"]
    assert marco("build-stage", 3, "--recipe", file, *out, "--executor", "local").code == 0
    told = marco("ledger", 3, "--recipe", file, *out, "--strict")
    assert told.code == 1
    assert "any language in `letters` by 600" in told.err


def test_of_a_stage_that_is_being_built_both_say_so_and_have_what_is_committed(killed: Path) -> None:
    told = ask("ledger", killed, "--json")
    assert told.code == 0
    assert f"{STOPS_AT[1]:,} of" in told.err
    assert "`decide`" in told.err
    ledger = told.json
    assert (ledger["running"], ledger["complete"], ledger["folder"]) == (True, False, None)
    assert {n["node"]: n["done"] for n in ledger["nodes"] if n["done"]}["decide"] == STOPS_AT[1]
    stats = ask("stats", killed, "--json")
    assert stats.code == 1
    assert "no manifest yet" in stats.err
    documents = stats.json["documents"]
    assert documents["read"] == ledger["total"]["documents_read"] > 0
    assert documents["dropped"] == {r: a["documents"] for r, a in ledger["total"]["dropped"].items()}
    assert (stats.json["complete"], stats.json["shards"]) == (False, [])
    assert "pending" in ask("ledger", killed).out
    assert ask("stats", killed).code == 1


def test_while_a_stage_is_built_anew_stats_has_the_books_before_and_says_so(recipe: Path, tmp_path: Path) -> None:
    done = marco("build-stage", 3, "--recipe", recipe, "--root", tmp_path, "--executor", "local", "--json")
    values = json.loads(load_recipe(recipe).model_dump_json(exclude_unset=True)) | {"budget": 700}
    with pytest.raises(Killed):
        started(load_recipe(write_recipe(tmp_path / "other.yaml", values)), tmp_path, DiesAt("mix", 1))
    told = ask("stats", tmp_path, "--json")
    assert told.json == done.json
    assert "was begun anew, and no live build is at it" in told.err
    assert ask("ledger", tmp_path, "--json").json["running"] is True


def test_two_forms_at_once_and_a_stage_nobody_began_are_mistakes_of_the_user(root: Path, tmp_path: Path) -> None:
    for command in ("stats", "ledger"):
        assert ask(command, root, "--json", "--csv").code == 2
        told = ask(command, tmp_path)
        assert (told.code, "has not been built" in told.err) == (2, True)
    for two in (("--disk", "--csv"), ("--disk", "--slow"), ("--slow", "--csv")):
        assert ask("stats", root, *two).code == 2
