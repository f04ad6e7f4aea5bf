"""Questions and answers: made from a document in its language, or translated from English.

`Qa` asks for pairs about one passage of the seed, drops those that fail and lays out the others. `QaTranslation` brings
questions and answers that exist into another language; formulas, code, addresses and labels are taken out before and
put back after (`masks.py`). Neither knows where its seeds come from.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from marco_data.generation import pairs
from marco_data.generation.answers import lost_numbers
from marco_data.generation.chunks import chunks, estimated_tokens
from marco_data.generation.generator import Ask, Completion
from marco_data.generation.guards import Limits, Verdict, check, finished, units
from marco_data.generation.maker import Made, Maker, Seed
from marco_data.generation.masks import CLOSE, OPEN, mask, unmask
from marco_data.generation.pairs import Pair
from marco_data.generation.parts import CHUNK_FAILED, Judged, ask_all, first_that_passes, tagged, together
from marco_data.generation.prompt import load_prompt
from marco_data.generation.rephrase import (
    ANSWER_REASONS,
    KNOWN,
    ChunkLimits,
    check_room,
    checked_prompt,
    parts_of,
    room,
    values_for,
    with_prompts,
)
from marco_data.generation.wording import Wording, wording
from marco_data.languages import LANGUAGES, SHIPPED, Language

PLACEHOLDER_LOST, ANSWER_CHANGED = "placeholder_lost", "answer_changed"

UNITS_PER_PAIR = 60
"""Letters of Latin script, or as much in another, for which a document may get one pair more.

Nemotron-CC draws up to ten pairs for 150 tokens; a token of English is about four letters.
"""


class Qa(Maker):
    """Questions and answers about a passage of the seed, in the seed's language."""

    name = "qa"
    part = "multilingual_qa"
    reasons: ClassVar[frozenset[str]] = ANSWER_REASONS | pairs.REASONS
    packages = ("icu4py",)

    prompt: str = "diverse_qa@1"
    most_pairs: int = Field(8, ge=1, le=16)
    with_document: bool = False  # the passage stands before its questions; else they stand alone
    chunk_tokens: int = Field(2500, ge=1)  # estimated tokens of a request, prompt and all
    min_chunk_tokens: int = Field(60, ge=0)
    min_support: float = Field(0.5, ge=0, le=1)  # of the answer's runs of letters, in the passage or the question
    limits: ChunkLimits = ChunkLimits()

    @field_validator("prompt")
    @classmethod
    def _is_a_prompt(cls, name: str) -> str:
        checked_prompt(name, KNOWN | {"most_pairs"})
        return name

    @model_validator(mode="after")
    def _prompt_leaves_room(self) -> "Qa":
        check_room(load_prompt(self.prompt), self.chunk_tokens, self.min_chunk_tokens, **self._more)
        return self

    @property
    def _more(self) -> dict[str, str]:
        return {"most_pairs": str(self.most_pairs)}

    def identity(self) -> dict[str, Any]:
        """The prompt by name and content."""
        prompt = load_prompt(self.prompt)
        return with_prompts(super().identity(), prompt=[prompt.name, prompt.digest])

    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        """Pairs about one passage; a further document of the same seed is about the next."""
        prompt = load_prompt(self.prompt)
        passage = self._passage(seed, language, ordinal)
        if isinstance(passage, Verdict):
            return Made(None, passage.reason, passage.measured, seed.text, (prompt.name,))
        values = values_for(prompt, language, document=passage, **self._more)
        (completion,) = await ask_all(ask, [prompt.request(values, sample=ordinal, attempt=attempt)])
        found = finished(completion) or pairs.read_pairs(completion.text)
        if isinstance(found, Verdict):
            return Made(None, found.reason, found.measured, completion.text or passage, (prompt.name,))
        instructions = prompt.instructions(values_for(prompt, language, **self._more))
        good, bad = self._sorted_out(found, passage, language, instructions)
        labels = {"pairs": str(len(found)), "passed": str(len(good))}
        causes = Counter(verdict.reason for verdict in bad)
        if causes:
            labels["dropped"] = " ".join(f"{reason}:{count}" for reason, count in sorted(causes.items()))
        if not good:
            reason = causes.most_common(1)[0][0] if causes else "empty"
            measured = next((verdict.measured for verdict in bad if verdict.reason == reason), None)
            return Made(None, reason, measured, completion.text, (prompt.name,), labels)
        kept = self._kept(good, passage, seed, ordinal)
        kinds = Counter(pair.kind for pair in kept)
        labels |= {"kept": str(len(kept)), "kinds": " ".join(f"{k}:{n}" for k, n in sorted(kinds.items()))}
        texts = [pairs.written(pair, wording(language.code)) for pair in kept]
        text = "\n\n".join([passage, *texts] if self.with_document else texts)
        return Made(text, prompts=(prompt.name,), labels=labels)

    def _passage(self, seed: Seed, language: Language, ordinal: int) -> str | Verdict:
        most = room(load_prompt(self.prompt), language, self.chunk_tokens, **self._more)
        sizes = {
            text: estimated_tokens(text)
            for chunk in chunks(seed.text, language, most, self.min_chunk_tokens)
            if (text := chunk.strip())
        }
        fitting = [text for text, size in sizes.items() if max(self.min_chunk_tokens, 1) <= size <= most]
        if fitting:
            return fitting[(_draw(seed.id) + ordinal) % len(fitting)]
        longest = max(sizes.values(), default=0)
        return Verdict("too_long" if longest > most else "too_short", float(longest))

    def _sorted_out(
        self, found: Sequence[Pair | Verdict], passage: str, language: Language, prompt: str
    ) -> tuple[list[Pair], list[Verdict]]:
        good: list[Pair] = []
        bad: list[Verdict] = []
        asked = set()
        for pair in found:
            if isinstance(pair, Pair):
                pair = pairs.judge(pair, passage, language, self.limits, self.min_support, prompt)
            if isinstance(pair, Pair) and pairs.folded(pair.question) in asked:
                pair = Verdict("repetition")
            if isinstance(pair, Verdict):
                bad.append(pair)
            else:
                asked.add(pairs.folded(pair.question))
                good.append(pair)
        return good, bad

    def _kept(self, good: Sequence[Pair], passage: str, seed: Seed, ordinal: int) -> list[Pair]:
        """From one pair to as many as the passage is long enough for, drawn and ordered by the seed's id."""
        order = sorted(range(len(good)), key=lambda place: _draw(seed.id, ordinal, place))
        most = max(1, int(units(passage) / UNITS_PER_PAIR))
        count = min(self.most_pairs, 1 + _draw(seed.id, ordinal, "count") % most)
        return [good[place] for place in order[:count]]


