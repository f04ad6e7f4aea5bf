"""What must survive a translation letter for letter is taken out of the text, and put back afterwards.

In: a text. Out: the text with a placeholder `⟦1⟧`, `⟦2⟧`, ... for each protected piece, and the pieces. Protected are
LaTeX (maths, environments, commands), code, markup tags, URLs, e-mail addresses, template fields (`{name}`, `%s`),
numbers with a unit of science (`9.8 m/s^2`) and bare formulas (`F=ma`, `10^8K`). Plain numbers, per cent and money
stay in the text: a language writes them in its own digits and separators, so they are compared by value
(`answers.py`). Knows no language and no prompt.
"""

import re
from dataclasses import dataclass

OPEN, CLOSE = "⟦", "⟧"  # not in any of our languages' writing; a text that has them gets its own ones protected
_PLACEHOLDER = re.compile(rf"{OPEN}\s*(\d{{1,6}})\s*{CLOSE}")  # \d: a model may write the number in its own digits

_LONGEST = 10_000  # characters of a fenced block or an environment: bounds the search for an end that is not there

_ENVIRONMENTS = (
    "equation|align|aligned|alignat|gather|gathered|multline|eqnarray|flalign|split|math|displaymath|array|cases|"
    "[pbvBV]?matrix|smallmatrix|verbatim|lstlisting|minted|tabular|tikzpicture|picture"
)
"""Environments whose content is no prose. Of all others only the `\\begin` and `\\end` are protected."""

_WITH_ARGUMENT = (
    "begin|end|label|ref|eqref|pageref|autoref|cite[a-z]*|includegraphics|usepackage|documentclass|input|include|"
    "bibitem|url|href|bibliography|bibliographystyle|vspace|hspace|setlength"
)

_PREFIX = "(?:da|[pnµμmcdhkMGT])?"
_UNIT = (
    rf"(?:{_PREFIX}(?:mol|cd|Hz|Pa|Wh|lm|lx|Bq|Gy|Sv|kat|eV|bar|cal|rad|sr|[mgsAKNJWCVFTHΩLl])|°[CFK]|min|h|atm|dB|u|ha)"
    r"(?:\^\{?[-−+]?\d+\}?|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+|[23](?![\w.]))?"
)
_NUMBER = r"(?<![\w.,])[-−+±]?\d+(?:[.,]\d+)*(?:\s?[×x·*]\s?10\^?\{?[-−⁻]?[\d⁰¹²³⁴⁵⁶⁷⁸⁹]+\}?)?"

_PIECES: tuple[str, ...] = (
    rf"{OPEN}[^{OPEN}{CLOSE}\n]{{0,40}}{CLOSE}|[{OPEN}{CLOSE}]",
    # Code. A closing back-tick follows a sign: of LaTeX's quotes (`old' basis and `sum') none is a span.
    rf"```[\s\S]{{0,{_LONGEST}}}?```|~~~[\s\S]{{0,{_LONGEST}}}?~~~",
    r"``(?=\S)[^`\n]+(?<=\S)``(?!`)|`(?=\S)[^`\n]*[^`\s(]`(?![`\w])",
    # LaTeX.
    rf"\\begin\{{(?P<environment>(?:{_ENVIRONMENTS})\*?)\}}[\s\S]{{0,{_LONGEST}}}?\\end\{{(?P=environment)\}}",
    r"\$\$(?:[^$\\]|\\[\s\S])+\$\$",
    rf"\\\[(?:(?!\\\[)[\s\S]){{0,{_LONGEST}}}?\\\]|\\\((?:(?!\\\()[\s\S]){{0,{_LONGEST}}}?\\\)",
    # Between single dollars: the signs touch what they enclose and no digit follows, else it is money. Two words in
    # a row after a first digit are money too: `$5 and that is all he has ... 6$`.
    r"\$(?!\s|\d[^$\\]*[A-Za-z]{3,} [A-Za-z]{2,})(?:[^$\\\n]|\\[\s\S]|\n(?!\s*\n))+(?<!\s)\$(?!\d)",
    rf"\\(?:{_WITH_ARGUMENT})\*?(?:\[[^\]\n]*\])*(?:\{{[^{{}}\n]*\}})+",
    r"\\[\"'`^~=.](?:\{\\?[A-Za-z]\}|[A-Za-z])|\\[A-Za-z]+\*?(?:\[[^\]\n]*\])?|\\[^\sA-Za-z]",
    # Addresses, markup, template fields.
    r"(?:https?|ftp)://[^\s<>\"'“”‘’«»()\[\]{}⟦⟧]+(?:\([^\s()]*\))?(?<![.,;:!?。，、])|\bwww\.[\w.-]+\w(?:/[\w./%?=&#~-]*\w)?",
    r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b",
    r"</?[A-Za-z][^<>\n]{0,200}>|<!--[^<>]{0,500}-->|<<[^<>\n]{1,200}>>",
    r"\{\{[^{}\n]{1,80}\}\}|(?<![A-Za-z\]}])\{[A-Za-z_][\w.:]{0,60}\}",
    r"(?<![\d%])%(?:\(\w+\)|\d\$)?[-+0#]?\d*(?:\.\d+)?[sdifgexX](?![A-Za-z])",
    # Science in plain text.
    rf"{_NUMBER}\s?{_UNIT}(?:\s?[/·*⋅]\s?\(?{_UNIT}\)?)*(?![\w^])",
    # A run without blanks that has a sign of mathematics and no long word, which would be prose.
    r"(?<!\S)(?=[^\s⟦⟧]*[=^_→≈≤≥∝])(?![^\s\\]*[A-Za-z]{4})[^\s⟦⟧$`<>]*[\w)\]}|!°′″](?=[.,;:?!]*(?:\s|$))",
)
_PIECE = re.compile("|".join(f"(?:{piece})" for piece in _PIECES))


@dataclass(frozen=True)
class Masked:
    """A text with placeholders, and what stands behind each of them, in the order of the text."""

    text: str
    pieces: tuple[str, ...]


def mask(text: str, first: int = 1) -> Masked:
    """The text with its protected pieces replaced, numbered from `first` for one of several parts."""
    pieces: list[str] = []

    def replace(found: re.Match[str]) -> str:
        pieces.append(found.group())
        return f"{OPEN}{first + len(pieces) - 1}{CLOSE}"

    return Masked(_PIECE.sub(replace, text), tuple(pieces))


def unmask(text: str, pieces: tuple[str, ...], first: int = 1) -> str | None:
    """The text with its pieces put back, in whatever order it uses them, or None.

    None says that a placeholder is lost, stands there twice, or was never given out: each piece comes back once.
    """
    given = [int(found.group(1)) for found in _PLACEHOLDER.finditer(text)]
    if sorted(given) != list(range(first, first + len(pieces))):
        return None
    rest = _PLACEHOLDER.sub("", text)
    if OPEN in rest or CLOSE in rest:
        return None
    return _PLACEHOLDER.sub(lambda found: pieces[int(found.group(1)) - first], text)


def prose(text: str) -> str:
    """A masked text without its placeholders: what a judge of language and wording should look at."""
    return _PLACEHOLDER.sub("", text)
