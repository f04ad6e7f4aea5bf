"""The command `removed`: what a recipe's list of documents to take out came to, and which files still hold them."""

import json

from marco_data.catalog import Choice, resolve
from marco_data.cli_build import say
from marco_data.errors import RecipeError
from marco_data.options import Budget, Family, Json, Languages, RecipeOption, Root, StageNumber, built_stage
from marco_data.removal import removal_of, tell_removal
from marco_data.step import Tools
from marco_data.steps.remove import read_list
from marco_data.why import Lookup


def removed(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    budget: Budget = None,
    json_output: Json = False,
) -> None:
    """What a recipe's `remove` took out of a stage, what is like it, and which shards and files still hold it.

    Example:  marco-data removed 3 --recipe without-them.yaml
    """
    choice = Choice(stage, family, recipe, languages, budget)
    wanted = resolve(choice).remove
    if wanted is None:
        raise RecipeError("this recipe removes nothing", hint="`remove: FILE` in a recipe names documents to take out")
    built, storage = built_stage(choice, root)
    found = removal_of(Lookup(built, storage), read_list(Tools().path(wanted.file)), wanted.copies)
    if json_output:
        print(json.dumps(found.to_object(), ensure_ascii=False))
        return
    tell_removal(found, wanted.file, storage, say)
    for path in (*found.texts, *found.ledger):
        print(storage.uri(path))
