"""The JSON Schema of recipes, for editors: keys with what they mean, languages, steps and choices to complete.

In: the models that recipes are checked by. Out: a JSON Schema (draft 2020-12) of the YAML that people write, in which
`include` may stand for what another file says, budgets are `500B` and a language has any of its codes. It finds every
unknown key and wrong type; what hangs on two keys at once, or on files, `marco-data validate` finds.

What a key means stands in the docstring of its model, as a sentence that names it, in the comment behind its field,
or in KEYS. Knows nothing of files.
"""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from marco_data.alarms import RemovalLimits
from marco_data.generation.entry import makers
from marco_data.languages import SHIPPED, spellings
from marco_data.new_languages import read_new_languages
from marco_data.recipe import NAME, Recipe
from marco_data.steps.apply_limits import TABLES
from marco_data.steps.apply_limits import Limits as QualityLimits

Schema = dict[str, Any]
TOKENS = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9_]*\.?[0-9_]*[1-9][0-9_]*\.?[0-9_]*\s*[KMBTkmbt]?\s*$"},
    ]
}
"""A number of tokens: 500B, 1.5T, 10M, 250_000."""
LANGUAGE = {"$ref": "#/$defs/Language"}
NAMES = {"pattern": f"^{NAME}$"}

KEYS = {
    "Benchmark.language": "The language of its items, where no path holds {language}.",
    "Benchmark.paths": "Files, or globs on any fsspec URL; {language} in one stands for the language of what is there.",
    "Benchmark.read": "The format; by default what the file names tell.",
    "DecontaminateSection.benchmarks": "The benchmarks by name.",
    "DecontaminateSection.limits": "How much of an item a document may hold.",
    "DropDuplicates.over": "`passed`: only documents that limits let through; `all`: those that they dropped too.",
    "Entry.generator": "Which of `generators` is asked.",
    "Entry.languages": "The languages that something is wanted in, or `all`.",
    "Entry.maker": "What makes the text; by default the entry's own name.",
    "Entry.seeds": "Which kept documents it is made from; by default all of these languages.",
    "Fields.id": "The column with the source's own id.",
    "Fields.language": "The column with the language that the source declares, in any code.",
    "Fields.licence": "The column with the licence.",
    "Fields.text": "The column with the text.",
    "Fields.url": "The column with the URL.",
    "IdentifyLanguageSection.check_script": "Drop documents in a script that their language is not written in.",
    "IdentifyLanguageSection.floor": "Below this score no text is stored.",
    "IdentifyLanguageSection.min_share": "The least share of a document that is in its language; null: any.",
    "IdentifyLanguageSection.model": "`embedded`, or the path or URI of a fastText model.",
    "IdentifyLanguageSection.threshold": "The least score: a number for all languages, or `by_language`.",
    "KeepDropped.text": "The share of dropped documents whose text is stored all the same.",
    "Limits.failed_files": "The share of files that may fail.",
    "Limits.failed_rows": "The share of rows that may fail.",
    "MaskPii.emails": "Replace e-mail addresses.",
    "MaskPii.ip_addresses": "Replace public IP addresses.",
    "MaskPii.phones": "Replace telephone numbers.",
    "MixturePart.spill": "Where what a listed language cannot fill goes: to the others (`unimax`) or nowhere (`none`).",
    "Model.model": "The model's name, as its server knows it.",
    "Model.revision": "The revision of its weights.",
    "Normalize.max_unreadable": "The share of characters that may be replacement or control characters.",
    "QualitySection.exempt": "Sources that are taken as they are.",
    "QualitySection.limits": "The table of limits.",
    "QualitySection.overrides": "Other limits, by language; null sets one aside.",
    "QualitySection.tier_margin": "By how much tighter limits are beyond which a kept document is called `low`.",
    "Recipe.accept": "Package versions that have the same identity: {ftfy: [6.3.1, 6.3.2]}.",
    "Recipe.after": "Where documents go on from: `previous` stage, `nothing`, or FAMILY/STAGE.",
    "Recipe.budget": "Tokens of the stage: 500B, 1.5T, 10M. Without one everything is taken once.",
    "Recipe.description": "For people.",
    "Recipe.family": "The name of the stages that belong together.",
    "Recipe.generate": "What models write, by entry.",
    "Recipe.generators": "The models that `generate` asks, by name.",
    "Recipe.include": "Files that are merged below this one, relative to its folder.",
    "Recipe.keep_dropped": "What is kept of dropped documents.",
    "Recipe.languages": "The languages that are built, in any of their codes, or `all`.",
    "Recipe.languages_from": "A folder with languages of your own: languages.csv, limits.csv, stop_words.csv.",
    "Recipe.limits": "When a build counts as failed, and when alarms stop it.",
    "Recipe.mixture": "The parts of the stage, by weight; it replaces an included one whole.",
    "Recipe.pipeline": "The function that makes the plan: package.module:function.",
    "Recipe.rehydrate": "Repeat documents by the size of their cluster.",
    "Recipe.remove": "A file of ids, URLs and domains whose documents are taken out, one a line.",
    "RemoveSection.copies": "What is like one of them: `report` it, or `drop` it too.",
    "RemoveSection.file": "The file, one entry a line.",
    "Recipe.seed": "What chooses documents; by default the family's name.",
    "Recipe.shards": "Sizes of what is written.",
    "Recipe.sources": "What is read, by name.",
    "Recipe.stage": "The number of the stage, 1 to 9.",
    "Recipe.steps": "What is done with every document.",
    "Recipe.tokenizer": "The tokenizer that counts and writes tokens.",
    "Recipe.waive": "Shards and alarms that the build does without.",
    "SeedChoice.quality_tier": "Only documents of this tier.",
    "SeedChoice.sources": "Only documents of these sources.",
    "ShardSection.bytes": "Bytes of text in a shard of the measure pass.",
    "ShardSection.max_document_bytes": "A longer document fails.",
    "ShardSection.tokens": "Tokens in a shard of the stage.",
    "Source.fields": "Which column holds what.",
    "Steps.decontaminate": "Drop documents that hold items of benchmarks.",
    "Steps.dedup": "What counts as a duplicate.",
    "Steps.extra": "Steps of your own, or any datatrove filter, after the quality metrics.",
    "Steps.identify_language": "How documents' languages are found and which are believed.",
    "Steps.mask_pii": "Replace e-mail addresses, IP addresses and telephone numbers.",
    "Steps.normalize": "One spelling for equal texts.",
    "Steps.quality": "Limits on figures of quality.",
    "Steps.sign": "How signatures for deduplication are made.",
    "Steps.url_block_list": "Drop documents by their URL.",
    "TokenizerSection.end_of_document": "The token behind each document.",
    "TokenizerSection.path": "A tokenizer.json, its folder, or a URI.",
    "UserStep.arguments": "The fields of the step.",
    "UserStep.step": "package.module:Class, or datatrove:FilterClass.",
    # Settings of makers that have one name in all of them.
    "closed_prompt": "The prompt that asks without the document.",
    "expand_prompt": "The prompt that finds what a question may be about.",
    "kinds": "What is made: problems, explanations.",
    "limits": "When an answer is rejected.",
    "max_invented_names": "Names in the answer that the seed does not have.",
    "max_invented_numbers": "Numbers in the answer that the seed does not have.",
    "max_invented_numbers_translated": "The same of a translation.",
    "max_invented_urls": "URLs in the answer that the seed does not have.",
    "max_length_ratio": "How many times as long as the seed an answer may be.",
    "max_other_language": "The share of the answer that may be in another language.",
    "max_repetition": "The share of the answer that may repeat itself.",
    "max_translated_ratio": "How many times as long as the seed a translation may be.",
    "min_chunk_tokens": "Less text than that is not worth a request.",
    "min_density": "The least score of a document, of 5.",
    "min_length_ratio": "How many times as long as the seed an answer has to be.",
    "min_overlap": "The share of the seed's words that an answer has to have.",
    "most_pairs": "Questions of one passage, at most.",
    "prompt": "The prompt, NAME@VERSION or a file of your own.",
    "score_prompt": "The prompt that says how much culture a document holds.",
    "solve_prompt": "The prompt that solves what was made.",
    "styles": "The prompts to rewrite by, one after another.",
    "write_prompt": "The prompt that writes the questions.",
}


