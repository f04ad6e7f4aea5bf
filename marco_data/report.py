"""What a person or a script is told: the `stats` object, tables, the plan's tree, a document's fate, what failed."""

import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from marco_data.catalog import INPUT
from marco_data.generation.accounting import Price, requests_by, requests_object, requests_table
from marco_data.generation.estimate import Estimate
from marco_data.generation.estimate_table import estimates_table
from marco_data.languages import LANGUAGES
from marco_data.plan import NodePlan, SourcePlan
from marco_data.recipe import Recipe
from marco_data.records import DROPPED, FAILED, GENERATED, KEPT, READ, REPLACED
from marco_data.stage import Stage
from marco_data.storage import Storage
from marco_data.why import Answer


def stats_object(stage: Stage, storage: Storage) -> dict[str, Any]:
    """The object of `stats N --json`; see the README for its keys."""
    b = stage.books
    return {
        "family": stage.family,
        "stage": stage.stage,
        "complete": stage.complete,
        "balanced": stage.balanced,
        "documents": {
            "read": b.read,
            "generated": b.generated,
            "kept": b.kept,
            "replaced": b.replaced,
            "dropped": dict(b.dropped),
            "failed": dict(b.failed),
        },
        "languages": _sums(stage, "language"),
        "parts": _parts(stage),
        "shards": [storage.uri(s["prefix"]) for s in stage.shards],
        "blend": storage.uri(f"{stage.folder}/blend.json") if stage.complete else None,
        "failed_shards": [{"shard": f.shard, "error": f.error} for f in stage.failures],
        "waived": list(stage.waived),
        "alarms": [{**asdict(alarm), "name": alarm.name, "share": alarm.share} for alarm in stage.alarms],
        "files": stage.files,
        "benchmarks": stage.benchmarks,
        "requests": requests_object(stage.wanted),
        "requests_by": requests_by(stage.wanted, _prices(stage)),
        "generation_ended": stage.ended,
    }


def _prices(stage: Stage) -> dict[str, Price]:
    """By model, as the pools of the build stated them."""
    return {model: Price(**price) for model, price in stage.prices.items()}


def _sums(stage: Stage, key: str) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for shard in sorted(stage.shards, key=lambda s: str(s[key])):
        entry = out.setdefault(shard[key], {"documents": 0, "tokens": 0, "bytes": 0})
        for unit in entry:
            entry[unit] += shard[unit]
    return out


def _parts(stage: Stage) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {
        part: {"documents": 0, "tokens": 0, "languages": {}} for part in stage.recipe["mixture"]
    }
    for shard in stage.shards:
        entry = out[shard["part"]]
        entry["documents"] += shard["documents"]
        entry["tokens"] += shard["tokens"]
        entry["languages"][shard["language"]] = entry["languages"].get(shard["language"], 0) + shard["tokens"]
    return out


