"""Regional multiple choice: a document that tells of one region's culture in, a question that needs that culture out.

Calls: the document is scored for cultural density (0 to 5), then unfolded region -> topic -> subtopic -> entity ->
angle, a leaf for each question; these two requests are equal for all questions of a seed, so they are paid once. One
call writes the question of a leaf. It is well formed (`mcq_items.py`), in its language (`guards.py`), solved with the
document by samples that see the options in different orders, and without it, which tells how hard it is. `finish`
lays the keys out over A to D. Does not know whether the document is right.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, TypeVar

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from marco_data.generation.generator import ERROR, Ask, Request
from marco_data.generation.guards import Limits, check, finished
from marco_data.generation.maker import Made, Maker, Seed
from marco_data.generation.mcq_items import (
    COUNTRIES,
    LETTERS,
    TOPICS,
    Item,
    malformed,
    orders,
    placed,
    positions,
    rendered,
    shown,
    unlettered,
)
from marco_data.generation.parts import UNPARSABLE, ask_all
from marco_data.generation.prompt import load_prompt
from marco_data.generation.rephrase import ANSWER_REASONS, KNOWN, checked_prompt, values_for, with_prompts
from marco_data.generation.wording import wording
from marco_data.languages import Language

Letter = Literal["A", "B", "C", "D"]

_PLACE = KNOWN | {"region", "country", "topic"}
_VALUES: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "score_prompt": (("document",), KNOWN),
    "expand_prompt": (("document",), _PLACE | {"entities", "count"}),
    "write_prompt": (("document",), _PLACE | {"subtopic", "entity", "angle"}),
    "solve_prompt": (("document", "question", "options"), KNOWN | {"question", "options"}),
    "closed_prompt": (("question", "options"), KNOWN - {"document"} | {"question", "options"}),
}
"""The values that each prompt has to have a place for, and those it may have one for."""


class Answer(BaseModel):
    """Part of what a model answers in JSON; keys beside those asked for are left."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)


class Score(Answer):
    """How much of one region's culture a document tells."""

    density: int = Field(ge=0, le=5)
    region: str = ""
    country: str = ""
    topic: str = ""
    entities: tuple[str, ...] = ()


class Leaf(Answer):
    """What one question shall be about."""

    subtopic: str = Field(min_length=1)
    entity: str = Field(min_length=1)
    angle: str = Field(min_length=1)


class Leaves(Answer):
    """The leaves of one document, the best first."""

    leaves: tuple[Leaf, ...]

    def distinct(self) -> list[Leaf]:
        """Without those that say the same of the same."""
        first: dict[tuple[str, str], Leaf] = {}
        for leaf in self.leaves:
            first.setdefault((leaf.entity.casefold(), leaf.angle.casefold()), leaf)
        return list(first.values())


class Written(Answer):
    """A question as the model wrote it."""

    question: str = Field(min_length=1)
    options: tuple[str, ...]
    key: Letter
    explanation: str = Field(min_length=1)
    country: str
    topic: str


class Solved(Answer):
    """An answer to a question; `also_right` are further options that hold as well."""

    answer: Letter
    also_right: tuple[str, ...] = ()


_Answer = TypeVar("_Answer", bound=Answer)


class QuestionLimits(Limits):
    """Limits of questions and options, which say the same words more often than prose does."""

    max_repetition: float | None = Field(0.5, ge=0)


