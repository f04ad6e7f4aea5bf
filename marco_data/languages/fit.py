"""One fastText training, in a process of its own: a JSON request on the command line, a quantised model out.

A script, not an import: every fastText build for numpy 2 reads uninitialised memory while training (measured:
18 of 120 runs ended in "Encountered NaN", and no two models were equal). With one thread and the environment
variable MALLOC_PERTURB_, which glibc reads when a process starts, fresh memory is the same in every run, and so
is the model. `train.py` starts it so; started otherwise it refuses.
"""

import json
import os
import sys
from typing import Any

import fasttext


def fit(request: dict[str, Any]) -> None:
    """Train on `input`, quantise, write to `output`; `train` and `quantize` are fastText's own arguments."""
    model = fasttext.train_supervised(input=request["input"], thread=1, verbose=0, **request["train"])
    model.quantize(input=request["input"], thread=1, verbose=0, **request["quantize"])
    model.save_model(request["output"])


if __name__ == "__main__":
    if "MALLOC_PERTURB_" not in os.environ:
        sys.exit("fit.py is started by marco_data.languages.train, which sets MALLOC_PERTURB_")
    fit(json.loads(sys.argv[1]))
