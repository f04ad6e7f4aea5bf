"""`python -m benchmarks.chaos --kills 100 --seed 7`: strike builds at random moments and compare what comes of them.

In: a seed. Out: a table, with `--report` as a page too; exit 1, with the seed, where a build differs from a quiet one.
"""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chaos.report import Totals, page, table
from benchmarks.chaos.run import strike
from benchmarks.chaos.schedule import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--at-once", type=int, default=2, help="places where builds are struck at the same time")
    parser.add_argument("--report", type=Path, help="write the page here")
    given = parser.parse_args()
    started, totals = time.monotonic(), Totals()
    home = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # short: Ray keeps sockets below it
    try:
        quiet = strike(given.seed, given.kills, tuple(given.kinds), given.at_once, home, totals)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(table(totals))
    if given.report:
        command = shlex.join(["python", "-m", "benchmarks.chaos", *sys.argv[1:]])
        given.report.write_text(page(totals, command, time.monotonic() - started, os.getloadavg(), quiet), "utf-8")
    if totals.wrong:
        print("\n".join(totals.wrong), f"\n--seed {given.seed} --kills {given.kills} shows it again", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
