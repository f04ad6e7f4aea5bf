"""Folders on this machine's own disk: what killed processes leave goes, what is used stays, copies are fetched once."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import fsspec
import pytest

from marco_data import filesystems, machine_folders
from marco_data.step import Tools
from marco_data.storage import Storage

ELSEWHERE = Storage("memory://elsewhere")
CACHED = (machine_folders.folder_of_process, machine_folders.shared_folder, machine_folders._remove_once)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine's TMPDIR, for this process as one that has only begun."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begin()
    yield tmp_path
    begin()


def begin() -> None:
    filesystems._shared_copies.clear()
    for function in CACHED:
        function.cache_clear()


def aged(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def of_another_process(program: str, machine: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], env=os.environ | {"TMPDIR": str(machine)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


def killed(machine: Path) -> Path:
    """What a worker leaves that is killed while it writes a shard for a root elsewhere."""
    return Path(
        of_another_process(
            """
            import os
            from marco_data.storage import Storage
            with Storage("memory://elsewhere").scratch() as folder:
                (folder / "data.partial").write_bytes(bytes(1000))
                print(folder, flush=True)
                os.kill(os.getpid(), 9)
            """,
            machine,
        )
    )


def test_unfinished_files_of_a_killed_worker_go_and_those_of_a_living_one_stay(machine):
    left = killed(machine)
    assert (left / "data.partial").exists()
    with ELSEWHERE.scratch() as held:
        ELSEWHERE.remove_stale_scratch()
        assert left.exists()  # it may be about to be locked
        for folder in (left, held):
            aged(folder, 120)
        ELSEWHERE.remove_stale_scratch()
        assert [path for path in (left, held) if path.exists()] == [held]
    assert not held.exists()


def test_the_first_scratch_of_a_process_removes_what_others_left(machine):
    left = aged(killed(machine), 120)
    with ELSEWHERE.scratch():
        assert not left.exists()


def test_only_folders_of_our_own_are_removed(machine, tmp_path_factory):
    precious = tmp_path_factory.mktemp("precious")
    (precious / "a").write_text("a")
    prefix = machine / f"marco-data-{os.getuid()}-"
    Path(f"{prefix}link.partial").symlink_to(precious)
    for name in (f"{prefix}other", machine / f"marco-data-{os.getuid() + 1}-x.partial", machine / "tmpx.partial"):
        Path(name).mkdir()
        aged(Path(name), 86_400)
    before = sorted(machine.iterdir())
    aged(precious, 86_400)
    ELSEWHERE.remove_stale_scratch()
    assert sorted(machine.iterdir()) == before
    assert (precious / "a").exists()


def test_a_copy_is_fetched_once_for_processes_and_threads_that_want_it_at_once(machine, monkeypatch):
    fsspec.filesystem("memory").pipe_file("/once/model", b"model")
    fetched, opened = [], filesystems.opened

    def slowly(uri: str) -> object:
        fetched.append(uri)
        time.sleep(0.1)
        return opened(uri)

    monkeypatch.setattr(filesystems, "opened", slowly)
    together = threading.Barrier(8)

    def path(_: int) -> Path:
        together.wait()
        return Tools().path("memory://once/model")

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(path, range(8)))
    assert [path.read_bytes() for path in paths] == [b"model"]
    assert fetched == ["memory://once/model"]


def test_a_copy_serves_later_processes_until_its_file_is_another(machine, tmp_path_factory):
    file = tmp_path_factory.mktemp("models") / "model"
    file.write_bytes(b"first")
    program = f"""
        from marco_data.step import Tools
        print(path := Tools().path("file://{file}"), path.stat().st_ino)
    """
    place, number = of_another_process(program, machine).split()
    copy = Tools().path(f"file://{file}")
    assert (str(copy), str(copy.stat().st_ino)) == (place, number)
    assert copy.read_bytes() == b"first"
    file.write_bytes(b"other")
    aged(file, -10)
    assert Tools().path(f"file://{file}") == copy  # to one process it is what it was
    begin()
    assert Tools().path(f"file://{file}").read_bytes() == b"other"


def test_what_no_process_used_for_a_week_goes_and_what_is_used_stays(machine):
    memory = fsspec.filesystem("memory")
    for name in ("used", "unused"):
        memory.pipe_file(f"/week/{name}", name.encode())
    used, unused = (Tools().path(f"memory://week/{name}") for name in ("used", "unused"))
    half = used.with_suffix(".abcd.partial")
    half.write_bytes(b"ha")
    for path, days in ((used, 8), (unused, 8), (half, 2)):
        aged(path, days * 86_400)
    begin()
    filesystems._shared_copies["memory://week/used"] = used  # by a process that has it in its hands
    assert Tools().path("memory://week/used") == used
    ELSEWHERE.remove_stale_scratch()
    assert [path.exists() for path in (used, unused, half)] == [True, False, False]


@pytest.mark.parametrize("how", ["open to all", "a link"])
def test_a_folder_that_others_may_have_filled_is_not_used(how, machine, tmp_path_factory):
    fsspec.filesystem("memory").pipe_file("/trusted/model", b"model")
    shared = machine / f"marco-data-copies-{os.getuid()}"
    if how == "a link":
        shared.symlink_to(tmp_path_factory.mktemp("theirs"))
    else:
        shared.mkdir()
        shared.chmod(0o777)
    copy = Tools().path("memory://trusted/model")
    assert copy.read_bytes() == b"model"
    assert copy.parent != shared
    assert list(shared.iterdir()) == []
