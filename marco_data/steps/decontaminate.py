"""Decontaminate: the column `leaks` in, a verdict on documents that hold an item of a benchmark out. Reads no text.

An item is leaked where a document has it whole, a large share of it and enough words, or a long stretch of it. Where
most of the numbers that it holds are others, it is another problem of the same form, and none of this counts.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from marco_data.languages import Language
from marco_data.step import BoundStep, Step, StepOutput, Tools

WHOLE = "decontaminate/whole_item"
PART = "decontaminate/part_of_item"
STRETCH = "decontaminate/long_stretch"

Hits = Iterable[Mapping[str, Any]]


class Decontaminate(Step):
    """`share` of an item and `words` of it make a leak, or `stretch` words of it in a row."""

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("leaks",)
    reasons: ClassVar[frozenset[str]] = frozenset({WHOLE, PART, STRETCH})

    share: float = Field(0.4, gt=0, le=1)
    words: float = Field(10, ge=1, allow_inf_nan=False)
    stretch: float = Field(50, ge=1, allow_inf_nan=False)

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def judge(batch: pa.RecordBatch) -> StepOutput:
            verdicts = [self.verdict(hits) if hits else (None, None) for hits in batch.column("leaks").to_pylist()]
            return StepOutput(
                reason=pa.array([reason for reason, _ in verdicts], pa.string()),
                measured=pa.array([measured for _, measured in verdicts], pa.float64()),
            )

        return judge

    def verdict(self, hits: Hits) -> tuple[str | None, float | None]:
        """(reason, the share of the item that is leaked most), or (None, None)."""
        leaked = [(hit["share"], reason) for hit in hits if (reason := self.reason(hit)) is not None]
        if not leaked:
            return None, None
        share, reason = max(leaked)
        return reason, share

    def reason(self, hit: Mapping[str, Any]) -> str | None:
        """What makes one hit a leak; None where it is none."""
        if hit["whole"] and not hit["other_numbers"]:
            return WHOLE
        if hit["other_numbers"] and hit["other_numbers"] >= hit["same_numbers"]:
            return None
        if hit["share"] >= self.share and hit["words"] >= self.words:
            return PART
        return STRETCH if hit["longest"] >= self.stretch else None
