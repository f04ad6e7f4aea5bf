"""Secrets in the environment, in URLs and in what servers say are in no output: errors, logs, manifests, cards."""

import ast
import inspect
import pickle
from pathlib import Path

import pytest
from command_line import marco
from fake_server import FakeServer, refused
from generation_makers import rewriting
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_corpus import recipe_values, write_corpus, write_recipe

from marco_data import cli_dashboard, ray_executor
from marco_data.dashboard import server
from marco_data.errors import RecipeError, RetryableError
from marco_data.redact import HIDDEN, redacted

SECRET = "hush-0123456789-abcdef"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PLANTED_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    return SECRET


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read `s3://me:pass@lake/a`: no", "cannot read `s3://lake/a`: no"),
        ("at https://a.example/x?sig=abc&y=1, twice", f"at https://a.example/x?sig={HIDDEN}&y={HIDDEN} twice"),
        ("https://a.example/x?list", "https://a.example/x?list"),
        ("what is this?a=b", "what is this?a=b"),
        ("mail me@a.example", "mail me@a.example"),
    ],
)
def test_urls_are_told_without_users_and_values(text: str, shown: str):
    assert redacted(text) == shown


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_of_the_environment_is_in_no_error(planted: str, before: str, after: str):
    error = RetryableError(f"{before}{planted}{after}", hint=f"{after}{planted}")
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert planted not in str(one) + repr(one.args)


def test_places_of_secrets_and_short_words_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/etc/lake/credentials")
    monkeypatch.setenv("DEBUG_TOKEN", "false")
    assert str(RecipeError("/etc/lake/credentials says false")) == "/etc/lake/credentials says false"


def everything(root: Path) -> bytes:
    """All bytes of all files of a root, and their names."""
    files = [path for path in root.rglob("*") if path.is_file()]
    assert files
    return b"\n".join(path.name.encode() + b"\n" + path.read_bytes() for path in files)


def test_a_build_by_a_server_that_repeats_the_key_writes_it_nowhere(tmp_path: Path, planted: str):
    write_recipe(tmp_path / "recipe.yaml", rewriting(write_corpus(tmp_path / "corpus")))
    with FakeServer(lambda body: "no", lambda number, body: refused(400, f"your key {planted} is not good")) as there:
        pool = {"kind": "endpoint", "url": there.url, "key": "PLANTED_API_KEY", "retries": 0}
        write_recipe(tmp_path / "pools.yaml", {"tiny": pool})
        where = ("--recipe", tmp_path / "recipe.yaml", "--root", tmp_path / "out")
        done = marco("build-stage", 3, *where, "--executor", "local", "--pools", tmp_path / "pools.yaml")
        assert there.calls
    assert planted not in done.out + done.err
    assert planted.encode() not in everything(tmp_path / "out")


def test_a_source_that_cannot_be_read_does_not_tell_how_one_is_let_in(tmp_path: Path, planted: str):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    values["sources"]["web"]["paths"] = [f"http://me:{planted}@127.0.0.1:9/web/a.jsonl?sig={planted}"]
    write_recipe(tmp_path / "recipe.yaml", values)
    where = ("--recipe", tmp_path / "recipe.yaml", "--root", tmp_path / "out")
    done = marco("build-stage", 3, *where, "--executor", "local")
    assert done.code != 0
    assert planted not in done.out + done.err
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in left if planted.encode() in path.read_bytes()]


def test_pages_and_ray_are_offered_to_this_machine_only():
    assert inspect.signature(cli_dashboard.dashboard).parameters["host"].default == "127.0.0.1"
    assert set(server.LOOPBACK) == {"127.0.0.1", "localhost"}
    starts = [
        {word.arg: ast.unparse(word.value) for word in node.keywords}
        for node in ast.walk(ast.parse(inspect.getsource(ray_executor)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ray.init"
    ]
    assert [words["include_dashboard"] for words in starts] == ["False if self.address is None else None"]
