"""The report: what was measured in, Markdown out."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from benchmarks.dedup_quality.clusters import AT, EVERY, Left
from benchmarks.dedup_quality.edits import KINDS
from benchmarks.dedup_quality.pairs import (
    EDGES,
    GOALS,
    THRESHOLD,
    Removal,
    Share,
    Told,
    missed,
    precision,
    removed_in,
)
from benchmarks.dedup_quality.templates import Short, Templated
from benchmarks.dedup_quality.texts import CLASSES
from benchmarks.dedup_quality.translations import Translated
from benchmarks.dedup_quality.units import AMOUNTS, Unit
from marco_data.dedup import DropDuplicates
from marco_data.languages import LANGUAGES

NEVER, DUPLICATE, WHOLE = 0.75, THRESHOLD, 1.01
FOUR = ("below 0.75", "0.75-0.80", "0.80-0.85", "0.85-1")


def report(
    told: Sequence[Told],
    removals: Sequence[Removal],
    translated: Sequence[Translated],
    unit: Sequence[Unit],
    left: Sequence[Left],
    memory: int,
    templated: Sequence[Templated],
    short: Sequence[Short],
    command: str,
) -> str:
    parts = [
        _opening(told, command),
        _bins(told),
        _classes(told, removals),
        _kinds(told),
        _lengths(told),
        _translations(translated),
        _units(unit),
        _clusters(left, memory),
        _templates(templated),
        _short(short),
    ]
    return "\n\n".join(parts) + "\n"


def _opening(told: Sequence[Told], command: str) -> str:
    goals = ", ".join(
        f"{goal.low:.2f} to {min(goal.high, 1.0):.2f}: "
        + (f"under {goal.most:.1%}" if goal.least == 0 else f"at least {goal.least:.0%}")
        for goal in GOALS
    )
    short = [
        f"- {name}: {miss}"
        for name, group in [("all", told), *((s, [x for x in told if x.script == s]) for s in CLASSES)]
        for miss in missed(group)
    ]
    reached = "All goals are reached, in all classes." if not short else "Goals not reached:\n\n" + "\n".join(short)
    languages = sum(map(len, CLASSES.values()))
    return f"""# How good the removal of near duplicates is

`{command}`. Real text (`clean/` of MARCO_TEST_DATA, {languages} languages) with
planted edits, through `Sign` and `dedup.find_duplicates` as a build runs them
({DropDuplicates().banding}).
Similarity is exact Jaccard on the shingles of `Sign`, counted by a twin in plain Python that knows no hash. Intervals
hold the true share in 95 of 100 cases (Wilson).

Goals, share removed of the pairs of a similarity: {goals}. {reached}"""


def _bins(told: Sequence[Told]) -> str:
    rows = [
        [f"{low:.2f}-{min(high, 1.0):.2f}", str(found.of), str(found.hits), _percent(found.share), _interval(found)]
        for low, high in pairwise(EDGES)
        for found in [removed_in(told, low, high)]
    ]
    text = f"## Removed, by similarity\n\n{len(told)} pairs of all classes.\n\n"
    return text + _table(["exact Jaccard", "pairs", "removed", "share", "95 % interval"], rows)


def _classes(told: Sequence[Told], removals: Sequence[Removal]) -> str:
    rows = []
    for name in (*CLASSES, "all"):
        mine = [one for one in told if name in (one.script, "all")]
        gone = [one for one in removals if name in (one.script, "all")]
        exactly = precision(gone)
        rows.append([name, *_four(mine), _counted(removed_in(mine, DUPLICATE, WHOLE)), _counted(exactly)])
    text = f"""## By script class

Recall is of the pairs of at least {THRESHOLD:.2f}. Precision is of every document removed, planted or not: how many are
at least {THRESHOLD:.2f} similar to the document they name.

"""
    header = ["class", *FOUR, "recall", "precision"]
    return text + _table(header, rows)


def _kinds(told: Sequence[Told]) -> str:
    rows = []
    for kind in KINDS:
        mine = [one for one in told if one.kind == kind]
        rows.append([kind, *_four(mine)])
    text = """## By kind of edit

"Numbered template" is two documents with the same words around another number and another content. They are removed
like any pair of their similarity; what can be done is below, under Templates.

"""
    return text + _table(["kind", *FOUR], rows)


def _lengths(told: Sequence[Told]) -> str:
    edges = [1, 50, 100, 200, 500, 1 << 30]
    rows = []
    for low, high in pairwise(edges):
        name = f"{low}-{high - 1}" if high < edges[-1] else f"{low} and more"
        rows.append([name, *_four([one for one in told if low <= one.shingles < high])])
    return "## By length\n\n" + _table(["shingles of the article", *FOUR], rows)


def _four(told: Sequence[Told]) -> list[str]:
    bins = [(0.0, NEVER), (NEVER, DUPLICATE), (DUPLICATE, 0.85), (0.85, WHOLE)]
    return [_counted(removed_in(told, low, high)) for low, high in bins]


def _translations(translated: Sequence[Translated]) -> str:
    rows = [
        [one.signed_as, str(one.items), str(one.documents), str(one.pairs), str(one.removed), f"{one.most_alike:.3f}"]
        for one in translated
    ]
    text = """## Translations

