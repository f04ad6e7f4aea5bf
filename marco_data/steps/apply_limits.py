"""Apply limits: the `quality_<metric>` columns and a document's language in, a verdict and a tier out.

Reads columns only, so a changed limit re-decides in seconds. The limits are FineWeb-2's per language (for English
FineWeb's and Gopher's defaults), with a recipe's overrides. Where our words give other verdicts than the words they
were found with, `fineweb2` replaces them by what drops as much (`languages/limits_for_our_words.csv`), and
`fineweb2_unchanged` does not. The first metric that is out of its limit, in
FineWeb-2's order, gives the reason.
"""

import csv
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marco_data.errors import RecipeError
from marco_data.languages import Language, canonical, new_languages
from marco_data.step import BoundStep, Step, StepOutput, Tools
from marco_data.steps.measure_quality import METRICS

HIGH, LOW = "high", "low"
TABLES = ("fineweb2", "fineweb2_unchanged")

# (limit, what is wrong with a document beyond it), in FineWeb-2's order.
RULES: tuple[tuple[str, str], ...] = (
    ("max_duplicate_lines", "too_many_duplicate_lines"),
    ("max_top_2_gram", "too_much_of_one_2_gram"),
    ("max_top_3_gram", "too_much_of_one_3_gram"),
    ("max_top_4_gram", "too_much_of_one_4_gram"),
    ("max_duplicate_5_grams", "too_many_duplicate_5_grams"),
    ("max_duplicate_6_grams", "too_many_duplicate_6_grams"),
    ("max_duplicate_7_grams", "too_many_duplicate_7_grams"),
    ("max_duplicate_8_grams", "too_many_duplicate_8_grams"),
    ("max_duplicate_9_grams", "too_many_duplicate_9_grams"),
    ("max_duplicate_10_grams", "too_many_duplicate_10_grams"),
    ("min_line_punctuation", "too_little_line_punctuation"),
    ("max_short_lines", "too_many_short_lines"),
    ("max_duplicate_line_characters", "too_many_duplicate_line_characters"),
    ("max_new_lines", "too_many_new_lines"),
    ("min_words", "too_few_words"),
    ("max_words", "too_many_words"),
    ("min_word_length", "words_too_short"),
    ("max_word_length", "words_too_long"),
    ("max_hashes", "too_many_hashes"),
    ("max_ellipses", "too_many_ellipses"),
    ("max_bullet_lines", "too_many_bullet_lines"),
    ("max_ellipsis_lines", "too_many_ellipsis_lines"),
    ("min_alphabetic_words", "too_few_alphabetic_words"),
    ("min_stop_words", "too_few_stop_words"),
)

_REASONS = np.array([f"quality/{wrong}" for _, wrong in RULES] + [None], object)

# Limits that say what kind of text it is, not how good, and so stay as they are when a tier is found. Tightened by
# 0.2, word length would call 35 of 40 clean Vietnamese documents `low` (3.5 characters where 3 is the least),
# alphabetic words a quarter of the clean prose of all languages (0.82 to 0.87 where 0.8 is the least: the rest
# is punctuation), stop words a third of the Javanese (three where two are asked for).
_NOT_GRADED = frozenset({"max_words", "min_word_length", "max_word_length", "min_alphabetic_words", "min_stop_words"})

# Columns of fineweb2_limits.csv, by limit. FineWeb-2's `max_non_alpha_words_ratio` is a minimum of alphabetic words.
FINEWEB2_NAMES: Mapping[str, str] = {
    "max_duplicate_lines": "dup_line_frac",
    **{f"max_top_{n}_gram": f"top_{n}" for n in (2, 3, 4)},
    **{f"max_duplicate_{n}_grams": f"dup_{n}" for n in range(5, 11)},
    "min_line_punctuation": "line_punct_thr",
    "max_short_lines": "short_line_thr",
    "max_duplicate_line_characters": "char_duplicates_ratio",
    "max_new_lines": "new_line_ratio",
    "min_word_length": "min_avg_word_length",
    "max_word_length": "max_avg_word_length",
    "min_alphabetic_words": "max_non_alpha_words_ratio",
    "min_stop_words": "min_stop_words",
}


