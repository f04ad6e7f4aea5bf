"""`python -m benchmarks.scale`: measure, count, reckon, and write `benchmarks/SCALE.md`.

    python -m benchmarks.scale [--shards 1000000] [--ray-shards 100000] [--known FILE] [--page]

About an hour of one core with a million shards. What was measured is kept in a file (`measured.json` here), and only
what is not in it is measured. `--scratch` has to have room for half a million small files.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import processor
from benchmarks.scale.driver import Measured, measure_here, measured
from benchmarks.scale.report import report
from benchmarks.scale.storage_bill import Asked, count_requests

PAGE = Path(__file__).parents[1] / "SCALE.md"
MEASURED = Path(__file__).with_name("measured.json")
FEW, MANY = 1, 7
"""Languages of a shard in the two builds whose requests are counted."""


def main() -> None:
    given = _arguments()
    if given.measure:
        print(json.dumps(measure_here(given.measure, given.shards, given.languages, given.scratch)))
        return
    known = json.loads(given.known.read_text("utf-8")) if given.known.exists() else {"rows": {}, "requests": {}}
    if not given.page:
        known |= {"machine": machine(), "load": [", ".join(f"{n:.1f}" for n in os.getloadavg())]}
        for what, shards, languages in measurements(given.shards, given.ray_shards):
            name = f"{what} {shards} {languages}"
            if name not in known["rows"]:
                known["rows"][name] = asdict(measured(what, shards, languages, given.scratch))
                print(known["rows"][name], file=sys.stderr, flush=True)
                _keep(given.known, known)
        for languages in (FEW, MANY):
            known["requests"].setdefault(str(languages), asdict(count_requests(languages)))
        known["load"].append(", ".join(f"{n:.1f}" for n in os.getloadavg()))
        _keep(given.known, known)
    text = page_of(known)
    print(text)
    PAGE.write_text(text, "utf-8")


def page_of(known: dict[str, Any]) -> str:
    """The page of what was measured."""
    rows = [Measured(**row) for row in known["rows"].values()]
    asked = [Asked(**known["requests"][str(languages)]) for languages in (FEW, MANY)]
    return report(rows, asked, f"{known['machine']}; load (1, 5, 15 minutes) {' and '.join(known['load'])}")


def machine() -> str:
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _keep(path: Path, known: dict[str, Any]) -> None:
    path.write_text(json.dumps(known, indent=1) + "\n", "utf-8")


def measurements(shards: int, ray_shards: int) -> list[tuple[str, int, int]]:
    """(what, shards, languages of each), the short ones first."""
    return [
        ("logged", max(1, shards // 10), 1),
        ("committed", max(1, shards // 100), 1),
        ("ray", ray_shards, 1),
        ("stats", shards, 1),
        ("ledger", shards, 1),
        ("listed", shards, 1),
        ("planned", shards, 1),
        ("again", shards, 1),
        ("alone", max(1, shards // 10), 1),
        ("alone", max(1, shards // 20), 64),
        ("resumed", shards, 1),
        ("alone", shards, 1),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1_000_000)
    parser.add_argument("--ray-shards", type=int, default=100_000, help="of the run on Ray")
    parser.add_argument("--known", type=Path, default=MEASURED, help="a file of what was measured (measured.json)")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page of what is known")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the roots are made")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--languages", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
