"""The normaliser of our language-identification model: raw text in, one line of lower-case letters out.

It is part of the model: training and prediction see text only through it, and a model card names the version
it was trained with. It drops what says nothing of a language (case, digits, punctuation, addresses), so that a
headline in capitals, a list of prices and running text look alike.
"""

import unicodedata

import regex

VERSION = 1

_ADDRESS = regex.compile(r"(?:https?://|www\.|@)\S+")
# Zero-width space and joiner, soft hyphen, byte-order mark: typesetting that one web page has and the next has
# not. The zero-width non-joiner (U+200C) is spelling in Persian and becomes a space like any other mark.
_INVISIBLE = regex.compile("[\u200b\u200d\u00ad\ufeff]+")
_NOT_LETTERS = regex.compile(r"[^\p{L}\p{M}]+")


def prepare(text: str) -> str:
    """Letters and their marks, NFC, lower case, every run of anything else as one space; no newline.

    Linear in the text. Greek final sigma is folded to sigma, which leaves a map of single characters: what a
    character becomes does not depend on its neighbours.
    """
    text = _INVISIBLE.sub("", text).lower().replace("ς", "σ")
    # Composed last: lower-casing may decompose (İ), and an invisible mark may have kept two parts asunder.
    text = _ADDRESS.sub(" ", unicodedata.normalize("NFC", text))
    return str(_NOT_LETTERS.sub(" ", text)).strip()
