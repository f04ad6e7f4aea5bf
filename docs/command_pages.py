"""A page for each command, from the code: what it does, its arguments, options and defaults, and its examples.

In: the program's commands, as click knows them, and the README, whose `sh` blocks are the examples. Out: {name of the
page: Markdown}. `python docs/command_pages.py FOLDER` writes them there; conf.py does so before a site is built.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from marco_data.cli import app
from marco_data.markdown import code, lines

README = Path(__file__).resolve().parents[1] / "README.md"
PROGRAM = "marco-data"


def pages(readme: str) -> dict[str, str]:
    """{command: its page}, those of a group's commands on the group's page."""
    group: Any = typer.main.get_command(app)
    return {name: _page(name, command, readme) for name, command in sorted(group.commands.items())}


def _page(name: str, command: Any, readme: str) -> str:
    parts = [f"# {name}\n", *_about(f"{PROGRAM} {name}", command)]
    for inner, subcommand in sorted(getattr(command, "commands", {}).items()):
        parts += [f"## {name} {inner}\n", *_about(f"{PROGRAM} {name} {inner}", subcommand)]
    examples = examples_of(name, readme)
    if examples:
        parts += ["## Examples\n", code("\n".join(examples), "sh")]
    return "\n".join(parts)


def _about(call: str, command: Any) -> Iterator[str]:
    said, _, example = (command.help or "").partition("Example:")
    yield " ".join(said.split()) + "\n"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = [_placeholder(p) for p in arguments]
    inner = ["COMMAND"] if getattr(command, "commands", None) else []
    yield code(" ".join([call, "[OPTIONS]", *words, *inner]), "text")
    if example.strip():
        yield f"For example `{' '.join(example.split())}`.\n"
    yield lines(("argument", "is"), [(f"`{_placeholder(p)}`", _cell(getattr(p, "help", ""))) for p in arguments])
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    yield lines(("option", "means", "default"), [(_spelled(p), _cell(p.help), _default(p)) for p in options])


def _placeholder(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _spelled(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names[:-1]} {(option.metavar or option.name).upper()}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    return "" if callable(value) or value in (None, False, (), [], "") else f"`{value}`"


def examples_of(name: str, readme: str) -> list[str]:
    """The README's lines that call a command."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return [
        line for block in blocks for line in block.splitlines() if re.match(rf"{PROGRAM} {re.escape(name)}\b", line)
    ]


def write(folder: Path) -> list[Path]:
    """The pages as files; what has not changed is left as it is, so that a site is not built again for nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, page in pages(README.read_text("utf-8")).items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text("utf-8") != page:
            path.write_text(page, "utf-8")
        made.append(path)
    for stale in set(folder.glob("*.md")) - set(made):
        stale.unlink()
    return made


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])), sep="\n")
