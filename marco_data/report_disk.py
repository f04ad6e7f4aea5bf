"""How storage is told of: what a root holds by step and recipe, and what of it may go."""

from collections.abc import Sequence

from rich.table import Table

from marco_data.disk_use import DiskUse
from marco_data.prune import Pruning
from marco_data.report import console

UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
PER_UNIT = 1000


def amount(size: int) -> str:
    """A size for people: `1.23 GB`."""
    value, unit = float(size), 0
    while value >= PER_UNIT and unit < len(UNITS) - 1:
        value /= PER_UNIT
        unit += 1
    return f"{value:.3g} {UNITS[unit]}" if value < PER_UNIT else f"{value:,.0f} {UNITS[unit]}"


def _table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_pruning(found: Pruning) -> None:
    rows = [(name, f"{files:,}", amount(size)) for name, (files, size) in found.by_folder().items()]
    if rows:
        _table("no named recipe needs", ("folder", "files", "size"), rows)
    else:
        print("nothing here that may go")
    for pointer, target in sorted(found.pointers.items()):
        print(f"{pointer} {'goes' if target is None else f'is to name {target}'}")
    print(f"needed: {found.kept:,} files, {amount(found.kept_bytes)}")
    if found.young:
        print(f"younger than a day: {len(found.young):,} files, {amount(sum(e.bytes for e in found.young))}; they stay")
    for folder, why in sorted(found.building.items()):
        print(f"{folder} stays: {why}")
    if found.unknown:
        print(f"{len(found.unknown):,} files that no build makes stay, {found.unknown[0].path} among them")
    for note in found.notes:
        print(f"note: {note}")


def print_disk_use(use: DiskUse) -> None:
    steps = [(step.name, f"{step.files:,}", amount(step.bytes), amount(step.unneeded)) for step in use.steps]
    total = ("all", f"{sum(s.files for s in use.steps):,}", amount(use.bytes), amount(use.unneeded))
    _table("by step", ("step", "files", "size", "of no build"), [*steps, total])
    builds = [(build.name, build.folder, amount(build.bytes), amount(build.own)) for build in use.builds]
    _table("by recipe", ("recipe", "build", "size", "needed by it alone"), builds)
