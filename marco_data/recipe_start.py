"""A first recipe for a user's own files: what is in them is looked at, and what they are asked becomes YAML.

In: paths, languages, a budget, a tokenizer. Out: `Proposed` (the fields of the files, by what their first rows hold)
and the text of a recipe. Whether it plans is asked of the plan itself, before anything is written.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marco_data.errors import MarcoError, RecipeError
from marco_data.filesystems import opened
from marco_data.languages import canonical, from_label
from marco_data.mix import parse_tokens
from marco_data.nodes.measure import Measure
from marco_data.recipe import load_recipe
from marco_data.recipe_text import flow
from marco_data.sources import Source, SourceFile, check_fields, list_files
from marco_data.tokenizer import Tokenizer

LOOKED_AT = 200
"""Rows that are looked at; with fewer nobody is told which languages are there."""
USUAL = {
    "text": ("text", "content", "body", "raw_content", "markdown", "document"),
    "id": ("id", "doc_id", "document_id", "uuid", "docid", "key"),
    "url": ("url", "uri", "link", "source_url"),
    "language": ("language", "lang", "language_code", "lang_code"),
    "licence": ("licence", "license"),
}
"""What columns are usually called, the likeliest first."""


@dataclass(frozen=True)
class Proposed:
    """What the first file shows: its format, its columns, which of them hold what, and the languages it declares."""

    file: str
    files: int
    format: str
    columns: tuple[str, ...]
    fields: Mapping[str, str]
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What the user answered."""

    inputs: tuple[str, ...]
    languages: tuple[str, ...]
    budget: str
    tokenizer: str
    fields: Mapping[str, str]
    end_of_document: str
    family: str
    stage: int

    @staticmethod
    def of(
        inputs: Sequence[str],
        languages: str,
        budget: str,
        tokenizer: str,
        fields: Mapping[str, str],
        end_of_document: str,
        family: str,
        stage: int,
        *,
        out: Path,
    ) -> "Wanted":
        """Answers as a recipe at `out` writes them: paths from its folder, codes in full."""
        codes = tuple(dict.fromkeys(canonical(code.strip()).code for code in languages.split(",") if code.strip()))
        if not codes:
            raise RecipeError("--languages names no language", hint="for example --languages sw,en")
        if budget:
            parse_tokens(budget)
        here = out.absolute().parent
        paths = tuple(_from(here, path) for path in inputs)
        return Wanted(paths, codes, budget, _from(here, tokenizer), dict(fields), end_of_document, family, stage)


def look_at(inputs: Sequence[str], fields: Mapping[str, str]) -> Proposed:
    """Which fields the files have. RecipeError where there is no file, or none of their columns holds text."""
    files = list_files("data", Source(paths=_absolute(inputs)))
    first = files[0]
    rows = list(islice(_rows(first), LOOKED_AT))
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    found = {role: name for role in USUAL if (name := _column(role, columns, rows)) is not None} | dict(fields)
    if rows and "text" not in found:
        shown = ", ".join(f"`{name}`" for name in columns)
        raise RecipeError(
            f"`{first.name}` has no column that holds text; it has: {shown}", hint="name it with --field text=COLUMN"
        )
    declared = {str(row[found["language"]]) for row in rows if row.get(found.get("language", ""))}
    codes = {_code(label) for label in declared} | {f.declared_language for f in files}
    return Proposed(first.name, len(files), first.format, columns, found, tuple(sorted(code for code in codes if code)))


def _absolute(inputs: Sequence[str]) -> tuple[str, ...]:
    return tuple(path if "://" in path else str(Path(path).expanduser().absolute()) for path in inputs)


def _code(label: str) -> str | None:
    try:
        return canonical(from_label(label)).code
    except RecipeError:
        return None


