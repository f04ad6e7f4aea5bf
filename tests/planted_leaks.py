"""Documents with benchmark items planted in them, and documents that only look so: each with the right verdict.

In: items and pages of one language. Out: `Planted` documents: leaks in six forms, near misses in four. Everything is
chosen by hashes of what it is made of, so the same items give the same documents.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import regex

from marco_data.benchmark_items import Item

UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
HALF_WORDS = 15
"""Half of an item is planted where it has so many words, or what weighs as much in characters: a leak has 13."""


class Planted(NamedTuple):
    """A document, what was done to make it, and whether it holds an item of the index."""

    text: str
    form: str
    leak: bool
    item: Item


def is_even(*what: str) -> bool:
    return int(hashlib.sha256("\0".join(what).encode()).hexdigest(), 16) % 2 == 0


def planted(item: Item, pages: Sequence[str]) -> Iterator[Planted]:
    """The forms of a leak of an item, each in or beside a page of its language."""
    chance = random.Random(f"{item.benchmark} {item.item} {item.language} {item.field}")
    page = chance.choice(pages)
    text = item.text
    yield Planted(text, "verbatim", True, item)
    yield Planted(f"Question: {text}\n\nAnswer:", "framed", True, item)
    yield Planted(within(page, punctuated(text, chance), chance), "punctuated", True, item)
    yield Planted(within(page, text, chance), "inside", True, item)
    yield Planted(within(page, broken(text, chance), chance), "broken", True, item)
    if size(text) >= 2 * HALF_WORDS:
        yield Planted(within(page, half(text, chance), chance), "half", True, item)


def near_misses(item: Item, other: Item, pages: Sequence[str]) -> Iterator[Planted]:
    """What is no leak: an item that is not in the index, other numbers in one that is, a page, a form without items."""
    chance = random.Random(f"near {item.benchmark} {item.item} {item.language} {item.field}")
    page = chance.choice(pages)
    yield Planted(within(page, other.text, chance), "same topic", False, other)
    numbers = re.findall(r"\d+", item.text)
    if numbers:
        yield Planted(within(page, renumbered(item.text), chance), "other numbers", False, item)
    yield Planted(page, "page", False, item)
    yield Planted(f"{page}\n\nQuestion 12\nA) 18\nB) 25\nC) 36\nD) 40\nAnswer: C\n", "letters", False, item)


def size(text: str) -> float:
    """Words, or what weighs as much."""
    characters = len(UNSPACED.findall(text))
    return len(UNSPACED.sub(" ", text).split()) + characters / (2 if re.search("[\u3040-\u9fff]", text) else 6)


def within(page: str, text: str, chance: random.Random) -> str:
    """The text as a paragraph among those of a page."""
    paragraphs = page.split("\n")
    at = chance.randint(0, len(paragraphs))
    return "\n".join([*paragraphs[:at], text, *paragraphs[at:]])


def punctuated(text: str, chance: random.Random) -> str:
    """Other marks, other spaces, other cases, none of them a word's matter."""
    text = re.sub(
        r"(?<!\d)[.,](?!\d)|[;:!?。，、？！।]", lambda m: chance.choice([" ", " – ", "; ", " … ", m[0]]), text
    )
    text = re.sub(r"[\"“”„«»「」*]", lambda m: chance.choice(['"', "“", "»", ""]), text)
    text = re.sub(r"(?<=\w)['’](?=\w)", lambda m: chance.choice("'’"), text)
    text = re.sub(r" +", lambda m: chance.choice([" ", "  ", "\u00a0"]), text)
    if UNSPACED.search(text):
        text = "".join(
            x + (chance.choice(["", "", "", " "]) if UNSPACED.match(x) else "") for x in regex.findall(r"\X", text)
        )
    return chance.choice([text.upper() if text.isascii() else text, text.lower() if text.isascii() else text, text])


def broken(text: str, chance: random.Random) -> str:
    """A line end, and what web pages put at one, every few words."""
    words = re.split(r"(\s+)", text)
    if UNSPACED.search(text):
        words = [piece for word in words for piece in regex.findall(r"(?:\w\p{M}*){1,10}|\W+", word)]
    mark = chance.choice(["\n", "\n> ", "\n\n", "\n  - "])
    return "".join(word + (mark if i % 7 == 6 else "") for i, word in enumerate(words))


def half(text: str, chance: random.Random) -> str:
    """The first or the second half, cut at a space where there is one near."""
    middle = len(text) // 2
    if not UNSPACED.search(text):
        middle = text.find(" ", middle)
    return text[:middle] if chance.random() < 0.5 else text[middle:]


def renumbered(text: str) -> str:
    """Every number another one of as many digits."""
    return re.sub(r"\d", lambda m: str((int(m[0]) + 3) % 9 + 1), text)
