"""The commands. Data goes to stdout, progress and complaints to stderr; exit 0 done, 1 some shards failed or the
books do not balance, 2 the recipe or the command is wrong.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from marco_data import __version__
from marco_data.benchmark_build import make_index
from marco_data.benchmark_index import IndexMissing
from marco_data.catalog import Choice, parse_fields, resolve
from marco_data.cli_build import Machines, build_stage, plan_of, reachable, retry, say
from marco_data.cli_cluster import jobs, submit
from marco_data.cli_dashboard import dashboard
from marco_data.cli_doctor import doctor
from marco_data.cli_duplicates import duplicates
from marco_data.cli_languages import languages
from marco_data.cli_ledger import ledger, stats
from marco_data.cli_plan import ByLanguage, Compare, PriceFile, ProbeDocuments, compare_plan, look_around
from marco_data.cli_prompts import export_completions, prompts
from marco_data.cli_prune import prune
from marco_data.cli_recipe import init, recipe
from marco_data.cli_removed import removed
from marco_data.cli_train_convert import export, upcycle
from marco_data.cli_train_data import (
    BatchSize,
    IterationNumber,
    OrderName,
    OrderSeed,
    Run,
    SequenceLength,
    print_batch,
    settings,
)
from marco_data.cli_train_model import model_info
from marco_data.cli_train_run import train
from marco_data.errors import MarcoError, RecipeError
from marco_data.evidence import Pair, explained
from marco_data.generation.estimate import Estimate
from marco_data.generation.estimate_table import estimates_object
from marco_data.generation.validation import Problem
from marco_data.options import (
    AnyStage,
    Budget,
    Family,
    Fields,
    Inputs,
    Json,
    Languages,
    Pools,
    RecipeOption,
    Root,
    StageNumber,
    Verify,
    built_stage,
)
from marco_data.plan import SKIP, plan_nodes, plan_object, plan_sources
from marco_data.plan_expect import Taken, expect, expectation_object
from marco_data.plan_generation import check_generation, estimates
from marco_data.prices import load_prices
from marco_data.probe import DOCUMENTS
from marco_data.recipe import load_recipe
from marco_data.records import Record
from marco_data.redact import redacted
from marco_data.removal import shards_with
from marco_data.report import describe, print_estimates, print_plan
from marco_data.report_evidence import print_pair
from marco_data.report_price import print_expected
from marco_data.stage import find_stage
from marco_data.steps.remove import COPIES, LISTED
from marco_data.storage import DISK_FULL, Storage
from marco_data.why import Answer, Lookup, Place, harmless

INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
err = Console(stderr=True)


def main() -> None:
    """Run a command; a mistake of the user's ends in one message, never in a traceback."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # documents are in every script, whatever the locale is
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    # A recipe may name steps and pipelines of the user's own: they are looked for where the command is given.
    sys.path.insert(0, str(Path.cwd()))
    try:
        # Without its standalone mode, typer hands the code of `typer.Exit` back instead of raising it; 130 is what it
        # makes of an interrupt.
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            err.print("interrupted; the same command goes on where this one stopped", markup=False)
        sys.exit(code)
    except MarcoError as error:
        _complain(error)
        sys.exit(2 if isinstance(error, RecipeError) else 1)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        full = error.errno in DISK_FULL
        what = (
            os.strerror(error.errno or 0) if full else error.strerror or str(error)
        )  # pyarrow words a full disk at length
        hint = "make room and run the same command again: what is done stays done" if full else None
        _complain(MarcoError(f"{what}: {error.filename}" if error.filename else what, hint=hint))
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # click's own usage errors
            message = error.format_message()  # without a command it is the help, and no error
            err.print(message if message.startswith("Usage:") else f"error: {message}", markup=False, soft_wrap=True)
            sys.exit(2)
        err.print(redacted(traceback.format_exc()), markup=False)
        err.print("this is a bug of marco-data, not yours: please report the lines above", markup=False)
        sys.exit(1)


