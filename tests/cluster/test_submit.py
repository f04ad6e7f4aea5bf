"""`submit` and `jobs`: a build goes to a cluster with all it needs, and with no secret; what is built is not sent."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Result, marco
from job_server import JobServer
from roots import digests
from small_corpus import TOKENIZER, recipe_values, write_corpus, write_recipe
from users_own import PLANTED, STEP

from marco_data.cluster import jobs
from marco_data.cluster.bundle import MOST_BYTES, make_bundle, unpack
from marco_data.cluster.jobs import MARK, Cluster, Order
from marco_data.cluster.orders import entrypoint, job_root, make_order, user_name
from marco_data.errors import MarcoError, RecipeError
from marco_data.recipe import load_recipe


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a recipe that includes another, a tokenizer of its own, and a step that imports a module."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "own_steps.py").write_text(f"import pyarrow as pa\nfrom word_lists import WORDS\n{STEP}")
    (folder / "word_lists").mkdir()
    (folder / "word_lists" / "__init__.py").write_text("WORDS = ('one', 'two')\n")
    (folder / "unrelated.py").write_text("raise SystemExit('nobody asked for this')\n")
    shutil.copy(TOKENIZER, folder / "my-tokenizer.json")
    values = recipe_values(write_corpus(folder / "corpus"))
    sources = {"sources": values.pop("sources")}
    (folder / "sources.yaml").write_text(yaml.safe_dump(sources))
    values["tokenizer"] = {"path": "my-tokenizer.json"}
    values["steps"]["extra"] = [{"step": "own_steps:Marks"}]
    write_recipe(folder / "r.yaml", {"include": "sources.yaml", **values})
    return folder


@pytest.fixture(autouse=True)
def imported_anew() -> Iterator[None]:
    """The user's modules are of a folder that no other test has."""
    yield
    for name in ("own_steps", "word_lists"):
        sys.modules.pop(name, None)


