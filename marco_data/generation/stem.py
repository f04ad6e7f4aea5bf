"""STEM in other languages: an English problem or explanation in, the same in the wanted language out.

Problem, solution and answer are found (`problem.py`), their formulas, code and addresses masked (`masks.py`), and the
model translates and adapts the rest inside the same tags (not JSON, in which LaTeX would have to be escaped). Then
the masked pieces have to be back, the answer the same and every number of the problem there, by value
(`answers.py`); the guards judge the prose. With `verify`, the translated problem is solved again without its solution
so many times, and most of those answers must be the key. Does not know whether the English was right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import regex
from pydantic import Field, field_validator

from marco_data.generation.answers import lost_numbers, same_answer
from marco_data.generation.chunks import chunks
from marco_data.generation.claims import invented_numbers
from marco_data.generation.generator import ERROR, NOT_RECORDED, REFUSED_BY_SERVER, TOO_LONG, Ask, Completion
from marco_data.generation.guards import Limits, Verdict, check, finished
from marco_data.generation.maker import Made, Maker, Seed
from marco_data.generation.masks import Masked, mask, prose, unmask
from marco_data.generation.parts import CHUNK_FAILED, UNPARSABLE, ask_all
from marco_data.generation.problem import Explanation, Problem, find
from marco_data.generation.prompt import load_prompt
from marco_data.generation.rephrase import ANSWER_REASONS, KNOWN, checked_prompt, values_for, with_prompts
from marco_data.generation.wording import wording
from marco_data.languages import LANGUAGES, Language

_ENGLISH = LANGUAGES["eng_Latn"]
_NOT_ANSWERED = frozenset({ERROR, NOT_RECORDED, REFUSED_BY_SERVER, TOO_LONG})

Part = Literal["problem", "solution", "answer", "explanation"]


class ProblemLimits(Limits):
    """Limits of short problems, which repeat their words: of 2,500 translated by people, 18 are above 0.3, none 0.5."""

    max_repetition: float | None = Field(0.5, ge=0)


class Stem(Maker):
    """Translates and adapts English STEM text."""

    name: ClassVar[str] = "stem"
    part: ClassVar[str] = "multilingual_stem"
    translates: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = ANSWER_REASONS | {
        *("no_problem_found", "placeholder_lost", "answer_changed", "number_lost", "inconsistent_answer", CHUNK_FAILED),
    }

    prompt: str = "stem_translate@1"
    solve_prompt: str = "stem_solve@1"
    kinds: tuple[Literal["problem", "explanation"], ...] = ("problem", "explanation")
    chunk_tokens: int = Field(2_000, ge=100)  # estimated tokens of an explanation's text; a problem is never cut
    verify: int = Field(0, ge=0, le=64)  # times that the translated problem is solved
    max_lost_numbers: float = Field(0.1, ge=0, le=1)  # of a solution or explanation; a problem may lose none
    limits: ProblemLimits = ProblemLimits()

    @field_validator("prompt")
    @classmethod
    def _is_a_prompt(cls, name: str) -> str:
        checked_prompt(name, KNOWN)
        return name

    @field_validator("solve_prompt")
    @classmethod
    def _is_a_prompt_to_solve(cls, name: str) -> str:
        checked_prompt(name, KNOWN - {"document"} | {"problem"}, needed=("problem",))
        return name

    def identity(self) -> dict[str, Any]:
        """The prompts by name and content; the one for solving means nothing where it is not asked."""
        prompts = {"prompt": self.prompt, "solve_prompt": self.solve_prompt} if self.verify else {"prompt": self.prompt}
        loaded = {field: load_prompt(name) for field, name in prompts.items()}
        named = {field: [prompt.name, prompt.digest] for field, prompt in loaded.items()}
        return with_prompts(super().identity(), **{"solve_prompt": [], **named})

    def later_calls(self) -> Mapping[str, int]:
        """A problem is solved again once its translation has passed."""
        return {load_prompt(self.solve_prompt).name: self.verify} if self.verify else {}

    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        """The seed in `language`. A further ordinal is another sample of the same translation."""
        found = find(seed.text) if seed.language == _ENGLISH.code else None
        kind = "problem" if isinstance(found, Problem) else "explanation"
        if found is None or kind not in self.kinds:
            return Made(reason="no_problem_found", rejected_text=seed.text)
        asked = _Asked(self, language, ordinal, ask, attempt)
        made = await (asked.explanation(found) if isinstance(found, Explanation) else asked.problem(found))
        return replace(made, labels={"kind": kind, **made.labels})


class _Asked:
    """One wanted document: what all its requests share."""

    def __init__(self, maker: Stem, language: Language, ordinal: int, ask: Ask, attempt: int) -> None:
        self.maker, self.language, self.ordinal, self.attempt = maker, language, ordinal, attempt
        self.ask = ask
        self.prompt = load_prompt(maker.prompt)

    async def problem(self, found: Problem) -> Made:
        parts: dict[Part, str] = {"problem": found.problem, "answer": found.answer}
        if found.solution:
            parts = {"problem": found.problem, "solution": found.solution, "answer": found.answer}
        made, texts = (await self._translated([parts]))[0]
        if made.reason:
            return made
        if not same_answer(found.answer, texts["answer"]):
            return _rejected(made, "answer_changed")
        words = wording(self.language.code)
        labels = {"problem": words.problem, "solution": words.solution, "answer": words.answer}
        text = "\n\n".join(words.labelled(labels[part], texts[part]) for part in texts)
        made = replace(made, text=text, rejected_text="", labels={"key": found.answer})
        return await self._verified(made, texts["problem"], found.answer) if self.maker.verify else made

    async def explanation(self, found: Explanation) -> Made:
        pieces = [piece.strip() for piece in chunks(found.text, _ENGLISH, self.maker.chunk_tokens)]
        answers = await self._translated([{"explanation": piece} for piece in pieces])
        failed = sorted((made for made, _ in answers if made.reason), key=lambda made: made.reason not in _NOT_ANSWERED)
        if failed and (len(pieces) == 1 or failed[0].reason in _NOT_ANSWERED):
            return failed[0]
        if failed:
            made = replace(failed[0], labels={"chunk_reason": str(failed[0].reason)})
            return _rejected(made, CHUNK_FAILED, round(len(failed) / len(pieces), 4))
        text = "\n\n".join(texts["explanation"] for _, texts in answers)
        return replace(answers[0][0], text=text, rejected_text="")

    async def _translated(self, texts: Sequence[Mapping[Part, str]]) -> list[tuple[Made, Mapping[Part, str]]]:
        """Each text's parts in the language with a Made to fill, or with a Made that says why not."""
        masked = [_masked(parts) for parts in texts]
        framed = ["\n".join(f"<{p}>\n{m.text}\n</{p}>" for p, m in parts.items()) for parts in masked]
        values = [values_for(self.prompt, self.language, document=text) for text in framed]
        requests = [self.prompt.request(one, sample=self.ordinal, attempt=self.attempt) for one in values]
        completions = await ask_all(self.ask, requests)
        return [self._read(parts, answer) for parts, answer in zip(masked, completions, strict=True)]

    def _read(self, masked: Mapping[Part, Masked], completion: Completion) -> tuple[Made, Mapping[Part, str]]:
        made = Made(rejected_text=completion.text, prompts=(self.prompt.name,))
        if verdict := finished(completion):
            return _rejected(made, verdict.reason, verdict.measured), {}
        answer = parse(completion.text, tuple(masked))
        if answer is None:
            return _rejected(made, UNPARSABLE), {}
        whole = _unmasked(masked, answer)
        if whole is None:
            return _rejected(made, "placeholder_lost"), {}
        verdict = self._judged(masked, answer)
        return (_rejected(made, verdict.reason, verdict.measured) if verdict else made), whole

    def _judged(self, masked: Mapping[Part, Masked], answer: Mapping[Part, str]) -> Verdict | None:
        """What speaks against the prose of a translation, masked pieces aside: its numbers, then the guards."""
        before = {part: prose(piece.text) for part, piece in masked.items() if part != "answer"}
        after = {part: prose(answer[part]) for part in before}
        for part, source in before.items():
            lost = lost_numbers(source, after[part])
            share = round(len(lost) / len(numbers), 4) if (numbers := lost_numbers(source, "")) else 0.0
            if share > (0.0 if part == "problem" else self.maker.max_lost_numbers):
                return Verdict("number_lost", share)
        source, text = "\n\n".join(before.values()), "\n\n".join(after.values())
        # Guards forgive a translator who converts miles; here quantities stay: 4 of 2,500 by people fail this.
        if invented := invented_numbers(text, source, self.language):
            return Verdict("invented_number", float(len(invented)))
        return check(
            text,
            language=self.language,
            limits=self.maker.limits,
            source=source,
            same_language=False,
            prompt=self.prompt.instructions(values_for(self.prompt, self.language)),
        )

    async def _verified(self, made: Made, problem: str, key: str) -> Made:
        """Rejected unless most of the answers to the translated problem are the key."""
        prompt = load_prompt(self.maker.solve_prompt)
        values = values_for(prompt, self.language, problem=problem)
        samples = range(self.ordinal * self.maker.verify, (self.ordinal + 1) * self.maker.verify)
        requests = [prompt.request(values, sample=sample, attempt=self.attempt) for sample in samples]
        completions = await ask_all(self.ask, requests)
        made = replace(made, prompts=(*made.prompts, prompt.name))
        for completion in completions:
            if completion.finish_reason == ERROR and (verdict := finished(completion)):
                return _rejected(made, verdict.reason)
        answers = [None if finished(completion) else parse_solution(completion.text) for completion in completions]
        right = sum(answer is not None and same_answer(key, answer) for answer in answers)
        share = round(right / len(answers), 4)
        if right * 2 > len(answers):
            return replace(made, labels={**made.labels, "solved": str(share)})
        return _rejected(made, "answer_changed" if _agree(answers) else "inconsistent_answer", share)


