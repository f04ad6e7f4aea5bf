"""What is wrong with a plan of generation, found before anything is paid for.

In: prompts, estimates, and what is known of each generator. Out: `Problem`s, that would stop the run or spoil part of
it. Of a JSON schema the structure is checked that engines build grammars from: types, properties, items, choices,
bounds and references inside it. Opens nothing, and no answer is checked here.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marco_data.generation.estimate import Estimate, ExemplaryPrompt


@dataclass(frozen=True)
class Problem:
    """Something that would stop a run (`fatal`), or spoil part of it."""

    message: str
    hint: str
    fatal: bool = True


def prompt_problems(prompts: Iterable[ExemplaryPrompt]) -> list[Problem]:
    """Prompts whose schema no engine could keep."""
    found = []
    for prompt in prompts:
        schema = prompt.request(prompt.example.values).schema
        if schema is not None and (wrong := schema_problem(schema)):
            found.append(Problem(f"the schema of the prompt `{prompt.name}` {wrong}", "repair it, as a new version"))
    return found


def fit_problems(estimates: Iterable[Estimate]) -> list[Problem]:
    """Entries whose prompts do not fit the model's context together with the answer's `max_tokens`."""
    found = []
    for one in estimates:
        if not one.too_long or one.longest is None:
            continue
        longest = one.longest
        found.append(
            Problem(
                f"{one.entry} in {one.language}: {one.too_long:,} of {one.sampled_calls:,} sampled prompts do not fit "
                f"the context of {one.context:,} tokens; the worst, `{longest.prompt}` on {longest.seed}, needs "
                f"{longest.tokens_in:,} and {longest.max_tokens:,} for the answer",
                "raise the generator's `context`, or lower `max_tokens` or what the maker takes at once; "
                "each prompt that does not fit is rejected alone, as prompt_too_long",
                fatal=one.too_long == one.sampled_calls,
            )
        )
    return found


def generator_problems(name: str, model: str, *, pool: bool, recorded: bool) -> list[Problem]:
    """A generator that nothing can answer for, or whose model is a folder that is not there or holds no model."""
    found = []
    if not pool and not recorded:
        found.append(
            Problem(
                f"nothing answers for the generator `{name}`: it has neither a pool nor recorded completions",
                f"--pools FILE with `{name}: {{kind: vllm}}` or `endpoint`; without, only what this root has paid for "
                "is used, and everything else is rejected as not_recorded",
                fatal=False,
            )
        )
    folder = Path(model).expanduser()
    if pool and model.startswith(("/", "./", "../", "~")) and not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "does not exist"
        found.append(Problem(f"the model of `{name}`, `{model}`, {what}", "a model's folder, or its name on the hub"))
    return found


def no_seeds(entry: str, languages: Sequence[str]) -> Problem:
    """An entry that no kept document can be a seed of, in some of its languages."""
    return Problem(
        f"`generate.{entry}` has no seeds for {', '.join(languages)}: nothing will be written in them",
        "look at `seeds` (sources, languages, quality_tier) of the entry, and with `stats` at what is kept",
        fatal=False,
    )


TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})

ONE = frozenset({"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"})
"""Keywords whose value is a schema."""
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
OTHERS = frozenset(
    {"$schema", "$id", "$ref", "$comment", "title", "description", "default", "examples", "type", "enum", "const"}
    | {"required", "pattern", "format", "uniqueItems"}
)
KEYWORDS = ONE | LISTS | NAMED | COUNTS | NUMBERS | OTHERS


def schema_problem(text: str) -> str | None:
    """The first thing that is wrong with a schema, with its place in it; None where nothing is."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(schema, dict):
        return "is not an object"
    found = _wrong(schema, "", schema)
    return None if found is None else f"at `{found[0] or '/'}`: {found[1]}"


Wrong = tuple[str, str] | None
"""Where in a schema, and what."""


def _wrong(schema: Any, at: str, root: Mapping[str, Any]) -> Wrong:
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return at, "a schema is an object"
    for key, value in schema.items():
        if found := _keyword(key, value, f"{at}/{key}", root):
            return found
    return _consistent(schema, at)


def _keyword(key: str, value: Any, at: str, root: Mapping[str, Any]) -> Wrong:
    if key not in KEYWORDS:
        return at, "no keyword of JSON schema that is known here"
    if key in ONE:
        return _wrong(value, at, root)
    if key in LISTS:
        if not isinstance(value, list) or not value:
            return at, "a list of schemas, with at least one"
        return next((found for n, part in enumerate(value) if (found := _wrong(part, f"{at}/{n}", root))), None)
    if key in NAMED:
        if not isinstance(value, dict):
            return at, "an object of schemas"
        return next((found for name, part in value.items() if (found := _wrong(part, f"{at}/{name}", root))), None)
    return _value(key, value, at, root)


def _value(key: str, value: Any, at: str, root: Mapping[str, Any]) -> Wrong:
    if key == "type":
        types = value if isinstance(value, list) else [value]
        unknown = [kind for kind in types if not isinstance(kind, str) or kind not in TYPES]
        return (at, f"`{unknown[0]}` is no type; there are {', '.join(sorted(TYPES))}") if unknown else None
    if key == "enum" and (not isinstance(value, list) or not value):
        return at, "a list with at least one value"
    if key == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        return at, "a list of names"
    if key in COUNTS and not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return at, "a whole number, 0 or more"
    if key in NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        return at, "a number"
    if key == "pattern":
        try:
            re.compile(value)
        except (re.error, TypeError) as error:
            return at, f"no regular expression: {error}"
    if key == "$ref":
        return None if _refers(value, root) else (at, f"`{value}` is nothing in this schema")
    return None


def _refers(reference: Any, root: Any) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    for part in reference.removeprefix("#").split("/")[1:]:
        if not isinstance(root, dict) or part not in root:
            return False
        root = root[part]
    return True


def _consistent(schema: Mapping[str, Any], at: str) -> Wrong:
    """What no single keyword shows: names that are required and not there, bounds that leave nothing."""
    properties = schema.get("properties")
    if properties is not None and schema.get("additionalProperties") is False:
        missing = [name for name in schema.get("required", ()) if name not in properties]
        if missing:
            return f"{at}/required", f"`{missing[0]}` is not one of the properties, and no others are allowed"
    for least, most in (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum")):
        if least in schema and most in schema and schema[least] > schema[most]:
            return at, f"`{least}` is more than `{most}`"
    return None
