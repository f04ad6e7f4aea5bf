"""Text that others wrote, made harmless and honest to look at.

In: any text. Out: HTML in which nothing of it is markup, and in which characters that move or hide others (controls,
direction overrides, zero widths) are shown by their numbers. Joiners stay: Persian and the scripts of India need them.
"""

import re

from markupsafe import Markup, escape

HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def shown(text: object) -> Markup:
    """`text` as inert HTML."""
    out, start, whole = Markup(""), 0, str(text).replace("\r\n", "\n").replace("\r", "\n")
    for match in HIDDEN.finditer(whole):
        name = f"U+{ord(match[0]):04X}"
        out += escape(whole[start : match.start()])
        out += Markup('<span class="hidden-character" dir="ltr">{}</span>').format(name)
        start = match.end()
    return out + escape(whole[start:])
