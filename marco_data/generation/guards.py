"""The guards of generated text: an answer and what it was made from in, the first reason against it out.

`finished` looks at how a completion ended, `check` at its text. The order of `check`, cheap and telling first:

 1. `empty`            no letter and no digit
 2. `prompt_leak`      marks of a chat template, a placeholder, or a sentence of the prompt that the source lacks
 3. `refusal`          begins by refusing
 4. `meta_text`        begins or ends by speaking of the task
 5. `wrong_script`     letters of a script of neither the language nor the source
 6. `wrong_language`   too much of it is of another language for certain
 7. `too_short`, `too_long`   by its length to the source's, in units that hold across scripts
 8. `repetition`       the model loops
 9. `copied`, `off_topic`     by what it shares with the source, of the same language
10. `off_topic`        a translation in which too few numbers, addresses and names of the source survive
11. `invented_url`, `invented_number`, `invented_name`   what the source does not hold

Every guard is a pure function of its arguments; a limit that is None sets it aside. Guards need no model but the
embedded one for languages, and no network. They do not know whether a text is true, well made or of use.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import regex
from pydantic import BaseModel, ConfigDict, Field

from marco_data.generation import claims, phrases
from marco_data.generation.answer_language import other_language, prose, script_shares
from marco_data.generation.generator import ERROR, LENGTH, Completion
from marco_data.languages import Language
from marco_data.languages.script import script_letters
from marco_data.quality_metrics import duplicate_n_grams
from marco_data.steps.sign import Shingler, Sign
from marco_data.words import split_words, texts_of

TRUNCATED, EMPTY = "truncated", "empty"

REASONS = frozenset(
    {
        *(TRUNCATED, EMPTY, "prompt_leak", "refusal", "meta_text", "wrong_script", "wrong_language", "too_short"),
        *("too_long", "repetition", "copied", "off_topic", "invented_url", "invented_number", "invented_name"),
    }
)
"""Every reason that guards give; beside these `finished` passes on the error of a completion."""


class Limits(BaseModel):
    """What an answer may be; None sets a guard aside. A figure equal to its limit is within it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    phrases: bool = True  # refusal, meta_text
    leaks: bool = True  # prompt_leak
    max_foreign_letters: float | None = Field(0.0, ge=0, le=1)  # in scripts of neither language, Latin nor source
    min_own_letters: float | None = Field(0.5, ge=0, le=1)  # in the scripts of the language
    max_other_language: float | None = Field(0.15, ge=0, le=1)
    min_length_ratio: float | None = Field(0.2, ge=0)
    max_length_ratio: float | None = Field(3.0, ge=0)
    min_translated_ratio: float | None = Field(0.5, ge=0)  # the same of translations
    max_translated_ratio: float | None = Field(2.0, ge=0)
    max_turns: int | None = Field(6, ge=1)  # of the same words in a row
    max_repetition: float | None = Field(0.3, ge=0)  # characters in five words in a row that were there before
    max_copied: float | None = Field(0.85, ge=0, le=1)  # shingles of the answer that are the source's
    min_overlap: float | None = Field(0.18, ge=0, le=1)  # runs of letters of the answer that are the source's
    min_survivors: float | None = Field(0.2, ge=0, le=1)  # of a translation: numbers, addresses, Latin names
    max_invented_numbers: int | None = Field(0, ge=0)
    max_invented_urls: int | None = Field(0, ge=0)
    max_invented_names: int | None = Field(2, ge=0)


DEFAULT = Limits()


@dataclass(frozen=True)
class Verdict:
    """Why a text is rejected, and the figure that was compared with a limit, where there is one."""

    reason: str
    measured: float | None = None


def finished(completion: Completion) -> Verdict | None:
    """What a completion's end says against it: its error, `truncated`, `empty`; None for one that is an answer."""
    if completion.finish_reason == ERROR:
        return Verdict(completion.error or ERROR)
    if completion.finish_reason == LENGTH:
        return Verdict(TRUNCATED, float(completion.tokens_out))
    return empty(completion.text)


def check(
    text: str,
    *,
    language: Language,
    limits: Limits = DEFAULT,
    source: str | None = None,
    same_language: bool = True,
    prompt: str = "",
) -> Verdict | None:
    """The first reason against `text` as an answer in `language`, in the order of the module; None if there is none.

    `source` is what it was made from, in the same language or not; `prompt` the instructions that were given with it.
    Without a source nothing is compared with one.
    """
    text = readable(text)
    source = None if source is None else readable(source)
    verdict = (
        empty(text)
        or (leaked_prompt(text, prompt, source or "") if limits.leaks else None)
        or (refusal(text, language, source or "") if limits.phrases else None)
        or (meta_text(text, language, source or "") if limits.phrases else None)
        or wrong_script(text, language, limits, source or "")
        or wrong_language(text, language, limits)
        or (length_ratio(text, source, limits, same_language) if source is not None else None)
        or repetition(text, language, limits)
    )
    if verdict or source is None:
        return verdict
    return (
        (overlap(text, source, language, limits) if same_language else survivors(text, source, language, limits))
        or invented(text, source, language, limits, same_language)
        or None
    )


