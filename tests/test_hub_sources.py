"""Sources on a hub are read at one commit, with few requests, to the bytes of a build from files; and pinned."""

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import marco
from hub_server import Hub, serving
from huggingface_hub import HfFileSystem, constants
from roots import digests
from small_corpus import TOKENIZER, as_recipe, build, recipe_values, write_corpus, write_recipe

from marco_data.errors import RecipeError, RetryableError
from marco_data.hub import hub_path, pinned
from marco_data.recipe import load_recipe
from marco_data.sources import Source, list_files, read_slice, split
from marco_data.sources import files as listing

ORG = "datasets/org/corpus"
COMMIT = "0123456789" * 4


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, with which every client of this process and of those that it starts talks."""
    with serving() as server:
        addresses = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", addresses)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The small corpus, and beside it what no source reads."""
    corpus = write_corpus(tmp_path / "in")
    found = {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    return found | {"README.md": b"of no source", "web/.hidden.jsonl": b"{}", "other/deep/x.jsonl": b"{}"}


def on_hub(values: dict[str, Any], at: str = "") -> dict[str, Any]:
    values["sources"]["web"]["paths"] = [f"hf://{ORG}{at}/web/*"]
    values["sources"]["books"]["paths"] = [f"hf://{ORG}{at}/books/*.parquet"]
    return values


def data_of(root: Path) -> dict[str, str]:
    """Digests of a root without what names where its sources were."""
    return {path: said for path, said in digests(root).items() if not path.startswith(("stage-", "stages/"))}


def test_a_build_from_a_hub_has_the_bytes_of_one_from_files_and_says_at_which_commit(hub: Hub, files, tmp_path: Path):
    commit = hub.commit(ORG, files)
    hub.commit("models/org/model", {"tokenizer.json": TOKENIZER.read_bytes()})
    values = on_hub(recipe_values(tmp_path / "in"))
    values["tokenizer"]["path"] = "hf://org/model/tokenizer.json"
    built = build(as_recipe(values), tmp_path / "hub")
    local = build(as_recipe(recipe_values(tmp_path / "in")), tmp_path / "local")
    assert built.stage.balanced
    assert data_of(tmp_path / "hub") == data_of(tmp_path / "local")
    place = f"hf://{ORG}@{commit}"
    assert built.stage.read_at == {"books": [place], "web": [place]}
    assert local.stage.read_at == {}
    assert place in (tmp_path / "hub" / built.stage.folder / "CARD.md").read_text("utf-8")
    same = build(as_recipe(on_hub(recipe_values(tmp_path / "in"), f"@{commit}")), tmp_path / "hub")
    assert set(same.run.ran.values()) == {0}


def test_a_file_is_opened_without_a_listing_of_its_folder(hub: Hub, files, tmp_path: Path):
    hub.commit(ORG, files | {f"web/more-{number}.jsonl": files["web/a.jsonl"] for number in range(9)})
    recipe = as_recipe(on_hub(recipe_values(tmp_path / "in")))
    listed = list_files("web", recipe.sources["web"])
    assert len(listed) == 12
    assert hub.asked["tree"] <= 10, "thirteen names in pages of three, at most twice"
    assert hub.asked["resolve"] == 12, "the ends of each file, which are all of it"
    hub.asked.clear()
    pieces = split(listed, 1 << 20)
    rows = [row for piece in pieces for batch in read_slice(piece, "web", recipe.sources["web"]) for row in batch["id"]]
    assert len(rows) == 6 * 10 + 4 + 4
    assert hub.asked == Counter(resolve=12)


def test_a_commit_in_the_middle_changes_nothing_of_what_was_listed(hub: Hub, files, tmp_path: Path):
    first = hub.commit(ORG, files)
    recipe = as_recipe(on_hub(recipe_values(tmp_path / "in")))
    source = recipe.sources["web"]
    before = list_files("web", source)
    changed = files["web/a.jsonl"].replace(b"eng-0", b"eng-9")
    second = hub.commit(ORG, files | {"web/a.jsonl": changed})
    batches = [batch for piece in split(before, 1 << 20) for batch in read_slice(piece, "web", source)]
    assert "eng-0" in {row for batch in batches for row in batch["source_id"].to_pylist()}
    after = list_files("web", source)
    assert [(f.name, f.uri.partition("@")[2][:40]) for f in before] == [(f.name, first) for f in after]
    assert {f.uri.partition("@")[2][:40] for f in after} == {second}
    assert [a.identity() == b.identity() for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_digests_that_are_kept_hold_for_a_later_commit(hub: Hub, files, tmp_path: Path):
    hub.commit(ORG, files)
    source = as_recipe(on_hub(recipe_values(tmp_path / "in"))).sources["web"]
    cache: dict[str, Any] = {}
    list_files("web", source, cache=cache)
    hub.commit(ORG, files | {"README.md": b"another"})
    hub.asked.clear()
    list_files("web", source, cache=cache)
    assert hub.asked["resolve"] == 0


def test_a_hub_that_is_busy_is_asked_again(hub: Hub, files, tmp_path: Path, monkeypatch):
    hub.commit(ORG, files)
    hub.refuse += [503]
    monkeypatch.setattr(listing, "PAUSES", (0.01, 0.01))
    recipe = as_recipe(on_hub(recipe_values(tmp_path / "in")))
    listed = list_files("web", recipe.sources["web"])
    hub.refuse += [429, 502]
    assert sum(
        len(batch) for piece in split(listed, 1 << 20) for batch in read_slice(piece, "web", recipe.sources["web"])
    )


@pytest.mark.parametrize("path", [f"hf://{ORG}/web", f"hf://{ORG}", f"hf://{ORG}/web/a.jsonl"])
def test_names_are_the_same_however_busy_a_hub_is(hub: Hub, files, path: str, tmp_path: Path, monkeypatch):
    hub.commit(ORG, files)
    source = Source(paths=(path,))
    quiet = [file.name for file in list_files("web", source)]
    assert all("corpus" not in name for name in quiet)
    monkeypatch.setattr(listing, "PAUSES", (0.01, 0.01))
    HfFileSystem.clear_instance_cache()
    for refused in ([0, 503], [0, 429, 0, 503]):
        hub.refuse += refused
        assert [file.name for file in list_files("web", source)] == quiet
        HfFileSystem.clear_instance_cache()


def test_all_paths_of_a_build_are_read_at_one_commit(hub: Hub, files, tmp_path: Path):
    first = hub.commit(ORG, files)
    commits: dict[str, str] = {}
    (book,) = list_files("books", Source(paths=(f"hf://{ORG}/books/*.parquet",)), commits=commits)
    hub.commit(ORG, files | {"web/a.jsonl": b"{}"})
    both = list_files("web", Source(paths=(f"hf://{ORG}/web/*", f"hf://{ORG}/web/a*")), commits=commits)
    assert [file.name for file in both] == ["a.jsonl", "b.jsonl.gz", "c.jsonl"]
    assert {file.uri.partition("@")[2][:40] for file in (book, *both)} == {first}


def test_a_model_repository_by_its_long_name_has_the_names_of_its_short_one(hub: Hub, files):
    hub.commit("models/org/model", {"data/en/a.jsonl": files["web/a.jsonl"], "data/de/b.jsonl": files["web/c.jsonl"]})
    for pattern in ("org/model/data", "org/model/data/{language}/*.jsonl"):
        short, long = (list_files("src", Source(paths=(f"hf://{kind}{pattern}",))) for kind in ("", "models/"))
        assert [(f.name, f.declared_language) for f in short] == [(f.name, f.declared_language) for f in long]
        assert len(short) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_let_in_is_told_before_anything_runs(hub: Hub, files, status: int):
    hub.commit(ORG, files)
    hub.refuse += [status]
    with pytest.raises(RecipeError, match=rf"may not be read with the token that is used, if any \(HTTP {status}\)"):
        list_files("web", Source(paths=(f"hf://{ORG}/web/*",)))


def test_terms_that_nobody_accepted_are_told_with_the_remedy(hub: Hub, files):
    hub.commit(ORG, files)
    hub.gated.add(ORG)
    with pytest.raises(RecipeError, match="asks for its terms to be accepted") as told:
        list_files("web", Source(paths=(f"hf://{ORG}/web/*",)))
    assert "accept them on its page" in str(told.value)
    hub.gated.clear()
    source = Source(paths=(f"hf://{ORG}/web/*",))
    pieces = split(list_files("web", source), 1 << 20)
    hub.gated.add(ORG)
    with pytest.raises(RecipeError, match="asks for its terms to be accepted"):
        list(read_slice(pieces[0], "web", source))


def test_a_hub_that_takes_the_call_and_says_nothing_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
        with pytest.raises(RetryableError, match="the hub does not answer"):
            pinned(f"hf://{ORG}/web/*", {})


@pytest.mark.parametrize(
    ("path", "says", "remedy"),
    [
        ("hf://datasets/org/nothing/*.jsonl", "there is no dataset `org/nothing`", "HF_TOKEN"),
        (f"hf://{ORG}@v2/web/*", "there is no revision `v2`", None),
        ("hf://datasets/org/{language}-corpus/*.jsonl", "no repository has such a name", "stand in PATH only"),
        ("hf://datasets/org/*/web/*.jsonl", "no repository has such a name", "stand in PATH only"),
        (f"hf://{ORG}@{COMMIT}/web/*", "no file to read at", None),
        (f"hf://{ORG}/none/*", "no file to read at", "there is nothing at"),
        (f"hf://{ORG}/web/*.parquet", "no file to read at", "`a.jsonl`"),
    ],
)
def test_what_is_not_there_is_told(hub: Hub, files, path: str, says: str, remedy: str | None, tmp_path: Path):
    hub.commit(ORG, files)
    values = recipe_values(tmp_path / "in")
    values["sources"]["web"]["paths"] = [path]
    with pytest.raises(RecipeError, match="source `web`") as told:
        list_files("web", as_recipe(values).sources["web"])
    assert says in str(told.value)
    assert (remedy or "") in str(told.value)


def test_a_repository_that_asks_for_a_token_is_read_with_one(hub: Hub, files, tmp_path: Path, monkeypatch):
    hub.commit(ORG, files)
    hub.token = "hf_of_this_test"
    source = as_recipe(on_hub(recipe_values(tmp_path / "in"))).sources["web"]
    with pytest.raises(RecipeError, match="may not be seen from here"):
        list_files("web", source)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert len(list_files("web", source)) == 3


def test_a_hub_that_does_not_answer_may_later(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RetryableError, match=rf"`hf://{ORG}`: "):
        pinned(f"hf://{ORG}/web/*", {})


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("hf://datasets/o/n/a/*.parquet", ("datasets/", "o/n", None, "/a/*.parquet", False)),
        ("hf://o/n/tokenizer.json", ("", "o/n", None, "/tokenizer.json", False)),
        (f"hf://datasets/o/n@{COMMIT}/a", ("datasets/", "o/n", COMMIT, "/a", True)),
        ("hf://datasets/o/n@refs/convert/parquet/a/b", ("datasets/", "o/n", "refs/convert/parquet", "/a/b", False)),
        ("hf://datasets/o/n@refs%2Fpr%2F1/a", ("datasets/", "o/n", "refs%2Fpr%2F1", "/a", False)),
        ("hf://datasets/o/n", ("datasets/", "o/n", None, "", False)),
        ("hf://datasets/o/n@0123456", ("datasets/", "o/n", "0123456", "", False)),
        ("s3://datasets/o/n", None),
        ("hf://datasets/o", None),
        ("hf://buckets/o/n/a", None),
    ],
)
def test_paths_of_a_hub(path: str, parts: tuple[object, ...] | None):
    there = hub_path(path)
    assert parts == (there and (there.kind, there.repository, there.revision, there.rest, there.pinned))


