"""A maker: from one seed document to one wanted document, by as many requests as that takes.

In: a `Seed` and the language that is wanted. Out: `Made`, a text or the reason why there is none. A maker is a pure
function of its fields, the seed and the completions it is given, so that a changed limit judges recorded completions
again and asks nothing. Knows neither generators nor files.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from marco_data.generation.generator import Ask
from marco_data.languages import Language


@dataclass(frozen=True)
class Seed:
    """A kept document that something is made from. `language` is its own code."""

    id: str
    text: str
    language: str
    source: str
    url: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Made:
    """What became of one wanted document.

    Accepted: `text`, and `reason` None. Rejected: a bare `reason` (`wrong_language`), the figure that was compared
    (`measured`), and in `rejected_text` what was written, to look at. `labels` are facts about it for whoever reads the
    lineage (style, topic, country, difficulty), `parts` what `finish` needs beside the text. `prompts` names the
    prompts that were used, `wikipedia@1`.
    """

    text: str | None = None
    reason: str | None = None
    measured: float | None = None
    rejected_text: str = ""
    prompts: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


class Maker(BaseModel, ABC):
    """One kind of generated text. Its fields are its identity, and `make` in an entry of a recipe's `generate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]  # what `requests` counts it under: rephrase, qa, stem, mcq
    part: ClassVar[str]  # the source and part its documents are of
    replaces: ClassVar[bool] = False  # what is made takes the place of its seed
    translates: ClassVar[bool] = False  # wanted in every other language of the entry; else in the seed's own
    version: ClassVar[int] = 1  # raised when equal completions would give other documents
    reasons: ClassVar[frozenset[str]]  # every reason it can reject by
    packages: ClassVar[tuple[str, ...]] = ()

    @property
    def ordinals(self) -> int:
        """How many documents are wanted of each seed and language."""
        return 1

    def identity(self) -> dict[str, Any]:
        """Everything that shapes what is made of given completions, prompts' content included, as plain JSON."""
        return {"maker": self.name, "version": self.version, "config": self.model_dump(mode="json")}

    def later_calls(self) -> Mapping[str, int]:
        """By prompt, the calls of one document that are made only after an answer has passed: estimates count them."""
        return {}

    @abstractmethod
    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        """The `ordinal`-th document in `language` from this seed. All its requests carry `attempt`."""

    def finish(self, accepted: Sequence[Made], salt: str) -> list[Made]:
        """What depends on the neighbours: called with what was accepted of one task and language, in order.

        `salt` names the task; the answer has a Made for each one given.
        """
        return list(accepted)
