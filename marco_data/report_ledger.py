"""What a person is told of a stage's ledger: the tables of tokens and of the mixture, and how far a build is."""

from collections.abc import Sequence

from rich.table import Table

from marco_data.languages import LANGUAGES
from marco_data.published_mixture import published
from marco_data.report import NARROW, console
from marco_data.stage_ledger import Axis, LedgerRow, StageLedger

LARGE = 10_000_000
"""Where a stage has more tokens than these, tables round them to four digits; --json and --csv have them all."""
NAME_WIDTH = 24
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def print_ledger(ledger: StageLedger, by: Sequence[Axis]) -> None:
    """Rows by `by` with their sum, then the mixture, then what the estimates rest on."""
    out = console()
    round_off = max(ledger.budget or 0, ledger.total()[0].collected) > LARGE
    title = f"{ledger.family} stage {ledger.stage}: tokens" + ("" if ledger.complete else ", so far")
    out.print(_tokens(ledger, by, title, narrow=out.width < NARROW, round_off=round_off))
    out.print(_mixture(ledger))
    out.print("\n".join(_grounds(ledger)), markup=False, highlight=False)


def _tokens(ledger: StageLedger, by: Sequence[Axis], title: str, *, narrow: bool, round_off: bool) -> Table:
    rows = sorted(ledger.total(*by), key=lambda row: [getattr(row, axis) for axis in by])
    whole = ledger.total()[0]
    table = Table(title=title, title_justify="left", show_footer=True)
    for i, axis in enumerate(by):
        longest = max((len(_named(row, axis)) for row in rows), default=0)
        table.add_column(axis, footer="all" if i == 0 else "", overflow="fold", min_width=min(longest, NAME_WIDTH))
    steps = [] if narrow else [step for step in ledger.steps if _removes(whole, step)]
    columns = ["wanted", "collected", *(["synthesized"] if whole.synthesized else [])]
    columns += [f"after {_spaced(step)}" for step in steps]
    columns += [*(["pending"] if whole.pending.documents else []), "written"]
    columns += ["epochs", *([] if narrow else ["drawn"]), "shortfall"]
    sums = _cells(whole, columns, steps, round_off)
    for name, footer in zip(columns, sums, strict=True):
        table.add_column(name, justify="right", footer=footer)
    for row in rows:
        table.add_row(*(_named(row, axis) for axis in by), *_cells(row, columns, steps, round_off))
    return table


def _removes(whole: LedgerRow, step: str) -> bool:
    """Whether a step has taken anything out; a column for each step that has not would say nothing."""
    reasons = [reason.partition("/")[0] for reason in (*whole.dropped, *whole.failed)]
    return step in reasons or (step == "replace" and whole.replaced.documents > 0)


def _cells(row: LedgerRow, columns: Sequence[str], steps: Sequence[str], round_off: bool) -> list[str]:
    def told(tokens: int | None, name: str) -> str:
        if not tokens:
            return ""
        return ("~" if name in row.estimated else "") + (_short(tokens) if round_off else f"{tokens:,}")

    entered = row.collected + row.synthesized
    values = {
        "wanted": told(row.wanted, "wanted"),
        "collected": told(row.collected, "collected"),
        "synthesized": told(row.synthesized, "synthesized"),
        **{
            f"after {_spaced(step)}": told(row.after.get(step, 0), f"after.{step}") or ("0" if entered else "")
            for step in steps
        },
        "pending": told(row.pending.tokens, "pending"),
        "written": told(row.written, "written"),
        "epochs": f"{row.epochs:.2f}" if row.epochs else "",
        "drawn": told(row.drawn, "drawn"),
        "shortfall": told(row.shortfall, "shortfall"),
    }
    return [values[name] for name in columns]


def _spaced(step: str) -> str:
    return step.replace("_", " ")


def _short(tokens: int) -> str:
    for size, unit in _UNITS:
        if tokens >= size:
            return f"{tokens / size:.4g}{unit}"
    return str(tokens)


def _named(row: LedgerRow, axis: Axis) -> str:
    value: str = getattr(row, axis)
    return f"{value} {LANGUAGES[value].name}" if axis == "language" and value in LANGUAGES else value


def _mixture(ledger: StageLedger) -> Table:
    """Shares of the stage; languages only where the published chart has them."""
    table = Table(title="\nmixture, % of the stage", title_justify="left")
    for name in ("", "recipe", "realised", "Marco-MoE"):
        table.add_column(name, justify="left" if not name else "right")
    alone = {category.name for category in published(ledger.stage).categories if len(category.parts) == 1}
    kind = "part"
    for row in ledger.mixture:
        if row.kind == "category" and (row.name in alone or not (row.asked or row.realised)):
            continue  # it is one part, and stands above; or none of this recipe's
        if row.kind == "language" and row.published is None:
            continue
        if row.kind != kind:
            table.add_section()
            kind = row.kind
        shares = (row.asked, row.realised, row.published)
        name = f"{row.name} in all" if row.kind == "category" else row.name
        table.add_row(name, *("" if share is None else f"{100 * share:.2f}" for share in shares))
    return table


def _grounds(ledger: StageLedger) -> list[str]:
    """What figures with a ~ rest on."""
    lines = ["", "~ bytes of text times the tokens per byte of its language; figures without are counted"]
    bases: dict[str, list[str]] = {}
    for code, measured in ledger.fertility.items():
        bases.setdefault(measured.basis, []).append(code)
    said = {
        "script": "of the script",
        "all": "of all languages",
        "earlier build": "of an earlier build",
        "earlier build, all": "of all languages of an earlier build",
        "assumed": "assumed to be 0.25, because nothing is tokenized yet",
    }
    return lines + [f"  {said[basis]}: {', '.join(codes)}" for basis, codes in sorted(bases.items()) if basis in said]


def progress_note(ledger: StageLedger) -> str:
    """How far a build without a whole stage is, and what its figures mean."""
    if not ledger.running:
        return "note: this build did not finish; these are the tokens of what it did"
    at = [node for node in ledger.nodes if node.tasks is not None]
    now = f": {at[-1].done:,} of {at[-1].tasks:,} tasks of `{at[-1].name}`" if at else ""
    so_far = f"being built{now}" if ledger.live else f"no live build is at it, and the same command goes on{now}"
    return f"note: {so_far}; wanted and short are what they would be if it ended now"
