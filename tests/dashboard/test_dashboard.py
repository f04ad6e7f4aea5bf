"""The dashboard's pages without a browser: what they say, that no document acts, that every table is CSV."""

import csv
import html
import io
import json
import re
import shutil
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from command_line import marco
from hostile_corpus import HOSTILE_ID, LONG_ID, OVERRIDE, begin, build_hostile, hostile_recipe
from roots import digests
from small_corpus import Built
from starlette.testclient import TestClient

from marco_data.dashboard import charts, distributions, documents, server, text
from marco_data.dashboard.data import Root
from marco_data.dashboard.panel import Column, Link, Panel, number, short
from marco_data.errors import RecipeError
from marco_data.stage_ledger import read_ledger
from marco_data.storage import Storage
from marco_data.why import Lookup

PAGES = [*server.PAGES, "documents", "search"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("hostile")
    return build_hostile(folder, folder / "out")


@pytest.fixture(scope="module")
def page(built: Built) -> Iterator[TestClient]:
    with client(built.storage.root) as found:
        yield found


def client(root: str | Path, **headers: str) -> TestClient:
    app = server.application(Root(Storage(str(root))))
    return TestClient(app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=True)


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def table_of(page: TestClient, path: str) -> list[dict[str, str]]:
    answer = page.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


# What every page has


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_without_a_script_and_by_keyboard_and_screen_reader(page: TestClient, name: str):
    answer = page.get(f"/{name}")
    tags = Tags(answer.text)
    assert answer.status_code == 200
    assert tags.all("html")[0]["lang"] == "en"
    assert len(tags.all("h1")) == 1
    assert tags.all("a")[0] == {"class": "skip", "href": "#main"}
    assert tags.all("script") == [{"src": "/live.js", "defer": None}]
    assert all(t.get("scope") in ("col", "row") for t in tags.all("th"))
    assert all("aria-label" in svg for svg in tags.all("svg"))
    named = {a["id"] for _, a in tags.found if a.get("id")}
    assert {a["aria-labelledby"] for a in tags.all("section")} <= named
    labels = len(tags.all("select")) + len([i for i in tags.all("input") if i.get("type") != "hidden"])
    assert len(tags.all("label")) == labels


@pytest.mark.parametrize("name", server.PAGES)
def test_every_chart_has_a_table_and_its_csv_has_the_same_rows(page: TestClient, built: Built, name: str):
    view = Root(built.storage).view({})
    tags = Tags(page.get(f"/{name}").text)
    shown = [panel for panel in server.PAGES[name].panels(Root(built.storage), view) if panel.rows]
    links = [a["href"] for a in tags.all("a") if "download" in a]
    assert len(links) == len(shown) == len(tags.all("table"))
    for panel, link in zip(shown, links, strict=True):
        rows = table_of(page, str(link))
        assert len(rows) == len(panel.rows)
        assert list(rows[0]) == [column.name for column in panel.columns]


def test_nothing_of_another_host_is_asked_for(page: TestClient):
    for name in PAGES:
        answer = page.get(f"/{name}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for tag, attributes in Tags(answer.text).found:
            for key in ("src", "href", "action", "xlink:href"):
                address = attributes.get(key)
                assert address is None or address.startswith(("/", "#")), (name, tag, address)
            assert "style" not in attributes
            assert not any(key.startswith("on") for key in attributes)


# Figures


def test_tokens_are_the_ledgers(page: TestClient, built: Built):
    ledger = read_ledger(built.storage, "small", 3)
    rows = {row["language"]: row for row in table_of(page, "/csv/tokens/tokens")}
    assert rows.keys() == {row.language for row in ledger.total("language")}
    for row in ledger.total("language"):
        shown = rows[row.language]
        assert [int(shown[k]) for k in ("collected", "written", "drawn", "shortfall")] == [
            row.collected,
            row.written,
            row.drawn,
            row.shortfall,
        ]
    assert sum(int(row["drawn"]) for row in rows.values()) > 0


def test_tokens_are_sorted_and_filtered_by_the_address(page: TestClient):
    rows = table_of(page, "/csv/tokens/tokens?sort=name&script=Latn")
    assert [row["name"] for row in rows] == ["English", "French", "German"]
    by_tokens = [int(row["drawn"]) for row in table_of(page, "/csv/tokens/tokens?sort=tokens")]
    assert by_tokens == sorted(by_tokens, reverse=True)
    assert 'aria-current="true">log' in page.get("/tokens?scale=log").text


def test_a_reason_leads_to_as_many_documents_as_the_ledger_counts(page: TestClient, built: Built):
    total = read_ledger(built.storage, "small", 3).total()[0]
    reasons = {**total.dropped, **total.failed}
    assert "dedup/near" in reasons
    links = {
        html.unescape(str(a["href"]))
        for a in Tags(page.get("/funnel").text).all("a")
        if "/documents?" in str(a.get("href")) and "reason=" in str(a.get("href"))
    }
    for reason, amount in reasons.items():
        link = next(
            link for link in links if f"reason={reason.replace('/', '%2F')}" in link and "language=" not in link
        )
        listed = page.get(link).text
        assert listed.count("<li>") == min(amount.documents, documents.PAGE), reason
        assert f'<span class="reason">{reason}' in listed


def test_all_documents_are_listed_once_over_the_pages_of_a_list(page: TestClient, built: Built):
    total = read_ledger(built.storage, "small", 3).total()[0]
    found: list[str] = []
    link: str | None = "/documents"
    while link is not None:
        tags = Tags(page.get(link).text)
        found += [str(a["href"]) for a in tags.all("a") if str(a.get("href")).startswith("/document?")]
        link = next((a["href"] for a in tags.all("a") if a.get("rel") == "next"), None)
    assert len(found) == len(set(found)) == total.documents_read


def test_what_a_limit_keeps_where_it_stands_is_what_the_build_kept(built: Built):
    lookup = Lookup(built.stage, built.storage)
    judged = {
        language: distributions.quality(lookup, language, None) for language in ("eng_Latn", "ben_Beng", "deu_Latn")
    }
    for language, found in judged.items():
        assert found["documents"] == found["of"]
        for one in found["metrics"].values():
            stands = next(kept for move, _, kept in one["moves"] if move == 1.0)
            gone = sum(
                c.documents
                for c in built.stage.counts
                if c.language == language and c.outcome == "dropped" and c.reason.startswith("quality/")
            )
            assert np.isclose(stands, 1 - gone / found["judged"]), language
            assert sum(n for _, _, n in one["bins"]) == found["judged"]


def test_a_wider_limit_keeps_no_less(built: Built):
    found = distributions.quality(Lookup(built.stage, built.storage), "eng_Latn", "web")
    assert found["metrics"]
    for rule, one in found["metrics"].items():
        kept = [share for _, share in one["kept"]]
        assert kept == sorted(kept, reverse=rule.startswith("min_"))


def test_declared_languages_stand_beside_those_that_were_found(page: TestClient):
    rows = table_of(page, "/csv/identification/confusions")
    wrong = {(row["declared"], row["found"]): row["documents"] for row in rows if row["declared"] != row["found"]}
    assert wrong == {("deu_Latn", "eng_Latn"): "1"}


# One document


def test_a_dropped_duplicate_is_shown_beside_the_document_that_stays(page: TestClient):
    shown = page.get("/search?q=https://example.org/fra-0").text
    assert "dedup/near" in shown
    assert "The document that stays instead" in shown
    assert "near-copy" in shown


def test_a_kept_document_says_in_which_shard_it_lies(page: TestClient, built: Built):
    shown = page.get("/document?q=near-copy").text
    prefix = re.search(r"In the shard <bdi>([^<]+)</bdi>, document (\d+)", shown)
    assert prefix is not None
    assert prefix[1] in {shard["prefix"] for shard in built.stage.shards}
    lineage = next(shard["lineage"] for shard in built.stage.shards if shard["prefix"] == prefix[1])
    assert built.storage.read_table(lineage)["id"][int(prefix[2])].as_py() in shown


def test_a_document_that_is_not_there_is_a_page_that_says_so(page: TestClient):
    answer = page.get("/search?q=<i>nobody</i>")
    assert answer.status_code == 404
    assert "&lt;i&gt;nobody&lt;/i&gt;" in answer.text


def test_markup_of_a_document_is_text(page: TestClient):
    for path in ("/documents?language=eng_Latn", f"/search?q={HOSTILE_ID.replace('&', '%26')}"):
        answer = page.get(path)
        assert answer.status_code == 200, path
        assert "<script>document" not in answer.text
        assert "<b onmouseover" not in answer.text
        assert "\u202e" not in answer.text
        assert "U+202E" in answer.text
        assert Tags(answer.text).all("img") == []
    assert "{{ 7 * 191 }}" in answer.text
    assert 'href="javascript' not in answer.text


def test_a_long_line_is_cut_and_its_length_is_said(page: TestClient):
    answer = page.get(f"/search?q={LONG_ID}")
    assert "The first 20,000 of 50,000 characters." in answer.text
    assert len(answer.text) < 40_000


def test_scripts_that_need_it_are_marked_with_language_and_direction(page: TestClient):
    shown = page.get("/documents?language=ben_Beng").text
    assert 'dir="auto" lang="bn-Beng"' in shown


def test_hidden_characters_are_shown_by_number_and_joiners_stay():
    assert str(text.shown(f"a{OVERRIDE}\x00<b>")) == (
        'a<span class="hidden-character" dir="ltr">U+202E</span>gnp.exe'
        '<span class="hidden-character" dir="ltr">U+202C</span>'
        '<span class="hidden-character" dir="ltr">U+0000</span>&lt;b&gt;'
    )
    assert text.shown("می\u200cخواهم") == "می\u200cخواهم"


# Roots that are not as they should be


def test_an_empty_root_says_how_to_fill_it(tmp_path: Path):
    with client(tmp_path) as page:
        for name in PAGES:
            answer = page.get(f"/{name}")
            assert answer.status_code == 200
            assert "Traceback" not in answer.text
        assert "has not been built" in page.get("/").text
        assert "build-stage" in page.get("/").text


def test_a_root_that_is_not_there_says_so(tmp_path: Path):
    with client(tmp_path / "nowhere") as page:
        assert "has not been built" in page.get("/").text


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"stage": 3}', b"\xff\xfe"])
def test_a_broken_manifest_is_a_message(built: Built, tmp_path: Path, damage: bytes):
    root = tmp_path / "root"
    shutil.copytree(built.storage.root, root)
    (root / built.stage.folder / "manifest.json").write_bytes(damage)
    with client(root) as page:
        for name in PAGES:
            answer = page.get(f"/{name}")
            assert answer.status_code == 200, name
            assert "Traceback" not in answer.text
        assert "build-stage" in page.get("/").text


def test_a_lost_shard_is_a_message_on_the_pages_that_need_it(built: Built, tmp_path: Path):
    root = tmp_path / "root"
    shutil.copytree(built.storage.root, root)
    for path in root.glob("measure-*/*.parquet"):
        if not path.name.startswith("records-"):
            path.unlink()
    shutil.rmtree(root / "runs" / "dashboard", ignore_errors=True)
    with client(root) as page:
        assert page.get("/tokens").status_code == 200
        answer = page.get("/quality")
        assert answer.status_code == 500
        assert "That cannot be read" in answer.text
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("until", ["measure", "decide", "tokenize", "shards"])
def test_a_build_under_way_is_shown_as_far_as_it_is(tmp_path: Path, until: str):
    begin(hostile_recipe(tmp_path), tmp_path / "out", until)
    with client(tmp_path / "out") as page:
        for name in PAGES:
            answer = page.get(f"/{name}")
            assert answer.status_code == 200, (name, answer.text)
        assert "no live build is at it" in answer.text
        assert page.get("/state").json()["running"] is True
        done = {row["node"]: row["done"] for row in table_of(page, "/csv/progress/progress")}
        assert done["measure"] == ("0" if until == "measure" else "5")
        if until in ("tokenize", "shards"):
            assert page.get("/search?q=https://example.org/near").status_code == 200


def test_the_state_changes_when_the_build_goes_on(tmp_path: Path):
    recipe = hostile_recipe(tmp_path)
    begin(recipe, tmp_path / "out", "decide")
    with client(tmp_path / "out") as page:
        before = page.get("/state").json()
        assert before == page.get("/state").json()
        build_hostile(tmp_path, tmp_path / "out")
        after = page.get("/state").json()
    assert after["state"] != before["state"]


def test_looking_changes_nothing_but_a_cache_under_runs(built: Built, tmp_path: Path):
    root = tmp_path / "root"
    shutil.copytree(built.storage.root, root)
    before = digests(root)
    with client(root) as page:
        for name in PAGES:
            page.get(f"/{name}")
    assert digests(root) == before
    assert list((root / "runs" / "dashboard").iterdir())


def test_a_root_on_s3_is_shown_like_one_on_disk(built: Built, page: TestClient, bucket: Any):
    root = bucket("dashboard")
    filesystem = fsspec.filesystem("s3")
    filesystem.put(f"{built.storage.root}/", root.removeprefix("s3://"), recursive=True)
    with client(root) as remote:
        for path in ("/csv/tokens/tokens", "/csv/quality/quality?language=eng_Latn", "/csv/duplicates/clusters"):
            assert remote.get(path).text == page.get(path).text
        assert "The document that stays instead" in remote.get("/search?q=fra-0").text


# Requests that a page never makes


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8640"])
def test_another_name_for_this_machine_is_refused(built: Built, host: str):
    with client(built.storage.root, host=host) as page:
        assert page.get("/").status_code == 400


def test_an_address_that_means_nothing_is_refused(page: TestClient):
    for path in (
        "/tokens?stage=0",
        "/tokens?stage=3;",
        "/tokens?family=../../etc",
        "/tokens?family=%00",
        "/documents?skip=-1",
        "/documents?skip=99999999",
        "/documents?reason=%3Cscript%3E",
    ):
        answer = page.get(path)
        assert answer.status_code in (400, 200), path
        assert "Traceback" not in answer.text
        assert "<script>" not in answer.text
    assert page.get("/documents?skip=-1").status_code == 400
    assert page.get("/tokens?stage=0").status_code == 400
    assert page.get("/nowhere").status_code == 404
    assert page.get("/a/b/c").status_code == 404
    assert page.get("/csv/tokens/nowhere").status_code == 404
    assert page.post("/tokens").status_code == 405
    assert page.get("/document?id=x&at=999999.1").status_code == 404


def test_a_port_that_is_taken_gives_the_next_one_or_a_message():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with server.listening("127.0.0.1", port, exactly=False) as found:
            assert found.getsockname()[1] > port
        with pytest.raises(RecipeError, match="is taken"):
            server.listening("127.0.0.1", port, exactly=True)


# Training, progress, export


def test_curves_of_a_training_run_are_shown_and_cut_lines_passed_over(built: Built, tmp_path: Path):
    root = tmp_path / "root"
    folder = root / "training" / "small-3"
    folder.mkdir(parents=True)
    lines = [
        {"event": "step", "iteration": n, "tokens": 10 * n, "loss": 5 / n, "loss_by_language": {"eng_Latn": 5 / n}}
        for n in range(1, 900)
    ]
    lines[4]["loss"] = "nan"
    lines.append({"event": "spike", "iteration": 7, "verdict": "spike", "loss": 9.0, "documents": []})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "st')
    shutil.copytree(built.storage.root, root, dirs_exist_ok=True)
    with client(root) as page:
        rows = table_of(page, "/csv/training/loss")
        assert 300 <= len(rows) <= 401
        assert rows[-1]["iteration"] == "899"
        assert table_of(page, "/csv/training/spikes")[0]["iteration"] == "7"
        assert table_of(page, "/csv/training/loss-by-language")[0]["language"] == "eng_Latn"


def test_the_report_is_one_file_that_asks_for_nothing(built: Built, tmp_path: Path):
    to = tmp_path / "report.html"
    result = marco("dashboard", "--root", built.storage.root, "--family", "small", "--export", to)
    assert (result.code, result.out.strip()) == (0, str(to)), result.err
    tags = Tags(to.read_text("utf-8"))
    for tag, attributes in tags.found:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "form")
        for key in ("src", "href", "xlink:href", "action"):
            address = attributes.get(key)
            assert address is None or address.startswith(("#", "data:text/csv;base64,"))
    assert "@import" not in to.read_text("utf-8")
    assert "url(" not in to.read_text("utf-8")
    named = [a["id"] for _, a in tags.found if a.get("id")]
    assert len(named) == len(set(named))
    pages = sum(len(p.panels(Root(built.storage), Root(built.storage).view({}))) for p in server.PAGES.values())
    assert len(tags.all("svg")) > 15
    assert len(tags.all("section")) >= pages - len(server.PAGES["language"].panels(*_asked(built)))


