"""A prompt: a versioned YAML file in, requests out.

`wikipedia@1` is a file shipped in `prompts/`, anything with a `/` or `.yaml` a file of the user's, checked as it is
read: keys, placeholders, the worked example. A version that was used is never edited, because `digest` is part of what
makes a document what it is; another text is another version. `[[name]]` marks what is filled in, and filling is one
pass, so that a document holding `[[language]]` stays as it is. Knows neither what the values mean nor how an answer is
read.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marco_data.errors import RecipeError
from marco_data.generation.generator import Request, Sampling
from marco_data.yaml_lines import read_yaml

SHIPPED = Path(__file__).with_name("prompts")

_PLACEHOLDER = re.compile(r"\[\[([a-z][a-z0-9_]*)\]\]")


class Example(BaseModel):
    """A worked example: `values` for the placeholders, a `completion` as a model writes it, and what is read from it.

    Tests feed the completion to the maker's parser and compare with `parsed`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: dict[str, str]
    completion: str
    parsed: Any


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    purpose: str = Field(min_length=1)
    system: str = ""
    user: str = Field(min_length=1)
    sampling: Sampling = Sampling()
    answer_schema: dict[str, Any] | None = Field(None, alias="schema")
    example: Example


@dataclass(frozen=True)
class Prompt:
    """What is asked, with places for values."""

    name: str  # wikipedia@1; of a user's file its name without folder and ending
    path: Path
    purpose: str
    system: str
    user: str
    sampling: Sampling
    schema: str | None  # canonical JSON text
    example: Example
    placeholders: frozenset[str]
    digest: str  # 16 hex digits of everything that shapes a request: neither purpose nor example does

    def request(self, values: Mapping[str, str], *, sample: int = 0, attempt: int = 0) -> Request:
        """The request with all values filled in. RecipeError where one is missing, or is not in the prompt."""
        if values.keys() != self.placeholders:
            raise _wrong_values(self, f"{self.path}", values)
        texts = (("system", self.system), ("user", self.user))
        messages = tuple((role, _fill(text, values)) for role, text in texts if text)
        return Request(messages, self.sampling, self.schema, sample, attempt, self.name)

    def instructions(self, values: Mapping[str, str]) -> str:
        """The text of the messages with these values, and nothing where another would stand."""
        return "\n".join(
            _fill(text, {**dict.fromkeys(self.placeholders, ""), **values}) for text in (self.system, self.user)
        )


def load_prompt(name: str) -> Prompt:
    """The prompt of that name. RecipeError with file, line and remedy where there is none or it is not right."""
    own = "/" in name or name.endswith((".yaml", ".yml"))
    path = Path(name).expanduser() if own else SHIPPED / f"{name}.yaml"
    try:
        found = path.stat()
    except OSError:
        if own:
            raise RecipeError(f"no prompt file at `{name}`", hint="paths are relative to the recipe") from None
        raise RecipeError(
            f"`{name}` is not a prompt that is shipped", hint=f"shipped: {', '.join(shipped())}"
        ) from None
    return _read(path, found.st_mtime_ns, found.st_size)


def shipped() -> list[str]:
    """The names of all prompts that come with the project."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


@lru_cache(maxsize=256)
def _read(path: Path, mtime_ns: int, size: int) -> Prompt:
    values, lines = read_yaml(path, a="prompt")
    try:
        file = _File.model_validate(values)
    except ValidationError as error:
        raise RecipeError("\n".join(_problems(error, path, lines))) from None
    placeholders = frozenset(_PLACEHOLDER.findall(file.system + file.user))
    schema = None if file.answer_schema is None else _canonical(file.answer_schema)
    shape = [file.system, file.user, file.sampling.model_dump(), schema]
    digest = hashlib.sha256(_canonical(shape).encode()).hexdigest()[:16]
    prompt = Prompt(
        path.stem,
        path,
        file.purpose,
        file.system,
        file.user,
        file.sampling,
        schema,
        file.example,
        placeholders,
        digest,
    )
    if file.example.values.keys() != placeholders:
        line = lines.get(("example", "values"), 1)
        raise _wrong_values(prompt, f"{path}:{line}: `example.values`", file.example.values)
    return prompt


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _wrong_values(prompt: Prompt, where: str, values: Mapping[str, str]) -> RecipeError:
    missing, unknown = sorted(prompt.placeholders - values.keys()), sorted(values.keys() - prompt.placeholders)
    told = [f"no value for [[{name}]]" for name in missing] + [f"no place for `{name}`" for name in unknown]
    known = ", ".join(f"[[{name}]]" for name in sorted(values))
    return RecipeError(
        f"{where}: the prompt `{prompt.name}` has {' and '.join(told)}",
        hint=f"what is given here: {known}" if known else "nothing is given here",
    )


def _problems(error: ValidationError, path: Path, lines: Mapping[tuple[Any, ...], int]) -> list[str]:
    told = []
    for item in error.errors():
        at = item["loc"]
        line = next((lines[at[:n]] for n in range(len(at), -1, -1) if at[:n] in lines), 1)
        key = ".".join(map(str, at))
        keys = ", ".join(field.alias or name for name, field in _File.model_fields.items())
        extra = f"; keys here: {keys}" if item["type"] == "extra_forbidden" and len(at) == 1 else ""
        told.append(f"{path}:{line}: `{key}`: {item['msg'][:1].lower() + item['msg'][1:]}{extra}")
    return told


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
