"""Stages 3 and 4 with sources and root in buckets: the files of a disk, and its answers to every command."""

import gzip
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
import zstandard
from command_line import Result, marco
from small_corpus import SAMPLE, prose, recipe_values, row, write_corpus, write_jsonl, write_recipe

from marco_data.prune import DAY, find, remove
from marco_data.recipe import load_recipe
from marco_data.storage import Storage
from marco_data.storage_counts import COUNTS

POOLS = {"tiny": {"kind": "scripted", "script": "generation_makers:model"}}
LANGUAGES = ["en", "bn", "th"]


def warc(code: str, number: int) -> bytes:
    """A crawled page with a document of the prose, as a gzip member."""
    paragraphs = "".join(f"<p>{line}</p>" for line in prose(code)[number].split("\n") if line)
    page = f"<html lang={code[:2]}><head><title>x</title></head><body><main>{paragraphs}</main></body></html>".encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{code}-{number}>\r\n"
        f"WARC-Target-URI: https://example.net/{code}/{number}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(answer)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + answer + b"\r\n\r\n", mtime=0)


def write_sources(folder: Path) -> Path:
    """The small corpus, with a zst file that holds copies of others, and a crawl."""
    write_corpus(folder)
    copies = write_jsonl(
        folder / "copies.jsonl", [row(code, 0) | {"id": f"copy-{code}"} for code in ("eng_Latn", "ben_Beng")]
    )
    (folder / "web" / "d.jsonl.zst").write_bytes(zstandard.compress(copies.read_bytes()))
    copies.unlink()
    (folder / "crawl").mkdir()
    (folder / "crawl" / "e.warc.gz").write_bytes(warc("eng_Latn", 2) + warc("ben_Beng", 2))
    return folder


def recipe_of(corpus: Path) -> dict[str, object]:
    values = recipe_values(corpus) | {
        "languages": LANGUAGES,
        "generators": {"tiny": {"model": "nobody/tiny", "revision": "1"}},
    }
    values["sources"]["crawl"] = {"paths": [f"{corpus}/crawl/*.warc.gz"]}
    values["mixture"] |= {"crawl": {"weight": 1}}
    values["steps"]["dedup"] = {"over": "all"}
    return dict(values)


@dataclass(frozen=True)
class Both:
    """The same two stages on a disk and in a bucket."""

    folder: Path
    root: str

    @property
    def here(self) -> Path:
        return self.folder / "out"

    def recipe(self, number: int) -> Path:
        return self.folder / f"{number}.yaml"


def build(both: Both, number: int, root: object) -> Result:
    done = marco(
        *("build-stage", number, "--recipe", both.recipe(number), "--root", root, "--executor", "local"),
        *("--pools", both.folder / "pools.yaml", "--json"),
    )
    assert done.code == 0, done.err
    assert done.json["balanced"] is True
    return done


