"""What a recipe says of generation: which models there are, and for each entry which seeds go to which maker.

In: the sections `generators` and `generate`. Out: `Model` and `Entry`. How a model is reached, and on how many GPUs,
is no matter of a recipe: a pools file says it.
"""

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from marco_data.generation.maker import Maker
from marco_data.languages.codes import Codes, by_code
from marco_data.mix import parse_tokens


@cache
def makers() -> dict[str, type[Maker]]:
    """The makers there are, by the names recipes give them."""
    from marco_data.generation.mcq import Mcq
    from marco_data.generation.qa import Qa, QaTranslation
    from marco_data.generation.rephrase import Rephrase
    from marco_data.generation.stem import Stem

    return {"rephrase": Rephrase, "qa": Qa, "qa_translation": QaTranslation, "stem": Stem, "mcq": Mcq}


def maker_class(name: str) -> type[Maker]:
    """The class of a maker, or of a user's own (`my_module:MyMaker`). Raises ValueError for a pydantic validator."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, SyntaxError) as error:
            raise ValueError(f"no maker `{name}`: {error}") from None
        if not (isinstance(found, type) and issubclass(found, Maker)):
            raise ValueError(f"`{name}` is no Maker (marco_data.generation.maker)")
        return found
    if name not in makers():
        near = difflib.get_close_matches(name, makers(), n=1)
        raise ValueError(
            f"no maker `{name}`" + (f"; did you mean `{near[0]}`?" if near else f" ({', '.join(makers())})")
        )
    return makers()[name]


class Model(BaseModel):
    """A model by what shapes its answers. `context` is its length in tokens, prompt and answer together.

    `recorded` are files of completions that were recorded before: what a build without a GPU is made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(min_length=1)]
    context: Annotated[int, Field(ge=256)] = 32_768
    recorded: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """For people: `Qwen/Qwen3-30B@0d7cf239`."""
        return f"{self.model}@{self.revision[:8]}"


class SeedChoice(BaseModel):
    """Which kept documents are seeds; None: of any source, tier, or language.

    Without `languages`, seeds are in the languages that are wanted, or, for a maker that translates, in English.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...] | None = None
    languages: Codes | None = None
    quality_tier: Literal["high", "low"] | None = None


def _target(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {code: parse_tokens(tokens) for code, tokens in by_code(value).items()}
    return None if value is None else parse_tokens(value)


class Entry(BaseModel):
    """One kind of text that is generated: `make` are the maker's own settings.

    `target` are accepted tokens, of each language or by language: seeds are taken in rounds until it is reached.
    Without one, `share` of the seeds are taken, once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    maker: str
    generator: str
    languages: Codes
    seeds: SeedChoice = SeedChoice()
    target: Annotated[int | dict[str, int] | None, BeforeValidator(_target)] = None
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    make: SerializeAsAny[Maker]

    @model_validator(mode="before")
    @classmethod
    def _as_its_maker_has_it(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("maker"), str):
            return values
        kind = maker_class(values["maker"])
        made = values.get("make") or {}
        if isinstance(made, Maker):
            return values
        try:
            return {**values, "make": kind.model_validate(made)}
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, ("make", *first["loc"])))
            near = difflib.get_close_matches(str(first["loc"][-1]), kind.model_fields, n=1) if first["loc"] else []
            if first["type"] == "extra_forbidden":
                known = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(kind.model_fields)}"
                raise ValueError(f"`{at}` is no setting of `{values['maker']}`; {known}") from None
            raise ValueError(f"`{at}`: {first['msg'].removeprefix('Value error, ')}") from None

    def seed_languages(self) -> tuple[str, ...]:
        """The languages that seeds are taken in."""
        if self.seeds.languages is not None:
            return self.seeds.languages
        return ("eng_Latn",) if self.make.translates else self.languages

    def wanted_from(self, language: str) -> tuple[str, ...]:
        """The languages in which something is wanted from a seed of a language."""
        if language not in self.seed_languages():
            return ()
        if self.make.translates:
            return tuple(code for code in self.languages if code != language)
        return (language,) if language in self.languages else ()

    def target_of(self, language: str) -> int | None:
        """Tokens wanted in a language; None: as many as the seeds give."""
        return self.target.get(language) if isinstance(self.target, dict) else self.target


def with_makers(value: Any) -> Any:
    """An entry without `maker` is made by the maker of its own name."""
    if not isinstance(value, Mapping):
        return value
    return {name: {"maker": name, **entry} if isinstance(entry, Mapping) else entry for name, entry in value.items()}


Entries = Annotated[
    dict[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$")], Entry],
    BeforeValidator(with_makers),
]


def change_prompt_paths(made: dict[str, Any], change: Any) -> None:
    """Prompt files of a user's own, in place: values of `make` that end in .yaml."""
    for key, value in made.items():
        if isinstance(value, str) and Path(value).suffix in (".yaml", ".yml"):
            made[key] = change(value)
        elif isinstance(value, list):
            made[key] = [change(v) if isinstance(v, str) and Path(v).suffix in (".yaml", ".yml") else v for v in value]
