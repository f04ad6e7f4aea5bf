"""All the builds of a seed, those of each place in a process of its own.

In: a seed and what to draw of it. Out: totals. Knows neither how faults are made nor how a table looks.
"""

import random
import secrets
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.chaos.episode import Driver, Held, bytes_of
from benchmarks.chaos.places import place_of
from benchmarks.chaos.processes import marked, until
from benchmarks.chaos.recipes import recipe_name, write_recipes
from benchmarks.chaos.report import Totals
from benchmarks.chaos.schedule import PROCESSES, Episode, draw, schedule

DOCUMENT_SECONDS = 0.05
TOPPING_UP = 3
"""Rounds in which faults that found their build at its end already are drawn anew."""


def strike(seed: int, kills: int, kinds: tuple[str, ...], at_once: int, home: Path, totals: Totals) -> dict[str, float]:
    """All episodes, those of a place in a process of their own; seconds of a quiet build by stage."""
    write_recipes(home, DOCUMENT_SECONDS)
    episodes = schedule(seed, kills, kinds)
    builds = sorted({(e.stage, e.crash) for e in episodes} | {(e.stage, False) for e in episodes})
    with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
        told = list(pool.map(quiet_build, *zip(*[(home, stage, crash) for stage, crash in builds], strict=True)))
        reference = {build: found for build, (found, _) in zip(builds, told, strict=True)}
        # The longest first, so that what is left at the end is short.
        faults = Counter(e.place for e in episodes for _ in (e, *e.faults))
        places = sorted(faults, key=lambda place: -faults[place])
        held = [
            pool.submit(hold_all, place, [e for e in episodes if e.place == place], reference, home, seed)
            for place in places
        ]
        for future in held:
            totals.add(future.result())
    return {str(stage): took for (stage, crash), (_, took) in zip(builds, told, strict=True) if not crash}


def hold_all(
    place: str, episodes: list[Episode], reference: dict[tuple[int, bool], dict[str, str]], home: Path, seed: int
) -> Totals:
    """The episodes of a place, and further ones for faults that found their build at its end already."""
    totals, drawn = Totals(), random.Random(f"again {seed} {place}")
    for _ in range(1 + TOPPING_UP):
        if episodes:
            episodes = hold_in(place, episodes, reference, home, totals, drawn)
    if episodes:
        totals.wrong.append(f"{place}: {sum(len(e.faults) for e in episodes)} faults found nothing to strike")
    return totals


def quiet_build(home: Path, stage: int, crash: bool) -> tuple[dict[str, str], float]:
    """The bytes of a build that nothing disturbs but, with `crash`, the document that crashes its reader; seconds."""
    began = time.monotonic()
    root = home / f"quiet-{stage}{'-crash' if crash else ''}"
    with place_of(PROCESSES, secrets.token_hex(8), home) as place:
        driver = Driver(place.command(stage, home / recipe_name(stage, crash), str(root)), place.environment, home)
        if driver.end() != 0:
            raise RuntimeError(driver.said("err"))
    return bytes_of(str(root)), time.monotonic() - began


def hold_in(
    kind: str,
    episodes: list[Episode],
    reference: dict[tuple[int, bool], dict[str, str]],
    home: Path,
    totals: Totals,
    drawn: random.Random,
) -> list[Episode]:
    """Hold episodes in one place; those to be held for faults that are left."""
    further, mark = [], secrets.token_hex(8)
    with place_of(kind, mark, home) as place:
        for number, episode in enumerate(episodes):
            root = f"{place.roots or home}/{mark}-{number}"
            outcome = Held(episode, place, root, home, reference[episode.stage, episode.crash]).through()
            totals.struck += outcome.struck
            totals.builds[kind] = totals.builds.get(kind, 0) + 1
            totals.commands[kind] = totals.commands.get(kind, 0) + outcome.commands
            for struck in {s.kind for s in outcome.struck}:
                totals.touched[struck] = totals.touched.get(struck, 0) + 1
            what = f"{kind}, stage {episode.stage}, {len(outcome.struck)} faults, {outcome.commands} commands"
            totals.wrong += [f"{what}: {finding}" for finding in outcome.wrong]
            totals.scratch = max(totals.scratch, outcome.scratch)
            print(
                f"{what}: {outcome.wrong or 'as a quiet build'}; left {len(outcome.left)}", file=sys.stderr, flush=True
            )
            if outcome.left:
                again = sorted((draw(fault.kind, drawn) for fault in outcome.left), key=lambda fault: fault.at)
                further.append(Episode(kind, episode.stage, False, tuple(again)))
            shutil.rmtree(root, ignore_errors=True)
    if not until(lambda: not marked(mark), 90):
        left = {" ".join(Path(word).name for word in line.split()[:3]) for line in marked(mark).values()}
        totals.wrong.append(f"processes left by {kind}: {sorted(left)}")
    return further
