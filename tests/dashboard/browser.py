"""A real browser at a real server: what the tests in Chromium share."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from benchmarks.dashboard import ARGUMENTS, PAINTED, chromium_path
from marco_data.dashboard import server
from marco_data.dashboard.data import Root
from marco_data.storage import Storage


@contextmanager
def chromium() -> Iterator[Any]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on this machine: the pages are not looked at in a browser")
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


def first_paint(page: Any, address: str) -> float:
    """Seconds until a page that holds its tables is painted first."""
    page.goto(address)
    page.screenshot()  # a browser that nobody looks at may not paint
    assert page.locator("main h1").is_visible()
    return float(page.evaluate(PAINTED)) / 1000
