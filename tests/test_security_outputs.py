"""Distinct secrets planted wherever a user may have them are in no byte that any command writes or prints."""

import io
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from command_line import Result, marco
from small_corpus import CODES, prose, recipe_values, write_corpus, write_jsonl, write_recipe

from marco_data.cluster.bundle import make_bundle
from marco_data.cluster.doctor import Finding, _first
from marco_data.cluster.orders import make_order
from marco_data.errors import RecipeError
from marco_data.recipe import load_recipe
from marco_data.redact import HIDDEN, lets_in, public_url, redacted
from marco_data.s3 import S3

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "AKIAHUSH00PLANTED1",
    "AWS_SECRET_ACCESS_KEY": "hush2/with+signs/in=it",
    "AWS_SESSION_TOKEN": "hush3-of-a-session-token",
    "HF_TOKEN": "hf_hush4planted",
    "LAKE_API_KEY": "sk-hush5-planted",
    "RAY_AUTH_TOKEN": "hush6-ray-token-planted",
    "DATABASE_PASSWORD": "hush7'quoted\"password",
}
IN_URLS = ("hush8-of-a-url", "hush9-of-an-endpoint", "hush10-signature")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The secrets, in every spelling that a library might repeat them in."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{IN_URLS[1]}@127.0.0.1:9")
    monkeypatch.setattr(S3, "tries", 2)
    monkeypatch.setattr(S3, "first_pause", 0.01)
    S3.clear_instance_cache()
    forms = {form for value in VARIABLES.values() for form in (value, quote(value, safe=""), repr(value)[1:-1])}
    return [form.encode() for form in (*forms, *IN_URLS)]


def clean(planted: list[bytes], *places: Path | Result | str) -> None:
    """No secret in what was printed, and in no file of a folder or its name."""
    for place in places:
        if isinstance(place, Path):
            files = [path for path in place.rglob("*") if path.is_file()]
            assert files
            said = b"\n".join(str(path.relative_to(place)).encode() + b"\n" + path.read_bytes() for path in files)
        else:
            said = (place if isinstance(place, str) else place.out + place.err).encode()
        assert [secret for secret in planted if secret in said] == []


def test_no_command_on_a_built_root_says_a_secret(tmp_path: Path, planted: list[bytes]):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    (tmp_path / "corpus" / "web" / "z.jsonl").write_text("no JSON\n")
    values["limits"] = {"failed_rows": 1, "failed_files": 1}
    write_recipe(tmp_path / "r.yaml", values)
    where = ("--recipe", tmp_path / "r.yaml", "--root", tmp_path / "out")
    built = marco("build-stage", 3, *where, "--executor", "local", "--json")
    assert built.code == 0, built.err
    told: list[Result] = [built]
    for words in (
        ("stats", 3, "--json"),
        ("stats", 3, "--csv"),
        ("ledger", 3, "--csv"),
        ("ledger", 3, "--json"),
        ("why", "eng-0", "--json"),
        ("find", "the"),
        ("failures", 3, "--json"),
        ("duplicates", 3, "--json"),
        ("plan", 3, "--json"),
        ("doctor", "--json"),
    ):
        told.append(marco(*words, *where))
        assert told[-1].out, words
    page = marco("dashboard", "--root", tmp_path / "out", "--export", tmp_path / "page" / "all.html")
    assert page.code != 0  # the folder is not there
    (tmp_path / "page").mkdir()
    page = marco("dashboard", "--root", tmp_path / "out", "--export", tmp_path / "page" / "all.html")
    assert page.code == 0, page.err
    clean(planted, *told, page, tmp_path / "out", tmp_path / "page")


def test_storage_that_does_not_let_one_in_is_named_without_the_key(tmp_path: Path, planted: list[bytes]):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    write_recipe(tmp_path / "r.yaml", values)
    values["sources"]["web"]["paths"] = [f"https://me:{IN_URLS[0]}@127.0.0.1:9/a.jsonl?X-Amz-Signature={IN_URLS[2]}"]
    write_recipe(tmp_path / "web.yaml", values)
    values["sources"]["web"]["paths"] = ["s3://lake/web/*.jsonl"]
    write_recipe(tmp_path / "s3.yaml", values)
    remote = ("--root", "s3://lake/marco", "--executor", "local")
    told = [
        marco("build-stage", 3, "--recipe", tmp_path / "r.yaml", *remote),
        marco("doctor", "--recipe", tmp_path / "web.yaml", "--root", tmp_path / "out", "--json"),
        marco("doctor", "--recipe", tmp_path / "s3.yaml", "--root", "s3://lake/marco", "--json"),
        marco("build-stage", 3, "--recipe", tmp_path / "s3.yaml", "--root", tmp_path / "out", "--executor", "local"),
        marco("stats", 3, "--root", f"s3://AKIA:{IN_URLS[0]}/x@lake/marco", "--recipe", tmp_path / "r.yaml"),
        marco("plan", 3, "--recipe", tmp_path / "web.yaml", "--root", tmp_path / "out"),
    ]
    assert all(done.code != 0 for done in told[:5])
    assert "`s3://lake/marco`" in told[0].err
    clean(planted, *told)


