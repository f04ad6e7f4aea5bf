"""The site of docs/: a page for each command from the code, links that lead somewhere, no warning in its building."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from marco_data.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in [*DOCS.glob("*.md"), *DOCS.glob("how-to/*.md")])


@pytest.fixture(scope="module")
def command_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("command_pages", DOCS / "command_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(command_pages: ModuleType) -> dict[str, str]:
    return command_pages.pages((ROOT / "README.md").read_text("utf-8"))


def options_in_help(*words: str) -> set[str]:
    answer = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "500", "TERMINAL_WIDTH": "500"})
    assert answer.exit_code == 0
    said = answer.stdout.partition("Options:")[2].partition("Commands:")[0]
    return set(re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", said, re.MULTILINE)) - {"--help"}


def test_a_commands_page_has_every_option_that_its_help_has(made):
    top = CliRunner().invoke(app, ["--help"]).stdout
    names = re.findall(r"^  ([a-z][a-z-]+)  ", top.partition("Commands:")[2], re.MULTILINE)
    assert set(made) == set(names)
    for name in names:
        for section in re.split(r"^##? ", made[name], flags=re.MULTILINE)[1:]:
            words = section.partition("\n")[0].split()
            if words != ["Examples"]:
                assert set(re.findall(r"^\| `(--[a-z0-9-]+)", section, re.MULTILINE)) == options_in_help(*words), words


def test_a_commands_page_shows_arguments_defaults_and_the_readmes_examples(made):
    assert "marco-data build-stage [OPTIONS] STAGE" in made["build-stage"]
    assert re.search(r"^\| `--root ROOT` \| .+ \| `./marco-out` \|$", made["build-stage"], re.MULTILINE)
    assert "marco-data duplicates 3 --sample 2" in made["duplicates"].partition("## Examples")[2]


def test_pages_that_are_no_commands_any_more_go(command_pages, made, tmp_path):
    (tmp_path / "dance.md").write_text("# dance\n")
    assert {path.stem for path in command_pages.write(tmp_path)} == set(made)
    assert {path.stem for path in tmp_path.iterdir()} == set(made)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files_of_the_checkout(page: str):
    links = [
        token.attrGet("href")
        for block in MarkdownIt("commonmark").parse((DOCS / page).read_text("utf-8"))
        for token in block.children or ()
        if token.type == "link_open"
    ]
    local = [str(link).partition("#")[0] for link in links if "://" not in str(link)]
    assert [link for link in local if link and not (DOCS / page).parent.joinpath(link).exists()] == []


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text("utf-8")
    assert [page for page in PAGES if page != "index.md" and f"({page})" not in index] == []
    named = set(re.findall(r"^([\w/-]+)$", "\n".join(re.findall(r"```{toctree}(.*?)```", index, re.DOTALL)), re.M))
    assert named >= {page.removesuffix(".md") for page in PAGES if page != "index.md"}


class Fetched(HTMLParser):
    """What a browser asks for by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        wants = {"script": "src", "img": "src", "iframe": "src", "link": "href"}.get(tag)
        if wants and given.get(wants) and given.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.asked.append(str(given[wants]))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_machine(tmp_path: Path):
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("commands", "__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", tmp_path / "docs", tmp_path / "site"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    built = {path.relative_to(tmp_path / "site").as_posix(): path for path in (tmp_path / "site").rglob("*.html")}
    assert {page.replace(".md", ".html") for page in PAGES} <= set(built)
    assert "commands/build-stage.html" in built
    assert "With --iteration: samples" in built["commands/why.html"].read_text("utf-8")
    for name, path in built.items():
        reader = Fetched()
        reader.feed(path.read_text("utf-8"))
        assert [asked for asked in reader.asked if re.match(r"(https?:)?//", asked)] == [], name
