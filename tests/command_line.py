"""Run a command of marco-data in this process, as the installed script does: for tests that need many."""

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marco_data.cli import main


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def marco(*words: object, stdin: str = "", cwd: Path | None = None) -> Result:
    """`marco-data WORDS...` in `cwd`."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, sys.stdin, list(sys.path), Path.cwd()
    sys.argv, sys.stdin = ["marco-data", *map(str, words)], io.StringIO(stdin)
    try:
        os.chdir(cwd or before[3])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        return Result(end.code or 0, out.getvalue(), err.getvalue())
    finally:
        sys.argv, sys.stdin, sys.path[:] = before[:3]
        os.chdir(before[3])
    raise AssertionError("the command did not end with an exit code")
