"""Languages that a recipe adds: a folder of its data files in, `NewLanguage`s out.

`languages.csv`   a row a language, with the columns of the shipped table and `identified_as`; `code` and `name` are
                  needed, the rest has defaults
`limits.csv`      language, limit, value: its quality limits and its `language_score`; an empty value sets a limit aside
`stop_words.csv`  language, word

Every mistake is a RecipeError that names file, line and remedy. `write_language` writes the same files. What is in them
travels with the plan's nodes and is identity; where the folder lies is neither.
"""

import csv
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from marco_data.errors import RecipeError
from marco_data.languages import SHIPPED, NewLanguage, canonical, from_label, language_of, new_languages
from marco_data.languages.model import load_model, model_facts
from marco_data.sources import Source
from marco_data.step import Tools
from marco_data.steps.apply_limits import Limits

CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
SCORE = "language_score"
LANGUAGES_CSV = (
    "code", "name", "iso639_1", "scripts", "words", "shingle_unit", "shingle_size", "family", "region", "aliases",
    "identified_as",
)  # fmt: skip
LIMITS_CSV = ("language", "limit", "value")
EVIDENCE = ("like", "like_value", "like_drops", "drops", "documents")
"""More columns that `limits.csv` may have: what `languages derive` found a value by. Nothing reads them."""
STOP_WORDS_CSV = ("language", "word")
DEFAULTS = {"words": "unicode", "shingle_unit": "word", "shingle_size": "5"}


@dataclass(frozen=True)
class Line:
    """A row of one of the files, and where it stands."""

    place: str
    values: Mapping[str, str]

    def wrong(self, message: str) -> NoReturn:
        raise RecipeError(f"{self.place}: {message}")


def read_new_languages(folder: Path) -> tuple[NewLanguage, ...]:
    """The languages that the files of a folder describe, by code."""
    if not folder.is_dir():
        raise RecipeError(f"no folder `{folder}` with `languages.csv`, `limits.csv` and `stop_words.csv`")
    rows: dict[str, Line] = {}
    for line in _lines(folder / "languages.csv", LANGUAGES_CSV, needed=("code", "name")):
        code = _new_code(line)
        if code in rows:
            line.wrong(f"`{code}` is there already ({rows[code].place})")
        rows[code] = line
    limits: dict[str, dict[str, float | None]] = {code: {} for code in rows}
    for line in _lines(folder / "limits.csv", (*LIMITS_CSV, *EVIDENCE), needed=LIMITS_CSV):
        code, limit = _known(line, rows), line.values["limit"]
        if limit not in (*Limits.model_fields, SCORE):
            near = difflib.get_close_matches(limit, [*Limits.model_fields, SCORE], 1)
            line.wrong(
                f"unknown limit `{limit}`"
                + (f"; did you mean `{near[0]}`?" if near else f"; limits: {', '.join(Limits.model_fields)}, {SCORE}")
            )
        if limit in limits[code]:
            line.wrong(f"`{limit}` of `{code}` is given twice")
        limits[code][limit] = _number(line)
    stop_words: dict[str, set[str]] = {code: set() for code in rows}
    for line in _lines(folder / "stop_words.csv", STOP_WORDS_CSV, needed=STOP_WORDS_CSV):
        if not line.values["word"]:
            line.wrong("the word is empty")
        stop_words[_known(line, rows)].add(line.values["word"])
    return tuple(_language(rows[code], limits[code], stop_words[code]) for code in sorted(rows))


def _language(line: Line, limits: dict[str, float | None], stop_words: set[str]) -> NewLanguage:
    values = {**dict.fromkeys(LANGUAGES_CSV, ""), **{k: v for k, v in line.values.items() if v}}
    values = {**DEFAULTS, "scripts": values["code"].rpartition("_")[2], **{k: v for k, v in values.items() if v}}
    values = {**dict.fromkeys(LANGUAGES_CSV, ""), **values}
    for column, allowed in (("words", ("unicode", "dictionary")), ("shingle_unit", ("word", "character"))):
        if values[column] not in allowed:
            line.wrong(f"`{column}` is `{values[column]}`; it is `{allowed[0]}` or `{allowed[1]}`")
    if not values["shingle_size"].isdigit() or values["shingle_size"] == "0":
        line.wrong(
            f"`shingle_size` is `{values['shingle_size']}`; it is a number from 1, usually 5 words or 8 characters"
        )
    for alias in values["aliases"].split():
        if (owner := _shipped(alias)) is not None:
            line.wrong(f"the alias `{alias}` means the shipped language `{owner}`")
    score = limits.pop(SCORE, None)
    if score is not None and not 0 <= score <= 1:
        line.wrong(f"the `{SCORE}` of `{values['code']}` in limits.csv is {score}; it is a share from 0 to 1")
    if limits.get("min_stop_words") and not stop_words:
        line.wrong(
            f"`{values['code']}` has a limit `min_stop_words` and no word in stop_words.csv, so all its text would be "
            "dropped; write some, or let `marco-data languages derive` find them"
        )
    identified = tuple(sorted({from_label(label) for label in values["identified_as"].split()}))
    return NewLanguage(language_of(values), identified, limits, score, frozenset(stop_words))


