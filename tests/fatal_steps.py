"""Steps as a user might write them, which end, refuse or disturb the process they run in: faults on purpose."""

import os
import re
import signal
import time
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from marco_data.errors import RecipeError
from marco_data.languages import Language
from marco_data.step import BoundStep, Step, StepOutput, Tools


class _Reads(Step):
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)


class DiesOn(_Reads):
    """A document with `word` in it kills the process: by a segmentation fault, by `exit`, or by a regular expression
    that would end in some ten thousand years and lets no other thread of the process run meanwhile."""

    word: str
    by: str = "fault"

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def look(batch: pa.RecordBatch) -> StepOutput:
            if any(self.word in text for text in batch["text"].to_pylist()):
                if self.by == "fault":
                    os.kill(os.getpid(), signal.SIGSEGV)
                elif self.by == "exit":
                    os._exit(7)
                re.match("(a+)+$", "a" * 60 + "b")
            return StepOutput()

        return look


class RaisesOn(_Reads):
    """A document with `word` in it makes the step raise."""

    word: str

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def look(batch: pa.RecordBatch) -> StepOutput:
            if any(self.word in text for text in batch["text"].to_pylist()):
                raise ZeroDivisionError(self.word)
            return StepOutput()

        return look


class Refuses(_Reads):
    """Cannot work on the machine of the worker."""

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        raise RecipeError("this machine has no dictionary", hint="install one")


class AppendsTo(_Reads):
    """Appends a line to a file, once: what a source that is still being written to looks like to its reader."""

    path: str
    line: str

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        file = Path(self.path)
        if not file.read_text("utf-8").endswith(self.line):
            with file.open("a", encoding="utf-8") as more:
                more.write(self.line)
        return lambda batch: StepOutput()


class Sleeps(_Reads):
    """Takes its time over each document that has `word`, so that there is a moment to be killed in."""

    seconds: float
    word: str = ""

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        def look(batch: pa.RecordBatch) -> StepOutput:
            time.sleep(self.seconds * sum(self.word in text for text in batch["text"].to_pylist()))
            return StepOutput()

        return look
