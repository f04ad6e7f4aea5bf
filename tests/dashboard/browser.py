"""A real browser at a real server: what the tests in Chromium share."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from marco_data.dashboard import server
from marco_data.dashboard.data import Root
from marco_data.storage import Storage

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium_path() -> str:
    """Where Chromium is; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine: the pages are not looked at in a browser")


@contextmanager
def chromium() -> Iterator[Any]:
    path = chromium_path()
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def served(root: str | Path) -> Iterator[str]:
    """The address of a server of a root, in a thread of this process."""
    opened = server.listening("127.0.0.1", 0, exactly=True)
    config = uvicorn.Config(server.application(Root(Storage(str(root)))), log_level="warning", access_log=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    running.should_exit = True
    thread.join()
    opened.close()


PAINTED = """() => new Promise(done => {
  const seen = performance.getEntriesByName("first-contentful-paint")[0];
  if (seen) return done(seen.startTime);
  new PerformanceObserver(list => done(list.getEntries()[0].startTime)).observe({type: "paint", buffered: true});
})"""
"""Milliseconds from asking for a page until its first text or picture is on the screen."""


def first_paint(page: Any, address: str) -> float:
    """Seconds until a page that holds its tables is painted first."""
    page.goto(address)
    page.screenshot()  # a browser that nobody looks at may not paint
    assert page.locator("main h1").is_visible()
    return float(page.evaluate(PAINTED)) / 1000
