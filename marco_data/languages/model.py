"""A fastText language model behind two questions: which labels it has, and which one a text gets.

In: a `.bin` or `.ftz` file, ours or anyone's. Out: labels, in our codes where they are ours. Our own models (those
with the facts file that training writes beside them, `language_id.json` for `language_id.ftz`) read text through
`prepare`; a foreign one reads it as it is, on one line. Knows nothing of batches and verdicts.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fasttext

from marco_data.errors import RecipeError
from marco_data.languages import from_label
from marco_data.languages.prepare import VERSION, prepare
from marco_data.step import Tools

EMBEDDED = Path(__file__).with_name("language_id.ftz")

NO_LANGUAGE = "und"
"""The answer for text without a single word; a model's own label is never replaced by it."""

# A language is plain within a page or two, and fastText reads about 2 MB/s: past this a long document only costs
# time. Characters, cut before anything else, so that the answer depends on nothing but the first 20,000.
READ_CHARACTERS = 20_000


@dataclass(frozen=True)
class LanguageModel:
    """One loaded model. `predict` is a pure function of the text."""

    fasttext: Any
    ours: bool  # trained here: sees text through `prepare`
    sha256: str

    def labels(self) -> list[str]:
        """The model's own labels, without fastText's prefix."""
        return sorted(label.removeprefix("__label__") for label in self.fasttext.get_labels())

    def predict(self, text: str) -> tuple[str, float]:
        """The likeliest language and its probability, rounded to 1e-4; ("und", 0.0) for text without a word."""
        text = text[:READ_CHARACTERS]
        line = prepare(text) if self.ours else " ".join(text.split("\n")).strip()
        # The binding below `fasttext.predict`, whose list and array per call cost more than short texts do.
        found = self.fasttext.f.predict(line + "\n", 1, 0.0, "strict") if line else []
        if not found:
            return NO_LANGUAGE, 0.0
        score, label = found[0]
        return from_label(label), round(min(float(score), 1.0), 4)


def model_file(model: str, tools: Tools) -> Path:
    """The local file of `embedded` or of a path or URI. RecipeError where there is none."""
    if model == "embedded":
        return EMBEDDED
    try:
        path = tools.path(model)
    except FileNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise RecipeError(
            f"no language model at `{model}`", hint="give `embedded`, or a path or URI of a fastText .bin or .ftz"
        )
    return path


def model_facts(model: str, tools: Tools) -> dict[str, Any] | None:
    """What training wrote beside a model of ours; None for a foreign one."""
    if model == "embedded":
        path = EMBEDDED.with_suffix(".json")
    else:
        try:
            path = tools.path(model.rpartition(".")[0] + ".json")
        except FileNotFoundError:
            return None
    if not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts if "normaliser" in facts else None


@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_sha256(path: Path) -> str:
    """The SHA-256 of a model's bytes, read once while the file stays as it is."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def is_ours(model: str, tools: Tools) -> bool:
    """Whether `model` was trained here. RecipeError where its facts are another model's or another normaliser's."""
    facts = model_facts(model, tools)
    if facts is None:
        return False
    if facts["sha256"] != model_sha256(model_file(model, tools)):
        raise RecipeError(
            f"the facts beside the language model `{model}` are those of another model",
            hint="copy the .ftz and the .json of one training run together",
        )
    if facts["normaliser"] != VERSION:
        raise RecipeError(
            f"the language model `{model}` was trained with normaliser {facts['normaliser']}, this is {VERSION}",
            hint="train it again with `marco-data languages train`",
        )
    return True


def load_model(model: str, tools: Tools) -> LanguageModel:
    """The model that `embedded`, a path or a URI names; loaded once per process."""
    path = model_file(model, tools)
    return _load(path, is_ours(model, tools), model_sha256(path))


@lru_cache(maxsize=4)
def _load(path: Path, ours: bool, sha256: str) -> LanguageModel:
    try:
        return LanguageModel(fasttext.load_model(str(path)), ours, sha256)
    except ValueError as error:
        raise RecipeError(f"`{path}` is not a fastText model: {error}", hint="a .bin or .ftz file") from None
