"""What was dropped, as a person reads it: alarms and the documents they are about, pairs of duplicates, figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from marco_data.alarms import WHOLE, Alarm
from marco_data.catalog import INPUT
from marco_data.evidence import (
    BEGINNING,
    Dropped,
    Pair,
    Shown,
    Survey,
    Wanted,
    dropped,
    pairs,
    sample,
    similarity_label,
    size_label,
    surveyed,
)
from marco_data.recipe import Recipe, place_in
from marco_data.report import console
from marco_data.side_by_side import side_by_side
from marco_data.steps.remove import COPIES, LISTED
from marco_data.why import Lookup, inert

SHOWN_FOR = 3
"""Alarms that come with samples, those of most documents; the others are told in words."""

SAMPLES = 10
Say = Callable[[str], None]


def tell_alarms(lookup: Lookup, recipe: Recipe, path: Path, say: Say) -> None:
    """Every alarm of a stage: what was dropped, to look at, and what to change in the recipe at `path`."""
    alarms = sorted(lookup.stage.alarms, key=lambda alarm: -alarm.dropped)
    raised = [alarm for alarm in alarms if not alarm.waived]
    for alarm in raised[:SHOWN_FOR]:
        say(f"\n{SAMPLES} of them, dropped as {alarm.step}: {alarm.language} in `{alarm.source}`")
        for line in samples_of(lookup, alarm, console(stderr=True).width):
            say(line)
    for alarm in alarms:
        say("")
        say(told(alarm))
        if not alarm.waived:
            for line in _remedies(alarm, recipe, path):
                say(f"  {line}")


def told(alarm: Alarm) -> str:
    """An alarm in a sentence."""
    level = "waived" if alarm.waived else "error"
    whose = f"documents in `{alarm.source}`" if alarm.language == WHOLE else f"{alarm.language} in `{alarm.source}`"
    return (
        f"{level}: {alarm.step} dropped {alarm.share:.1%} of {whose}: {alarm.dropped:,} of the {alarm.reached:,} that "
        f"reached it; limits.removal allows {alarm.limit:.0%}"
    )


def samples_of(lookup: Lookup, alarm: Alarm, width: int) -> list[str]:
    """Sampled documents that an alarm is about, pairs where they are duplicates."""
    wanted = Wanted(alarm.step, None if alarm.language == WHOLE else alarm.language, alarm.source)
    if alarm.step.partition("/")[0] == "dedup":
        return [line for pair in pairs(lookup, sample(lookup, wanted, SAMPLES)) for line in pair_lines(pair, width)]
    return [line for one in dropped(lookup, wanted, SAMPLES) for line in _dropped_lines(one)]


def _remedies(alarm: Alarm, recipe: Recipe, path: Path) -> list[str]:
    assert recipe.limits.removal is not None
    key = recipe.limits.removal.key(alarm.step, alarm.source, alarm.language)
    share = math.ceil(alarm.share * 100) / 100
    if alarm.source == INPUT:  # its limits are those of a recipe of the user's own, which may not know it as a source
        change = f"`limits: {{removal: {{{alarm.step}: {share}}}}}` in a recipe of your own, --recipe, would allow it"
        return [change, f"to pass over this one alone: --waive {alarm.name}"]
    at = ("limits", "removal", *(key or ("sources", alarm.source, alarm.step)))
    where = place_in(path, at)
    if key is None:
        change = f"the limit is the default; `{'.'.join(at)}: {share}` would allow it: {where}"
    else:
        change = f"the limit is `{'.'.join(at)}`; {share} would allow it: {where}"
    waive = f"to pass over this one alone: `waive: [{alarm.name}]`: {place_in(path, ('waive',))}"
    return [change, f"{waive}, or --waive {alarm.name}"]


def print_pair(pair: Pair) -> None:
    """A pair on stdout."""
    print("\n".join(pair_lines(pair, console().width)))


def pair_lines(pair: Pair, width: int) -> list[str]:
    """A pair in `width` cells: what is known of it, the texts side by side."""
    how = "counted on shingles" if pair.counted else "estimated from signatures"
    alike = pair.reason == "dedup/near" or (pair.reason in (LISTED, COPIES) and pair.similarity < 1)
    how = how if alike else "the same text"
    cluster = "" if pair.cluster_size is None else f", cluster of {pair.cluster_size:,}"
    head = f"-- {pair.reason}, similarity {pair.similarity:.3f}, {how}{cluster} ".ljust(width, "-")[: max(width, 40)]
    language = pair.kept.language
    lines = [
        head,
        *side_by_side(
            _named("dropped", pair.dropped),
            _named("removed" if pair.reason == COPIES else "kept", pair.kept),
            width,
            marks=False,
        ),
    ]
    if pair.dropped.text == pair.kept.text and pair.around is None:
        return [
            *lines,
            *side_by_side(pair.dropped.text or "(no text is stored)", "(the same text)", width, marks=False),
        ]
    one = pair.dropped.text or "(no text is stored)"
    if pair.kept.text is None:
        return [*lines, *side_by_side(one, "(its text is in an earlier build)", width, marks=False)]
    other = pair.kept.text
    lines += side_by_side(one, other, width, language, cut=max(len(one), len(other)) == BEGINNING)
    if pair.around is not None:
        lines += [f"... alike up to character {pair.differ_at:,}, where they read:"]
        lines += side_by_side(*pair.around, width, language, cut=max(map(len, pair.around)) == BEGINNING)
    return lines


def _named(what: str, document: Shown) -> str:
    if not document.source:
        return f"{what}: {document.name}"
    return f"{what}: {document.source}, {document.name} ({document.bytes:,} bytes), id {document.id}"


def _dropped_lines(one: Dropped) -> list[str]:
    measured = "" if one.measured is None else f" (measured {one.measured:.4g})"
    document = one.document
    text = "(no text is stored)" if document.text is None else inert(" ".join(document.text.split())[:300].encode())
    name = inert(document.name.encode())
    return [f"-- {one.reason}{measured}: {name} ({document.language}, {document.bytes:,} bytes)", f"   {text}"]


def print_duplicates(found: Mapping[str, Survey], shown: Sequence[Pair]) -> None:
    """The head of `duplicates`: similarities and cluster sizes by language; then the pairs."""
    if not found:
        print("no duplicates were found")
        return
    all_of = surveyed(found.values())
    rows = {**found, "all": all_of} if len(found) > 1 else dict(found)
    similarity = {name: one.counted + one.estimated for name, one in rows.items()}
    bins = sorted(all_of.counted + all_of.estimated)
    reasons = sorted(all_of.reasons)
    _print_table(
        console(),
        "documents dropped, near ones by similarity",
        [*reasons, *map(similarity_label, bins), "counted", "estimated"],
        {
            name: [
                *(one.reasons[reason] for reason in reasons),
                *(similarity[name][b] for b in bins),
                one.counted.total(),
                one.estimated.total(),
            ]
            for name, one in rows.items()
        },
    )
    sizes = sorted(all_of.clusters)
    if sizes:  # none where all that stays is of an earlier build
        _print_table(
            console(),
            "\nclusters by size (the document that stays and those that name it)",
            [*map(size_label, sizes), "documents in them"],
            {name: [*(one.clusters[b] for b in sizes), one.members.total()] for name, one in rows.items()},
        )
    for number, pair in enumerate(shown, 1):
        print(f"\npair {number} of {len(shown)}")
        print_pair(pair)


WEIGHT_COLUMNS = ("language", "first", "last", "documents", "dropped", "rate", "weight")


def print_weights(rows: Sequence[Mapping[str, Any]], *, csv: bool) -> None:
    """How often documents are repeated, by language and cluster size (`first` to `last`)."""
    if csv:
        print("\n".join(",".join(str(row[name]) for name in WEIGHT_COLUMNS) for row in [_HEADER, *rows]))
        return
    table = Table(title="repetitions by cluster size, from the share that limits dropped", title_justify="left")
    for name in WEIGHT_COLUMNS:
        table.add_column(name, justify="left" if name == "language" else "right")
    for row in rows:
        table.add_row(*(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in WEIGHT_COLUMNS))
    console().print(table)


_HEADER = {name: name for name in WEIGHT_COLUMNS}


def _print_table(to: Console, title: str, columns: Sequence[str], rows: Mapping[str, Sequence[int]]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("language")
    for name in columns:
        table.add_column(name, justify="right")
    for name, numbers in rows.items():
        table.add_row(name, *(f"{n:,}" if n else "" for n in numbers))
    to.print(table)
