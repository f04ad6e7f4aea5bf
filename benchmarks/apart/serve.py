"""`python -m benchmarks.apart.serve FILE PACKAGE`: a peer that times its own work, in its own environment.

FILE is a module that has `WORK`: names of work, and for each what takes texts and gives what is timed. Out, first:
{"version": that of PACKAGE}. Then for each line {"work", "texts", "once", "wall"} a line {"seconds"}; or {"failed"}
instead of either. Whatever else a peer prints goes to the standard error.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Callable

from benchmarks.stopwatch import seconds


def main(file: str, package: str) -> None:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            work = _work(file)
            answer = {"version": importlib.metadata.version(package)}
        except Exception as error:
            answer = {"failed": _told(error)}
        print(json.dumps(answer), file=answers, flush=True)
        for line in sys.stdin:
            question = json.loads(line)
            try:
                run = work[question["work"]](question["texts"])
                taken = seconds(run, once=question["once"], wall=question["wall"])
                print(json.dumps({"seconds": taken}), file=answers, flush=True)
            except Exception as error:
                print(json.dumps({"failed": _told(error)}), file=answers, flush=True)


def _work(file: str) -> dict[str, Callable[[list[str]], Callable[[], object]]]:
    spec = importlib.util.spec_from_file_location("peer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Callable[[list[str]], Callable[[], object]]] = module.WORK
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(*sys.argv[1:])
