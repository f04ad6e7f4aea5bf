"""The page and its pictures. In: how the data was made, and the results of runs. Out: Markdown and SVG.

Says of each comparison what came of it, in every language, whichever side is better. Knows neither data nor models.
"""

import json
import math
import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.proof import compare, noise
from benchmarks.proof.arms import ARMS, BATCH, DENSE, DENSE_ARM, SEQUENCE, SPARSE
from benchmarks.proof.compare import Result
from benchmarks.proof.corpora import MORE, TOKENS, VOCABULARY
from benchmarks.proof.held_out import bits_per_byte, nats_per_token
from benchmarks.proof.plot import Bars, Curve, Spread, bars, curves
from benchmarks.proof.texts import HELD_OUT_PERCENT, LANGUAGES, TOKENIZER_PERCENT

Results = Mapping[str, Sequence[Result]]
DATA_ARMS = ("curated", "markup", "matched")
MODEL_ARMS = ("upcycled-drop", "upcycled-exact", "curated", "scratch-long")
COMPARED = (
    ("curated", "markup"),
    ("curated", "matched"),
    ("upcycled-drop", "curated"),
    ("upcycled-exact", "curated"),
    ("upcycled-drop", "scratch-long"),
    ("upcycled-exact", "scratch-long"),
    ("upcycled-drop", "upcycled-exact"),
)
MOST_PAIRS = 3
"""Of them in the picture by language: more bars cannot be told apart."""


def read_results(folder: Path) -> Results:
    """By arm, in the order of the seeds."""
    found: dict[str, list[Result]] = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text())
        found[result["arm"]].append(result)
    return found


def pictures(results: Results) -> dict[str, str]:
    """File names and what is in them; of arms that have run."""
    drawn = {}
    for file, title, names in (
        ("curated.svg", "One crawl, curated and not: held-out loss", DATA_ARMS),
        ("upcycled.svg", "Upcycled and from scratch: held-out loss", MODEL_ARMS),
    ):
        # What was never trained is left out: it is the same for all from scratch, and far from everything else.
        found = [
            Curve(name, compare.over_tokens(results[name], nats_per_token)[1:]) for name in names if name in results
        ]
        if found:
            drawn[file] = curves(title, "million tokens of this arm", "nats a token", found)
    pairs = [pair for pair in COMPARED if all(name in results for name in pair)][:MOST_PAIRS]
    if pairs:
        codes = sorted(compare.last(results[pairs[0][0]][0]))
        drawn["languages.svg"] = bars(
            "Held-out loss by language: differences, below 0 where the first is better",
            "nats a token",
            [code.partition("_")[0] for code in codes],
            [Bars(f"{one} - {other}", _by_language(results[one], results[other], codes)) for one, other in pairs],
        )
    return drawn


def _by_language(ours: Sequence[Result], other: Sequence[Result], codes: Sequence[str]) -> list[Spread | None]:
    found = [compare.paired(ours, other, compare.of_language(code)) for code in codes]
    return [None if one is None else one.spread for one in found]


def report(made: Mapping[str, Any], results: Results) -> str:
    """The page."""
    return "\n".join(
        [
            "# Does it pay to curate, and to upcycle?",
            "",
            *_summary(results),
            "",
            *_arms(results),
            "",
            "![held-out loss over tokens, curated and not](proof/curated.svg)",
            "![held-out loss over tokens, upcycled and from scratch](proof/upcycled.svg)",
            "![differences in held-out loss by language](proof/languages.svg)",
            "",
            *_languages(results),
            "",
            *_how(made, results),
            "",
        ]
    )


def _summary(results: Results) -> list[str]:
    lines = [
        "Held-out loss in nats a token, mean over languages; differences are paired by seed, in brackets the least and "
        "the most. Below 0: the first is better.",
        "",
        "| first | second | first - second | seeds where the first is better | languages where it is |",
        "|---|---|---|---|---|",
    ]
    for first, second in COMPARED:
        found = compare.paired(results.get(first, ()), results.get(second, ()), nats_per_token)
        if found is None:
            lines.append(f"| {first} | {second} | not run | | |")
            continue
        codes = sorted(compare.last(results[first][0]))
        each = _by_language(results[first], results[second], codes)
        better = sum(one is not None and one.middle < 0 for one in each)
        lines.append(
            f"| {first} | {second} | {_shown(found.spread, sign=True)} | {found.wins} of {found.seeds} | "
            f"{better} of {len(codes)} |"
        )
    return lines


