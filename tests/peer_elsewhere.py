"""A peer as `benchmarks.apart.serve` runs one: works, sleeps, talks too much, fails or dies."""

import os
import time
from collections.abc import Callable


def _sleep(texts: list[str]) -> Callable[[], object]:
    return lambda: time.sleep(0.1)


def _count_letters(texts: list[str]) -> Callable[[], object]:
    return lambda: sum(character.isalpha() for text in texts for character in text)


def _print(texts: list[str]) -> Callable[[], object]:
    return lambda: print("thank you for", len(texts), "texts", flush=True)


def _raise(texts: list[str]) -> Callable[[], object]:
    raise ValueError("these texts are not for me")


def _end(texts: list[str]) -> Callable[[], object]:
    os._exit(3)


WORK = {"sleep": _sleep, "count letters": _count_letters, "print": _print, "raise": _raise, "end": _end}