def _new_code(line: Line) -> str:
    code = line.values["code"]
    if not CODE.fullmatch(code):
        line.wrong(f"the code `{code}` is not ISO 639-3 and script, like `nno_Latn`")
    if (owner := _shipped(code)) is not None:
        line.wrong(
            f"`{code}` is the shipped language `{owner}`; a recipe changes its limits under `steps.quality.overrides`"
        )
    return code


def _shipped(code: str) -> str | None:
    """The shipped language that a code means, whatever has been added."""
    try:
        found = canonical(code).code
    except RecipeError:
        return None
    return found if found in SHIPPED else None


def _known(line: Line, rows: Mapping[str, Line]) -> str:
    code = line.values["language"]
    if code not in rows:
        near = difflib.get_close_matches(code, rows, 1)
        line.wrong(
            f"`{code}` is not in the languages.csv of this folder" + (f"; did you mean `{near[0]}`?" if near else "")
        )
    return code


def _number(line: Line) -> float | None:
    try:
        number = float(line.values["value"]) if line.values["value"] else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        line.wrong(f"`{line.values['limit']}` is `{line.values['value']}`: a number, or nothing to set it aside")
    return number


def _lines(path: Path, columns: tuple[str, ...], *, needed: tuple[str, ...]) -> Iterator[Line]:
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"no `{path.name}` in `{path.parent}`", hint=f"its first line: {','.join(needed)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    reader = csv.reader(text.splitlines())
    head = [name.strip() for name in next(reader, [])]
    line = Line(f"{path}:1", {})
    if missing := [name for name in needed if name not in head]:
        line.wrong(f"no column `{missing[0]}`; the first line names the columns: {', '.join(columns)}")
    if unknown := [name for name in head if name not in columns]:
        near = difflib.get_close_matches(unknown[0], columns, 1)
        line.wrong(
            f"unknown column `{unknown[0]}`"
            + (f"; did you mean `{near[0]}`?" if near else f"; columns: {', '.join(columns)}")
        )
    for row in reader:
        if not any(row):
            continue
        line = Line(f"{path}:{reader.line_num}", dict(zip(head, map(str.strip, row), strict=False)))
        if len(row) != len(head):
            line.wrong(f"{len(row)} values for {len(head)} columns")
        yield line


def require_identified(languages: Iterable[str], model: str, sources: Mapping[str, Source]) -> None:
    """Raise RecipeError where no document could ever be of an added language that a recipe builds."""
    added = [new_languages()[code] for code in languages if code in new_languages()]
    if not added:
        return
    facts = model_facts(model, Tools())
    labels = set(map(from_label, load_model(model, Tools()).labels() if facts is None else facts["labels"]))
    for new in added:
        code = new.language.code
        if code not in labels and not (new.identified_as and any(_declares(s, code) for s in sources.values())):
            raise RecipeError(
                f"nothing can tell that a document is `{code}`: the language model `{model}` does not know it",
                hint="name in languages.csv what the model takes it for (`identified_as`) and let a source declare it "
                "(`language:`, `fields: {language: COLUMN}` or `{language}` in a path), or name a model that knows it "
                "under `steps.identify_language.model`",
            )


def _declares(source: Source, code: str) -> bool:
    if source.language is not None:
        return canonical(source.language).code == code
    return source.fields.language is not None or any("{language}" in path for path in source.paths)


def write_language(folder: Path, new: NewLanguage, evidence: Mapping[str, Mapping[str, object]]) -> list[Path]:
    """Add a language to the files of a folder, which are made where they are missing; the files.

    `evidence`: for each limit what EVIDENCE says of it. A language that is there already is refused.
    """
    code = new.language.code
    if (folder / "languages.csv").exists() and code in {n.language.code for n in read_new_languages(folder)}:
        raise RecipeError(
            f"`{folder}` has `{code}` already", hint="take its rows out of the three files, or give another --out"
        )
    language = {k: " ".join(v) if isinstance(v, tuple) else str(v) for k, v in asdict(new.language).items()}
    limits: dict[str, float | None] = {**new.limits, SCORE: new.language_score}
    tables: dict[str, tuple[tuple[str, ...], list[dict[str, object]]]] = {
        "languages.csv": (LANGUAGES_CSV, [{**language, "identified_as": " ".join(new.identified_as)}]),
        "limits.csv": (
            (*LIMITS_CSV, *EVIDENCE),
            [
                {"language": code, "limit": limit, "value": "" if value is None else value, **evidence.get(limit, {})}
                for limit, value in limits.items()
            ],
        ),
        "stop_words.csv": (STOP_WORDS_CSV, [{"language": code, "word": word} for word in sorted(new.stop_words)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (columns, rows) in tables.items():
        _append(folder / name, columns, rows)
    return [folder / name for name in tables]


def _append(path: Path, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    """Rows behind those of a file, by the columns that it has."""
    text = path.read_text("utf-8-sig") if path.exists() else ",".join(columns) + "\n"
    head = next(csv.reader(text.splitlines()))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text if text.endswith("\n") else f"{text}\n")
        csv.DictWriter(file, head, restval="", extrasaction="ignore", lineterminator="\n").writerows(rows)
