"""Held-out loss by language: nats per token and bits per byte of whole documents.

In: a model and documents as token ids. Out: sums by language. A document is read in windows of the training's length,
each of which knows nothing before it but the last token of the window before (the first: an end of document), so every
token of every document is predicted once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from marco_data.train.loss import IGNORED
from marco_data.train.model import CausalLM

Documents = Mapping[str, Sequence[Mapping[str, Any]]]
"""By language, each with `ids` (the end-of-document token last) and `bytes`."""


def windows(ids: Sequence[int], end: int, length: int) -> Iterator[tuple[list[int], list[int]]]:
    """(inputs, what each of them is followed by): `ids`, each once, behind an end-of-document token."""
    given = [end, *ids[:-1]]
    for start in range(0, len(ids), length):
        yield given[start : start + length], list(ids[start : start + length])


def losses(
    model: CausalLM, documents: Documents, end: int, length: int, batch: int = 32
) -> dict[str, dict[str, float]]:
    """{language: {nats, tokens, bytes}}."""
    rows: list[tuple[str, list[int], list[int]]] = [
        (language, *window)
        for language, found in documents.items()
        for document in found
        for window in windows(document["ids"], end, length)
    ]
    said = {
        language: {"nats": 0.0, "tokens": 0.0, "bytes": float(sum(document["bytes"] for document in found))}
        for language, found in documents.items()
    }
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        inputs = np.full((len(part), length), end, np.int64)
        labels = np.full((len(part), length), IGNORED, np.int64)
        for at, (_, given, wanted) in enumerate(part):
            inputs[at, : len(given)], labels[at, : len(wanted)] = given, wanted
        with torch.no_grad():
            out = model(torch.from_numpy(inputs), torch.from_numpy(labels))
        for (language, _, wanted), nats in zip(part, out.losses.double().sum(1).tolist(), strict=True):
            said[language]["nats"] += nats
            said[language]["tokens"] += len(wanted)
    return said


def nats_per_token(said: Mapping[str, Mapping[str, float]]) -> float:
    """The mean of the languages' own means: none counts more for having longer documents."""
    return sum(row["nats"] / row["tokens"] for row in said.values()) / len(said)


def bits_per_byte(said: Mapping[str, Mapping[str, float]]) -> float:
    """The same of bits for each byte of text, which do not depend on the tokenizer."""
    return sum(row["nats"] / math.log(2) / row["bytes"] for row in said.values()) / len(said)
