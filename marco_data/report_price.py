"""The price of a plan and its comparison with what happened, as tables for people."""

from collections.abc import Sequence

from rich.table import Table

from marco_data.generation.estimate_table import short, told
from marco_data.languages import LANGUAGES
from marco_data.plan_compare import ALL, ALLOWED, DISK, PROCESSOR, Compared, off
from marco_data.plan_expect import Expectation
from marco_data.plan_flow import BYTES, DOCUMENTS, KEPT, TOKENS, range_of
from marco_data.plan_price import Line
from marco_data.plan_short import Short
from marco_data.report import console

MOST = 10
"""Shortfalls that are printed; --by-language and --json have all."""


def print_expected(one: Expectation, by_language: bool = False) -> None:
    """Totals by step, what it takes, what falls short, and what all of it rests on."""
    out = console()
    out.print(_steps(one))
    if by_language:
        out.print(_languages(one))
    out.print(_costs(one))
    short_ones = one.short if by_language else one.short[:MOST]
    if short_ones:
        out.print(_shortfalls(short_ones))
        if len(one.short) > len(short_ones):
            print(f"  and {len(one.short) - len(short_ones)} shares more, which --by-language and --json have")
    for part in one.short_parts:
        weight = "" if part.weight is None else f"; `weight: {part.weight:g}` would be reached"
        print(f"  the part {part.part} lacks {short(part.shortfall)} of {short(part.requested)} tokens{weight}")
    memory = _hungriest(one)
    print(f"  CPU-hours: {_bases(one.price.seconds)}")
    print(f"  disk: {_bases(one.price.disk)}")
    print(f"  RAM: {memory.what}: {memory.basis}")
    for note in one.notes:
        print(f"  {note}")
    for unknown in one.price.unknown:
        print(f"  not in the sum: {unknown}")


def _steps(one: Expectation) -> Table:
    table = Table(title="\nexpected (in brackets: where nine samples of ten have it)", title_justify="left")
    for name in ("step", "documents", "bytes", "tokens"):
        table.add_column(name, justify="left" if name == "step" else "right")
    flow = one.flow
    rows = [("collected", flow.total())]
    rows += [(name if name in (KEPT, "failed") else f"-{name}", flow.total(outcomes=(name,))) for name in flow.outcomes]
    for name, draws in rows:
        if draws[0].any():
            table.add_row(name.replace("_", " "), *(told(range_of(draws, n)) for n in (DOCUMENTS, BYTES, TOKENS)))
    drawn = sum(share.target for share in one.allocation.shares)
    table.add_row("drawn by the mixture", "", "", short(drawn))
    return table


def _languages(one: Expectation) -> Table:
    flow = one.flow
    drops = [name for name in flow.outcomes if name != KEPT]
    table = Table(title="\nexpected by language", title_justify="left")
    names = ("language", "documents", *(f"-{n}".replace("_", " ") for n in drops), "kept", "kept tokens", "drawn")
    for name in names:
        table.add_column(name, justify="left" if name == "language" else "right")
    drawn: dict[str, int] = {}
    for share in one.allocation.shares:
        drawn[share.language] = drawn.get(share.language, 0) + share.target
    kept = {code: flow.total(outcomes=(KEPT,), language=code) for code in flow.languages}
    for code in sorted(flow.languages, key=lambda c: (-kept[c][0, TOKENS], c)):
        dropped = [flow.total(outcomes=(name,), language=code)[0, DOCUMENTS] for name in drops]
        table.add_row(
            _named(code),
            told(range_of(flow.total(language=code))),
            *(short(n) if n else "" for n in dropped),
            told(range_of(kept[code])),
            told(range_of(kept[code], TOKENS)),
            short(drawn.get(code, 0)) if drawn.get(code) else "",
        )
    return table


def _costs(one: Expectation) -> Table:
    price = one.price
    table = Table(title="\nwhat it takes", title_justify="left")
    for name in ("", "expected", "still to do"):
        table.add_column(name, justify="left" if name == "" else "right")
    table.add_row("CPU-hours", told(price.cpu_hours), told(price.left_cpu_hours))
    if price.gpu_hours is None or price.gpu_hours.expected:
        table.add_row("GPU-hours", "not known" if price.gpu_hours is None else told(price.gpu_hours), "")
    table.add_row("disk, GB", told(price.disk_bytes.times(1e-9)), "")
    table.add_row("RAM of a worker, GB", told(_hungriest(one).figure.times(1e-9)), "")
    for name, figure in price.cost.items():
        table.add_row(f"{name}, {price.currency}", "not known" if figure is None else told(figure), "")
    if price.total is not None:
        table.add_row(f"all of it, {price.currency}", told(price.total), "")
    return table


def _hungriest(one: Expectation) -> Line:
    return max(one.price.memory, key=lambda line: line.figure.high or line.figure.expected)


def _bases(lines: Sequence[Line]) -> str:
    """The grounds of the two lines that weigh most."""
    most = sorted(lines, key=lambda line: -line.figure.expected)[:2]
    return "; ".join(f"{line.what}: {line.basis}" for line in most)


def _shortfalls(rows: Sequence[Short]) -> Table:
    table = Table(title="\nwill fall short; each remedy alone fills it", title_justify="left")
    for name in ("language", "part", "wanted", "there", "short", "max_epochs", "or synthesis", "or its share"):
        table.add_column(name, justify="left" if name in ("language", "part") else "right")
    for row in rows:
        by = f"{short(row.shortfall)} ({short(row.low)} to {short(row.high)})"
        epochs = "" if row.epochs is None else f"{row.epochs:g}"
        weight = "" if row.weight is None else f"{row.weight:g}"
        there, wanted = short(row.available), short(row.requested)
        table.add_row(_named(row.language), row.part, wanted, there, by, epochs, short(row.synthesis), weight)
    return table


def print_compared(lines: Sequence[Compared], by_language: bool = False) -> None:
    """Totals of each step, or every language too; what is off by too much last."""
    out = console()
    table = Table(title="expected and happened", title_justify="left")
    for name in ("step", "of", "figure", "expected", "happened", "error"):
        table.add_column(name, justify="left" if name in ("step", "of", "figure") else "right")
    for line in lines:
        if by_language or line.language == ALL or line.step in (PROCESSOR, DISK):
            error = "" if line.error is None else f"{round(line.error, 3) + 0.0:+.1%}"
            name = line.step.replace("_", " ")
            table.add_row(name, line.language, line.figure, told(line.expected), short(line.happened), error)
    out.print(table)
    for line in off(lines):
        print(f"off by more than {ALLOWED:.0%}: {line.step} {line.figure}")


def _named(code: str) -> str:
    return f"{code} {LANGUAGES[code].name}" if code in LANGUAGES else code
