"""fastText with the model that ours reads, ours or another: its C++ alone, and all that a prediction takes."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmarks.contest import Thunk
from benchmarks.corpus import Round
from marco_data.languages.model import READ_CHARACTERS, LanguageModel, load_model
from marco_data.languages.prepare import prepare
from marco_data.step import Tools


@cache
def _model(path: Path | None) -> LanguageModel:
    return load_model(str(path) if path else "embedded", Tools())


def predict(path: Path | None = None) -> Callable[[Round], Thunk]:
    """As a program would: the text cut and prepared in Python, then fastText."""

    def work(texts: Round) -> Thunk:
        model, plain = _model(path), [text.text for text in texts]
        return lambda: [model.reference(text) for text in plain]

    return work


def predict_prepared(path: Path | None = None) -> Callable[[Round], Thunk]:
    """fastText alone: cutting and preparing were done before the clock started."""

    def work(texts: Round) -> Thunk:
        model = _model(path)
        cut = [text.text[:READ_CHARACTERS] for text in texts]
        lines = [(prepare(text) if model.ours else " ".join(text.split("\n"))) + "\n" for text in cut]
        binding = model.fasttext.f
        return lambda: [binding.predict(line, 1, 0.0, "strict") for line in lines]

    return work
