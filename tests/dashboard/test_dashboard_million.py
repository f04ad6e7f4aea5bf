"""The dashboard of a build that read a million documents, in a real Chromium: every page opens, and a bar leads on."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import chromium, served

from benchmarks.dashboard import DOCUMENTS, PAGES, make_roots

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium() as browser:
        roots, said = make_roots(tmp_path_factory.mktemp("million"))
        assert f"{DOCUMENTS // 1000:,},0" in said
        with served(roots["million"]) as address:
            context = browser.new_context(base_url=address)
            yield context.new_page()
            context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_and_has_something_to_read(name: str, page: Any):
    answer = page.goto(f"/{name}?stage=4")
    assert answer.status == 200
    assert page.locator("main .documents li" if name == "documents" else "main table").count() >= 1
    assert page.locator("main .message").count() == 0


def test_a_language_of_many_leads_on_to_single_documents_of_it(page: Any):
    page.goto("/tokens?stage=4")
    page.locator("main table a", has_text="swh_Latn").first.click()
    assert "swh_Latn" in page.locator("main").inner_text()
    page.goto("/documents?stage=4&language=swh_Latn&source=crawl")
    said = page.locator(".documents li .quiet").all_inner_texts()
    assert len(said) == 20
    assert all(one.startswith("swh_Latn, crawl") for one in said)
    page.locator(".documents li a").first.click()
    assert page.locator("main .way li").count() >= 3