def language_table(stage: Stage) -> Table:
    """Tokens and drops by language, drops by the step that decided them."""
    rows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    steps: dict[str, None] = {}
    for count in stage.counts:
        row = rows[count.language]
        if count.outcome in (READ, GENERATED, REPLACED):
            row[count.outcome] += count.documents
        elif count.outcome == KEPT:
            row["kept"] += count.documents
            row["tokens"] += count.tokens
        elif count.outcome in (DROPPED, FAILED):
            step = "failed" if count.outcome == FAILED else f"-{count.reason.partition('/')[0]}"
            steps[step] = None
            row[step] += count.documents
    table = Table(title=f"{stage.family} stage {stage.stage}", title_justify="left", show_footer=True)
    order = sorted(steps, key=lambda s: (_ORDER.index(s) if s in _ORDER else len(_ORDER), s))
    there = {name for row in rows.values() for name in row}
    names = ["read", *(n for n in (GENERATED,) if n in there), *order]
    names += [*(n for n in (REPLACED,) if n in there), "kept", "tokens"]
    total = {name: sum(row[name] for row in rows.values()) for name in names}
    table.add_column("language", footer="all")
    for name in names:
        table.add_column(
            name.replace("_", " ").replace("-read", "-reading"), justify="right", footer=f"{total[name]:,}"
        )
    ranked = sorted(rows.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    for code, row in ranked:
        label = f"{code} {LANGUAGES[code].name}" if code in LANGUAGES else code
        table.add_row(label, *(f"{row[name]:,}" if row[name] else "" for name in names))
    return table


SHOWN = 120  # characters of a leak, or of a rejected text
MOST_GROUNDS = 4  # of an estimate in the printed plan; --json has all of them
MOST_KEYS = 5  # of a node's changed keys in the printed plan; --json has all of them
_ORDER = [
    "failed",
    "-read",
    "-normalize",
    "-remove",
    "-url_block_list",
    "-select_language",
    "-quality",
    "-decontaminate",
    "-dedup",
    "-mix",
]


def console(*, stderr: bool = False) -> Console:
    """Stdout (or stderr); wide where it is no terminal, so that a log holds the whole table."""
    out = Console(stderr=stderr)
    return out if out.is_terminal else Console(stderr=stderr, width=200)


def program() -> str:
    """How this program can be called again from here: by name, or by its path where the name is not on PATH."""
    if shutil.which("marco-data") or Path(sys.argv[0]).name != "marco-data":
        return "marco-data"
    path = Path(sys.argv[0])
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_built(stage: Stage, storage: Storage) -> None:
    """The end of a build: languages, where the shards are, what to do next."""
    console().print(language_table(stage))
    if not stage.complete:
        return
    prefix = f"--root {shlex.quote(storage.root)}" + ("" if stage.family == "sample" else f" --family {stage.family}")
    n, me = stage.stage, program()
    print(f"\n{len(stage.shards)} shards; the blend is {storage.uri(stage.folder)}/blend.json")
    print("\nNext:")
    print(f"  {me} stats {n} {prefix}            # the books, by reason and part; --json for scripts")
    print(f"  {me} why ID-OR-URL {prefix}      # where a document went, and why")
    print(f"  {me} failures {n} {prefix}         # rows that could not be read")
    if INPUT not in stage.recipe["mixture"]:
        print(f"  {me} build-stage {n} --input my.jsonl --field text=content")


def budget_note(stage: Stage, storage: Storage) -> str | None:
    """What to say where a stage draws markedly less than its budget."""
    blend = storage.read_json(f"{stage.folder}/blend.json") if stage.complete else None
    budget = stage.recipe["budget"]
    if blend is None or budget is None or blend["drawn"] >= 0.9 * budget:
        return None
    return (
        f"note: the stage draws {blend['drawn']:,} of the {budget:,} tokens asked for; "
        "its blend.json has the shortfall of each part and language"
    )


def print_plan(title: str, recipe: Recipe, sources: list[SourcePlan], nodes: list[NodePlan]) -> None:
    """The tree of a plan: what is there, what will run, because of which key."""
    budget = f"{recipe.budget:,} tokens" if recipe.budget else "no budget: everything once"
    print(f"{title}: {len(recipe.languages)} languages, {budget}")
    for s in sources:
        what = f"{s.files} files, {s.bytes:,} bytes" if s.problem is None else f"not reachable from here: {s.problem}"
        print(f"  source {s.source} -> {s.part}: {what}")
    rows = _passes_folded(nodes)
    wide = max(len(n.node) for _, n in rows)
    for i, (first, n) in enumerate(rows):
        branch = "└─" if i == len(rows) - 1 else "├─"
        passes = f", and {nodes.index(n) - nodes.index(first)} passes before it from {first.folder} on"
        count = "" if n.tasks is None else f" ({n.pending} of {n.tasks} tasks to do)"
        print(f"{branch} {n.node:<{wide}} {n.status:<10} {n.folder}{count}{'' if first is n else passes}")
        more = [f"and {len(first.because) - MOST_KEYS} keys more"] if len(first.because) > MOST_KEYS else []
        for reason in first.because[:MOST_KEYS] + more:
            print(f"{'  ' if i == len(rows) - 1 else '│ '}              {reason}")


def _passes_folded(nodes: Sequence[NodePlan]) -> list[tuple[NodePlan, NodePlan]]:
    """The lines of a plan as first and last node: dedup's passes in one, as far as they share a status.

    A pass with tasks left, or with a reason that is not the pass before it, begins a line of its own.
    """
    rows: list[tuple[NodePlan, NodePlan]] = []
    inside = False
    for n in nodes:
        first, last = rows[-1] if rows else (n, n)
        same = (n.status, n.tasks is None) == (last.status, last.tasks is None)
        own = n.pending or n.because not in ([], [f"reads what `{last.node}` makes"])
        if inside and same and not own and not last.pending:
            rows[-1] = (first, n)
        else:
            rows.append((n, n))
        inside = (inside and not n.node.startswith("dedup")) or n.node.startswith("documents")
    return rows


def print_estimates(found: Sequence[Estimate], said: Sequence[str]) -> None:
    """What generation is expected to take, and what that rests on."""
    if found:
        header, lines, grounds = estimates_table(found)
        title = "\ngeneration, expected (in brackets: where nine samples of ten have it)"
        console().print(_cells_table(title, header, lines))
        for ground in grounds[:MOST_GROUNDS]:
            print(f"  measured on {ground}")
        if len(grounds) > MOST_GROUNDS:
            print(f"  and {len(grounds) - MOST_GROUNDS} grounds more, which --json has")
    for note in said:
        print(f"  {note}")


def _cells_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    """A table of strings without the columns in which nothing stands; words to the left, figures to the right."""
    table = Table(title=title, title_justify="left")
    filled = [i for i in range(len(header)) if any(line[i] for line in lines)]
    for i in filled:
        table.add_column(header[i], justify="left" if header[i] in WORDS else "right", overflow="fold")
    for line in lines:
        table.add_row(*(line[i] for i in filled))
    return table


WORDS = ("entry", "maker", "language", "prompt", "model", "rejected")  # columns that hold no figures

NARROW = 140
"""Cells; in less, fifteen columns are unreadable."""
IN_NARROW = ("maker", "language", "requested", "accepted", "rejected")


def print_requests(out: Console, stage: Stage) -> None:
    """The requests of each maker and language, where there is room also by prompt and model; reasons of all below."""
    narrow = out.width < NARROW
    rows = [replace(row, prompt="", model="") for row in stage.wanted] if narrow else stage.wanted
    header, lines = requests_table(rows, _prices(stage))
    if narrow:
        chosen = [header.index(name) for name in IN_NARROW]
        header, lines = IN_NARROW, [tuple(line[i] for i in chosen) for line in lines]
    total = lines[-1] if len(lines) > 1 else None
    if total is not None:
        lines[-1] = (*total[:-1], "")
    out.print(_cells_table("\nrequests", header, lines))
    if total is not None and total[-1]:
        out.print(f"  rejected: {total[-1]}", markup=False, highlight=False)


def print_books(report: dict[str, Any], stage: Stage) -> None:
    """`stats`: languages, then documents by outcome and reason, then parts."""
    out = console()
    out.print(language_table(stage))
    table = Table(title="\nbooks", title_justify="left")
    table.add_column("documents")
    table.add_column("", justify="right")
    documents = report["documents"]
    for key in ("read", "generated", "kept", "replaced"):
        table.add_row(key, f"{documents[key]:,}")
    for outcome in ("dropped", "failed"):
        for reason, n in documents[outcome].items():
            table.add_row(f"{outcome}: {reason}", f"{n:,}")
    table.add_row("balanced", str(report["balanced"]).lower())
    out.print(table)
    if stage.alarms:
        raised = Table(title="\nalarms", title_justify="left")
        for name in ("alarm", "dropped", "of", "share", "limit", ""):
            raised.add_column(name, justify="left" if name in ("alarm", "") else "right")
        for alarm in stage.alarms:
            numbers = (f"{alarm.dropped:,}", f"{alarm.reached:,}", f"{alarm.share:.1%}", f"{alarm.limit:.1%}")
            raised.add_row(alarm.name, *numbers, "waived" if alarm.waived else "stopped the build")
        out.print(raised)
    if stage.requests:
        print_requests(out, stage)
    if stage.benchmarks:
        leaks = Table(title="\nbenchmarks", title_justify="left")
        for name in ("benchmark", "items found", "documents dropped"):
            leaks.add_column(name, justify="left" if name == "benchmark" else "right")
        for name, found in stage.benchmarks.items():
            leaks.add_row(name, f"{found['items']:,}", f"{found['documents']:,}")
        out.print(leaks)
    parts = Table(title="\nparts", title_justify="left")
    for name in ("part", "documents", "tokens", "languages"):
        parts.add_column(name, justify="left" if name == "part" else "right")
    for name, part in report["parts"].items():
        parts.add_row(name, f"{part['documents']:,}", f"{part['tokens']:,}", f"{len(part['languages'])}")
    out.print(parts)


def describe(a: Answer) -> str:
    """One document's fate in three lines."""
    measured = "" if a.measured is None else f" (measured {a.measured:.4g})"
    twin = "" if a.duplicate_of is None else f"\n  duplicate of {a.duplicate_of}, similarity {a.similarity:.3f}"
    leaks = "".join(f"\n  holds {told_leak(leak)}" for leak in a.leaks)
    score = "" if a.language_score is None else f", {a.language} {a.language_score:.4f}"
    if len(a.language_shares) > 1:
        score += (
            f" ({', '.join(f'{language} {share:.0%}' for language, share in a.language_shares.items())} of the text)"
        )
    return (
        f"{a.source_id or a.url or a.id}: {a.verdict}{f': {a.reason}' if a.reason else ''}{measured}{twin}{leaks}\n"
        f"  id {a.id}{score}, tier {a.quality_tier or '-'}, part {a.part or '-'}\n"
        f"  from {a.file or 'what was generated'}, position {a.position}, {a.url or 'no url'}, "
        f"licence {a.licence or 'not stated'}{''.join(_told_generation(a))}"
    )


def _told_generation(a: Answer) -> Iterator[str]:
    """Lines on what a document was generated from, and on what was generated from it."""
    if a.replaced_by is not None:
        yield f"\n  replaced by {a.replaced_by}"
    if a.origin is not None:
        labels = ", ".join(f"{k} {v}" for k, v in a.origin["labels"].items())
        yield (
            f"\n  made by {a.origin['maker']} ({a.origin['prompt']}) with {a.origin['model']} "
            f"from {', '.join(a.origin['parent_ids'])}{f'; {labels}' if labels else ''}"
        )
    for wanted in a.made:
        what = f"{wanted['maker']} in {wanted['language']}"
        if wanted["id"]:
            yield f"\n  {what}: {wanted['id']}"
            continue
        measured = "" if wanted["measured"] is None else f" (measured {wanted['measured']:.4g})"
        shown = _beginning(wanted["text"])
        yield f"\n  {what}: rejected: {wanted['reason']}{measured}{f': {shown}' if shown else ''}"


def told_leak(leak: dict[str, Any]) -> str:
    """A leaked item in a line, and the beginning of what the document has of it."""
    return (
        f"{leak['share']:.0%} of {leak['benchmark']} {leak['item']} ({leak['field']}, {leak['language']}) "
        f"at {leak['start']}-{leak['end']}: {_beginning(leak['text'])}"
    )


def _beginning(text: str | None) -> str:
    """A text's first words on one line."""
    whole = text or ""
    return " ".join(whole[:SHOWN].split()) + ("..." if len(whole) > SHOWN else "")


def tell_failures(
    stage: Stage, recipe: Recipe, root: str, which: str, say: Callable[[str], None], pools: str = ""
) -> int:
    """Say what went wrong, loudest last; the exit code. `pools` are the words that name the models' machines again."""
    for failure in stage.failures:
        say(f"failed: {failure.shard}: {failure.error}")
        again = f"{program()} build-stage {stage.stage} {which} --root {shlex.quote(root)} --only {failure.shard}"
        say(f"  again: {again} --executor local{pools}")
    if not stage.complete:
        if stage.failures or not stage.alarms:
            say(f"{len(stage.failures)} shards failed; the steps that need all of them did not start")
        else:
            say("\nthe build stopped there: nothing was tokenized or mixed; what is done stays done")
        return 1
    books = stage.books
    failed = sum(books.failed.values())
    code = 0
    if failed:
        reasons = ", ".join(f"{reason} {n}" for reason, n in books.failed.items())
        code |= _tell_share(failed, books.read, f"rows could not be judged ({reasons})", "failed_rows", recipe, say)
        say(f"  they are listed by: {program()} failures {stage.stage} {which} --root {shlex.quote(root)}")
    for source, files in stage.files.items():
        if files["broken"]:
            code |= _tell_share(
                files["broken"], files["files"], f"files of `{source}` are broken", "failed_files", recipe, say
            )
    if not stage.balanced:
        say("error: the books do not balance: some documents are unaccounted for")
        code = 1
    return code


def _tell_share(some: int, all: int, what: str, limit: str, recipe: Recipe, say: Callable[[str], None]) -> int:
    allowed = getattr(recipe.limits, limit)
    over = some > allowed * all
    say(f"{'error' if over else 'warning'}: {some:,} of {all:,} {what}; limits.{limit} allows {allowed:.4%}")
    return int(over)
