"""Articles to plant edits in: pieces of real documents as lists of tokens, a list for each language of a script class.

A token is what an edit changes as a whole: a word with the white space behind it, found by ICU in unspaced scripts.
"""

import random
from collections.abc import Iterable

from marco_data.languages import LANGUAGES, Language
from marco_data.words import split_words

CLASSES: dict[str, tuple[str, ...]] = {
    "Latin": ("eng_Latn", "deu_Latn", "vie_Latn", "tur_Latn", "swh_Latn", "fin_Latn"),
    "Cyrillic": ("rus_Cyrl", "ukr_Cyrl", "bul_Cyrl", "kaz_Cyrl"),
    "Arabic": ("arb_Arab", "fas_Arab", "urd_Arab"),
    "Devanagari": ("hin_Deva", "mar_Deva", "npi_Deva"),
    "other spaced": ("ell_Grek", "heb_Hebr", "amh_Ethi", "ben_Beng", "tam_Taml", "kor_Hang"),
    "Chinese": ("zho_Hans",),
    "Japanese": ("jpn_Jpan",),
    "Thai": ("tha_Thai",),
    "Lao": ("lao_Laoo",),
    "Khmer": ("khm_Khmr",),
    "Burmese": ("mya_Mymr",),
}

SHORTEST, LONGEST = 20, 600
"""Tokens of an article."""

Tokens = list[str]


def tokens_of(text: str, language: Language) -> Tokens:
    """`"".join` of them is the text with one space for each run of white space."""
    if language.shingle_unit == "word":
        return [f"{word} " for word in text.split()]
    out: Tokens = []
    for part in text.replace("\u200b", "").split():
        words = split_words(part, language)
        out += [*words[:-1], f"{words[-1]} "] if words else []
    return out


def articles(texts: Iterable[str], code: str, chance: random.Random) -> list[Tokens]:
    """The texts of a language cut into pieces of many lengths, no two of them alike, in random order."""
    pieces: dict[str, Tokens] = {}
    for text in texts:
        tokens = tokens_of(text, LANGUAGES[code])
        while len(tokens) >= SHORTEST:
            length = min(len(tokens), round(SHORTEST * (LONGEST / SHORTEST) ** chance.random()))
            pieces["".join(tokens[:length])] = tokens[:length]
            tokens = tokens[length:]
    found = list(pieces.values())
    chance.shuffle(found)
    return found
