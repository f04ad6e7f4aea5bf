"""A build that is under way, as the dashboard sees it: whose log is shown, what is read for it, and how often."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hostile_corpus import begin, build_hostile, hostile_recipe
from small_corpus import Built, as_recipe, recipe_values, write_corpus
from starlette.testclient import TestClient

from marco_data.dashboard import data, distributions, runs, server
from marco_data.dashboard.data import Root
from marco_data.stage_ledger import read_ledger
from marco_data.storage import Storage

PAGES = [*server.PAGES, "documents", "search"]


def client(root: str | Path) -> TestClient:
    return TestClient(server.application(Root(Storage(str(root)))), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def under_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("under_way")
    begin(hostile_recipe(folder), folder / "out", "shards")
    return folder / "out"


# What is read


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read."""
    paths: Counter[str] = Counter()
    one, table = Storage.read, Storage.parquet

    def counted_read(storage: Storage, path: str) -> bytes | None:
        paths[path] += 1
        return one(storage, path)

    def counted_parquet(storage: Storage, path: str) -> Any:
        paths[path] += 1
        return table(storage, path)

    monkeypatch.setattr(Storage, "read", counted_read)
    monkeypatch.setattr(Storage, "parquet", counted_parquet)
    return paths


def test_whether_anything_has_changed_is_told_without_reading_records(under_way: Path, read: Counter[str]):
    with client(under_way) as page:
        assert page.get("/state").json()["running"] is True
        manifests = {path: n for path, n in read.items() if "/manifest-" in path}
        # The ledger needs the mix, and of `tokenize` earlier builds too; nothing else is looked into twice.
        assert len(manifests) > 5
        assert {n for path, n in manifests.items() if not path.startswith(("mix-", "tokenize-"))} == {1}
        assert not [path for path in read if "/records-" in path and not path.startswith("mix-")]
        read.clear()
        assert page.get("/documents?language=eng_Latn").text.count("<li>") > 0
        assert [path for path in read if path.startswith("measure-") and "/records-" in path]
        read.clear()
        page.get("/documents?language=eng_Latn")
        assert not [path for path in read if path.startswith("measure-") and "/records-" in path]


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_build_is_read_again_after_ten_times_the_seconds_that_takes(
    under_way: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
):
    now, reads = [1000.0], []

    def slow(*asked: Any) -> Any:
        now[0] += seconds
        reads.append(now[0])
        return read_ledger(*asked)

    monkeypatch.setattr(data, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(data, "read_ledger", slow)
    root, fresh = Root(Storage(str(under_way))), max(2.0, 10 * seconds)
    root.view({})
    now[0] += 0.9 * fresh
    root.view({})
    assert len(reads) == 1
    now[0] += 0.2 * fresh
    root.view({})
    assert len(reads) == 2


def test_what_cannot_be_read_of_a_build_under_way_is_a_message(tmp_path: Path):
    begin(hostile_recipe(tmp_path), tmp_path / "out", "tokenize")
    for path in (tmp_path / "out").glob("decide-*/records-*.parquet"):
        path.write_bytes(b"PAR1")
    with client(tmp_path / "out") as page:
        assert page.get("/tokens").status_code == 200
        answer = page.get("/documents")
    assert answer.status_code == 500
    assert "That cannot be read" in answer.text


def test_a_build_without_a_budget_that_has_read_nothing_has_its_pages(tmp_path: Path):
    values = recipe_values(write_corpus(tmp_path / "in"))
    values.pop("budget", None)
    begin(as_recipe(values), tmp_path / "out", "measure")
    with client(tmp_path / "out") as page:
        for name in PAGES:
            answer = page.get(f"/{name}")
            assert answer.status_code == 200, (name, answer.text)


# Whose log


def write_log(root: Path, run: str, segment: int, *lines: dict[str, Any]) -> None:
    path = root / "runs" / f"{run}-{segment:05d}.jsonl"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def done(node: str, folder: str | None, at: float, error: str | None = None) -> dict[str, Any]:
    told = {"folder": folder} if folder else {}
    return {"node": node, **told, "task": f"{folder}/{at}", "at": at, "seconds": 1.0, "error": error}


def test_the_log_is_that_of_the_newest_run_of_this_build(tmp_path: Path):
    ours = {"measure": "measure-a", "decide": "decide-a"}
    write_log(tmp_path, "20260101T000000Z-1.aa", 0, done("measure", "measure-a", 1), done("measure", "measure-a", 2))
    write_log(tmp_path, "20260102T000000Z-2.bb", 0, done("measure", "measure-a", 11), done("measure", "measure-a", 13))
    write_log(tmp_path, "20260102T000000Z-2.bb", 1, done("decide", "decide-a", 14, "ours"))
    write_log(tmp_path, "20260103T000000Z-3.cc", 0, done("measure", "measure-b", 5), done("decide", "decide-b", 6))
    work = runs.work_of(Storage(str(tmp_path)), ours)
    assert work.keys() == {"measure", "decide"}
    assert (work["measure"].tasks, work["measure"].first, work["measure"].last) == (2, 11, 13)
    assert work["decide"].failed == ["decide-a/14: ours"]
    assert runs.work_of(Storage(str(tmp_path)), {"measure": "measure-c"}) == {}


def test_lines_of_another_build_in_the_same_log_do_not_count(tmp_path: Path):
    lines = (done("measure", "measure-a", 1), done("decide", "decide-b", 2), done("seeds", None, 3))
    write_log(tmp_path, "20260101T000000Z-1.aa", 0, *lines)
    work = runs.work_of(Storage(str(tmp_path)), {"measure": "measure-a", "decide": "decide-a", "seeds": "seeds-a"})
    assert {name: own.tasks for name, own in work.items()} == {"measure": 1, "seeds": 1}


def test_a_failure_of_another_build_is_not_on_the_page(under_way: Path):
    folders = Root(Storage(str(under_way))).view({}).folders
    write_log(under_way, "20990102T000000Z-2.bb", 0, done("measure", folders["measure"], 1, "of this build"))
    write_log(under_way, "20990103T000000Z-3.cc", 0, done("measure", "measure-b", 1, "of another"))
    with client(under_way) as page:
        shown = page.get("/progress").text
    assert "of this build" in shown
    assert "of another" not in shown


# Figures


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("declared")
    return build_hostile(folder, folder / "out")


def test_a_share_of_what_was_declared_is_the_same_with_a_filter(built: Built):
    def shares(asked: str) -> dict[tuple[Any, Any], Any]:
        root = Root(built.storage)
        panels = server.PAGES["identification"].panels(root, root.view({"language": asked} if asked else {}))
        rows = next(panel for panel in panels if panel.name == "confusions").rows
        return {(row[0], row[1]): row[3] for row in rows}

    every = shares("")
    assert 0 < every["deu_Latn", "eng_Latn"] < 1
    for language in ("eng_Latn", "deu_Latn"):
        own = shares(language)
        assert own == {pair: share for pair, share in every.items() if language in pair}


def test_generated_shards_before_the_last_dedup_do_not_end_a_sample_of_duplicates(
    built: Built, monkeypatch: pytest.MonkeyPatch
):
    lookup = Root(built.storage).view({}).lookup
    assert lookup is not None
    read = sum(file.rows for file in lookup.sidecars[:-1])
    vars(lookup)["sidecars"] = lookup.sidecars[:-1]
    last = len(lookup.sidecars)
    monkeypatch.setattr(distributions, "shards_in_order", lambda *_: ([last, *range(last)], 1))
    monkeypatch.setattr(distributions, "kept_under_runs", lambda lookup, name, make: make())
    assert distributions.duplicates(lookup)["documents"] == read > 0
