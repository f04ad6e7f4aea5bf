"""HTML bytes to the page's main text: the one file that knows trafilatura.

In: a body and the charset its HTTP header names. Out: text, maybe empty. Deterministic for given versions of
PACKAGES: no network, no clock, no cache between pages. Bounded by size and number of tags, not by time,
because a time limit would make the result depend on the machine (what never ends: `marco_data.child`).
"""

import codecs
import logging
import re

import charset_normalizer

PACKAGES = ("charset-normalizer", "justext", "lxml", "trafilatura")

# 100,000 tags take trafilatura 2 to 8 s, and more than twice that when doubled; real pages have up to 9,000.
MAX_TAGS = 200_000

_META = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
_META_BYTES = 4096
_GUESSED_BYTES = 1 << 16
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Browsers read these labels as their supersets, and pages are written for browsers.
_SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}

_JOINERS = "\u200b\u200c\u200d"
_JOINER_ENTITIES = {
    **{f"&#{ord(c)};": c for c in _JOINERS},
    **{f"&#x{ord(c):x};": c for c in _JOINERS},
    "&zerowidthspace;": "\u200b",
    "&zwnj;": "\u200c",
    "&zwj;": "\u200d",
}
_JOINER_ENTITY = re.compile("|".join(_JOINER_ENTITIES), re.IGNORECASE)
_LINEAR_B = range(0x10080, 0x100FB)


def extract(body: bytes, charset: str | None) -> str:
    """The main text of a page, "" where there is none. Raises whatever the parser raises on hopeless
    input."""
    if body.count(b"<") > MAX_TAGS:
        raise ValueError(f"more than {MAX_TAGS} tags")
    import trafilatura  # takes 0.2 s, and few sources are pages

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs an error for each page without text
    page, joiners = _shield_joiners(decode(body, charset))
    text = trafilatura.extract(
        page,
        favor_precision=True,
        include_comments=False,
        with_metadata=False,
        deduplicate=False,
    )
    return (text or "").translate(joiners)


def _shield_joiners(page: str) -> tuple[str, dict[int, str]]:
    """The page with invisible letters of its spelling replaced, and how to bring them back.

    trafilatura removes what Python calls unprintable, and so the joiners that Persian and the scripts of India
    spell with, and the zero width spaces between Khmer words. Linear B signs that the page lacks stand in.
    """
    page = _JOINER_ENTITY.sub(lambda found: _JOINER_ENTITIES[found[0].lower()], page)
    present = [joiner for joiner in _JOINERS if joiner in page]
    if not present:
        return page, {}
    free = (chr(sign) for sign in _LINEAR_B if chr(sign) not in page)
    stand_ins = dict(zip(present, free, strict=False))
    back = {ord(sign): joiner for joiner, sign in stand_ins.items()}
    return page.translate({ord(joiner): sign for joiner, sign in stand_ins.items()}), back


def looks_like_html(body: bytes) -> bool:
    """Whether a body without a media type begins like a page."""
    start = body[:1024].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html")) or b"<html" in start


def decode(body: bytes, charset: str | None) -> str:
    """The characters of a page: byte order mark, valid UTF-8, HTTP header, `<meta>`, statistics,
    Windows-1252."""
    for mark, name in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    named = [codec for label in (charset, _meta_charset(body)) if (codec := _codec(label))]
    stateful = [codec for codec in named if codec.startswith(("iso2022", "hz"))]  # valid ASCII, thus UTF-8
    for codec in (*stateful, "utf-8", *named):
        try:
            return body.decode(codec)
        except UnicodeDecodeError:
            pass
    if named:  # a few bad bytes do not make the label wrong
        return body.decode(named[0], "replace")
    guess = charset_normalizer.from_bytes(body[:_GUESSED_BYTES]).best()
    return body.decode(guess.encoding if guess else "cp1252", "replace")


def _meta_charset(body: bytes) -> str | None:
    found = _META.search(body, 0, _META_BYTES)
    return found.group(1).decode() if found else None


def _codec(label: str | None) -> str | None:
    """Python's name for a charset label, None for an unknown one or one that is not of text."""
    if not label:
        return None
    try:
        info = codecs.lookup(label.strip().strip("\"'"))
    except (LookupError, ValueError):
        return None
    return _SUPERSETS.get(info.name, info.name) if info._is_text_encoding else None
