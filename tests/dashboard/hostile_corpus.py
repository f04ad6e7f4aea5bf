"""A small build with documents that would do harm on a page that let them, and one that is under way."""

import gzip
import json
from pathlib import Path
from typing import Any

from small_corpus import Built, as_recipe, build, prose, recipe_values, row, write_corpus, write_jsonl

from marco_data.execute import LocalExecutor, Silent, run
from marco_data.recipe import Recipe
from marco_data.run_state import Announced
from marco_data.storage import Storage

SCRIPT = "<script>document.title = 'owned'</script>"
IMAGE = '<img src="http://evil.example/x.png" onerror="document.title=\'owned\'">'
OVERRIDE = "\u202egnp.exe\u202c"
HOSTILE_ID = f'"><b onmouseover=alert(1)>h</b>{OVERRIDE}'
HOSTILE_URL = "javascript:document.title='owned'//https://example.org/h"
LONG_ID = "one-long-line"


def hostile_rows(long_line: int) -> list[dict[str, Any]]:
    """Markup in text, id and URL; direction overrides; a line of so many characters; a page that is a near copy."""
    first, second = prose("eng_Latn")[0], prose("eng_Latn")[1]
    text = f"{first}\n\n{SCRIPT} {IMAGE} {{{{ 7 * 191 }}}} {OVERRIDE}\n\n{second}"
    line = " ".join(prose("deu_Latn")[0].split())
    line = (line + " ") * (long_line // len(line) + 1)
    return [
        {"id": HOSTILE_ID, "url": HOSTILE_URL, "text": text},
        {"id": LONG_ID, "url": "https://example.org/long", "text": line[:long_line]},
        {"id": "near-copy", "url": "https://example.org/near", "text": row("fra_Latn", 0)["text"] + "\n\nFin."},
    ]


def hostile_recipe(folder: Path, long_line: int = 50_000) -> Recipe:
    corpus = write_corpus(folder / "in")
    write_jsonl(corpus / "web" / "h.jsonl", hostile_rows(long_line))
    values = recipe_values(corpus) | {"budget": 6000}
    values["sources"]["web"]["fields"]["language"] = "language"
    for path in (corpus / "web").glob("*.jsonl*"):
        _declare(path)
    return as_recipe(values)


def _declare(path: Path) -> None:
    """Each row states a language, as sources do; one of them a wrong one."""
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    codes = {"eng": "en", "deu": "de", "fra": "fr", "rus": "ru", "tha": "th", "zho": "zh", "ben": "bn", "nea": "fr"}
    for entry in rows:
        entry["language"] = codes.get(entry["id"][:3], "de")
    write_jsonl(path, rows)


def build_hostile(folder: Path, root: str | Path, long_line: int = 50_000) -> Built:
    return build(hostile_recipe(folder, long_line), root)


class _StopsAt(Silent):
    """A run that is killed when a node begins."""

    def __init__(self, name: str) -> None:
        self.name = name

    def node(self, node: Any, tasks: int, pending: int) -> None:
        if node.name == self.name:
            raise KeyboardInterrupt


def begin(recipe: Recipe, root: str | Path, until: str) -> None:
    """A build that says what it works on and is gone when the node `until` begins."""
    storage = Storage(str(root))
    dataset = recipe.pipeline_function()(recipe)
    announced = Announced.of(recipe, dataset.nodes, storage)
    try:
        run(dataset, storage, LocalExecutor(), _StopsAt(until), announced=announced)
    except KeyboardInterrupt:
        return
    raise AssertionError(f"no node `{until}` began")
