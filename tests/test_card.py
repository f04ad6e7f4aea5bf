"""CARD.md: what a stage's card says agrees with its books, is the same bytes each time, and starts no markup."""

import html
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from small_corpus import Built, as_recipe, build, recipe_values, write_corpus, write_recipe

from marco_data.card import NAME, card
from marco_data.catalog import Choice, resolve
from marco_data.execute import Failure
from marco_data.languages import LANGUAGES
from marco_data.markdown import code, table, text
from marco_data.records import DROPPED, FAILED

READER = MarkdownIt("commonmark").enable("table")
HOSTILE = (
    "|`</td><script>alert(1)</script> ![x](http://e.org/x.png) [l](javascript:1)\n# H\n---\n\u202etxt\u0007 &lt; \\|"
)


def tokens(markdown: str) -> list[Token]:
    """All tokens, those within a line too."""
    return [t for block in READER.parse(markdown) for t in (block, *(block.children or ()))]


def words(inline: Token) -> str:
    """What a reader sees of a line or cell."""
    return "".join(t.content for t in inline.children or () if t.type in ("text", "text_special", "code_inline"))


def tables(markdown: str) -> dict[tuple[str, ...], list[list[str]]]:
    """{header: rows} of every table, as an independent reader has them."""
    found: dict[tuple[str, ...], list[list[str]]] = {}
    rows: list[list[str]] = []
    for token in READER.parse(markdown):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and token.level >= 4 and rows:
            rows[-1].append(words(token))
        elif token.type == "table_close":
            found[tuple(rows[0])] = rows[1:]
            rows = []
    return found


def parts(whole: str) -> tuple[dict[str, Any], str]:
    """Front matter and body."""
    _, front, body = whole.split("---\n", 2)
    return yaml.safe_load(front), body


def blocks(body: str, language: str) -> list[str]:
    return [t.content for t in READER.parse(body) if t.type == "fence" and t.info == language]


def number(told: str) -> int:
    return int(told.replace(",", ""))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("card") / "in")


