"""What tests of whole training runs share. Nothing here imports torch before a test that needs it asks."""

from pathlib import Path

import pytest
from command_line import marco


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """Three languages of the sample's stage 3, built."""
    folder = tmp_path_factory.mktemp("train") / "out"
    built = marco("build-stage", 3, "--root", folder, "--executor", "local", "--languages", "eng,tha,deu")
    assert built.code == 0, built.err
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """Sums in the order of the processes that tests start, which have one thread; two of a tiny model only wait."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stages(one_thread, tmp_path_factory) -> Path:
    """A folder with the small stages that `tiny_run` trains on."""
    import tiny_run

    made = tmp_path_factory.mktemp("stages")
    tiny_run.write_stages(made)
    return made