class Mcq(Maker):
    """Writes and validates questions about the culture that a document tells of."""

    name: ClassVar[str] = "mcq"
    part: ClassVar[str] = "regional_mcq"
    reasons: ClassVar[frozenset[str]] = ANSWER_REASONS | {
        *(
            "not_cultural",
            "no_leaf",
            "options_not_distinct",
            "all_or_none",
            "names_a_letter",
            "never_solved",
            "unsupported_answer",
        ),
        *("ambiguous_answer", "inconsistent_answer", "too_easy"),
    }

    score_prompt: str = "mcq_score@1"
    expand_prompt: str = "mcq_expand@1"
    write_prompt: str = "mcq_write@1"
    solve_prompt: str = "mcq_solve@1"
    closed_prompt: str = "mcq_closed@1"
    min_density: int = Field(4, ge=0, le=5)
    questions: int = Field(2, ge=1, le=64)  # wanted of each seed
    leaves: int = Field(4, ge=1, le=64)  # asked for; more than questions, because some are alike
    open_book: int = Field(4, ge=1, le=32)  # samples with the document; fours see every option at every place
    closed_book: int = Field(4, ge=0, le=32)  # samples without it; 0 leaves the difficulty unknown
    min_agreement: float = Field(0.75, gt=0, le=1)  # of the samples with the document that give the key
    too_easy: float | None = Field(1.0, gt=0, le=1)  # the share of samples without it from which on; None: never
    limits: QuestionLimits = QuestionLimits()

    @field_validator(*_VALUES)
    @classmethod
    def _is_a_prompt(cls, name: str, info: ValidationInfo) -> str:
        needed, known = _VALUES[str(info.field_name)]
        checked_prompt(name, known, needed)
        return name

    @model_validator(mode="after")
    def _leaves_for_all_questions(self) -> Self:
        if self.leaves < self.questions:
            raise ValueError(f"{self.questions} questions need as many leaves, not {self.leaves}: raise `leaves`")
        return self

    @property
    def ordinals(self) -> int:
        """A document for each question."""
        return self.questions

    def identity(self) -> dict[str, Any]:
        """The prompts by name and content."""
        prompts = {field: load_prompt(getattr(self, field)) for field in _VALUES}
        return with_prompts(super().identity(), **{field: [p.name, p.digest] for field, p in prompts.items()})

    def later_calls(self) -> Mapping[str, int]:
        """A question is written for a leaf, and solved once it is well formed."""
        asked = {self.write_prompt: 1, self.solve_prompt: self.open_book, self.closed_prompt: self.closed_book}
        return {load_prompt(name).name: number for name, number in asked.items()}

    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        """The `ordinal`-th question about the seed, in its language; its key's place is not yet the final one."""
        asked = _Asked(self, seed, language, ask, attempt)
        try:
            score = await asked.score()
            leaf = await asked.leaf(score, ordinal)
            item = await asked.write(score, leaf)
            await asked.solve(item)
            await asked.solve_closed(item)
        except _Rejected as rejected:
            return Made(
                reason=rejected.reason,
                measured=rejected.measured,
                rejected_text=asked.last,
                prompts=tuple(asked.prompts),
                labels=asked.labels,
            )
        parts = {"item": item, "language": language.code}
        return Made(
            rendered(item, wording(language.code)), prompts=tuple(asked.prompts), labels=asked.labels, parts=parts
        )

    def finish(self, accepted: Sequence[Made], salt: str) -> list[Made]:
        """The keys laid out over A to D, the other options behind them drawn."""
        done = []
        for made, place in zip(accepted, positions(len(accepted), salt), strict=True):
            item = placed(made.parts["item"], place, salt)
            text = rendered(item, wording(made.parts["language"]))
            done.append(replace(made, text=text, parts={**made.parts, "item": item}))
        return done


