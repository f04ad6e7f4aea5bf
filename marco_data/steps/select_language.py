"""Decide by language: what identification found and a recipe's languages in, a verdict for each document out.

Reads columns only. The checks, in order; the first that fails is the reason, its `measured` the model's score:

1. `no_language`       the label is of no language: filler, noise, or code whose source declares none (`zxx_Noise`)
2. `wrong_language`    the source declared a language and the model found another one
3. `unknown_language`  the label is none of ours and not listed in the recipe (`nno_Latn`, `und`)
4. `not_in_recipe`     one of ours that this recipe does not build
5. `low_score`         a score below the language's threshold; equal is enough
6. `wrong_script`      letters mostly of a script that the language is not written in (Serbian in Latin letters)
7. `mixed_language`    less than `min_share` of the text is in the document's language; that share is `measured`

So the last three count only what the recipe wanted and lost, whatever else the sources hold. A source that declares
nothing (null) is believed as it is identified. Of mixed text only what is of another language for certain counts
against a document: not what no language was found for, nor code and other labels of no language.
"""

import csv
from collections.abc import Iterable
from importlib import resources
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator, model_validator

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, NOT_LINGUISTIC, Language, from_label, new_digest, new_languages
from marco_data.languages.model import load_model, model_facts
from marco_data.step import BoundStep, Step, StepOutput, Tools

_ORDER = (
    "no_language",
    "wrong_language",
    "unknown_language",
    "not_in_recipe",
    "low_score",
    "wrong_script",
    "mixed_language",
)
_REASONS = pa.array([f"select_language/{wrong}" for wrong in _ORDER], pa.string())

# A label of GlotLID's that no other model we know has: FLORES says zho_Hans, lid.176 zh.
_GLOTLID_LABEL = "cmn_Hani"


