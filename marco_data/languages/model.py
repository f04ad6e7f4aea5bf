"""A fastText language model behind two questions: which labels it has, and which one each text gets.

In: a `.bin` or `.ftz` file, ours or anyone's. Out: labels, in our codes where they are ours. Our own models (those
with the facts file that training writes beside them, `language_id.json` for `language_id.ftz`) read text through
`prepare`; a foreign one reads it as it is, on one line. `kernels/fasttext.py` predicts; fastText itself does for a file
that `fasttext_file.py` does not read, and is the reference everywhere. Knows nothing of verdicts.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from marco_data.errors import RecipeError
from marco_data.languages import Known, from_label, known
from marco_data.languages.prepare import VERSION, prepare
from marco_data.languages.texts import text_buffers
from marco_data.step import Tools

EMBEDDED = Path(__file__).with_name("language_id.ftz")

NO_LANGUAGE = "und"
"""The answer for text without a single word; a model's own label is never replaced by it."""

# A language is plain within a page or two: past this a long document only costs time. Characters, cut before anything
# else, so that the answer depends on nothing but the first 20,000.
READ_CHARACTERS = 20_000


# Places where a text is read first: 400 to 1,200 bytes, which for most languages is more than enough.
FEW = 5


class Reading(NamedTuple):
    """Languages and probabilities of texts, and of their pieces (`kernels.pieces.Pieces`)."""

    languages: pa.Array
    scores: npt.NDArray[np.float64]
    pieces: Any
    piece_languages: pa.Array
    piece_scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class LanguageModel:
    """One loaded model. Every answer is a pure function of the text."""

    path: Path
    ours: bool  # trained here: sees text through `prepare`
    sha256: str
    file: Any  # a `fasttext_file.ModelFile`, or None: fastText itself predicts
    _cache: Any = field(default=None, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)  # threads share the cache

    @cached_property
    def fasttext(self) -> Any:
        """fastText's own model of the same file: the reference, loaded when somebody asks."""
        import fasttext

        return fasttext.load_model(str(self.path))

    def labels(self) -> list[str]:
        """The model's own labels, without fastText's prefix."""
        labels = self.file.labels if self.file else self.fasttext.get_labels()
        return sorted(label.removeprefix("__label__") for label in labels)

    def predict(self, text: str) -> tuple[str, float]:
        """`predict_all` of one text."""
        languages, scores = self.predict_all(pa.array([text], pa.string()))
        return languages[0].as_py(), float(scores[0])

    def predict_all(self, texts: pa.Array, sampled: bool = True) -> tuple[pa.Array, npt.NDArray[np.float64]]:
        """The likeliest language of each text and its probability, rounded to 1e-4; ("und", 0.0) without a word.

        `sampled`: long texts are read at FEW places where those agree, see `kernels.fasttext.identify`; a file that
        only fastText reads is read whole.
        """
        reading = self.read(texts, FEW if sampled else 0)
        return reading.languages, reading.scores

    def read(self, texts: pa.Array, most: int) -> "Reading":
        """`predict_all`, and the same of at most so many pieces of each text; with none, every text is read whole."""
        from marco_data.kernels.pieces import cut  # numba takes 0.6 s to import: not for a plan
        from marco_data.kernels.unicode_tables import tables

        data, offsets = text_buffers(texts)
        pieces = cut(data, offsets, READ_CHARACTERS, most, tables())
        if self.file is None:
            wholes = [self.reference(text) for text in texts.to_pylist()]
            parts = [self.reference(bytes(data[a:b]).decode()) for a, b in zip(pieces.start, pieces.stop, strict=True)]
            return Reading(*_columns(wholes), pieces, *_columns(parts))
        from marco_data.kernels import fasttext as kernel

        with self._lock:
            labels, scores, of_pieces, sureties = kernel.identify(
                data, offsets, READ_CHARACTERS, pieces, self.ours, self.file.model, tables(), self._cache
            )
        return Reading(
            self._named(labels), np.round(scores, 4), pieces, self._named(of_pieces), np.round(sureties, 4)
        )  # fmt: skip

    def _named(self, labels: npt.NDArray[np.int32]) -> pa.Array:
        """The languages of a kernel's labels."""
        names = _names(tuple(self.file.labels), known())
        return names.take(pa.array(labels % len(names), pa.int32()))

    def reference(self, text: str) -> tuple[str, float]:
        """fastText's own answer, of the whole of what `predict` reads."""
        text = text[:READ_CHARACTERS]
        line = prepare(text) if self.ours else " ".join(text.split("\n")).strip()
        # The binding below `fasttext.predict`, whose list and array per call cost more than short texts do.
        found = self.fasttext.f.predict(line + "\n", 1, 0.0, "strict") if line else []
        if not found:
            return NO_LANGUAGE, 0.0
        score, label = found[0]
        return from_label(label), round(min(float(score), 1.0), 4)


@lru_cache(maxsize=4)
def _names(labels: tuple[str, ...], known: Known) -> pa.Array:
    """The language of each label as they are `known`, and one name more: index -1, no label, reads the last."""
    return pa.array([*map(from_label, labels), NO_LANGUAGE], pa.string())


def _columns(found: list[tuple[str, float]]) -> tuple[pa.Array, npt.NDArray[np.float64]]:
    return pa.array([label for label, _ in found], pa.string()), np.array([score for _, score in found])


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
    return load_file(path, is_ours(model, tools), model_sha256(path))


@lru_cache(maxsize=4)
def load_file(path: Path, ours: bool, sha256: str) -> LanguageModel:
    """The model in a local file of that digest; `load_model` finds out what it is."""
    from marco_data.kernels.fasttext import new_cache  # numba takes 0.6 s to import: not for a plan
    from marco_data.languages.fasttext_file import Unreadable, read

    try:
        file = read(path)
        return LanguageModel(path, ours, sha256, file, new_cache(file.model.dim))
    except Unreadable:
        model = LanguageModel(path, ours, sha256, None)
    try:
        model.labels()
    except ValueError as error:
        raise RecipeError(f"`{path}` is not a fastText model: {error}", hint="a .bin or .ftz file") from None
    return model
