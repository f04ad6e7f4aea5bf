"""`doctor`: what a build lacks is told with its remedy, before it is started; what is there is ok."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command_line import Result, marco
from job_server import JobServer
from small_corpus import TOKENIZER, recipe_values, write_corpus, write_recipe

from marco_data.cluster import doctor
from marco_data.cluster.doctor import skew, storage_rights
from marco_data.cluster.findings import FAIL, OK, WARN, Finding
from marco_data.cluster.node_checks import _of_node
from marco_data.storage import Storage


def levels(done: Result) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in done.lines}


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return recipe_values(write_corpus(tmp_path / "corpus"))


def ask(tmp_path: Path, values: dict[str, Any], *words: object) -> Result:
    recipe = write_recipe(tmp_path / "r.yaml", values)
    return marco("doctor", "--recipe", recipe, "--root", tmp_path / "root", "--json", *words)


def test_a_machine_that_can_build_has_nothing_to_fix(tmp_path: Path, values, monkeypatch):
    monkeypatch.setattr(doctor, "DISK_WARN", 0)  # this machine's disk is not what is tested
    done = ask(tmp_path, values)
    assert done.code == 0, done.out
    found = levels(done)
    assert {"versions", "storage", "atomic commit", "clock", "tokenizer", "source web", "source books"} < set(found)
    assert set(found.values()) == {OK}
    assert not any(finding["remedy"] for finding in done.lines)
    assert list((tmp_path / "root" / "runs").glob("doctor*")) == []


def test_what_a_recipe_lacks_fails_with_its_remedy(tmp_path: Path, values):
    values["tokenizer"] = {"path": str(tmp_path / "none.json")}
    values["sources"]["web"]["paths"] = [str(tmp_path / "nothing" / "*.jsonl")]
    (tmp_path / "bad.jsonl").write_text('{"body": "a"}\n')
    values["sources"]["books"] = {"paths": [str(tmp_path / "bad.jsonl")], "fields": {"text": "text"}}
    done = ask(tmp_path, values)
    assert done.code == 1
    found = {finding["check"]: finding for finding in done.lines}
    assert [found[name]["level"] for name in ("tokenizer", "source web", "source books")] == [FAIL] * 3
    assert "none.json" in found["tokenizer"]["says"]
    assert "no file to read at" in found["source web"]["says"]
    assert all(finding["remedy"] for finding in done.lines if finding["level"] == FAIL and "source" in finding["check"])


def test_a_file_whose_first_rows_are_broken_is_told(tmp_path: Path, values):
    (tmp_path / "half.jsonl").write_text('{"id": 1, "text": "a whole row"}\n{"id": 2, "te\n')
    values["sources"]["books"] = {"paths": [str(tmp_path / "half.jsonl")], "fields": {"text": "text", "id": "id"}}
    (found,) = [f for f in ask(tmp_path, values).lines if f["check"] == "source books"]
    assert (found["level"], "of the first 2 rows of `half.jsonl` 1 are broken" in found["says"]) == (WARN, True)


def test_a_root_that_cannot_be_written_fails(tmp_path: Path):
    (tmp_path / "file").write_text("")
    found = list(storage_rights(Storage(str(tmp_path / "file" / "root"))))
    assert [(f.check, f.level) for f in found] == [("storage", FAIL)]
    assert found[0].remedy


class Forgetful(Storage):
    """A store that takes no notice of a create's condition, as some that speak S3's protocol do."""

    def create(self, path: str, data: bytes) -> bool:
        self.replace(path, data)
        return True


def test_a_store_that_writes_over_what_is_there_fails(tmp_path: Path):
    found = {f.check: f for f in storage_rights(Forgetful(str(tmp_path)))}
    assert found["atomic commit"].level == FAIL
    assert "conditional writes" in found["atomic commit"].remedy


def test_the_rights_on_s3_are_looked_at_by_using_them(bucket: Callable[[str], str]):
    storage = Storage(bucket("doctor"))
    found = {f.check: f.level for f in storage_rights(storage)}
    assert found == {"atomic commit": OK, "storage": OK, "clock": OK}
    lacking = list(storage_rights(Storage("s3://no-such-bucket/root")))
    assert [(f.check, f.level) for f in lacking] == [("storage", FAIL)]


@pytest.mark.parametrize(("seconds", "level"), [(0.2, OK), (-5, OK), (60, WARN), (-1000, FAIL)])
def test_clocks_may_differ_by_seconds(seconds: float, level: str):
    found = skew("clock", seconds, "the storage's")
    assert found.level == level
    assert bool(found.remedy) == (level != OK)
    assert "ahead of" in found.says if seconds > 1 else "ahead" not in found.says


def test_a_storage_clock_that_is_off_is_told(tmp_path: Path, monkeypatch):
    real = doctor._modified

    def behind(storage: Storage, path: str) -> float:
        os.utime(storage.local(path), (0, time.time() - 300))
        return real(storage, path)

    monkeypatch.setattr(doctor, "_modified", behind)
    (found,) = [f for f in storage_rights(Storage(str(tmp_path))) if f.check == "clock"]
    assert (found.level, "behind this machine's" in found.says) == (WARN, True)


def test_a_node_with_other_versions_or_another_clock_is_told():
    now = time.time()
    mine = {"python": doctor.platform.python_version(), **doctor.versions()}
    facts = {"versions": mine, "at": now, "findings": [Finding("storage", OK, "is written")]}
    assert [f.level for f in _of_node(facts, now - 1, now + 1)] == [OK, OK, OK]
    other = {**facts, "versions": {**mine, "pyarrow": "1.0"}, "at": now + 100}
    versions, clock, _ = _of_node(other, now - 1, now + 1)
    assert (versions.level, "pyarrow 1.0 (driver: " in versions.says) == (FAIL, True)
    assert clock.level == WARN


def test_a_doctor_that_a_cluster_cannot_start_is_a_failure_with_its_last_words(tmp_path: Path):
    with JobServer(tmp_path / "cluster") as server:
        broken = tmp_path / "cluster" / "bin" / "python"
        broken.write_text("#!/bin/sh\necho no module named marco_data\nexit 1\n")
        done = marco("doctor", "--root", tmp_path / "root", "--address", server.address, "--json")
    assert done.code == 1
    (found,) = [f for f in done.lines if f["check"] == "cluster"]
    assert (found["level"], found["says"]) == (FAIL, "no module named marco_data")
    assert json.loads(json.dumps(server.asked[0]["metadata"]))["root"] == str(tmp_path / "root")


def test_a_doctor_that_dies_on_the_cluster_before_it_has_looked_at_all_is_a_failure(tmp_path: Path):
    said = json.dumps(asdict(Finding("storage", OK, "is written")))
    with JobServer(tmp_path / "cluster") as server:
        (tmp_path / "said").write_text(f"{said}\nerror: no Ray cluster at `auto`\n")
        (tmp_path / "cluster" / "bin" / "python").write_text(f"#!/bin/sh\ncat {tmp_path}/said; exit 2\n")
        done = marco("doctor", "--root", tmp_path / "root", "--address", server.address, "--json")
    assert done.code == 1
    (found,) = [f for f in done.lines if f["check"] == "cluster"]
    assert (found["level"], found["says"]) == (FAIL, "error: no Ray cluster at `auto`")


def test_what_is_well_on_all_nodes_is_a_line_and_what_is_not_has_its_node(tmp_path: Path):
    nodes = [Finding("clock", OK, "its clock is this machine's", where=f"node-{n} (0123)") for n in range(1000)]
    lacking = Finding("storage", FAIL, "cannot be written", "give it the right", "node-7 (0123)")
    said = "\n".join(json.dumps(asdict(finding)) for finding in [*nodes, lacking])
    with JobServer(tmp_path / "cluster") as server:
        (tmp_path / "said").write_text(said)
        (tmp_path / "cluster" / "bin" / "python").write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
        words = ("doctor", "--root", tmp_path / "root", "--address", server.address)
        done, listed = marco(*words), marco(*words, "--json")
    assert done.code == 1
    assert "ok    clock [1,000 nodes]\n" in done.out
    assert "fail  storage [node-7 (0123)]: cannot be written" in done.out
    assert "node-8" not in done.out
    assert len([finding for finding in listed.lines if finding["check"] == "clock"]) > 1000


def test_pools_that_want_more_gpus_than_there_are_warn(tmp_path: Path, values):
    pools = tmp_path / "pools.yaml"
    pools.write_text("big: {kind: vllm, replicas: 1000, gpus: 8, tensor_parallel: 8}\n")
    (found,) = [f for f in ask(tmp_path, values, "--pools", pools).lines if f["check"] == "GPUs"]
    assert (found["level"], "ask for 8000 in all" in found["says"]) == (WARN, True)


def test_the_tokenizer_that_is_looked_at_is_the_recipes(tmp_path: Path, values):
    (found,) = [f for f in ask(tmp_path, values).lines if f["check"] == "tokenizer"]
    assert TOKENIZER.name in found["says"]
