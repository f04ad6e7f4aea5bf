"""Which faults strike which builds and when: a pure function of the seed.

In: a seed, a number of faults and their kinds. Out: episodes. An episode is one stage built in one root, in one place,
through all its faults, by the same command again and again. Knows nothing of how a fault is made.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

PROCESSES, RAY, HEAD, S3 = "processes", "ray", "head", "s3"

KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "worker killed": (22, (PROCESSES, PROCESSES, RAY, S3)),
    "raylet killed": (14, (RAY,)),
    "driver killed": (20, (PROCESSES, PROCESSES, RAY, S3)),
    "head killed, job sent again": (4, (HEAD,)),
    "storage gone for 30 s": (4, (S3,)),
    "disk full": (10, (PROCESSES,)),
    "driver told to go (SIGTERM)": (12, (PROCESSES, PROCESSES, RAY)),
    "worker told to go (SIGTERM)": (10, (PROCESSES, RAY)),
    "document that crashes its worker": (4, (PROCESSES, RAY)),
}
"""How many of a hundred faults are of a kind, and the places it is drawn for."""

CRASH = "document that crashes its worker"
MOST = {PROCESSES: 9, RAY: 9, HEAD: 2, S3: 6}
"""Faults of one build."""


@dataclass(frozen=True)
class Fault:
    """`at` is the share of the build's records that are committed, `delay` a moment more, `pick` who is struck."""

    kind: str
    at: float
    delay: float
    pick: int


@dataclass(frozen=True)
class Episode:
    place: str
    stage: int
    crash: bool
    faults: tuple[Fault, ...]


def numbers(kills: int, kinds: Sequence[str]) -> dict[str, int]:
    """How many faults of each kind: by weight, and what is over after rounding to the heaviest."""
    weights = {kind: KINDS[kind][0] for kind in kinds}
    total = sum(weights.values())
    whole = {kind: kills * weight // total for kind, weight in weights.items()}
    by_rest = sorted(weights, key=lambda kind: (-(kills * weights[kind] % total), -weights[kind], kind))
    for kind in by_rest[: kills - sum(whole.values())]:
        whole[kind] += 1
    return whole


def schedule(seed: int, kills: int, kinds: Sequence[str] = tuple(KINDS)) -> list[Episode]:
    """All episodes, those of one place together."""
    drawn = random.Random(f"{seed} {kills} {sorted(kinds)}")
    waiting: dict[str, list[Fault]] = {place: [] for place in MOST}
    crashes: list[str] = []
    for kind, number in numbers(kills, kinds).items():
        places = KINDS[kind][1]
        for n in range(number):
            place = places[n % len(places)]
            if kind == CRASH:
                crashes.append(place)
            else:
                waiting[place].append(draw(kind, drawn))
    episodes: list[Episode] = []
    for place, faults in waiting.items():
        drawn.shuffle(faults)
        for start in range(0, len(faults), MOST[place]):
            some = sorted(faults[start : start + MOST[place]], key=lambda fault: fault.at)
            # A job takes its modules along but not the files that they read: the tests' model has some.
            stage = 3 if place == HEAD else 3 + len(episodes) % 2
            episodes.append(Episode(place, stage, False, tuple(some)))
    for place in crashes:  # into a build that is struck anyway, each into another while there are any
        quiet = [n for n, e in enumerate(episodes) if e.place == place and not e.crash]
        if quiet:
            n = drawn.choice(quiet)
            episodes[n] = replace(episodes[n], crash=True)
        else:
            episodes.append(Episode(place, 3 + len(episodes) % 2, True, ()))
    return episodes


def draw(kind: str, drawn: random.Random) -> Fault:
    return Fault(kind, round(drawn.random() * 0.9, 3), round(drawn.random() / 2, 3), drawn.randrange(1 << 16))
