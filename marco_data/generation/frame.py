"""The frame that a model puts around an answer: a text in, the same text without it out.

Fences of code around the whole, quotation marks around the whole, and Markdown's bold and heading marks are taken
off; inside code and formulas nothing is touched. Pure and idempotent. Judges nothing: "Sure, here it is:" is a reason
to reject, not to mend.
"""

import re

_FENCE = re.compile(r"\A\s*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1\s*\Z", re.DOTALL)
_CODE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$)", re.DOTALL | re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(?=\S)([^\n]+?)(?<=\S)\1")
_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』", "'": "'", "‘": "’", "”": "”"}


def strip_frame(text: str) -> str:
    """`text` without what frames all of it, and without Markdown's bold and heading marks."""
    while (bare := _unframed(text)) != text:
        text = bare
    return text


def _unframed(text: str) -> str:
    text = text.strip()
    fenced = _FENCE.match(text)
    if fenced and fenced.group(1) not in fenced.group(2):
        return fenced.group(2).strip()
    parts = _CODE.split(text)
    parts[::2] = [_HEADING.sub(r"\1", _BOLD.sub(r"\2", part)) for part in parts[::2]]
    return _unquoted("".join(parts)).strip()


def _unquoted(text: str) -> str:
    """Without quotation marks that open at the first character and close at the last, and nowhere between."""
    if len(text) < 2 or text[-1] not in _QUOTES.get(text[0], ""):
        return text
    inside = text[1:-1]
    return text if text[0] in inside or text[-1] in inside else inside