class _Rejected(Exception):
    """Ends the making of one question."""

    def __init__(self, reason: str, measured: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.measured = reason, measured


class _Asked:
    """One wanted question: what its requests share, what was answered last, what is known about it."""

    def __init__(self, maker: Mcq, seed: Seed, language: Language, ask: Ask, attempt: int) -> None:
        self.maker, self.seed, self.language, self.ask, self.attempt = maker, seed, language, ask, attempt
        self.last = ""
        self.prompts: list[str] = []
        self.labels: dict[str, str] = {}

    def _request(self, prompt_name: str, values: Mapping[str, str], sample: int = 0) -> Request:
        prompt = load_prompt(prompt_name)
        if prompt.name not in self.prompts:
            self.prompts.append(prompt.name)
        return prompt.request(values_for(prompt, self.language, **values), sample=sample, attempt=self.attempt)

    async def _parsed(self, prompt_name: str, values: dict[str, str], kind: type[_Answer]) -> _Answer:
        completion = await self.ask(self._request(prompt_name, values))
        self.last = completion.text
        if verdict := finished(completion):
            raise _Rejected(verdict.reason, verdict.measured)
        answer = parse(completion.text, kind)
        if answer is None:
            raise _Rejected(UNPARSABLE)
        return answer

    async def score(self) -> Score:
        score = await self._parsed(self.maker.score_prompt, {"document": self.seed.text}, Score)
        self.labels["density"] = str(score.density)
        if score.density < self.maker.min_density:
            raise _Rejected("not_cultural", float(score.density))
        if score.topic not in TOPICS or score.country not in COUNTRIES or not score.region:
            raise _Rejected(UNPARSABLE)
        return score

    async def leaf(self, score: Score, ordinal: int) -> Leaf:
        values = {
            "document": self.seed.text,
            "region": score.region,
            "country": score.country,
            "topic": score.topic,
            "entities": "; ".join(score.entities),
            "count": str(self.maker.leaves),
        }
        leaves = (await self._parsed(self.maker.expand_prompt, values, Leaves)).distinct()
        if ordinal >= len(leaves):
            raise _Rejected("no_leaf", float(len(leaves)))
        return leaves[ordinal]

    async def write(self, score: Score, leaf: Leaf) -> Item:
        values = {
            "document": self.seed.text,
            "region": score.region,
            "country": score.country,
            "topic": score.topic,
            **leaf.model_dump(),
        }
        written = await self._parsed(self.maker.write_prompt, values, Written)
        if written.topic not in TOPICS or written.country not in COUNTRIES:
            raise _Rejected(UNPARSABLE)
        options = unlettered(written.options)
        item = Item(written.question, options, LETTERS.index(written.key), written.explanation)
        if against := malformed(item, self.language):
            raise _Rejected(*against)
        self._guard(item)
        self.labels |= {
            "region": score.region,
            "country": written.country,
            "topic": written.topic,
            "subtopic": leaf.subtopic,
            "entity": leaf.entity,
            "longest_is_key": str(item.longest_is_key).lower(),
        }
        return item

    def _guard(self, item: Item) -> None:
        prompt = load_prompt(self.maker.write_prompt)
        told = prompt.instructions(values_for(prompt, self.language))
        # Options repeat each other's words by nature: not judged for repetition.
        lists = self.maker.limits.model_copy(update={"max_repetition": None})
        prose, choice = f"{item.question}\n{item.explanation}", "\n".join((item.question, *item.options))
        for text, limits in ((prose, self.maker.limits), (choice, lists)):
            if verdict := check(text, language=self.language, limits=limits, prompt=told):
                raise _Rejected(verdict.reason, verdict.measured)

    async def solve(self, item: Item) -> None:
        """Whether the document gives the key, by most samples, and no other option as well."""
        values = {"document": self.seed.text, "question": item.question}
        votes = await self._votes(self.maker.solve_prompt, item, self.maker.open_book, values)
        count = len(votes)
        given = [vote[0] if vote else None for vote in votes]
        share = round(given.count(item.key) / count, 4)
        self.labels["open_book"] = str(share)
        if not share:
            raise _Rejected("never_solved", share)
        if any(given.count(other) > given.count(item.key) for other in range(len(item.options)) if other != item.key):
            raise _Rejected("unsupported_answer", share)
        if share < self.maker.min_agreement:
            raise _Rejected("inconsistent_answer", share)
        for other in range(len(item.options)):
            also = sum(vote is not None and other in vote[1] for vote in votes)
            if other != item.key and also * 2 > count:
                raise _Rejected("ambiguous_answer", round(also / count, 4))

    async def solve_closed(self, item: Item) -> None:
        """How often the key is given without the document."""
        if not self.maker.closed_book:
            return
        votes = await self._votes(self.maker.closed_prompt, item, self.maker.closed_book, {"question": item.question})
        share = round(sum(vote is not None and vote[0] == item.key for vote in votes) / len(votes), 4)
        # The thirds that CulturAll divides its fifteen solvers into.
        difficulty = "easy" if share * 3 >= 2 else "medium" if share * 3 >= 1 else "hard"
        self.labels |= {"closed_book": str(share), "difficulty": difficulty}
        if self.maker.too_easy is not None and share >= self.maker.too_easy:
            raise _Rejected("too_easy", share)

    async def _votes(
        self, prompt_name: str, item: Item, count: int, values: dict[str, str]
    ) -> list[tuple[int, frozenset[int]] | None]:
        """What each sample answered, as options and not as letters; None for one that cannot be read."""
        asked = orders(item, count)
        listed = [shown([item.options[n] for n in order]) for order in asked]
        completions = await ask_all(
            self.ask,
            [
                self._request(prompt_name, {**values, "options": options}, sample)
                for sample, options in enumerate(listed)
            ],
        )
        votes: list[tuple[int, frozenset[int]] | None] = []
        for completion, order in zip(completions, asked, strict=True):
            verdict = finished(completion)
            if verdict and completion.finish_reason == ERROR:
                raise _Rejected(verdict.reason, verdict.measured)
            solved = None if verdict else parse(completion.text, Solved)
            also = solved.also_right if solved else ()
            others = frozenset(
                order[LETTERS.index(letter)] for letter in also if letter in LETTERS and len(letter) == 1
            )
            votes.append((order[LETTERS.index(solved.answer)], others) if solved else None)
        return votes


_FENCE = regex.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", regex.DOTALL)


def parse(text: str, kind: type[_Answer]) -> _Answer | None:
    """The answer in a completion, in JSON, maybe in a code fence; None for anything else."""
    fenced = _FENCE.match(text)
    try:
        return kind.model_validate(json.loads(fenced[1] if fenced else text))
    except (ValueError, RecursionError, ValidationError):
        return None
