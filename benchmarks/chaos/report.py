"""The table of a run of chaos, and the page that is written of it.

In: what struck, and what was wrong after. Out: Markdown. Knows no build.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.chaos.episode import Struck
from benchmarks.chaos.schedule import CRASH


@dataclass
class Totals:
    """Of all episodes so far."""

    struck: list[Struck] = field(default_factory=list)
    builds: dict[str, int] = field(default_factory=dict)  # by place
    commands: dict[str, int] = field(default_factory=dict)
    touched: dict[str, int] = field(default_factory=dict)  # builds by kind of fault
    wrong: list[str] = field(default_factory=list)
    scratch: int = 0

    def add(self, other: "Totals") -> None:
        """What came of other places."""
        self.struck += other.struck
        self.wrong += other.wrong
        self.scratch = max(self.scratch, other.scratch)
        for mine, theirs in (
            (self.builds, other.builds),
            (self.commands, other.commands),
            (self.touched, other.touched),
        ):
            for name, number in theirs.items():
                mine[name] = mine.get(name, 0) + number


def table(totals: Totals) -> str:
    """A row for each kind of fault, and one for each place."""
    lines = ["| fault | struck | in builds | seconds until work went on: median | most |", "|---|---|---|---|---|"]
    kinds: dict[str, list[float]] = {}
    for struck in totals.struck:
        kinds.setdefault(struck.kind, []).append(struck.seconds)
    for kind, seconds in sorted(kinds.items()):
        times = "| |" if kind == CRASH else f"{statistics.median(seconds):.1f} | {max(seconds):.1f} |"
        lines.append(f"| {kind} | {len(seconds)} | {totals.touched[kind]} | {times}")
    lines += [f"| **all** | **{len(totals.struck)}** | **{sum(totals.builds.values())}** | | |", ""]
    lines += ["| where | builds | commands given |", "|---|---|---|"]
    lines += [f"| {place} | {n} | {totals.commands[place]} |" for place, n in totals.builds.items()]
    return "\n".join(lines)


def page(totals: Totals, command: str, seconds: float, load: Sequence[float], quiet: Mapping[str, float]) -> str:
    verdict = (
        "Every build ended with the bytes of a quiet one, balanced books, no lease and no process left."
        if not totals.wrong
        else f"{len(totals.wrong)} findings, below."
    )
    lines = [
        "# Faults at random moments: the last run",
        "",
        f"Printed by `{command}`. {verdict}",
        "",
        table(totals),
        "",
        f"{seconds / 60:.0f} minutes on 2 cores that others used too (load {load[0]:.0f} at the end); a quiet build of "
        + ", ".join(f"stage {stage} took {taken:.0f} s" for stage, taken in quiet.items())
        + f". Unfinished files that kills left under `runs/tmp`, until the next day's run removes them: at most "
        f"{totals.scratch / 1000:.0f} KB a build. A command is given again after what ends it (driver, head, disk "
        "full), after nothing else.",
        "",
    ]
    lines += [f"* {finding}" for finding in totals.wrong]
    return "\n".join(lines).rstrip() + "\n"
