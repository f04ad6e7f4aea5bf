"""`submit`, `jobs` and `doctor` against real Ray heads with their job servers: what is built is what is built here."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_head import WAIT_SECONDS, Head
from roots import digests
from small_corpus import build, prose, recipe_values, write_corpus, write_recipe
from users_own import PLANTED, STEP

from marco_data.cluster.leases import Leases
from marco_data.recipe import load_recipe
from marco_data.storage import Storage

pytestmark = pytest.mark.slow

SLOW = {"step": "fatal_steps:Sleeps", "arguments": {"seconds": 2.0}}


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with Head(variables={"MY_TOKEN": PLANTED}) as started:
        yield started
        home = started
    assert home.processes() == []


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return recipe_values(write_corpus(tmp_path / "corpus")) | {"shards": {"bytes": 3000, "tokens": 2000}}


def wait_until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.2)


def ended(root: Path) -> Counter[tuple[str, str]]:
    """How often each task of a root ended well."""
    lines = [json.loads(line) for log in (root / "runs").glob("*.jsonl") for line in log.read_text().splitlines()]
    return Counter((line["node"], line["task"]) for line in lines if not line["error"])


def measured(root: Path) -> int:
    return len([path for path in root.glob("measure-*/*.json") if not path.name.startswith("manifest-")])


def test_a_cluster_builds_what_is_sent_once_with_the_users_own_step_and_no_secret(head, tmp_path, values, monkeypatch):
    (tmp_path / "own_steps.py").write_text(STEP)  # which the head's own path does not have
    values["steps"]["extra"] = [{"step": "own_steps:Marks"}]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    here = head.ask("build-stage", 3, "--recipe", recipe, "--root", "here", "--executor", "local", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    to = ("--root", tmp_path / "there", "--address", head.address)
    looked = head.ask("doctor", "--recipe", recipe, *to, "--json", cwd=tmp_path)
    findings = [json.loads(line) for line in looked.stdout.splitlines()]
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert {"here", "cluster", "the cluster's head"} < {finding["where"] for finding in findings}
    assert any("(" in finding["where"] and finding["check"] == "clock" for finding in findings)  # a node's own
    sent = head.ask("submit", recipe, *to, "--env", "MY_TOKEN", "--follow", cwd=tmp_path)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    name = sent.stdout.splitlines()[0]
    assert "INFO" not in sent.stderr  # Ray's own words on how it packs
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    again = head.ask("submit", recipe, *to, cwd=tmp_path)
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True), again.stderr
    listed = head.ask("jobs", "list", "--json", cwd=tmp_path)
    jobs = {job["name"]: job for job in map(json.loads, listed.stdout.splitlines())}
    assert jobs[name]["status"] == "SUCCEEDED"
    assert jobs[name]["metadata"]["family"] == "small"
    assert "tasks ended" in head.ask("jobs", "logs", name, "--root", tmp_path / "there", cwd=tmp_path).stdout
    everything = head.raw("/api/jobs/") + head.raw(f"/api/jobs/{name}/logs") + sent.stdout + sent.stderr
    assert "MY_TOKEN" in everything
    assert PLANTED not in everything


def test_a_job_that_is_stopped_is_resumed_to_the_same_bytes_and_does_no_task_twice(head, tmp_path, values):
    values["steps"]["extra"] = [SLOW]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    root = tmp_path / "there"
    name = head.ask("submit", recipe, "--root", root, cwd=tmp_path).stdout.splitlines()[0]
    wait_until(lambda: measured(root) > 0)
    stopped = head.ask("jobs", "stop", name, cwd=tmp_path)
    assert (stopped.returncode, "is told to stop" in stopped.stderr) == (0, True), stopped.stderr
    wait_until(lambda: head.status(name, tmp_path)["status"] == "STOPPED")
    resumed = head.ask("jobs", "resume", name, "--follow", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert {n for n in ended(root).values() if n > 1} == set()
    assert list((root / "runs" / "leases").glob("measure-*")) == []
    build(recipe, tmp_path / "here")
    assert digests(root) == digests(tmp_path / "here")


def test_two_jobs_that_share_steps_do_each_task_once(head, tmp_path, values):
    values["steps"]["extra"] = [SLOW]
    one = write_recipe(tmp_path / "one.yaml", values)
    two = write_recipe(tmp_path / "two.yaml", values | {"budget": 3000})
    root = tmp_path / "there"
    first = head.ask("submit", one, "--root", root, cwd=tmp_path).stdout.splitlines()[0]
    second = head.ask("submit", two, "--root", root, "--follow", cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    wait_until(lambda: head.status(first, tmp_path)["status"] == "SUCCEEDED")
    said = head.raw(f"/api/jobs/{first}/logs") + second.stdout  # whichever began it first
    assert re.search(r"measure-\w+ is being built by job small-3-\w+-\w+ on", said)
    done = Counter({task: n for task, n in ended(root).items() if task[0] not in ("mix", "shards")})  # each has its own
    assert len([task for task in done if task[0] == "measure"]) > 4
    assert {task: n for task, n in done.items() if n > 1} == {}
    for recipe in (one, two):
        build(recipe, tmp_path / "here")
    assert data(root) == data(tmp_path / "here")


def data(root: Path) -> dict[str, str]:
    """Without the pointers to whichever was built last."""
    return {path: digest for path, digest in digests(root).items() if not path.startswith("stages/")}


def test_a_job_that_waits_gives_ray_back_and_takes_it_again(head, tmp_path, values):
    recipe = write_recipe(tmp_path / "r.yaml", values)
    root = tmp_path / "there"
    plan = load_recipe(recipe).pipeline_function()(load_recipe(recipe))
    decide = plan.node("decide").folder
    with Leases(Storage(str(root))).held(decide, print):  # while Ray has been at work for `measure`
        name = head.ask("submit", recipe, "--root", root, cwd=tmp_path).stdout.splitlines()[0]
        wait_until(lambda: "waiting for it" in head.raw(f"/api/jobs/{name}/logs"))
        assert measured(root) > 0
    followed = head.ask("jobs", "logs", name, "--follow", cwd=tmp_path)
    assert followed.returncode == 0, followed.stdout
    build(recipe, tmp_path / "here")
    assert digests(root) == digests(tmp_path / "here")


def test_the_last_words_of_a_worker_that_died_are_read_from_the_root(head, tmp_path, values):
    word = prose("eng_Latn")[1].split()[20]
    values["steps"]["extra"] = [{"step": "fatal_steps:DiesOn", "arguments": {"word": word}}]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    root = tmp_path / "there"
    sent = head.ask("submit", recipe, "--root", root, "--follow", cwd=tmp_path)
    name = sent.stdout.splitlines()[0]
    said = head.ask("jobs", "logs", name, "--root", root, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "a worker died of measure " in said.stdout
    assert "Segmentation fault" in said.stdout
    assert "fatal_steps.py" in said.stdout


def test_a_job_of_a_head_that_is_gone_goes_on_from_its_root_on_another_and_both_ask_for_a_token(tmp_path, values):
    values["steps"]["extra"] = [SLOW]
    recipe = write_recipe(tmp_path / "r.yaml", values)
    root = tmp_path / "there"
    with Head(token=True) as one:
        refused = one.ask("submit", recipe, "--root", root, cwd=tmp_path, RAY_AUTH_MODE="disabled")
        assert (refused.returncode, "RAY_AUTH_TOKEN_PATH" in refused.stderr) == (2, True), refused.stderr
        wrong = tmp_path / "wrong"
        wrong.write_text("0" * 64)
        denied = one.ask("jobs", "list", cwd=tmp_path, RAY_AUTH_TOKEN_PATH=str(wrong))
        assert (denied.returncode, "asks who you are" in denied.stderr) == (2, True), denied.stderr
        sent = one.ask("submit", recipe, "--root", root, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        name = sent.stdout.splitlines()[0]
        wait_until(lambda: measured(root) > 0)
        one.lose()
    assert list((root / "runs" / "leases").glob("measure-*"))  # nobody was there to give it back
    with Head(token=True) as two:
        unknown = two.ask("jobs", "resume", name, cwd=tmp_path)
        assert (unknown.returncode, "give its --root" in unknown.stderr) == (2, True), unknown.stderr
        resumed = two.ask("jobs", "resume", name, "--root", root, "--follow", cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert two.processes() == []
    assert list((root / "runs" / "leases").glob("measure-*")) == []
    build(recipe, tmp_path / "here")
    assert digests(root) == digests(tmp_path / "here")
