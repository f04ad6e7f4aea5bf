"""Datatrove filter: any filter of datatrove as a step; `text`, `id`, `url` in, its verdicts (and the text) out.

A verdict `(False, "short_line_ratio")` of `FineWebQualityFilter` becomes the reason
`datatrove/FineWebQualityFilter/short_line_ratio`; datatrove does not say what it measured. A filter that takes a
`language` and is given none gets our words (`marco_data.words`) for the language of the document, so that none of
datatrove's tokenisers need be installed. datatrove itself is not a dependency: `pip install datatrove`.
"""

import importlib
import inspect
from typing import Any, ClassVar, Self

import pyarrow as pa
from icu4py.breakers import SentenceBreaker
from pydantic import Field, model_validator

from marco_data.errors import RecipeError
from marco_data.languages import Language
from marco_data.step import BoundStep, Step, StepOutput, Tools
from marco_data.words import split_words


class DatatroveFilter(Step):
    """`filter` is a filter class of datatrove, by its name or in full; `arguments` is what it is constructed with.

    A filter that edits what it keeps (`C4QualityFilter` takes lines out) edits here too. Filters see one document
    at a time, so one that judges a document by its batch, or draws at random (`SamplerFilter`), does not keep the
    contract of a step.
    """

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("id", "text", "url")
    reason_prefix: ClassVar[str] = "datatrove/"
    packages: ClassVar[tuple[str, ...]] = ("datatrove", "icu4py")

    filter: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        parameters = inspect.signature(_filter_class(self.filter)).parameters
        unknown = [name for name in self.arguments if name not in parameters]
        if unknown:
            raise RecipeError(
                f"`{self.filter}` takes no argument {', '.join(f'`{name}`' for name in unknown)}",
                hint=f"its arguments: {', '.join(parameters)}",
            )
        needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        missing = [name for name in needed if name not in self.arguments and name != "language"]
        if missing:
            raise RecipeError(f"`{self.filter}` needs the argument {', '.join(f'`{name}`' for name in missing)}")
        return self

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        from datatrove.data import Document

        kind = _filter_class(self.filter)
        arguments = dict(self.arguments)
        if "language" in inspect.signature(kind).parameters:
            arguments.setdefault("language", _our_words(language))
        try:
            judge = kind(**arguments).filter
        except (TypeError, ValueError, ImportError) as error:
            raise RecipeError(f"cannot construct `{self.filter}`: {error}") from None
        code = None if language is None else language.code

        def judge_one(text: str, id_: str, url: str | None) -> tuple[str, str | None]:
            document = Document(text=text, id=id_, metadata={"url": url, "language": code})
            reason = _reason(kind.__name__, judge(document))
            return document.text, reason

        def judge_batch(batch: pa.RecordBatch) -> StepOutput:
            rows = zip(*(batch.column(name).to_pylist() for name in ("text", "id", "url")), strict=True)
            judged = [judge_one(*row) for row in rows]
            return StepOutput(
                columns={"text": pa.array([text for text, _ in judged], batch.schema.field("text").type)},
                reason=pa.array([reason for _, reason in judged], pa.string()),
            )

        return judge_batch


def _reason(filter_name: str, verdict: bool | tuple[bool, str]) -> str | None:
    keep, why = verdict if isinstance(verdict, tuple) else (verdict, None)
    if keep:
        return None
    return f"datatrove/{filter_name}" if why is None else f"datatrove/{filter_name}/{why}"


def _filter_class(path: str) -> type:
    module, dot, name = path.rpartition(".")
    module = module if dot else "datatrove.pipeline.filters"
    try:
        from datatrove.pipeline.filters.base_filter import BaseFilter

        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError) as error:
        raise RecipeError(f"cannot import `{path}`: {error}", hint="`pip install datatrove`, and its extras") from None
    if not (inspect.isclass(found) and issubclass(found, BaseFilter)):
        raise RecipeError(
            f"`{path}` is not a datatrove filter",
            hint="write it as GopherQualityFilter, or in full as datatrove.pipeline.filters.GopherQualityFilter",
        )
    return found


def _our_words(language: Language | None) -> Any:  # a datatrove WordTokenizer
    from datatrove.utils.word_tokenizers import WordTokenizer

    class UnicodeWords(WordTokenizer):  # type: ignore[misc]
        def word_tokenize(self, text: str) -> list[str]:
            return split_words(text, language)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text[start:end].strip() for start, end in self.span_tokenize(text)]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            spans = []
            end = 0
            for sentence in SentenceBreaker(text, "en" if language is None else language.iso639_1):
                start, end = end, end + len(sentence)
                if sentence.strip():
                    spans.append((start, end))
            return spans

    return UnicodeWords(None if language is None else language.code)
