"""Where machine code is kept: on this machine, in a folder nobody else can write to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from marco_data.kernels import compiled
from marco_data.kernels.compiled import cache_folder

CALL = "from marco_data.kernels.minhash import permutations, band_keys as f; f(permutations(8)[0][None], 2, 4)"


def run(code: str, **environment: str) -> str:
    root = str(Path(compiled.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root, **environment},
    )  # fmt: skip
    return done.stdout.strip()


def machine_code(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbc"))


def test_machine_code_is_kept_under_the_temporary_folder_and_not_beside_the_source(tmp_path):
    run(CALL, TMPDIR=str(tmp_path), NUMBA_CACHE_DIR="")
    assert machine_code(tmp_path)
    assert not machine_code(Path(compiled.__file__).parent)


def test_a_user_who_names_a_cache_folder_gets_it(tmp_path):
    run(CALL, TMPDIR=str(tmp_path / "unused"), NUMBA_CACHE_DIR=str(tmp_path / "mine"))
    assert machine_code(tmp_path / "mine")


def test_a_kernel_that_is_kept_is_loaded_without_the_compiler(tmp_path):
    loaded = "; import sys; print('numba.np.linalg' in sys.modules)"
    said = [run(CALL + loaded, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert said == ["True", "False"], "compiled, then loaded"


FAILING = """
import numpy as np
from marco_data.kernels.compiled import compiled
@compiled
def places(n, m):
    if m > 5:
        raise ValueError("more than five")
    return np.searchsorted(np.arange(n) * np.ones(n), np.zeros(m))
"""


def test_a_kept_kernel_raises_what_a_compiled_one_does(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    code = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        from failing import places
        for n, m in ((3, 2), (-1, 2), (3, -2), (3, 6)):
            try:
                print(places(n, m))
            except ValueError as error:
                print(error)
        print(len(places.stats.cache_hits))
    """.replace("sys.argv[1]", repr(str(tmp_path)))
    compiled_here, kept = (run(code, NUMBA_CACHE_DIR=str(tmp_path)).splitlines() for _ in range(2))
    assert compiled_here == [
        "[0 0]",
        "negative dimensions not allowed",
        "negative dimensions not allowed",
        "more than five",
        "0",
    ]
    assert kept == [*compiled_here[:-1], "1"]


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path):
    shutil.copytree(Path(compiled.__file__).parents[1], tmp_path / "marco_data", ignore=shutil.ignore_patterns("*.ftz"))
    count = """if True:
        import numpy as np
        from marco_data.kernels.scripts import count_scripts
        found = count_scripts(np.zeros(5, np.uint8), np.array([0, 5]), 100, np.zeros(9, np.uint8), 1)
        print(found[0, 0], len(count_scripts.stats.cache_hits))
    """
    kept = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run(count, **kept) == "5 0"
    assert run(count, **kept) == "5 1"
    called = tmp_path / "marco_data" / "kernels" / "prepare.py"
    text = called.read_text("utf-8")
    assert "        return stop\n" in text
    called.write_text(text.replace("        return stop\n", "        return start\n", 1), "utf-8")
    assert run(count, **kept) == "0 0", "not what was compiled from the old file"


@pytest.mark.parametrize("plant", ["open folder", "link", "file"])
def test_a_cache_folder_somebody_else_could_write_to_is_not_used(tmp_path, monkeypatch, plant):
    planted = tmp_path / f"marco-data-kernels-{os.getuid()}"
    if plant == "open folder":
        planted.mkdir()
        planted.chmod(0o777)
    elif plant == "link":
        (tmp_path / "elsewhere").mkdir()
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        planted.write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache_folder.cache_clear()
    try:
        assert cache_folder() != planted
        assert cache_folder().stat().st_mode & 0o777 == 0o700
    finally:
        cache_folder.cache_clear()
