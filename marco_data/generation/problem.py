"""What an English STEM text is made of: the text in, its problem, solution and final answer out, or one explanation.

Known endings: `#### 18`, a line `Answer: 18` (or `Final answer:`), `The answer is 18.`, and `\\boxed{18}`, the last of
each. A problem ends where a line `Solution:` begins, else with the first line that ends in a question mark, else with
the first line. Without an answer that can be compared later it is an explanation. Knows nothing of other languages.
"""

from dataclasses import dataclass

import regex

from marco_data.generation.answers import comparable

_CALCULATOR = regex.compile(r"<<[^<>\n]{1,200}>>")  # GSM8K's annotations, no part of its prose
_LINE = regex.compile(
    r"^[ \t]*(?:####|\**(?:final )?answer\**[ \t]*[:=]\**)[ \t]*(?P<answer>\S[^\n]*)$", regex.M | regex.I
)
_SAID = regex.compile(r"\bthe (?:final |correct )?answer is:?\s+(?P<answer>[^\n]{1,80}?)\.?\s*$", regex.I)
_BOXED = regex.compile(r"\\boxed\s*\{(?P<answer>(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_SOLUTION = regex.compile(
    r"^[ \t]*\**(?:solution|explanation)\**[ \t]*[:.]?\**[ \t]*(?:\n|(?<=[:.]\**[ \t]*))",
    regex.M | regex.I,
)
_PROBLEM = regex.compile(r"^\s*\**(?:problem|question|exercise|q)(?: ?\d+)?\**[ \t]*[:.]\**\s*", regex.I)
_LONGEST_ANSWER = 200  # characters; what is longer is a text that begins with "Answer:"


@dataclass(frozen=True)
class Problem:
    """A problem with its key, and how it is solved, which may be empty."""

    problem: str
    solution: str
    answer: str


@dataclass(frozen=True)
class Explanation:
    """A text that asks for nothing, in paragraphs."""

    text: str


def find(text: str) -> Problem | Explanation | None:
    """What the text is; None for one without a word."""
    text = _CALCULATOR.sub("", text.replace("\r\n", "\n")).strip()
    if not regex.search(r"\p{L}{2}", text):
        return None
    answer, body = _answer(text)
    if answer is None or len(answer) > _LONGEST_ANSWER or not comparable(answer):
        return Explanation(text)
    problem, solution = _split(body)
    if not regex.search(r"\p{L}{2}", problem):
        return Explanation(text)
    return Problem(problem, solution, answer)


def _answer(text: str) -> tuple[str | None, str]:
    """The final answer, and the text without the line that states nothing else."""
    lines = list(_LINE.finditer(text))
    if lines:
        last = lines[-1]
        return _clean(last["answer"]), (text[: last.start()] + text[last.end() :]).strip()
    boxed = list(_BOXED.finditer(text))
    if boxed:
        return _clean(boxed[-1]["answer"]), text
    said = _SAID.search(text)
    return (_clean(said["answer"]), text) if said else (None, text)


def _clean(answer: str) -> str:
    boxed = _BOXED.search(answer)
    return (boxed["answer"] if boxed else answer).strip(" \t*")


def _split(body: str) -> tuple[str, str]:
    found = _SOLUTION.search(body)
    if found and body[: found.start()].strip():
        problem, solution = body[: found.start()], body[found.end() :]
    else:
        asked = regex.search(r"\?[\"”')\]]*[ \t]*(?:\n|$)", body)
        end = asked.end() if asked else (body.find("\n") + 1 or len(body))
        problem, solution = body[:end], body[end:]
    return _PROBLEM.sub("", problem).strip(), solution.strip()