class Limits(BaseModel):
    """The limits of one language; `None` sets one aside. A value equal to its limit is within it.

    Without a value in FineWeb-2's configurations: the six that it leaves at Gopher's defaults, here too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_duplicate_lines: float | None = None
    max_top_2_gram: float | None = None
    max_top_3_gram: float | None = None
    max_top_4_gram: float | None = None
    max_duplicate_5_grams: float | None = None
    max_duplicate_6_grams: float | None = None
    max_duplicate_7_grams: float | None = None
    max_duplicate_8_grams: float | None = None
    max_duplicate_9_grams: float | None = None
    max_duplicate_10_grams: float | None = None
    min_line_punctuation: float | None = None
    max_short_lines: float | None = None
    max_duplicate_line_characters: float | None = None
    max_new_lines: float | None = None
    min_words: float | None = 50
    max_words: float | None = 100_000
    min_word_length: float | None = None
    max_word_length: float | None = None
    max_hashes: float | None = 0.1
    max_ellipses: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = None
    min_stop_words: float | None = None


class ApplyLimits(Step):
    """Drop what is beyond a limit of its language; call what is kept `high` or `low`.

    `low` is a kept document that would be dropped if the limits were tighter by `tier_margin` m: a maximum x
    becomes x(1 - m), a minimum x becomes x/(1 - m). Limits on the kind of text (length above, word length,
    alphabetic words, stop words) are not tightened. Dropped documents, those without figures and those of a
    language without limits have no tier; the last two are not dropped here.

    Sources in `exempt` are taken as they are, all `high`: limits of web prose say nothing of code, formulas or
    dialogues that were selected elsewhere.
    """

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("source", "lid_language", *(f"quality_{metric}" for metric in METRICS))
    adds: ClassVar[pa.Schema] = pa.schema([("quality_tier", pa.string())])
    reasons: ClassVar[frozenset[str]] = frozenset(f"quality/{wrong}" for _, wrong in RULES)

    limits: Mapping[str, Limits]
    tier_margin: float = Field(0.2, ge=0, lt=1)
    exempt: tuple[str, ...] = ()

    @classmethod
    def name(cls) -> str:
        return "quality"

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def judge(batch: pa.RecordBatch) -> StepOutput:
            codes = batch.column("lid_language").dictionary_encode()
            languages = codes.dictionary.to_pylist()
            of_row = codes.indices.fill_null(len(languages)).to_numpy(zero_copy_only=False)
            has_limits = np.array([code in self.limits for code in languages] + [False])
            exempt = pc.is_in(batch.column("source"), pa.array(self.exempt, pa.string())).to_numpy(zero_copy_only=False)
            judged = (
                ~exempt & has_limits[of_row] & batch.column("quality_words").is_valid().to_numpy(zero_copy_only=False)
            )
            rule, measured = _first_broken(batch, self._table(languages, 0.0)[:, of_row], judged)
            low, _ = _first_broken(batch, self._table(languages, self.tier_margin)[:, of_row], judged)
            dropped = rule >= 0
            tier = np.where(low >= 0, LOW, HIGH).astype(object)
            tier[dropped | ~(judged | exempt)] = None
            return StepOutput(
                columns={"quality_tier": pa.array(tier, pa.string())},
                reason=pa.array(_REASONS[rule], pa.string()),
                measured=pa.array(measured, pa.float64(), mask=~dropped),
            )

        return judge

    def _table(self, languages: list[str], margin: float) -> np.ndarray:
        """(rules, languages + 1): each limit; NaN, which nothing is beyond, where there is none."""
        table = np.full((len(RULES), len(languages) + 1), np.nan)
        for column, code in enumerate(languages):
            for row, (limit, _) in enumerate(RULES):
                value = getattr(self.limits[code], limit) if code in self.limits else None
                if value is not None:
                    table[row, column] = tightened(limit, value, margin)
        return table


def tightened(limit: str, value: float, margin: float) -> float:
    """A limit made harder to keep by a share `margin`; see ApplyLimits."""
    if limit in _NOT_GRADED:
        return value
    return value * (1 - margin) if limit.startswith("max_") else value / (1 - margin)


def _first_broken(batch: pa.RecordBatch, limits: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the number of the first rule it breaks (-1: none) and the figure that breaks it.

    `limits` is (rules, rows).
    """
    rule = np.full(batch.num_rows, -1)
    measured = np.zeros(batch.num_rows)
    for number, (limit, _) in enumerate(RULES):
        side, metric = limit.split("_", 1)
        values = pc.cast(batch.column(f"quality_{metric}"), pa.float64()).to_numpy(zero_copy_only=False)
        beyond = values > limits[number] if side == "max" else values < limits[number]
        first = beyond & judged & (rule < 0)
        rule[first] = number
        measured[first] = values[first]
    return rule, measured