class SelectLanguage(Step):
    """Keep documents of `languages` that score at least their language's threshold, in a script it is written in.

    `thresholds` come from `thresholds_for`: numbers, not the rule that gave them, are what identifies a step.
    """

    version: ClassVar[int | None] = 2  # 2: no_language, mixed_language
    reads: ClassVar[tuple[str, ...]] = ("lid_language", "lid_score", "lid_script", "lid_shares", "declared_language")
    reasons: ClassVar[frozenset[str]] = frozenset(_REASONS.to_pylist())

    languages: tuple[str, ...]
    thresholds: dict[str, float]
    check_script: bool = True
    min_share: float | None = None

    @field_validator("languages", mode="after")
    @classmethod
    def _one_spelling(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        """Sorted, in our codes: the order a recipe lists languages in decides nothing."""
        return tuple(sorted({from_label(language) for language in languages}))

    @model_validator(mode="after")
    def _all_have_thresholds(self) -> "SelectLanguage":
        missing = [language for language in self.languages if language not in self.thresholds]
        if missing:
            raise ValueError(f"no threshold for {', '.join(missing)}")
        return self

    def content(self, tools: Tools) -> dict[str, str]:
        return new_digest("scripts")

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        wanted = pa.array(self.languages, pa.string())
        known = pa.array(sorted({*LANGUAGES, *self.languages}), pa.string())
        # One threshold more than languages: index -1, a language that is not wanted, reads the last.
        thresholds = np.array([*(self.thresholds[name] for name in self.languages), 0.0])
        in_script = pa.array(list(_accepted(self.languages)), pa.string())

        def select(batch: pa.RecordBatch) -> StepOutput:
            found, declared = batch.column("lid_language"), batch.column("declared_language")
            score = batch.column("lid_score").to_numpy(zero_copy_only=False)
            place = pc.fill_null(pc.index_in(found, wanted), -1).to_numpy(zero_copy_only=False)
            none = np.zeros(batch.num_rows, bool)
            wrong = [
                _mask(pc.fill_null(pc.starts_with(found, NOT_LINGUISTIC), False)) & (place < 0),
                _mask(pc.and_(pc.is_valid(declared), pc.fill_null(pc.not_equal(found, declared), True))),
                _mask(pc.invert(pc.is_in(found, known))),
                place < 0,
                ~(score >= thresholds[place]),  # so written, a missing score (NaN) is a low one
            ]
            pair = pc.binary_join_element_wise(found, batch.column("lid_script"), "/")
            wrong.append(_mask(pc.invert(pc.is_in(pair, in_script))) if self.check_script else none)
            share = own_shares(batch.column("lid_shares"), found)
            wrong.append(none if self.min_share is None else share < self.min_share)
            return _first(wrong, score, share)

        return select


def own_shares(shares: pa.Array, languages: pa.Array) -> np.ndarray:
    """The share of each document that is not of another language than `languages` says: float64, 4 decimals."""
    document, entries = pc.list_parent_indices(shares), pc.list_flatten(shares)
    label = pc.struct_field(entries, "language")
    own = pc.fill_null(pc.equal(label, languages.take(document)), False)
    own = pc.or_(own, pc.starts_with(label, NOT_LINGUISTIC))
    other = np.where(_mask(own), 0.0, pc.struct_field(entries, "share").to_numpy(zero_copy_only=False))
    # Rounded shares may sum to a little more than 1.
    return np.round(np.maximum(1 - np.bincount(document.to_numpy(), other, len(shares)), 0), 4)


def _first(wrong: list[np.ndarray], score: np.ndarray, share: np.ndarray) -> StepOutput:
    """The verdicts of documents whose failed checks are True, the first failed check giving the reason."""
    failed = np.stack(wrong)
    first, kept = failed.argmax(axis=0), ~failed.any(axis=0)
    measured = np.where(first == len(wrong) - 1, share, score)
    return StepOutput(
        reason=_REASONS.take(pa.array(first, pa.int32(), mask=kept)),
        measured=pa.array(measured, pa.float64(), mask=kept | np.isnan(measured)),
    )


def _mask(values: pa.Array) -> np.ndarray:
    mask: np.ndarray = values.to_numpy(zero_copy_only=False)
    return mask.astype(bool)


def _accepted(languages: Iterable[str]) -> Iterable[str]:
    """`language/script` for every script a language is accepted in."""
    for code in languages:
        language = LANGUAGES.get(code)
        for script in language.scripts if language else (code.rpartition("_")[2],):
            yield f"{code}/{script}"


def thresholds_for(
    model: str,
    languages: Iterable[str],
    threshold: Literal["by_language"] | float = "by_language",
    tools: Tools | None = None,
) -> dict[str, float]:
    """The least score for each language: one number for all, or `by_language` those derived for this model.

    Thresholds belong to a model. Ours bring their own; a model with GlotLID's labels gets FineWeb-2's, which were
    derived from GlotLID; an added language has its files' `language_score`. RecipeError for any other model, and for a
    language without one.
    """
    codes = list(dict.fromkeys(from_label(language) for language in languages))
    tools = tools or Tools()
    if threshold != "by_language":
        return dict.fromkeys(codes, float(threshold))
    facts = model_facts(model, tools)
    if facts is not None:
        derived: dict[str, float] = facts["thresholds"]
    elif _GLOTLID_LABEL in load_model(model, tools).labels():
        derived = _fineweb2_scores()
    else:
        raise RecipeError(
            f"no thresholds by language are known for the language model `{model}`",
            hint="set `steps.identify_language.threshold` to a number, for example 0.5",
        )
    added = {code: new.language_score for code, new in new_languages().items() if new.language_score is not None}
    derived = derived | added
    missing = [code for code in codes if code not in derived]
    if missing:
        raise RecipeError(
            f"no threshold is known for {', '.join(missing)} with the language model `{model}`",
            hint="leave the language out, or set `steps.identify_language.threshold` to a number; a language that the "
            "recipe adds may have a row `CODE,language_score,0.3` in limits.csv",
        )
    return {code: derived[code] for code in codes}


def _fineweb2_scores() -> dict[str, float]:
    """FineWeb-2's `language_score`; English's is FineWeb's limit on lid.176 scores, the best that is published."""
    file = resources.files("marco_data.languages").joinpath("fineweb2_limits.csv")
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return {row["language"]: float(row["language_score"]) for row in rows}
