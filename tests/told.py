"""Pages of documentation as their reader takes them: files are written, commands run in order, output compared.

A block of `yaml` or `python` whose first line is `# NAME` is a file of that name. A block of `sh` is run in a folder
that has `recipes/` as a checkout has. A block of `text` after it is what it says: `...` stands for anything, and what
is between two of its lines may be left out.
"""

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command_line import marco

import recipes  # now: a later import would find the link to it in the folder of a page, which goes away

ROOT = Path(recipes.__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+)\n")
OURS = re.compile(r"marco-data [^|&;<>$`#]*")


def fences(page: str, *languages: str) -> list[str]:
    return [body for name, body in FENCE.findall(page) if name in languages]


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def make_folder(folder: Path) -> Path:
    """`recipes/` as in a checkout, and commands of the program's names on the path of `shell`."""
    (folder / "recipes").symlink_to(ROOT / "recipes")
    commands = folder / "bin"
    commands.mkdir()
    # Starting Ray takes seconds and is tested elsewhere; start.py passes its arguments on, which .ci/run shows.
    executable(
        commands / "marco-data",
        f'#!/bin/sh\n[ "$1" = build-stage ] && set -- "$@" --executor local\n'
        f'exec "{sys.executable}" -c "from marco_data.cli import main; main()" "$@"\n',
    )
    executable(commands / "python3", '#!/bin/sh\n[ "$1" = start.py ] || exit 97\nshift\nexec marco-data "$@"\n')
    return folder


def write_file(folder: Path, block: str) -> None:
    name = FILE.match(block)
    assert name, f"the first line of a file in a page is its name: {block[:60]}"
    (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
    (folder / name[1]).write_text(block, "utf-8")


def shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=600,
    )


@dataclass(frozen=True)
class Said:
    """What a block of commands said, and what the page shows of it."""

    script: str
    code: int
    out: str
    shown: str


def follow(page: str, folder: Path) -> Iterator[Said]:
    """Do what a page says, in its order."""
    blocks = FENCE.findall(page)
    for (language, body), (after, text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language in ("yaml", "python"):
            write_file(folder, body)
        elif language == "sh":
            code, out = _run(folder, body)
            yield Said(body, code, out, text if after == "text" else "")


def _run(folder: Path, script: str) -> tuple[int, str]:
    """Line by line; commands of ours without anything for a shell run in this process, which saves a second each."""
    out = ""
    for line in re.findall(r"^.*<<'END'\n(?:.*\n)*?END$|^.+$", script, re.MULTILINE):
        if OURS.fullmatch(line):
            words = shlex.split(line)[1:]
            done = marco(*words, *(["--executor", "local"] if words[0] == "build-stage" else []), cwd=folder)
            code, out = done.code, out + done.out + done.err
        else:
            shelled = shell(folder, line)
            code, out = shelled.returncode, out + shelled.stdout + shelled.stderr
        if code:
            return code, out
    return 0, out


def not_said(said: Said) -> list[str]:
    """The lines a page shows that its commands did not say, in that order; spaces count as one."""
    left = [" ".join(line.split()) for line in said.out.splitlines()]
    missing = []
    for line in said.shown.splitlines():
        shown = " ".join(line.split())
        pattern = re.compile(".*".join(map(re.escape, shown.split("..."))))
        at = next((i for i, told in enumerate(left) if pattern.fullmatch(told)), None)
        if at is None:
            missing.append(line)
        elif shown != "...":
            left = left[at + 1 :]
    return missing
