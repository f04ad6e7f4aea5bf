"""`python -m benchmarks.agreement`: measure, compare, write `benchmarks/AGREEMENT.md`.

Needs MARCO_TEST_DATA, a folder of real documents; without it this says so, unless `--out` asks for a report on the
embedded sample. `--derive` first writes `marco_data/languages/limits_for_our_words.csv` anew. With `--keep FOLDER`
what was measured is kept there and not measured again. About ten minutes of one core.
"""

import argparse
import csv
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.agreement import minhash, segmentation
from benchmarks.agreement.figures import Measured, measure
from benchmarks.agreement.oracle import Missing
from benchmarks.agreement.report import report
from benchmarks.agreement.verdicts import Row, derive
from benchmarks.corpus import data_folder
from marco_data.languages import LANGUAGES, canonical
from marco_data.steps import apply_limits
from marco_data.steps.apply_limits import load_limits

REPORT = Path(__file__).parents[1] / "AGREEMENT.md"
LIMITS = Path(apply_limits.__file__).parents[1] / "languages" / "limits_for_our_words.csv"
TEXTS = 1500


def main() -> None:
    arguments = _arguments()
    out = arguments.out or (REPORT if data_folder() and not arguments.languages else None)
    if data_folder() is None and out is None:
        print("MARCO_TEST_DATA is not set: agreement is measured on a folder of real documents that it names")
        return
    codes = [canonical(code).code for code in arguments.languages or LANGUAGES]
    measured, missing = _measure_all(codes, arguments.keep)
    fineweb2 = load_limits("fineweb2_unchanged")
    if arguments.derive:
        rows = [row for one in measured for row in derive(one, fineweb2[one.language])]
        write_limits(rows, LIMITS)
        print(f"{len(rows)} limits written to {LIMITS.name}; run again without --derive to report", file=sys.stderr)
        return
    unspaced = [one for one in measured if one.language in segmentation.UNSPACED]
    words = [
        candidate
        for one in unspaced
        for candidate in _kept(
            arguments.keep,
            f"words-{one.language}",
            lambda one=one: segmentation.compare(one, fineweb2[one.language]),  # type: ignore[misc]
        )
    ]
    pairs = _kept(arguments.keep, "pairs", lambda: minhash.compare(TEXTS))
    command = "python -m benchmarks.agreement" + (" --keep FOLDER" if arguments.keep else "")
    text = report(measured, missing, words, pairs, command=command, real=data_folder() is not None)
    print(text)
    if out:
        out.write_text(text, "utf-8")


def write_limits(rows: list[Row], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def _measure_all(codes: list[str], keep: Path | None) -> tuple[list[Measured], dict[str, str]]:
    """What could be measured, and by language why the rest could not."""
    measured, missing = [], {}
    for code in codes:
        print(f"{code} ...", file=sys.stderr, flush=True)
        try:
            measured.append(_kept(keep, code, lambda code=code: measure(code)))  # type: ignore[misc]
        except Missing as error:
            missing[code] = str(error)
    return measured, missing


def _kept(folder: Path | None, name: str, make: Callable[[], Any]) -> Any:
    """What `make` made when it was last asked, where that is kept."""
    if folder is None:
        return make()
    file = folder / f"{name}.pkl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps(make()))
    return pickle.loads(file.read_bytes())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.agreement", description="marco-data beside datatrove.")
    parser.add_argument("--derive", action="store_true", help="write limits_for_our_words.csv anew, and no report")
    parser.add_argument(
        "--languages", nargs="+", metavar="CODE", help="these only; then nothing is written but to --out"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where measurements are kept between runs")
    parser.add_argument("--out", type=Path, help="where to write; without it benchmarks/AGREEMENT.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