def test_what_travels_with_a_job_holds_no_value_of_the_environment(tmp_path: Path, planted: list[bytes]):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    write_recipe(tmp_path / "r.yaml", values)
    (tmp_path / "pools.yaml").write_text("tiny: {kind: endpoint, url: 'http://127.0.0.1:9/v1', key: LAKE_API_KEY}\n")
    recipe = load_recipe(tmp_path / "r.yaml")
    (tmp_path / "bundle").mkdir()
    bundle = make_bundle(recipe, tmp_path / "pools.yaml", tmp_path / "bundle")
    order = make_order(recipe, bundle, "s3://lake/marco", ["LAKE_API_KEY", "HF_TOKEN"])
    with zipfile.ZipFile(io.BytesIO(bundle.packed())) as archive:
        packed = "".join(archive.read(name).decode("utf-8", "replace") for name in archive.namelist())
    assert "LAKE_API_KEY" in packed
    assert "HF_TOKEN" in order.entrypoint
    clean(planted, packed, str(order), tmp_path / "bundle")


@pytest.mark.parametrize(
    "path",
    [
        f"https://me:{IN_URLS[0]}@lake.example/a.jsonl",
        f"https://lake.example/a.jsonl?X-Amz-Signature={IN_URLS[2]}",
        f"https://lake.example/a.jsonl?download=true&sig={IN_URLS[2]}",
    ],
)
def test_a_recipe_whose_urls_let_one_in_does_not_travel(tmp_path: Path, path: str):
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    values["sources"]["web"]["paths"] = [path]
    write_recipe(tmp_path / "r.yaml", values)
    (tmp_path / "bundle").mkdir()
    with pytest.raises(RecipeError, match=r"lake\.example/a\.jsonl") as raised:
        make_bundle(load_recipe(tmp_path / "r.yaml"), None, tmp_path / "bundle")
    assert "hush" not in str(raised.value)
    assert list((tmp_path / "bundle").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("abfs://box@account.dfs.example/lake/a.parquet", None),
        ("hf://datasets/org/name@0123456789/a.parquet", None),
        ("https://lake.example:8443/a@b.jsonl", None),
        ("http://[::1]:8443/a@b.jsonl", None),
        ("https://lake.example/a.jsonl?download=true", "https://lake.example/a.jsonl"),
        ("s3://lake/part-?.jsonl", None),
        ("s3://AKIA:se/cr+et@lake/a.jsonl", "s3://lake/a.jsonl"),
        ("https://ghp_token@lake.example/a.jsonl", "https://lake.example/a.jsonl"),
    ],
)
def test_places_are_told_whole_and_what_lets_one_in_is_not(path: str, public: str | None):
    assert public_url(path) == (public or path)
    assert lets_in(path) == ("@" in path and public is not None)


def test_a_key_that_a_library_has_quoted_is_hidden_too(planted: list[bytes]):
    secret = VARIABLES["AWS_SECRET_ACCESS_KEY"]
    assert (
        redacted(f"GET /?k={quote(secret, safe='')} {quote(secret)} {secret!r}")
        == f"GET /?k={HIDDEN} {HIDDEN} '{HIDDEN}'"
    )
    assert VARIABLES["HF_TOKEN"] not in _first(OSError(f"denied: {VARIABLES['HF_TOKEN']}"))


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_a_document_cannot_move_the_terminal_of_who_looks_at_it(tmp_path: Path):
    values: dict[str, Any] = recipe_values(write_corpus(tmp_path / "corpus"))
    text = prose("eng_Latn")[3]
    page = {
        "id": f"evil{ESCAPES}",
        "url": f"https://evil.example/{ESCAPES}",
        "text": f"{text} Gadzooks {ESCAPES} here.",
    }
    write_jsonl(tmp_path / "corpus" / "web" / "e.jsonl", [page])
    write_recipe(tmp_path / "r.yaml", values | {"remove": "remove.txt"})
    (tmp_path / "remove.txt").write_text(f"no-such{ESCAPES}\n", "utf-8")
    where = ("--recipe", tmp_path / "r.yaml", "--root", tmp_path / "out")
    told = [
        marco("build-stage", 3, *where, "--executor", "local"),
        marco("find", "Gadzooks", *where),
        marco("why", page["url"], page["id"], "no-such\x1b[2J", *where),
        marco("failures", 3, *where),
        marco("duplicates", 3, *where),
    ]
    assert "Gadzooks" in told[1].out
    assert "evil" in told[2].out
    for done in told:
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*done.out, *done.err}


def test_letters_and_joiners_of_all_scripts_are_told_as_they_are(tmp_path: Path):
    from marco_data.why import harmless

    joined = "می\u200cخواهم क्\u200dष"
    for text in (*(prose(code)[0] for code in CODES), joined, "a\tb\nc"):
        assert harmless(text) == text


def test_a_finding_says_no_secret(planted: list[bytes]):
    said = _first(ValueError(f"at s3://k:{IN_URLS[0]}@lake/a"))
    assert Finding("root", "fail", said).says == "ValueError: at s3://lake/a"