def _complain(error: MarcoError) -> None:
    err.print(harmless(f"error: {error.message}"), markup=False, highlight=False, soft_wrap=True)
    if error.hint:
        err.print(harmless(f"\nhint: {error.hint}"), markup=False, highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Curate multilingual pretraining data: real documents in, tokenized shards of a curriculum stage out."""
    if version:
        print(__version__)
        raise typer.Exit(0)


app.command("build-stage")(build_stage)
app.command()(init)
app.command()(doctor)
app.command()(submit)
app.add_typer(jobs, name="jobs")
app.command()(retry)
app.command()(prompts)
app.command("export-completions")(export_completions)
app.command()(train)
app.command("model-info")(model_info)
app.command()(upcycle)
app.command()(export)


@app.command()
def plan(
    target: Annotated[str, typer.Argument(help="A stage number, or a recipe file.")],
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    pools: Pools = None,
    sample: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    verify: Verify = False,
    documents: ProbeDocuments = DOCUMENTS,
    prices: PriceFile = None,
    by_language: ByLanguage = False,
    compare: Compare = False,
    json_output: Json = False,
) -> None:
    """Show what a build would do, because of which key, and what it will come to. Starts nothing.

    Example:  marco-data plan 3 --family marco-mini
    """
    choice = _target(target, Choice(None, family, recipe, languages, budget, input or (), parse_fields(field or [])))
    resolved = resolve(choice)
    bill = load_prices(prices) if prices else None
    dataset = reachable(plan_of(resolved, sample, verify), Machines(pools=pools), Storage(root))
    if compare:
        raise typer.Exit(compare_plan(resolved, dataset, Storage(root), documents, by_language, json_output))
    sources = plan_sources(dataset, resolved.part_of, Storage(root))
    all_there = all(s.problem is None for s in sources)
    before = find_stage(Storage(root), resolved.family, resolved.stage)
    done: dict[str, Sequence[Record]] = {}
    nodes = plan_nodes(dataset, Storage(root), before, all_there, done)
    title = f"{resolved.family} stage {resolved.stage}"
    found: list[Estimate] = []
    said: list[str] = []
    wrong: list[Problem] = []
    wanted = before.wanted if before else []
    looked, unseen = look_around(resolved, dataset, sources, nodes, documents)
    if resolved.generate and all_there and looked is not None:
        found, said = estimates(dataset, Storage(root), done, wanted, looked)
        problems = check_generation(dataset, found)
        said += [f"{p.message}\n    {p.hint}" for p in problems if not p.fatal]
        wrong = [p for p in problems if p.fatal]
    expected = None
    if looked is not None:
        there = frozenset(row.node for row in nodes if row.status == SKIP)
        taken = Taken(tuple(found), tuple(wanted), there)
        expected = expect(resolved, dataset, Storage(root), looked, taken, prices=bill)
    if json_output:
        problem_rows = [asdict(problem) for problem in wrong]
        generation = {**estimates_object(found), "notes": said, "problems": problem_rows}
        expected_object = None if expected is None else expectation_object(expected)
        rows = {"generation": generation, "expected": expected_object, "not_expected": unseen}
        print(json.dumps({**plan_object(sources, nodes, title, None), **rows}, ensure_ascii=False))
    else:
        print_plan(title, resolved, sources, nodes)
        print_estimates(found, said)
        if expected is not None:
            print_expected(expected, by_language)
        if unseen:
            print(f"  not expected from here: {unseen}")
    for problem in wrong:
        say(f"error: {problem.message}\nhint: {problem.hint}")
    raise typer.Exit(1 if wrong else 0)


def _target(target: str, choice: Choice) -> Choice:
    if target.isdigit():
        return Choice(int(target), *list(vars(choice).values())[1:])
    return Choice(None, choice.family, Path(target), *list(vars(choice).values())[3:])


app.command()(stats)
app.command()(ledger)
app.command()(prune)
app.command()(removed)


@app.command()
def why(
    terms: Annotated[
        list[str] | None, typer.Argument(help="Ids, source ids, URLs or PREFIX:TOKEN; `-` reads them from stdin.")
    ] = None,
    stage: AnyStage = None,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    iteration: IterationNumber = None,
    run: Run = None,
    sequence: SequenceLength = None,
    batch: BatchSize = None,
    order: OrderName = None,
    seed: OrderSeed = None,
    json_output: Json = False,
) -> None:
    """Where documents went, and why; which document a token of a shard comes from; the documents of a training batch.

    Example:  marco-data why https://example.org/page
    """
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []))
    if iteration is not None and not terms:
        known = settings(run, sequence, batch, order, seed)
        print_batch(*built_stage(choice, root), iteration, known, json_output=json_output)
        return
    if iteration is not None or not terms:
        raise RecipeError("`why` asks for documents, or with --iteration for a batch", hint="marco-data why --help")
    if (run, sequence, batch, order, seed) != (None, None, None, None, None):
        raise RecipeError("--run, --sequence, --batch, --order and --seed go with --iteration")
    lookup = Lookup(*built_stage(choice, root))
    wanted = [line for t in terms for line in (sys.stdin.read().split("\n") if t == "-" else [_typed(t)]) if line]
    found: set[str] = set()
    for term, place, answer, pair in _explained(lookup, wanted):
        found.add(term)
        held = shards_with(lookup, place, answer) if answer.reason in (LISTED, COPIES) else {}
        if json_output:
            said = {**asdict(answer), "held_by": held, "pair": pair and asdict(pair)}
            print(json.dumps(said, ensure_ascii=False))
            continue
        print(harmless(describe(answer)))
        for folder, shards in held.items():
            print(f"  {folder} still has it, or what was made of it: {', '.join(shards)}")
        if pair is not None:
            print_pair(pair)
    missing = [term for term in wanted if term not in found]
    for term in missing:
        say(f"not found in this stage: {term}")
    raise typer.Exit(1 if missing else 0)


AT_ONCE = 1000
"""Documents whose twins are looked for together: one look through the corpus, and a few kB of texts for each."""


def _explained(lookup: Lookup, terms: Sequence[str]) -> Iterator[tuple[str, Place, Answer, Pair | None]]:
    """(term, place, answer, pair) of every document that is meant."""
    meant = lookup.meant(terms)
    while some := list(islice(meant, AT_ONCE)):
        known = explained(lookup, [place for _, place in some])
        for (term, place), (answer, pair) in zip(some, known, strict=True):
            yield term, place, answer, pair


def _typed(argument: str) -> str:
    """An argument as UTF-8, whatever the locale took its bytes for; bytes that are none are shown as such."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")