def _asked(built: Built) -> tuple[Root, Any]:
    root = Root(built.storage)
    return root, root.view({})


def test_a_report_of_nothing_is_refused(tmp_path: Path):
    result = marco("dashboard", "--root", tmp_path, "--export", tmp_path / "report.html")
    assert result.code == 2
    assert "has not been built" in result.err
    assert not (tmp_path / "report.html").exists()


# Panels and charts


def test_csv_has_values_as_they_are_and_no_formulas():
    panel = Panel("p", "P", [Column("a", "text"), Column("b")], [[Link("=1+1", "/x"), 1234567], ["-", None]])
    assert panel.to_csv() == "a,b\n'=1+1,1234567\n'-,\n"
    assert panel.cells()[0] == [("=1+1", "/x", False), ("1,234,567", None, True)]


def test_numbers_are_written_for_people():
    assert [short(n) for n in (0, 950, 12_345, 4_560_000, 2e9, 5.1e12)] == [
        "0",
        "950",
        "12.3 K",
        "4.56 M",
        "2 B",
        "5.1 T",
    ]
    assert [number(n) for n in (0, 0.01234, 4.5678, 1234.5)] == ["0", "0.0123", "4.57", "1,234"]


def test_labels_of_charts_are_text_and_only_our_links_are_links():
    rows = [{"label": "<script>x</script>", "value": 3, "said": '"><b>', "href": "/funnel?a=1&b=2"}]
    drawn = charts.svg(charts.bars(rows, axis="<i>"), '"><script>')
    tags = Tags(drawn)
    assert {tag for tag, _ in tags.found} <= {"svg", "g", "path", "text", "line", "a", "rect", "title", "desc"}
    assert {a["href"] for a in tags.all("a")} == {"/funnel?a=1&b=2"}
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", drawn)
    assert Tags(charts.svg(charts.bars(rows, axis=""), "", links=False)).all("a") == []
