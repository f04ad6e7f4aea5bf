"""What a corpus of generated text meets: templates, with frames and without, and texts shorter than a shingle.

A template is some pages of real text with a numbered line and some 40 words of its own in the middle: every two
documents are similar by 0.8 or more. One in ten repeats another's content under another number, in a template that
lost its first line: a duplicate, with frames or without.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.dedup_quality.judge import exact, judge
from benchmarks.dedup_quality.texts import Tokens
from marco_data.languages import LANGUAGES, Language
from marco_data.steps.sign import Sign

LINE, CONTENT = 20, 40
"""Tokens."""
LINES = 40
NUMBERED = "No. {}:"


class Templated(NamedTuple):
    language: str
    frames: bool
    distinct: int  # documents with a content of their own
    distinct_removed: int
    repeated: int
    repeated_removed: int
    named_rightly: int  # of those, where the document named has the same content


def measure(code: str, articles: Sequence[Tokens], wanted: int, seed: int) -> list[Templated]:
    language = LANGUAGES[code]
    chance = random.Random(f"{seed} {code}")
    words = [token for article in articles for token in article]
    frame = _lines(words[: LINES * LINE], LINE)
    contents = _lines(words[LINES * LINE :], CONTENT)
    chance.shuffle(contents)
    contents = contents[:wanted]
    half = len(frame) // 2
    of = list(range(len(contents))) + chance.sample(range(len(contents)), len(contents) // 10)
    texts = []
    for number, content in enumerate(of):
        start = frame[1:half] if number >= len(contents) else frame[:half]
        own = [NUMBERED.replace("{}", str(1000 + number)), contents[content]]
        texts.append("\n".join([*start, *own, *frame[half:]]))
    return [_judged(texts, of, language, frames, seed) for frames in ((), (*frame, NUMBERED))]


def _judged(
    texts: Sequence[str], of: Sequence[int], language: Language, frames: tuple[str, ...], seed: int
) -> Templated:
    named = judge(texts, language, Sign(frames=frames), seed=seed).dup_of.tolist()
    times = [of.count(content) for content in of]
    # Of two documents with one content either may be the one that stays: a content is removed if none of it stays.
    stays = {of[i] for i, other in enumerate(named) if other < 0}
    twice = sorted({content for content, n in zip(of, times, strict=True) if n > 1})
    gone = [[named[i] for i in range(len(of)) if of[i] == content and named[i] >= 0] for content in twice]
    return Templated(
        language.code,
        bool(frames),
        len(set(of)),
        len(set(of) - stays),
        len(twice),
        sum(map(bool, gone)),
        sum(any(of[other] == content for other in others) for content, others in zip(twice, gone, strict=True)),
    )


def _lines(words: Tokens, length: int) -> list[str]:
    return ["".join(words[at : at + length]).strip() for at in range(0, len(words) - length + 1, length)]


class Short(NamedTuple):
    left: str
    right: str
    jaccard: float
    removed: bool


SHORT = (
    ("eng_Latn", "Page not found", "page not found."),
    ("eng_Latn", "Page not found", "Page not found yet"),
    ("eng_Latn", "Item 7 sold", "Item 8 sold"),
    ("eng_Latn", "Sign in to see this page", "Sign in to see that page"),
    ("deu_Latn", "Straße gesperrt", "STRASSE GESPERRT"),
    ("zho_Hans", "页面不存在", "页面 不存在"),
    ("zho_Hans", "页面不存在", "页面已删除"),
    ("tha_Thai", "ไม่พบหน้านี้", "ไม่พบ หน้านี้"),
    ("khm_Khmr", "រកមិនឃើញទំព័រ", "រក\u200bមិន\u200bឃើញ\u200bទំព័រ"),
)


def short() -> list[Short]:
    """Pairs of texts of about a shingle or less."""
    out = []
    for code, left, right in SHORT:
        language = LANGUAGES[code]
        removed = (judge([left, right], language).dup_of >= 0).any()
        out.append(
            Short(
                left.replace("\u200b", "|"), right.replace("\u200b", "|"), exact(left, right, language), bool(removed)
            )
        )
    return out
