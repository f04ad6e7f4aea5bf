"""`python -m benchmarks.proof`: a tiny mixture of experts on one crawl, curated and not, upcycled and from scratch.

Wants MARCO_TEST_DATA, the extras `train` and `bench`, and about seventy minutes of one core. Runs that `--folder` has
results of are not run again, so the command goes on where it was stopped; with `--runs 0` it reports what is there.
Writes `benchmarks/PROOF.md` and three pictures beside this file.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.corpus import data_folder
from benchmarks.proof import corpora
from benchmarks.proof.arms import ARMS, DENSE_ARM, result_file
from benchmarks.proof.report import pictures, read_results, report

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.proof", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where data and results lie, and are found again")
    parser.add_argument("--tokens", type=int, default=corpora.TOKENS, help=f"of an arm ({corpora.TOKENS:,})")
    parser.add_argument("--runs", type=int, default=2, help="at once, a thread each; 0: only report (2)")
    parser.add_argument("--arms", default=",".join(ARMS), help="of them (all)")
    arguments = parser.parse_args()
    data = data_folder()
    if data is None:
        raise SystemExit("MARCO_TEST_DATA names no folder of real documents")
    made = corpora.make(data, arguments.folder, arguments.tokens)
    if arguments.runs:
        _run(arguments.folder, [name for name in ARMS if name in arguments.arms.split(",")], arguments.runs)
    results = read_results(arguments.folder / "results")
    for name, picture in pictures(results).items():
        (HERE / name).write_text(picture, "utf-8")
    (HERE.parent / "PROOF.md").write_text(report(made, results), "utf-8")


def _run(folder: Path, arms: list[str], runs: int) -> None:
    """Seed by seed, so that what was stopped has whole comparisons; dense models first: others begin with them."""
    waves = [[DENSE_ARM] if DENSE_ARM in arms else [], [name for name in arms if name != DENSE_ARM]]
    for wave in waves:
        with ThreadPoolExecutor(runs) as pool:
            wanted = [(name, seed) for seed in SEEDS for name in wave if not result_file(folder, name, seed).exists()]
            for code in pool.map(lambda one: _one(folder, *one), wanted):
                if code:
                    raise SystemExit(f"a run ended with {code}")


def _one(folder: Path, arm: str, seed: int) -> int:
    command = [sys.executable, "-m", "benchmarks.proof.arms", str(folder), arm, str(seed)]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode


if __name__ == "__main__":
    main()