def test_a_recipe_is_pinned_where_its_paths_stand_and_nothing_else_of_it_changes(hub: Hub, files, tmp_path: Path):
    first = hub.commit(ORG, files)
    model = hub.commit("models/org/model", {"tokenizer.json": TOKENIZER.read_bytes()})
    values = on_hub(recipe_values(tmp_path / "in"))
    values["sources"]["web"]["paths"] += [f"hf://{ORG}@{first}/web/b*", f"hf://{ORG}/web/*.jsonl"]
    values["tokenizer"]["path"] = "hf://org/model/tokenizer.json"
    sources = {key: values.pop(key) for key in ("sources", "tokenizer")}
    write_recipe(tmp_path / "sources.yaml", sources)
    recipe = write_recipe(tmp_path / "r.yaml", {"include": "sources.yaml", **values})
    comment = f"# the corpus is hf://{ORG}, all of it\n"
    (tmp_path / "sources.yaml").write_text(comment + (tmp_path / "sources.yaml").read_text())
    before = load_recipe(recipe)
    main = (tmp_path / "r.yaml").read_bytes()

    shown = marco("recipe", "pin", recipe, "--json")
    assert shown.code == 0, shown.err
    assert "nothing is written" in shown.err
    assert {(row["path"], row["pinned"]) for row in shown.lines} == {
        (path, path.replace(ORG, f"{ORG}@{first}").replace("org/model/", f"org/model@{model}/"))
        for path in before.unpinned
    }
    assert {Path(row["file"]).name for row in shown.lines} == {"sources.yaml"}
    lines = (tmp_path / "sources.yaml").read_text().splitlines()
    assert all(row["path"] in lines[row["line"] - 1] for row in shown.lines)
    assert load_recipe(recipe) == before

    assert marco("recipe", "pin", recipe, "--write").code == 0
    after = load_recipe(recipe)
    assert after.unpinned == []
    assert (tmp_path / "r.yaml").read_bytes() == main
    assert (tmp_path / "sources.yaml").read_text().startswith(comment)
    text = (tmp_path / "sources.yaml").read_text()
    assert text.count("@") == 5
    unpinned = text.replace(f"@{model}", "").replace(f"@{first}", "")
    assert unpinned.splitlines() == [line.replace(f"@{first}", "") for line in lines]
    assert "every path on a hub names a commit" in marco("recipe", "pin", recipe).err


