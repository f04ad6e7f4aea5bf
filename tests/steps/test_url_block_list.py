"""UrlBlockList: domains with their subdomains, words, and the list as identity."""

from pathlib import Path

import pyarrow as pa
import pytest

from marco_data.errors import RecipeError
from marco_data.step import Tools, run_step
from marco_data.steps.url_block_list import DOMAIN, WORD, UrlBlockList

URLS = {
    "https://bad.example/page": DOMAIN,
    "http://user@www.BAD.example.:8080/x": DOMAIN,
    "a.b.spam.co.uk/x": DOMAIN,
    "https://notbad.example/": None,
    "https://co.uk/": None,
    "https://fine.example/?u=bad.example": None,
    "https://fine.example/CASINO-bonus": WORD,
    "https://[broken/": None,
    "": None,
    None: None,
}


@pytest.fixture
def lists(tmp_path: Path) -> UrlBlockList:
    (tmp_path / "domains.txt").write_text("# our list\nbad.example\nSpam.co.uk  # since May\n\n", "utf-8")
    (tmp_path / "words.txt").write_text("casino\nc++\n", "utf-8")
    return UrlBlockList(domains=str(tmp_path / "domains.txt"), words=str(tmp_path / "words.txt"))


def test_a_listed_domain_blocks_its_subdomains_and_nothing_else(lists: UrlBlockList):
    batch = pa.record_batch({"url": pa.array(list(URLS), pa.string())})
    assert run_step(lists, lists.bind(None, Tools()), batch).reason.to_pylist() == list(URLS.values())


def test_the_content_of_a_list_is_identity_and_its_path_is_not(lists: UrlBlockList, tmp_path: Path):
    before = lists.identity(Tools())
    moved = tmp_path / "moved.txt"
    moved.write_text("spam.co.uk\nbad.example\n", "utf-8")
    same = UrlBlockList(domains=str(moved), words=lists.words)
    assert same.identity(Tools()) == before
    moved.write_text("bad.example\n", "utf-8")
    assert same.identity(Tools()) != before


def test_a_step_without_a_list_and_a_missing_list_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="names no list"):
        UrlBlockList()
    with pytest.raises(RecipeError, match=r"missing\.txt"):
        UrlBlockList(domains=str(tmp_path / "missing.txt")).bind(None, Tools())