def readable(text: str) -> str:
    """`text` with `?` for each lone surrogate, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


_SOMETHING = regex.compile(r"[\p{L}\p{N}]")


def empty(text: str) -> Verdict | None:
    """`empty`: neither a letter nor a digit."""
    return None if _SOMETHING.search(text) else Verdict(EMPTY)


_MARKS = regex.compile(
    r"<\|(?:im_start|im_end|endoftext|system|user|assistant|eot_id|start_header_id|end_header_id|end)\|>"
    r"|</?think>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|\[\[\s*[a-z_]+\s*\]\]|\{\{\s*[a-z_]+\s*\}\}",
    regex.IGNORECASE,
)
_SENTENCE = regex.compile(r"[^\n.!?。！？।؟។။።]+")
_LEAST_LEAK = 30  # characters of a sentence of the prompt; shorter ones are anybody's


def leaked_prompt(text: str, prompt: str, source: str = "") -> Verdict | None:
    """`prompt_leak`: a mark of a chat template or placeholder, or a sentence of `prompt`, that `source` lacks."""
    for mark in _MARKS.findall(text):
        if mark not in source:
            return Verdict("prompt_leak")
    if not prompt:
        return None
    answer, known = _plain(text), _plain(source)
    for sentence in _SENTENCE.findall(prompt):
        plain = _plain(sentence)
        if len(plain) >= _LEAST_LEAK and plain in answer and plain not in known:
            return Verdict("prompt_leak")
    return None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def refusal(text: str, language: Language, source: str = "") -> Verdict | None:
    """`refusal`: the model says that it cannot or will not, or that it is one; `source` does not."""
    found = phrases.refusal_phrase(text, language.code)
    return None if found is None or phrases.holds(source, found) else Verdict("refusal")


def meta_text(text: str, language: Language, source: str = "") -> Verdict | None:
    """`meta_text`: the model speaks of its answer, at the beginning or the end; `source` does not."""
    found = phrases.meta_phrase(text, language.code)
    return None if found is None or phrases.holds(source, found) else Verdict("meta_text")


def wrong_script(text: str, language: Language, limits: Limits = DEFAULT, source: str = "") -> Verdict | None:
    """`wrong_script`: too few letters in the language's scripts, or any in one that nothing accounts for."""
    own, foreign = script_shares(prose(text), language, source)
    if limits.min_own_letters is not None and own < limits.min_own_letters:
        return Verdict("wrong_script", own)
    if limits.max_foreign_letters is not None and foreign > limits.max_foreign_letters:
        return Verdict("wrong_script", foreign)
    return None


def wrong_language(text: str, language: Language, limits: Limits = DEFAULT) -> Verdict | None:
    """`wrong_language`: more of it than allowed is of another language for certain."""
    if limits.max_other_language is None:
        return None
    share = other_language(prose(text), language)
    return Verdict("wrong_language", share) if share > limits.max_other_language else None


# A letter of a script, in letters of the Latin script: what says as much in translation.
# Marks are no letters, so that Indic letters weigh more. Such that the medians of 123 news stories that people
# translated from English are 0.95 to 1.25 of it in each of 62 languages.
_LETTER = {
    **{"Hani": 2.8, "Hira": 1.7, "Kana": 1.7, "Hang": 2.1, "Ethi": 1.6, "Arab": 1.1, "Hebr": 1.3, "Thai": 1.15},
    **{"Laoo": 1.15, "Khmr": 1.25, "Mymr": 1.55, "Beng": 1.7, "Deva": 1.7, "Gujr": 1.75, "Guru": 1.8, "Telu": 1.75},
    "Taml": 1.3,
}


def units(text: str) -> float:
    """The length of a text in letters of the Latin script, whatever its own."""
    return sum(letters * _LETTER.get(script, 1.0) for script, letters in script_letters(text).items())


def length_ratio(text: str, source: str, limits: Limits = DEFAULT, same_language: bool = True) -> Verdict | None:
    """`too_short` or `too_long`: the length to the source's, in `units`."""
    length = units(source)
    if not length:
        return None
    least, most = limits.min_length_ratio, limits.max_length_ratio
    if not same_language:
        least, most = limits.min_translated_ratio, limits.max_translated_ratio
    ratio = round(units(text) / length, 4)
    if least is not None and ratio < least:
        return Verdict("too_short", ratio)
    return Verdict("too_long", ratio) if most is not None and ratio > most else None


_LONGEST_TURN = 16  # words of what a loop says over and over
_LETTER_RUN = regex.compile(r"(\p{L})\1{19,}")


