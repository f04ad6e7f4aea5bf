"""The commands `init` and `recipe diff`, `show`, `pin` and `schema`: recipes are written and compared, never built."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from marco_data.catalog import Choice, parse_fields, recipe_file
from marco_data.cli_build import say
from marco_data.errors import RecipeError
from marco_data.options import Fields, Json
from marco_data.plan import SKIP
from marco_data.recipe_changes import GONE, RecipeDiff, by_status, compare
from marco_data.recipe_pins import find_pins, write_pins
from marco_data.recipe_schema import recipe_schema
from marco_data.recipe_start import Wanted, look_at, recipe_yaml, write_recipe
from marco_data.recipe_text import ABSENT, DEFAULT, Difference, flow, leaves, read_recipe, shown, yaml_of
from marco_data.report import program
from marco_data.tokenizer import END_OF_DOCUMENT

recipe = typer.Typer(no_args_is_help=True, help="Compare recipes, show one in full, or print the schema for editors.")

MOST = 100
"""Characters of a value that `diff` shows; --json has all."""
Which = typer.Argument(help="A recipe file, or FAMILY/STAGE: sample/3.")


def file_of(name: str) -> Path:
    """The recipe that `sample/3` or a file's name means; a file goes before a family."""
    family, slash, stage = name.rpartition("/")
    if Path(name).is_file() or not (slash and stage.isdigit()):
        return Path(name)
    return recipe_file(Choice(int(stage), family))


@recipe.command("diff")
def diff(
    a: Annotated[str, Which],
    b: Annotated[str, Which],
    json_output: Json = False,
) -> None:
    """What changes from recipe A to recipe B, and what has to be built again because of it.

    Example:  marco-data recipe diff sample/3 my-recipe.yaml
    """
    found = compare(file_of(a), file_of(b))
    if json_output:
        print(json.dumps(asdict(found), ensure_ascii=False))
    else:
        _print_diff(found)


def _print_diff(found: RecipeDiff) -> None:
    # Defaults of what only one of the two has say nothing; --json has them.
    told = [key for key in found.keys if {key.place_a, key.place_b} != {ABSENT, DEFAULT}]
    print(f"{found.a} -> {found.b}: {len(told)} {'key differs' if len(told) == 1 else 'keys differ'}")
    for section in found.sections:
        print(f"\n{section.section}: {section.says}")
        for key in told:
            if key.section == section.section:
                before, after = _both(key)
                print(f"  {key.key}: {before} -> {after}    ({key.place_a} -> {key.place_b})")
    print()
    for status, names in sorted(by_status(found.nodes).items(), key=lambda item: (item[0] == SKIP, item[0] == GONE)):
        print(f"{status}: {', '.join(names)}")


def _both(key: Difference) -> tuple[str, str]:
    """Two values in short; of lists what is only in one of them."""
    a, b = key.a, key.b
    if isinstance(a, list) and isinstance(b, list) and len(flow([a, b])) > MOST:
        less, more = [x for x in a if x not in b], [x for x in b if x not in a]
        return f"{len(a)} items", f"{len(b)} items: without {_short(less)}, with {_short(more)}"
    return ("-" if key.place_a == ABSENT else _short(a)), ("-" if key.place_b == ABSENT else _short(b))


def _short(value: Any) -> str:
    text = flow(value)
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


@recipe.command("show")
def show(
    which: Annotated[str, Which],
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default filled in.")] = False,
    json_output: Json = False,
) -> None:
    """Print a recipe with its includes merged, and where each value comes from; the output is a recipe again.

    Example:  marco-data recipe show sample/3 --resolved
    """
    reading = read_recipe(file_of(which))
    if not json_output:
        print(yaml_of(reading, resolved=resolved), end="")
        return
    values = reading.values if resolved else reading.given
    places = {".".join(map(str, key)): reading.place(key) for key, _ in leaves(values)}
    print(
        json.dumps(
            {"recipe": str(reading.file), "digest": reading.recipe.digest, "values": values, "places": places},
            ensure_ascii=False,
        )
    )


