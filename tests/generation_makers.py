"""Two small makers over the prose of the sample, and a function that answers them as a model would: for whole builds.

A request's text is `code|first letters of the seed`; what is answered is the sample's fourth document of that language,
so that it is text nobody else has, or what ANSWERS says.
"""

import os
import time
from pathlib import Path
from typing import Any, ClassVar

from small_corpus import CODES, prose, recipe_values

from marco_data.generation.generator import ERROR, Ask, Completion, Request, Sampling
from marco_data.generation.maker import Made, Maker, Seed
from marco_data.languages import Language

HEAD = 40


class Reprint(Maker):
    """One request a seed; an answer that begins with `Sorry` is rejected. Takes the seed's place."""

    name: ClassVar[str] = "rephrase"
    part: ClassVar[str] = "rephrase"
    replaces: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset({"refusal", "not_recorded"})

    prefix: str = ""

    async def make(self, seed: Seed, language: Language, ordinal: int, ask: Ask, attempt: int) -> Made:
        said = f"{self.prefix}{language.code}|{seed.text[:HEAD]}"
        request = Request((("user", said),), Sampling(), attempt=attempt, sample=ordinal, prompt="reprint@1")
        answer = await ask(request)
        if answer.finish_reason == ERROR:
            return Made(reason=answer.error, prompts=("reprint@1",))
        if answer.text.startswith("Sorry"):
            return Made(reason="refusal", rejected_text=answer.text, prompts=("reprint@1",))
        return Made(text=answer.text, prompts=("reprint@1",), labels={"style": "reprint"})


class Translate(Reprint):
    """The same from English seeds into every other language; leaves its seeds alone."""

    name: ClassVar[str] = "qa"
    part: ClassVar[str] = "multilingual_qa"
    replaces: ClassVar[bool] = False
    translates: ClassVar[bool] = True


def rewriting(corpus: Path) -> dict[str, Any]:
    """The recipe over a corpus in which every document is a seed of `Reprint`; its generator is called `tiny`."""
    values = recipe_values(corpus)
    values["generators"] = {"tiny": {"model": "nobody/tiny", "revision": "1"}}
    values["generate"] = {
        "rephrase": {"maker": "generation_makers:Reprint", "generator": "tiny", "languages": list(CODES)}
    }
    values["mixture"] |= {"rephrase": {"weight": 1}}
    return values


def number_of(code: str, head: str) -> int:
    """Which document of the prose begins so."""
    return next(n for n, text in enumerate(prose(code)) if text[:HEAD] == head)


def model(request: Request) -> str:
    """What a model would say. The file named by ASKED gets a line for each request."""
    if log := os.environ.get("ASKED"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{request.key('', '')}\n")
    code, _, head = request.messages[0][1].rpartition("/")[2].partition("|")
    if code == "deu_Latn" and number_of(code, head) == 0:
        return prose("eng_Latn")[3]  # the wrong language
    if code == "fra_Latn" and number_of(code, head) == 0:
        return prose(code)[0]  # nothing was rewritten
    if code == "rus_Cyrl" and request.attempt == 0:
        return "Sorry, I cannot do that."
    return prose(code)[3]


def slow_model(request: Request) -> str:
    """The same, after a tenth of a second in which nothing else is answered."""
    time.sleep(0.1)
    return model(request)


def silent(request: Request) -> Completion:
    raise AssertionError(f"nobody should have been asked: {request}")
