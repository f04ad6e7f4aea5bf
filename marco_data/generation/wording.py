"""What a prompt says, and what a document made of an answer is labelled with, in each language itself.

In: `wording.csv`, a row a language, written for this project. Out: `wording(code)`. The instruction tells the model, in
the wanted language, to answer in it: an English sentence alone leaves part of the answers in English. Knows nothing of
prompts.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from marco_data.languages import LANGUAGES, canonical


@dataclass(frozen=True)
class Wording:
    """Words of one language. `colon` is what stands between a label and its text, spaces included."""

    code: str
    autonym: str  # the language's own name for itself
    instruction: str  # "Write your whole answer in X."
    question: str
    answer: str
    options: str
    explanation: str
    problem: str
    solution: str
    colon: str

    @property
    def language_name(self) -> str:
        """The English name, as the English part of a prompt uses it."""
        return LANGUAGES[self.code].name

    def labelled(self, label: str, text: str) -> str:
        """`Question: text`, with the colon as the language writes it."""
        return f"{label}{self.colon}{text}"


@cache
def _all() -> dict[str, Wording]:
    text = resources.files(__package__).joinpath("wording.csv").read_text(encoding="utf-8")
    return {row["code"]: Wording(**row) for row in csv.DictReader(text.splitlines())}


def wording(code: str) -> Wording:
    """The words of a language by any of its codes; RecipeError for one that is not ours."""
    return _all()[canonical(code).code]
