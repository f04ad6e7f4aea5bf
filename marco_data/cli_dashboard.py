"""The command `dashboard`: a web page of what a root holds, or one file that shows the same."""

from pathlib import Path
from typing import Annotated

import typer

from marco_data.errors import RecipeError
from marco_data.options import AnyStage, Root
from marco_data.report import console
from marco_data.storage import Storage

PORT = 8640


def dashboard(
    root: Root = "./marco-out",
    family: Annotated[str | None, typer.Option(help="Show this family first.")] = None,
    stage: AnyStage = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help=f"Default: {PORT}, or the next one that is free.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine, whoever gets there may read.")] = (
        "127.0.0.1"
    ),
    export: Annotated[
        Path | None, typer.Option(help="Write one HTML file that needs no other and no network, and end.")
    ] = None,
) -> None:
    """Show what a root holds as a web page of this machine; a build under way is shown as it goes on.

    Example:  marco-data dashboard --root s3://lake/marco --stage 3
    """
    try:
        from marco_data.dashboard import site
    except ImportError as error:
        raise RecipeError(
            f"the dashboard needs a package that is not installed: {error.name}",
            hint="uv pip install -c constraints.txt -e '.[dashboard]'",
        ) from None
    say = console(stderr=True).print
    storage = Storage(root)
    if export is not None:
        site.write_report(storage, family, stage, export, lambda text: say(text, markup=False, highlight=False))
        print(export)
        return
    site.run(storage, family, stage, host, port, PORT, lambda text: say(text, markup=False, soft_wrap=True))