@pytest.fixture(scope="module")
def both(bucket: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Both:
    from marco_data.s3 import S3

    folder = tmp_path_factory.mktemp("s3")
    corpus = write_sources(folder / "in")
    S3().put(f"{corpus}/", bucket("corpus"), recursive=True)
    values = recipe_of(corpus)
    there = values | {"sources": json.loads(json.dumps(values["sources"]).replace(str(corpus), "s3://corpus/lake"))}
    reprint = {"maker": "generation_makers:Reprint", "generator": "tiny", "languages": LANGUAGES}
    entry = {"rephrase": reprint | {"seeds": {"sources": ["web"]}}}
    mixture = {**values["mixture"], "rephrase": {"weight": 1}}  # type: ignore[dict-item]
    write_recipe(folder / "3.yaml", there | {"budget": 4000})
    write_recipe(folder / "4.yaml", there | {"budget": 8000, "stage": 4, "generate": entry, "mixture": mixture})
    write_recipe(folder / "pools.yaml", POOLS)
    found = Both(folder, bucket("both"))
    for number in (3, 4):
        build(found, number, found.here)
        build(found, number, found.root)
    return found


def results(root: object) -> dict[str, bytes | None]:
    storage = Storage(str(root))
    return {e.path: storage.read(e.path) for e in storage.below("") if not e.path.startswith("runs/")}


def test_two_stages_from_sources_on_s3_leave_the_same_files_there_as_on_disk(both: Both):
    here, there = results(both.here), results(both.root)
    assert sorted(here) == sorted(there)
    assert [path for path in here if here[path] != there[path]] == []
    assert {path.partition("/")[0].rpartition("-")[0] for path in here} >= {
        "measure",
        "generate",
        "shards",
        "stage-4",
    }


@pytest.mark.parametrize(
    "words",
    [
        ("stats", 4, "--csv"),
        ("stats", 4, "--json"),
        ("stats", 3, "--disk", "--json"),
        ("ledger", 4, "--csv"),
        ("find", "e", "--stage", 3),
        ("why", "eng-2", "--stage", 3),
        ("failures", 4),
        ("duplicates", 3, "--json"),
        ("duplicates", 3, "--rehydrate", 4, "--csv"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_what_is_asked_of_stages_on_s3_is_answered_as_on_disk(words, both: Both):
    command = [*words, "--family", "small", "--root"]
    there, here = marco(*command, both.root), marco(*command, both.here)
    assert (there.code, there.err.replace(both.root, str(both.here))) == (here.code, here.err)
    assert there.out.replace(both.root, str(both.here)) == here.out
    assert there.code == 0
    assert there.out or words[0] == "failures"


def test_a_document_that_was_generated_is_explained_from_s3_as_from_disk(both: Both):
    table = marco("find", "e", "--stage", 4, "--family", "small", "--root", both.here, "--json")
    made = next(line["id"] for line in table.lines if line["source"] == "rephrase")
    command = ("why", made, "--stage", 4, "--family", "small", "--root")
    assert marco(*command, both.root).out == marco(*command, both.here).out != ""


def test_the_completions_of_a_ledger_on_s3_are_written_as_from_disk(both: Both, tmp_path: Path):
    for name, root in (("here", both.here), ("there", both.root)):
        done = marco("export-completions", "--out", tmp_path / f"{name}.jsonl", "--root", root)
        assert done.code == 0, done.err
    assert (tmp_path / "here.jsonl").read_bytes() == (tmp_path / "there.jsonl").read_bytes() != b""


@pytest.mark.slow
def test_the_dashboard_of_stages_on_s3_is_that_of_a_disk(both: Both, tmp_path: Path):
    pages = []
    for name, root in (("here", both.here), ("there", both.root)):
        done = marco("dashboard", "--family", "small", "--root", root, "--export", tmp_path / name)
        assert done.code == 0, done.err
        page = (tmp_path / name).read_text("utf-8").replace(str(root), "ROOT")
        sections = re.findall(r'<section class="panel" id="(.*?)-title">(.*?)</section>', page, re.DOTALL)
        pages.append({at: text for at, text in sections if not at.startswith("progress")})  # it tells of times
    assert len(pages[0]) > 20
    assert pages[0] == pages[1]


def test_a_trainer_would_train_on_s3_as_on_a_disk(both: Both, tmp_path: Path):
    values = yaml.safe_load((SAMPLE / "train.yaml").read_text())
    values |= {"model": str(SAMPLE / values["model"]), "schedule": {"peak": 1e-3}}
    write_recipe(recipe := tmp_path / "train.yaml", values)
    said = []
    for name, root in (("here", both.here), ("there", both.root)):
        words = ("train", "3-4", "--family", "small", "--recipe", recipe, "--root", root, "--dry-run")
        answer = marco(*words, "--out", tmp_path / name, "--json")
        assert answer.code == 0, answer.err
        said.append(json.loads(answer.out.replace(str(root), "ROOT").replace(str(tmp_path / name), "OUT")))
    assert said[0]["data"]["iterations"] > 0
    assert said[0] == said[1]


@pytest.mark.slow
def test_what_is_younger_than_a_day_on_s3_is_listed_and_never_deleted(both: Both):
    before = sorted(results(both.root))
    for words in ((), ("--yes",)):
        done = marco("prune", "--keep", both.recipe(3), "--root", both.root, "--json", *words)
        assert done.code == 0, done.err
        assert (done.json["files"], done.json["deleted"]) == (0, 0)
    assert sorted(results(both.root)) == before


@pytest.mark.slow
def test_on_s3_pruning_leaves_the_kept_recipes_files_and_what_is_being_built(both: Both, bucket: Callable[[str], str]):
    from marco_data.s3 import S3

    root = bucket("pruned")
    S3().copy(f"{both.root}/", f"{root}/", recursive=True)
    storage, third = Storage(root), load_recipe(both.recipe(3))
    alone = results(both.root)
    goes = {entry.path for entry in find(storage, [third], time.time() + 2 * DAY).goes}
    folder = next(path.partition("/")[0] for path in sorted(goes) if path.startswith("generate-"))
    time.sleep(2)  # S3 tells a second from the next
    nodes = [{"name": "generate", "kind": "generate", "folder": folder}]
    state = {"run": "x", "family": "small", "stage": 4, "digest": "0" * 12, "recipe": {}, "ended": None, "nodes": nodes}
    storage.replace("runs/now/x.json", json.dumps(state).encode())
    (written,) = [entry.written for entry in storage.below("runs/now") if entry.path.endswith("/x.json")]
    now = written + DAY - 0.5
    S3().call_s3("create_multipart_upload", Bucket="pruned", Key="lake/shards-x/a.bin")
    found = find(storage, [third], now)
    assert [key for key, _ in found.uploads] == ["lake/shards-x/a.bin"]
    assert list(found.building) == [folder]
    assert remove(storage, found, [third], now) == len(found.goes) > 10
    assert storage.unfinished_uploads(now) == []
    left = results(root)
    assert {path for path in left if path in goes} == {path for path in goes if path.startswith(f"{folder}/")}
    assert {path for path in set(alone) - set(left) if not path.startswith("stages/")} <= goes
    assert all(left[path] == alone[path] for path in left if not path.startswith("stages/"))
    build(both, 3, root)
    assert sorted(results(root)) == sorted(left)


def requests_of_a_second_build(root: str, again: Callable[[], object]) -> tuple[int, int, int]:
    """Requests, listings among them, and nodes of the last stage built in a root."""
    before = COUNTS.copy()
    again()
    asked = COUNTS.since(before).requests
    folder = Storage(root).read_json("stages/small.json")["stage"]
    nodes = Storage(root).read_json(f"{folder}/manifest.json")["nodes"]
    return asked.total(), asked["list_objects_v2"], len(nodes)


def test_a_second_build_asks_s3_a_few_things_of_each_node_and_lists_next_to_nothing(both: Both):
    asked, listings, nodes = requests_of_a_second_build(both.root, lambda: build(both, 4, both.root))
    assert asked <= 9 * nodes + 70
    assert listings <= 16  # three sources in a bucket among them


@pytest.mark.slow
def test_a_second_build_of_many_shards_asks_s3_no_more_than_one_of_few(bucket: Callable[[str], str], tmp_path: Path):
    asked = {}
    for files in (2, 24):
        corpus = tmp_path / str(files)
        for number in range(files):
            write_jsonl(corpus / f"{number:02}.jsonl", [row("eng_Latn", number % 3) | {"id": str(number)}])
        values = recipe_values(corpus) | {"languages": ["en"], "mixture": {"web": {"weight": 1}}}
        fields = values["sources"]["web"]["fields"]
        values["sources"] = {"web": {"paths": [f"{corpus}/*.jsonl"], "fields": fields}}
        recipe, root = write_recipe(tmp_path / f"{files}.yaml", values), bucket(f"many-{files}")

        def again(recipe: Path = recipe, root: str = root) -> None:
            done = marco("build-stage", 3, "--recipe", recipe, "--root", root, "--executor", "local")
            assert done.code == 0, done.err

        again()
        records = [name for name in Storage(root).names("") if name.startswith("measure-")]
        assert len([n for n in Storage(root).names(records[0]) if not n.startswith(("manifest", "records"))]) >= files
        asked[files] = requests_of_a_second_build(root, again)
    assert asked[24] == asked[2]


def test_the_requests_of_a_build_are_told_of_under_runs(both: Both):
    storage = Storage(both.root)
    (first, *_) = [
        storage.read_json(f"runs/{name}") for name in storage.names("runs") if name.endswith("-storage.json")
    ]
    assert first["requests"]["put_object"] > 10
    assert first["retries"] == {}
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in json.dumps(first)
