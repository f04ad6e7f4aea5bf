"""Slow tasks as a line after a build, and as a table for who asks."""

from collections import Counter
from collections.abc import Callable, Sequence

from rich.table import Table

from marco_data.report import console
from marco_data.stragglers import LEAST_SECONDS, TIMES, SlowStep

SHOWN = 20
"""Of a step in the table; --json has more."""


def tell_slow(steps: Sequence[SlowStep], command: str, say: Callable[[str], None]) -> None:
    """A line, where there is anything to tell."""
    slow, sent_again = sum(step.slow for step in steps), sum(step.sent_again for step in steps)
    causes: Counter[str] = Counter()
    for step in steps:
        causes += step.causes()
    told = [f"{slow:,} took more than {TIMES:g} times what is usual of their step"] if slow else []
    told += [f"{sent_again:,} were sent again because what ran them died"] if sent_again else []
    if told:
        why = ", ".join(f"{cause} {n:,}" for cause, n in causes.most_common())
        say(f"note: of the tasks, {' and '.join(told)} ({why})")
        say(f"  which, and why: {command}")


def print_slow(steps: Sequence[SlowStep]) -> None:
    if not steps:
        print(
            f"no task took {TIMES:g} times what is usual of its step and {LEAST_SECONDS:g} s more; none was sent again"
        )
    for step in steps:
        title = (
            f"\n{step.node}: {step.slow:,} of {step.tasks:,} tasks were slow, {step.sent_again:,} sent again; "
            f"usual are {step.usual:,.1f} s"
        )
        table = Table(title=title, title_justify="left")
        for name in ("task", "took", "on", "because of", ""):
            table.add_column(name, justify="right" if name == "took" else "left", overflow="fold")
        for task in step.worst[:SHOWN]:
            table.add_row(task.task, f"{task.seconds:,.1f} s", task.host, task.cause, task.why)
        console().print(table)
        if len(step.worst) > SHOWN:
            print(f"  and {len(step.worst) - SHOWN} more, which --json has")
