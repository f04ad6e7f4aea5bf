"""Characters or words: what Jaccard of either says of unspaced text that was changed by a known amount.

The amount is the share of characters that an edit touches, which knows of no shingle. `auc`: how often a pair with the
smaller of two amounts of change has the higher similarity than one with the larger (0.5: by chance, 1: always).
`respaced`: the similarity of a text to itself with other spaces, which is 1 for whoever reads it.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.dedup_quality.texts import Tokens
from marco_data.languages import LANGUAGES, Language
from marco_data.steps.sign import Sign
from marco_data.words import forget, texts_of

UNSPACED = ("zho_Hans", "jpn_Jpan", "tha_Thai", "lao_Laoo", "khm_Khmr", "mya_Mymr")
AMOUNTS = (0.01, 0.02, 0.03, 0.05, 0.08)
"""Shares of characters that are changed."""

SHORTEST = 60
"""Tokens of an article: a hundredth of fewer is no edit."""

Figures = npt.NDArray[np.float64]


class Unit(NamedTuple):
    """One way to shingle a language, measured."""

    language: str
    unit: str
    size: int
    auc: tuple[tuple[float, float], ...]  # of neighbouring amounts: it, and half the width of its interval
    spread: float  # standard deviation of the similarity at one amount, mean over amounts
    respaced: dict[str, float]  # mean similarity
    milliseconds: float  # of one core for a megabyte


def measure(code: str, articles: Sequence[Tokens], of_each: int, seed: int) -> list[Unit]:
    """Both units on the same pairs."""
    language = LANGUAGES[code]
    chance = random.Random(f"{seed} {code}")
    articles = [tokens for tokens in articles if len(tokens) >= SHORTEST]
    texts = ["".join(tokens).strip() for tokens in articles]
    letters = sorted({c for text in texts for c in text if c.isalpha()})
    changed = {
        amount: [
            (text, _changed(text, amount, letters, chance)) for text in (chance.choice(texts) for _ in range(of_each))
        ]
        for amount in AMOUNTS
    }
    some = chance.sample(list(articles), min(len(articles), 300))
    joined = ["".join(token.strip() for token in tokens) for tokens in some]
    respaced = {
        "no spaces": list(zip(["".join(t).strip() for t in some], joined, strict=True)),
        "spaces of no width": list(
            zip(joined, ["\u200b".join(token.strip() for token in t) for t in some], strict=True)
        ),
        "lines of 40": list(zip(joined, [_wrapped(text) for text in joined], strict=True)),
    }
    ways = (language, replace(language, shingle_unit="word", shingle_size=5))
    return [_measure(way, changed, respaced, texts, chance) for way in ways]


def _measure(
    way: Language,
    changed: dict[float, list[tuple[str, str]]],
    respaced: dict[str, list[tuple[str, str]]],
    texts: Sequence[str],
    chance: random.Random,
) -> Unit:
    alike = [jaccards(pairs, way) for pairs in changed.values()]
    return Unit(
        way.code,
        way.shingle_unit,
        way.shingle_size,
        tuple(_auc(more, less, chance) for more, less in pairwise(alike)),
        float(np.mean([values.std() for values in alike])),
        {name: float(jaccards(pairs, way).mean()) for name, pairs in respaced.items()},
        _cost(way, texts),
    )


def _changed(text: str, amount: float, letters: Sequence[str], chance: random.Random) -> str:
    """`amount` of the characters replaced, left out or put in, alone or in runs of up to twelve."""
    left, out = max(1, round(amount * len(text))), text
    while left > 0:
        run = min(left, chance.choice((1, 1, 2, 3, 6, 12)))
        at = chance.randrange(max(1, len(out) - run))
        new = "".join(chance.choices(letters, k=run))
        kind = chance.randrange(3)
        out = out[:at] + ("" if kind == 1 else new) + out[at + (0 if kind == 2 else run) :]
        left -= run
    return out


def _wrapped(text: str) -> str:
    return "\n".join(text[at : at + 40] for at in range(0, len(text), 40))


def jaccards(pairs: Sequence[tuple[str, str]], way: Language) -> Figures:
    """The similarity of each pair, on the hashes that `Sign` would sign."""
    flat = [text for pair in pairs for text in pair]
    hashes, bounds = Sign().shingler(way)(texts_of(pa.array(flat, pa.string())))
    sets = [set(hashes[a:b].tolist()) for a, b in pairwise(bounds.tolist())]
    return np.array([len(a & b) / len(a | b) for a, b in zip(sets[::2], sets[1::2], strict=True)])


def auc(more: Figures, less: Figures) -> float:
    """How often a value of `more` is above one of `less`, ties counted as half."""
    order = np.sort(less)
    below, not_above = np.searchsorted(order, more), np.searchsorted(order, more, side="right")
    return float((below + not_above).mean() / 2 / len(less))


def _auc(more: Figures, less: Figures, chance: random.Random) -> tuple[float, float]:
    rng = np.random.default_rng(chance.randrange(1 << 30))
    again = [auc(rng.choice(more, len(more)), rng.choice(less, len(less))) for _ in range(200)]
    return auc(more, less), 1.96 * float(np.std(again))


def _cost(way: Language, texts: Sequence[str]) -> float:
    column = texts_of(pa.array(texts, pa.string()))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    shingler = Sign().shingler(way)
    took = []
    for _ in range(4):
        forget()
        start = time.process_time()
        shingler(column)
        took.append(1000 * (time.process_time() - start) / megabytes)
    return min(took[1:])
