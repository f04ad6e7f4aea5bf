"""How the figures of quality are spread over clean prose, by language: what `languages derive` compares a new one with.

    python -m benchmarks.reference_figures        # writes marco_data/languages/reference_figures.csv

In: the reference prose of MARCO_TEST_DATA. Out: a row a language and limit: documents, the shipped limit, the share of
the documents that it drops, and the PERCENTILES of the figure. Only figures are written, no text.
"""

import csv
import sys

import numpy as np

from benchmarks.agreement.figures import our_figures
from benchmarks.agreement.texts import REFERENCE, documents
from benchmarks.corpus import data_folder
from marco_data.languages import SHIPPED
from marco_data.languages.derive import DERIVED, FIGURES_CSV, PERCENTILES
from marco_data.languages.match_limits import beyond
from marco_data.steps.apply_limits import load_limits
from marco_data.steps.measure_quality import METRICS


def main() -> int:
    if data_folder() is None:
        print("MARCO_TEST_DATA has the prose; without it there is nothing to measure", file=sys.stderr)
        return 2
    limits = load_limits()
    with FIGURES_CSV.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["language", "limit", "documents", "value", "drops", *(f"p{p}" for p in PERCENTILES)])
        for code in SHIPPED:
            figures = our_figures([d for d in documents(code) if d.kind == REFERENCE], code)
            for limit in DERIVED:
                side, metric = limit.split("_", 1)
                column, value = figures[:, METRICS.index(metric)], getattr(limits[code], limit)
                drops = round(float(np.mean(beyond(side, value, column))), 4)
                spread = np.round(np.percentile(column, PERCENTILES), 4).tolist()
                out.writerow([code, limit, len(column), "" if value is None else value, drops, *spread])
    return 0


if __name__ == "__main__":
    sys.exit(main())