@app.command()
def find(
    text: Annotated[str, typer.Argument(help="Text to look for.")],
    stage: AnyStage = None,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    most: Annotated[int, typer.Option(min=1, help="Stop after so many.")] = 20,
    json_output: Json = False,
) -> None:
    """Search a stage's kept text.

    Example:  marco-data find river
    """
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []))
    lookup = Lookup(*built_stage(choice, root))
    count = 0
    for place, around in lookup.find(_typed(text)):
        answer = lookup.answer(place, name_twin=False)
        if answer.verdict != "kept":
            continue
        count += 1
        if json_output:
            print(json.dumps({**asdict(answer), "around": around}, ensure_ascii=False))
        else:
            name = answer.source_id or answer.url or answer.id
            print(harmless(f"{name} {answer.language}: {' '.join(around.split())}"))
        if count == most:
            break
    if count == 0:
        err.print("not found in what this stage keeps", markup=False)
        raise typer.Exit(1)


app.command()(duplicates)
app.command()(dashboard)


@app.command()
def failures(
    stage: StageNumber,
    family: Family = "sample",
    recipe: RecipeOption = None,
    root: Root = "./marco-out",
    languages: Languages = None,
    input: Inputs = None,
    field: Fields = None,
    budget: Budget = None,
    json_output: Json = False,
) -> None:
    """List the files and rows that could not be read, with reason, position and first bytes."""
    choice = Choice(stage, family, recipe, languages, budget, input or (), parse_fields(field or []))
    built, storage = built_stage(choice, root)
    for failure in built.failures:
        print(json.dumps(asdict(failure)) if json_output else harmless(f"{failure.shard}: {failure.error}"))
    for row in Lookup(built, storage).failures():
        if json_output:
            print(json.dumps(row, ensure_ascii=False))
        else:
            where = f"{', '.join(row['files'])} at {row['position']}"
            print(harmless(f"{row['failed']}  {where}  {row['first_bytes'][:100]}"))