@pytest.fixture(scope="module")
def built(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    values = recipe_values(corpus) | {"budget": 20_000, "description": "Seven languages (small)."}
    return build(as_recipe(values), tmp_path_factory.mktemp("card") / "out")


@pytest.fixture(scope="module")
def whole(built: Built) -> str:
    return (Path(built.storage.root) / built.stage.folder / NAME).read_text("utf-8")


def test_the_front_matter_is_a_dataset_card_of_the_hub(built: Built, whole: str):
    front, body = parts(whole)
    assert front["language"] == sorted({LANGUAGES[s["language"]].iso639_1 for s in built.stage.shards})
    assert front["license"] == ["cc0-1.0", "unknown"]
    assert (front["size_categories"], front["task_categories"]) == (["n<1K"], ["text-generation"])
    assert "incomplete" not in front["tags"]
    hub = pytest.importorskip("huggingface_hub")
    read = hub.DatasetCard(whole)
    assert read.text.strip() == body.strip()
    assert read.data.to_dict() == front


def test_its_tables_are_the_books(built: Built, whole: str):
    found, books = tables(parts(whole)[1]), built.stage.books
    told = {(row[0], row[1]): number(row[2]) for row in found["documents", "reason", ""]}
    assert told == {
        ("read", ""): books.read,
        ("generated", ""): books.generated,
        ("kept", ""): books.kept,
        ("replaced", ""): books.replaced,
        **{(DROPPED, reason): n for reason, n in books.dropped.items()},
        **{(FAILED, reason): n for reason, n in books.failed.items()},
    }
    sources = {row[0]: row[1:] for row in found["source", "licence", "files", "broken", "documents", "kept"]}
    kept = {source: str(sum(s["documents"] for s in built.stage.shards if s["source"] == source)) for source in sources}
    assert sources == {
        "books": ["CC0-1.0", "1", "0", "7", kept["books"]],
        "web": ["not stated", "3", "0", "14", kept["web"]],
    }


def test_it_has_tokens_documents_bytes_and_epochs_of_each_language_and_part(built: Built, whole: str):
    header = ("language", "part", "documents", "tokens", "bytes", "epochs", "asked for", "drawn", "short")
    rows = tables(parts(whole)[1])[header]
    blend = built.storage.read_json(f"{built.stage.folder}/blend.json")
    assert {(r[0], r[1]) for r in rows} == {(s["language"], s["part"]) for s in blend["shares"] if s["requested"]}
    for row in rows:
        shards = [s for s in built.stage.shards if (s["language"], s["part"]) == (row[0], row[1])]
        assert [number(n) for n in row[2:5]] == [sum(s[k] for s in shards) for k in ("documents", "tokens", "bytes")]
        (share,) = [s for s in blend["shares"] if (s["language"], s["part"]) == (row[0], row[1])]
        assert float(row[5]) == pytest.approx(share["epochs"], rel=1e-3)
        assert [number(n) for n in row[6:]] == [share[k] for k in ("requested", "drawn", "shortfall")]


def test_it_names_the_versions_that_shaped_the_bytes_and_the_tokenizer(built: Built, whole: str):
    found = tables(parts(whole)[1])
    packages = dict(found["package", "version"])
    identity = built.stage.nodes["measure"]["identity"]["config"]["steps"]
    assert {p: v for step in identity for p, v in step["packages"].items()}.items() <= packages.items()
    steps = dict(found["step", "version"])
    assert {step["step"]: str(step["version"]) for step in identity}.items() <= steps.items()
    tokenizer = built.storage.read_json(f"{built.stage.folder}/blend.json")["tokenizer"]
    assert dict(found["", ""])["tokenizer, SHA-256"] == tokenizer["hash"]


def test_the_same_build_elsewhere_has_the_same_card_and_nothing_of_the_machine_is_in_it(
    built: Built, whole: str, corpus: Path, tmp_path: Path
):
    moved = write_corpus(tmp_path / "elsewhere")
    values = recipe_values(moved) | {"budget": 20_000, "description": "Seven languages (small)."}
    again = build(as_recipe(values), tmp_path / "root")
    assert again.stage.folder == built.stage.folder
    assert (tmp_path / "root" / again.stage.folder / NAME).read_bytes() == whole.encode()
    absent = [str(corpus), built.storage.root, socket.gethostname(), str(Path.home())]
    assert [name for name in absent if name in whole] == []
    assert re.findall(r"\b20\d\d-\d\d-\d\d\b|(?<![\w./:])/[a-z]+/", whole) == []


def test_its_recipe_builds_the_same_stage_again(built: Built, whole: str, corpus: Path, tmp_path: Path):
    body = parts(whole)[1]
    assert blocks(body, "sh") == ["marco-data build-stage 3 --recipe recipe.yaml\n"]
    (recipe,) = blocks(body, "yaml")
    values = yaml.safe_load(recipe)
    assert {name: source["paths"] for name, source in values["sources"].items()} == {
        "web": ["*"],
        "books": ["*.parquet"],
    }
    for name, source in values["sources"].items():
        source["paths"] = [f"{corpus}/{name}/{path}" for path in source["paths"]]
    values["tokenizer"]["path"] = str(built.recipe.tokenizer.path)
    again = build(write_recipe(tmp_path / "recipe.yaml", values), tmp_path / "out")
    assert again.stage.folder == built.stage.folder
    assert again.stage.shards == built.stage.shards


def test_a_recipe_that_ships_is_named_by_its_family_and_one_that_was_changed_is_not(built: Built):
    for stage, languages in ((3, None), (3, "sw,en")):
        recipe = resolve(Choice(stage=stage, languages=languages))
        manifest = {**built.stage.to_object(), "family": "sample", "recipe": recipe.recorded}
        (command,) = blocks(parts(card(manifest, None))[1], "sh")
        assert ("--family sample" in command, "--recipe" in command) == (languages is None, languages is not None)
        assert resolve(Choice(stage=3, family="sample")).stage == int(shlex.split(command)[2])


def test_the_lines_that_load_the_shards_load_them(built: Built, whole: str):
    (snippet,) = blocks(parts(whole)[1], "python")
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=Path(built.storage.root) / built.stage.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(built.stage.shards)


def test_a_stage_that_an_alarm_stopped_says_so_first(corpus: Path, tmp_path: Path):
    values = recipe_values(corpus) | {"limits": {"removal": {"documents": 1, "quality": 0.5}}}
    values["steps"]["quality"] = {"overrides": {"ben_Beng": {"min_words": 10_000}}}
    stopped = build(as_recipe(values), tmp_path / "out")
    assert not stopped.stage.complete
    front, body = parts((tmp_path / "out" / stopped.stage.folder / NAME).read_text("utf-8"))
    assert "incomplete" in front["tags"]
    first = body.partition("##")[0]
    assert "> **This stage is not complete: an alarm stopped it" in first
    assert first.index("not complete") < first.index("Tokenized")
    assert "## Load it" not in body
    alarms = tables(body)["alarm", "reached", "dropped", "share", "limit", ""]
    assert [row[0] for row in alarms] == [a.name for a in stopped.stage.alarms]
    assert {row[-1] for row in alarms} == {"stopped the build"}


def test_a_failed_shard_is_listed_without_the_machine_it_failed_on(built: Built):
    error = "OSError: [Errno 5] /data/lake/web/a.jsonl on 10.0.0.7:6379 (pid=412)\nTraceback /srv/x.py"
    failure = Failure("measure", "web-a-000", error, "web", "web/a.jsonl", trace="File /srv/python/x.py")
    stage = replace(built.stage, complete=False, failures=(failure,), shards=(), waived=("web-b-000",))
    body = parts(card(stage.to_object(), None))[1]
    assert "This stage is not complete: shards failed" in body.partition("##")[0]
    assert tables(body)["task of", "shard", "file", "error"] == [
        ["measure", "web-a-000", "web/a.jsonl", "OSError: [Errno 5] a.jsonl on (address) (pid=(number))"]
    ]
    assert "web-b-000" in body[body.index("## Alarms and waivers") :]


def test_secrets_in_urls_are_not_in_the_card(built: Built):
    recipe = json.loads(json.dumps(built.stage.recipe))
    recipe["sources"]["web"]["paths"] = ["s3://key:hush@lake/web/part-?.jsonl", "https://e.org/a.jsonl?token=hush"]
    recipe["steps"]["extra"] = [{"step": "mine:Step", "arguments": {"list": "/data/hush/words.txt"}}]
    (shown,) = blocks(parts(card({**built.stage.to_object(), "recipe": recipe}, None))[1], "yaml")
    assert "hush" not in shown
    values = yaml.safe_load(shown)
    assert values["sources"]["web"]["paths"] == ["s3://lake/web/part-?.jsonl", "https://e.org/a.jsonl"]
    assert values["steps"]["extra"][0]["arguments"] == {"list": "words.txt"}


def hostile(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with hostile text wherever a user's, a document's or an error's words can get to."""
    made = json.loads(json.dumps(manifest))
    made["recipe"]["description"] = HOSTILE
    made["recipe"]["sources"]["web"] |= {"licence": HOSTILE, "paths": [HOSTILE]}
    made["counts"].append({**made["counts"][0], "language": HOSTILE, "outcome": FAILED, "reason": f"x/{HOSTILE}"})
    failure = {"node": "measure", "shard": HOSTILE, "error": HOSTILE, "source": "web", "file": HOSTILE, "trace": ""}
    made |= {"failures": [failure], "waived": [HOSTILE], "complete": False}
    request = {"maker": "qa", "prompt": HOSTILE, "model": HOSTILE, "language": HOSTILE, "rejected": {HOSTILE: 1}}
    made["requests"] = [{**request, "requested": 1, "accepted": 0, "accepted_tokens": 0}]
    return made


def test_hostile_text_starts_no_markup_and_leaves_every_table_its_columns(built: Built):
    manifest = hostile(built.stage.to_object())
    front, body = parts(card(manifest, None))
    calm = {t.type for t in tokens(parts(card(built.stage.to_object(), None))[1])}
    ours = {
        f"{kind}_{end}" for kind in ("blockquote", "bullet_list", "list_item", "strong") for end in ("open", "close")
    }
    assert {t.type for t in tokens(body)} - calm <= {*ours, "text_special"}
    assert calm.isdisjoint({"html_block", "html_inline", "link_open", "image"})
    assert front["license"] == ["cc0-1.0", "other"]
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert not any(" H" in line[:4] for line in headings)
    assert "\u202e" not in body
    assert "\u0007" not in body
    for header, rows in tables(body).items():
        assert {len(row) for row in rows} == {len(header)}, header
    (shown,) = blocks(body, "yaml")
    assert yaml.safe_load(shown)["description"] == HOSTILE


@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4))
def test_any_text_in_a_table_is_shown_as_it_is_and_nothing_else(rows: list[tuple[str, str]]):
    made = table(("a", "b"), rows)
    read = tables(made)["a", "b"]
    assert len(read) == len(rows)
    assert {t.type for t in tokens(made)} & {"html_inline", "html_block", "link_open", "image", "em_open"} == set()

    def plain(value: str) -> str:
        return re.sub(r"\(U\+[0-9A-F]{4,6}\)|[^\w]", "", html.unescape(value))

    for given_row, row in zip(rows, read, strict=True):
        for value, shown in zip(given_row, row, strict=True):
            assert [c for c in plain(shown) if c.isalnum()] == [c for c in plain(value) if c.isalnum()]


@given(st.text(max_size=300))
def test_any_text_as_a_paragraph_is_one_paragraph_of_text(value: str):
    kinds = {t.type for t in tokens(text(value))}
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


@given(st.text(alphabet="`~\n a", max_size=60))
def test_no_text_ends_a_block_of_code(value: str):
    made = READER.parse(code(value + "x", "yaml") + "\nafter\n")
    assert [t.type for t in made] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert made[0].content.rstrip() == (value + "x").rstrip()


def test_a_card_is_made_again_of_the_files_of_a_root(built: Built, whole: str):
    folder = Path(built.storage.root) / built.stage.folder
    manifest, blend = (json.loads((folder / name).read_text("utf-8")) for name in ("manifest.json", "blend.json"))
    assert card(manifest, blend) == whole
