"""One fastText training, in a process of its own: a JSON request on the command line, a quantised model out.

A script, not an import: every fastText build for numpy 2 reads uninitialised memory while training (measured:
18 of 120 runs ended in "Encountered NaN", and no two models were equal). With one thread and the environment
variable MALLOC_PERTURB_, which glibc reads when a process starts, fresh memory is the same in every run, and so
is the model. `train.py` starts it so; started otherwise it refuses.
"""

import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def fit(request: dict[str, Any]) -> None:
    """Train on `input`, quantise, settle, write to `output`; `train` and `quantize` are fastText's own arguments."""
    model = fasttext.train_supervised(input=request["input"], thread=1, verbose=0, **request["train"])
    model.quantize(input=request["input"], thread=1, verbose=0, **request["quantize"])
    model.save_model(request["output"])
    settle(model, request)


def settle(model: Any, request: dict[str, Any]) -> None:
    """Fit the output matrix in a quantised model's file anew, to the first lines of the input, which are shuffled."""
    plan, labels = request["settle"], model.get_labels()
    with Path(request["input"]).open(encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split(" ", 1) for line in islice(file, plan["lines"])]
    vectors = np.array([model.get_sentence_vector(text) for _, text in pairs], np.float32)
    numbers = {label: number for number, label in enumerate(labels)}
    truths = np.array([numbers[label] for label, _ in pairs])
    weights = np.array([plan["weights"].get(label.removeprefix("__label__"), 1) for label in labels], np.float32)
    size = (len(labels), model.get_dimension())
    with Path(request["output"]).open("r+b") as file:
        end = file.seek(-4 * size[0] * size[1], os.SEEK_END)  # the output matrix, not quantised, ends the file
        output = np.frombuffer(file.read(), np.float32).reshape(size)
        output = settled(output, vectors, truths, weights, plan, request["train"]["seed"])
        file.seek(end)
        file.write(output.tobytes())


def settled(
    output: Floats, vectors: Floats, truths: npt.NDArray[np.int64], weights: Floats, plan: dict[str, Any], seed: int
) -> Floats:
    """The output matrix, [labels, numbers], that suits the quantised vectors of these lines, not those before.

    Adam over small batches of the softmax's loss, a line counting as much as its label; the rate falls to nothing.
    """
    output, batch = output.copy(), plan["batch"]
    mean, square, step = np.zeros_like(output), np.zeros_like(output), 0
    chance, steps = np.random.default_rng(seed), plan["epochs"] * (len(truths) // batch)
    for _ in range(plan["epochs"]):
        order = chance.permutation(len(truths))
        for at in range(0, len(truths) - batch + 1, batch):
            chosen = order[at : at + batch]
            scores = vectors[chosen] @ output.T
            error = np.exp(scores - scores.max(axis=1, keepdims=True))
            error /= error.sum(axis=1, keepdims=True)
            error[np.arange(batch), truths[chosen]] -= 1
            error *= weights[truths[chosen], None]
            slope, step = error.T @ vectors[chosen] / batch, step + 1
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope * slope
            rate = plan["rate"] * (1 - step / steps)
            output -= rate * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return output


if __name__ == "__main__":
    if "MALLOC_PERTURB_" not in os.environ:
        sys.exit("fit.py is started by marco_data.languages.train, which sets MALLOC_PERTURB_")
    fit(json.loads(sys.argv[1]))