def test_a_file_that_is_pinned_keeps_the_ends_of_its_lines_and_its_rights(hub: Hub, files, tmp_path: Path):
    commit = hub.commit(ORG, files)
    recipe = write_recipe(tmp_path / "r.yaml", on_hub(recipe_values(tmp_path / "in")))
    recipe.write_bytes(recipe.read_bytes().replace(b"\n", b"\r\n"))
    recipe.chmod(0o640)
    before = recipe.read_bytes()
    assert marco("recipe", "pin", recipe, "--write").code == 0
    assert recipe.read_bytes() == before.replace(f"{ORG}/".encode(), f"{ORG}@{commit}/".encode())
    assert recipe.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []


def test_a_path_that_stands_nowhere_as_it_is_read_is_told_with_what_to_write(hub: Hub, files, tmp_path: Path):
    commit = hub.commit(ORG, files)
    recipe = write_recipe(tmp_path / "r.yaml", on_hub(recipe_values(tmp_path / "in")))
    recipe.write_text(recipe.read_text().replace(f"hf://{ORG}/web/*", f'"hf:\\x2f/{ORG}/web/*"'))
    told = marco("recipe", "pin", recipe, "--write")
    assert told.code == 2
    assert f"write `hf://{ORG}@{commit}/web/*` in its place" in told.err


def test_a_build_from_a_branch_is_told_how_to_name_its_commit(hub: Hub, files, tmp_path: Path):
    hub.commit(ORG, files)
    recipe = write_recipe(tmp_path / "r.yaml", on_hub(recipe_values(tmp_path / "in")))
    done = marco("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out", "--executor", "local")
    assert done.code == 0, done.err
    assert "2 paths on a hub name no commit" in done.err
    assert "marco-data recipe pin" in done.err
    given = marco(
        *("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out", "--executor", "local"),
        *("--input", f"hf://{ORG}/web/a.jsonl"),
    )
    assert "and 40 hex digits name one for good" in given.err
