"""What a user of the service has and the project does not: a step in a file of the user's own, and a secret."""

PLANTED = "planted-secret-0451"
STEP = """
from typing import ClassVar

from marco_data.step import Step, StepOutput


class Marks(Step):
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)

    def bind(self, language, tools):
        return lambda batch: StepOutput()
"""
