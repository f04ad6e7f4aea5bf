"""`python -m benchmarks`: hold the contests, print the table, write `benchmarks/RESULTS.md`.

About ten minutes on two cores. `--only` and `--scale` make it shorter; then nothing is written unless `--out` says
where. The process pins itself to one core; contests on all cores run in a second process that is not pinned.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    arguments = _arguments()
    if not arguments.unpinned:
        _pin()
    # After pinning: what counts cores does so when it is first imported or used.
    from benchmarks.apart.environment import default_folder
    from benchmarks.contest import Result, hold, spread
    from benchmarks.contests import SHARD, contests
    from benchmarks.corpus import describe
    from benchmarks.profile import Line, profile
    from benchmarks.report import Run, report
    from benchmarks.start_up import start_up

    load = os.getloadavg()
    results = []
    for contest in contests(arguments.peers or default_folder(), arguments.lid176):
        if arguments.only and contest.part not in arguments.only:
            continue
        print(f"{contest.part} ...", file=sys.stderr, flush=True)
        if contest.all_cores and not arguments.unpinned:
            held = [Result(**row) for row in _unpinned(contest.part, arguments)]
        else:
            held = hold(contest, repeats=arguments.repeats, scale=arguments.scale)
        for result in held:
            print(f"  {result.name}: {result.failed or spread(result.speeds)}", file=sys.stderr, flush=True)
        results += held
    if arguments.unpinned:
        print(json.dumps([asdict(result) for result in results]))
        return
    lines: list[Line] = []
    if not arguments.only:
        print("profile ...", file=sys.stderr, flush=True)
        lines = profile(megabytes=SHARD * arguments.scale)
    command = "python -m benchmarks" + "".join(f" {argument}" for argument in _shown(sys.argv[1:]))
    run = Run(command=command, data=describe(), load=(load, os.getloadavg()))
    text = report(results, lines, start_up() if lines else None, run)
    print(text)
    out = arguments.out or (RESULTS if not arguments.only and arguments.scale == 1 else None)
    if out:
        out.write_text(text, "utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="marco-data beside its peers.")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each contest (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="text of a round, relative to the usual (1)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts, and no profile")
    parser.add_argument("--out", type=Path, help="where to write; a whole run writes benchmarks/RESULTS.md")
    parser.add_argument("--lid176", type=Path, metavar="FILE", help="fastText's lid.176.ftz or .bin, to compare with")
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="environments of peers that need their own (in the user's cache)"
    )
    parser.add_argument("--unpinned", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _shown(arguments: list[str]) -> list[str]:
    """A command line without this machine's folders."""
    return [Path(argument).name if "/" in argument else argument for argument in arguments]


def _pin() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _unpinned(part: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    options = ["--only", part, "--repeats", str(arguments.repeats), "--scale", str(arguments.scale), "--unpinned"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        check=True,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: (
            os.sched_setaffinity(0, range(os.cpu_count() or 1)) if hasattr(os, "sched_setaffinity") else None
        ),
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return [row | {"speeds": tuple(row["speeds"]), "ratios": tuple(row["ratios"])} for row in rows]


if __name__ == "__main__":
    main()
