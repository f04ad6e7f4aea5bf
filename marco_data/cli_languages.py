"""The commands `languages` (what is known) and `languages derive` (limits and stop words for a new language)."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from marco_data.catalog import parse_fields
from marco_data.cli_build import say
from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, SHIPPED
from marco_data.new_languages import CODE, write_language
from marco_data.options import Json
from marco_data.sources import Source, list_files, read_slice, split

MOST_BYTES = 64 << 20
"""Text that is read: of 64 MiB the percentiles no longer change."""

languages = typer.Typer(invoke_without_command=True, help="List the languages; `languages derive` adds one.")


@languages.callback()
def list_languages(
    context: typer.Context,
    json_output: Json = False,
) -> None:
    """List the languages, their codes and scripts."""
    if context.invoked_subcommand is not None:
        return
    if json_output:
        print(json.dumps([asdict(language) for language in LANGUAGES.values()], ensure_ascii=False, default=list))
        return
    for language in LANGUAGES.values():
        print(f"{language.code}  {language.iso639_1}  {language.name}  ({', '.join(language.scripts)})")


@languages.command("derive")
def derive_language(
    text: Annotated[
        list[str], typer.Option("--from", help="Clean text of the language: file, folder or glob (repeatable).")
    ],
    code: Annotated[str, typer.Option(help="ISO 639-3 and script: nno_Latn.")],
    out: Annotated[Path, typer.Option("--out", help="The folder that a recipe names as `languages_from`.")],
    like: Annotated[str, typer.Option(help="A shipped language whose limits are carried over.")] = "eng_Latn",
    name: Annotated[str, typer.Option(help="What the language is called in English.")] = "",
    field: Annotated[list[str] | None, typer.Option("--field", help="Where --from has its text: text=COLUMN.")] = None,
    json_output: Json = False,
) -> None:
    """Find limits, stop words and the rest for a new language, and write the files that `languages_from` reads.

    Example:  marco-data languages derive --from nynorsk.jsonl --code nno_Latn --like nob_Latn --out my-languages
    """
    if not CODE.fullmatch(code):
        raise RecipeError(f"--code: `{code}` is not ISO 639-3 and script, like `nno_Latn`")
    if code in SHIPPED:
        raise RecipeError(f"--code: `{code}` ships with marco-data, and its limits too")
    from marco_data.languages.derive import derive

    found = derive(list(_texts(text, parse_fields(field or []))), code, like=like, name=name)
    files = write_language(out, found.new, found.evidence)
    for warning in found.warnings:
        say(f"warning: {warning}")
    if json_output:
        rests = {"documents": found.documents, "words": found.words, "warnings": found.warnings}
        print(json.dumps({**_object(found.new), **rests, "files": list(map(str, files))}, ensure_ascii=False))
        return
    print(f"{code}: {found.documents:,} documents, {found.words:,} words, limits after {like}")
    print(f"  {len(found.new.stop_words)} stop words: {' '.join(sorted(found.new.stop_words))}")
    if found.new.identified_as:
        print(f"  the language model takes it for {', '.join(found.new.identified_as)}: a source has to declare it")
    for limit, row in found.evidence.items():
        print(f"  {limit} {found.new.limits[limit]}: drops {row['drops']:.2%}")
    print(f"written: {', '.join(map(str, files))}")


def _object(new: object) -> dict[str, object]:
    values = json.loads(json.dumps(asdict(new), default=sorted, ensure_ascii=False))  # type: ignore[call-overload]
    return {"code": values["language"]["code"], **values}


def _texts(paths: list[str], fields: dict[str, str]) -> Iterator[str]:
    """Texts of at most MOST_BYTES, in the order of files."""
    source = Source(paths=tuple(paths), fields=fields)  # type: ignore[arg-type]
    read = 0
    for part in split(list_files("text", source), MOST_BYTES):
        for batch in read_slice(part, "text", source, max_document_bytes=MOST_BYTES, batch_rows=1000):
            for text in batch.column("text").to_pylist():
                if read >= MOST_BYTES:
                    return
                if text is not None:
                    read += len(text.encode())
                    yield text