def repetition(text: str, language: Language, limits: Limits = DEFAULT) -> Verdict | None:
    """`repetition`: the model says the same over and over, or too much of it in runs of five words that were there."""
    words = split_words(text, language)
    if limits.max_turns is not None:
        turns = loop_turns(words)
        if turns > limits.max_turns or _LETTER_RUN.search(text):
            return Verdict("repetition", turns)
    if limits.max_repetition is not None:
        share = round(duplicate_n_grams(text, words, 5), 4)
        if share > limits.max_repetition:
            return Verdict("repetition", share)
    return None


def loop_turns(words: list[str]) -> int:
    """How many times in a row the same words come, of up to sixteen words at a time; words of signs only left out."""
    known: dict[str, int] = {}
    said = [known.setdefault(word, len(known)) for word in words if word[0].isalnum() or word[-1].isalnum()]
    ids = np.array(said, np.int64)
    most = min(1, len(said))
    if len(known) == len(said):
        return most
    for period in range(1, min(_LONGEST_TURN, len(ids) // 2) + 1):
        apart = np.flatnonzero(ids[period:] != ids[:-period])  # where a run of equals is broken
        places = np.concatenate([[-1], apart, [len(ids) - period]])
        most = max(most, 1 + int((places[1:] - places[:-1]).max() - 1) // period)
    return most


def overlap(text: str, source: str, language: Language, limits: Limits = DEFAULT) -> Verdict | None:
    """`copied` or `off_topic`: what a text shares with a source of the same language."""
    if limits.max_copied is not None:
        share = copied_share(text, source, language)
        if share > limits.max_copied:
            return Verdict("copied", share)
    if limits.min_overlap is not None:
        share = topic_share(text, source, language)
        if share < limits.min_overlap * min(1.0, max(_LEAST_OF_LIMIT, units(source) / _FULL_LIMIT)):
            return Verdict("off_topic", share)
    return None


def copied_share(text: str, source: str, language: Language) -> float:
    """The share of the shingles of `text` that are shingles of `source`."""
    hashes, bounds = _shingler(language)(texts_of(pa.array([text, source], pa.string())))
    answer, known = hashes[: bounds[1]], hashes[bounds[1] : bounds[2]]
    return round(float(np.isin(answer, known).mean()), 4) if len(answer) else 0.0


@cache
def _shingler(language: Language) -> Shingler:
    return Sign().shingler(language)


def topic_share(text: str, source: str, language: Language) -> float:
    """The share of the runs of letters inside words of `text` that `source` has too; 1 for a text without any."""
    answer = _runs(text, language)
    return round(len(answer & _runs(source, language)) / len(answer), 4) if answer else 1.0


# The less a source says, the less of it can be met by chance, and the less of its words a rewrite has to choose from:
# below 1,000 letters the limit falls with the length, to two fifths.
_FULL_LIMIT, _LEAST_OF_LIMIT = 1_000, 0.4
# Letters of a run: so many that unrelated documents of a language share a fifth of theirs at most (19 of 20 pairs of
# clean documents). Inside words, because what is inflected or has a prefix keeps most of its runs. In Japanese of Han
# and katakana alone: kana are endings, which a change of style replaces.
_RUN = 5
_RUNS = {"Hans": 2, "Hang": 2, "Jpan": 2, "Ethi": 3, "Arab": 4, "Hebr": 4, "Deva": 4}
_WORDS = regex.compile(r"[\p{L}\p{M}]+")
_JAPANESE = regex.compile(r"[\p{Han}\p{Katakana}ー]+")


def _runs(text: str, language: Language) -> set[str]:
    size = _RUNS.get(language.scripts[0], _RUN)
    words = (_JAPANESE if language.code == "jpn_Jpan" else _WORDS).findall(text.casefold())
    if language.code == "vie_Latn":  # written in syllables, of which few are as long as a run
        words = [" ".join(words)]
    return {word[i : i + size] for word in words for i in range(len(word) - size + 1)}


_LEAST_SURVIVORS = 4


def survivors(text: str, source: str, language: Language, limits: Limits = DEFAULT) -> Verdict | None:
    """`off_topic` of a translation: too few of the source's numbers and addresses are in it."""
    if limits.min_survivors is None:
        return None
    kept, all_of_them = claims.surviving(source, text, language)
    if all_of_them < _LEAST_SURVIVORS:
        return None
    share = round(kept / all_of_them, 4)
    return Verdict("off_topic", share) if share < limits.min_survivors else None


def invented(
    text: str, source: str, language: Language, limits: Limits = DEFAULT, same_language: bool = True
) -> Verdict | None:
    """`invented_url`, `invented_number`, `invented_name`: more than allowed of what the source does not hold."""
    if limits.max_invented_urls is not None:
        count = len(claims.invented_urls(text, source))
        if count > limits.max_invented_urls:
            return Verdict("invented_url", count)
    if limits.max_invented_numbers is not None:
        count = len(claims.invented_numbers(text, source, language, translated=not same_language))
        if count > limits.max_invented_numbers:
            return Verdict("invented_number", count)
    if limits.max_invented_names is not None and same_language:
        count = len(claims.invented_names(text, source, language))
        if count > limits.max_invented_names:
            return Verdict("invented_name", count)
    return None
