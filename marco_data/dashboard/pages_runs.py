"""The pages of what goes on: how far a build is, and the curves of training runs.

In: a `View`'s nodes, and what `runs` reads of logs. Out: panels.
"""

from typing import Any

from marco_data.dashboard import charts, runs
from marco_data.dashboard.data import Root, View
from marco_data.dashboard.pages import Select
from marco_data.dashboard.panel import Column, Panel, short

FAILED_SHOWN = 50


def progress(root: Root, view: View) -> list[Panel]:
    ledger = view.ledger
    work = runs.work_of(view.storage, view.folders)
    nodes = list(ledger.nodes) if ledger else []
    running, live = bool(ledger and ledger.running), bool(ledger and ledger.live)
    table, drawn = [], []
    for node in nodes:
        own = work.get(node.name)
        left = runs.seconds_left(own, node.tasks, node.done) if live else None
        rate = own.rate if own else None
        share = node.done / node.tasks if node.tasks else None
        table.append(
            [
                *(node.name, node.tasks, node.done, share, rate, runs.duration(own.seconds if own else None)),
                runs.duration(left) if node.tasks is None or node.done < node.tasks else "",
            ]
        )
        if node.tasks is not None:
            said = f"{short(node.done)} of {short(node.tasks)}"
            drawn.append({"label": node.name, "value": share or 0, "said": said, "target": 1})
    columns = [Column("node", "text"), Column("tasks"), Column("done"), Column("share", "share")]
    columns += [Column("tasks a second", "number"), Column("work", "text"), Column("left", "text")]
    state = "A build is under way." if live else "No live build."
    state += " One was begun: the same command goes on." if running and not live else ""
    waiting = sum(node.tasks is None for node in nodes) if running else 0
    note = f"{state} Rates and seconds of work are those of its newest log; `left` is for a node at its rate so far."
    note += f" {waiting} nodes have not begun, and nobody knows yet how many tasks they will have." if waiting else ""
    chart = charts.bars(drawn, axis="share of the tasks", target=True, share=True) if drawn else None
    failures = [[name, message] for name, own in sorted(work.items()) for message in own.failed][:FAILED_SHOWN]
    return [
        Panel("progress", "How far it is", columns, table, note, chart, empty="Nothing has begun."),
        _throughput(view, work),
        Panel(
            "failures",
            "What failed in this build's newest run",
            [Column("node", "text"), Column("what", "text")],
            failures,
            empty="Nothing failed.",
        ),
    ]


def _throughput(view: View, work: dict[str, runs.NodeWork]) -> Panel:
    """Documents and bytes that were read, over the work of the pass that reads."""
    total = view.ledger.total()[0] if view.ledger else None
    measure = work.get("measure")
    whole = next((n for n in (view.ledger.nodes if view.ledger else ()) if n.name == "measure"), None)
    columns = [Column("figure", "text"), Column("value", "number")]
    title = "Throughput of reading"
    if not total or not measure or not measure.seconds or not whole or measure.tasks < whole.done:
        empty = "The newest run read nothing, or only what earlier ones had left."
        return Panel("throughput", title, columns, [], empty=empty)
    rows: list[list[Any]] = [
        ["documents a second of one core", total.documents_read / measure.seconds],
        ["MB of text a second of one core", total.bytes_read / 1e6 / measure.seconds],
    ]
    return Panel("throughput", title, columns, rows, "Everything that was read, by the seconds its tasks took.")


def training_fields(view: View) -> list[Select]:
    names = runs.trainings(view.storage)
    if not names:
        return []
    return [Select("run", "Run", [(name, name) for name in names], view.asked("run") or names[-1])]


CURVES = (
    ("loss", "Loss", "loss"),
    ("gradient_norm", "Gradient norm", "norm"),
    ("rate", "Learning rate", "rate"),
    ("tokens_per_second", "Speed", "tokens a second"),
    ("data_wait_seconds", "Waiting for data", "seconds between two lines"),
    ("mfu", "Model FLOP utilization", "share of the peak"),
    ("dead_experts", "Dead experts", "experts"),
)


def training(root: Root, view: View) -> list[Panel]:
    names = runs.trainings(view.storage)
    name = view.asked("run") if view.asked("run") in names else (names[-1] if names else "")
    columns = [Column("iteration"), Column("tokens"), Column("loss", "number")]
    if not name:
        return [Panel("loss", "Training", columns, [], empty="No training run lies in this root, under training/.")]
    steps, spikes = runs.curve(view.storage, name)
    panels = []
    for key, title, axis in CURVES:
        points = [step for step in steps if runs.finite([step.get(key)])]
        if not points:
            continue
        rows = [[step["iteration"], step.get("tokens"), step[key]] for step in points]
        drawn = [{"at": step["iteration"], "value": step[key], "kind": key} for step in points]
        chart = charts.lines(drawn, x="iteration", y=axis)
        panels.append(Panel(key, f"{title}, {name}", [*columns[:2], Column(axis, "number")], rows, "", chart))
    panels.append(_by_language(steps))
    panels.append(_sources(steps))
    said = [
        [spike["iteration"], spike["verdict"], spike["loss"], ", ".join(_named(d) for d in spike.get("documents", ()))]
        for spike in spikes
    ]
    columns = [Column("iteration"), Column("what", "text"), Column("loss", "number"), Column("documents", "text")]
    panels.append(Panel("spikes", "Spikes", columns, said, empty="No spike."))
    return panels


def _named(document: dict[str, Any]) -> str:
    return f"{document.get('prefix')}:{document.get('document')}"


MOST_CURVES = 8


def _by_language(steps: list[dict[str, Any]]) -> Panel:
    """The last loss of each language, and the curves of those with the highest."""
    last: dict[str, float] = {}
    for step in steps:
        last |= {code: loss for code, loss in step.get("loss_by_language", {}).items() if runs.finite([loss])}
    ordered = sorted(last.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = {code for code, _ in ordered[:MOST_CURVES]}
    drawn = [
        {"at": step["iteration"], "value": loss, "kind": code}
        for step in steps
        for code, loss in step.get("loss_by_language", {}).items()
        if code in shown and runs.finite([loss])
    ]
    return Panel(
        "loss-by-language",
        "Loss by language",
        [Column("language", "text"), Column("last loss", "number")],
        [list(entry) for entry in ordered],
        f"Curves of the {MOST_CURVES} languages whose loss is highest; the table has all." if len(last) > 8 else "",
        charts.lines(drawn, x="iteration", y="loss") if drawn else None,
    )


def _sources(steps: list[dict[str, Any]]) -> Panel:
    names = ("language", "part", "source")
    rows = [
        [*(source.get(name) for name in (*names, "seen", "planned", "loss"))]
        for source in (steps[-1].get("sources", []) if steps else [])
    ]
    columns = [*(Column(name, "text") for name in names), Column("tokens seen"), Column("planned", "number")]
    return Panel("seen", "Tokens seen, beside the plan", [*columns, Column("loss", "number")], rows)
