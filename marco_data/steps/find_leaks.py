"""Find leaks: `text` in; the items of benchmarks that it holds, wholly or in part, out.

It judges nothing: the column `leaks` lists every item of which a document has at least the share `floor`, or `stretch`
words in a row, with how much of it there is and where; `decontaminate` says which of that is too much. The same step
serves read and generated text. The index is made by `marco-data index-benchmarks`, and its digest is the identity.
"""

from functools import cache
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from marco_data.benchmark_index import Index, IndexMissing, load, read_header
from marco_data.languages import Language
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools
from marco_data.words import texts_of

HIT = pa.struct(
    [
        ("benchmark", pa.string()),
        ("item", pa.string()),
        ("language", pa.string()),
        ("field", pa.string()),
        ("share", pa.float64()),  # of the item's words that are evidence
        ("words", pa.float64()),  # that many of them; of characters, what weighs as much
        ("longest", pa.float64()),  # the longest stretch of them
        ("whole", pa.bool_()),
        ("same_numbers", pa.int32()),
        ("other_numbers", pa.int32()),  # in the place of the item's
        ("start", pa.int32()),  # characters of the text
        ("end", pa.int32()),
    ]
)


class FindLeaks(Step):
    """`index` is the path or URI of an index of benchmarks; `declared` the list that the recipe makes it from."""

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema([("leaks", pa.list_(HIT))])
    packages: ClassVar[tuple[str, ...]] = (UNICODE, "regex")

    index: str
    declared: str
    floor: float = Field(0.2, gt=0, le=1)
    stretch: float = Field(30, ge=1)

    def content(self, tools: Tools) -> dict[str, str]:
        header, _ = read_header(tools.path(self.index))
        if header["declared"] != self.declared:
            raise IndexMissing(
                f"the index `{self.index}` was made from another list of benchmarks",
                hint="`marco-data index-benchmarks` with this recipe makes it anew",
            )
        return {"index": header["digest"]}

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        path = tools.path(self.index)
        index = _loaded(path, read_header(path)[0]["digest"])

        def find(batch: pa.RecordBatch) -> StepOutput:
            found: list[list[dict[str, object]]] = [[] for _ in range(batch.num_rows)]
            for document, hit in index.find(texts_of(batch.column("text")), self.floor, self.stretch):
                found[document].append(hit._asdict())
            return StepOutput(columns={"leaks": pa.array(found, pa.list_(HIT))})

        return find


@cache
def _loaded(path: Path, digest: str) -> Index:
    """The index of this digest; the file at its path may be made anew."""
    return load(path)
