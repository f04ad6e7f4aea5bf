"""Planted edits: articles in, pairs of texts that are meant to have a given Jaccard similarity out.

What a pair's similarity is in truth is counted afterwards (`exact`); a target only spreads pairs over the bins.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.dedup_quality.texts import Tokens
from marco_data.languages import Language


class Pair(NamedTuple):
    kind: str
    left: str
    right: str


Edit = Callable[[Tokens, float, Sequence[Tokens], random.Random, float], Tokens]
"""(article, share of its shingles to spare, other articles, chance, tokens in a shingle) -> the edited article."""


def _each(share: float, reach: float) -> float:
    """How likely a token may be edited so that `share` of shingles of `reach` tokens hold no edit."""
    spare: float = share ** (1.0 / reach)
    return 1.0 - spare


def _word(others: Sequence[Tokens], chance: random.Random) -> str:
    return chance.choice(chance.choice(others))


def _run(others: Sequence[Tokens], length: int, chance: random.Random) -> Tokens:
    out: Tokens = []
    while len(out) < length:
        out += chance.choice(others)
    return out[:length]


def replaced(article: Tokens, spare: float, others: Sequence[Tokens], chance: random.Random, reach: float) -> Tokens:
    p = _each(spare, reach)
    return [_word(others, chance) if chance.random() < p else token for token in article]


def swapped(article: Tokens, spare: float, others: Sequence[Tokens], chance: random.Random, reach: float) -> Tokens:
    p, out = _each(spare, reach + 1), list(article)
    for i in range(len(out) - 1):
        if chance.random() < p:
            out[i], out[i + 1] = out[i + 1], out[i]
    return out


def inserted(article: Tokens, spare: float, others: Sequence[Tokens], chance: random.Random, reach: float) -> Tokens:
    p, out = _each(spare, reach), []
    for token in article:
        out += [_word(others, chance), token] if chance.random() < p else [token]
    return out


def deleted(article: Tokens, spare: float, others: Sequence[Tokens], chance: random.Random, reach: float) -> Tokens:
    p = _each(spare, reach)
    return [token for token in article if chance.random() >= p]


def passage(article: Tokens, spare: float, others: Sequence[Tokens], chance: random.Random, reach: float) -> Tokens:
    """One stretch is another article's."""
    length = round(len(article) * (1 - spare))
    at = chance.randint(0, len(article) - length)
    return [*article[:at], *_run(others, length, chance), *article[at + length :]]


def surrounded(article: Tokens, spare: float, others: Sequence[Tokens], chance: random.Random, reach: float) -> Tokens:
    """The whole article with boilerplate before and behind it, so much that it makes up `spare` in `_similar`'s way."""
    jaccard = spare / (2 - spare)
    extra = round(len(article) * (1 / jaccard - 1))
    before = chance.randint(0, extra)
    return [*_run(others, before, chance), *article, *_run(others, extra - before, chance)]


EDITS: dict[str, Edit] = {
    "words replaced": replaced,
    "words swapped": swapped,
    "words inserted": inserted,
    "words deleted": deleted,
    "passage replaced": passage,
    "boilerplate around": surrounded,
}
TEMPLATE = "numbered template"
KINDS = (*EDITS, TEMPLATE)


def spared(jaccard: float) -> float:
    """The share of shingles two texts of equal length have in common."""
    return 2 * jaccard / (1 + jaccard)


def target(chance: random.Random) -> float:
    """A similarity from 0.3 on; the bins around the threshold get more."""
    return chance.uniform(0.3, 0.995) if chance.random() < 0.4 else chance.uniform(0.7, 0.96)


def pairs(found: Sequence[Tokens], language: Language, chance: random.Random) -> list[Pair]:
    """A pair for each article, or one for three articles: no two pairs share one. None is of equal texts.

    A tenth of the articles is set aside, for what is inserted.
    """
    aside = max(1, len(found) // 10)
    others, rest = found[:aside], list(found[aside:])
    size = language.shingle_size
    out = []
    while rest:
        kind = chance.choice(KINDS)
        article, jaccard = rest.pop(), target(chance)
        if kind == TEMPLATE:
            if len(rest) < 2:
                break
            out.append(_templates(article, rest.pop(), rest.pop(), jaccard))
            continue
        reach = float(size)
        if language.shingle_unit == "character":  # a shingle of n characters touches so many tokens
            mean = sum(len(token.strip()) for token in article) / len(article)
            reach = (size + mean - 1) / mean
        right = EDITS[kind](article, spared(jaccard), others, chance, reach)
        if right != article:
            out.append(Pair(kind, _text(article), _text(right)))
    return out


def _templates(frame: Tokens, left: Tokens, right: Tokens, jaccard: float) -> Pair:
    """Two texts with the same words around another number and another content."""
    length = max(1, round(len(frame) * (1 / jaccard - 1) / 2))
    half = len(frame) // 2
    made = [
        [*frame[:half], f"{number} ", *content[:length], *frame[half:]] for number, content in ((17, left), (18, right))
    ]
    return Pair(TEMPLATE, _text(made[0]), _text(made[1]))


def _text(tokens: Tokens) -> str:
    return "".join(tokens).strip()