@recipe.command("pin")
def pin(
    which: Annotated[str, Which],
    write: Annotated[
        bool, typer.Option("--write", help="Change the recipe's files; default: show what would be.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Find hub paths (hf://) that name no commit, and the commit that each has now: a build of it can be repeated.

    Example:  marco-data recipe pin my-recipe.yaml --write
    """
    pins = find_pins(file_of(which))
    if write:
        write_pins(pins)
    for found in pins:
        if json_output:
            print(json.dumps(asdict(found) | {"file": str(found.file)}, ensure_ascii=False))
        else:
            print(f"{shown(found.file)}:{found.line}: {found.path} -> {found.pinned}")
    if not pins:
        say("every path on a hub names a commit")
    elif not write:
        say(f"nothing is written; with --write, {len({found.file for found in pins})} files are changed")


@recipe.command("schema")
def schema(
    out: Annotated[Path | None, typer.Option("--out", help="Write it to this file; default: stdout.")] = None,
    part: Annotated[
        bool, typer.Option("--part", help="For files that others include: no key has to be there.")
    ] = False,
    languages_from: Annotated[
        Path | None, typer.Option("--languages-from", help="Languages of your own that recipes may name.")
    ] = None,
) -> None:
    """Print the JSON Schema of recipes, for an editor to complete and check keys by.

    Example:  marco-data recipe schema --out recipe.schema.json
    """
    text = json.dumps(recipe_schema(part=part, languages_from=languages_from), indent=1, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise RecipeError(f"--out: `{out}` cannot be written: {error.strerror}") from None
    say(f"written to {out}; the first line of a recipe beside it tells editors of it:")
    print(f"# yaml-language-server: $schema={out.name}")


def init(
    languages: Annotated[str | None, typer.Option(help="The languages to build: sw,en.")] = None,
    budget: Annotated[str | None, typer.Option(help="Tokens: 10M; `all` takes everything once.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="A tokenizer.json, its folder, or a URI.")] = None,
    input: Annotated[
        list[str] | None, typer.Option("--input", help="Where the data is: file, folder or glob (repeatable).")
    ] = None,
    field: Fields = None,
    end_of_document: Annotated[str, typer.Option(help="The tokenizer's token behind a document.")] = END_OF_DOCUMENT,
    family: Annotated[str, typer.Option(help="What the stages that belong together are called.")] = "mine",
    stage: Annotated[int, typer.Option(min=1, max=9, help="The stage's number.")] = 1,
    out: Annotated[Path, typer.Option("--out", help="The recipe to write.")] = Path("recipe.yaml"),
) -> None:
    """Ask for data, languages, budget and tokenizer, and write a recipe that plans.

    Example:  marco-data init --input my.jsonl --languages sw,en --budget 10M --tokenizer tokenizer.json --out my.yaml
    """
    if out.exists():
        raise RecipeError(f"`{out}` is there already", hint="give another --out, or take it away")
    given = {"--input": input, "--languages": languages, "--budget": budget, "--tokenizer": tokenizer}
    missing = [option for option, value in given.items() if not value]
    if missing and not sys.stdin.isatty():
        raise RecipeError(
            f"nobody can be asked here: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            hint="marco-data init --input my.jsonl --languages sw,en --budget 10M --tokenizer tokenizer.json",
        )
    inputs = input or [_ask("Where is the data (file, folder or glob)?")]
    fields = parse_fields(field or [])
    proposed = look_at(inputs, fields)
    columns = ", ".join(proposed.columns) or "none"
    say(f"{proposed.files:,} files; `{proposed.file}` is {proposed.format}, columns: {columns}")
    if missing and proposed.columns and "text" not in fields:
        text = _ask("Which column holds the text?", proposed.fields["text"])
        proposed = look_at(inputs, {**fields, "text": text})
    say(f"fields: {flow(dict(proposed.fields))}")
    codes = languages or _ask("Which languages (codes, with commas)?", ",".join(proposed.languages) or None)
    tokens = budget or _ask("How many tokens (10M, 2B; `all` takes everything once)?", "all")
    tokenizer = tokenizer or _ask("Which tokenizer (tokenizer.json, its folder, or a URI)?")
    wanted = Wanted.of(
        *(inputs, codes, "" if tokens == "all" else tokens, tokenizer),
        *(proposed.fields, end_of_document, family, stage),
        out=out,
    )
    write_recipe(out, recipe_yaml(wanted, proposed))
    say(f"next: {program()} plan {out}; {program()} build-stage {stage} --recipe {out}")
    print(out)


def _ask(question: str, proposal: str | None = None) -> str:
    """A line of stdin; an empty one takes the proposal. Stdout stays the recipe's name."""
    while True:
        print(f"{question}{f' [{proposal}]' if proposal else ''}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise RecipeError("the answers ended before the questions; nothing is written")
        if answer := line.strip() or proposal:
            return answer
