"""What the command `dashboard` starts: the server of a root, or the report in one file."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from marco_data.dashboard import charts, html, pages_spread, server
from marco_data.dashboard.data import Root, View
from marco_data.dashboard.panel import Panel
from marco_data.errors import RecipeError
from marco_data.storage import Storage

Say = Callable[[str], None]


def run(
    storage: Storage, family: str | None, stage: int | None, host: str, port: int | None, first: int, say: Say
) -> None:
    """Serve a root until interrupted. Without a port: `first`, or the next free one."""
    opened = server.listening(host, first if port is None else port, exactly=port is not None)
    taken = opened.getsockname()[1]
    if port is None and taken != first:
        say(f"port {first} is taken, so this is {taken}")
    names = [*server.LOOPBACK, host, *([socket.gethostname(), socket.getfqdn()] if host in ("0.0.0.0", "::") else [])]
    if host not in server.LOOPBACK:
        say(f"listening at {host}: whoever reaches this machine may read the documents in {storage.root}")
    say(f"http://{host}:{taken}/   (Ctrl-C ends it)")
    charts.warm()
    server.serve(server.application(Root(storage, family, stage), names), opened)


def write_report(storage: Storage, family: str | None, stage: int | None, to: Path, say: Say) -> None:
    """The charts and tables of a stage's pages as one file; each language has its quality figures."""
    root = Root(storage, family, stage)
    view = root.view({})
    if view.ledger is None:
        raise RecipeError(view.problem, hint=view.hint or None)
    temporary = to.with_name(to.name + ".partial")
    text = html.report(sections(root, view, say), view)
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, to)  # noqa: PTH105
    except OSError as error:
        raise RecipeError(f"cannot write `{to}`: {error.strerror or error}") from None


def sections(root: Root, view: View, say: Say) -> dict[str, list[tuple[str, list[Panel]]]]:
    """{page: [(title, panels)]}: what each page shows at first, and the quality figures of every language."""
    out: dict[str, list[tuple[str, list[Panel]]]] = {}
    for name, page in server.PAGES.items():
        if name == "language":
            continue
        say(page.title)
        shown = [page.panels(root, view)]
        if name == "quality" and view.lookup is not None:
            codes = [row.language for row in view.languages if row.bytes_read]
            shown = [pages_spread.quality(root, root.view(view.only(language=code))) for code in codes]
        out[name] = [(page.title, panels) for panels in shown]
    return out