def _draw(*what: object) -> int:
    """A number that depends on nothing but `what`: chance without a state."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, what)).encode()).digest()[:8], "big")


_LABEL = re.compile(r"(?:(?<=\s)|(?<![\s\S]))(Question|Answer|Options|Explanation|Problem|Solution):[ \t]*")
_PLACEHOLDER = re.compile(rf"{OPEN}\s*(\d{{1,6}})\s*{CLOSE}")  # \d: a model may write the number in its own digits
_OPTION = re.compile(r"^[ \t]*\(?([A-H])[).][ \t]", re.MULTILINE)
_CHOICE = re.compile(r"\s*\(?([A-H])(?:[).](?:\s|$)|\s*$)")


@dataclass(frozen=True)
class _Part:
    """A chunk of a masked text: what stands behind its placeholders, and which of these are labels."""

    text: str
    pieces: tuple[str, ...]
    first: int
    labels: dict[int, str]  # placeholder -> question, answer, ...


class TranslationLimits(Limits):
    """A question may convert no quantity: its answer would be of another one."""

    max_invented_numbers_translated: int | None = Field(0, ge=0)


class QaTranslation(Maker):
    """Questions and answers of the seed, and the passage with them where there is one, in another language."""

    name = "qa"
    part = "multilingual_qa"
    translates = True
    reasons: ClassVar[frozenset[str]] = ANSWER_REASONS | {CHUNK_FAILED, PLACEHOLDER_LOST, ANSWER_CHANGED}
    packages = ("icu4py",)

    prompt: str = "translate_qa@1"
    # A text of English takes up to five times its tokens in Burmese or Telugu, and the answer has to fit.
    chunk_tokens: int = Field(1600, ge=1)  # estimated tokens of a request, prompt and all
    document_tokens: int = Field(20_000, ge=1)  # a longer text is rejected unasked
    limits: TranslationLimits = TranslationLimits()

    @field_validator("prompt")
    @classmethod
    def _is_a_prompt(cls, name: str) -> str:
        checked_prompt(name, KNOWN | {"source_language"})
        return name

    @model_validator(mode="after")
    def _prompt_leaves_room(self) -> "QaTranslation":
        longest = max((language.name for language in SHIPPED.values()), key=len)
        check_room(load_prompt(self.prompt), self.chunk_tokens, 1, source_language=longest)
        return self

    def identity(self) -> dict[str, Any]:
        """The prompt by name and content."""
        prompt = load_prompt(self.prompt)
        return with_prompts(super().identity(), prompt=[prompt.name, prompt.digest])

    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        """The seed in `language`."""
        prompt = load_prompt(self.prompt)
        more = {"source_language": LANGUAGES[seed.language].name}
        values = values_for(prompt, language, **more)
        left = self.chunk_tokens - estimated_tokens(prompt.instructions(values))
        field = "label"
        while f"{{{field}_" in seed.text:
            field += "_"
        masked = mask(_LABEL.sub(lambda found: f"{{{field}_{found[1].lower()}}}", seed.text))
        sources = parts_of(masked.text, LANGUAGES[seed.language], left, 0, self.document_tokens)
        if isinstance(sources, Verdict):
            return Made(None, sources.reason, sources.measured, seed.text, (prompt.name,))
        parts = _parts(sources, masked.pieces, field)
        requests = [
            prompt.request({**values, "document": part.text}, sample=ordinal, attempt=attempt) for part in parts
        ]
        judge = partial(self._judge, field=field, prompt=prompt.instructions(values), language=language)

        def whole(judged: Sequence[Judged], completions: Sequence[Completion]) -> Made:
            return together(judged, completions, sources, (prompt.name,), {})

        return await first_that_passes(ask, requests, parts, judge, whole)

    def _judge(self, answer: str, part: _Part, field: str, prompt: str, language: Language) -> Judged:
        text = tagged(answer, "translation", part.text)
        if isinstance(text, Verdict):
            return text
        whole, source = unmask(text, part.pieces, part.first), unmask(part.text, part.pieces, part.first)
        if whole is None or source is None or _labels(text, part) != _labels(part.text, part):
            return Verdict(PLACEHOLDER_LOST)
        if changed := _changed(part, text):
            return Verdict(ANSWER_CHANGED, float(changed))
        whole, source = (
            _labelled(whole, field, wording(language.code)),
            _labelled(source, field, wording("eng_Latn")),
        )
        verdict = check(whole, language=language, limits=self.limits, source=source, same_language=False, prompt=prompt)
        return verdict or whole


def _parts(sources: Sequence[str], pieces: tuple[str, ...], field: str) -> list[_Part]:
    parts, first = [], 1
    for source in sources:
        count = len(_PLACEHOLDER.findall(source))
        own = pieces[first - 1 : first - 1 + count]
        names = {first + i: piece for i, piece in enumerate(own) if piece.startswith(f"{{{field}_")}
        labels = {place: name[len(field) + 2 : -1] for place, name in names.items()}
        parts.append(_Part(source, own, first, labels))
        first += count
    return parts


def _labels(text: str, part: _Part) -> list[int]:
    return [place for found in _PLACEHOLDER.finditer(text) if (place := int(found[1])) in part.labels]


def _changed(part: _Part, translation: str) -> int:
    """How many questions and answers lack a number of the source's, and choices its letter; and 1 for other options."""
    options = _OPTION.findall(part.text)
    changed = int(options != _OPTION.findall(translation))
    both = zip(_labelled_parts(part.text, part), _labelled_parts(translation, part), strict=True)
    for (place, source), (_, text) in both:
        letter, other = _CHOICE.match(source), _CHOICE.match(text)
        choice = letter if options and part.labels[place] == "answer" else None
        other_choice = choice is not None and (other is None or choice[1] != other[1])
        changed += other_choice or bool(lost_numbers(_bare(source), _bare(text)))
    return changed


def _labelled_parts(text: str, part: _Part) -> list[tuple[int, str]]:
    places = [found for found in _PLACEHOLDER.finditer(text) if int(found[1]) in part.labels]
    ends = [*(found.start() for found in places[1:]), len(text)][: len(places)]
    return [(int(found[1]), text[found.end() : end]) for found, end in zip(places, ends, strict=True)]


def _bare(text: str) -> str:
    return _PLACEHOLDER.sub(" ", text)


def _labelled(text: str, field: str, words: Wording) -> str:
    """Labels where their fields stand."""
    return re.sub(rf"\{{{field}_([a-z]+)\}}[ \t]*", lambda found: words.labelled(getattr(words, found[1]), ""), text)