app.add_typer(languages, name="languages")
app.add_typer(recipe, name="recipe")


@app.command()
def validate(recipe: Annotated[Path, typer.Argument(help="A recipe file.")]) -> None:
    """Check a recipe: keys, languages, mixture, limits, the order of steps. Reads no data.

    Example:  marco-data validate my-recipe.yaml
    """
    resolved = load_recipe(recipe)
    dataset = plan_of(resolved)
    for node in dataset.nodes:
        _check_node(node)
    parts = resolved.mixture
    print(
        f"{recipe}: {resolved.family} stage {resolved.stage}, {len(resolved.languages)} languages, {len(parts)} parts"
    )


def _check_node(node: Any) -> None:
    try:
        assert node.identity
    except (OSError, ImportError, IndexMissing) as error:
        say(f"not checked from here: `{node.name}`: {error}")


@app.command("index-benchmarks")
def index_benchmarks(
    stage: Annotated[int | None, typer.Argument(min=1, max=9, help="Curriculum stage, of a family.")] = None,
    family: Family = "sample",
    recipe: RecipeOption = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Ordinary text, to know what is common: file, folder or glob (repeatable).")
    ] = None,
    field: Annotated[list[str] | None, typer.Option("--field", help="Where --reference has what: text=COLUMN.")] = None,
    out_file: Annotated[str | None, typer.Option("--out", help="The index to write; default: the recipe's.")] = None,
) -> None:
    """Make the index of benchmark items that a recipe's `decontaminate` looks documents through by.

    Example:  marco-data index-benchmarks 3 --family marco-mini --reference sample.jsonl
    """
    section = resolve(Choice(stage, family, recipe)).steps.decontaminate
    if section is None:
        raise RecipeError("this recipe names no benchmarks", hint="its `steps` have no `decontaminate`")
    print(json.dumps(make_index(section, out_file, reference or (), parse_fields(field or []))))


@app.command("train-language-id")
def train_language_id(
    text: Annotated[Path, typer.Option(help="Folder of .jsonl(.zst) files with the fields id, text and label.")],
    out_file: Annotated[Path, typer.Option("--out", help="The .ftz to write; its facts go beside it as .json.")],
    other: Annotated[Path | None, typer.Option(help="Such a folder of other languages, to learn rejection.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed and text give the same bytes.")] = 1,
) -> None:
    """Train the language-identification model; the shipped one was made this way.

    Example:  marco-data train-language-id --text labelled/ --out language_id.ftz
    """
    from marco_data.languages.train import train

    facts = train(text, out_file, seed, other)
    print(json.dumps({"out": str(out_file), "sha256": facts["sha256"], "held_out": facts["held_out"]}))


@app.command("train-tokenizer")
def train_tokenizer_command(
    text: Annotated[Path, typer.Option(help="Folder of .txt files.")],
    out_file: Annotated[Path, typer.Option("--out", help="The tokenizer.json to write.")],
    vocab_size: Annotated[int, typer.Option(min=300)] = 4096,
) -> None:
    """Train a small byte-level BPE tokenizer, the same bytes each time.

    Example:  marco-data train-tokenizer --text recipes/sample/text --out tokenizer.json --vocab-size 4096
    """
    from marco_data.tokenizer import train_tokenizer

    files = sorted(text.glob("*.txt"))
    if not files:
        raise RecipeError(f"no .txt files in `{text}`")
    train_tokenizer((file.read_text(encoding="utf-8") for file in files), vocab_size, out_file)
    print(out_file)


if __name__ == "__main__":
    main()
