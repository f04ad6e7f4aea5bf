"""Where a number is wanted, `.nan` and `.inf` are refused: a limit of nan is never crossed, and nobody would know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from test_recipe import GOOD, write

from marco_data.errors import RecipeError
from marco_data.generation.mcq import Mcq
from marco_data.generation.pools import EndpointPool, ScriptedPool, VllmPool
from marco_data.generation.qa import Qa
from marco_data.generation.rephrase import Rephrase
from marco_data.generation.stem import Stem
from marco_data.places import Place
from marco_data.prices import Prices
from marco_data.recipe import Recipe, load_recipe
from marco_data.steps.apply_limits import Limits
from pipelines.train_stage import TrainRecipe, load_train_recipe

STEPS = "steps:\n"
MADE = """\
generators: {g: {model: m, revision: "1"}}
generate: {qa: {generator: g, languages: [bn], MORE}}
"""

# (what is replaced in GOOD, by what, the key that is named)
PLACES: dict[str, tuple[str, str, str]] = {
    "budget": ("500B", "NUMBER", "budget"),
    "weight": ("weight: 14.3", "weight: NUMBER", "mixture.books.weight"),
    "share of a language": ("zh: 11.7", "zh: NUMBER", "mixture.multilingual.languages.zh"),
    "epochs": ("weight: 14.3", "weight: 1, max_epochs: NUMBER", "mixture.books.max_epochs"),
    "threshold": ("threshold: 0.5", "threshold: NUMBER", "steps.identify_language.threshold"),
    "least share": ("threshold: 0.5", "min_share: NUMBER", "steps.identify_language.min_share"),
    "limit of quality": ("min_words: 40", "min_words: NUMBER", "steps.quality.overrides.bn.min_words"),
    "margin": ("  quality:\n", "  quality:\n    tier_margin: NUMBER\n", "steps.quality.tier_margin"),
    "unreadable": (STEPS, STEPS + "  normalize: {max_unreadable: NUMBER}\n", "steps.normalize.max_unreadable"),
    "similarity": (STEPS, STEPS + "  dedup: {threshold: NUMBER}\n", "steps.dedup.threshold"),
    "sigmas": (STEPS, STEPS + "  dedup: {sigmas: NUMBER}\n", "steps.dedup.sigmas"),
    "leaks": (
        STEPS,
        STEPS + "  decontaminate: {index: i, benchmarks: {b: {paths: p, fields: [a]}}, limits: {words: NUMBER}}\n",
        "steps.decontaminate.limits.words",
    ),
    "failed rows": (STEPS, "limits: {failed_rows: NUMBER}\n" + STEPS, "limits.failed_rows"),
    "removal": (STEPS, "limits: {removal: {quality: NUMBER}}\n" + STEPS, "limits.removal.quality"),
    "removal of a language": (
        STEPS,
        "limits: {removal: {languages: {bn: {quality: NUMBER}}}}\n" + STEPS,
        "limits.removal.languages.bn.quality",
    ),
    "text of what is dropped": (STEPS, "keep_dropped: {text: NUMBER}\n" + STEPS, "keep_dropped.text"),
    "tokens of a shard": (STEPS, "shards: {tokens: NUMBER}\n" + STEPS, "shards.tokens"),
    "repetitions": (STEPS, "rehydrate: {max: NUMBER}\n" + STEPS, "rehydrate.max"),
    "target": (STEPS, MADE.replace("MORE", "target: NUMBER") + STEPS, "generate.qa.target"),
    "share of seeds": (STEPS, MADE.replace("MORE", "share: NUMBER") + STEPS, "generate.qa.share"),
    "guard": (STEPS, MADE.replace("MORE", "make: {limits: {max_length_ratio: NUMBER}}") + STEPS, "generate.qa"),
}


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "nan"])
@pytest.mark.parametrize("name", PLACES)
def test_a_number_of_a_recipe_that_is_none_is_told_with_line_and_key(name: str, number: str, tmp_path: Path):
    old, new, key = PLACES[name]
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new.replace("NUMBER", number))
    file = write(tmp_path, text)
    line = 1 + next(n for n, said in enumerate(text.splitlines()) if number in said)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert f"{file}:{line}: `{key}`: " in caught.value.message
    if name == "guard":
        assert "`make.limits.max_length_ratio`" in caught.value.message


@pytest.mark.parametrize("number", [".nan", ".inf"])
@pytest.mark.parametrize(
    "section", ["router: {aux: NUMBER}", "spikes: {deviations: NUMBER}", "optimizer: {clip: NUMBER}"]
)
def test_a_number_of_a_training_recipe_too(section: str, number: str, tmp_path: Path):
    text = f"model: marco-nano\nsequence: 8\nglobal_batch: 1\nschedule: {{peak: 1.0, warmup: 0}}\n{section}\n"
    file = write(tmp_path, text.replace("NUMBER", number), "train.yaml")
    with pytest.raises(RecipeError, match=rf"{file}:5: .*finite"):
        load_train_recipe(file)


def models(kind: Any, seen: set[type]) -> Iterator[type[BaseModel]]:
    """A model and those of its fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen.add(kind)
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation, seen)
    for inner in get_args(kind):
        yield from models(inner, seen)


def has_float(kind: Any) -> bool:
    return kind is float or any(map(has_float, get_args(kind)))


def test_no_field_that_a_file_sets_takes_a_number_that_is_none():
    seen: set[type] = set()
    roots = [Recipe, TrainRecipe, Prices, Place, EndpointPool, ScriptedPool, VllmPool, Limits, Mcq, Qa, Rephrase, Stem]
    fields = 0
    for model in (found for root in roots for found in models(root, seen)):
        finite = ConfigDict(allow_inf_nan=model.model_config.get("allow_inf_nan", True))
        for name, field in model.model_fields.items():
            if has_float(field.annotation):
                fields += 1
                adapter = TypeAdapter(Annotated[field.annotation, field], config=finite)
                for number in (float("nan"), float("inf")):
                    for value in (number, {"eng_Latn": number}, {"eng_Latn": {"min_words": number}}):
                        with pytest.raises(ValidationError):
                            print(model.__name__, name, adapter.validate_python(value))
    assert fields > 60