News items and their translations, all languages in one corpus, which a build never does: it looks within a language.

"""
    header = ["signed as", "items", "documents", "pairs", "removed for another language's", "highest similarity"]
    return text + _table(header, rows)


def _units(unit: Sequence[Unit]) -> str:
    steps = [f"{a:.0%} / {b:.0%}" for a, b in pairwise(AMOUNTS)]
    spaces = list(unit[0].respaced)
    rows = [
        [
            LANGUAGES[one.language].name,
            f"{one.size} {one.unit}s",
            *(f"{value:.3f} ±{half:.3f}" for value, half in one.auc),
            f"{one.spread:.3f}",
            *(f"{one.respaced[name]:.3f}" for name in spaces),
            f"{one.milliseconds:.0f}",
        ]
        for one in unit
    ]
    text = f"""## Characters or words, for scripts without spaces

The same texts changed by a known share of their characters ({", ".join(f"{a:.0%}" for a in AMOUNTS)}; replaced, left
out or put in, alone or in runs). A / B: how often a text changed by A is more similar to the original than one changed
by B (1: always, 0.5: chance). Spread: standard deviation of the similarity at one amount. Then the similarity of a
text to itself without spaces, with a space of no width behind each word, and broken into lines of 40 characters.

"""
    return text + _table(["language", "shingle", *steps, "spread", *spaces, "ms / MB"], rows)


def _clusters(left: Sequence[Left], memory: int) -> str:
    shapes = list(dict.fromkeys(one.shape for one in left))
    rows = [
        [
            shape,
            f"{one.documents:,}",
            str(one.kept),
            _percent(one.left, 3),
            _percent(every[0].left, 3) if every else "",
            f"{one.seconds:.1f}",
        ]
        for shape in shapes
        for one in left
        if one.shape == shape and one.first == 64
        for every in [[x for x in left if (x.shape, x.documents, x.first) == (shape, one.documents, EVERY)]]
    ]
    text = f"""## What K = 64 costs

One cluster at a time, as signatures. Duplicates left: documents kept although a kept one of higher priority is at least
{THRESHOLD:.2f} similar (for templates: the second document of a pair with one content), of all documents. What is left
without a limit is the banding's. Peak memory of the process: {memory / 1e6:.0f} MB.

"""
    header = ["cluster", "documents", "kept", "left, K = 64", "left, no limit", "s of one core"]
    return text + _table(header, rows) + _limits(left)


def _limits(left: Sequence[Left]) -> str:
    """What another K leaves of the clusters that were judged with several."""
    here = [one for one in left if one.documents == AT]
    limits = sorted({one.first for one in here})
    if len(limits) < 2:
        return ""
    rows = [
        [
            shape,
            *(
                f"{_percent(x.left, 3)}, {x.seconds:.1f} s"
                for k in limits
                for x in here
                if (x.shape, x.first) == (shape, k)
            ),
        ]
        for shape in dict.fromkeys(one.shape for one in here)
    ]
    text = f"\n\nOther K, {AT:,} documents: duplicates left, seconds of one core.\n\n"
    return text + _table(["cluster", *(f"K = {k}" for k in limits)], rows)


def _templates(templated: Sequence[Templated]) -> str:
    rows = [
        [
            LANGUAGES[one.language].name,
            "given" if one.frames else "none",
            _counted(Share(one.distinct_removed, one.distinct)),
            _counted(Share(one.repeated_removed, one.repeated)),
            str(one.named_rightly),
        ]
        for one in templated
    ]
    text = """## Templates

Documents that share some 800 words of a template around a numbered line and 40 words of their own; one in ten
contents is there twice, under another number and in a template that lacks a line. `frames` are the template's lines.
Lost is a content of which no document stays; a repeated one is found if one of its two documents goes.

"""
    header = ["language", "frames", "contents lost", "repeated contents found", "of them, named rightly"]
    return text + _table(header, rows)


def _short(short: Sequence[Short]) -> str:
    rows = [[f"`{s.left}`", f"`{s.right}`", f"{s.jaccard:.2f}", "removed" if s.removed else "stays"] for s in short]
    text = """## Short documents

A text with fewer units than a shingle has one shingle, all of it: equal after folding, or not similar at all. `|` is a
space of no width.

"""
    return text + _table(["text", "other text", "exact Jaccard", "second"], rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _interval(found: Share) -> str:
    low, high = found.interval
    return f"{100 * low:.2f}-{100 * high:.2f}"


def _counted(found: Share) -> str:
    return f"{_percent(found.share)} of {found.of} ({_interval(found)})" if found.of else "none"