def load_limits(
    name: str = "fineweb2", overrides: Mapping[str, Mapping[str, float | None]] | None = None
) -> dict[str, Limits]:
    """The limits of every language in the table `name` and of those that a recipe adds, with its overrides.

    Raises RecipeError for an unknown table, language or limit, or a value that is no number.
    """
    if name not in TABLES:
        tables = " and ".join(f"`{table}`" for table in TABLES)
        raise RecipeError(f"unknown limits `{name}`", hint=f"there are two tables: {tables}")
    limits = dict(_fineweb2(for_our_words=name == "fineweb2"))
    limits |= {code: _limits(code, new.limits) for code, new in new_languages().items() if new.limits}
    for alias, changes in (overrides or {}).items():
        code = canonical(alias).code
        _check_names(code, changes)
        limits[code] = _limits(code, {**limits.get(code, Limits()).model_dump(), **changes})
    return limits


def require_limits(limits: Mapping[str, Limits], languages: Iterable[str]) -> None:
    """Raise RecipeError where a language of the recipe has no limits."""
    without = [code for code in languages if code not in limits]
    if without:
        raise RecipeError(
            f"no quality limits for {', '.join(f'`{code}`' for code in without)}",
            hint="give them in the recipe under `quality: overrides:`, or in the `limits.csv` of its `languages_from`",
        )


def _check_names(code: str, changes: Mapping[str, Any]) -> None:
    by_their_name = {theirs: ours for ours, theirs in FINEWEB2_NAMES.items() if theirs != ours}
    for name in changes:
        if name in Limits.model_fields:
            continue
        near = difflib.get_close_matches(name, [*Limits.model_fields, *by_their_name], 1, 0.5)
        guess = by_their_name.get(near[0], near[0]) if near else None
        raise RecipeError(
            f"unknown quality limit `{name}` for `{code}`",
            hint=f"did you mean `{guess}`?" if guess else f"limits: {', '.join(Limits.model_fields)}",
        )


def _limits(code: str, values: Mapping[str, Any]) -> Limits:
    try:
        return Limits.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(
            f"quality limit `{first['loc'][0]}` for `{code}` is not a number: {first['input']!r}",
            hint="give a number, or `null` to set the limit aside",
        ) from None


@cache
def _fineweb2(*, for_our_words: bool) -> Mapping[str, Limits]:
    """FineWeb-2's limits, those replaced that our words ask for or not."""
    limits: dict[str, dict[str, float | None]] = {
        row["language"]: {limit: float(row[column]) for limit, column in FINEWEB2_NAMES.items() if row[column]}
        for row in _rows("fineweb2_limits.csv")
    }
    for row in _rows("limits_for_our_words.csv") if for_our_words else ():
        limits[row["language"]][row["limit"]] = float(row["value"]) if row["value"] else None
    return {code: Limits.model_validate(values) for code, values in limits.items()}


def _rows(table: str) -> Iterable[dict[str, str]]:
    text = (resources.files("marco_data.languages") / table).read_text("utf-8")
    return csv.DictReader(text.splitlines())
