"""Noisy text rewritten: a seed in, the same content in better words and the same language out.

Each seed gets one of the styles, by a hash of its id; a further document of the same seed the next one. A long text is
rewritten in chunks, all asked at once, and is accepted only if all of them are. Knows nothing of where seeds come from.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from marco_data.generation.chunks import chunks, estimated_tokens
from marco_data.generation.frame import strip_frame
from marco_data.generation.generator import NOT_RECORDED, REFUSED_BY_SERVER, TOO_LONG, Ask, Completion
from marco_data.generation.guards import REASONS, Limits, Verdict, check, repetition
from marco_data.generation.maker import Made, Maker, Seed
from marco_data.generation.parts import CHUNK_FAILED, UNPARSABLE, Judged, first_that_passes, tagged, together
from marco_data.generation.prompt import Prompt, load_prompt
from marco_data.generation.wording import wording
from marco_data.languages import SHIPPED, Language

TAG = "rewrite"
KNOWN = frozenset({"document", "language", "instruction"})

ANSWER_REASONS = REASONS | {NOT_RECORDED, TOO_LONG, REFUSED_BY_SERVER, UNPARSABLE}
"""What can be said against any answer."""


def values_for(prompt: Prompt, language: Language, **more: str) -> dict[str, str]:
    """The values of those of our placeholders that the prompt has."""
    values = {"language": language.name, "instruction": wording(language.code).instruction, **more}
    return {name: value for name, value in values.items() if name in prompt.placeholders}


def checked_prompt(name: str, known: frozenset[str], needed: tuple[str, ...] = ("document",)) -> Prompt:
    """The prompt of that name, which has a place for all `needed` values and asks for nothing but `known` ones."""
    prompt = load_prompt(name)
    for value in needed:
        if value not in prompt.placeholders:
            raise ValueError(f"the prompt `{name}` has no place for [[{value}]]")
    if unknown := sorted(prompt.placeholders - known):
        have = ", ".join(f"[[{value}]]" for value in sorted(known))
        raise ValueError(f"the prompt `{name}` asks for [[{']], [['.join(unknown)}]]; there is {have}")
    return prompt


def room(prompt: Prompt, language: Language, most: int, **more: str) -> float:
    """The estimated tokens that are left for the document of a prompt of `most`."""
    return most - estimated_tokens(prompt.instructions(values_for(prompt, language, **more)))


def check_room(prompt: Prompt, most: int, least: int, **more: str) -> None:
    """ValueError where the prompt leaves less than `least` for the document in one of the languages."""
    left = min(room(prompt, language, most, **more) for language in SHIPPED.values())
    if left < max(least, 1):
        raise ValueError(
            f"`{prompt.name}` takes {most - left:.0f} of chunk_tokens = {most} itself, which leaves less than "
            f"{max(least, 1)} for text; raise chunk_tokens to {most - left + max(least, 1):.0f} or more"
        )


class ChunkLimits(Limits):
    """Limits of a text as short as a chunk.

    Rewritten from a chat's tone into an encyclopedia's, 24 paragraphs of 150 to 250 characters in twelve languages
    kept 0.10 to 0.72 of their runs of letters, and shared 0 to 0.08 with another paragraph. Whole documents share more.
    """

    min_overlap: float | None = Field(0.1, ge=0, le=1)


def parts_of(text: str, language: Language, most: float, least: int, longest: int) -> list[str] | Verdict:
    """The chunks of a text, without white space around; or why it is not asked about, by its estimated tokens.

    `too_long` is one beyond `longest` or with a word beyond `most`, `too_short` one below `least`.
    """
    size = estimated_tokens(text)
    if size > longest:
        return Verdict("too_long", float(size))
    if size < max(least, 1):
        return Verdict("too_short", float(size))
    found = [chunk.strip() for chunk in chunks(text, language, most, least)]
    most_of_one = max(map(estimated_tokens, found))
    return Verdict("too_long", float(most_of_one)) if most_of_one > most else found


def with_prompts(identity: dict[str, Any], **prompts: list[list[str]] | list[str]) -> dict[str, Any]:
    """The identity of a maker with prompts by name and content, wherever their files lie."""
    return {**identity, "config": {**identity["config"], **prompts}}


class Rephrase(Maker):
    """Rewrites a seed in its own language."""

    name = "rephrase"
    part = "rephrase"
    replaces = True
    reasons: ClassVar[frozenset[str]] = ANSWER_REASONS | {CHUNK_FAILED}
    packages = ("icu4py",)

    styles: tuple[str, ...] = Field(("wikipedia@1", "distill@1", "knowledge_list@1"), min_length=1)
    chunk_tokens: int = Field(2000, ge=1)  # estimated tokens of a request, prompt and all
    min_chunk_tokens: int = Field(30, ge=0)  # less text than that is not worth a request
    document_tokens: int = Field(50_000, ge=1)  # a longer document is rejected unasked
    limits: ChunkLimits = ChunkLimits()

    @field_validator("styles")
    @classmethod
    def _styles_are_prompts(cls, styles: tuple[str, ...]) -> tuple[str, ...]:
        for style in styles:
            checked_prompt(style, KNOWN)
        return styles

    @model_validator(mode="after")
    def _prompts_leave_room(self) -> "Rephrase":
        for style in self.styles:
            check_room(load_prompt(style), self.chunk_tokens, self.min_chunk_tokens)
        return self

    def identity(self) -> dict[str, Any]:
        """Styles by name and content."""
        prompts = [load_prompt(style) for style in self.styles]
        return with_prompts(super().identity(), styles=[[prompt.name, prompt.digest] for prompt in prompts])

    def style(self, seed: Seed, ordinal: int) -> Prompt:
        """The style of a seed's `ordinal`-th document."""
        place = int.from_bytes(hashlib.sha256(seed.id.encode()).digest()[:8], "big")
        return load_prompt(self.styles[(place + ordinal) % len(self.styles)])

    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        """The seed rewritten."""
        prompt = self.style(seed, ordinal)
        labels = {"style": prompt.name}
        left = room(prompt, language, self.chunk_tokens)
        sources = parts_of(seed.text, language, left, self.min_chunk_tokens, self.document_tokens)
        if isinstance(sources, Verdict):
            return Made(None, sources.reason, sources.measured, seed.text, (prompt.name,), labels)
        requests = [
            prompt.request(values_for(prompt, language, document=source), sample=ordinal, attempt=attempt)
            for source in sources
        ]
        judge = partial(self._judge, prompt=prompt.instructions(values_for(prompt, language)), language=language)

        def whole(parts: Sequence[Judged], completions: Sequence[Completion]) -> Made:
            made = together(parts, completions, sources, (prompt.name,), labels)
            loops = repetition(made.text, language, self.limits) if made.text and len(parts) > 1 else None
            if loops:  # each chunk by itself may pass with the sentence that all of them share
                return Made(None, loops.reason, loops.measured, made.text or "", made.prompts, made.labels)
            return made

        return await first_that_passes(ask, requests, sources, judge, whole)

    def _judge(self, answer: str, source: str, prompt: str, language: Language) -> Judged:
        text = tagged(answer, TAG, source)
        if not isinstance(text, str):
            return text
        text = strip_frame(text)
        return check(text, language=language, limits=self.limits, source=source, prompt=prompt) or text