def _column(role: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column of a role: by its name; of text also the one with the most of it."""
    folded = {name.lower(): name for name in columns}
    for name in USUAL[role]:
        if name in folded and (role != "text" or any(isinstance(row.get(folded[name]), str) for row in rows)):
            return folded[name]
    if role != "text":
        return None
    sizes = {name: sum(len(row[name]) for row in rows if isinstance(row.get(name), str)) for name in columns}
    longest = max(sizes, key=lambda name: sizes[name], default=None)
    return longest if longest is not None and sizes[longest] else None


def _rows(file: SourceFile) -> Iterator[dict[str, Any]]:
    """The first rows of a file whose rows have columns."""
    if file.format == "parquet":
        with opened(file.uri) as raw:
            try:
                yield from next(pq.ParquetFile(raw).iter_batches(LOOKED_AT)).to_pylist()
            except (StopIteration, pa.ArrowException):
                return
    elif file.format == "jsonl":
        packing = {"gz": "gzip", "zst": "zstd", None: None}[file.compression]
        with opened(file.uri, packing) as raw:
            for line in raw:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row


def recipe_yaml(wanted: Wanted, proposed: Proposed) -> str:
    """The recipe as YAML, with a comment where a choice can be changed."""
    budget = (
        f"budget: {flow(wanted.budget)}" if wanted.budget else "# budget: 10M   # without one everything is taken once"
    )
    fields = f"    fields: {flow(dict(proposed.fields))}\n" if proposed.columns else ""
    optional = [role for role in ("id", "url", "language", "licence") if role in proposed.fields]
    maybe = f"    optional: {flow(optional)}  # a file may lack these\n" if optional and proposed.columns else ""
    declared = len(wanted.languages) == 1 and "language" not in proposed.fields
    language = f"    # language: {wanted.languages[0]}  # where all of it is, and other text is to be dropped\n"
    return (
        f"# By `marco-data init`; `marco-data recipe show FILE --resolved` prints all that is left to defaults.\n"
        f"family: {flow(wanted.family)}\n"
        f"stage: {wanted.stage}\n"
        f"after: nothing\n"
        f"tokenizer: {flow({'path': wanted.tokenizer, 'end_of_document': wanted.end_of_document})}\n"
        f"languages: {flow(list(wanted.languages))}\n"
        f"{budget}\n"
        f"sources:\n"
        f"  data:\n"
        f"    paths: {flow(list(wanted.inputs))}\n"
        f"{fields}{maybe}{language if declared else ''}"
        f"    # licence: CC0-1.0\n"
        f"mixture:\n"
        f"  data: {{weight: 1}}\n"
    )


def write_recipe(out: Path, text: str) -> None:
    """Write a recipe that loads, plans, finds its files, fields and tokenizer; nothing is written where it does not.

    A file that is there is never replaced.
    """
    if out.exists():
        raise RecipeError(f"`{out}` is there already", hint="give another --out, or take it away")
    if not out.parent.is_dir():
        raise RecipeError(f"there is no folder `{out.parent}` to write `{out.name}` to")
    # Paths in a recipe are relative to its folder: so it is tried where it will lie.
    handle, name = tempfile.mkstemp(prefix=f".{out.stem}.", suffix=".yaml", dir=out.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        _check(draft)
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise RecipeError(f"`{out}` is there already", hint="give another --out, or take it away") from None
    except MarcoError as error:
        raise RecipeError(error.message.replace(str(draft), str(out)), hint=error.hint) from None
    finally:
        draft.unlink()


def _check(draft: Path) -> None:
    recipe = load_recipe(draft)
    dataset = recipe.pipeline_function()(recipe)
    measure = dataset.node("measure")
    assert isinstance(measure, Measure)
    for name, source in measure.sources.items():
        for file in measure.files(name)[:1]:
            check_fields(file, source)
    if "://" not in recipe.tokenizer.path:  # a remote one is fetched by the build
        Tokenizer.load(Path(recipe.tokenizer.path), recipe.tokenizer.end_of_document)
    for node in dataset.nodes:
        if node.kind != "tokenize":
            assert node.identity


def _from(folder: Path, path: str) -> str:
    """A path as a recipe in a folder writes it: relative where it lies in or beside it."""
    if "://" in path:
        return path
    full = Path(path).expanduser().absolute()
    near = os.path.relpath(full, folder)
    return str(full) if near.startswith(f"..{os.sep}..") else near