def bundle_names(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


def test_what_travels_is_the_merged_recipe_its_files_and_the_modules_it_names(site: Path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    recipe = load_recipe(site / "r.yaml")
    (tmp_path / "one").mkdir()
    bundle = make_bundle(recipe, None, tmp_path / "one")
    names = ["files/0/my-tokenizer.json", "own_steps.py", "recipe.yaml", "word_lists/__init__.py"]
    assert bundle_names(bundle.packed()) == names
    assert all(path.startswith(str(site)) for path in bundle.elsewhere)
    assert len(bundle.elsewhere) == 2  # its sources
    (tmp_path / "two").mkdir()
    assert make_bundle(recipe, None, tmp_path / "two").packed() == bundle.packed()
    there = load_recipe(tmp_path / "two" / "recipe.yaml")
    assert there.recorded == recipe.recorded
    assert there.digest == recipe.digest
    assert Path(there.tokenizer.path).read_bytes() == TOKENIZER.read_bytes()


def test_a_job_builds_the_bytes_of_a_build_here_and_is_not_sent_a_second_time(site: Path, tmp_path: Path):
    def ask(*words: object) -> Result:
        return marco(*words, "--address", server.address, cwd=site)

    here = marco("build-stage", 3, "--recipe", "r.yaml", "--root", tmp_path / "here", "--executor", "local", cwd=site)
    assert here.code == 0, here.err
    root = tmp_path / "there"
    with JobServer(tmp_path / "cluster") as server:
        sent = ask("submit", "r.yaml", "--root", root, "--executor", "local", "--json", "--follow")
        assert sent.code == 0, sent.out + sent.err
        first = json.loads(sent.out.splitlines()[0])
        name = first["job"]
        assert first["is"] == "sent"
        assert digests(root) == digests(tmp_path / "here")
        assert marco("stats", 3, "--recipe", "r.yaml", "--root", root, "--json", cwd=site).json["balanced"]
        again = ask("submit", "r.yaml", "--root", root, "--json")
        assert again.code == 0, again.err
        assert again.json == {"job": None, "is": "built"}
        assert "nothing to do: small stage 3 is built, in stage-3-" in again.err
        assert len(server.asked) == 1
        (asked,) = server.asked
        metadata = asked["metadata"]
        assert {"recipe", "family", "stage", "user", "marco-data"} < set(metadata)
        assert (metadata["family"], metadata["stage"], metadata["root"]) == ("small", "3", str(root))
        assert asked["runtime_env"]["env_vars"]["RAY_AUTH_MODE"] == "disabled"
        (listed,) = ask("jobs", "list", "--json").lines
        assert (listed["name"], listed["status"]) == (name, "SUCCEEDED")
        assert ask("jobs", "status", name).code == 0
        assert "kept" in ask("jobs", "logs", name).out
        tasks = marco("jobs", "logs", name, "--root", root)
        assert tasks.code == 0
        assert "measure: 4 tasks ended" in tasks.out
        assert "had ended: SUCCEEDED" in ask("jobs", "stop", name).err


def test_a_job_that_failed_says_why_and_is_resumed_from_its_root_on_another_cluster(site: Path, tmp_path: Path):
    broken = shutil.copytree(site, tmp_path / "user")
    text = (broken / "sources.yaml").read_text().replace(str(site), str(broken))
    (broken / "sources.yaml").write_text(text)
    moved = broken / "corpus" / "web"
    moved.rename(broken / "web")
    root = tmp_path / "root"
    with JobServer(tmp_path / "one") as server:
        sent = marco(
            *("submit", "r.yaml", "--address", server.address, "--root", root, "--executor", "local", "--follow"),
            cwd=broken,
        )
        assert sent.code == 1
        name = sent.out.splitlines()[0]
        assert "no file to read at" in sent.out
        assert f"{name}: FAILED" in sent.err
        assert marco("jobs", "status", name, "--address", server.address).code == 1
    shutil.copytree(broken / "web", moved)
    shutil.rmtree(broken / "word_lists")  # it has travelled
    with JobServer(tmp_path / "two") as server:
        unknown = marco("jobs", "resume", name, "--address", server.address)
        assert (unknown.code, "give its --root" in unknown.err) == (2, True)
        done = marco("jobs", "resume", name, "--address", server.address, "--root", root, "--follow")
        assert done.code == 0, done.out + done.err
        assert server.asked[0]["metadata"]["again"] == name
    assert marco("stats", 3, "--family", "small", "--root", root, "--json").json["balanced"]


def test_a_job_is_stopped_and_a_second_of_the_same_recipe_joins_it(site: Path, tmp_path: Path):
    with JobServer(tmp_path / "cluster") as server:
        server.nodes["PATH"] = f"{write_sleeper(tmp_path)}:/usr/bin:/bin"
        words = ("--address", server.address, "--root", tmp_path / "root", "--json")
        name = marco("submit", "r.yaml", *words, cwd=site).json["job"]
        joined = marco("submit", "r.yaml", *words, cwd=site)
        assert joined.json == {"job": name, "is": "running"}
        assert len(server.asked) == 1
        live = marco("jobs", "resume", name, "--address", server.address)
        assert (live.code, "is RUNNING" in live.err) == (2, True)
        assert marco("jobs", "stop", name, "--address", server.address).code == 0
        (listed,) = marco("jobs", "list", "--address", server.address, "--json").lines
        assert listed["status"] == "STOPPED"
        again = marco("jobs", "resume", name, *words[:4])
        assert (again.code, len(server.asked)) == (0, 2), again.err
        joined = marco("jobs", "resume", name, *words[:4])
        assert joined.out == again.out
        assert f"nothing sent: {again.out.strip()} is building this recipe" in joined.err
        assert len(server.asked) == 2


def write_sleeper(folder: Path) -> Path:
    (folder / "sleeper").mkdir()
    python = folder / "sleeper" / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    return python.parent


def test_no_value_of_a_secret_is_in_anything_that_a_job_is_sent_or_leaves(site: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", PLANTED)
    with JobServer(tmp_path / "cluster") as server:
        server.nodes["PATH"] = f"{write_sleeper(tmp_path)}:/usr/bin:/bin"
        words = ("submit", "r.yaml", "--address", server.address, "--root", tmp_path / "root")
        refused = marco(*words, "--env", f"MY_TOKEN={PLANTED}", cwd=site)
        assert refused.code == 2
        assert "values do not travel with a job" in refused.err
        assert "--env MY_TOKEN" in refused.err
        assert server.asked == []
        sent = marco(*words, "--env", "MY_TOKEN", cwd=site)
        assert sent.code == 0, sent.err
        everything = refused.out + refused.err + sent.out + sent.err + json.dumps(server.asked)
        travelled = [archived for data in server.packages.values() for archived in contents(data)]
    kept = [path.read_bytes() for path in (tmp_path / "root").rglob("*") if path.is_file()]
    kept += [archived for data in kept if data.startswith(b"PK") for archived in contents(data)]
    assert len(travelled) > 3
    assert len(kept) > 4
    assert PLANTED not in everything
    assert not [data for data in (*travelled, *kept) if PLANTED.encode() in data]


def contents(data: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [archive.read(name) for name in archive.namelist()]


def test_a_follower_outlives_a_tunnel_that_breaks_and_gives_up_where_it_stays_so(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.05)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "a.txt").write_text("a")
    with JobServer(tmp_path / "cluster") as server:
        cluster = Cluster(server.address)
        cluster.send(Order("a-3-1", "echo one; sleep 0.5; echo two", {MARK: "1"}), tmp_path / "bundle")
        words = cluster.follow("a-3-1")
        said = next(words)
        server.deaf = 3
        assert said + "".join(words) == "one\ntwo\n"
        assert server.deaf == 0
        server.deaf = 10_000
        with pytest.raises(MarcoError, match="the job may go on") as told:
            list(cluster.follow("a-3-1", silent_seconds=0.2))
        assert "jobs resume a-3-1 --root" in str(told.value.hint)
        server.deaf = 0


class LongWinded(Cluster):
    """A cluster with one job, whose log takes so many seconds each time it is asked for; and its clock."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.asked, self.now = seconds, 0, 0.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def job(self, name: str) -> jobs.Job:
        return jobs.Job(name, "RUNNING" if self.asked + 1 < len(self.seconds) else "SUCCEEDED", "", "")

    def logs(self, name: str) -> str:
        self.now += self.seconds[self.asked]
        self.asked += 1
        return "x" * self.asked


def test_a_long_log_is_fetched_a_tenth_of_the_time_and_at_least_once_a_minute(monkeypatch):
    cluster = LongWinded(0.01, 0.2, 1.0, 5.0, 20.0, 1.0)
    monkeypatch.setattr(jobs, "time", cluster)
    assert "".join(cluster.follow("a-3-1")) == "x" * 6
    assert cluster.pauses == pytest.approx([2.0, 2.0, 9.0, 45.0, 60.0])


def test_a_head_that_cannot_start_jobs_yet_is_waited_for(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.05)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "a.txt").write_text("a")
    order = Order("a-3-1", "true", {MARK: "1"})
    with JobServer(tmp_path / "cluster") as server:
        server.no_agent = 2
        Cluster(server.address).send(order, tmp_path / "bundle")
        assert len(server.asked) == 1
        server.no_agent = 10_000
        with pytest.raises(MarcoError, match="a head without an agent"):
            Cluster(server.address).send(order, tmp_path / "bundle", start_seconds=0.2)


def test_a_variable_that_the_cluster_lacks_ends_the_job_at_once_and_is_named():
    line = entrypoint(["stats", "3"], ["MARCO_LACKS_THIS"])
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "MARCO_LACKS_THIS" in done.stderr
    assert "is not set on the cluster" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--address", "ray://head:10001"], "is not the address of a job server"),
        (["--address", "http://me:pw@head:8265"], "holds no name, password or query"),
        (["--address", "http://127.0.0.1:9"], "no job server answers at http://127.0.0.1:9"),
        ([], "which cluster?"),
        (
            ["--address", "http://127.0.0.1:9", "--root", "s3://key:pw@bucket/root"],
            "the URL of a root holds no password",
        ),
        (["--address", "http://127.0.0.1:9", "--env", "not a name"], "takes the NAME of a variable"),
        (["--address", "http://127.0.0.1:9", "--executor", "slurm"], "no executor `slurm`"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(words: list[str], says: str, site: Path, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    root = [] if "--root" in words else ["--root", str(tmp_path)]
    done = marco("submit", "r.yaml", *words, *root, cwd=site)
    assert done.code in (1, 2)
    assert says in done.err
    assert "pw" not in done.err


def test_logs_are_followed_on_a_cluster_or_read_from_a_root(tmp_path: Path):
    done = marco("jobs", "logs", "a-3-1", "--follow", "--root", tmp_path)
    assert (done.code, "one of them" in done.err) == (2, True)


def test_what_tasks_left_in_the_root_moves_no_terminal(tmp_path: Path):
    task = {"node": "measure", "task": "a", "host": "b", "error": "\x1b[2Jgone", "trace": "line\n\x9b1A\rover"}
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "20260101T000000Z-a-3-1-00000.jsonl").write_text(json.dumps(task) + "\n")
    done = marco("jobs", "logs", "a-3-1", "--root", tmp_path)
    assert done.code == 0
    assert "failed: measure a on b: \\x1b[2Jgone\nline\n" in done.out
    assert not {"\x1b", "\x9b", "\r"} & set(done.out)


def test_a_mistake_in_the_pools_is_told_and_no_job_is_sent_with_it(site: Path, tmp_path: Path):
    pools = tmp_path / "pools.yaml"
    pools.write_text("steps:\n  measured: {memory: 1GiB}\n")
    with JobServer(tmp_path / "cluster") as server:
        done = marco(
            *("submit", "r.yaml", "--pools", pools, "--address", server.address, "--root", tmp_path / "root"), cwd=site
        )
        assert server.asked == []
    assert done.code == 2
    assert "pools.yaml:2: `steps.measured`: this plan has no such step; did you mean `measure`?" in done.err


def test_a_cluster_that_asks_for_a_token_says_how_to_give_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with JobServer(tmp_path / "cluster") as server:
        server.token = "wanted"
        done = marco("jobs", "list", "--address", server.address)
    assert done.code == 2
    assert "asks who you are" in done.err
    assert "RAY_AUTH_MODE=token" in done.err


def test_the_address_that_is_given_goes_before_those_of_the_environment(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    with JobServer(tmp_path / "cluster") as server:
        given = marco("jobs", "list", "--address", server.address)
        assert (given.code, given.out) == (0, "")
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", server.address)
        assert marco("jobs", "list").code == 0


def test_files_and_modules_too_large_to_travel_are_named(site: Path, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # a hole: nothing is written
    recipe = load_recipe(site / "r.yaml", {"tokenizer": {"path": str(large)}})
    with pytest.raises(RecipeError, match=r"large\.json"):
        make_bundle(recipe, None, tmp_path)
    package = shutil.copytree(site, tmp_path / "user") / "word_lists"
    monkeypatch.syspath_prepend(str(tmp_path / "user"))
    (package / ".cache").mkdir()
    large.rename(package / ".cache" / "large.bin")  # which does not travel
    (package / "template.py").write_text("print 'of another Python'\n")
    recipe = load_recipe(tmp_path / "user" / "r.yaml")
    (tmp_path / "bundle").mkdir()
    names = bundle_names(make_bundle(recipe, None, tmp_path / "bundle").packed())
    assert [name for name in names if "word_lists" in name] == ["word_lists/__init__.py", "word_lists/template.py"]
    (package / ".cache" / "large.bin").rename(package / "large.bin")
    with pytest.raises(RecipeError, match=r"`.*word_lists` has"):
        make_bundle(recipe, None, tmp_path / "bundle")


def test_a_stored_job_cannot_write_outside_of_its_folder(tmp_path: Path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(RecipeError, match="outside of itself"):
        unpack(data.getvalue(), tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()


def test_a_local_root_is_told_by_its_whole_path(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert job_root("out") == str(tmp_path / "out")
    assert job_root("s3://bucket/prefix") == "s3://bucket/prefix"


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_a_user_without_a_name_is_told_by_number(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    child = os.fork()
    if not child:
        try:
            os.setuid(54_321)
            os._exit(user_name() != "54321")
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_options_of_a_build_travel_in_its_line(site: Path, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "bundle").mkdir()
    recipe = load_recipe(site / "r.yaml")
    bundle = make_bundle(recipe, None, tmp_path / "bundle")
    options: dict[str, Any] = {"workers": 8, "max_cost": None}
    line = make_order(recipe, bundle, "s3://b/p", ["HF_TOKEN"], options).entrypoint
    assert line.endswith(
        "exec python -m marco_data.cli build-stage 3 --recipe recipe.yaml --root s3://b/p --address auto --workers 8"
    )
    assert line.startswith(': "${HF_TOKEN:?')