def _arms(results: Results) -> list[str]:
    lines = [
        "| arm | what | seeds | tokens, of this arm | begins at | nats a token | bits a byte | CPU s a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, arm in ARMS.items():
        found = results.get(name, ())
        if not found:
            lines.append(f"| {name} | {arm.says} | not run | | | | | |")
            continue
        first = compare.spread(nats_per_token(result["held_out"][0]["languages"]) for result in found)
        timed = [result["cpu_seconds"] for result in found if result["cpu_seconds"] is not None]
        seconds = f"{compare.spread(timed).middle:.0f}" if timed else "stopped and resumed"
        lines.append(
            f"| {name} | {arm.says} | {len(found)} | {found[0]['tokens']:,} | {first.middle:.3f} | "
            f"{_shown(compare.at_the_end(found, nats_per_token))} | "
            f"{_shown(compare.at_the_end(found, bits_per_byte))} | {seconds} |"
        )
    return lines


def _languages(results: Results) -> list[str]:
    names = [name for name in ARMS if results.get(name)]
    if not names:
        return []
    pair = compare.paired(results.get("curated", ()), results.get("markup", ()), nats_per_token)
    head = ["language", *names, *(["curated - markup"] if pair else [])]
    lines = ["Nats a token by language, at the end:", "", _row(head), _row(["---"] * len(head))]
    for code in sorted(compare.last(results[names[0]][0])):
        figure = compare.of_language(code)
        cells = [code, *(_shown(compare.at_the_end(results[name], figure)) for name in names)]
        if pair:
            own = compare.paired(results["curated"], results["markup"], figure)
            cells.append(_shown(own.spread, sign=True) if own else "")
        lines.append(_row(cells))
    return lines


def _how(made: Mapping[str, Any], results: Results) -> list[str]:
    crawl, drawn = made["crawl"], made["drawn"]
    total = sum(count for _, _, count in drawn)
    of_part: dict[str, int] = defaultdict(int)
    of_language: dict[str, int] = defaultdict(int)
    for part, code, count in drawn:
        of_part[part] += count
        of_language[code] += count
    books = made["books"]["documents"]
    steps: dict[str, int] = defaultdict(int)
    for reason, count in books["dropped"].items():
        steps[reason.partition("/")[0]] += count
    dropped = {step: count for step, count in steps.items() if step != "mix"}
    passed = books["read"] - sum(dropped.values())
    seeds = sorted({len(found) for found in results.values()})
    divergences = {
        name: compare.spread(result["divergence"] for result in results[name])
        for name in ARMS
        if results.get(name) and results[name][0]["divergence"] is not None
    }
    dense = results.get(DENSE_ARM, ())
    judged_by = made["held_out_tokens"].values()
    counts = sorted(result["tokens"] for name in DATA_ARMS for result in results.get(name, ())[:1])
    trained = " to ".join(f"{count:,}" for count in sorted({counts[0], counts[-1]})) if counts else "no"
    fewer = "" if made["tokens"] == TOKENS else f" --tokens {made['tokens']}"
    return [
        "## How it was made",
        "",
        f"`python -m benchmarks.proof --folder FOLDER{fewer}`: {trained} tokens an arm, "
        f"{' to '.join(map(str, sorted({seeds[0], seeds[-1]})))} seeds an arm, one thread a run, on "
        f"{os.cpu_count()} shared cores. torch {torch.__version__}, Python "
        f"{platform.python_version()}. Rates of noise, mixture and schedule were chosen before any arm was compared.",
        "",
        f"**Model.** Qwen3-MoE, {SPARSE.num_hidden_layers} layers of width {SPARSE.hidden_size}, {SPARSE.num_experts} "
        f"experts of {SPARSE.moe_intermediate_size} with {SPARSE.num_experts_per_tok} chosen: "
        f"{SPARSE.parameters():,} parameters, {SPARSE.active_parameters():,} active. The dense one has "
        f"{DENSE.parameters():,}. Sequences of {SEQUENCE}, {BATCH} a step, AdamW, fp32, learning rate 3e-3 after a "
        "warm-up of a fifteenth of the tokens, falling to 3e-4 in stage 2 (constant in stage 1); the trainer's own "
        "loop and checkpoints. A seed decides the first weights and the order of the data."
        + (f" The default is {TOKENS:,} tokens an arm: these models are further from their best." if fewer else ""),
        "",
        f"**One crawl.** {crawl['texts'][0]:,} texts ({crawl['texts'][1] / 1e6:.1f} MB), {crawl['web'][0]:,} web "
        f"documents that others extracted ({crawl['web'][1] / 1e6:.1f} MB) and {crawl['pages'][0]:,} HTML pages "
        f"({crawl['pages'][1] / 1e6:.1f} MB), of {len(LANGUAGES)} languages ({', '.join(LANGUAGES)}) and others. The "
        "texts are clean documents with noise planted over them, at rates that are a choice: "
        f"{noise.MOJIBAKE:.0%} read in a wrong charset, {noise.BOILERPLATE:.0%} with menus around them, "
        f"{noise.REPEATED:.0%} stuttering, {noise.COPIED:.0%} there {noise.COPIES} times more; and documents in other "
        "languages and in none. What became of them when our pipeline curated the crawl:",
        "",
        *_became(made["became"]),
        "",
        "Near copies have one word in thirty replaced: in shingles of five words two of them are 0.55 alike, and "
        "one and its original 0.73, below the pipeline's 0.80, so most pass. Menus stay where quality passes the "
        "document: no step cuts lines out of it.",
        "",
        "**Curated** is stage 2 of a family that `marco-data build-stage` made of the crawl's files, no step switched "
        f"off and no language declared: of {books['read']:,} documents {passed:,} passed; "
        + ", ".join(f"{step} dropped {count:,}" for step, count in sorted(dropped.items()))
        + f". Stage 1 has other documents of the same recipe, for `{DENSE_ARM}` and `scratch-long`. Stage 2 draws "
        f"{total:,} tokens ({made['tokens'] * MORE:,.0f} were asked for; the next documents did not fit), "
        + ", ".join(f"{part} {count / total:.1%}" for part, count in sorted(of_part.items()))
        + "; by language "
        + ", ".join(f"{code} {count / total:.1%}" for code, count in sorted(of_language.items()))
        + ".",
        "",
        "**markup** draws as many tokens of each part from the same crawl, as it came: pages with their tags and "
        "scripts, all languages as they lie, so that other proportions of languages are part of its effect. By bytes "
        f"{crawl['pages'][1] / sum(size for _, size in crawl.values()):.0%} of the crawl is markup; that it gets the "
        "pages' share of stage 2 and no more is in its favour. By language "
        + ", ".join(f"{code} {count / total:.1%}" for code, count in sorted(made["markup_languages"].items()))
        + ", where markup and web documents count as the language of their page. "
        "**matched** takes that away: of each part and language as many tokens as stage 2 draws, by the languages that "
        "the sources state, and pages without tags, scripts and styles. What is left there is noise in the right "
        "language: menus, repetition, wrong charsets, copies. Tokenizer, tokens of each part, steps and seeds are the "
        "same in all three.",
        "",
        f"**Tokenizer.** {VOCABULARY:,} tokens by `train-tokenizer`, of {TOKENIZER_PERCENT} % of the clean documents "
        f"({made['neutral_bytes'] / 1e6:.1f} MB, which nothing else uses) and as many bytes of the pages' markup.",
        "",
        f"**Held out.** {HELD_OUT_PERCENT} % of the clean documents, by the hash of their article's address (so in all "
        f"languages or none), before noise and before any arm: {made['held_out'][0]}, of which {made['held_out'][1]} "
        "have no more than a tenth of their long sentences in anything that is trained on; of each language whole "
        f"documents, {min(judged_by):,} to {max(judged_by):,} tokens. They are clean text: how an arm predicts web "
        "pages is not measured. Every token is predicted once, with at most the "
        f"{SEQUENCE} before it.",
        "",
        "**Upcycling.** The dense model has the active sizes of the sparse one and trains on stage 1"
        + (f" ({dense[0]['tokens']:,} tokens, which `curated` has not seen)" if dense else "")
        + "; it is then made experts of (`marco-data upcycle`, router `virtual_group`, the run's seed) and trained on "
        "stage 2 exactly as `curated` is, the optimizer starting anew. `scratch-long` has the same tokens in all: "
        "stages 1 and 2, experts from its first step."
        + "".join(f" KL of `{name}` from its dense model: {_shown(found)}." for name, found in divergences.items()),
        "",
        "A model this small says nothing of benchmarks, nor of how large the effect is at scale.",
    ]


def _became(kinds: Mapping[str, Mapping[str, int]]) -> list[str]:
    steps = sorted({step for found in kinds.values() for step in found} - {"passed"})
    head = ["planted", "documents", "passed", *steps]
    lines = [_row(head), _row(["---"] * len(head))]
    for kind, found in sorted(kinds.items()):
        counts = [sum(found.values()), found.get("passed", 0), *(found.get(step, 0) for step in steps)]
        lines.append(_row([kind, *(f"{count:,}" for count in counts)]))
    return lines


def _shown(spread: Spread, *, sign: bool = False) -> str:
    if not math.isfinite(spread.middle):
        return "no number"
    kind = "+.3f" if sign else ".3f"
    return f"{spread.middle:{kind}} ({spread.least:{kind}} to {spread.most:{kind}})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