def recipe_schema(*, part: bool = False, languages_from: Path | None = None) -> Schema:
    """The schema of a recipe's file; `part`: of one that is only included, in which no key has to be."""
    schema = Recipe.model_json_schema()
    schema.pop("description", None)
    defs: dict[str, Schema] = schema["$defs"]
    models = {"Recipe": schema, **defs}
    _described("Recipe", Recipe, schema)
    for model in _models(Recipe):
        if model.__name__ in defs:
            _described(model.__name__, model, defs[model.__name__])
    added = () if languages_from is None else read_new_languages(languages_from)
    defs["Language"] = {
        "description": "A language by its code, as ISO 639-3 and script, or by a short code.",
        "enum": sorted({code for x in (*SHIPPED.values(), *(n.language for n in added)) for code in spellings(x)}),
    }
    _languages(models)
    _makers(schema, defs)
    models["MixturePart"]["properties"]["sources"]["anyOf"][0]["minItems"] = 1
    schema["properties"]["budget"].update(anyOf=[TOKENS, {"type": "null"}])
    defs["ShardSection"]["properties"]["tokens"] = {
        **{k: v for k, v in defs["ShardSection"]["properties"]["tokens"].items() if k in ("default", "description")},
        **TOKENS,
    }
    for name in ("Source", "Benchmark"):
        paths = defs[name]["properties"]["paths"]
        defs[name]["properties"]["paths"] = {
            "description": paths.get("description", ""),
            "anyOf": [{"type": "string"}, {k: paths[k] for k in ("items", "minItems", "type") if k in paths}],
        }
    # A number names a column of a table without a header.
    fields = defs["Benchmark"]["properties"]["fields"]
    fields |= {"items": {"type": ["string", "integer"]}, "minItems": fields.pop("minLength", 1)}
    _removal(defs)
    schema["properties"]["remove"]["anyOf"].insert(0, {"type": "string"})
    schema["properties"]["include"] = {
        "description": KEYS["Recipe.include"],
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    needed = _needed(schema, defs)
    if not part:
        # What is not here may be in a file that is included: only without one has it to be here.
        schema |= {"if": {"not": {"required": ["include"]}}, "then": needed}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "marco-data recipe",
        **{k: v for k, v in schema.items() if k != "title"},
    }


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """All models that a model's fields hold, itself first."""
    seen: set[type[BaseModel]] = set()

    def walk(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            yield annotation
            for info in annotation.model_fields.values():
                yield from walk(info.annotation)
        for inner in getattr(annotation, "__args__", ()):
            yield from walk(inner)

    yield from walk(model)


def _described(name: str, model: type[BaseModel], schema: Schema) -> None:
    """Gives every key of a model what is said of it, and a mapping by names no other keys."""
    for key, value in schema.get("properties", {}).items():
        value.pop("title", None)
        if said := KEYS.get(f"{name}.{key}") or _said(model, key) or KEYS.get(key):
            value["description"] = said
        for mapping in (value, *value.get("anyOf", ())):
            if "patternProperties" in mapping:
                mapping["additionalProperties"] = False
    schema.pop("title", None)


def _said(model: type[BaseModel], key: str) -> str:
    """The comment behind a field, else the sentences of the model's docstring that name it."""
    # The class that has the field: a subclass's source does not.
    owner = next((cls for cls in model.__mro__ if key in vars(cls).get("__annotations__", {})), model)
    if comment := re.search(rf"^    {key}: .*?  # (.+)$", _source(owner), re.MULTILINE):
        return comment[1].strip()
    sentences = re.split(r"(?<=[.;])\s+", " ".join((inspect.getdoc(model) or "").split()))
    return " ".join(s for s in sentences if f"`{key}" in s)


@cache
def _source(model: type) -> str:
    try:
        return inspect.getsource(model)
    except (OSError, TypeError):  # a model of the user's own that has no file
        return ""


def _languages(models: dict[str, Schema]) -> None:
    """Codes are an enum wherever they stand."""
    several = {"anyOf": [{"const": "all"}, {"type": "array", "items": LANGUAGE}]}
    shares = {
        "type": "object",
        "propertyNames": LANGUAGE,
        "additionalProperties": {"type": "number", "exclusiveMinimum": 0},
    }

    def put(model: str, key: str, value: Schema, *, or_null: bool = False) -> None:
        old = models[model]["properties"][key]
        kept = {k: v for k, v in old.items() if k in ("description", "default")}
        models[model]["properties"][key] = {**kept, **({"anyOf": [value, {"type": "null"}]} if or_null else value)}

    put("Recipe", "languages", several)
    put("Entry", "languages", several)
    put("SeedChoice", "languages", several, or_null=True)
    put("MixturePart", "languages", {**shares, "minProperties": 1}, or_null=True)
    put("Source", "language", LANGUAGE, or_null=True)
    limit = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    limits = {
        "type": "object",
        "properties": dict.fromkeys(QualityLimits.model_fields, limit),
        "additionalProperties": False,
    }
    put(
        "QualitySection",
        "overrides",
        {"type": "object", "propertyNames": LANGUAGE, "additionalProperties": limits},
    )
    put("QualitySection", "limits", {"enum": list(TABLES)})
    by_language = {"type": "object", "propertyNames": LANGUAGE, "additionalProperties": TOKENS}
    models["Entry"]["properties"]["target"] = {
        "description": models["Entry"]["properties"]["target"].get("description", ""),
        "anyOf": [TOKENS, by_language, {"type": "null"}],
        "default": None,
    }


def _makers(schema: Schema, defs: dict[str, Schema]) -> None:
    """An entry's `make` has the settings of its maker, which is that of the entry's name where it names none."""
    entry = defs["Entry"]
    entry["required"] = [key for key in entry["required"] if key not in ("maker", "make")]
    entry["properties"]["maker"].update(anyOf=[{"enum": list(makers())}, {"type": "string", "pattern": ":"}])
    entry["properties"]["maker"].pop("type")
    entry["properties"]["make"] = {"description": "The settings of the maker.", "type": ["object", "null"]}
    for name, maker in makers().items():
        made = maker.model_json_schema()
        for model in _models(maker):
            target = made if model is maker else made.get("$defs", {}).get(model.__name__)
            if target is not None:
                _described(model.__name__, model, target)
        defs.update(made.pop("$defs", {}))
        defs[maker.__name__] = {**made, "type": ["object", "null"]}
        settings = {"properties": {"make": {"$ref": f"#/$defs/{maker.__name__}"}}}
        named = {"properties": {"maker": {"const": name}}, "required": ["maker"]}
        entry.setdefault("allOf", []).append({"if": named, "then": settings})
    defs.pop("Maker", None)
    generate = schema["properties"]["generate"]
    generate["properties"] = {
        name: {
            "allOf": [
                {"$ref": "#/$defs/Entry"},
                {
                    "if": {"not": {"required": ["maker"]}},
                    "then": {"properties": {"make": {"$ref": f"#/$defs/{maker.__name__}"}}},
                },
            ]
        }
        for name, maker in makers().items()
    }


def _removal(defs: dict[str, Schema]) -> None:
    """Shares by step or reason, in general, by language and by source."""
    share = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]}
    removal = defs[RemovalLimits.__name__]
    removal["additionalProperties"] = share
    by_step = {"type": "object", "additionalProperties": share}
    for key, names in (("languages", LANGUAGE), ("sources", NAMES)):
        removal["properties"][key] |= {"propertyNames": names, "additionalProperties": by_step}