def parse(text: str, parts: Sequence[Part]) -> dict[Part, str] | None:
    """The parts of an answer in tags, each there once, in order and not empty; None for anything else."""
    pattern = r"\s*".join(rf"<{part}>(?P<{part}>.*?)</{part}>" for part in parts)
    tags = regex.findall(r"</?(?:problem|solution|answer|explanation)>", text)
    found = regex.search(pattern, text, regex.DOTALL)
    if found is None or tags != [tag for part in parts for tag in (f"<{part}>", f"</{part}>")]:
        return None
    answer: dict[Part, str] = {part: found[part].strip() for part in parts}
    return answer if all(answer.values()) else None


def parse_solution(text: str) -> str | None:
    """What a solver wrote between the last answer tags."""
    found = regex.findall(r"<answer>\s*((?:(?!</?answer>).)+?)\s*</answer>", text, regex.DOTALL)
    return str(found[-1]) if found else None


def _masked(parts: Mapping[Part, str]) -> dict[Part, Masked]:
    """The parts masked, their placeholders numbered on from one to the next."""
    masked: dict[Part, Masked] = {}
    for part, text in parts.items():
        masked[part] = mask(text, first=1 + sum(len(other.pieces) for other in masked.values()))
    return masked


def _unmasked(masked: Mapping[Part, Masked], answer: Mapping[Part, str]) -> dict[Part, str] | None:
    whole: dict[Part, str] = {}
    first = 1
    for part, piece in masked.items():
        text = unmask(answer[part], piece.pieces, first)
        if text is None:
            return None
        whole[part] = text
        first += len(piece.pieces)
    return whole


def _agree(answers: Sequence[str | None]) -> bool:
    """Whether more than half of the answers are one and the same."""
    return any(
        sum(other is not None and same_answer(answer, other) for other in answers) * 2 > len(answers)
        for answer in answers
        if answer is not None
    )


def _rejected(made: Made, reason: str, measured: float | None = None) -> Made:
    return replace(
        made, text=None, reason=reason, measured=measured, rejected_text=made.rejected_text or made.text or ""
    )
