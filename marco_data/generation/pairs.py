"""Questions with answers, read from what a model wrote, judged one by one, and laid out as text.

In: JSON of the schema in `prompts/diverse_qa@1.yaml` and the passage it is about. Out: pairs that pass, and a verdict
for each that does not. What is read is not taken on trust where the server kept no schema. Knows no maker.
"""

import json
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marco_data.generation import guards
from marco_data.generation.frame import strip_frame
from marco_data.generation.guards import Limits, Verdict
from marco_data.generation.parts import UNPARSABLE
from marco_data.generation.wording import Wording
from marco_data.languages import Language

NOT_DISTINCT, INCONSISTENT, UNSUPPORTED = "options_not_distinct", "inconsistent_answer", "unsupported_answer"

REASONS = guards.REASONS | {UNPARSABLE, NOT_DISTINCT, INCONSISTENT, UNSUPPORTED}

LEAST_OPTIONS = 3
_LETTERS = "ABCDEFGH"

_LETTERED = regex.compile(r"^\(?([A-Ha-h])[).:．、）]\s*")
_LETTER_ALONE = regex.compile(r"^\(?([A-Ha-h])[).:．、）]?$")

Line = Annotated[str, Field(max_length=4000)]


class Pair(BaseModel):
    """A question and its answer. Of a multiple choice the answer is one of the options, word for word."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["yes_no", "open", "multiple_choice", "comparison", "comprehension", "problem_solving"]
    question: Line
    answer: Line
    options: tuple[Line, ...] | None = Field(None, max_length=len(_LETTERS))


def read_pairs(completion: str) -> list[Pair | Verdict] | Verdict:
    """The pairs of a completion, each for itself `unparsable` where it is none; the whole where it is not such JSON.

    Text with an escaped lone surrogate is none.
    """
    try:
        value = json.loads(strip_frame(completion))
    except (ValueError, RecursionError):
        return Verdict(UNPARSABLE)
    if not isinstance(value, dict) or not isinstance(value.get("pairs"), list):
        return Verdict(UNPARSABLE)
    return [_pair(item) for item in value["pairs"]]


def _pair(item: object) -> Pair | Verdict:
    try:
        pair = Pair.model_validate(item)
    except ValidationError:
        return Verdict(UNPARSABLE)
    options = tuple(map(_line, pair.options or ())) if pair.kind == "multiple_choice" else None
    if (
        options
        and [found[1].upper() for o in options if (found := _LETTERED.match(o))] == list(_LETTERS)[: len(options)]
    ):
        options = tuple(_LETTERED.sub("", option) for option in options)
    return Pair(kind=pair.kind, question=_line(pair.question), answer=_line(pair.answer), options=options)


def _line(text: str) -> str:
    return " ".join(text.split())


def judge(
    pair: Pair, passage: str, language: Language, limits: Limits, min_support: float, prompt: str
) -> Pair | Verdict:
    """The pair with its answer as it stands among the options; or the first thing against it."""
    for text in (pair.question, pair.answer):
        if found := guards.empty(text):
            return found
    if pair.kind == "multiple_choice":
        options = pair.options or ()
        distinct = {folded(option) for option in options} - {""}
        if len(distinct) < max(LEAST_OPTIONS, len(options)):
            return Verdict(NOT_DISTINCT, float(len(distinct)))
        answer = _chosen(pair.answer, options)
        if answer is None:
            return Verdict(INCONSISTENT)
        pair = pair.model_copy(update={"answer": answer})
    return (
        _language(pair, passage, language, limits, prompt)
        or _support(pair, passage, language, limits, min_support)
        or pair
    )


def _language(pair: Pair, passage: str, language: Language, limits: Limits, prompt: str) -> Verdict | None:
    for text in (pair.question, pair.answer):
        found = guards.leaked_prompt(text, prompt, passage) if limits.leaks else None
        if not found and limits.phrases:
            found = guards.refusal(text, language) or guards.meta_text(text, language, passage)
        if found:
            return found
    whole = "\n".join((pair.question, *(pair.options or ()), pair.answer))
    return guards.wrong_script(whole, language, limits, passage) or guards.wrong_language(whole, language, limits)


def _support(pair: Pair, passage: str, language: Language, limits: Limits, min_support: float) -> Verdict | None:
    if limits.min_overlap is not None:
        share = guards.topic_share(pair.question, passage, language)
        if share < limits.min_overlap:
            return Verdict("off_topic", share)
    # What is worked out is not in the passage; a wrong option may be anything but must not be another language.
    derived = limits.model_copy(update={"max_invented_numbers": None})
    known = f"{passage}\n{pair.question}"
    found = guards.invented(pair.question, passage, language, limits) or guards.invented(
        pair.answer, known, language, derived if pair.kind == "problem_solving" else limits
    )
    if found or pair.kind in ("yes_no", "problem_solving"):
        return found
    share = guards.topic_share(pair.answer, known, language)
    return Verdict(UNSUPPORTED, share) if share < min_support else None


def folded(text: str) -> str:
    """What two options have in common that say the same: letters, digits and signs of numbers, without case."""
    return str(regex.sub(r"[^\p{L}\p{M}\p{N}\p{S}]+", " ", unicodedata.normalize("NFKC", text).casefold())).strip()


def _chosen(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer names: by its text, its letter, or both where they agree."""
    named = {folded(option): option for option in options}
    if folded(answer) in named:
        return named[folded(answer)]
    if alone := _LETTER_ALONE.match(answer):
        place = _LETTERS.index(alone[1].upper())
        return options[place] if place < len(options) else None
    if lettered := _LETTERED.match(answer):
        place = _LETTERS.index(lettered[1].upper())
        option = named.get(folded(_LETTERED.sub("", answer)))
        return option if place < len(options) and option == options[place] else None
    return None


def written(pair: Pair, words: Wording) -> str:
    """The pair as text: `Question: ...`, options as `A) ...` a line each, `Answer: B) ...`, labels in the language."""
    options = [f"{letter}) {option}" for letter, option in zip(_LETTERS, pair.options or (), strict=False)]
    answer = options[(pair.options or ()).index(pair.answer)] if options else pair.answer
    return "\n".join((words.labelled(words.question, pair.question), *options, words.labelled(words.answer, answer)))