def _needed(schema: Schema, defs: dict[str, Schema]) -> Schema:
    """Takes out of a schema which keys have to be there, and says so apart: sections may be split over files.

    A part of the mixture is not among them: a mixture stands in one file.
    """

    def of(name: str) -> Schema:
        return {"type": "object", "required": defs[name].pop("required")}

    leaks = of("DecontaminateSection")
    leaks["properties"] = {"benchmarks": {"additionalProperties": of("Benchmark")}}
    entry = of("Entry")
    names = "|".join(makers())
    unnamed = {f"^(?!(?:{names})$){NAME}$": {"required": ["maker"]}}
    return {
        "required": schema.pop("required"),
        "properties": {
            "tokenizer": of("TokenizerSection"),
            "sources": {"additionalProperties": of("Source")},
            "generators": {"additionalProperties": of("Model")},
            # Who makes an entry that has no maker's name, it has to say.
            "generate": {"patternProperties": {"": entry, **unnamed}},
            "steps": {"properties": {"decontaminate": {"if": {"type": "object"}, "then": leaks}}},
        },
    }


def described_keys(schema: Schema) -> Iterator[tuple[str, str]]:
    """(model.key, what is said of it) of every key of a schema."""
    for name, model in {"Recipe": schema, **schema["$defs"]}.items():
        for key, value in model.get("properties", {}).items():
            yield f"{name}.{key}", value.get("description", "")
