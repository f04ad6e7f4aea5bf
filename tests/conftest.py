"""What all tests share: the checkout, and a folder of real documents where there is one."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkout() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder that MARCO_TEST_DATA names; tests that want it are skipped where it is unset."""
    folder = os.environ.get("MARCO_TEST_DATA")
    if not folder:
        pytest.skip("MARCO_TEST_DATA is not set: it names a folder of real documents")
    return Path(folder)
